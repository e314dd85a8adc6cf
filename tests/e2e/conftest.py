"""Fixtures: one cluster for all, a namespace for each test."""

from collections.abc import Iterator

import pytest

from e2e.harness import Cluster, start
from edgekube.app.up import down


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """One cluster for all tests that leave it as they found it."""
    running = start(tmp_path_factory.mktemp("e2e"), name="ek-e2e", port=16444)
    yield running
    down(running.options, print)


@pytest.fixture
def space(cluster, request) -> Iterator[str]:
    """A namespace of the test's own."""
    name = request.node.name.replace("_", "-").removeprefix("test-")[:50].strip("-")
    yield from cluster.namespace(name)
