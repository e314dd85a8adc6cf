"""What messages a change of policies takes."""

import random

from edgekube.network.base import Transport
from edgekube.network.nftables.policies_layout import Layout, chain_of, ports_of, write_change
from edgekube.network.nftables.transaction import Transaction
from edgekube.network.policy import Direction, Grant, Isolated, Place, Policing, Policy, PortRange

IN, OUT = Direction.INGRESS, Direction.EGRESS
WEB, DB = Policy(IN, "a/web"), Policy(IN, "a/db")
HTTP = PortRange(Transport.TCP, 80, 80)
FROM_APP = Grant(peers=("app",), ports=(HTTP,))


def steps(old, new):
    change = Transaction("t")
    write_change(change, Layout(old), Layout(new))
    return [step.what for step in change.steps]


def wish(*, pods=("10.244.1.2",), peers=("10.244.2.2",), grants=(FROM_APP,), **more):
    return Policing(
        isolated={Isolated(IN, address): (WEB,) for address in pods},
        policies={WEB: grants},
        addresses={"app": frozenset(peers)},
        **more,
    )


def test_the_same_again_is_nothing():
    assert steps(wish(), wish()) == []


def test_a_peer_more_or_less_is_one_message():
    assert steps(wish(), wish(peers=("10.244.2.2", "10.244.2.3"))) == ["elements of peers-app"]
    assert steps(wish(), wish(peers=())) == ["elements of peers-app"]


def test_a_named_port_more_is_one_message():
    grant = (Grant(anyone=True, places=("http",)),)
    places = [frozenset(Place(f"10.244.1.{n}", Transport.TCP, 80) for n in range(count)) for count in (1, 2)]
    old, new = (wish(grants=grant, places={"http": held}) for held in places)
    assert steps(old, new) == ["elements of ports-http"]


def test_another_pod_under_the_same_policies_takes_elements_only():
    found = steps(wish(), wish(pods=("10.244.1.2", "10.244.1.3")))
    assert found == ["elements of itself", "elements of isolated-ingress"]


def test_a_policys_change_rewrites_its_chain_and_nothing_else():
    found = steps(wish(), wish(grants=(Grant(peers=("app",)),)))
    assert found == ["flush chain ingress-a/web", "rule in ingress-a/web"]


def test_what_is_not_used_any_more_goes():
    found = steps(wish(), Policing())
    assert found[-3:-1] == [
        "delete chain pods-ingress-" + found[-3].rsplit("-", 1)[1],
        "delete chain ingress-a/web",
    ]
    assert found[-1] == "delete set peers-app"
    assert steps(Policing(), wish()).count("set peers-app") == 1


def test_the_count_is_what_is_written():
    old = Layout(Policing())
    grants = (
        Grant(peers=("app", "other"), ports=(HTTP, PortRange(Transport.UDP))),
        Grant(cidrs=("192.0.2.0/24",), peers=("app",)),
        Grant(anyone=True),
    )
    new = Layout(
        Policing(
            isolated={
                Isolated(IN, "10.244.1.2"): (WEB, DB),
                Isolated(OUT, "10.244.1.2"): (Policy(OUT, "a/web"),),
            },
            policies={WEB: grants, DB: (), Policy(OUT, "a/web"): grants},
            addresses={"app": frozenset({"10.244.2.2"}), "other": frozenset()},
        )
    )
    change = Transaction("t")
    write_change(change, old, new)
    rules, elements = new.count()
    written = sum(step.what.startswith("rule in") for step in change.steps)
    assert rules - Layout(Policing()).count()[0] == written == 2 * (4 + 2 + 1) + 3 + 2
    assert elements == {
        "peers-app": 1, "peers-other": 0, "itself": 1, "isolated-ingress": 1, "isolated-egress": 1,
    }  # fmt: skip


def test_names_fit_and_differ():
    rng = random.Random(1)
    long = ["n" * 63 + "/" + "".join(rng.choice("abc") for _ in range(253)) for _ in range(20)]
    names = [chain_of(Policy(way, name)) for way in Direction for name in long]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 256
    assert len(ports_of(long[0])) < 256
