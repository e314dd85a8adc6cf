"""In-place resize: what is pending, what is to be done about it, how a status tells it. Pure (KEP-1287)."""

from dataclasses import dataclass

import msgspec

from edgekube.api.types import core_v1
from edgekube.node.pod.allocation import NOTHING, granted, made_with, requests_of, wished
from edgekube.node.pod.state import Notice
from edgekube.node.pod.view import Role, Scene, View

PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
RETRY = 10.0
"""Seconds after which the node is asked again for room."""
RESIZABLE = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Pending:
    """A resize that is not granted: Infeasible (never here) or Deferred (not now)."""

    reason: str
    message: str


def is_wished(seen: Scene) -> bool:
    """Tell whether the pod asks for something else than it was granted."""
    return seen.observed.room is not None and wished(seen.pod) != seen.memory.granted


def pending(seen: Scene) -> Pending | None:
    """Return why a wished resize is not granted; None when it may be (or none is wished)."""
    room = seen.observed.room
    if not is_wished(seen) or room is None:
        return None
    if "kubernetes.io/config.mirror" in seen.pod.metadata.annotations:
        return Pending("Infeasible", "In-place resize of static-pods is not supported")
    wish, had = requests_of(seen.pod), requests_of(granted(seen.pod, seen.memory.granted))
    for name in reversed(RESIZABLE):
        if wish[name] > room.capacity[name]:
            text = f"{name}, requested: {wish[name]}, capacity: {room.capacity[name]}"
            return Pending("Infeasible", f"Node didn't have enough capacity: {text}")
    for name in RESIZABLE:
        if wish[name] > had[name] and wish[name] + room.used[name] > room.capacity[name]:
            text = (
                f"{name}, requested: {wish[name]}, used: {room.used[name]}, capacity: {room.capacity[name]}"
            )
            return Pending("Deferred", f"Node didn't have enough resource: {text}")
    return None


def has(row: View, seen: Scene) -> core_v1.ResourceRequirements:
    """Return what a container that was made has by now."""
    assert row.current is not None
    known = seen.memory.applied.get(row.current.id) or made_with(row.current)
    return known or seen.memory.granted.get(row.name, NOTHING)


def outdated(seen: Scene) -> list[View]:
    """Return the running containers that have something else than they were granted."""
    return [
        row
        for row in seen.of(Role.SIDECAR, Role.MAIN)
        if row.running and has(row, seen) != seen.memory.granted.get(row.name, NOTHING)
    ]


def needs_restart(row: View, seen: Scene) -> bool:
    """Tell whether one of the resources that change says RestartContainer."""
    now, wish = has(row, seen), seen.memory.granted[row.name]
    changed = {
        name
        for name in RESIZABLE
        if now.limits.get(name) != wish.limits.get(name) or now.requests.get(name) != wish.requests.get(name)
    }
    return any(
        policy.resource_name in changed and policy.restart_policy == "RestartContainer"
        for policy in row.container.resize_policy
    )


def conditions(seen: Scene) -> dict[str, tuple[bool, str, str]]:
    """Return the conditions a resize adds: kind → (true, reason, message)."""
    found: dict[str, tuple[bool, str, str]] = {}
    if (waiting := pending(seen)) is not None:
        found[PENDING] = (True, waiting.reason, waiting.message)
    if outdated(seen):
        error = seen.memory.resize
        found[IN_PROGRESS] = (True, error.reason, error.message) if error is not None else (True, "", "")
    return found


def notice(pod: core_v1.Pod, waiting: Pending) -> Notice:
    """Return the event that tells of a resize that is not granted."""
    text = f"Pod resize {waiting.reason}: {report(pod, error=waiting.message)}"
    once = f"{waiting.reason} {pod.metadata.generation}"
    return Notice("Warning", f"Resize{waiting.reason}", text, "", once)


def report(pod: core_v1.Pod, *, error: str = "") -> str:
    """Return what events tell of a resize, as JSON."""
    rows = [{"name": name, "resources": resources} for name, resources in wished(pod).items()]
    told = {"containers": rows, "generation": pod.metadata.generation, **({"error": error} if error else {})}
    return msgspec.json.encode(told).decode()
