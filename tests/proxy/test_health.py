"""healthCheckNodePort: what is counted, and what a balancer gets."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager, closing, suppress

import pytest

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.proxy.health import Check, HealthChecks, plan_check, respond

WEB = Key("a", "web")


def service(**spec) -> core_v1.Service:
    given = {
        "type": "LoadBalancer",
        "external_traffic_policy": "Local",
        "health_check_node_port": 31000,
        **spec,
    }
    return core_v1.Service(
        metadata=meta_v1.ObjectMeta(namespace="a", name="web"), spec=core_v1.ServiceSpec(**given)
    )


def piece(*endpoints, family="IPv4"):
    made = tuple(
        discovery_v1.Endpoint(
            addresses=(address,), node_name=node, conditions=discovery_v1.EndpointConditions(**conditions)
        )
        for address, node, conditions in endpoints
    )
    return discovery_v1.EndpointSlice(address_type=family, endpoints=made)


@pytest.mark.parametrize(
    ("endpoints", "count"),
    [
        ([], 0),
        ([("10.244.1.2", "here", {"ready": True})], 1),
        ([("10.244.1.2", "here", {})], 1),
        ([("10.244.2.2", "there", {"ready": True})], 0),
        # A pod that ends serves, yet a balancer should send to other nodes from now on.
        ([("10.244.1.2", "here", {"ready": False, "serving": True, "terminating": True})], 0),
    ],
)
def test_ready_endpoints_of_this_node_count(endpoints, count):
    # Twice the same slice, and the other family's, are the same pods.
    given = (piece(*endpoints), piece(*endpoints), piece(("fd00::2", "here", {}), family="IPv6"))
    assert plan_check(service(), given, "here") == Check(WEB, 31000, count)


def test_a_service_counts_the_pods_of_its_first_family():
    both = (
        piece(("10.244.1.2", "here", {})),
        piece(*[("fd00::2", "here", {}), ("fd00::3", "here", {})], family="IPv6"),
    )
    for families, count in ((("IPv4", "IPv6"), 1), (("IPv6", "IPv4"), 2), ((), 1)):
        assert plan_check(service(ip_families=families), both, "here") == Check(WEB, 31000, count)


@pytest.mark.parametrize(
    "spec", [{"type": "NodePort"}, {"external_traffic_policy": "Cluster"}, {"health_check_node_port": 0}]
)
def test_others_have_no_check(spec):
    assert plan_check(service(**spec), (), "here") is None


def test_the_answer_is_kube_proxys():
    head, _, body = respond(Check(WEB, 1, 2)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"X-Load-Balancing-Endpoint-Weight: 2" in head
    assert json.loads(body)["service"] == {"namespace": "a", "name": "web"}
    assert json.loads(body)["localEndpoints"] == 2
    assert respond(Check(WEB, 1, 0)).startswith(b"HTTP/1.1 503 ")
    assert respond(Check(WEB, 1, 0), method="HEAD").endswith(b"\r\n\r\n")


def unused() -> int:
    with closing(socket.socket()) as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@asynccontextmanager
async def running(checks: HealthChecks):
    task = asyncio.create_task(checks.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def status(port: int, *, host: str = "127.0.0.1") -> int:
    """Return the HTTP status; waits until somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        with closing(writer):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return int((await reader.read()).split()[1])


async def test_listens_where_it_is_told_and_no_longer():
    checks, port, other = HealthChecks(hosts=["127.0.0.1"]), unused(), unused()
    async with running(checks):
        checks.put(WEB, Check(WEB, port, 1))
        assert await status(port) == 200
        checks.put(WEB, Check(WEB, port, 0))
        assert await status(port) == 503
        checks.put(WEB, Check(WEB, other, 1))
        assert await status(other) == 200
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        checks.put(WEB, None)
        async with asyncio.timeout(20):
            while True:
                try:
                    _reader, writer = await asyncio.open_connection("127.0.0.1", other)
                except OSError:
                    # Refused, or reset when it was waiting to be accepted.
                    break
                writer.close()
                await asyncio.sleep(0.01)


async def test_a_port_somebody_else_has_does_not_stop_the_others():
    checks, port = HealthChecks(hosts=["127.0.0.1"]), unused()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with running(checks):
            checks.put(Key("a", "taken"), Check(Key("a", "taken"), taken.getsockname()[1], 1))
            checks.put(WEB, Check(WEB, port, 1))
            assert await status(port) == 200


async def test_a_client_that_says_nothing_sensible_is_let_go():
    checks, port = HealthChecks(hosts=["127.0.0.1"]), unused()
    async with running(checks):
        checks.put(WEB, Check(WEB, port, 1))
        await status(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(b"x" * 100_000)
            async with asyncio.timeout(20):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
        assert await status(port) == 200


async def test_answers_in_both_families():
    checks, port = HealthChecks(hosts=["127.0.0.1", "::1"]), unused()
    async with running(checks):
        checks.put(WEB, Check(WEB, port, 1))
        assert await status(port) == await status(port, host="::1") == 200
