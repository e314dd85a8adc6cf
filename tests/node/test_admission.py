"""Whether a pod may begin on a node: the node is never overbooked, and the kubelet's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.node.admission import Place, Requests, refusal, taken
from node.conftest import make_pod


def place(*pods, allocatable=None, labels=None, taints=()):
    return Place(
        name="pi", labels=labels or {}, taints=taints, pods=pods, requests=Requests(),
        allocatable=allocatable or {"cpu": "4", "memory": "1Gi", "pods": "3", "ephemeral-storage": "8Gi"},
    )  # fmt: skip


def asking(name="a", uid=None, **requests):
    container = {
        "name": "main",
        "resources": {"requests": {k.replace("_", "-"): v for k, v in requests.items()}},
    }
    return make_pod({"containers": [container]}, name=name, uid=uid or f"uid-{name}")


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (asking(cpu="3500m"), "cpu, requested: 3500, used: 1000, capacity: 4000"),
        (asking(memory="1Gi", cpu="1m"), "memory, requested: 1073741824, used: 104857600, capacity: 1073741824"),
        (asking(ephemeral_storage="9Gi"), "ephemeral-storage, requested: 9663676416, used: 0, capacity: 8589934592"),
        (asking(**{"example.com/gpu": "1"}), "example.com/gpu, requested: 1, used: 0, capacity: 0"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(pod, words):
    found = refusal(pod, place(asking("other", cpu="1", memory="100Mi")))
    assert found is not None
    assert found.reason == f"OutOf{words.partition(',')[0]}"
    assert found.message == f"Pod was rejected: Node didn't have enough resource: {words}"


def test_the_number_of_pods_has_a_limit():
    others = [asking(name) for name in "bcd"]
    found = refusal(asking(), place(*others))
    assert (found.reason, found.message.rpartition(": ")[0]) == (
        "OutOfpods", "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 3, capacity",
    )  # fmt: skip
    assert refusal(asking(), place(*others[:2])) is None


def test_a_changed_pod_is_counted_anew():
    at = place(asking("b", cpu="1"))
    assert refusal(asking(cpu="3"), at) is None
    grown = Place(
        name="pi",
        labels={},
        taints=(),
        allocatable=at.allocatable,
        pods=(asking("b", cpu="2"),),
        requests=at.requests,
    )
    assert refusal(asking(cpu="3"), grown) is not None


def ports(name, *numbers, **more):
    listed = [{"containerPort": 1, "hostPort": n, **more} for n in numbers]
    return make_pod({"containers": [{"name": "main", "ports": listed}]}, name=name, uid=f"uid-{name}")


@pytest.mark.parametrize(
    ("pod", "refused"),
    [
        (ports("a", 80), True),
        (ports("a", 81), False),
        (ports("a", 80, protocol="UDP"), False),
        (ports("a", 80, hostIP="10.0.0.2"), True),
        (ports("a"), False),
    ],
)
def test_host_ports(pod, refused):
    found = refusal(pod, place(ports("b", 79, 80)))
    assert (found.reason if found else "") == ("NodePorts" if refused else "")


def test_addresses_of_their_own_do_not_clash():
    assert refusal(ports("a", 80, hostIP="10.0.0.1"), place(ports("b", 80, hostIP="10.0.0.2"))) is None


@pytest.mark.parametrize(("tolerations", "refused"), [([], True), ([{"operator": "Exists"}], False)])
def test_a_taint_that_drives_out(tolerations, refused):
    taint = core_v1.Taint(key="broken", effect="NoExecute")
    pod = make_pod({"tolerations": tolerations})
    found = refusal(pod, place(taints=(taint, core_v1.Taint(key="busy", effect="NoSchedule"))))
    assert (found is not None) is refused
    if refused:
        assert found.message.endswith("Predicate TaintToleration failed: node(s) had untolerated taint(s)")


def test_only_pods_that_take_room_count():
    ended = make_pod(name="ended", uid="uid-ended")
    ended = type(ended)(metadata=ended.metadata, spec=ended.spec, status=core_v1.PodStatus(phase="Succeeded"))
    own, other = make_pod(name="own", uid="uid-own"), make_pod(name="other", uid="uid-other")
    assert taken([ended, own, other], "uid-own") == (other,)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 512)), max_size=12))
def test_a_node_is_never_overbooked(rows):
    admitted = []
    for number, (cpu, memory) in enumerate(rows):
        pod = asking(f"p{number}", cpu=f"{cpu}m", memory=f"{memory}Mi")
        if refusal(pod, place(*admitted)) is None:
            admitted.append(pod)
    amounts = [pod.spec.containers[0].resources.requests for pod in admitted]
    assert sum(int(a["cpu"][:-1]) for a in amounts) <= 4000
    assert sum(int(a["memory"][:-2]) for a in amounts) <= 1024
    assert len(admitted) <= 3
