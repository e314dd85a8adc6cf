"""The typed client against the real API server."""

from edgekube.api.kinds.core_v1 import NAMESPACES


async def test_bookmarks_are_read_whatever_else_they_carry(api_client):
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    async for event in api_client.watch(NAMESPACES, options=options):
        if event.type == "BOOKMARK":
            assert int(event.resource_version) > 0
            assert event.object is None
            break
