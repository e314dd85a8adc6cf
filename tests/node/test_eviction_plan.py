"""Which thresholds are met, who goes first and what is said: tables and properties."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.types import core_v1
from edgekube.node.eviction import plan
from edgekube.node.eviction.plan import Observation, State
from edgekube.node.eviction.rank import ContainerUse, PodUse, is_critical, message, overdrawn, rank
from edgekube.node.eviction.settings import BadThreshold, EvictionSettings
from edgekube.node.eviction.signals import observations, space_of
from edgekube.node.reserved import allocatable_of
from node.conftest import USAGE

MI, GI = 1 << 20, 1 << 30


def settings(**changes):
    return EvictionSettings(**{"hard": {"memory.available": "100Mi"}, **changes})


def memory(available):
    return {"memory.available": Observation(available, 4 * GI)}


def pod(name, *, requests=None, priority=0, limits=None, volumes=(), **meta):
    tree = {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **meta},
        "spec": {
            "priority": priority,
            "containers": [
                {
                    "name": "main",
                    "image": "x",
                    "resources": {"requests": requests or {}, "limits": limits or {}},
                }
            ],
            "volumes": list(volumes),
        },
    }
    return msgspec.convert(tree, core_v1.Pod)


def use(of, *, memory=0, disk=0, inodes=0, pids=0, volumes=None):
    container = ContainerUse(memory=memory, disk=disk, inodes=inodes, pids=pids)
    return PodUse(of, {"main": container}, volumes or {})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"hard": {"cpu.available": "1"}}, "unsupported eviction signal cpu.available"),
        ({"hard": {"nodefs.available": "120%"}}, "must be >= 0% and <= 100%"),
        ({"hard": {"nodefs.available": "ten"}}, "neither a quantity nor a percentage"),
        ({"hard": {"memory.available": "-1Mi"}}, "must be positive"),
        ({"hard": {}, "soft": {"memory.available": "1Gi"}}, "grace period must be specified"),
    ],
)
def test_bad_thresholds_are_refused(table, words):
    with pytest.raises(BadThreshold, match=words):
        EvictionSettings(**table).thresholds()


def test_the_kubelets_defaults_and_zero_to_switch_off():
    assert {t.signal for t in EvictionSettings().thresholds()} == {
        "memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree",
    }  # fmt: skip
    assert EvictionSettings(hard={"nodefs.available": "0%", "memory.available": "0"}).thresholds() == ()


def test_observations_of_one_disk_and_of_two():
    one = observations(USAGE, memory=4 * GI)
    assert one["imagefs.available"] == one["nodefs.available"] == Observation(16 * GI, 32 * GI)
    assert "pid.available" not in one
    two = observations(
        replace(
            USAGE, image_disk_capacity=8 * GI, image_disk_available=GI, processes=900, processes_limit=1000
        ),
        memory=4 * GI,
    )
    assert two["imagefs.available"] == Observation(GI, 8 * GI)
    assert two["pid.available"] == Observation(100, 1000)


def look(state, chosen, seen, now):
    return plan.look(state, chosen.thresholds(), seen, now=now, transition=chosen.transition)


def test_a_hard_threshold_acts_at_once_and_the_condition_outlives_it():
    chosen = settings()
    state = look(State(), chosen, memory(50 * MI), 0)
    assert [t.signal for t in state.met] == ["memory.available"]
    assert state.conditions == {"MemoryPressure"}
    state = look(state, chosen, memory(GI), 10)
    assert (state.met, state.conditions) == ((), {"MemoryPressure"})
    assert look(state, chosen, memory(GI), 299).conditions == {"MemoryPressure"}
    assert look(state, chosen, memory(GI), 300).conditions == frozenset()


def test_a_soft_threshold_waits_for_its_grace_period():
    chosen = settings(hard={}, soft={"memory.available": "500Mi"}, soft_grace={"memory.available": 90})
    state = look(State(), chosen, memory(400 * MI), 0)
    assert (state.met, state.conditions) == ((), {"MemoryPressure"})
    state = look(state, chosen, memory(GI), 60)
    state = look(state, chosen, memory(400 * MI), 80)
    assert look(state, chosen, memory(400 * MI), 160).met == ()
    assert look(state, chosen, memory(400 * MI), 170).met != ()


def test_minimum_reclaim_keeps_a_threshold_met():
    chosen = settings(minimum_reclaim={"memory.available": "200Mi"})
    state = look(State(), chosen, memory(50 * MI), 0)
    state = look(state, chosen, memory(250 * MI), 10)
    assert state.met != ()
    assert look(state, chosen, memory(301 * MI), 20).met == ()
    assert look(State(), chosen, memory(250 * MI), 10).met == ()


def test_memory_goes_before_the_disk():
    chosen = EvictionSettings()
    seen = observations(replace(USAGE, disk_available=GI, memory_available=MI), memory=4 * GI)
    state = look(State(), chosen, seen, 0)
    assert [t.signal for t in state.met] == ["memory.available", "nodefs.available", "imagefs.available"]
    assert state.conditions == {"MemoryPressure", "DiskPressure"}


def test_memory_that_is_nearly_short_is_looked_at_more_often():
    chosen = settings()
    near = plan.next_look(State(), chosen.thresholds(), memory(150 * MI), now=0, period=10)
    far = plan.next_look(State(), chosen.thresholds(), memory(GI), now=0, period=10)
    assert (near, far) == (2, 10)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0.5, 400)), min_size=1, max_size=12),
    st.integers(0, 100),
)
def test_conditions_never_flap_within_the_transition_period(steps, reclaim):
    chosen = settings(minimum_reclaim={"memory.available": f"{reclaim}Mi"})
    state, now, short_at = State(), 0.0, -1e9
    for available, wait in steps:
        now += wait
        state = look(state, chosen, memory(available * MI), now)
        if available < 100:
            assert state.met
        if state.met:
            short_at = now
        assert ("MemoryPressure" in state.conditions) == (now - short_at < 300)
        assert set(state.met) <= set(state.first)


def names(uses):
    return [item.pod.metadata.name for item in uses]


def test_memory_ranks_by_request_then_priority_then_use():
    uses = [
        use(pod("within", requests={"memory": "200Mi"}), memory=150 * MI),
        use(pod("important", priority=1000), memory=900 * MI),
        use(pod("small"), memory=10 * MI),
        use(pod("large", requests={"memory": "100Mi"}), memory=150 * MI),
    ]
    assert names(rank(uses, "memory")) == ["large", "small", "important", "within"]


def test_disk_counts_layers_logs_and_volumes():
    uses = [
        use(pod("asked", requests={"ephemeral-storage": "1Gi"}), disk=900 * MI),
        use(pod("volume"), disk=10 * MI, volumes={"data": 500 * MI}),
        use(pod("layer"), disk=100 * MI),
    ]
    assert names(rank(uses, "ephemeral-storage")) == ["volume", "layer", "asked"]


def test_processes_rank_by_priority_first():
    uses = [use(pod("a", priority=5), pids=900), use(pod("b"), pids=3), use(pod("c"), pids=8)]
    assert names(rank(uses, "pids")) == ["c", "b", "a"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)), max_size=8), st.randoms())
def test_ranking_is_one_order_whatever_comes_first(rows, random):
    uses = [
        use(pod(f"p{n}", requests={"memory": f"{asked}Mi"}, priority=priority), memory=used * MI)
        for n, (asked, used, priority) in enumerate(rows)
    ]
    ranked = names(rank(uses, "memory"))
    random.shuffle(uses)
    assert names(rank(uses, "memory")) == ranked
    over = [
        item.total("memory") > asked * MI
        for (asked, _, _), item in zip(rows, sorted(uses, key=lambda u: u.pod.metadata.name), strict=True)
    ]
    by_name = {f"p{n}": exceeds for n, exceeds in enumerate(over)}
    flags = [by_name[name] for name in ranked]
    assert flags == sorted(flags, reverse=True)


@pytest.mark.parametrize(
    ("made", "critical"),
    [
        (pod("plain", priority=1_999_999_999), False),
        (pod("system", priority=2_000_000_000), True),
        (pod("static", annotations={"kubernetes.io/config.source": "file"}), True),
        (pod("mirror", annotations={"kubernetes.io/config.mirror": "x"}), True),
    ],
)
def test_critical_pods(made, critical):
    assert is_critical(made) is critical


def test_the_message_is_the_kubelets():
    [threshold] = settings().thresholds()
    text = message(
        threshold, Observation(50 * MI, 4 * GI), use(pod("p", requests={"memory": "10Mi"}), memory=20 * MI)
    )
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 20Mi, request is 10Mi, has larger consumption of memory. "
    )


EMPTY = {"name": "data", "emptyDir": {"sizeLimit": "10Mi"}}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (use(pod("p", volumes=[EMPTY]), volumes={"data": 10 * MI}), ""),
        (
            use(pod("p", volumes=[EMPTY]), volumes={"data": 11 * MI}),
            'Usage of EmptyDir volume "data" exceeds the limit "10Mi". ',
        ),
        (
            use(pod("p", limits={"ephemeral-storage": "5Mi"}), disk=6 * MI),
            "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. ",
        ),
        (use(pod("p", limits={"ephemeral-storage": "5Mi"}), disk=5 * MI), ""),
        (use(pod("p"), disk=500 * GI), ""),
    ],
)
def test_limits_on_local_storage(found, words):
    assert overdrawn(found) == words


def test_a_container_over_its_own_limit():
    tree = {
        "metadata": {"name": "p"},
        "spec": {"containers": [
            {"name": n, "image": "x", "resources": {"limits": {"ephemeral-storage": "5Mi"}}} for n in ("a", "b")
        ]},
    }  # fmt: skip
    found = PodUse(msgspec.convert(tree, core_v1.Pod), {"a": ContainerUse(disk=6 * MI), "b": ContainerUse()})
    assert overdrawn(found) == 'Container a exceeded its local ephemeral storage limit "5Mi". '


def test_space_counts_links_once_and_needs_no_folder(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "gone").symlink_to("nowhere")
    found = space_of(tmp_path)
    assert 100_000 <= found.size < 200_000
    assert found.inodes == 3
    assert space_of(tmp_path / "missing").size == 0


def test_allocatable_is_less_by_what_is_reserved_and_guarded():
    capacity = {"cpu": "4", "memory": "1048576Ki", "ephemeral-storage": "1000000Ki", "pods": "110"}
    found = allocatable_of(
        capacity, [{"cpu": "250m", "memory": "100Mi"}, {"cpu": "250m"}], EvictionSettings().thresholds()
    )
    assert found == {"cpu": "3500m", "memory": "824Mi", "ephemeral-storage": "900000Ki", "pods": "110"}
