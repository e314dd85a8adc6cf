"""What every PolicyRules must do; in the kernel with real packets between three pods and clients outside."""

import asyncio
import random
import re
import socket
from contextlib import closing

import pytest

from contract.netlab import TCP, UDP
from contract.policylab import (
    ADMIN,
    FAR,
    LONG,
    NEAR,
    SCTP,
    SHORT,
    WEB,
    A,
    B,
    C,
    Judge,
    kernel6_of,
    kernel_of,
    six,
)
from edgekube.network import netns
from edgekube.network.base import Forwarding, Frontend, NetworkError
from edgekube.network.nftables.conntrack import forget_pod
from edgekube.network.nftables.policies import NftablesPolicyRules
from edgekube.network.policy import Direction, Grant, Isolated, Place, Policing, Policy, PortRange

IN, OUT = Direction.INGRESS, Direction.EGRESS
ADAPTERS = ["memory", *(pytest.param(name, marks=pytest.mark.root) for name in ("nftables", "nftables-ipv6"))]


@pytest.fixture
async def kernel(namespace, tmp_path):
    async with kernel_of(namespace, tmp_path) as made:
        yield made


@pytest.fixture
async def kernel6(namespace, tmp_path):
    async with kernel6_of(namespace, tmp_path) as made:
        yield made


@pytest.fixture(params=ADAPTERS)
def world(request):
    if request.param == "memory":
        return Judge()
    return request.getfixturevalue("kernel6" if request.param == "nftables-ipv6" else "kernel")


def policing(*grants, who=(A,), direction=IN, **sets):
    """Return one policy about the pods `who`."""
    policy = Policy(direction, "space/policy")
    return Policing(
        isolated={Isolated(direction, address): (policy,) for address in who},
        policies={policy: grants},
        **sets,
    )


async def check(world, allowed=(), denied=()):
    for question in allowed:
        assert await world.reaches(*question), f"{question} should pass"
    answers = await asyncio.gather(*(world.reaches(*question, expected=False) for question in denied))
    assert not any(answers), f"of {denied} these should not pass: {answers}"


class TestPolicyRules:
    async def test_without_policies_everything_passes(self, world):
        await world.rules.replace(Policing())
        await check(world, [(A, B), (NEAR, A), (A, NEAR), (A, B, UDP), (A, B, None)])

    async def test_an_isolated_pod_is_not_reached_and_others_are(self, world):
        await world.rules.replace(policing())
        await check(
            world,
            [(A, B), (A, NEAR), (B, C), (A, A), (NEAR, B)],
            [(B, A), (NEAR, A), (B, A, UDP), (B, A, None), (B, A, SCTP)],
        )

    async def test_a_pod_isolated_outwards_reaches_nobody_and_is_reached(self, world):
        await world.rules.replace(policing(direction=OUT))
        await check(world, [(B, A), (NEAR, A), (B, C)], [(A, B), (A, NEAR), (A, B, UDP), (A, B, None)])

    async def test_peers_of_a_set_pass(self, world):
        await world.rules.replace(policing(Grant(peers=("app",)), addresses={"app": frozenset({B})}))
        await check(world, [(B, A), (B, A, UDP), (B, A, None), (B, A, SCTP)], [(C, A), (NEAR, A)])

    async def test_addresses_in_a_range_pass(self, world):
        await world.rules.replace(policing(Grant(cidrs=("192.0.2.0/25", "10.244.1.4/32"))))
        await check(world, [(NEAR, A), (C, A)], [(FAR, A), (B, A)])

    async def test_outwards_to_a_range(self, world):
        await world.rules.replace(policing(Grant(cidrs=("192.0.2.128/25",)), direction=OUT))
        await check(world, [(A, FAR)], [(A, NEAR), (A, B)])

    async def test_only_some_ports(self, world):
        await world.rules.replace(policing(Grant(anyone=True, ports=(PortRange(TCP, WEB, WEB),))))
        await check(world, [(B, A), (NEAR, A)], [(B, A, TCP, ADMIN), (B, A, UDP), (B, A, None)])

    async def test_a_range_of_ports_includes_both_ends(self, world):
        for first, last, passes in ((8080, 8090, True), (8000, 8080, True), (8081, 9089, False)):
            await world.rules.replace(policing(Grant(anyone=True, ports=(PortRange(UDP, first, last),))))
            question = [(B, A, UDP)]
            await check(world, question if passes else (), [(B, A), *(() if passes else question)])

    async def test_a_protocol_whatever_the_port(self, world):
        grant = Grant(anyone=True, ports=(PortRange(UDP), PortRange(SCTP, 7, 7)))
        await world.rules.replace(policing(grant))
        await check(world, [(B, A, UDP), (B, A, SCTP, 7)], [(B, A), (B, A, SCTP, 8)])

    async def test_named_ports_are_a_matter_of_each_pod(self, world):
        places = {"http": frozenset({Place(A, TCP, ADMIN), Place(B, TCP, WEB)})}
        await world.rules.replace(policing(Grant(anyone=True, places=("http",)), who=(A, B), places=places))
        await check(world, [(C, A, TCP, ADMIN), (C, B, TCP, WEB)], [(C, A, TCP, WEB), (C, B, UDP, WEB)])

    async def test_named_ports_of_peers(self, world):
        places = {"http": frozenset({Place(B, TCP, WEB)})}
        await world.rules.replace(
            policing(Grant(anyone=True, places=("http",)), direction=OUT, places=places)
        )
        await check(world, [(A, B)], [(A, C), (A, B, UDP)])

    async def test_any_grant_and_any_policy_is_enough(self, world):
        first, second = Policy(IN, "a/first"), Policy(IN, "a/second")
        wish = Policing(
            isolated={Isolated(IN, A): (first, second), Isolated(IN, B): (second,)},
            policies={
                first: (Grant(peers=("c",)), Grant(cidrs=(f"{NEAR}/32",))),
                second: (Grant(cidrs=(f"{FAR}/32",)),),
            },
            addresses={"c": frozenset({C})},
        )
        await world.rules.replace(wish)
        await check(world, [(C, A), (NEAR, A), (FAR, A), (FAR, B)], [(B, A), (C, B), (NEAR, B)])

    async def test_both_ends_have_to_agree(self, world):
        inward, outward = Policy(IN, "a/in"), Policy(OUT, "a/out")
        wish = Policing(
            isolated={Isolated(IN, B): (inward,), Isolated(OUT, A): (outward,)},
            policies={inward: (Grant(peers=("a",)),), outward: (Grant(peers=("b",)),)},
            addresses={"a": frozenset({A}), "b": frozenset({B})},
        )
        await world.rules.replace(wish)
        await check(world, [(A, B), (B, A), (C, A)], [(A, C), (C, B)])
        await world.rules.change(
            Policing(**{**_parts(wish), "addresses": {"a": frozenset(), "b": frozenset({B})}})
        )
        await check(world, (), [(A, B)])

    async def test_changes_take_effect_and_leave_nothing_behind(self, world):
        await world.rules.replace(policing())
        await check(world, (), [(B, A)])
        with_set = policing(Grant(peers=("app",)), addresses={"app": frozenset({B})})
        await world.rules.change(with_set)
        await check(world, [(B, A)], [(C, A)])
        await world.rules.change(policing(Grant(peers=("app",)), addresses={"app": frozenset({C})}))
        await check(world, [(C, A)], [(B, A)])
        await world.rules.change(policing(Grant(peers=("app",)), who=(B,), addresses={"app": frozenset({C})}))
        await check(world, [(B, A), (C, B)], [(A, B)])
        await world.rules.change(Policing())
        await check(world, [(A, B)])
        await world.rules.change(with_set)
        await check(world, [(B, A)], [(C, A)])
        await world.rules.clear()
        await check(world, [(C, A)])

    async def test_notices_that_somebody_flushed(self, world):
        await world.rules.replace(policing())
        assert await world.rules.intact()
        if isinstance(world, Judge):
            world.rules.flush()
        else:
            world.node.nft("flush", "ruleset")
        assert not await world.rules.intact()
        with pytest.raises(NetworkError):
            await world.rules.change(policing(Grant(peers=("app",)), addresses={"app": frozenset({B})}))
        await world.rules.replace(policing())
        assert await world.rules.intact()
        await check(world, (), [(B, A)])


def _parts(wish):
    return {name: getattr(wish, name) for name in ("isolated", "policies", "addresses", "places")}


def random_policing(chance):
    """Return anything: some policies of some grants about some pods."""
    addresses = {
        name: frozenset(chance.sample([A, B, C, NEAR], chance.randrange(4))) for name in ("app", "db", "all")
    }
    places = {
        name: frozenset({Place(chance.choice([A, B]), TCP, chance.choice([80, 81]))})
        for name in ("http", "s")
    }

    def grant():
        return Grant(
            anyone=chance.random() < 0.2,
            peers=tuple(sorted(chance.sample(sorted(addresses), chance.randrange(3)))),
            cidrs=("192.0.2.0/25", "198.51.100.0/24")[: chance.randrange(3)],
            ports=tuple(
                chance.sample(
                    [PortRange(TCP, 80, 80), PortRange(UDP, 1, 9), PortRange(SCTP)], chance.randrange(3)
                )
            ),
            places=tuple(sorted(chance.sample(sorted(places), chance.randrange(2)))),
        )

    policies = {
        Policy(way, f"a/p{number}"): tuple(grant() for _ in range(chance.randrange(3)))
        for way in Direction
        for number in range(3)
        if chance.random() < 0.7
    }
    isolated = {}
    for way in Direction:
        known = [policy for policy in policies if policy.direction is way]
        for address in (A, B, C):
            chosen = tuple(chance.sample(known, chance.randrange(len(known) + 1)))
            if chosen:
                isolated[Isolated(way, address)] = chosen
    return Policing(isolated=isolated, policies=policies, addresses=addresses, places=places)


def content(node, table):
    """Return what a table holds, whatever the order it was written in: chains, their rules, sets."""
    listed = node.nft("-s", "list", "tables")
    if f"table ip {table}" not in listed.splitlines():
        return {}
    found = {}
    text = node.nft("-s", "list", "table", "ip", table)
    for kind, name, body in re.findall(
        r"^\t(chain|set|map) (\S+) \{\n(.*?)^\t\}", text, re.MULTILINE | re.DOTALL
    ):
        found[kind, name] = body if kind == "chain" else sorted(body.replace(",", " ").split())
    return found


@pytest.mark.root
class TestNftables:
    async def test_the_node_and_its_pods_reach_each_other_whatever_the_policies(self, kernel):
        kernel.node.servers.start(kernel.node.namespace, "node", address="10.244.1.1", port=7070)
        pods = (A, B, C)
        both = policing(who=pods)
        out = policing(who=pods, direction=OUT)
        await kernel.rules.replace(
            Policing(isolated={**both.isolated, **out.isolated}, policies={**both.policies, **out.policies})
        )
        assert kernel.node.ask(Frontend(A, TCP, WEB)) == ["pod-0 10.244.1.1"]
        assert kernel.node.ask(Frontend("10.244.1.1", TCP, 7070), pod=0) == [f"node {A}"]

    async def test_what_goes_by_a_service_is_judged_by_the_pods_addresses(self, kernel):
        service = Frontend("10.96.7.1", TCP, 80)
        await kernel.node.rules.replace({service: Forwarding("a/web", kernel.node.backends(0))})
        peers = {"b": frozenset({B})}
        await kernel.rules.replace(policing(Grant(peers=("b",)), addresses=peers))
        assert await kernel.reaches(B, "10.96.7.1", TCP, 80)
        assert not await kernel.reaches(C, "10.96.7.1", TCP, 80, expected=False)
        # The pod reaches itself by its service, though nobody else may.
        assert await kernel.reaches(A, "10.96.7.1", TCP, 80)
        out = policing(Grant(peers=("a",)), who=(B, C), direction=OUT, addresses={"a": frozenset({A})})
        await kernel.rules.change(out)
        assert await kernel.reaches(C, "10.96.7.1", TCP, 80)
        await kernel.rules.change(Policing(**{**_parts(out), "addresses": {"a": frozenset({C})}}))
        assert not await kernel.reaches(C, "10.96.7.1", TCP, 80, expected=False)

    async def test_live_connections_survive_changes(self, kernel):
        wish = policing(Grant(peers=("b",)), addresses={"b": frozenset({B})})
        await kernel.rules.replace(wish)
        client = netns.inside(kernel.places[B], lambda: socket.create_connection((A, WEB), timeout=LONG))
        with closing(client):
            await kernel.rules.change(Policing(**{**_parts(wish), "addresses": {"b": frozenset({C})}}))
            await kernel.rules.replace(wish)
            client.send(b"?")
            assert client.recv(100)

    async def test_many_changes_lead_where_writing_anew_leads(self, kernel):
        chance = random.Random(7)
        fresh = NftablesPolicyRules(table="anew")
        try:
            await kernel.rules.replace(Policing())
            for _ in range(25):
                wish = random_policing(chance)
                await kernel.rules.change(wish)
                await fresh.replace(wish)
                assert await kernel.rules.intact()
                found = content(kernel.node, "edgekube-policies")
                assert found == content(kernel.node, "anew")
                assert bool(found) == bool(wish)
        finally:
            fresh.close()

    async def test_a_forged_address_does_not_help(self, kernel):
        await kernel.rules.replace(policing(Grant(peers=("b",)), addresses={"b": frozenset({B})}))
        assert await asyncio.to_thread(kernel.send, B, B, A)
        assert not await asyncio.to_thread(kernel.send, C, B, A)

    async def test_flows_end_with_their_pod(self, kernel):
        """Else the next pod with the address would be reached by them, whatever its policies."""
        await kernel.rules.replace(Policing())
        client = netns.inside(kernel.places[B], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with closing(client):
            client.settimeout(LONG)
            client.connect((A, WEB))
            client.send(b"?")
            assert client.recv(100)
            await kernel.rules.replace(policing())
            client.send(b"?")
            assert client.recv(100)
            forget_pod(A)
            client.settimeout(SHORT)
            client.send(b"?")
            with pytest.raises(TimeoutError):
                client.recv(100)

    async def test_a_detached_pods_flows_are_forgotten(self, kernel):
        assert await kernel.reaches(B, A, UDP)
        assert await kernel.reaches(C, A)
        await kernel.node.network.detach("uid-0")
        assert forget_pod(A) == 0
        assert await kernel.reaches(B, C, UDP)
        assert forget_pod(C) > 0

    async def test_a_peers_change_is_one_element(self, kernel):
        many = frozenset(f"10.244.{high}.{low}" for high in range(4, 8) for low in range(250))
        wish = policing(Grant(peers=("app",)), who=(A, B), addresses={"app": many})
        await kernel.rules.replace(wish)
        for changed, messages in ((many | {B}, 1), ((many | {C}) - {B, "10.244.4.1"}, 2), (many, 2)):
            steps, sent = kernel.rules.kernel.sent_steps, kernel.rules.kernel.sent_bytes
            await kernel.rules.change(policing(Grant(peers=("app",)), who=(A, B), addresses={"app": changed}))
            wanted = messages if changed is not many else 2
            assert kernel.rules.kernel.sent_steps - steps == wanted
            assert kernel.rules.kernel.sent_bytes - sent < 400
        assert await kernel.rules.intact()

    async def test_a_pod_of_a_known_group_is_elements_only(self, kernel):
        await kernel.rules.replace(policing(who=(A,)))
        steps = kernel.rules.kernel.sent_steps
        await kernel.rules.change(policing(who=(A, B)))
        assert kernel.rules.kernel.sent_steps - steps == 2
        await check(kernel, (), [(C, B)])

    async def test_the_rules_can_be_read(self, kernel):
        places = {"space/tcp/http": frozenset({Place(A, TCP, WEB)})}
        grants = (
            Grant(peers=("app",), ports=(PortRange(TCP, 80, 80), PortRange(UDP, 100, 200), PortRange(SCTP))),
            Grant(cidrs=("192.0.2.0/25", "198.51.100.0/24"), places=("space/tcp/http",)),
        )
        titles = {"app": "pods app=app in space"}
        wish = policing(*grants, addresses={"app": frozenset({B, C})}, places=places, titles=titles)
        await kernel.rules.replace(wish)
        listed = kernel.node.nft("list", "table", "ip", "edgekube-policies")
        for expected in (
            'comment "edgekube: network policies"',
            'ct state established,related accept comment "answers"',
            "ip daddr vmap @isolated-ingress",
            "ip saddr @peers-app tcp dport 80 counter",
            "ip saddr @peers-app udp dport 100-200 counter",
            "ip saddr @peers-app meta l4proto sctp counter",
            'accept comment "pods app=app in space"',
            "ip saddr { 192.0.2.0/25, 198.51.100.0/24 } ip daddr . meta l4proto . th dport @ports-space/tcp/http",
            'drop comment "not let through by space/policy"',
        ):
            assert expected in listed, listed
        kernel.node.nft("-c", "-f", "-", given="flush ruleset\n" + kernel.node.nft("list", "ruleset"))

    async def test_long_names_fit(self, kernel):
        policy = Policy(IN, "n" * 63 + "/" + "p" * 253)
        wish = Policing(isolated={Isolated(IN, A): (policy,)}, policies={policy: ()})
        await kernel.rules.replace(wish)
        assert await kernel.rules.intact()

    async def test_an_error_changes_nothing(self, kernel):
        wish = policing(Grant(peers=("app",)), addresses={"app": frozenset({B})})
        await kernel.rules.replace(wish)
        kernel.node.nft("delete", "element", "ip", "edgekube-policies", "peers-app", "{ 10.244.1.3 }")
        assert not await kernel.rules.intact()
        with pytest.raises(NetworkError, match="elements of peers-app"):
            await kernel.rules.change(policing(Grant(peers=("app",)), addresses={"app": frozenset({C})}))
        await check(kernel, (), [(B, A), (C, A)])

    async def test_other_tables_do_not_matter(self, kernel):
        await kernel.rules.replace(policing())
        assert await kernel.rules.intact()
        kernel.node.nft("add", "table", "ip", "somebody")
        assert await kernel.rules.intact()
        await kernel.rules.change(Policing())
        assert "edgekube-policies" not in kernel.node.nft("list", "tables")
        assert "table ip somebody" in kernel.node.nft("list", "tables")


@pytest.mark.root
async def test_the_rules_of_ipv6_can_be_read(kernel6):
    places = {"space/tcp/http": frozenset({Place(A, TCP, WEB)})}
    grants = (
        Grant(peers=("app",), ports=(PortRange(TCP, 80, 80),)),
        Grant(cidrs=("192.0.2.0/25", "198.51.100.0/24"), places=("space/tcp/http",)),
    )
    nft = kernel6.node.nft
    await kernel6.rules.replace(policing(*grants, addresses={"app": frozenset({B, C})}, places=places))
    listed = nft("list", "table", "ip6", "edgekube-policies")
    for expected in (
        "ip6 daddr vmap @isolated-ingress",
        "ip6 saddr . ip6 daddr @itself",
        "ip6 saddr @peers-app tcp dport 80 counter",
        "ip6 saddr { fd00:244:0:1::c000:200/121, fd00:244:0:1::c633:6400/120 } ip6 daddr . meta l4proto . th dport",
        "elements = { fd00:244:0:1::af4:102 . tcp . 8080 }",
    ):
        assert expected in listed, listed
    nft("-c", "-f", "-", given="flush ruleset\n" + nft("list", "ruleset"))
    assert "table ip edgekube-policies" not in nft("list", "tables")
    await kernel6.rules.change(Policing())
    assert "edgekube-policies" not in nft("list", "tables")


@pytest.mark.root
async def test_a_detached_pods_flows_of_ipv6_are_forgotten(kernel6):
    await kernel6.rules.replace(policing())  # Without a rule that asks, the kernel does not follow flows.
    assert await kernel6.reaches(A, B, UDP)
    assert await kernel6.reaches(B, C, UDP)
    await kernel6.node.network.detach("uid-0")
    assert forget_pod(six(A)) == 0
    assert forget_pod(six(C)) > 0
