"""A served API server, with and without controllers, and the clients people bring."""

import asyncio

import pytest

from clients.cluster import controlled, serving
from clients.helm_program import helm

__all__ = ["helm"]


@pytest.fixture
async def cluster(schemas, tmp_path):
    """The API over HTTPS, without controllers."""
    async with serving(schemas, tmp_path) as found:
        yield found


@pytest.fixture
async def world(cluster):
    """The same with every controller, the scheduler and one pretended node."""
    async with controlled(cluster) as found:
        yield found


@pytest.fixture
def in_thread(cluster):
    """Call something that blocks, while this loop goes on serving."""

    async def call(function, *arguments):
        async with asyncio.timeout(50):
            return await asyncio.to_thread(function, *arguments)

    return call
