"""The rules a node needs, as a function of Services and EndpointSlices."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.network.base import ANY, ANY6, Backend, Forwarding, Frontend, Transport
from edgekube.proxy.plan import Here, Wishes, difference, plan_service

TCP, UDP = Transport.TCP, Transport.UDP
HERE = Here("here")


def service(**spec) -> core_v1.Service:
    given = {"cluster_ip": "10.96.0.1", "ports": (core_v1.ServicePort(name="http", port=80),), **spec}
    return core_v1.Service(
        metadata=meta_v1.ObjectMeta(namespace="a", name="web"), spec=core_v1.ServiceSpec(**given)
    )


def endpoint(address: str, *, node: str = "there", **conditions) -> discovery_v1.Endpoint:
    said = discovery_v1.EndpointConditions(**conditions) if conditions else None
    return discovery_v1.Endpoint(addresses=(address,), node_name=node, conditions=said)


def slices(*endpoints: discovery_v1.Endpoint, port: int = 8080, name: str = "http", **more):
    ports = (discovery_v1.EndpointPort(name=name, port=port, **more),)
    return (discovery_v1.EndpointSlice(address_type="IPv4", endpoints=endpoints, ports=ports),)


CLUSTER = Frontend("10.96.0.1", TCP, 80)


def backends(*arguments, **spec):
    return plan_service(service(**spec), *arguments, HERE)[CLUSTER].backends


def test_a_cluster_ip_leads_to_the_ready_endpoints():
    found = plan_service(service(), slices(endpoint("10.244.2.5"), endpoint("10.244.1.9", node="here")), HERE)
    both = (Backend("10.244.1.9", 8080, local=True), Backend("10.244.2.5", 8080))
    assert found == {CLUSTER: Forwarding("a/web:http", both)}


def test_endpoints_not_ready_get_nothing():
    given = slices(endpoint("10.244.2.5", ready=False, serving=False), endpoint("10.244.2.6", ready=True))
    assert backends(given) == (Backend("10.244.2.6", 8080),)
    assert backends(slices(endpoint("10.244.2.5", ready=False))) == ()


def test_ending_endpoints_serve_while_there_is_no_other():
    ending = endpoint("10.244.2.5", ready=False, serving=True, terminating=True)
    ended = endpoint("10.244.2.7", ready=False, serving=False, terminating=True)
    assert backends(slices(ending, ended)) == (Backend("10.244.2.5", 8080),)
    assert backends(slices(ending, endpoint("10.244.2.6"))) == (Backend("10.244.2.6", 8080),)


def test_ports_are_found_by_name_and_protocol():
    given = (
        *slices(endpoint("10.244.2.5"), port=1234),
        *slices(endpoint("10.244.2.6"), port=9, name="other"),
    )
    assert backends(given) == (Backend("10.244.2.5", 1234),)
    assert backends(slices(endpoint("10.244.2.5"), protocol="UDP")) == ()


def test_several_slices_are_one_set():
    given = (*slices(endpoint("10.244.2.5")), *slices(endpoint("10.244.2.5"), endpoint("10.244.2.6")))
    assert backends(given) == (Backend("10.244.2.5", 8080), Backend("10.244.2.6", 8080))


def test_services_without_a_cluster_ip_have_no_rules():
    for spec in (
        {"cluster_ip": "None"},
        {"cluster_ip": ""},
        {"type": "ExternalName", "external_name": "example.org"},
    ):
        assert plan_service(service(**spec), slices(endpoint("10.244.2.5")), HERE) == {}


def test_addresses_the_node_answers_itself_are_left_alone():
    here = Here("here", frozenset({"10.96.0.1"}))
    assert plan_service(service(), slices(endpoint("10.244.2.5")), here) == {}


def test_node_ports_and_other_outer_addresses_hide_the_client():
    spec = {
        "type": "LoadBalancer",
        "external_ips": ("192.0.2.7",),
        "ports": (core_v1.ServicePort(name="http", port=80, node_port=30080),),
    }
    made = plan_service(service(**spec), slices(endpoint("10.244.2.5")), HERE)
    assert {frontend for frontend, rule in made.items() if rule.masquerade} == {
        Frontend(ANY, TCP, 30080),
        Frontend("192.0.2.7", TCP, 80),
    }
    assert not made[CLUSTER].masquerade


def test_local_policies_keep_to_this_node():
    given = slices(endpoint("10.244.2.5"), endpoint("10.244.1.9", node="here"))
    near = (Backend("10.244.1.9", 8080, local=True),)
    assert backends(given, internal_traffic_policy="Local") == near
    ports = (core_v1.ServicePort(name="http", port=80, node_port=30080),)
    made = plan_service(service(type="NodePort", ports=ports, external_traffic_policy="Local"), given, HERE)
    assert made[Frontend(ANY, TCP, 30080)] == Forwarding("a/web:http", near, inside=made[CLUSTER].backends)
    assert len(made[CLUSTER].backends) == 2


def test_affinity_has_the_defaults_of_the_api():
    assert plan_service(service(session_affinity="ClientIP"), (), HERE)[CLUSTER].affinity == 10800
    config = core_v1.SessionAffinityConfig(client_ip=core_v1.ClientIPConfig(timeout_seconds=7))
    made = plan_service(service(session_affinity="ClientIP", session_affinity_config=config), (), HERE)
    assert made[CLUSTER].affinity == 7


NEAR, FAR = Backend("10.244.1.9", 8080, local=True), Backend("10.244.2.5", 8080)
ENDING = {"ready": False, "serving": True, "terminating": True}
DEAD = {"ready": False, "serving": False, "terminating": True}
READY = {"ready": True}


@pytest.mark.parametrize(
    ("near", "far", "outside", "inside", "silent"),
    [
        (READY, READY, (NEAR,), (NEAR, FAR), False),
        (READY, None, (NEAR,), (), False),
        (None, READY, (), (FAR,), True),
        # Those that end serve while there is no other on this node, wherever others are (KEP-1669).
        (ENDING, READY, (NEAR,), (FAR,), False),
        (ENDING, ENDING, (NEAR,), (NEAR, FAR), False),
        (DEAD, READY, (), (FAR,), True),
        (None, None, (), (), False),
        (DEAD, DEAD, (), (), False),
    ],
)
def test_external_traffic_kept_on_the_node(near, far, outside, inside, silent):
    given = [endpoint("10.244.1.9", node="here", **near)] if near else []
    given += [endpoint("10.244.2.5", **far)] if far else []
    spec = {
        "type": "LoadBalancer",
        "external_traffic_policy": "Local",
        "external_ips": ("192.0.2.7",),
        "ports": (core_v1.ServicePort(name="http", port=80, node_port=30080),),
    }
    made = plan_service(service(**spec), slices(*given), HERE)
    wish = Forwarding("a/web:http", outside, inside=inside, silent=silent)
    assert made[Frontend(ANY, TCP, 30080)] == made[Frontend("192.0.2.7", TCP, 80)] == wish


@pytest.mark.parametrize(
    ("near", "far", "expected", "silent"),
    [
        (READY, READY, (NEAR,), False),
        (ENDING, READY, (NEAR,), False),
        (None, READY, (), True),
        (None, None, (), False),
    ],
)
def test_internal_traffic_kept_on_the_node(near, far, expected, silent):
    given = [endpoint("10.244.1.9", node="here", **near)] if near else []
    given += [endpoint("10.244.2.5", **far)] if far else []
    made = plan_service(service(internal_traffic_policy="Local"), slices(*given), HERE)
    assert made[CLUSTER] == Forwarding("a/web:http", expected, silent=silent)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ((), ()),
        (("10.0.0.0/8", " 192.0.2.7/32"), ("10.0.0.0/8", "192.0.2.7/32")),
        (("10.0.0.0/9", "10.128.0.0/9", "10.1.2.0/24"), ("10.0.0.0/8",)),
        (("10.0.0.5/8",), ("10.0.0.0/8",)),
        (("0.0.0.0/0", "10.0.0.0/8"), ()),
        (("fd00::/8",), ()),
    ],
)
def test_source_ranges_hold_for_the_balancers_address_only(ranges, expected):
    ingress = (
        core_v1.LoadBalancerIngress(ip="192.0.2.9"),
        core_v1.LoadBalancerIngress(ip="192.0.2.10", ip_mode="Proxy"),
        core_v1.LoadBalancerIngress(hostname="lb.example"),
    )
    spec = {
        "type": "LoadBalancer",
        "load_balancer_source_ranges": ranges,
        "external_ips": ("192.0.2.7",),
        "ports": (core_v1.ServicePort(name="http", port=80, node_port=30080),),
    }
    status = core_v1.ServiceStatus(load_balancer=core_v1.LoadBalancerStatus(ingress=ingress))
    given = msgspec.structs.replace(service(**spec), status=status)
    made = plan_service(given, slices(endpoint("10.244.2.5")), HERE)
    balanced = Frontend("192.0.2.9", TCP, 80)
    assert {frontend: rule.sources for frontend, rule in made.items()} == {
        CLUSTER: (),
        Frontend(ANY, TCP, 30080): (),
        Frontend("192.0.2.7", TCP, 80): (),
        balanced: expected,
    }


@pytest.mark.parametrize(
    ("near", "far", "zone", "expected"),
    [
        # (nodes, zones) that each of the two endpoints is meant for.
        ((["here"], ["z"]), (["there"], ["z"]), "z", (NEAR,)),
        ((["there"], ["z"]), (["there"], ["y"]), "z", (NEAR,)),
        (([], ["y"]), ([], ["z"]), "z", (FAR,)),
        (([], ["y"]), ([], ["y"]), "z", (NEAR, FAR)),
        (([], ["z"]), ([], []), "z", (NEAR, FAR)),
        (([], ["z"]), ([], ["y"]), "", (NEAR, FAR)),
        ((["here"], []), ([], []), "", (NEAR, FAR)),
    ],
)
def test_hints_narrow_the_endpoints(near, far, zone, expected):
    def hinted(given, said):
        nodes, zones = said
        hints = discovery_v1.EndpointHints(
            for_nodes=tuple(discovery_v1.ForNode(name=name) for name in nodes),
            for_zones=tuple(discovery_v1.ForZone(name=name) for name in zones),
        )
        return msgspec.structs.replace(given, hints=hints)

    given = slices(hinted(endpoint("10.244.1.9", node="here"), near), hinted(endpoint("10.244.2.5"), far))
    assert plan_service(service(), given, Here("here", zone=zone))[CLUSTER].backends == expected


def test_hints_of_endpoints_not_ready_do_not_count():
    gone = msgspec.structs.replace(endpoint("10.244.1.9", node="here", **ENDING), hints=None)
    hints = discovery_v1.EndpointHints(for_zones=(discovery_v1.ForZone(name="z"),))
    near = msgspec.structs.replace(endpoint("10.244.2.5"), hints=hints)
    other = msgspec.structs.replace(
        endpoint("10.244.2.6"), hints=discovery_v1.EndpointHints(for_zones=(discovery_v1.ForZone(name="y"),))
    )
    made = plan_service(service(), slices(gone, near, other), Here("here", zone="z"))
    assert made[CLUSTER].backends == (FAR,)


def test_an_annotation_asks_for_chance():
    meta = meta_v1.ObjectMeta(namespace="a", name="web", annotations={"edgekube.io/balance": "random"})
    given = msgspec.structs.replace(service(), metadata=meta)
    assert plan_service(given, (), HERE)[CLUSTER].random
    assert not plan_service(service(), (), HERE)[CLUSTER].random


@pytest.mark.parametrize("transport", list(Transport))
def test_every_transport_has_frontends(transport):
    ports = (core_v1.ServicePort(name="http", port=80, protocol=transport.name, node_port=30080),)
    given = slices(endpoint("10.244.2.5"), protocol=transport.name)
    made = plan_service(service(type="NodePort", ports=ports), given, HERE)
    assert set(made) == {Frontend("10.96.0.1", transport, 80), Frontend(ANY, transport, 30080)}


FRONTENDS = st.sampled_from([Frontend(f"10.96.0.{number}", TCP, 80) for number in range(4)])
RULES = st.builds(
    Forwarding,
    st.just("x"),
    st.lists(st.builds(Backend, st.sampled_from("abc"), st.just(1)), max_size=2).map(tuple),
)
STEPS = st.lists(
    st.tuples(st.sampled_from("pqr"), st.dictionaries(FRONTENDS, RULES, max_size=3)), max_size=12
)


@given(STEPS)
def test_changes_lead_where_a_rebuild_would(steps):
    wishes, programmed, current = Wishes(), {}, {}
    for name, rules in steps:
        touched = wishes.put(Key("ns", name), rules)
        change = difference(programmed, wishes, touched)
        assert not set(change.put) & set(change.drop)
        for frontend in change.drop:
            del programmed[frontend]
        programmed |= change.put
        current[name] = rules
        # The first by name wins a frontend.
        expected = {}
        for other in sorted(current):
            expected = {**current[other], **expected}
        assert programmed == expected == wishes.all()
    for name in "pqr":
        wishes.put(Key("ns", name), {})
    assert wishes.all() == {}
    assert not wishes.services()


CONDITIONS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([True, False, None]) for name in ("ready", "serving", "terminating")}
)


@given(st.lists(CONDITIONS, max_size=6))
def test_packets_go_to_the_best_endpoints_there_are(states):
    named = [(f"10.244.2.{number}", state) for number, state in enumerate(states)]
    given_endpoints = [endpoint(address, **state) for address, state in named]
    chosen = {backend.address for backend in backends(slices(*given_endpoints))}
    ready = {address for address, state in named if state.get("ready") is not False}
    ending = {address for address, state in named if state.get("serving") and state.get("terminating")}
    assert chosen == (ready or ending)


def slices6(*endpoints: discovery_v1.Endpoint, port: int = 8080):
    return tuple(msgspec.structs.replace(item, address_type="IPv6") for item in slices(*endpoints, port=port))


SIX = Frontend("fd00:96::1", TCP, 80)
DUAL = {"cluster_ip": "10.96.0.1", "cluster_ips": ("10.96.0.1", "fd00:96::1")}


def test_each_family_of_a_service_has_its_own_endpoints():
    both = (*slices(endpoint("10.244.2.5")), *slices6(endpoint("fd00:2::5"), endpoint("FD00:2::0006")))
    made = plan_service(service(**DUAL), both, HERE)
    assert made == {
        CLUSTER: Forwarding("a/web:http", (Backend("10.244.2.5", 8080),)),
        SIX: Forwarding("a/web:http", (Backend("fd00:2::5", 8080), Backend("fd00:2::6", 8080))),
    }
    # One of the two has no endpoints: it refuses, the other serves.
    assert plan_service(service(**DUAL), slices6(endpoint("fd00:2::5")), HERE)[CLUSTER].backends == ()


def test_a_service_of_one_family_has_no_rules_of_the_other():
    both = (*slices(endpoint("10.244.2.5")), *slices6(endpoint("fd00:2::5")))
    outer = {"type": "LoadBalancer", "external_ips": ("192.0.2.7", "2001:db8::7")}
    ports = (core_v1.ServicePort(name="http", port=80, node_port=30080),)
    four = plan_service(service(ports=ports, **outer), both, HERE)
    assert set(four) == {CLUSTER, Frontend(ANY, TCP, 30080), Frontend("192.0.2.7", TCP, 80)}
    only = {"cluster_ip": "fd00:96::1", "cluster_ips": ("fd00:96::1",)}
    six = plan_service(service(ports=ports, **outer, **only), both, HERE)
    assert set(six) == {SIX, Frontend(ANY6, TCP, 30080), Frontend("2001:db8::7", TCP, 80)}
    assert {backend.address for rule in six.values() for backend in rule.backends} == {"fd00:2::5"}


def test_node_ports_and_balanced_addresses_are_per_family():
    given = service(
        **DUAL,
        type="LoadBalancer",
        ports=(core_v1.ServicePort(name="http", port=80, node_port=30080),),
        external_traffic_policy="Local",
        load_balancer_source_ranges=("192.0.2.0/24", " 2001:db8::/64", "2001:db8:0:1::/64"),
    )
    ingress = tuple(core_v1.LoadBalancerIngress(ip=ip) for ip in ("192.0.2.7", "2001:db8::7"))
    status = core_v1.ServiceStatus(load_balancer=core_v1.LoadBalancerStatus(ingress=ingress))
    both = (
        *slices(endpoint("10.244.1.5", node="here")),
        *slices6(endpoint("fd00:1::5", node="here"), endpoint("fd00:2::5")),
    )
    made = plan_service(msgspec.structs.replace(given, status=status), both, HERE)
    four, six = made[Frontend(ANY, TCP, 30080)], made[Frontend(ANY6, TCP, 30080)]
    assert (four.backends, four.inside) == ((Backend("10.244.1.5", 8080, local=True),), ())
    assert six.backends == (Backend("fd00:1::5", 8080, local=True),)
    assert len(six.inside) == 2
    assert made[Frontend("192.0.2.7", TCP, 80)].sources == ("192.0.2.0/24",)
    assert made[Frontend("2001:db8::7", TCP, 80)].sources == ("2001:db8::/63",)


def test_slices_of_names_are_nobodys():
    named = msgspec.structs.replace(slices(endpoint("example.org"))[0], address_type="FQDN")
    assert plan_service(service(), (named,), HERE)[CLUSTER].backends == ()
