"""The decision: every filter refuses in kube-scheduler's words, every score prefers what it should."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.types import core_v1, meta_v1
from edgekube.scheduler.decide import Placement, Unfit, decide
from edgekube.scheduler.infos import pod_info, requested
from edgekube.scheduler.plugins import Plugins, installed

PLUGINS = Plugins()


def place(pod, cache):
    found = decide(pod, cache.snapshot(), PLUGINS)
    return found.node if isinstance(found, Placement) else found


def reasons(pod, cache):
    found = decide(pod, cache.snapshot(), PLUGINS)
    assert isinstance(found, Unfit)
    return str(found).split(". preemption")[0].split(": ", 1)[1]


def web(**labels):
    return meta_v1.LabelSelector(match_labels=labels or {"app": "web"})


def required(*terms):
    selector = core_v1.NodeSelector(node_selector_terms=terms)
    node = core_v1.NodeAffinity(required_during_scheduling_ignored_during_execution=selector)
    return core_v1.Affinity(node_affinity=node)


def wants(key, operator, *values):
    return core_v1.NodeSelectorTerm(
        match_expressions=(core_v1.NodeSelectorRequirement(key=key, operator=operator, values=values),)
    )


def pods_rule(kind, key="kubernetes.io/hostname", **term):
    rule = core_v1.PodAffinityTerm(topology_key=key, label_selector=web(), **term)
    cls = {"pod_affinity": core_v1.PodAffinity, "pod_anti_affinity": core_v1.PodAntiAffinity}[kind]
    return core_v1.Affinity(**{kind: cls(required_during_scheduling_ignored_during_execution=(rule,))})


def port(number, address=""):
    return core_v1.ContainerPort(container_port=80, host_port=number, host_ip=address)


def taint(key="gpu", value="no", effect="NoSchedule"):
    return core_v1.Taint(key=key, value=value, effect=effect)


refusals = [
    ({"requests": {"cpu": "5"}}, {}, "1 Insufficient cpu"),
    ({"requests": {"cpu": "5", "memory": "1Ti"}}, {}, "1 Insufficient cpu, 1 Insufficient memory"),
    ({"requests": {"edgekube.io/camera": "1"}}, {}, "1 Insufficient edgekube.io/camera"),
    (
        {"requests": {"ephemeral-storage": "2Gi"}},
        {"ephemeral-storage": "1Gi"},
        "1 Insufficient ephemeral-storage",
    ),
    ({}, {"pods": "0"}, "1 Too many pods"),
    ({}, {"unschedulable": True}, "1 node(s) were unschedulable"),
    ({}, {"taints": (taint(),)}, "1 node(s) had untolerated taint {gpu: no}"),
    ({"node_selector": {"disk": "ssd"}}, {}, "1 node(s) didn't match Pod's node affinity/selector"),
    (
        {"affinity": required(wants("disk", "Exists"))},
        {},
        "1 node(s) didn't match Pod's node affinity/selector",
    ),
    (
        {"affinity": required(core_v1.NodeSelectorTerm())},
        {},
        "1 node(s) didn't match Pod's node affinity/selector",
    ),
    (
        {"affinity": pods_rule("pod_affinity"), "labels": {"app": "x"}},
        {},
        "1 node(s) didn't match pod affinity rules",
    ),
    ({"affinity": pods_rule("pod_affinity", "rack")}, {}, "1 node(s) didn't match pod affinity rules"),
]


@pytest.mark.parametrize(("pod", "node", "message"), refusals, ids=[row[2] for row in refusals])
def test_refusals(make, pod, node, message):
    assert reasons(make.info(**pod), make.cache(make.node("n1", **node))) == message


def test_no_nodes_at_all(make):
    assert place(make.info(), make.cache()).message == "no nodes available to schedule pods"


def test_the_message_counts_reasons_over_nodes(make):
    cache = make.cache(make.node("a", cpu="1"), make.node("b", cpu="1"), make.node("c", taints=(taint(),)))
    found = place(make.info(requests={"cpu": "2"}), cache)
    assert str(found) == (
        "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: no}, 2 Insufficient cpu. "
        "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )
    assert found.plugins == {"TaintToleration", "NodeResourcesFit"}


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [("In", ("a", "b"), True), ("In", ("c",), False), ("NotIn", ("a",), False), ("NotIn", ("c",), True),
     ("Exists", (), True), ("DoesNotExist", (), False), ("Gt", ("1",), False)],
)  # fmt: skip
def test_node_affinity_operators(make, operator, values, fits):
    cache = make.cache(make.node("n1", labels={"rack": "a"}))
    found = place(make.info(affinity=required(wants("rack", operator, *values))), cache)
    assert (found == "n1") is fits


def test_node_affinity_compares_numbers_and_names(make):
    cache = make.cache(make.node("n1", labels={"cores": "8"}), make.node("n2", labels={"cores": "10"}))
    assert place(make.info(affinity=required(wants("cores", "Gt", "9"))), cache) == "n2"
    field = core_v1.NodeSelectorRequirement(key="metadata.name", operator="In", values=("n1",))
    term = core_v1.NodeSelectorTerm(match_fields=(field,))
    assert place(make.info(affinity=required(term)), cache) == "n1"


def test_a_toleration_lets_in(make):
    cache = make.cache(make.node("n1", taints=(taint(), taint("x", "", "NoExecute"))))
    every = core_v1.Toleration(operator="Exists")
    exact = core_v1.Toleration(key="gpu", value="no", effect="NoSchedule")
    assert place(make.info(tolerations=(every,)), cache) == "n1"
    assert "{x: }" in place(make.info(tolerations=(exact,)), cache).message


@pytest.mark.parametrize(
    ("used", "wanted", "fits"),
    [(port(80), port(80), False), (port(80), port(81), True), (port(80, "10.0.0.1"), port(80, "10.0.0.2"), True),
     (port(80, "10.0.0.1"), port(80), False), (port(80, "0.0.0.0"), port(80, "10.0.0.1"), False)],
)  # fmt: skip
def test_host_ports(make, used, wanted, fits):
    cache = make.cache(make.node("n1"), pods=[make.pod("there", ports=(used,), node_name="n1")])
    assert (place(make.info(ports=(wanted,)), cache) == "n1") is fits


def test_pod_affinity_goes_where_its_like_is(make):
    cache = make.cache(
        make.node("a", labels={"rack": "1"}), make.node("b", labels={"rack": "2"}),
        pods=[make.pod("db", labels={"app": "web"}, node_name="b")],
    )  # fmt: skip
    assert place(make.info(labels={"app": "x"}, affinity=pods_rule("pod_affinity", "rack")), cache) == "b"


def test_the_first_of_a_group_may_go_anywhere(make):
    cache = make.cache(make.node("a"))
    assert place(make.info(affinity=pods_rule("pod_affinity")), cache) == "a"


def test_anti_affinity_holds_both_ways(make):
    picky = make.pod("picky", affinity=pods_rule("pod_anti_affinity"), node_name="a")
    cache = make.cache(make.node("a"), pods=[picky])
    assert (
        reasons(make.info(affinity=pods_rule("pod_anti_affinity")), cache)
        == "1 node(s) didn't match pod anti-affinity rules"
    )
    assert reasons(make.info(), cache) == "1 node(s) didn't satisfy existing pods anti-affinity rules"
    assert place(make.info(labels={"app": "other"}), cache) == "a"
    assert place(make.info(namespace="elsewhere"), cache) == "a"


def test_namespaces_of_a_term(make):
    cache = make.cache(make.node("a"), pods=[make.pod("there", namespace="shop", node_name="a")])
    cache.namespaces["shop"] = {"team": "x"}
    by_label = pods_rule("pod_anti_affinity", namespace_selector=web(team="x"))
    by_name = pods_rule("pod_anti_affinity", namespaces=("shop",))
    for affinity in (by_label, by_name):
        assert "anti-affinity" in place(make.info(affinity=affinity), cache).message
    assert place(make.info(affinity=pods_rule("pod_anti_affinity")), cache) == "a"


def spread(**fields):
    fields = {
        "max_skew": 1,
        "topology_key": "rack",
        "when_unsatisfiable": "DoNotSchedule",
        "label_selector": web(),
        **fields,
    }
    return (core_v1.TopologySpreadConstraint(**fields),)


def test_topology_spread(make):
    nodes = [
        make.node("a", labels={"rack": "1"}),
        make.node("b", labels={"rack": "2"}),
        make.node("c", labels={"x": "y"}),
    ]
    cache = make.cache(*nodes, pods=[make.pod("there", node_name="a")])
    assert place(make.info(topology_spread_constraints=spread()), cache) == "b"
    only_a = {"rack": "1"}
    cache = make.cache(*nodes, pods=[make.pod("1", node_name="a"), make.pod("2", node_name="b")])
    found = reasons(make.info(topology_spread_constraints=spread(min_domains=3)), cache)
    assert found == (
        "1 node(s) didn't match pod topology spread constraints (missing required label), "
        "2 node(s) didn't match pod topology spread constraints"
    )
    cache = make.cache(*nodes, pods=[make.pod("there", node_name="a")])
    assert place(make.info(node_selector=only_a, topology_spread_constraints=spread()), cache) == "a"


def test_requests_are_those_of_the_hungriest_moment():
    def container(name, cpu, **fields):
        return core_v1.Container(
            name=name, resources=core_v1.ResourceRequirements(requests={"cpu": cpu}), **fields
        )

    spec = core_v1.PodSpec(
        containers=(container("a", "100m"), container("b", "200m")),
        init_containers=(container("side", "50m", restart_policy="Always"), container("init", "600m")),
        overhead={"cpu": "10m"},
    )
    assert requested(spec) == {"cpu": 660}
    light = core_v1.PodSpec(containers=spec.containers, init_containers=(container("init", "250m"),))
    assert requested(light) == {"cpu": 300}


preferences = [
    ("least allocated", {"requests": {"cpu": "1", "memory": "1Gi"}}, {"cpu": "8", "memory": "16Gi"}, {}),
    ("healthy board", {}, {}, {"sick": ("UnderVoltage",)}),
    ("not to be preferred", {}, {}, {"taints": (taint(effect="PreferNoSchedule"),)}),
    (
        "has the image",
        {},
        {"images": (core_v1.ContainerImage(names=("web:1",), size_bytes=900 * 2**20),)},
        {},
    ),
]


@pytest.mark.parametrize(
    ("pod", "better", "worse"), [row[1:] for row in preferences], ids=[row[0] for row in preferences]
)
def test_scores(make, pod, better, worse):
    # The better one has the name that loses a tie.
    assert place(make.info(**pod), make.cache(make.node("a", **better), make.node("z", **worse))) == "a"


def test_preferred_node_affinity(make):
    term = core_v1.PreferredSchedulingTerm(weight=50, preference=wants("disk", "In", "ssd"))
    node = core_v1.NodeAffinity(preferred_during_scheduling_ignored_during_execution=(term,))
    cache = make.cache(make.node("a", labels={"disk": "ssd"}), make.node("z"))
    assert place(make.info(affinity=core_v1.Affinity(node_affinity=node)), cache) == "a"


def test_preferred_anti_affinity(make):
    term = core_v1.PodAffinityTerm(topology_key="kubernetes.io/hostname", label_selector=web())
    weighted = core_v1.WeightedPodAffinityTerm(weight=100, pod_affinity_term=term)
    anti = core_v1.PodAntiAffinity(preferred_during_scheduling_ignored_during_execution=(weighted,))
    there = make.pod("there", requests={"cpu": "1m", "memory": "1Mi"}, node_name="z")
    cache = make.cache(make.node("a", cpu="3", memory="7Gi"), make.node("z"), pods=[there])
    assert place(make.info(affinity=core_v1.Affinity(pod_anti_affinity=anti)), cache) == "a"


def test_pods_of_one_owner_are_spread(make):
    there = make.pod("there", owner="rs", requests={"cpu": "1m", "memory": "1Mi"}, node_name="z")
    cache = make.cache(make.node("a", cpu="3500m", memory="7Gi"), make.node("z"), pods=[there])
    assert place(make.info(owner="rs"), cache) == "a"


def test_only_some_of_very_many_nodes_are_looked_at(make):
    cache = make.cache(*(make.node(f"n{number:03}") for number in range(300)))
    found = decide(make.info(), cache.snapshot(), PLUGINS, start=290)
    assert found.looked == 144


def test_built_in_rows_are_installed():
    assert {row.name for row in PLUGINS.filters} <= {row.name for row in installed().filters}


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=40), nodes=st.integers(1, 4))
def test_no_node_is_ever_overcommitted(make_any, sizes, nodes):
    cache = make_any.cache(*(make_any.node(f"n{n}", cpu="2", pods="8") for n in range(nodes)))
    for size in sizes:
        info = make_any.info(requests={"cpu": f"{size}m"})
        found = decide(info, cache.snapshot(), PLUGINS)
        free = [2000 - node.requested.get("cpu", 0) for node in cache.snapshot().nodes if len(node.pods) < 8]
        assert isinstance(found, Placement) is any(left >= size for left in free)
        if isinstance(found, Placement):
            cache.assume(info, found.node)
    for node in cache.snapshot().nodes:
        assert node.requested.get("cpu", 0) <= 2000
        assert len(node.pods) <= 8


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["assume", "bind", "forget", "drop", "end"]), st.integers(0, 5), st.integers(0, 1)
        )
    )
)
def test_the_cache_sums_are_the_sums_of_its_pods(make_any, script):
    cache = make_any.cache(make_any.node("n0"), make_any.node("n1"))
    pods = [
        make_any.pod(f"p{n}", requests={"cpu": "100m"}, ports=(port(8000 + n),), owner="rs") for n in range(6)
    ]
    for step, number, where in script:
        pod = pods[number]
        bound = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=f"n{where}"))
        ended = msgspec.structs.replace(bound, status=core_v1.PodStatus(phase="Succeeded"))
        match step:
            case "assume":
                cache.assume(pod_info(pod), f"n{where}")
            case "bind":
                cache.set_pod(bound)
            case "forget":
                cache.forget(pod.metadata.uid)
            case "drop":
                cache.drop_pod(pod.metadata.uid)
            case "end":
                cache.set_pod(ended)
    seen = [uid for node in cache.snapshot().nodes for uid in node.pods]
    assert len(seen) == len(set(seen))
    for node in cache.snapshot().nodes:
        assert node.requested.get("cpu", 0) == 100 * len(node.pods)
        assert node.weight[0] == 100 * len(node.pods)
        assert node.ports.total() == node.owners.total() == len(node.pods)


def test_pods_of_a_node_not_seen_yet_count_once_it_is(make):
    cache = make.cache(pods=[make.pod("early", requests={"cpu": "3"}, node_name="n1")])
    cache.set_node(make.node("n1"))
    assert reasons(make.info(requests={"cpu": "2"}), cache) == "1 Insufficient cpu"
    cache.drop_node("n1")
    cache.set_node(make.node("n1"))
    assert reasons(make.info(requests={"cpu": "2"}), cache) == "1 Insufficient cpu"
