"""Kubernetes' rules for objects, in Kubernetes' words (pkg/apis/*/validation, apimachinery).

Trees are normalised and defaulted before they come here. Kinds without rules of their own get
the rules of metadata.
"""

from collections.abc import Callable, Sequence
from typing import Any

from edgekube.api.errors import Cause
from edgekube.api.resource import AnyResource
from edgekube.api.validation import (
    admission_policy,
    api_service,
    autoscaler,
    certificate_request,
    config,
    csi,
    custom_definition,
    daemon_set,
    deployment,
    disruption_budget,
    endpoints,
    events,
    flowcontrol,
    ingress,
    job,
    lease,
    metadata,
    namespace,
    network_policy,
    node,
    persistent_volumes,
    pod,
    pod_resize,
    pod_update,
    priority_class,
    quota,
    rbac,
    replicaset,
    replication_controller,
    runtime_class,
    service,
    service_ranges,
    stateful_set,
    storage,
    webhooks,
)
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_Create = Callable[[Tree, Problems], None]
_Update = Callable[[Tree, Tree, Problems], None]

_CREATE: dict[tuple[str, str], _Create] = {
    ("networking.k8s.io", "Ingress"): ingress.ingress,
    ("networking.k8s.io", "IngressClass"): ingress.ingress_class,
    ("networking.k8s.io", "NetworkPolicy"): network_policy.network_policy,
    ("networking.k8s.io", "ServiceCIDR"): service_ranges.service_cidr,
    ("networking.k8s.io", "IPAddress"): service_ranges.ip_address,
    ("storage.k8s.io", "StorageClass"): storage.storage_class,
    ("storage.k8s.io", "VolumeAttributesClass"): storage.volume_attributes_class,
    ("storage.k8s.io", "VolumeAttachment"): storage.volume_attachment,
    ("storage.k8s.io", "CSIDriver"): csi.csi_driver,
    ("storage.k8s.io", "CSINode"): csi.csi_node,
    ("storage.k8s.io", "CSIStorageCapacity"): csi.csi_storage_capacity,
    ("scheduling.k8s.io", "PriorityClass"): priority_class.priority_class,
    ("node.k8s.io", "RuntimeClass"): runtime_class.runtime_class,
    ("certificates.k8s.io", "CertificateSigningRequest"): certificate_request.certificate_request,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): webhooks.validating,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): webhooks.mutating,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): admission_policy.policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): admission_policy.binding,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): admission_policy.mutating_policy,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): admission_policy.mutating_binding,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): custom_definition.custom_definition,
    ("apiregistration.k8s.io", "APIService"): api_service.api_service,
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): flowcontrol.flow_schema,
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): flowcontrol.priority_level,
    ("", "Pod"): pod.pod,
    ("", "Service"): service.service,
    ("", "ConfigMap"): config.config_map,
    ("", "Secret"): config.secret,
    ("", "Namespace"): namespace.namespace,
    ("", "Node"): node.node,
    ("", "Endpoints"): endpoints.endpoints,
    ("", "Event"): events.event,
    ("", "PersistentVolume"): persistent_volumes.volume,
    ("", "PersistentVolumeClaim"): persistent_volumes.claim,
    ("apps", "Deployment"): deployment.deployment,
    ("apps", "ReplicaSet"): replicaset.replica_set,
    ("apps", "StatefulSet"): stateful_set.stateful_set,
    ("apps", "DaemonSet"): daemon_set.daemon_set,
    ("batch", "Job"): job.job,
    ("batch", "CronJob"): job.cron_job,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler.autoscaler,
    ("policy", "PodDisruptionBudget"): disruption_budget.disruption_budget,
    ("", "ReplicationController"): replication_controller.replication_controller,
    ("", "PodTemplate"): replication_controller.pod_template,
    ("", "ResourceQuota"): quota.resource_quota,
    ("", "LimitRange"): quota.limit_range,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice,
    ("coordination.k8s.io", "Lease"): lease.lease,
    ("rbac.authorization.k8s.io", "Role"): rbac.role,
    ("rbac.authorization.k8s.io", "ClusterRole"): rbac.cluster_role,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.role_binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.cluster_role_binding,
}
_UPDATE: dict[tuple[str, str], _Update] = {
    ("networking.k8s.io", "IngressClass"): ingress.ingress_class_update,
    ("networking.k8s.io", "ServiceCIDR"): service_ranges.service_cidr_update,
    ("networking.k8s.io", "IPAddress"): service_ranges.ip_address_update,
    ("storage.k8s.io", "StorageClass"): storage.storage_class_update,
    ("storage.k8s.io", "VolumeAttributesClass"): storage.volume_attributes_class_update,
    ("storage.k8s.io", "VolumeAttachment"): storage.volume_attachment_update,
    ("storage.k8s.io", "CSIDriver"): csi.csi_driver_update,
    ("storage.k8s.io", "CSINode"): csi.csi_node_update,
    ("storage.k8s.io", "CSIStorageCapacity"): csi.csi_storage_capacity_update,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): custom_definition.update,
    ("scheduling.k8s.io", "PriorityClass"): priority_class.update,
    ("node.k8s.io", "RuntimeClass"): runtime_class.update,
    ("certificates.k8s.io", "CertificateSigningRequest"): certificate_request.update,
    ("", "Pod"): pod_update.pod,
    ("", "Service"): service.update,
    ("", "ConfigMap"): config.config_map_update,
    ("", "Secret"): config.secret_update,
    ("", "Node"): node.update,
    ("", "PersistentVolume"): persistent_volumes.volume_update,
    ("", "PersistentVolumeClaim"): persistent_volumes.claim_update,
    ("apps", "Deployment"): deployment.update,
    ("apps", "ReplicaSet"): replicaset.update,
    ("apps", "StatefulSet"): stateful_set.update,
    ("apps", "DaemonSet"): daemon_set.update,
    ("batch", "Job"): job.update,
    ("", "ResourceQuota"): quota.resource_quota_update,
    ("discovery.k8s.io", "EndpointSlice"): endpoints.endpoint_slice_update,
    ("rbac.authorization.k8s.io", "RoleBinding"): rbac.binding_update,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.binding_update,
}
_UPDATE_OF_SUBRESOURCE: dict[tuple[str, str, str], _Update] = {
    ("networking.k8s.io", "Ingress", "status"): ingress.status,
    ("certificates.k8s.io", "CertificateSigningRequest", "status"): certificate_request.status,
    ("certificates.k8s.io", "CertificateSigningRequest", "approval"): certificate_request.approval,
    ("apiregistration.k8s.io", "APIService", "status"): api_service.status,
    ("", "Service", "status"): service.status,
    ("", "Pod", "ephemeralcontainers"): pod_update.ephemeral_containers,
    ("", "Pod", "resize"): pod_resize.resize,
}


def create(resource: AnyResource, tree: Tree) -> list[Cause]:
    """Return what is wrong with a new object."""
    problems = Problems()
    metadata.create(resource, tree.get("metadata", {}), problems)
    if resource.custom is not None:
        return [*problems.causes, *resource.custom.check(tree)]
    rules = _CREATE.get((resource.group, resource.kind))
    if rules:
        rules(tree, problems)
    return problems.causes


def part(resource: AnyResource, tree: Tree, old: Tree, subresource: str) -> Sequence[Cause]:
    """Return what is wrong with a write to a subresource; most have no rules and cost nothing."""
    if resource.custom is not None:
        return resource.custom.check(tree, old)
    if (resource.group, resource.kind, subresource) not in _UPDATE_OF_SUBRESOURCE:
        return ()
    return update(resource, tree, old, subresource=subresource)


def update(resource: AnyResource, tree: Tree, old: Tree, *, subresource: str = "") -> list[Cause]:
    """Return what is wrong with `tree` as the successor of `old`.

    A subresource (status, scale, binding …) writes its own part, so the rules of the rest
    do not run; `ephemeralcontainers` of a Pod has rules of its own.
    """
    problems = Problems()
    metadata.update(resource, tree.get("metadata", {}), old.get("metadata", {}), problems=problems)
    if resource.custom is not None:
        return [*problems.causes, *resource.custom.check(tree, old)]
    if subresource:
        rules = _UPDATE_OF_SUBRESOURCE.get((resource.group, resource.kind, subresource))
        if rules:
            rules(tree, old, problems)
        return problems.causes
    key = (resource.group, resource.kind)
    if key in _UPDATE:
        _UPDATE[key](tree, old, problems)
    if key in _CREATE and not problems.causes:
        _CREATE[key](tree, problems)
    return problems.causes
