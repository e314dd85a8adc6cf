"""
Carries Ethernet frames between two interfaces, each a while later: `relay.py PORT PORT MILLISECONDS`.

For kernels without netem. Run by path, with nothing but the standard library, so that it starts in
milliseconds; says `ready` when it carries. PACKET_VNET_HDR hands over segmentation and checksum work
not done yet with each frame, so big frames pass as they are (packet(7)).
"""

import errno
import select
import socket
import sys
import time
from collections import deque

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
LARGEST = 1 << 17
MOST = 20_000
"""Frames on their way in one direction; more are lost, as in any queue."""
BURST = 64


class Line:
    """One direction: frames and when they are due. Time is in seconds."""

    def __init__(self, delay: float, most: int = MOST) -> None:
        self._delay = delay
        self._most = most
        self._frames: deque[tuple[float, bytes]] = deque()

    def put(self, frame: bytes, now: float) -> None:
        """Take a frame in; it is lost when the line is full."""
        if len(self._frames) < self._most:
            self._frames.append((now + self._delay, frame))

    def due(self, now: float) -> list[bytes]:
        """Take out what has travelled long enough."""
        out = []
        while self._frames and self._frames[0][0] <= now:
            out.append(self._frames.popleft()[1])
        return out

    def next(self) -> float | None:
        """Return when the next frame is due, or None."""
        return self._frames[0][0] if self._frames else None


def open_port(name: str) -> socket.socket:
    """Return a socket with all frames that come in at an interface."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    port.bind((name, ETH_P_ALL))
    return port


def receive(port: socket.socket, line: Line) -> None:
    """Take in what waits at a port."""
    for _ in range(BURST):
        try:
            frame = port.recv(LARGEST)
        except BlockingIOError:
            return
        except OSError as error:
            # The link is down; it comes up again.
            if error.errno == errno.ENETDOWN:
                return
            raise
        line.put(frame, time.monotonic())


def send(port: socket.socket, frames: list[bytes]) -> None:
    """Send frames; what a port cannot take now is lost. Raises OSError when the port is gone."""
    for frame in frames:
        try:
            port.send(frame)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENODEV):
                raise
            continue


def carry(left: socket.socket, right: socket.socket, delay: float) -> None:
    """Carry frames both ways until a port is gone."""
    ways = ((left, right, Line(delay)), (right, left, Line(delay)))
    while True:
        times = [at for _, _, line in ways if (at := line.next()) is not None]
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        ready, _, _ = select.select([left, right], [], [], timeout)
        for source, target, line in ways:
            if source in ready:
                receive(source, line)
            send(target, line.due(time.monotonic()))


def main() -> None:
    """Run what the command line says."""
    left, right, milliseconds = sys.argv[1:]
    ports = open_port(left), open_port(right)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        carry(*ports, float(milliseconds) / 1000)
    except OSError as error:
        sys.exit(f"{left}: {error}")


if __name__ == "__main__":
    main()
