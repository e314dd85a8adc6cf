"""An API server in a thread of its own, and a plain HTTP connection to it that never waits for ever."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from edgekube.api.schema import Schemas
from edgekube.apiserver.authn.accounts import TokenConfig
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.lib import pki
from edgekube.store.memory import MemoryStore

ADMIN = User("admin", ("system:masters", "system:authenticated"))
# Of a watch only the beginning is read.
WATCHED = 0.05
HANG = 20.0


class Hang(Exception):
    """No answer within HANG seconds."""


@dataclass(frozen=True)
class Answer:
    code: int
    body: bytes

    @property
    def wrong(self):
        """Whether it is 5xx other than what Kubernetes answers to a revision that is yet to come."""
        return self.code >= 500 and not (self.code == 504 and b"Too large resource version" in self.body)

    def tree(self):
        return json.loads(self.body)


class Served:
    """The server's address, and requests to it as the administrator."""

    def __init__(self, port):
        self.port = port
        self._connection = None

    def send(self, method, path, body=None, *, query=(), **headers):
        """Do one request; `body` is bytes or a tree, `query` pairs. Raises Hang."""
        target = quote(path, safe="/%")
        if query:
            target += "?" + urlencode(list(query), errors="surrogatepass")
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        fields = {"Authorization": "Bearer admin-token", "Content-Type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            return self._exchange(method, target, data, fields)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # The server ended a kept connection, as it may: the request goes out once more.
            self.close()
        try:
            return self._exchange(method, target, data, fields)
        except (http.client.HTTPException, ConnectionError) as error:
            self.close()
            raise Hang(f"{method} {target}: {error!r}") from error

    def _exchange(self, method, target, data, fields):
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        self._connection.request(method, target, data, fields)
        try:
            response = self._connection.getresponse()
        except TimeoutError as error:
            raise Hang(f"{method} {target}") from error
        if "watch" in target and response.status == 200 and response.chunked:
            return self._begin(response)
        try:
            return Answer(response.status, response.read())
        except TimeoutError as error:
            raise Hang(f"{method} {target}") from error

    def _begin(self, response):
        self._connection.sock.settimeout(WATCHED)
        with contextlib.suppress(TimeoutError):
            response.read1(65536)
        response.close()
        self.close()
        return Answer(200, b"")

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def served():
    """Serve a new cluster's API until the block ends."""
    ready, begun = threading.Event(), {}

    def main():
        asyncio.run(_serve(begun, ready))

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    assert ready.wait(30)
    found = Served(begun["port"])
    try:
        yield found
    finally:
        found.close()
        begun["loop"].call_soon_threadsafe(begun["stop"].set)
        thread.join(30)


async def _serve(begun, ready):
    tokens = TokenConfig(key=pki.new_key(), issuer="https://kubernetes.default.svc", audiences=("api",))
    config = ApiServerConfig(
        tokens={"admin-token": ADMIN}, account_tokens=tokens, service_cidr="10.43.0.0/16"
    )
    server = ApiServer(MemoryStore(), Schemas.load(), config)
    sock = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    tasks = [asyncio.create_task(server.run()), asyncio.create_task(server.serve([sock], None))]
    await server.ready.wait()
    client = Client(server.local(ADMIN))
    await bootstrap(client, BootstrapConfig(address="127.0.0.1", service_cidr="10.43.0.0/16"))
    begun |= {"port": sock.getsockname()[1], "loop": asyncio.get_running_loop(), "stop": stop}
    ready.set()
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    sock.close()
