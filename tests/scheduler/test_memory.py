"""What is remembered of nodes never changes a decision, and saves the looks it is there to save."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.scheduler.decide import Placement, decide
from edgekube.scheduler.memory import Memory
from edgekube.scheduler.plugins import Plugins

PLUGINS = Plugins()
NODES = st.fixed_dictionaries({
    "cpu": st.sampled_from(["1", "2", "4"]), "pods": st.sampled_from(["2", "8"]), "sick": st.sampled_from([(), ("Throttled",)]),
    "unschedulable": st.sampled_from([None, None, True]), "labels": st.sampled_from([{"disk": "ssd"}, {"disk": "sd"}]),
    "images": st.sampled_from([(), (core_v1.ContainerImage(names=("web:1",), size_bytes=500 << 20),)]),
    "taints": st.sampled_from([(), (core_v1.Taint(key="k", effect="PreferNoSchedule"),), (core_v1.Taint(key="k", effect="NoSchedule"),)]),
})  # fmt: skip
PODS = st.fixed_dictionaries({
    "requests": st.sampled_from([{}, {"cpu": "300m"}, {"cpu": "1", "memory": "1Gi"}]),
    "node_selector": st.sampled_from([{}, {"disk": "ssd"}]),
    "tolerations": st.sampled_from([(), (core_v1.Toleration(key="k", operator="Exists"),)]),
    "ports": st.sampled_from([(), (core_v1.ContainerPort(container_port=80, host_port=80),)]),
    "labels": st.sampled_from([{"app": "web"}, {"app": "db"}]),
})  # fmt: skip
NAMES = st.sampled_from(["n0", "n1", "n2", "n3"])
SCRIPT = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), PODS),
        st.tuples(st.just("node"), st.tuples(NAMES, NODES)),
        st.tuples(st.just("gone"), NAMES),
        st.tuples(st.just("end"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(script=SCRIPT)
def test_a_memory_never_changes_a_decision(make_any, script):
    cache, memory, placed = make_any.cache(make_any.node("n0"), make_any.node("n1")), Memory(), []
    for number, (what, value) in enumerate(script):
        if what == "pod":
            info = make_any.info(**value)
            snapshot = cache.snapshot()
            found = decide(info, snapshot, PLUGINS, start=number, memory=memory)
            assert found == decide(info, snapshot, PLUGINS, start=number)
            if isinstance(found, Placement):
                cache.assume(info, found.node)
                placed.append(info.uid)
        elif what == "node":
            cache.set_node(make_any.node(value[0], **value[1]))
        elif what == "gone":
            cache.drop_node(value)
        elif placed:
            cache.drop_pod(placed.pop(value % len(placed)))


def test_like_pods_ask_only_the_node_that_changed(make):
    cache, memory = make.cache(*(make.node(f"n{number}") for number in range(20))), Memory()
    for number in range(10):
        info = make.info(f"web-{number}", requests={"cpu": "100m"})
        cache.assume(info, decide(info, cache.snapshot(), PLUGINS, memory=memory).node)
    assert memory.looks == 20 + 9


def test_shapes_and_nodes_that_are_gone_are_forgotten(make):
    cache, memory = make.cache(make.node("n0")), Memory()
    for number in range(200):
        cache.drop_node("n0")
        cache.set_node(make.node("n0"))
        for millis in (100, 100 + number):
            decide(make.info(requests={"cpu": f"{millis}m"}), cache.snapshot(), PLUGINS, memory=memory)
    kept = [len(findings) for findings in memory._shapes.values()]
    assert len(kept) <= 64
    assert max(kept) <= 3


def test_another_image_is_another_shape(make):
    images = (core_v1.ContainerImage(names=("db:1",), size_bytes=900 << 20),)
    cache, memory = make.cache(make.node("n0"), make.node("n1", images=images)), Memory()
    for image in ("web:1", "db:1"):
        pod = make.pod()
        container = msgspec.structs.replace(pod.spec.containers[0], image=image)
        info = make.info(containers=(container,))
        snapshot = cache.snapshot()
        assert decide(info, snapshot, PLUGINS, memory=memory) == decide(info, snapshot, PLUGINS)
    assert decide(info, cache.snapshot(), PLUGINS, memory=memory).node == "n1"
