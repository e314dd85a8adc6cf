"""NetworkPolicies from the API to a verdict: the well-known recipes, and all others by comparison."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.types import meta_v1, networking_v1
from edgekube.control.policies import PeerQuery
from edgekube.network.policy import Direction, Isolated
from edgekube.proxy.policyplan import block_cidrs, resolve
from proxy.policy_world import SCTP, TCP, UDP, World, address, naive, peers, pod, policy, port, sel, six

OUTSIDE = "203.0.113.9"


def world(*policies):
    """Three namespaces; each pod has a counterpart on the other node."""
    http, dns = port("http", 80), port("dns", 53, "UDP")
    pods = [
        pod("web", "10.244.1.2", ports=[http], app="web"),
        pod("api", "10.244.2.2", node="n2", ports=[port("http", 8080)], app="bookstore", role="api"),
        pod("search", "10.244.1.3", app="bookstore", role="search"),
        pod("db", "10.244.1.4", ports=[port("db", 5432)], app="bookstore", role="db"),
        pod("tool", "10.244.2.3", node="n2", run="tool"),
        pod("web", "10.244.1.5", namespace="prod", app="web"),
        pod("monitor", "10.244.2.4", namespace="prod", node="n2", type="monitoring"),
        pod("dns", "10.244.2.5", namespace="kube-system", node="n2", ports=[dns], app="dns"),
        pod("host", "10.50.0.2", namespace="prod", node="n2", host=True, type="monitoring"),
    ]
    namespaces = {
        "default": {"purpose": "testing"},
        "prod": {"purpose": "production", "team": "operations"},
        "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
    }
    return World(pods, namespaces, list(policies))


DENY_OUT = {"podSelector": sel(app="web"), "policyTypes": ["Egress"]}
DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
EVERYWHERE = {"namespaceSelector": {}}
# What: policies; who reaches whom (at port 80 by TCP unless said), and who does not.
RECIPES = {
    "deny all traffic to an application": (
        [policy(podSelector=sel(app="web"), ingress=[])],
        ["web tool", "tool api", f"web {OUTSIDE}", "tool prod/web", "web web"],
        ["tool web", "search web", "prod/monitor web", f"{OUTSIDE} web", "tool web udp 80", "tool web icmp"],
    ),
    "limit traffic to an application": (
        [
            policy(
                podSelector=sel(app="bookstore", role="api"),
                ingress=peers({"podSelector": sel(app="bookstore")}),
            )
        ],
        ["search api", "db api", "tool search"],
        ["tool api", "prod/web api", f"{OUTSIDE} api"],
    ),
    "allow all traffic to an application, whatever else denies it": (
        [policy("deny", ingress=[]), policy("allow", podSelector=sel(app="web"), ingress=[{}])],
        ["tool web", f"{OUTSIDE} web", "prod/web web", "tool web udp 99", "tool web icmp"],
        ["tool api", "web api"],
    ),
    "deny all non-whitelisted traffic in a namespace": (
        [policy(ingress=[])],
        ["tool prod/web", "web prod/monitor", f"db {OUTSIDE}"],
        ["tool web", "web tool", "api db", "prod/web web"],
    ),
    "deny all traffic from other namespaces": (
        [policy(ingress=peers({"podSelector": {}}))],
        ["tool web", "api db", "web prod/web"],
        ["prod/web web", "prod/monitor tool", f"{OUTSIDE} web"],
    ),
    "allow traffic to an application from all namespaces": (
        [policy("deny", ingress=[]), policy("allow", podSelector=sel(app="web"), ingress=peers(EVERYWHERE))],
        ["tool web", "prod/web web", "kube-system/dns web"],
        [f"{OUTSIDE} web", "tool api"],
    ),
    "allow all traffic from a namespace": (
        [policy(podSelector=sel(app="web"), ingress=peers({"namespaceSelector": sel(purpose="production")}))],
        ["prod/web web", "prod/monitor web"],
        ["tool web", "kube-system/dns web", f"{OUTSIDE} web", "prod/host web"],
    ),
    "allow traffic from some pods in another namespace": (
        [
            policy(
                podSelector=sel(app="web"),
                ingress=peers(
                    {"namespaceSelector": sel(team="operations"), "podSelector": sel(type="monitoring")}
                ),
            )
        ],
        ["prod/monitor web"],
        ["prod/web web", "tool web", "prod/host web"],
    ),
    "namespace or pods: two entries of a list are alternatives": (
        [
            policy(
                podSelector=sel(app="web"),
                ingress=peers({"namespaceSelector": sel(team="operations")}, {"podSelector": sel(role="db")}),
            )
        ],
        ["prod/monitor web", "prod/web web", "db web"],
        ["tool web", "kube-system/dns web"],
    ),
    "allow traffic from external clients": (
        [policy("deny", ingress=[]), policy("allow", podSelector=sel(app="web"), ingress=[{"from": []}])],
        [f"{OUTSIDE} web", "tool web"],
        [f"{OUTSIDE} api"],
    ),
    "allow traffic only to a port of an application": (
        [
            policy(
                podSelector=sel(app="web"),
                ingress=[{"ports": [{"port": 5000}], "from": [{"podSelector": sel(role="db")}]}],
            )
        ],
        ["db web tcp 5000"],
        ["db web", "db web udp 5000", "db web icmp", "tool web tcp 5000"],
    ),
    "allow traffic from apps using multiple selectors": (
        [
            policy(
                podSelector=sel(app="bookstore", role="db"),
                ingress=peers(
                    {"podSelector": sel(app="bookstore", role="search")},
                    {"podSelector": sel(app="bookstore", role="api")},
                ),
            )
        ],
        ["search db", "api db"],
        ["tool db", "web db"],
    ),
    "deny egress traffic from an application": (
        [policy(**DENY_OUT)],
        ["tool web", "tool api", "web web"],
        ["web tool", f"web {OUTSIDE}", "web api udp 53", "web kube-system/dns udp 53"],
    ),
    "deny egress but for DNS": (
        [policy(**DENY_OUT, egress=[DNS])],
        ["web kube-system/dns udp 53", f"web {OUTSIDE} tcp 53"],
        ["web tool", "web kube-system/dns udp 54", "web kube-system/dns sctp 53"],
    ),
    "deny all egress in a namespace": (
        [policy(policyTypes=["Egress"])],
        ["prod/web web", "prod/web prod/monitor"],
        ["web tool", "api db", f"tool {OUTSIDE}"],
    ),
    "limit egress to the cluster": (
        [policy(podSelector=sel(app="web"), policyTypes=["Egress"], egress=[{"to": [EVERYWHERE]}])],
        ["web tool", "web prod/monitor", "web kube-system/dns udp 53"],
        [f"web {OUTSIDE}"],
    ),
    "deny egress outside but for a range with exceptions": (
        [
            policy(
                podSelector=sel(app="web"),
                egress=[{"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}}]}],
                policyTypes=["Egress"],
            )
        ],
        [f"web {OUTSIDE}", "web 203.0.113.127"],
        ["web 203.0.113.128", "web 203.0.113.255", "web 203.0.114.1", "web tool"],
    ),
    "two blocks: the exception of one is in the other": (
        [
            policy(
                podSelector=sel(app="web"),
                ingress=peers(
                    {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.0/28"]}},
                    {"ipBlock": {"cidr": "203.0.113.9/32"}},
                ),
            )
        ],
        [f"{OUTSIDE} web", "203.0.113.77 web"],
        ["203.0.113.8 web", "tool web"],
    ),
    "a block of IPv6 addresses lets no IPv4 address through": (
        [policy(podSelector=sel(app="web"), ingress=peers({"ipBlock": {"cidr": "::/0"}}))],
        [],
        [f"{OUTSIDE} web", "tool web"],
    ),
    "a range of ports": (
        [policy(podSelector=sel(app="web"), ingress=[{"ports": [{"port": 8000, "endPort": 8010}]}])],
        ["tool web tcp 8000", "tool web tcp 8010"],
        ["tool web tcp 7999", "tool web tcp 8011", "tool web udp 8000"],
    ),
    "a protocol and no port": (
        [policy(podSelector=sel(app="web"), ingress=[{"ports": [{"protocol": "SCTP"}]}])],
        ["tool web sctp 7"],
        ["tool web tcp 7", "tool web icmp"],
    ),
    "a named port of the pods that are selected": (
        [policy(ingress=[{"ports": [{"port": "http"}]}])],
        ["tool web tcp 80", "tool api tcp 8080"],
        ["tool web tcp 8080", "tool api tcp 80", "tool db tcp 80", "tool web udp 80"],
    ),
    "a named port of the pods that are peers": (
        [policy(podSelector=sel(app="web"), policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])],
        ["web api tcp 8080"],
        ["web api tcp 80", "web tool tcp 8080", f"web {OUTSIDE} tcp 8080"],
    ),
    "named and numbered ports of some peers": (
        [
            policy(
                podSelector=sel(app="web"),
                policyTypes=["Egress"],
                egress=[
                    {
                        "to": [
                            {"podSelector": sel(app="bookstore")},
                            {"ipBlock": {"cidr": "203.0.113.0/24"}},
                        ],
                        "ports": [{"port": "http"}, {"port": 9}],
                    }
                ],
            )
        ],
        ["web api tcp 8080", "web db tcp 9", f"web {OUTSIDE} tcp 9"],
        ["web tool tcp 9", f"web {OUTSIDE} tcp 8080", "web db tcp 8080"],
    ),
    "selectors by expressions": (
        [
            policy(
                podSelector={
                    "matchExpressions": [{"key": "role", "operator": "In", "values": ["api", "db"]}]
                },
                ingress=peers(
                    {"podSelector": {"matchExpressions": [{"key": "role", "operator": "DoesNotExist"}]}},
                    {
                        "namespaceSelector": {
                            "matchExpressions": [
                                {
                                    "key": "kubernetes.io/metadata.name",
                                    "operator": "In",
                                    "values": ["kube-system"],
                                }
                            ]
                        }
                    },
                ),
            )
        ],
        ["web db", "tool api", "kube-system/dns db", "db search"],
        ["search db", "prod/web api"],
    ),
    "both ends have to agree": (
        [
            policy("in", podSelector=sel(role="db"), ingress=peers({"podSelector": sel(role="search")})),
            policy("out", podSelector=sel(role="search"), policyTypes=["Egress"], egress=[]),
        ],
        ["tool search"],
        ["search db", "api db", "search api"],
    ),
    "an empty rule means everything, no rule nothing": (
        [
            policy(
                "in", podSelector=sel(app="web"), ingress=[{}], egress=[], policyTypes=["Ingress", "Egress"]
            ),
        ],
        ["tool web", f"{OUTSIDE} web"],
        ["web tool", f"web {OUTSIDE}"],
    ),
    "a policy of another namespace does not matter": (
        [policy(namespace="prod", ingress=[])],
        ["tool web", "prod/web web"],
        ["tool prod/web", "prod/monitor prod/web"],
    ),
}
PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": None}


def question(made, words):
    source, target, *rest = words.split()
    protocol = PROTOCOLS[rest[0]] if rest else TCP
    number = int(rest[1]) if len(rest) > 1 else 80
    return address(made, source), address(made, target), protocol, number


@pytest.mark.parametrize("name", RECIPES)
async def test_recipe(name):
    policies, allowed, denied = RECIPES[name]
    made = world(*policies)
    judges = await made.judges()
    for words, expected in [(w, True) for w in allowed] + [(w, False) for w in denied]:
        asked = question(made, words)
        assert naive(made, *asked) == expected, words
        assert all(judge.allows(*asked) for judge in judges) == expected, words
        if OUTSIDE not in words:
            asked = (six(asked[0]), six(asked[1]), *asked[2:])
            assert all(judge.allows(*asked) for judge in judges) == naive(made, *asked), words


# --- All others: the judge over resolved rules says what the documentation says

LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2)
EXPRESSION = st.fixed_dictionaries({
    "key": st.sampled_from("ab"), "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(st.sampled_from("12"), min_size=1),
}) | st.fixed_dictionaries({"key": st.sampled_from("ab"), "operator": st.sampled_from(["Exists", "DoesNotExist"])})  # fmt: skip
SELECTOR = st.just({}) | st.fixed_dictionaries({"matchLabels": LABELS}) | st.fixed_dictionaries(
    {"matchExpressions": st.lists(EXPRESSION, max_size=1)}, optional={"matchLabels": LABELS}
)  # fmt: skip
BLOCK = st.sampled_from([
    {"cidr": "0.0.0.0/0"}, {"cidr": "10.244.1.0/24", "except": ["10.244.1.2/32", "10.244.1.4/31"]},
    {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "203.0.113.0/29"]}, {"cidr": "203.0.113.9/32"}, {"cidr": "::/0", "except": ["fd00:244::10:244:1:2/127"]},
])  # fmt: skip
PEER = st.fixed_dictionaries({"ipBlock": BLOCK}) | st.fixed_dictionaries(
    {"podSelector": SELECTOR}, optional={"namespaceSelector": SELECTOR}
) | st.fixed_dictionaries({"namespaceSelector": SELECTOR})  # fmt: skip
NUMBERED = st.fixed_dictionaries(
    {"protocol": st.sampled_from(["TCP", "UDP", "SCTP"])}, optional={"port": st.sampled_from([80, 81, 8080])}
) | st.just({"protocol": "TCP", "port": 80, "endPort": 90})  # fmt: skip
PORT = NUMBERED | st.fixed_dictionaries(
    {"protocol": st.sampled_from(["TCP", "UDP"]), "port": st.sampled_from(["http", "dns"])}
)


def rules(key):
    said = st.fixed_dictionaries({key: st.lists(PEER, min_size=1, max_size=2)})
    any_port = st.fixed_dictionaries({"ports": st.lists(PORT, min_size=1, max_size=2)})
    both = st.builds(lambda a, b: {**a, **b}, said, any_port)
    return st.lists(said | any_port | both | st.just({}), min_size=0, max_size=2)


SPEC = st.one_of(
    st.fixed_dictionaries(
        {"podSelector": SELECTOR, "ingress": rules("from"), "policyTypes": st.just(["Ingress"])}
    ),
    st.fixed_dictionaries(
        {"podSelector": SELECTOR, "egress": rules("to"), "policyTypes": st.just(["Egress"])}
    ),
    st.fixed_dictionaries(
        {"podSelector": SELECTOR, "ingress": rules("from"), "egress": rules("to")},
        optional={"policyTypes": st.just(["Ingress", "Egress"])},
    ),
)
NAMED = [port("http", 80), port("http", 8080), port("dns", 80, "UDP"), port("dns", 8080, "TCP")]
PODS = st.tuples(
    LABELS, st.sampled_from("xy"), st.sampled_from(["n1", "n2"]), st.sets(st.sampled_from(range(4)))
)


@st.composite
def worlds(draw):
    pods = []
    for number, (labels, namespace, node, ports) in enumerate(draw(st.lists(PODS, min_size=2, max_size=5))):
        taken = {NAMED[index].name: NAMED[index] for index in ports}
        name = f"p{number}"
        pods.append(
            pod(
                name, f"10.244.1.{number + 2}", namespace=namespace, node=node, ports=taken.values(), **labels
            )
        )
    policies = [
        policy(f"policy-{number}", namespace, **spec)
        for number, (namespace, spec) in enumerate(
            draw(st.lists(st.tuples(st.sampled_from("xy"), SPEC), min_size=1, max_size=3))
        )
    ]
    return World(pods, {name: draw(LABELS) for name in "xy"}, policies)


PROBES = ((TCP, 80), (TCP, 8080), (UDP, 80), (UDP, 8080), (SCTP, 81), (None, 0))


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_the_resolved_rules_mean_what_the_policies_say(made):
    judges = asyncio.run(made.judges())
    ends = [item.status.pod_ip for item in made.pods] + [OUTSIDE, "203.0.113.1"]
    others = [six(item.status.pod_ip) for item in made.pods] + ["2001:db8::1"]
    for source in ends + others:
        for target in others if source in others else ends:
            for transport, number in PROBES:
                asked = (source, target, transport, number)
                assert all(judge.allows(*asked) for judge in judges) == naive(made, *asked), asked


@pytest.mark.parametrize(
    ("cidr", "holes", "left"),
    [
        ("10.0.0.0/8", [], ["10.0.0.0/8"]),
        ("10.0.0.0/30", ["10.0.0.0/31"], ["10.0.0.2/31"]),
        ("10.0.0.0/30", ["10.0.0.1/32", "10.0.0.2/32"], ["10.0.0.0/32", "10.0.0.3/32"]),
        ("10.0.0.0/30", ["10.0.0.0/31", "10.0.0.2/31"], []),
        ("10.0.0.9/24", ["10.0.0.200/25"], ["10.0.0.0/25"]),
        ("::/0", [], ["::/0"]),
        ("fd00::/126", ["fd00::/127", "10.0.0.0/8"], ["fd00::2/127"]),
    ],
)
def test_what_is_left_of_a_block(cidr, holes, left):
    block = networking_v1.IPBlock(cidr=cidr, except_=tuple(holes))
    assert list(block_cidrs(block)) == left


def test_only_isolated_pods_of_this_node_are_programmed():
    made = world(policy(podSelector=sel(app="web"), ingress=[]), policy("b", "prod", ingress=[]))
    assert set(resolve(made.knowledge()).isolated) == {
        Isolated(Direction.INGRESS, address)
        for four in ("10.244.1.2", "10.244.1.5")
        for address in (four, six(four))
    }
    assert not resolve(world().knowledge())


def test_own_pods_are_answered_for_by_the_node_itself():
    """The master may be behind, or away: what it says of our pods is not asked."""
    made = world(policy(podSelector=sel(app="web"), ingress=peers({"podSelector": sel(role="search")})))
    known = made.knowledge()
    moved = {**known.addresses, "default-search": ("10.244.1.99",)}
    found = resolve(
        type(known)(**{name: getattr(known, name) for name in known.__slots__} | {"addresses": moved})
    )
    assert list(found.addresses.values()) == [frozenset({"10.244.1.99"})]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (PeerQuery(namespace="a"), "pods all in a"),
        (
            PeerQuery(
                namespaces=meta_v1.LabelSelector(match_labels={"team": "x", "b": "c"}),
                port="http",
                protocol="TCP",
            ),
            "tcp port http of pods all in namespaces b=c,team=x",
        ),
        (
            PeerQuery(
                namespace="a",
                pods=meta_v1.LabelSelector(
                    match_expressions=(
                        meta_v1.LabelSelectorRequirement(key="role", operator="In", values=("api", "db")),
                        meta_v1.LabelSelectorRequirement(key="old", operator="DoesNotExist"),
                    )
                ),
            ),
            "pods role In (api db),old DoesNotExist in a",
        ),
    ],
)
def test_queries_can_be_read(query, said):
    assert str(query) == said
