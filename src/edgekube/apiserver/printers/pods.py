"""Pods: what kubectl users read every day (printPod in pkg/printers/internalversion)."""

from datetime import datetime
from typing import Any, NamedTuple

from edgekube.apiserver.printers.base import (
    AGE,
    NONE,
    Column,
    Printer,
    age,
    columns,
    name,
    since,
    spec,
    status,
)  # fmt: skip
from edgekube.apiserver.request import Tree

WIDE = ("IP", "Node", "Nominated Node", "Readiness Gates")
TERMINAL = ("Failed", "Succeeded")


class _Tally(NamedTuple):
    reason: str
    ready: int
    restarts: int
    last: str
    initializing: bool = False


def _condition(pod: Tree, kind: str, *, reason: str = "") -> bool:
    return any(
        c["type"] == kind and (c.get("reason") == reason if reason else c.get("status") == "True")
        for c in status(pod).get("conditions") or ()
    )


def _terminated(state: Tree) -> str:
    if state.get("reason"):
        return str(state["reason"])
    if state.get("signal"):
        return f"Signal:{state['signal']}"
    return f"ExitCode:{state.get('exitCode', 0)}"


def _last_end(container: Tree) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    return ended.get("finishedAt") or ""


def _init_reason(state: Tree, index: int, total: int) -> str:
    """Return why the pod is still at this init container."""
    if ended := state.get("terminated"):
        return f"Init:{_terminated(ended)}"
    waiting = (state.get("waiting") or {}).get("reason", "")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


def _init(pod: Tree, reason: str, sidecars: set[str]) -> tuple[_Tally, _Tally]:
    """Walk the init containers; return the tally of all so far and that of the sidecars."""
    restarts = side_restarts = ready = 0
    last = side_last = ""
    total = len(spec(pod).get("initContainers") or ())
    initializing = False
    for index, container in enumerate(status(pod).get("initContainerStatuses") or ()):
        sidecar = container["name"] in sidecars
        restarts += container.get("restartCount", 0)
        last = max(last, _last_end(container))
        if sidecar:
            side_restarts += container.get("restartCount", 0)
            side_last = max(side_last, _last_end(container))
        state = container.get("state") or {}
        if "terminated" in state and not state["terminated"].get("exitCode"):
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        reason, initializing = _init_reason(state, index, total), True
        break
    return (
        _Tally(reason, ready, restarts, last, initializing=initializing),
        _Tally(reason, ready, side_restarts, side_last),
    )


def _main(pod: Tree, start: _Tally) -> _Tally:
    reason, ready, restarts, last, _ = start
    running = False
    for container in reversed(status(pod).get("containerStatuses") or ()):
        restarts += container.get("restartCount", 0)
        last = max(last, _last_end(container))
        state = container.get("state") or {}
        if waiting := (state.get("waiting") or {}).get("reason"):
            reason = waiting
        elif "terminated" in state:
            reason = _terminated(state["terminated"])
        elif container.get("ready") and "running" in state:
            running = True
            ready += 1
    if reason == "Completed" and running:
        reason = "Running" if _condition(pod, "Ready") else "NotReady"
    return _Tally(reason, ready, restarts, last)


def _tally(pod: Tree) -> _Tally:
    phase = status(pod).get("phase", "Unknown")
    reason = status(pod).get("reason") or phase
    if _condition(pod, "PodScheduled", reason="SchedulingGated"):
        reason = "SchedulingGated"
    sidecars = {
        c["name"] for c in spec(pod).get("initContainers") or () if c.get("restartPolicy") == "Always"
    }
    tally, side = _init(pod, reason, sidecars)
    if not tally.initializing or _condition(pod, "Initialized"):
        tally = _main(pod, side)
    if "deletionTimestamp" in pod["metadata"]:
        if status(pod).get("reason") == "NodeLost":
            return tally._replace(reason="Unknown")
        if phase not in TERMINAL:
            return tally._replace(reason="Terminating")
    return tally


def _gates(pod: Tree) -> str:
    gates = [gate["conditionType"] for gate in spec(pod).get("readinessGates") or ()]
    return f"{sum(_condition(pod, gate) for gate in gates)}/{len(gates)}" if gates else NONE


def cells(pod: Tree, now: datetime) -> list[Any]:
    """Return a pod's cells."""
    tally = _tally(pod)
    inits = spec(pod).get("initContainers") or ()
    total = len(spec(pod).get("containers") or ()) + sum(c.get("restartPolicy") == "Always" for c in inits)
    restarts = str(tally.restarts)
    if tally.restarts and tally.last:
        restarts += f" ({since(tally.last, now)} ago)"
    addresses = [item["ip"] for item in status(pod).get("podIPs") or ()] or [status(pod).get("podIP", "")]
    return [
        name(pod), f"{tally.ready}/{total}", tally.reason, restarts, age(pod, now),
        addresses[0] or NONE, spec(pod).get("nodeName") or NONE, status(pod).get("nominatedNodeName") or NONE,
        _gates(pod),
    ]  # fmt: skip


PRINTERS = {"pods": Printer(columns("Ready", "Status", Column("Restarts"), AGE, wide=WIDE), cells)}
