"""Kubernetes' defaulting: what an object says when it says nothing.

Sources: the SetDefaults functions of pkg/apis/{core,apps,discovery}/v1 and the field
descriptions of the API reference. Defaulting twice changes nothing.
"""

from collections.abc import Callable
from typing import Any

from edgekube.api.defaults import (
    admission,
    apiservice,
    autoscaling,
    batch,
    config,
    custom_definition,
    deployment,
    endpoints,
    flowcontrol,
    namespace,
    networking,
    node,
    pod,
    quota,
    rbac,
    replicaset,
    scheduling,
    service,
    storage,
    volumes,
    workloads,
)
from edgekube.api.resource import AnyResource

_BY_KIND: dict[tuple[str, str], Callable[[dict[str, Any]], None]] = {
    ("networking.k8s.io", "IngressClass"): networking.ingress_class,
    ("networking.k8s.io", "NetworkPolicy"): networking.network_policy,
    ("storage.k8s.io", "StorageClass"): storage.storage_class,
    ("storage.k8s.io", "CSIDriver"): storage.csi_driver,
    ("scheduling.k8s.io", "PriorityClass"): scheduling.priority_class,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): admission.validating_webhooks,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): admission.mutating_webhooks,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): admission.validating_policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): admission.validating_policy_binding,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): admission.mutating_policy,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): admission.validating_policy_binding,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): custom_definition.custom_definition,
    ("apiregistration.k8s.io", "APIService"): apiservice.api_service,
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): flowcontrol.flow_schema,
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): flowcontrol.priority_level,
    ("", "Pod"): pod.pod,
    ("", "Service"): service.service,
    ("", "Secret"): config.secret,
    ("", "Namespace"): namespace.namespace,
    ("", "Node"): node.node,
    ("", "Endpoints"): endpoints.endpoints,
    ("", "PersistentVolume"): volumes.persistent_volume,
    ("", "PersistentVolumeClaim"): volumes.persistent_volume_claim,
    ("apps", "Deployment"): deployment.deployment,
    ("apps", "ReplicaSet"): replicaset.replica_set,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("", "ReplicationController"): workloads.replication_controller,
    ("", "PodTemplate"): workloads.pod_template,
    ("", "LimitRange"): quota.limit_range,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaling.horizontal_pod_autoscaler,
    ("batch", "Job"): batch.job,
    ("batch", "CronJob"): batch.cron_job,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.binding,
}


def apply(resource: AnyResource, tree: dict[str, Any]) -> None:
    """Fill the defaults of a normalised object, in place; kinds without defaults stay as they are."""
    if resource.custom is not None:
        resource.custom.fill(tree)
        return
    default = _BY_KIND.get((resource.group, resource.kind))
    if default:
        default(tree)
