"""The downward API: fields of the pod and of its containers' resources as text (pkg/fieldpath, pkg/api/v1/resource)."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgekube.api import quantity
from edgekube.api.types import core_v1
from edgekube.lib.errors import EdgekubeError
from edgekube.node.pod.spec import container_named


class UnknownField(EdgekubeError):
    """There is no such field, or this container has no such resource."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a pod's fields say beyond its own object; `allocatable` is the node's, in quantities."""

    pod_ip: str = ""
    node_ip: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)
    pod_ips: str = ""
    """All addresses with commas between."""
    node_ips: str = ""


_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")

_FIELDS: dict[str, Callable[[core_v1.Pod, Place], str]] = {
    "metadata.name": lambda pod, _: pod.metadata.name,
    "metadata.namespace": lambda pod, _: pod.metadata.namespace,
    "metadata.uid": lambda pod, _: pod.metadata.uid,
    "metadata.labels": lambda pod, _: _lines(pod.metadata.labels),
    "metadata.annotations": lambda pod, _: _lines(pod.metadata.annotations),
    "spec.nodeName": lambda pod, _: pod.spec.node_name,
    "spec.serviceAccountName": lambda pod, _: pod.spec.service_account_name,
    "status.podIP": lambda _, place: place.pod_ip,
    "status.podIPs": lambda _, place: place.pod_ips or place.pod_ip,
    "status.hostIP": lambda _, place: place.node_ip,
    "status.hostIPs": lambda _, place: place.node_ips or place.node_ip,
}


def field_value(pod: core_v1.Pod, path: str, place: Place) -> str:
    """Return the text of a fieldRef; raises UnknownField."""
    if match := _SUBSCRIPT.fullmatch(path):
        source = pod.metadata.labels if match[1] == "labels" else pod.metadata.annotations
        return source.get(match[2], "")
    read = _FIELDS.get(path)
    if read is None:
        raise UnknownField(f"unsupported fieldPath: {path}")
    return read(pod, place)


def resource_value(
    pod: core_v1.Pod, selector: core_v1.ResourceFieldSelector, place: Place, *, container: str = ""
) -> str:
    """Return the text of a resourceFieldRef, in units of its divisor, rounded up; raises UnknownField."""
    name = selector.container_name or container
    found = container_named(pod, name)
    kind, _, resource = selector.resource.partition(".")
    if found is None or kind not in ("limits", "requests"):
        raise UnknownField(f"unsupported container resource : {selector.resource}")
    resources = found.resources or core_v1.ResourceRequirements()
    if kind == "limits":
        amount = resources.limits.get(resource) or place.allocatable.get(resource, "0")
    else:
        amount = resources.requests.get(resource) or resources.limits.get(resource, "0")
    divisor = quantity.parse(selector.divisor or "1") or quantity.parse("1")
    wanted = quantity.parse(amount)
    return str(math.ceil(wanted / divisor))


def _lines(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={_quote(value)}" for key, value in sorted(pairs.items()))


def _quote(text: str) -> str:
    return (
        '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    )
