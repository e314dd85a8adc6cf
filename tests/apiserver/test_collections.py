"""List and watch: selectors, pages, versions, bookmarks."""

import asyncio

import msgspec
import pytest

from edgekube.api.errors import Expired
from edgekube.api.kinds.core_v1 import CONFIG_MAPS, PODS
from edgekube.api.resource import Key
from edgekube.apiserver.identity import User
from edgekube.client.typed import Client

MAPS = "/api/v1/namespaces/default/configmaps"


async def fill(api, config_map, *names, **labels):
    for name in names:
        body = config_map(name)
        body["metadata"]["labels"] = labels
        await api.post(MAPS, body)


def names(tree):
    return [item["metadata"]["name"] for item in tree["items"]]


async def take(events, count):
    found = []
    async with asyncio.timeout(5):
        async for batch in events:
            for event in batch:
                found.append((event.type, msgspec.json.decode(event.raw)))
                assert msgspec.json.decode(event.frame) == {"type": event.type, "object": found[-1][1]}
            if len(found) >= count:
                break
    await events.aclose()
    return found


async def test_a_list_has_its_own_kind_and_version(api, config_map):
    await fill(api, config_map, "a", "b")
    tree = await api.get(MAPS)
    assert (tree["kind"], tree["apiVersion"]) == ("ConfigMapList", "v1")
    assert names(tree) == ["a", "b"]
    assert int(tree["metadata"]["resourceVersion"]) >= max(
        int(item["metadata"]["resourceVersion"]) for item in tree["items"]
    )


async def test_selectors(api, config_map):
    await fill(api, config_map, "a", "b", tier="x")
    await fill(api, config_map, "c")
    assert names(await api.get(f"{MAPS}?labelSelector=tier=x")) == ["a", "b"]
    assert names(await api.get(f"{MAPS}?labelSelector=!tier")) == ["c"]
    assert names(await api.get(f"{MAPS}?fieldSelector=metadata.name!=a")) == ["b", "c"]
    assert names(await api.get("/api/v1/configmaps?fieldSelector=metadata.namespace=default")) == [
        "a",
        "b",
        "c",
    ]
    status = await api.get(f"{MAPS}?fieldSelector=data.x=1", code=400)
    assert "field label not supported: data.x" in status["message"]
    await api.get(f"{MAPS}?labelSelector=a=b=c", code=400)


async def test_pods_by_node(api, pod, account):
    pods = "/api/v1/namespaces/default/pods"
    await api.post(pods, pod("a", nodeName="n1"))
    await api.post(pods, pod("b"))
    assert names(await api.get("/api/v1/pods?fieldSelector=spec.nodeName=n1")) == ["a"]
    assert names(await api.get("/api/v1/pods?fieldSelector=spec.nodeName=")) == ["b"]
    assert names(
        await api.get("/api/v1/pods?fieldSelector=status.phase!=Running,spec.hostNetwork=false")
    ) == ["a", "b"]


async def test_events_by_the_names_that_their_fields_have_in_each_version(api):
    newer, older = (f"/{root}/namespaces/default/events" for root in ("apis/events.k8s.io/v1", "api/v1"))
    for name, reporter in (("a", "kubelet"), ("b", "cron")):
        await api.post(newer, {
            "metadata": {"name": name}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "note": "It is so", "action": "Do", "reason": "Test",
            "type": "Normal", "reportingController": reporter, "reportingInstance": "n1",
        })  # fmt: skip
    for selector in ("reportingController=cron", "regarding.kind=Pod,metadata.name!=a"):
        assert names(await api.get(f"{newer}?fieldSelector={selector}")) == ["b"]
    # Who has no source is selected by who reports.
    for selector in ("reportingComponent=cron", "source=cron", "involvedObject.name=p,source!=kubelet"):
        assert names(await api.get(f"{older}?fieldSelector={selector}")) == ["b"]
    for path, label in ((newer, "involvedObject.name"), (newer, "source"), (older, "reportingController")):
        status = await api.get(f"{path}?fieldSelector={label}=x", code=400)
        assert status["message"].endswith(f"field label not supported: {label}")


async def test_pages_fit_together_whatever_happens_between(api, config_map):
    await fill(api, config_map, "a", "b", "c", "d")
    first = await api.get(f"{MAPS}?limit=2")
    assert names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 2
    await api.delete(f"{MAPS}/c")
    await fill(api, config_map, "cc")
    token = first["metadata"]["continue"]
    rest = await api.get(f"{MAPS}?limit=2&continue={token}")
    assert names(rest) == ["c", "d"]
    assert "continue" not in rest["metadata"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    await api.get(f"{MAPS}?continue=nonsense!", code=400)


async def test_a_continue_token_expires(api, config_map):
    await fill(api, config_map, "a", "b")
    token = (await api.get(f"{MAPS}?limit=1"))["metadata"]["continue"]
    for number in range(1100):
        await api.patch(f"{MAPS}/a", {"data": {"x": str(number)}})
    status = await api.get(f"{MAPS}?limit=1&continue={token}", code=410)
    assert status["reason"] == "Expired"


async def test_versions_of_lists(api, config_map):
    await fill(api, config_map, "a")
    version = (await api.get(MAPS))["metadata"]["resourceVersion"]
    await fill(api, config_map, "b")
    assert names(await api.get(f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")) == ["a"]
    assert names(await api.get(f"{MAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")) == [
        "a",
        "b",
    ]
    assert names(await api.get(f"{MAPS}?resourceVersion=0")) == ["a", "b"]
    status = await api.get(f"{MAPS}?resourceVersion=999999", code=504)
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    await api.get(f"{MAPS}?resourceVersion=x", code=400)
    await api.get(f"{MAPS}?resourceVersionMatch=Exact", code=422)
    await api.get(f"{MAPS}?resourceVersion=0&resourceVersionMatch=Exact", code=422)
    await api.get(f"{MAPS}?resourceVersion=1&resourceVersionMatch=Sometimes", code=422)


async def test_a_watch_tells_every_change_once_in_order(api, config_map):
    version = (await api.get(MAPS))["metadata"]["resourceVersion"]
    events = await api.watch(f"{MAPS}?watch=1&resourceVersion={version}")
    await fill(api, config_map, "a")
    await api.patch(f"{MAPS}/a", {"data": {"x": "1"}})
    await api.delete(f"{MAPS}/a")
    found = await take(events, 3)
    assert [kind for kind, _ in found] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in found]
    assert versions == sorted(set(versions))
    assert found[-1][1]["data"] == {"x": "1"}


async def test_a_watch_without_version_begins_with_what_there_is(api, config_map):
    await fill(api, config_map, "a", "b")
    found = await take(await api.watch(f"{MAPS}?watch=true&fieldSelector=metadata.name=b"), 1)
    assert [(kind, obj["metadata"]["name"]) for kind, obj in found] == [("ADDED", "b")]
    found = await take(await api.watch(f"{MAPS}/a?watch=true"), 1)
    assert [obj["metadata"]["name"] for _, obj in found] == ["a"]


async def test_leaving_a_selector_is_a_deletion(api, config_map):
    version = (await api.get(MAPS))["metadata"]["resourceVersion"]
    events = await api.watch(f"{MAPS}?watch=1&labelSelector=tier=x&resourceVersion={version}")
    await fill(api, config_map, "a", tier="x")
    await api.patch(f"{MAPS}/a", {"metadata": {"labels": {"tier": "y"}}})
    found = await take(events, 2)
    assert [kind for kind, _ in found] == ["ADDED", "DELETED"]


async def test_initial_events_end_with_a_marked_bookmark(api, config_map):
    await fill(api, config_map, "a", "b")
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    found = await take(await api.watch(f"{MAPS}?{query}"), 3)
    assert [kind for kind, _ in found] == ["ADDED", "ADDED", "BOOKMARK"]
    meta = found[-1][1]["metadata"]
    assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(meta["resourceVersion"]) >= int(found[1][1]["metadata"]["resourceVersion"])
    await api.get(f"{MAPS}?watch=1&sendInitialEvents=true", code=422)


async def test_a_watch_of_nothing_still_marks_the_end(api):
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    found = await take(await api.watch(f"/api/v1/nodes?{query}"), 1)
    assert [kind for kind, _ in found] == ["BOOKMARK"]


async def test_a_watch_from_too_long_ago_says_expired(api, config_map):
    await fill(api, config_map, "a")
    for number in range(1100):
        await api.patch(f"{MAPS}/a", {"data": {"x": str(number)}})
    ((kind, status),) = await take(await api.watch(f"{MAPS}?watch=1&resourceVersion=1"), 1)
    assert kind == "ERROR"
    assert (status["code"], status["reason"]) == (410, "Expired")


@pytest.mark.looptime
async def test_bookmarks_come_each_minute(make_server, start):
    async with start(make_server()) as api:
        path = "/api/v1/nodes?watch=1&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=150"
        clock = asyncio.get_running_loop().time
        began = clock()
        found = [event.type async for batch in await api.watch(path) for event in batch]
        assert found == ["BOOKMARK", "BOOKMARK"]
        assert clock() - began == pytest.approx(150, abs=1)


async def test_the_typed_client_in_process(api, config_map):
    client = Client(api.server.local(User("admin", ("system:masters",))))
    await fill(api, config_map, "a")
    found = await client.get(CONFIG_MAPS, Key("default", "a"))
    assert found.metadata.name == "a"
    events = client.watch(CONFIG_MAPS, namespace="default")
    event = await anext(events)
    assert (event.type, event.object.metadata.name) == ("ADDED", "a")
    await events.aclose()
    for number in range(1100):
        await api.patch(f"{MAPS}/a", {"data": {"x": str(number)}})
    with pytest.raises(Expired):
        await anext(client.watch(CONFIG_MAPS, namespace="default", since="1"))
    assert not (await client.list(PODS)).items


async def test_a_list_that_expired_can_be_taken_up_again(api, config_map):
    for number in range(4):
        await api.post(MAPS, config_map(f"c{number}"))
    first = await api.get(f"{MAPS}?limit=2")
    cache = api.server._caches.of(api.server.scheme.by_path("", "v1", "configmaps"))
    cache.floor = cache.revision + 1
    status = await api.get(f"{MAPS}?limit=2&continue={first['metadata']['continue']}", 410)
    assert status["reason"] == "Expired"
    rest = await api.get(f"{MAPS}?continue={status['metadata']['continue']}")
    names = [item["metadata"]["name"] for item in (*first["items"], *rest["items"])]
    assert names == ["c0", "c1", "c2", "c3"]


async def test_watching_by_path(api, config_map):
    await api.post(MAPS, config_map("a"))
    for path in (
        "/api/v1/watch/namespaces/default/configmaps",
        "/api/v1/watch/namespaces/default/configmaps/a",
    ):
        events = await api.watch(f"{path}?timeoutSeconds=5")
        async for batch in events:
            assert batch[0].type == "ADDED"
            break
        await events.aclose()
