"""
CONNECT: what webhooks and policies see of exec, attach, port-forward and proxy requests.

The object is the options of the stream (core/v1 PodExecOptions and its like), made of the query.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.exchange import Exchange
from edgekube.apiserver.request import Tree, truthy

KINDS: Mapping[tuple[str, str], str] = {
    ("pods", "exec"): "PodExecOptions",
    ("pods", "attach"): "PodAttachOptions",
    ("pods", "portforward"): "PodPortForwardOptions",
    ("pods", "proxy"): "PodProxyOptions",
    ("services", "proxy"): "ServiceProxyOptions",
    ("nodes", "proxy"): "NodeProxyOptions",
}
FLAGS, TEXTS = ("stdin", "stdout", "stderr", "tty"), ("container", "path")


async def connect(exchange: Exchange, raw_query: str, *, path: str = "") -> None:
    """Ask whether a stream may be opened; raises what they refuse it with."""
    target = exchange.target
    kind = KINDS.get((target.row.plural, target.subresource))
    if kind is None or target.row.group:
        return
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    attributes = Attributes(
        verb="connect", target=target, obj=options_of(kind, [*pairs, ("path", path)]), user=exchange.request.user,
        kind=("v1", kind), warnings=exchange.warnings, notes=exchange.request.notes,
    )  # fmt: skip
    await exchange.parts.registry.admission.review(attributes)


def options_of(kind: str, pairs: Sequence[tuple[str, str]]) -> Tree:
    """Return the options that a query says."""
    tree: Tree = {"kind": kind, "apiVersion": "v1"}
    for name, value in pairs:
        if name in FLAGS and truthy(value):
            tree[name] = True
        elif name in TEXTS and value:
            tree[name] = value
        elif name == "command":
            tree.setdefault("command", []).append(value)
        elif name == "ports":
            tree.setdefault("ports", []).extend(int(port) for port in value.split(",") if port.isdigit())
    return tree
