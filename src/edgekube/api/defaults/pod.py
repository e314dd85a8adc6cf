"""Pods and pod templates."""

from edgekube.api.defaults import container, volumes
from edgekube.api.defaults.fill import Tree, fill, fill_empty, items

CONTAINERS = ("containers", "initContainers")
_SPEC = {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}


def pod(tree: Tree) -> None:
    """Fill a Pod: what a template gets, and what only makes sense once there is a pod."""
    spec = tree.setdefault("spec", {})
    pod_spec(spec)
    fill(spec, {"enableServiceLinks": True})
    for one in items(spec, *CONTAINERS):
        container.limits_as_requests(one)
        if spec.get("hostNetwork"):
            container.host_ports(one)


def template(tree: Tree) -> None:
    """Fill a PodTemplateSpec."""
    tree.setdefault("metadata", {})
    pod_spec(tree.setdefault("spec", {}))


def pod_spec(spec: Tree) -> None:
    """Fill a PodSpec."""
    fill_empty(spec, _SPEC)
    spec.setdefault("securityContext", {})
    fill(spec, {"terminationGracePeriodSeconds": 30})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:  # The second is the first's old name.
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for one in items(spec, *CONTAINERS, "ephemeralContainers"):
        container.container(one)
    for volume in items(spec, "volumes"):
        volumes.volume(volume)
