"""The Python client's way: v4 channels, for exec and for port-forwarding."""

import asyncio
import socket
import time

import pytest
from kubernetes import client, stream


@pytest.fixture
def core(cluster):
    api = client.ApiClient(client.Configuration(host=cluster.url))
    yield client.CoreV1Api(api)
    api.close()


async def test_exec(cluster, core):
    def run():
        socket_ = stream.stream(
            core.connect_get_namespaced_pod_exec, "p", "default", command=["fail", "3"], stderr=True, stdout=True,
            stdin=False, tty=False, _preload_content=False,
        )  # fmt: skip
        carrier = socket_.sock.sock
        socket_.run_forever(timeout=20)
        carrier.close()  # The client forgets to.
        return socket_.read_stderr(), socket_.returncode

    assert await asyncio.to_thread(run) == ("sorry\n", 3)


async def test_port_forward(cluster, core):
    data = bytes(range(256)) * 2000

    def run():
        forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "p", "default", ports="80")
        end: socket.socket = forward.socket(80)
        carrier = forward.websocket.sock
        end.setblocking(True)
        got = b""
        for start in range(0, len(data), 10000):
            end.sendall(data[start : start + 10000])
        while len(got) < len(data):
            got += end.recv(65536)
        end.close()
        while forward.connected:
            time.sleep(0.01)
        carrier.close()  # The client forgets to.
        return got

    assert await asyncio.to_thread(run) == data
