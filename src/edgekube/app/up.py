"""
`edgekube up` and `edgekube down`: a whole cluster on this machine.

In a sandbox (the default where the machine is not a board) server, broker, agent, podman, pods and
Services all live in namespaces of their own; the host gets one listening socket on 127.0.0.1.
"""

import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from edgekube.app import sandbox
from edgekube.app.nodeoptions import SHARED_DISK
from edgekube.app.options import DUAL_STACK, UpOptions
from edgekube.app.paths import AgentPaths, ServerPaths
from edgekube.client import kubeconfig
from edgekube.lib.errors import EdgekubeError

Say = Callable[[str], None]
POLL = 0.1
"""Seconds between two looks while waiting."""


class UpError(EdgekubeError):
    """The cluster does not come up; `str()` says why and what would help."""


def up(options: UpOptions, say: Say) -> None:
    """Start the cluster and wait until its node is Ready; harmless when it runs already."""
    handle = sandbox.find(options.run_dir, options.name)
    if handle is None:
        say("starting server and agent" + (" in a sandbox" if options.sandbox else ""))
        with listen(options.port) as listener:
            machine = machine_of(options, listener.fileno())
            sandbox.start(machine, (listener.fileno(),))
    else:
        say("already up")
    wait_ready(options, say)


def down(options: UpOptions, say: Say) -> None:
    """Stop the cluster; what it stored stays in the data directory."""
    say("stopping" if sandbox.find(options.run_dir, options.name) else "not running")
    sandbox.stop(options.run_dir, options.name)
    sandbox.remove_cgroups(cgroup_of(options))


def cgroup_of(options: UpOptions) -> str:
    """Return the cgroup all of the machine's pods live below."""
    return f"/{options.name}"


def listen(port: int) -> socket.socket:
    """Return the API's listening socket on 127.0.0.1; raises UpError when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        hint = f"see who has it: ss -ltnp 'sport = :{port}'; or choose another: edgekube up --port {port + 10000}"
        raise UpError(f"127.0.0.1:{port}: {error.strerror}; {hint}") from error
    listener.listen(512)
    return listener


def machine_of(options: UpOptions, listen_fd: int) -> sandbox.Machine:
    """Return what the supervisor is to run."""
    program = [sys.executable, "-m", "edgekube.cli.main"]
    address = options.node_address if options.sandbox else "127.0.0.1"
    token = ServerPaths(options.data_dir / "server").node_token
    server = [
        *program, "server", "--data-dir", str(options.data_dir / "server"), "--cluster", options.name,
        "--listen-fd", str(listen_fd), "--advertise", address, "--external-port", str(options.port),
        *(["--bind", "127.0.0.1", "--bind", address] if options.sandbox else []),
        *(DUAL_STACK if options.dual_stack else ()),
    ]  # fmt: skip
    agent = [
        *program, "agent", "--data-dir", str(options.data_dir / "agent"), "--server", "https://127.0.0.1:6443",
        "--token-file", str(token), "--node-name", options.node_name, "--node-ip", address,
        "--cgroup-root", cgroup_of(options), *(SHARED_DISK if options.sandbox else ()), *options.agent_flags,
    ]  # fmt: skip
    return sandbox.Machine(
        name=options.name,
        run_dir=options.run_dir,
        log_dir=options.data_dir / "logs",
        children=(("server", server), ("agent", agent)),
        address=address if options.sandbox else "",
        isolated=options.sandbox,
    )


def wait_ready(options: UpOptions, say: Say) -> None:
    """Wait for the API, then for the node; raises UpError with the end of the logs."""
    paths = ServerPaths(options.data_dir / "server")
    deadline = time.monotonic() + options.patience
    api: Api | None = None
    said = False
    while time.monotonic() < deadline:
        if sandbox.find(options.run_dir, options.name) is None:
            raise UpError(f"the supervisor ended\n{log_tails(options)}")
        if paths.kubeconfig.exists():
            api = api or Api(kubeconfig.load((paths.kubeconfig,)))
            if api.ready():
                if not said:
                    say(f"API server ready at {api.access.server}")
                    said = True
                if api.node_ready(options.node_name):
                    say(f"node {options.node_name} Ready")
                    return
        time.sleep(POLL)
    raise UpError(f"not ready after {options.patience:.0f} s\n{log_tails(options)}")


def wait_for(condition: Callable[[], bool], what: str, *, patience: float = 60.0) -> None:
    """Look again and again until `condition` holds; raises UpError naming `what` was waited for."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise UpError(f"waited {patience:.0f} s in vain until {what}")
        time.sleep(POLL)


def log_tails(options: UpOptions, *, lines: int = 8) -> str:
    """Return the last lines of every log."""
    text = ""
    for file in sorted((options.data_dir / "logs").glob("*.log")):
        tail = file.read_text(errors="replace").splitlines()[-lines:]
        text += f"--- {file}\n" + "".join(line + "\n" for line in tail)
    return text


class Api:
    """A few blocking calls to the local API server (the CLI's own client would need a loop)."""

    def __init__(self, access: kubeconfig.Access) -> None:
        self.access = access
        self._context = access.ssl_context()

    def ready(self) -> bool:
        """Tell whether /readyz says ok."""
        try:
            return self.call("GET", "/readyz") == b"ok"
        except UpError:
            return False

    def node_ready(self, name: str) -> bool:
        """Tell whether the node's Ready condition is True."""
        try:
            node = self.json("GET", f"/api/v1/nodes/{name}")
        except UpError:
            return False
        conditions: Sequence[dict[str, Any]] = node.get("status", {}).get("conditions", ())
        return any((c["type"], c["status"]) == ("Ready", "True") for c in conditions)

    def json(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> Any:
        """Call and decode; raises UpError."""
        data = b"" if body is None else msgspec.json.encode(body)
        return msgspec.json.decode(self.call(method, path, data, content_type=content_type))

    def call(
        self, method: str, path: str, body: bytes = b"", *, content_type: str = "application/json"
    ) -> bytes:
        """Call and return the answer's body; raises UpError."""
        request = urllib.request.Request(self.access.server + path, data=body or None, method=method)  # noqa: S310 - https
        request.add_header("Content-Type", content_type)
        if self.access.token:
            request.add_header("Authorization", f"Bearer {self.access.token}")
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as answer:  # noqa: S310
                data: bytes = answer.read()
        except urllib.error.HTTPError as error:
            raise UpError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
        except (OSError, ssl.SSLError) as error:
            raise UpError(f"{method} {path}: {error}") from error
        return data


def agent_paths(options: UpOptions) -> AgentPaths:
    """Return where the machine's agent keeps its files."""
    return AgentPaths(options.data_dir / "agent")
