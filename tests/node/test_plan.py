"""The plan for one pod: tables, and properties that hold whatever is found."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.network.base import Attachment
from edgekube.node import labels
from edgekube.node.pod.backoff import after_restart, retry_at
from edgekube.node.pod.plan import plan
from edgekube.node.pod.spec import qos_class
from edgekube.node.pod.state import (
    AttachNetwork,
    CreateContainer,
    DetachNetwork,
    EnsureImage,
    Failure,
    Finish,
    MakeVolumes,
    Memory,
    Observed,
    RemoveContainer,
    RemoveVolumes,
    Restart,
    RunContainer,
    StopContainers,
)
from edgekube.runtime.base import ContainerInfo, Phase
from node.conftest import make_pod

NOW = 1_700_000_000.0
BOOT = "boot-1"
PLACE = Attachment("uid-web", "/run/netns/x", "10.244.0.5", "")


def container(name="main", attempt=0, phase=Phase.RUNNING, *, code=0, boot=BOOT, ended=NOW - 1):
    return ContainerInfo(
        id=f"{name}-{attempt}", name=f"{name}-{attempt}", image="fake/sleep", image_id="i", phase=phase,
        labels={labels.CONTAINER_NAME: name, labels.ATTEMPT: str(attempt), labels.BOOT_ID: boot, labels.IMAGE: "fake/sleep"},
        started_at=NOW - 10 if phase is not Phase.CREATED else 0.0,
        finished_at=ended if phase is Phase.EXITED else 0.0, exit_code=code,
    )  # fmt: skip


def ready(**more):
    return Memory(attachment=PLACE, volumes_ready=True, **more)


def look(pod, *containers, memory=None, now=NOW):
    observed = Observed(containers=containers, node_ip="10.0.0.1", boot_id=BOOT)
    return plan(pod, observed, memory or ready(), now)


START = [EnsureImage("main"), CreateContainer("main", 0)]
AGAIN = [EnsureImage("main"), CreateContainer("main", 1)]
EXITED = Phase.EXITED


@pytest.mark.parametrize(
    ("policy", "containers", "memory", "steps"),
    [
        ("Always", (), Memory(), [AttachNetwork()]),
        ("Always", (), Memory(attachment=PLACE), [MakeVolumes()]),
        ("Always", (), ready(), START),
        ("Always", (container(phase=Phase.CREATED),), ready(), [RunContainer("main", "main-0")]),
        ("Always", (container(),), ready(), []),
        ("Always", (container(phase=EXITED, code=1),), ready(), AGAIN),
        ("Always", (container(phase=EXITED),), ready(), AGAIN),
        ("Always", (container(phase=EXITED, code=1),), ready(restarts={"main": Restart(10, NOW - 20)}), []),
        (
            "Always",
            (container(phase=EXITED, code=1, ended=NOW - 11),),
            ready(restarts={"main": Restart(10, NOW - 20)}),
            AGAIN,
        ),
        ("OnFailure", (container(phase=EXITED, code=1),), ready(), AGAIN),
        (
            "OnFailure",
            (container(phase=EXITED),),
            ready(),
            [RemoveVolumes(everything=False), DetachNetwork()],
        ),
        ("OnFailure", (container(phase=EXITED),), ready(replace={"main-0"}), AGAIN),
        (
            "Never",
            (container(phase=EXITED, code=1),),
            ready(),
            [RemoveVolumes(everything=False), DetachNetwork()],
        ),
        ("Never", (container(phase=EXITED, code=1),), ready(detached=True, volumes_removed=True), []),
        ("Always", (container(phase=Phase.CREATED, boot="boot-0"),), ready(), AGAIN),
        ("Always", (container(phase=Phase.CREATED, boot=BOOT),), Memory(), [AttachNetwork()]),
        (
            "Always",
            (container(attempt=0, phase=EXITED), container(attempt=1, phase=EXITED)),
            ready(),
            [RemoveContainer("main-0", log=True), EnsureImage("main"), CreateContainer("main", 2)],
        ),
        (
            "Always",
            (),
            ready(failures={"main": Failure(reason="x", message="", at=NOW, retry_at=NOW + 5)}),
            [],
        ),
        ("Always", (), ready(attempts={"main": 4}), [EnsureImage("main"), CreateContainer("main", 5)]),
        ("Always", (container(),), ready(volumes_stale=True), [MakeVolumes()]),
        ("Always", (container(),), ready(volumes_refresh_at=NOW), [MakeVolumes()]),
    ],
)
def test_next_steps(pod_of, policy, containers, memory, steps):
    assert list(look(pod_of({"restartPolicy": policy}), *containers, memory=memory).steps) == steps


def test_when_to_look_again(pod_of):
    back_off = look(
        pod_of(), container(phase=EXITED, code=1), memory=ready(restarts={"main": Restart(40, NOW - 60)})
    )
    assert back_off.again == 39
    assert [notice.reason for notice in back_off.notices] == ["BackOff"]
    refresh = look(pod_of(), container(), memory=ready(volumes_refresh_at=NOW + 100))
    assert refresh.again == 100
    assert look(pod_of(), container()).again is None


def test_the_order_of_an_end(pod_of):
    pod = pod_of(
        {"initContainers": [{"name": name, "restartPolicy": "Always"} for name in ("side", "late")]},
        deletionTimestamp="2023-11-14T22:14:00Z",
    )
    (first,) = look(pod, container(), container("side"), container("late")).steps
    assert isinstance(first, StopContainers)
    turns = {target.container: target.turn for target in first.targets}
    assert turns == {"main": 0, "late": 1, "side": 2}
    (second,) = look(pod, container(phase=EXITED), container("side"), container("late", phase=EXITED)).steps
    assert [target.container for target in second.targets] == ["side"]
    rest = look(
        pod, container(phase=EXITED), container("side", phase=EXITED), container("late", phase=EXITED)
    ).steps
    assert [type(step) for step in rest] == [
        RemoveContainer,
        RemoveContainer,
        RemoveContainer,
        RemoveVolumes,
        DetachNetwork,
        Finish,
    ]


def test_a_terminal_pod_never_runs_again(pod_of):
    status = core_v1.PodStatus(phase="Succeeded")
    pod = msgspec.structs.replace(pod_of({"restartPolicy": "Never"}), status=status)
    made = look(pod, memory=Memory())
    assert not any(isinstance(step, CreateContainer | AttachNetwork) for step in made.steps)
    assert made.status == status


PHASES = st.sampled_from([Phase.CREATED, Phase.RUNNING, Phase.EXITED])


@st.composite
def worlds(draw):
    names = draw(st.lists(st.sampled_from(["init", "side", "one", "two"]), unique=True))
    found = []
    for name in names:
        attempts = range(draw(st.integers(0, 3)))
        found += [
            container(
                name,
                number,
                draw(PHASES),
                code=draw(st.integers(0, 2)),
                ended=NOW - draw(st.integers(0, 999)),
            )
            for number in attempts
        ]
    memory = draw(st.sampled_from([Memory, ready]))()
    if draw(st.booleans()):
        memory.restarts = {name: Restart(10 * 2 ** draw(st.integers(0, 5)), NOW - 5) for name in names}
    if draw(st.booleans()):
        memory.failures = {
            name: Failure(reason="x", message="", at=NOW, retry_at=NOW + 7) for name in names[:1]
        }
    return draw(st.sampled_from(["Always", "OnFailure", "Never"])), tuple(found), memory, draw(st.booleans())


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_whatever_is_found(world):
    policy, found, memory, deleted = world
    spec = {
        "restartPolicy": policy,
        "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "one"}, {"name": "two"}],
    }
    meta = {"deletionTimestamp": "2023-11-14T22:14:00Z"} if deleted else {}
    pod = make_pod(spec, **meta)
    made = look(pod, *found, memory=memory)
    assert made == look(pod, *found, memory=memory), "a plan depends on nothing else"
    newest = {}
    for info in found:
        name, attempt = info.labels[labels.CONTAINER_NAME], int(info.labels[labels.ATTEMPT])
        if attempt >= newest.get(name, (-1, None))[0]:
            newest[name] = (attempt, info)
    for step in made.steps:
        if isinstance(step, CreateContainer):
            attempt, info = newest.get(step.container, (-1, None))
            assert step.attempt == attempt + 1
            assert info is None or info.phase is Phase.EXITED, "never two of one container"
            assert not deleted
        if isinstance(step, RunContainer):
            assert newest[step.container][1].id == step.id
            assert not deleted
        if isinstance(step, Finish):
            assert not any(info.phase is Phase.RUNNING for _, info in newest.values())
    assert made.again is None or made.again >= 0
    if not made.steps and not deleted and made.status.phase == "Pending":
        assert made.again is not None or any(info.phase is Phase.RUNNING for info in found)
    running = {status.name for status in made.status.container_statuses if status.state.running}
    assert running == {name for name, (_, info) in newest.items() if info.phase is Phase.RUNNING} & {
        "one",
        "two",
    }


@given(st.lists(st.floats(0, 2000), min_size=1, max_size=30))
def test_back_off_never_leaves_its_bounds(runs):
    now, known = NOW, None
    for run in runs:
        ended = now + run
        now = max(ended, retry_at(known, ended))
        assert now - ended <= 300
        fresh = after_restart(known, ended, now=now)
        if known is not None and ended - known.since <= 600:
            assert fresh.delay == min(known.delay * 2, 300)
        else:
            assert fresh.delay == 10
        known = fresh


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        (
            [{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}],
            "Guaranteed",
        ),
        (
            [{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}],
            "Burstable",
        ),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"requests": {"cpu": "1m"}}], "Burstable"),
        ([{"limits": {"example.com/gpu": "1"}}], "BestEffort"),
    ],
)
def test_qos(pod_of, resources, wanted):
    containers = [{"name": f"c{number}", "resources": item} for number, item in enumerate(resources)]
    assert qos_class(pod_of({"containers": containers})) == wanted
