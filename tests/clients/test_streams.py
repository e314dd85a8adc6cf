"""Logs, exec and port-forward of every client, over TLS through the API server to a node that plays the pod."""

import asyncio
import contextlib
import re

import pytest

from clients.cluster import serving
from clients.node import connected, start_pod

DATA = bytes(range(256)) * 400


@pytest.fixture
async def cluster(schemas, tmp_path):
    async with connected() as gateway, serving(schemas, tmp_path, gateway=gateway) as found:
        await start_pod(found)
        yield found


async def test_kubectl(cluster):
    assert await cluster.kubectl("logs", "p") == "one\ntwo\n"
    assert await cluster.kubectl("exec", "p", "--", "hello", "there") == "hello there\n"
    assert await cluster.kubectl("exec", "-i", "p", "--", "cat", stdin="abc") == "abc"
    assert "sorry" in await cluster.kubectl("exec", "p", "--", "fail", code=3)
    assert (await cluster.kubectl("attach", "p")).endswith("\nattached\n")


@contextlib.asynccontextmanager
async def started(cluster, *arguments):
    """Run a kubectl that stays; yield the port it says it listens on."""
    process = await asyncio.create_subprocess_exec(
        *cluster.kubectl_command(*arguments), stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        yield int(re.search(r"127\.0\.0\.1:(\d+)", line)[1])
    finally:
        process.terminate()
        await process.communicate()


async def echoed(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(20):
        found = await reader.readexactly(len(data))
    writer.close()
    await writer.wait_closed()
    return found


async def test_kubectl_forwards_ports(cluster):
    async with started(cluster, "port-forward", "pod/p", ":80") as port:
        assert await echoed(port, DATA) == DATA
        assert await echoed(port, b"again") == b"again"


async def test_kubectl_proxy(cluster):
    async with started(cluster, "proxy", "--port=0") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/v1/namespaces/default/pods/p HTTP/1.0\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b"200 OK" in answer
    assert b'"name":"p"' in answer


async def test_the_python_client(cluster, in_thread):
    kubernetes = pytest.importorskip("kubernetes")
    from kubernetes import stream  # noqa: PLC0415 - after the question whether it is here

    api = kubernetes.config.new_client_from_config(str(cluster.config))
    core = kubernetes.client.CoreV1Api(api)

    def go():
        assert core.read_namespaced_pod_log("p", "default") == "one\ntwo\n"
        running = stream.stream(
            core.connect_get_namespaced_pod_exec, "p", "default", command=["fail"], stderr=True, stdout=True,
            stdin=False, tty=False, _preload_content=False,
        )  # fmt: skip
        carrier = running.sock.sock
        running.run_forever(timeout=20)
        carrier.close()  # The client forgets to.
        assert (running.read_stderr(), running.returncode) == ("sorry\n", 3)
        api.rest_client.pool_manager.clear()
        api.close()

    await in_thread(go)


@pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported:UserWarning")
async def test_kr8s(cluster):
    kr8s = pytest.importorskip("kr8s")
    from kr8s.asyncio import objects  # noqa: PLC0415 - after the question whether it is here

    api = await kr8s.asyncio.api(kubeconfig=str(cluster.config))
    pod = await objects.Pod.get("p", namespace="default", api=api)
    assert [line async for line in pod.logs()] == ["one", "two"]
    answer = await pod.exec(["hello", "there"])
    assert (answer.stdout, answer.returncode) == (b"hello there\n", 0)
    failed = await pod.exec(["fail"], check=False)
    assert (failed.stderr, failed.returncode) == (b"sorry\n", 3)
    async with pod.portforward(80) as port:
        assert await echoed(port, b"hello") == b"hello"
    await api._session.aclose()


async def test_lightkube(cluster, in_thread):
    lightkube = pytest.importorskip("lightkube")
    api = lightkube.Client(lightkube.KubeConfig.from_file(str(cluster.config)))

    def go():
        assert [line.rstrip("\n") for line in api.log("p")] == ["one", "two"]
        if hasattr(api, "exec"):
            answer = api.exec("p", command=["hello", "there"], stdout=True)
            assert "hello there" in str(answer.stdout)
        api._client._client.close()

    await in_thread(go)
