"""
A peer in a pod, on a node or on a machine of the LAN: it listens, and tries to reach others, until its input ends.

Run by path with nothing but the standard library: `netpeer.py NAME PROTOCOL/PORT…`. It answers whoever connects with
its name and then echoes lines. Each line of input is an order, each line of output the answer, both JSON:
`["reach", {target: [protocol, host, port]}, patience]` → {target: who answers, or null},
`["open", target, host, port]` → who answers, and the connection stays,
`["talk", patience]` → {target: whether the connection kept still echoes}.
"""

import asyncio
import contextlib
import json
import sys


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name):
        self.name = name.encode()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, sender):
        del data
        self.transport.sendto(self.name, sender)


class Asker(asyncio.DatagramProtocol):
    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, sender):
        del sender
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, error):
        if not self.answer.done():
            self.answer.set_exception(error)


class Peer:
    def __init__(self, name):
        self.name, self.kept, self.serving = name, {}, set()

    async def listen(self, places):
        for place in places:
            protocol, port = place.split("/")
            if protocol == "tcp":
                await asyncio.start_server(self.serve, "0.0.0.0", int(port))
            else:
                loop = asyncio.get_running_loop()
                await loop.create_datagram_endpoint(lambda: Echo(self.name), ("0.0.0.0", int(port)))

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            writer.write(self.name.encode() + b"\n")
            while line := await reader.readline():
                writer.write(line)
        writer.close()
        self.serving.discard(asyncio.current_task())

    async def reach(self, targets, patience):
        answers = await asyncio.gather(*(self.reached(where, patience) for where in targets.values()))
        return dict(zip(targets, answers, strict=True))

    async def reached(self, where, patience):
        protocol, host, port = where
        try:
            async with asyncio.timeout(patience):
                return await (connected if protocol == "tcp" else asked)(host, port)
        except OSError:  # TimeoutError is one
            return None

    async def open(self, target, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        self.kept[target] = reader, writer
        return (await reader.readline()).decode().strip()

    async def talk(self, patience):
        return {target: await self.echoed(target, patience) for target in self.kept}

    async def echoed(self, target, patience):
        reader, writer = self.kept[target]
        try:
            async with asyncio.timeout(patience):
                writer.write(b"still there?\n")
                return await reader.readline() == b"still there?\n"
        except OSError:
            return False


async def connected(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


async def asked(host, port):
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_datagram_endpoint(Asker, remote_addr=(host, port))
    try:
        transport.sendto(b"who?")
        return (await asker.answer).decode()
    finally:
        transport.close()


async def main(name, *places):
    peer = Peer(name)
    await peer.listen(places)
    say("listening")
    orders = {"reach": peer.reach, "open": peer.open, "talk": peer.talk}
    while line := await asyncio.to_thread(sys.stdin.readline):
        order, *arguments = json.loads(line)
        say(await orders[order](*arguments))


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
