"""Ephemeral containers: they come to a running pod, see a container's processes, and never come twice."""

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.runtime.base import Phase
from edgekube.transport.base import STDIN, STDOUT, StreamRequest
from node.test_streams import Pipe

pytestmark = pytest.mark.looptime


def visited(pod, *visitors):
    found = tuple(msgspec.convert({"image": "fake/sleep", **v}, core_v1.EphemeralContainer) for v in visitors)
    return msgspec.structs.replace(
        pod, spec=msgspec.structs.replace(pod.spec, ephemeral_containers=found)
    )  # fmt: skip


async def running(rig, pod):
    rig.start()
    rig.put(pod)
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Running")


def visitor_status(rig):
    found = rig.notes.statuses.get("uid-web")
    return (
        found[-1].ephemeral_container_statuses[0]
        if found and found[-1].ephemeral_container_statuses
        else None
    )


async def test_a_visitor_comes_to_a_running_pod(rig, pod_of):
    await running(rig, pod_of())
    (main,) = rig.containers()
    rig.put(
        visited(pod_of(), {"name": "debugger", "targetContainerName": "main", "stdin": True, "tty": True})
    )
    await rig.until(lambda: (status := visitor_status(rig)) and status.state.running)
    status = visitor_status(rig)
    assert (status.name, status.restart_count, status.ready, status.started) == ("debugger", 0, False, None)
    (made,) = rig.containers(name="debugger")
    spec = rig.machine.containers[made.id].spec
    assert (spec.pid_of, spec.stdin, spec.tty) == (main.id, True, True)
    assert rig.notes.last().container_statuses[0].container_id.endswith(main.id), "the others stay"
    event = next(e for e in rig.notes.events if e.field_path == "spec.ephemeralContainers{debugger}")
    assert event.reason == "Pulling"
    assert all(c.status == "True" for c in rig.notes.last().conditions)


async def test_a_visitor_that_ends_is_told_and_never_comes_again(rig, pod_of):
    pod = visited(pod_of(), {"name": "debugger", "image": "fake/exit:3"})
    await running(rig, pod)
    await rig.until(lambda: visitor_status(rig).state.terminated)
    assert visitor_status(rig).state.terminated.exit_code == 3
    await rig.stop()
    rig.start()
    rig.put(
        msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, active_deadline_seconds=9999))
    )
    await rig.until(lambda: rig.now() > 1_700_000_700, seconds=900)
    assert len(rig.containers(name="debugger")) == 1
    assert rig.notes.last().phase == "Running"


async def test_a_visitor_needs_its_target(rig, pod_of):
    spec = {"initContainers": [{"name": "init", "command": ["sh", "-c", "sleep 30"]}]}
    rig.start()
    rig.put(visited(pod_of(spec), {"name": "debugger", "targetContainerName": "main"}))
    await rig.until(lambda: (status := visitor_status(rig)) and status.state.waiting.message)
    waiting = visitor_status(rig).state.waiting
    assert (waiting.reason, waiting.message) == (
        "CreateContainerConfigError",
        "unable to find target container main",
    )
    assert rig.containers(name="init")[0].phase is Phase.RUNNING
    await rig.until(lambda: visitor_status(rig).state.running, seconds=90)


async def test_a_visitor_does_not_wait_for_init_containers(rig, pod_of):
    spec = {"initContainers": [{"name": "init", "image": "fake/exit:1"}]}
    rig.start()
    rig.put(visited(pod_of(spec), {"name": "debugger", "targetContainerName": ""}))
    await rig.until(lambda: (status := visitor_status(rig)) and status.state.running)
    assert rig.notes.last().phase == "Pending"


async def test_a_pod_ends_with_its_visitors(rig, pod_of):
    main = {"name": "main", "command": ["sh", "-c", "sleep 20"]}
    await running(
        rig, visited(pod_of({"restartPolicy": "Never", "containers": [main]}), {"name": "debugger"})
    )
    await rig.until(lambda: rig.notes.last().phase == "Succeeded")
    assert rig.containers(name="debugger")[0].phase is Phase.EXITED


async def test_attach_to_a_visitor(rig, pod_of):
    script = ["sh", "-c", "read line; echo got $line"]
    await running(rig, visited(pod_of(), {"name": "debugger", "command": script, "stdin": True}))
    await rig.until(lambda: visitor_status(rig).state.running)
    pipe = Pipe()
    pipe.inbox.put_nowait((STDIN, b"hello\n"))
    request = StreamRequest(
        kind="attach", namespace="default", pod="web", uid="uid-web", container="debugger", stdin=True
    )
    await rig.kubelet.stream_handler(request, pipe)
    assert pipe.of(STDOUT) == b"got hello\n"
