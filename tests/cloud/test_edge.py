"""The edge provider's pools: what is chosen, what is refused, in which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.cloud.base import Assigned, BadCloudConfig, Balancer, CloudNode, NothingLeft
from edgekube.cloud.edge import POOL_ANNOTATION, SHARING_ANNOTATION, EdgeCloud, Holding, parse, plan

POOLS = parse(
    {
        "pool.default": "192.0.2.1-192.0.2.2, 192.0.2.9",
        "pool.public": "203.0.113.0/31",
        "pool.both": "198.51.100.7, 2001:db8::/64",
    }
)
NODES = (
    CloudNode(name="b", addresses=("10.0.0.10",)),
    CloudNode(name="a", addresses=("10.0.0.9", "fd00::1")),
)
HTTP = frozenset({("TCP", 80)})


def wish(uid="u", *, wanted="", ports=HTTP, families=("IPv4",), **annotations):
    names = {"pool": POOL_ANNOTATION, "key": SHARING_ANNOTATION}
    return Balancer(
        uid=uid, name=f"default/{uid}", ports=ports, wanted=wanted, families=families,
        annotations={names[name]: value for name, value in annotations.items()},
    )  # fmt: skip


def held(*addresses, ports=HTTP, key=""):
    return Holding("default/other", addresses, ports, key)


@pytest.mark.parametrize(
    ("balancer", "holdings", "address"),
    [
        (wish(), {}, "192.0.2.1"),
        (wish(), {"o": held("192.0.2.1")}, "192.0.2.2"),
        (wish(), {"o": held("192.0.2.1"), "p": held("192.0.2.2")}, "192.0.2.9"),
        (wish(), {"u": held("192.0.2.9")}, "192.0.2.9"),
        (wish(), {"u": held("198.51.100.1")}, "192.0.2.1"),
        (wish(pool="public"), {}, "203.0.113.0"),
        (wish(pool="public"), {"u": held("192.0.2.9")}, "203.0.113.0"),
        (wish(wanted="192.0.2.9"), {"u": held("192.0.2.1")}, "192.0.2.9"),
        (wish(key="k"), {"o": held("192.0.2.1", ports=frozenset({("TCP", 81)}), key="k")}, "192.0.2.1"),
        (wish(key="k"), {"o": held("192.0.2.1", key="k")}, "192.0.2.2"),
        (wish(key="k"), {"o": held("192.0.2.1", ports=frozenset({("TCP", 81)}))}, "192.0.2.2"),
    ],
)
def test_which_address(balancer, holdings, address):
    assert plan(balancer, NODES, POOLS, holdings) == Assigned((address,), announced=True)


@pytest.mark.parametrize(
    ("families", "holdings", "addresses"),
    [
        (("IPv4", "IPv6"), {}, ("198.51.100.7", "2001:db8::1")),
        (("IPv6", "IPv4"), {"o": held("2001:db8::1")}, ("2001:db8::2", "198.51.100.7")),
        (("IPv6",), {"u": held("198.51.100.7", "2001:db8::9")}, ("2001:db8::9",)),
    ],
)
def test_an_address_of_each_family(families, holdings, addresses):
    assert plan(wish(pool="both", families=families), NODES, POOLS, holdings).addresses == addresses


def test_a_family_the_pool_lacks_is_done_without():
    assert plan(wish(families=("IPv4", "IPv6")), NODES, POOLS, {}).addresses == ("192.0.2.1",)


def test_the_wanted_address_and_one_of_the_other_family():
    balancer = wish(pool="both", wanted="2001:db8::5", families=("IPv4", "IPv6"))
    assert plan(balancer, NODES, POOLS, {}).addresses == ("198.51.100.7", "2001:db8::5")


def test_without_pools_the_nodes_addresses_of_both_families():
    balancer = wish(families=("IPv4", "IPv6"))
    assert plan(balancer, NODES, parse({}), {}).addresses == ("10.0.0.9", "10.0.0.10", "fd00::1")


@pytest.mark.parametrize(
    ("balancer", "holdings", "why"),
    [
        (wish(pool="nowhere"), {}, "there is no address pool 'nowhere'"),
        (wish(wanted="192.0.2.5"), {}, "192.0.2.5 is not in address pool 'default'"),
        (wish(wanted="attic"), {}, "attic is not an IP address"),
        (wish(wanted="fd00::1"), {}, "fd00::1 is not in address pool 'default'"),
        (wish(pool="both", wanted="2001:db8::1"), {}, "2001:db8::1 is not IPv4"),
        (wish(families=("IPv6",)), {}, "address pool 'default' has no IPv6 address"),
        (
            wish(pool="both", families=("IPv4", "IPv6")),
            {"o": held("198.51.100.7")},
            "address pool 'both' has no address left",
        ),
        (wish(wanted="192.0.2.1"), {"o": held("192.0.2.1")}, "192.0.2.1 is taken by default/other"),
        (
            wish(pool="public"),
            {"o": held("203.0.113.0", "203.0.113.1")},
            "address pool 'public' has no address left",
        ),
    ],
)
def test_why_there_is_none(balancer, holdings, why):
    with pytest.raises(NothingLeft, match=f"^{why}$"):
        plan(balancer, NODES, POOLS, holdings)


def test_without_pools_the_nodes_own_addresses():
    assert plan(wish(), NODES, parse({}), {}) == Assigned(("10.0.0.9", "10.0.0.10"))
    assert plan(wish(wanted="10.0.0.10"), NODES, parse({}), {}) == Assigned(("10.0.0.10",))
    other = {"o": held("10.0.0.9", "10.0.0.10", ports=frozenset({("TCP", 443)}))}
    assert plan(wish(), NODES, parse({}), other).addresses
    with pytest.raises(NothingLeft, match="port 80/TCP of the nodes is taken by default/other"):
        plan(wish(), NODES, parse({}), {"o": held("10.0.0.9")})


@pytest.mark.parametrize(
    "data",
    [
        {"pool.a": ""}, {"pool.a": "x"}, {"pool.a": "192.0.2.9-192.0.2.1"}, {"pool.a": "10.0.0.0/8"}, {"pool.a": "192.0.2.1/24"},
        {"pools": "192.0.2.1"}, {"zone.z": "1.2.3"},
    ],
)  # fmt: skip
def test_nonsense_is_named(data):
    (name,) = data
    with pytest.raises(BadCloudConfig, match=f"^{name}: "):
        parse(data)


async def test_zones_by_address():
    cloud = EdgeCloud()
    cloud.configure({"zone.attic": "10.0.0.8/31"})
    assert [(await cloud.instance(node)).zone for node in NODES] == ["", "attic"]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from(["", "k"]), st.integers(80, 82)),
        max_size=40,
    )
)
async def test_no_address_and_port_twice(steps):
    cloud = EdgeCloud()
    cloud.configure({"pool.default": "192.0.2.1-192.0.2.3"})
    now = {}
    for add, number, key, port in steps:
        uid = f"u{number}"
        if add:
            try:
                ports = frozenset({("TCP", port)})
                now[uid] = (
                    (await cloud.ensure(wish(uid, ports=ports, key=key), NODES)).addresses[0],
                    port,
                    key,
                )
            except NothingLeft:
                now.pop(uid, None)
        else:
            await cloud.delete(uid)
            now.pop(uid, None)
        claims = [(address, port) for address, port, _ in now.values()]
        assert len(set(claims)) == len(claims)
        for address in {address for address, _, _ in now.values()}:
            keys = [key for there, _, key in now.values() if there == address]
            assert len(keys) == 1 or set(keys) == {"k"}
