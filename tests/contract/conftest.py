"""A network namespace, and a node in one."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.netlab import FOUR, SIX, Node, node_in
from edgekube.network import netns


@pytest.fixture
def namespace() -> Iterator[Path]:
    """Run the test in a network namespace of its own, as the node's."""
    path = Path(f"/run/netns/ekt-{uuid.uuid4().hex[:8]}")
    netns.make(path)
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        netns.join(path)
        try:
            yield path
        finally:
            netns.join(Path(f"/proc/self/fd/{home.fileno()}"))
            netns.remove(path)


@pytest.fixture
async def node(namespace: Path, tmp_path: Path) -> AsyncIterator[Node]:
    async with node_in(namespace, tmp_path) as made:
        yield made


@pytest.fixture(params=[FOUR, SIX], ids=["ip", "ip6"])
async def each_node(request, namespace: Path, tmp_path: Path) -> AsyncIterator[Node]:
    """The node, with what a test says in IPv4 done in either family."""
    async with node_in(namespace, tmp_path, request.param) as made:
        yield made
