"""Connecting from within another network namespace (a real one)."""

import asyncio
import subprocess
import sys
import uuid

import pytest

from edgekube.node.netns import connect_in

SERVER = """
import socket
s = socket.create_server(("127.0.0.1", 8080))
print("ready", flush=True)
c, _ = s.accept()
c.sendall(c.recv(100).upper())
"""


@pytest.mark.root
async def test_localhost_is_the_pods_own():
    name = f"ekn-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        server = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{name}", sys.executable, "-c", SERVER], stdout=subprocess.PIPE
        )
        with server:
            assert server.stdout.readline() == b"ready\n"
            reader, writer = await connect_in(f"/run/netns/{name}", "127.0.0.1", 8080)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
            writer.close()
            await writer.wait_closed()
            with pytest.raises(OSError):
                await connect_in(f"/run/netns/{name}", "127.0.0.1", 8081)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


async def test_a_namespace_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        await asyncio.wait_for(connect_in("/run/netns/ekn-none", "127.0.0.1", 1), 5)
