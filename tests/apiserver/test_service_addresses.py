"""Service addresses and node ports: IPAddresses, ServiceCIDRs, health check ports."""

import asyncio
import ipaddress
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.resource import Key
from edgekube.apiserver.addresses import book
from edgekube.apiserver.addresses.keeper import in_use
from edgekube.apiserver.addresses.pool import Ledger, Pool, address_band, port_band
from edgekube.store.memory import MemoryStore

SERVICES = "/api/v1/namespaces/default/services"
NETWORKING = "/apis/networking.k8s.io/v1"
ADDRESSES, CIDRS = f"{NETWORKING}/ipaddresses", f"{NETWORKING}/servicecidrs"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def balancer(name, **spec):
    return service(name, type="LoadBalancer", **spec)


async def until(check):
    for _ in range(600):
        if found := await check():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to be")


async def owners(api):
    """Return who has which address, as the IPAddresses say."""
    listed = await api.get(ADDRESSES)
    return {item["metadata"]["name"]: item["spec"]["parentRef"]["name"] for item in listed["items"]}


async def agreed(api):
    """Return who has which address, by both Services and IPAddresses."""
    found = {}
    for item in (await api.get("/api/v1/services"))["items"]:
        address = item["spec"].get("clusterIP", "None")
        assert address == "None" or found.setdefault(address, item["metadata"]["name"]) is not None
    assert await owners(api) == {address: name for address, name in found.items() if address != "None"}
    return found


async def test_a_service_has_its_ip_address_object(api):
    assert await owners(api) == {"10.43.0.1": "kubernetes"}
    address = (await api.post(SERVICES, service("a")))["spec"]["clusterIP"]
    shown = await api.get(f"{ADDRESSES}/{address}")
    assert shown["spec"]["parentRef"] == {
        "group": "", "resource": "services", "namespace": "default", "name": "a",
    }  # fmt: skip
    assert shown["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    await api.put(f"{SERVICES}/a", service("a", selector={"x": "y"}))
    assert (await owners(api))[address] == "a"
    await api.delete(f"{SERVICES}/a")
    assert await owners(api) == {"10.43.0.1": "kubernetes"}


async def test_only_services_that_are_written_have_ip_addresses(api):
    await api.post(f"{SERVICES}?dryRun=All", service("a"))
    await api.post(SERVICES, service("a", ports=[{"port": 0}]), 422)
    await api.post(SERVICES, service("kubernetes"), 409)
    await api.post(SERVICES, service("h", clusterIP="None"))
    await api.post(SERVICES, service("e", type="ExternalName", externalName="example.com"))
    assert await owners(api) == {"10.43.0.1": "kubernetes"}
    quotas = "/api/v1/namespaces/default/resourcequotas"
    quota = await api.post(quotas, {"metadata": {"name": "q"}, "spec": {"hard": {"services": "0"}}})
    await api.put(f"{quotas}/q/status", quota | {"status": {"hard": {"services": "0"}, "used": {}}})
    await api.post(SERVICES, service("a"), 403)
    assert await owners(api) == {"10.43.0.1": "kubernetes"}


async def test_a_service_that_becomes_an_alias_gives_its_address_back(api):
    made = await api.post(SERVICES, service("a", clusterIP="10.43.0.77"))
    made["spec"] |= {"type": "ExternalName", "externalName": "example.com"}
    alias = (await api.put(f"{SERVICES}/a", made))["spec"]
    assert not alias.keys() & {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}
    assert await owners(api) == {"10.43.0.1": "kubernetes"}
    back = await api.patch(f"{SERVICES}/a", {"spec": {"type": "ClusterIP", "externalName": None}})
    assert (await owners(api))[back["spec"]["clusterIP"]] == "a"


async def test_somebody_else_s_ip_address_is_not_given(api):
    for number in range(2, 255):
        if number not in {10, 200}:
            body = {"metadata": {"name": f"10.43.0.{number}"}}
            body["spec"] = {"parentRef": {"group": "x.io", "resource": "gateways", "name": "g"}}
            await api.post(ADDRESSES, body)
    status = await api.post(SERVICES, service("asked", clusterIP="10.43.0.20"), 422)
    assert "provided IP is already allocated" in status["message"]
    assert (await api.post(SERVICES, service("drawn")))["spec"]["clusterIP"] == "10.43.0.200"
    assert "range is full" in (await api.post(SERVICES, service("more"), 500))["message"]


async def test_what_a_crash_left_is_put_right_at_the_start(make_server, start):
    store = MemoryStore()
    async with start(make_server(store)) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        kept, lost = [(await api.post(SERVICES, service(name)))["spec"]["clusterIP"] for name in ("a", "b")]
        await api.delete(f"{ADDRESSES}/{lost}")
        orphan = book.record("10.43.0.99", Key("default", "never"), NOW)
        await api.post(ADDRESSES, orphan)
    async with start(make_server(store)) as api:
        assert await owners(api) == {kept: "a", lost: "b"}


def test_a_plan_leaves_what_is_under_way():
    def stored(name, address):
        return {"metadata": {"namespace": "default", "name": name}, "spec": {"clusterIP": address}}

    young = NOW + timedelta(seconds=1)
    addresses = [
        book.record("10.0.0.1", Key("default", "a"), NOW),
        book.record("10.0.0.2", Key("default", "gone"), NOW - timedelta(hours=1)),
        book.record("10.0.0.3", Key("default", "coming"), young),
        book.record("10.0.0.4", Key("default", "before"), NOW - timedelta(hours=1)),
        {"metadata": {"name": "10.0.0.5", "creationTimestamp": "2020-01-01T00:00:00Z"},
         "spec": {"parentRef": {"resource": "gateways", "name": "g"}}},
    ]  # fmt: skip
    services = [
        stored("a", "10.0.0.1"),
        stored("b", "10.0.0.4"),
        stored("c", "10.0.0.6"),
        stored("h", "None"),
    ]
    plan = book.plan(services, addresses, NOW)
    assert plan.missing == {"10.0.0.4": Key("default", "b"), "10.0.0.6": Key("default", "c")}
    assert plan.stale == ["10.0.0.2", "10.0.0.4"]


async def test_no_address_is_given_twice_under_concurrent_writers(api):
    """Creates, deletes and updates at once, with more Services than addresses."""
    dice = random.Random(11)
    await api.post(CIDRS, {"metadata": {"name": "extra"}, "spec": {"cidrs": ["10.43.1.0/28"]}})

    async def write(index):
        for turn in range(8):
            name, wish = f"s{index}-{turn}", {}
            if dice.random() < 0.3:
                wish = {"clusterIP": f"10.43.0.{dice.randint(1, 254)}"}
            elif dice.random() < 0.3:
                wish = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
            response = await api.send("POST", SERVICES, service(name, **wish))
            assert response.code in {201, 422, 500}, response.body
            if dice.random() < 0.5:
                await api.send("DELETE", f"{SERVICES}/{name}")
            elif dice.random() < 0.3:
                alias = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
                await api.send(
                    "PATCH", f"{SERVICES}/{name}", alias, content_type="application/merge-patch+json"
                )

    await asyncio.gather(*(write(index) for index in range(40)))
    assert len(await agreed(api)) > 50
    items = (await api.get(SERVICES))["items"]
    ports = [p["nodePort"] for item in items for p in item["spec"]["ports"] if "nodePort" in p]
    ports += [item["spec"]["healthCheckNodePort"] for item in items if "healthCheckNodePort" in item["spec"]]
    assert ports
    assert len(ports) == len(set(ports))


# ---- ranges ----


def ready_of(cidr):
    conditions = (cidr.get("status") or {}).get("conditions") or ()
    return next((c["status"] for c in conditions if c["type"] == "Ready"), "")


async def ready(api, name):
    async def check():
        cidr = await api.call("GET", f"{CIDRS}/{name}")
        return ready_of(cidr) == "True" and cidr

    return await until(check)


async def test_the_configured_range_is_a_ready_service_cidr(api):
    cidr = await ready(api, "kubernetes")
    assert cidr["spec"]["cidrs"] == ["10.43.0.0/24"]
    assert cidr["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    assert cidr["status"]["conditions"][0]["message"] == "Kubernetes Service CIDR is ready"
    table = await api.get(CIDRS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert [row["cells"][:2] for row in table["rows"]] == [["kubernetes", "10.43.0.0/24"]]


async def test_a_further_service_cidr_extends_the_range(api):
    await api.post(SERVICES, service("early", clusterIP="10.44.0.7"), 422)
    await api.post(CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.44.0.0/28", "fd00::/120"]}})
    await ready(api, "more")
    await api.post(SERVICES, service("a", clusterIP="10.44.0.7"))
    await api.post(SERVICES, service("b", clusterIP="10.44.0.0"), 422)
    made = [await api.post(SERVICES, service(f"s{number}")) for number in range(252 + 13)]
    found = {ipaddress.ip_address(item["spec"]["clusterIP"]) for item in made}
    assert len(found) == 265
    assert sum(address in ipaddress.ip_network("10.44.0.0/28") for address in found) == 13
    assert "range is full" in (await api.post(SERVICES, service("more"), 500))["message"]


async def test_a_service_cidr_that_is_in_use_stays(api):
    await api.post(CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.44.0.0/28"]}})
    await ready(api, "more")
    await api.post(SERVICES, service("a", clusterIP="10.44.0.7"))
    await api.delete(f"{CIDRS}/more")

    async def terminating():
        cidr = await api.call("GET", f"{CIDRS}/more")
        return ready_of(cidr) == "False" and cidr

    cidr = await until(terminating)
    assert cidr["status"]["conditions"][0]["reason"] == "Terminating"
    await api.post(SERVICES, service("b", clusterIP="10.44.0.8"), 422)
    await api.delete(f"{SERVICES}/a")

    async def gone():
        return (await api.send("GET", f"{CIDRS}/more")).code == 404

    await until(gone)


async def test_the_default_service_cidr_comes_back(api):
    uid = (await ready(api, "kubernetes"))["metadata"]["uid"]
    await api.post(CIDRS, {"metadata": {"name": "wider"}, "spec": {"cidrs": ["10.43.0.0/23"]}})
    await ready(api, "wider")
    await api.delete(f"{CIDRS}/kubernetes")

    async def again():
        cidr = await api.call("GET", f"{CIDRS}/kubernetes")
        return ready_of(cidr) == "True" and cidr["metadata"]["uid"] != uid

    await until(again)
    await api.post(SERVICES, service("a", clusterIP="10.43.1.7"))
    await api.post(SERVICES, service("b", clusterIP="10.43.0.7"))


NETWORKS = [ipaddress.ip_network(text) for text in ("10.0.0.0/30", "10.0.0.0/29", "10.0.0.8/30")]


@given(st.sets(st.sampled_from(NETWORKS)), st.sets(st.sampled_from(NETWORKS)), st.sets(st.integers(0, 11)))
def test_a_range_is_in_use_when_an_address_has_no_other(mine, others, numbers):
    taken = [f"10.0.0.{number}" for number in numbers]
    alone = {int(a) for n in mine for a in n} - {int(a) for n in others for a in n}
    assert in_use(mine, others, taken) == bool(alone & {int(ipaddress.ip_address(text)) for text in taken})


# ---- node ports ----


async def test_a_health_check_port_comes_and_goes_with_the_local_policy(api):
    made = await api.post(SERVICES, balancer("a", externalTrafficPolicy="Local"))
    port, node_port = made["spec"]["healthCheckNodePort"], made["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    assert port != node_port
    taken = balancer("b", externalTrafficPolicy="Local", healthCheckNodePort=port)
    assert "already allocated" in (await api.post(SERVICES, taken, 422))["message"]
    kept = await api.put(f"{SERVICES}/a", balancer("a", externalTrafficPolicy="Local", selector={"x": "y"}))
    assert kept["spec"]["healthCheckNodePort"] == port
    status = await api.patch(f"{SERVICES}/a", {"spec": {"healthCheckNodePort": 31999}}, 422)
    assert "spec.healthCheckNodePort: Invalid value: 31999: field is immutable" in status["message"]
    cluster = await api.patch(f"{SERVICES}/a", {"spec": {"externalTrafficPolicy": "Cluster"}})
    assert "healthCheckNodePort" not in cluster["spec"]
    assert (await api.post(SERVICES, taken))["spec"]["healthCheckNodePort"] == port
    await api.delete(f"{SERVICES}/b")
    local = {"spec": {"externalTrafficPolicy": "Local", "healthCheckNodePort": port}}
    assert (await api.patch(f"{SERVICES}/a", local))["spec"]["healthCheckNodePort"] == port


async def test_load_balancers_may_do_without_node_ports(api):
    made = await api.post(SERVICES, balancer("a", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in made["spec"]["ports"][0]
    ports = [{"name": "a", "port": 80, "nodePort": 30123}, {"name": "b", "port": 81}]
    made = await api.post(SERVICES, balancer("b", allocateLoadBalancerNodePorts=False, ports=ports))
    assert [port.get("nodePort") for port in made["spec"]["ports"]] == [30123, None]
    made = await api.post(SERVICES, balancer("c"))
    assert made["spec"]["allocateLoadBalancerNodePorts"] is True
    port = made["spec"]["ports"][0]["nodePort"]
    made["spec"]["allocateLoadBalancerNodePorts"] = False
    made = await api.put(f"{SERVICES}/c", made)
    assert made["spec"]["ports"][0]["nodePort"] == port
    del made["spec"]["ports"][0]["nodePort"]
    assert "nodePort" not in (await api.put(f"{SERVICES}/c", made))["spec"]["ports"][0]
    await api.post(SERVICES, service("d", type="NodePort", ports=[{"port": 80, "nodePort": port}]))


async def test_node_ports_survive_a_restart(make_server, start):
    store = MemoryStore()
    async with start(make_server(store)) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        made = await api.post(SERVICES, balancer("a", externalTrafficPolicy="Local"))
    async with start(make_server(store)) as api:
        for port in (made["spec"]["ports"][0]["nodePort"], made["spec"]["healthCheckNodePort"]):
            asked = service("b", type="NodePort", ports=[{"port": 80, "nodePort": port}])
            assert "already allocated" in (await api.post(SERVICES, asked, 422))["message"]


@pytest.mark.parametrize(("size", "band"), [(2768, 86), (64, 16), (16, 0), (1 << 20, 128)])
def test_the_static_band_of_node_ports(size, band):
    assert port_band(size) == band


@given(st.integers(1, 80), st.data())
def test_a_pool_gives_every_number_once_the_upper_band_first(size, data):
    ledger, reserved = Ledger(), data.draw(st.sets(st.integers(0, size - 1)))
    pool = Pool(0, size - 1, ledger=ledger, band=address_band(size), reserved=reserved)
    drawn = []
    while (number := pool.draw()) is not None:
        drawn.append(number)
    assert sorted(drawn) == sorted(set(range(size)) - reserved)
    low = [number < min(address_band(size), size - 1) for number in drawn]
    assert low == sorted(low)
