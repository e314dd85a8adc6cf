"""A socket of another network namespace (setns(2)): sockets stay in the namespace they were made in."""

import asyncio
import ctypes
import os
import socket
import threading

CLONE_NEWNET = 0x40000000


async def connect_in(netns: str, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect from within `netns` ("" the agent's own); raises OSError."""
    if not netns:
        return await asyncio.open_connection(host, port)
    sock = await asyncio.to_thread(_socket_in, netns)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise


def _socket_in(netns: str) -> socket.socket:
    """Make a socket in a thread of its own that never comes back: no pooled thread is left in a pod's namespace."""
    made: list[socket.socket | OSError] = []

    def work() -> None:
        try:
            descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), netns)
            finally:
                os.close(descriptor)
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.settimeout(0)
            made.append(sock)
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=work, name="netns-socket")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
