"""Fixtures: one cluster for all, a namespace for each test."""

import base64
import os
from collections.abc import Iterator

import pytest

from clients.helm_program import helm
from e2e.harness import Cluster, free_port, start
from edgekube.app.up import down

__all__ = ["helm"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """One cluster for all tests that leave it as they found it."""
    running = start(tmp_path_factory.mktemp("e2e"), name=f"ek-{os.getpid()}", port=free_port())
    yield running
    down(running.options, print)


@pytest.fixture
def space(cluster, request) -> Iterator[str]:
    """A namespace of the test's own."""
    name = request.node.name.replace("_", "-").removeprefix("test-")[:50].strip("-")
    yield from cluster.namespace(name)


@pytest.fixture
def k(cluster, space):
    """kubectl in the test's namespace."""
    return lambda *words, **more: cluster.kubectl("-n", space, *words, **more)


@pytest.fixture
def bare(cluster, tmp_path):
    """kubectl arguments that say where the cluster is and not who asks."""
    view = cluster.json("config", "view", "--raw", "--minify")
    place = tmp_path / "ca.crt"
    place.write_bytes(base64.b64decode(view["clusters"][0]["cluster"]["certificate-authority-data"]))
    return (
        "--kubeconfig=/dev/null",
        f"--server={view['clusters'][0]['cluster']['server']}",
        f"--certificate-authority={place}",
    )


@pytest.fixture
def bearing(cluster, space, bare):
    """kubectl in the test's namespace, known by a token alone."""
    return lambda token, *words, **more: cluster.kubectl(
        *bare, f"--token={token}", "-n", space, *words, **more
    )
