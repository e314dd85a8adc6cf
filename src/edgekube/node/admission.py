"""
Whether a pod bound to this node may begin here (kubelet's lifecycle/predicate.go). Pure.

The scheduler has asked the same; but it may have looked at an old node, and a pod may name its node
itself. A pod that has begun already is never asked again.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from edgekube.api import quantity
from edgekube.api.podresources import of_pod
from edgekube.api.types import core_v1
from edgekube.control.nodeaffinity import chosen
from edgekube.control.taints import NO_EXECUTE, untolerated
from edgekube.node.eviction.rank import SOURCE
from edgekube.node.pod.spec import all_containers
from edgekube.node.pod.state import Doom
from edgekube.node.pod.sysctls import forbidden

AFFINITY = "NodeAffinity"
ORDER = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The node, and the pods that are on it already."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[core_v1.Taint, ...]
    allocatable: Mapping[str, str]
    pods: tuple[core_v1.Pod, ...]
    requests: "Requests"


class Requests:
    """What pods ask for, in thousandths, worked out once for each form of a pod."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[core_v1.PodSpec, dict[str, int]]] = {}

    def of(self, pod: core_v1.Pod) -> dict[str, int]:
        """Return the amounts by resource."""
        known = self._known.get(pod.metadata.uid)
        if known is None or known[0] is not pod.spec:
            found = of_pod(msgspec.to_builtins(pod.spec), "requests")
            known = (pod.spec, {name: math.ceil(amount * 1000) for name, amount in found.items()})
            self._known[pod.metadata.uid] = known
        return known[1]

    def forget(self, uid: str) -> None:
        """Drop a pod that is gone."""
        self._known.pop(uid, None)


def refusal(pod: core_v1.Pod, place: Place) -> Doom | None:
    """Return why the pod may not begin here; None when it may."""
    for check in CHECKS:
        found = check(pod, place)
        if found is not None:
            return found
    return None


def rejected(reason: str, message: str) -> Doom:
    """Return the end of a pod that never begins."""
    return Doom(reason=reason, message=f"Pod was rejected: {message}")


def _resources(pod: core_v1.Pod, place: Place) -> Doom | None:
    if pod.metadata.annotations.get(SOURCE, "api") != "api":
        return None  # Nobody has scheduled a static pod: whoever wrote it here wants it.
    wanted = {"pods": 1000, **place.requests.of(pod)}
    used: dict[str, int] = {"pods": 1000 * len(place.pods)}
    for other in place.pods:
        for name, amount in place.requests.of(other).items():
            used[name] = used.get(name, 0) + amount
    for name in ("pods", *sorted(wanted.keys() - {"pods"}, key=_order)):
        have = quantity.milli(place.allocatable.get(name, "0"))
        if wanted[name] and used.get(name, 0) + wanted[name] > have:
            # As the kubelet counts: thousandths of cores, whole units of all else.
            unit = 1 if name == "cpu" else 1000
            ask, taken, all_ = wanted[name] // unit, used.get(name, 0) // unit, have // unit
            return rejected(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {ask}, used: {taken}, capacity: {all_}",
            )
    return None


def _order(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _affinity(pod: core_v1.Pod, place: Place) -> Doom | None:
    if chosen(pod.spec, place.name, place.labels):
        return None
    return _failed(AFFINITY, "node(s) didn't match Pod's node affinity/selector")


def _ports(pod: core_v1.Pod, place: Place) -> Doom | None:
    wanted = _host_ports(pod)
    taken = [port for other in place.pods for port in _host_ports(other)] if wanted else ()
    if not any(_clash(own, other) for own in wanted for other in taken):
        return None
    return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")


def _host_ports(pod: core_v1.Pod) -> list[tuple[str, str, int]]:
    return [
        (port.protocol or "TCP", port.host_ip or "0.0.0.0", port.host_port)
        for container in all_containers(pod) for port in container.ports if port.host_port
    ]  # fmt: skip


def _clash(own: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    anywhere = "0.0.0.0" in (own[1], other[1])
    return own[0] == other[0] and own[2] == other[2] and (anywhere or own[1] == other[1])


def _taints(pod: core_v1.Pod, place: Place) -> Doom | None:
    if pod.metadata.annotations.get(SOURCE, "api") != "api":
        return None
    if untolerated(place.taints, pod.spec.tolerations, (NO_EXECUTE,)) is None:
        return None
    return _failed("TaintToleration", "node(s) had untolerated taint(s)")


def _system(pod: core_v1.Pod, place: Place) -> Doom | None:
    wanted = pod.spec.os.name if pod.spec.os else ""
    if wanted and wanted != place.labels.get("kubernetes.io/os", "linux"):
        text = "Failed to admit pod as the OS field doesn't match node OS"
        return rejected("PodOSNotSupported", text)
    return None


def _failed(predicate: str, words: str) -> Doom:
    return rejected(predicate, f"Predicate {predicate} failed: {words}")


def _sysctls(pod: core_v1.Pod, _place: Place) -> Doom | None:
    found = forbidden(pod)
    return rejected("SysctlForbidden", found) if found else None


CHECKS: tuple[Callable[[core_v1.Pod, Place], Doom | None], ...] = (
    _system, _sysctls, _resources, _affinity, _ports, _taints,
)  # fmt: skip


def taken(pods: Iterable[core_v1.Pod], uid: str) -> tuple[core_v1.Pod, ...]:
    """Return the pods that take room beside the one of that uid."""
    return tuple(
        pod for pod in pods if pod.metadata.uid != uid and pod.status.phase not in ("Succeeded", "Failed")
    )
