"""Dual-stack Services (KEP-563): which families a Service has, and its addresses of them."""

import asyncio
import ipaddress
import random
import time
from datetime import UTC, datetime

import pytest

from edgekube.api.resource import Key
from edgekube.apiserver.addresses import book
from edgekube.apiserver.addresses.families import Wrong, settle
from edgekube.apiserver.addresses.ranges import Families
from edgekube.store.memory import MemoryStore

SERVICES = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"
NETWORKING = "/apis/networking.k8s.io/v1"
FOUR, SIX = "10.43.0.0/24", "fd00:10:43::/112"
BOTH, ONE = ("IPv4", "IPv6"), ("IPv4",)
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
LACKS = f'Invalid value: "{REQUIRE}": this cluster is not configured for dual-stack services'


@pytest.mark.parametrize(
    ("cluster", "said", "policy", "families"),
    [
        (ONE, {}, SINGLE, ["IPv4"]),
        (BOTH, {}, SINGLE, ["IPv4"]),
        (("IPv6", "IPv4"), {}, SINGLE, ["IPv6"]),
        (ONE, {"ipFamilyPolicy": PREFER}, PREFER, ["IPv4"]),
        (BOTH, {"ipFamilyPolicy": PREFER}, PREFER, ["IPv4", "IPv6"]),
        (BOTH, {"ipFamilyPolicy": REQUIRE}, REQUIRE, ["IPv4", "IPv6"]),
        (BOTH, {"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}, REQUIRE, ["IPv6", "IPv4"]),
        (BOTH, {"ipFamilies": ["IPv6"]}, SINGLE, ["IPv6"]),
        (BOTH, {"ipFamilies": ["IPv6", "IPv4"]}, REQUIRE, ["IPv6", "IPv4"]),
        (BOTH, {"clusterIP": "fd00::1"}, SINGLE, ["IPv6"]),
        (BOTH, {"clusterIPs": ["fd00::1", "10.43.0.9"]}, REQUIRE, ["IPv6", "IPv4"]),
        (ONE, {"clusterIP": "None", "selector": {"a": "b"}}, SINGLE, ["IPv4"]),
        (BOTH, {"clusterIP": "None", "selector": {"a": "b"}, "ipFamilyPolicy": PREFER}, PREFER, ["IPv4", "IPv6"]),
        (ONE, {"clusterIP": "None"}, REQUIRE, ["IPv4", "IPv6"]),
        (ONE, {"clusterIP": "None", "ipFamilyPolicy": SINGLE}, SINGLE, ["IPv4"]),
    ],
)  # fmt: skip
def test_what_is_left_open_follows_from_what_is_said(cluster, said, policy, families):
    spec = {"type": "ClusterIP", **said}
    assert settle(spec, None, cluster) is None
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == (policy, families)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"ipFamilyPolicy": REQUIRE}, Wrong("spec.ipFamilyPolicy", LACKS)),
        ({"ipFamilies": ["IPv4", "IPv6"]}, Wrong("spec.ipFamilyPolicy", LACKS)),
        ({"ipFamilies": ["IPv6"]},
         Wrong("spec.ipFamilies[0]", 'Invalid value: "IPv6": not configured on this cluster')),
        ({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv4", "IPv6"]},
         Wrong("spec.ipFamilies[1]", 'Invalid value: "IPv6": not configured on this cluster')),
    ],
)  # fmt: skip
def test_what_a_cluster_of_one_family_cannot_give(said, wrong):
    assert settle({"type": "ClusterIP", **said}, None, ONE) == wrong


@pytest.fixture
async def dual(make_server, start):
    async with start(make_server(service_cidr=f"{FOUR},{SIX}")) as found:
        await found.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        yield found


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def owned(api):
    listed = await api.get(f"{NETWORKING}/ipaddresses")
    return {
        item["metadata"]["name"]
        for item in listed["items"]
        if item["spec"]["parentRef"]["name"] != "kubernetes"
    }


def in_ranges(addresses, *networks):
    found = [ipaddress.ip_address(address) for address in addresses]
    return len(found) == len(networks) and all(
        address in ipaddress.ip_network(network) for address, network in zip(found, networks, strict=True)
    )


async def test_addresses_of_both_families_come_and_go_with_the_policy(dual):
    made = (await dual.post(SERVICES, service("a", type="NodePort")))["spec"]
    assert in_ranges(made["clusterIPs"], FOUR)
    first, port = made["clusterIP"], made["ports"][0]["nodePort"]
    up = (await dual.patch(f"{SERVICES}/a", {"spec": {"ipFamilyPolicy": PREFER}}))["spec"]
    assert up["ipFamilies"] == ["IPv4", "IPv6"]
    assert in_ranges(up["clusterIPs"], FOUR, SIX)
    assert up["clusterIPs"][0] == up["clusterIP"] == first
    assert up["ports"][0]["nodePort"] == port
    assert await owned(dual) == set(up["clusterIPs"])
    # A PUT that says nothing of families keeps them.
    kept = (await dual.put(f"{SERVICES}/a", service("a", type="NodePort", selector={"x": "y"})))["spec"]
    assert (kept["clusterIPs"], kept["ipFamilyPolicy"]) == (up["clusterIPs"], PREFER)
    down = (await dual.patch(f"{SERVICES}/a", {"spec": {"ipFamilyPolicy": SINGLE}}))["spec"]
    assert (down["clusterIPs"], down["ipFamilies"]) == ([first], ["IPv4"])
    assert await owned(dual) == {first}
    await dual.patch(f"{SERVICES}/a", {"spec": {"ipFamilyPolicy": REQUIRE}})
    alias = {"type": "ExternalName", "externalName": "x.example", "clusterIP": None, "clusterIPs": None,
             "ipFamilies": None, "ipFamilyPolicy": None}  # fmt: skip
    await dual.patch(f"{SERVICES}/a", {"spec": alias})
    assert await owned(dual) == set()


async def test_addresses_that_are_asked_for(dual):
    asked = ["fd00:10:43::77", "10.43.0.77"]
    made = (await dual.post(SERVICES, service("a", clusterIPs=asked)))["spec"]
    assert (made["clusterIPs"], made["ipFamilies"]) == (asked, ["IPv6", "IPv4"])
    assert made["ipFamilyPolicy"] == REQUIRE
    taken = await dual.post(SERVICES, service("b", clusterIP=asked[0]), code=422)
    assert "provided IP is already allocated" in taken["message"]
    # What a refused Service was given on the way is free again.
    outside = await dual.post(SERVICES, service("c", clusterIPs=["10.43.0.78", "fd00:10:44::1"]), code=422)
    assert f"The range of valid IPs is {SIX}" in outside["message"]
    again = await dual.post(SERVICES, service("d", clusterIP="10.43.0.78"))
    assert again["spec"]["clusterIPs"] == ["10.43.0.78"]
    await dual.delete(f"{SERVICES}/a")
    await dual.post(SERVICES, service("b", clusterIP=asked[0]))


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4", "IPv6"]}, "spec.ipFamilyPolicy"),
        ({"ipFamilyPolicy": SINGLE, "clusterIPs": ["10.43.0.9", "fd00:10:43::9"]}, "spec.ipFamilyPolicy"),
        ({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv4", "IPv4"]}, "spec.ipFamilies[1]"),
        ({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]"),
        ({"clusterIP": "10.43.0.9", "ipFamilies": ["IPv6"]}, "spec.clusterIPs[0]"),
    ],
)  # fmt: skip
async def test_wishes_that_contradict_themselves(dual, said, field):
    refused = await dual.post(SERVICES, service("a", **said), code=422)
    assert field in [cause["field"] for cause in refused["details"]["causes"]]
    assert await owned(dual) == set()


async def test_the_ranges_are_told(dual):
    found = await dual.get(f"{NETWORKING}/servicecidrs/kubernetes")
    assert found["spec"]["cidrs"] == [FOUR, SIX]


async def test_a_restart_knows_what_is_taken(make_server, start):
    store = MemoryStore()
    async with start(make_server(store, service_cidr=f"{FOUR},{SIX}")) as dual:
        await dual.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        made = (await dual.post(SERVICES, service("a", ipFamilyPolicy=REQUIRE)))["spec"]["clusterIPs"]
    async with start(make_server(store, service_cidr=f"{FOUR},{SIX}")) as again:
        for number, address in enumerate(made):
            refused = await again.post(SERVICES, service(f"b{number}", clusterIP=address), code=422)
            assert "already allocated" in refused["message"]


async def test_an_address_has_one_name_however_it_is_written(dual):
    made = (await dual.post(SERVICES, service("a", clusterIP="FD00:10:43:0::0b")))["spec"]
    assert made["clusterIPs"] == [made["clusterIP"]] == ["FD00:10:43:0::0b"]
    assert await owned(dual) == {"fd00:10:43::b"}
    for written in ("fd00:10:43::b", "fd00:10:43:0:0::B"):
        refused = await dual.post(SERVICES, service("b", clusterIP=written), code=422)
        assert "provided IP is already allocated" in refused["message"]
    await dual.patch(f"{SERVICES}/a", {"metadata": {"labels": {"x": "y"}}})
    await dual.delete(f"{SERVICES}/a")
    assert await owned(dual) == set()
    await dual.post(SERVICES, service("b", clusterIP="fd00:10:43::b"))


async def test_what_a_crash_left_of_both_families_is_put_right_at_the_start(make_server, start):
    store, cidrs = MemoryStore(), f"{FOUR},{SIX}"
    async with start(make_server(store, service_cidr=cidrs)) as dual:
        await dual.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        made = (await dual.post(SERVICES, service("a", ipFamilyPolicy=REQUIRE)))["spec"]["clusterIPs"]
        await dual.post(SERVICES, service("b", clusterIP="fd00:10:43::0c"))
        for address in (made[1], "fd00:10:43::c"):
            await dual.delete(f"{NETWORKING}/ipaddresses/{address}")
        orphan = book.record("fd00:10:43::99", Key("default", "never"), datetime(2026, 1, 1, tzinfo=UTC))
        await dual.post(f"{NETWORKING}/ipaddresses", orphan)
    async with start(make_server(store, service_cidr=cidrs)) as again:
        assert await owned(again) == {*made, "fd00:10:43::c"}


def test_leaked_addresses_of_either_family_are_taken_back():
    ranges = Families(FOUR, SIX)
    kept = ["10.43.0.20", "fd00:10:43::0:20"]
    for address in (*kept, "10.43.0.30", "fd00:10:43::30"):
        ranges.take(address)
    assert set(ranges.settle(kept, time.monotonic() + 1)) == {"10.43.0.30", "fd00:10:43::30"}
    assert set(ranges.taken()) == {"10.43.0.20", "fd00:10:43::20"}


async def test_neither_family_s_address_is_given_twice_under_concurrent_writers(dual):
    dice = random.Random(7)
    policies = (SINGLE, PREFER, REQUIRE)

    async def write(index):
        for turn in range(6):
            name, wish = f"s{index}-{turn}", {"ipFamilyPolicy": dice.choice(policies)}
            if dice.random() < 0.4:
                wish["clusterIP"] = f"{SIX.removesuffix('/112')}{dice.randint(1, 40):x}"
            response = await dual.send("POST", SERVICES, service(name, **wish))
            assert response.code in {201, 422, 500}, response.body
            if dice.random() < 0.4:
                patch = {"spec": {"ipFamilyPolicy": dice.choice(policies)}}
                await dual.send("PATCH", f"{SERVICES}/{name}", patch, content_type=MERGE)
            if dice.random() < 0.3:
                await dual.send("DELETE", f"{SERVICES}/{name}")

    await asyncio.gather(*(write(index) for index in range(40)))
    items = (await dual.get(SERVICES))["items"]
    given = [address for item in items for address in item["spec"]["clusterIPs"]]
    assert len([address for address in given if ":" in address]) > 20
    assert len(given) == len(set(given))
    assert await owned(dual) == set(given)
