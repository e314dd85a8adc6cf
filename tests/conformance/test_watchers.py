"""[sig-api-machinery] Watchers, chunking, tables, generated names."""

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def labelled(name, value, **data):
    return {"metadata": {"name": name, "labels": {"watch-this": value}}, "data": data}


async def test_observe_add_update_and_delete_watch_notifications(api):
    maps = f"{api.base}/configmaps"
    rv = (await api.get(maps))["metadata"]["resourceVersion"]
    async with (
        api.watch(maps, labelSelector="watch-this=a", resourceVersion=rv) as a,
        api.watch(maps, labelSelector="watch-this=b", resourceVersion=rv) as b,
        api.watch(maps, labelSelector="watch-this in (a,b)", resourceVersion=rv) as both,
    ):
        await api.post(maps, labelled("a", "a"))
        for watch in (a, both):
            assert (await watch())[0] == "ADDED"
        for number in ("1", "2"):
            await api.patch(f"{maps}/a", {"data": {"mutation": number}})
            for watch in (a, both):
                sort, tree = await watch()
                assert (sort, tree["data"]["mutation"]) == ("MODIFIED", number)
        await api.delete(f"{maps}/a")
        for watch in (a, both):
            sort, tree = await watch()
            assert (sort, tree["data"]["mutation"]) == ("DELETED", "2")
        await api.post(maps, labelled("b", "b"))
        for watch in (b, both):
            assert (await watch())[0] == "ADDED"
        await api.delete(f"{maps}/b")
        for watch in (b, both):
            assert (await watch())[0] == "DELETED"


async def test_start_watching_from_a_specific_resource_version(api):
    maps = f"{api.base}/configmaps"
    await api.post(maps, labelled("a", "x"))
    first = await api.patch(f"{maps}/a", {"data": {"mutation": "1"}})
    await api.patch(f"{maps}/a", {"data": {"mutation": "2"}})
    await api.delete(f"{maps}/a")
    rv = first["metadata"]["resourceVersion"]
    async with api.watch(maps, labelSelector="watch-this=x", resourceVersion=rv) as watch:
        sort, tree = await watch()
        assert (sort, tree["data"]) == ("MODIFIED", {"mutation": "2"})
        assert (await watch())[0] == "DELETED"


async def test_restart_watching_from_the_last_resource_version_observed(api):
    maps = f"{api.base}/configmaps"
    rv = (await api.get(maps))["metadata"]["resourceVersion"]
    async with api.watch(maps, labelSelector="watch-this=x", resourceVersion=rv) as watch:
        await api.post(maps, labelled("a", "x"))
        await api.patch(f"{maps}/a", {"data": {"mutation": "1"}})
        assert (await watch())[0] == "ADDED"
        last = (await watch())[1]["metadata"]["resourceVersion"]
    await api.patch(f"{maps}/a", {"data": {"mutation": "2"}})
    await api.delete(f"{maps}/a")
    async with api.watch(maps, labelSelector="watch-this=x", resourceVersion=last) as watch:
        sort, tree = await watch()
        assert (sort, tree["data"]["mutation"]) == ("MODIFIED", "2")
        assert (await watch())[0] == "DELETED"


async def test_an_object_deleted_notification_if_it_stops_meeting_the_selector(api):
    maps = f"{api.base}/configmaps"
    rv = (await api.get(maps))["metadata"]["resourceVersion"]
    async with api.watch(maps, labelSelector="watch-this=x", resourceVersion=rv) as watch:
        await api.post(maps, labelled("a", "x"))
        await api.patch(f"{maps}/a", {"data": {"mutation": "1"}})
        await api.patch(f"{maps}/a", {"metadata": {"labels": {"watch-this": "y"}}})
        assert [(await watch())[0] for _ in range(3)] == ["ADDED", "MODIFIED", "DELETED"]
        await api.patch(f"{maps}/a", {"data": {"mutation": "2"}})
        await api.patch(f"{maps}/a", {"metadata": {"labels": {"watch-this": "x"}}})
        sort, tree = await watch()
        assert (sort, tree["data"]["mutation"]) == ("ADDED", "2")
        await api.patch(f"{maps}/a", {"data": {"mutation": "3"}})
        await api.delete(f"{maps}/a")
        assert [(await watch())[0] for _ in range(2)] == ["MODIFIED", "DELETED"]


async def test_all_watch_events_come_in_the_same_order_for_concurrent_watches(api):
    maps = f"{api.base}/configmaps"
    versions = [(await api.get(maps))["metadata"]["resourceVersion"]]
    for number in range(20):
        made = await api.post(maps, labelled(f"m{number}", "x"))
        versions.append(made["metadata"]["resourceVersion"])
    for number in range(0, 20, 3):
        await api.delete(f"{maps}/m{number}")
    last = (await api.get(maps))["metadata"]["resourceVersion"]

    async def from_version(rv):
        found = []
        async with api.watch(maps, labelSelector="watch-this=x", resourceVersion=rv) as watch:
            while not found or int(found[-1][1]) < int(last):
                sort, tree = await watch()
                found.append((sort, tree["metadata"]["resourceVersion"], tree["metadata"]["name"]))
        return found

    everything = await from_version(versions[0])
    assert len(everything) == 27
    for number in (5, 13, 20):
        assert await from_version(versions[number]) == everything[number:]


# ---- Servers with support for API chunking ----


async def templates(api, count):
    path = f"{api.base}/podtemplates"
    spec = {"containers": [{"name": "c", "image": "localhost/pause:1"}]}
    for number in range(count):
        name = f"template-{number:04}"
        await api.post(path, {"metadata": {"name": name}, "template": {"spec": spec}})
    return path


async def test_chunks_of_results_for_list_calls(api):
    path = await templates(api, 40)
    for limit in (17, 40, 7):
        found, token, version = [], "", None
        while True:
            listed = await api.get(f"{path}?limit={limit}&continue={token}")
            meta = listed["metadata"]
            version = version or meta["resourceVersion"]
            assert meta["resourceVersion"] == version
            assert len(listed["items"]) <= limit
            found += [item["metadata"]["name"] for item in listed["items"]]
            token = meta.get("continue", "")
            if not token:
                assert "remainingItemCount" not in meta
                break
            assert meta["remainingItemCount"] + len(found) == 40
        assert found == [f"template-{number:04}" for number in range(40)]
    full = await api.get(path)
    assert len(full["items"]) == 40
    assert "continue" not in full["metadata"]


async def test_a_list_goes_on_consistently_while_objects_change(api):
    path = await templates(api, 10)
    first = await api.get(f"{path}?limit=4")
    await api.delete(f"{path}/template-0007")
    late = (await api.get(f"{path}/template-0000"))["template"]
    await api.post(path, {"metadata": {"name": "template-9999"}, "template": late})
    token = first["metadata"]["continue"]
    rest = await api.get(f"{path}?limit=50&continue={token}")
    assert [item["metadata"]["name"] for item in rest["items"]] == [f"template-{n:04}" for n in range(4, 10)]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


# ---- Servers with support for Table transformation ----


async def test_a_406_for_a_backend_which_does_not_implement_metadata(api):
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer, _ = await api.send("POST", path, body, accept=TABLE)
    assert answer.status == 406


async def test_pod_details(api, pod):
    await api.post(f"{api.base}/pods", pod("a", schedulingGates=[{"name": "x.io/wait"}]))
    table = await api.get(f"{api.base}/pods/a", accept=TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names[0] == "Name"
    (row,) = table["rows"]
    assert len(row["cells"]) == len(names)
    assert row["cells"][0] == "a"
    assert row["object"]["kind"] == "PartialObjectMetadata"


async def test_chunks_of_table_results_for_list_calls(api):
    path = await templates(api, 20)
    first = await api.get(f"{path}?limit=10", accept=TABLE)
    assert len(first["rows"]) == 10
    assert first["metadata"]["resourceVersion"]
    token = first["metadata"]["continue"]
    second = await api.get(f"{path}?continue={token}", accept=TABLE)
    assert len(second["rows"]) == 10
    assert {row["cells"][0] for row in first["rows"] + second["rows"]} == {
        f"template-{n:04}" for n in range(20)
    }


async def test_generic_metadata_details_across_all_namespaces_for_nodes(api):
    table = await api.get("/api/v1/nodes", accept=TABLE)
    assert table["rows"]
    for row in table["rows"]:
        assert row["cells"][0] == row["object"]["metadata"]["name"]


async def test_generated_names_do_not_clash(api):
    made = {
        (await api.post(f"{api.base}/configmaps", {"metadata": {"generateName": "gen-"}}))["metadata"]["name"]
        for _ in range(30)
    }
    assert len(made) == 30
    assert all(name.startswith("gen-") and len(name) == 9 for name in made)


async def test_aggregated_discovery_and_preferred_versions(api):
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    aggregated = {item["metadata"]["name"]: item for item in (await api.get("/apis", accept=accept))["items"]}
    for group in (await api.get("/apis"))["groups"]:
        assert group["preferredVersion"]["groupVersion"] in [v["groupVersion"] for v in group["versions"]]
        one = await api.get(f"/apis/{group['name']}")
        assert one["preferredVersion"] == group["preferredVersion"]
        assert [v["version"] for v in aggregated[group["name"]]["versions"]] == [
            v["version"] for v in group["versions"]
        ]
        for version in group["versions"]:
            listed = await api.get(f"/apis/{version['groupVersion']}")
            assert listed["resources"], version
    wanted = {"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "authentication.k8s.io",
              "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io",
              "events.k8s.io", "networking.k8s.io", "node.k8s.io", "policy", "scheduling.k8s.io", "storage.k8s.io"}  # fmt: skip
    assert wanted <= aggregated.keys()
    core = (await api.get("/api", accept=accept))["items"]
    assert [v["version"] for v in core[0]["versions"]] == ["v1"]


async def test_the_version_and_the_health_of_the_server(api):
    version = await api.get("/version")
    assert version["major"].isdigit()
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}")
    for path in ("/healthz", "/livez", "/readyz"):
        answer, text = await api.send("GET", path)
        assert (answer.status, text) == (200, "ok")


async def test_a_watch_begins_with_what_is_there_when_asked(api):
    maps = f"{api.base}/configmaps"
    await api.post(maps, labelled("a", "x"))
    query = {
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
    }
    async with api.watch(maps, labelSelector="watch-this=x", **query) as watch:
        assert (await watch())[0] == "ADDED"
        sort, tree = await watch()
        assert (sort, tree["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})
        await api.delete(f"{maps}/a")
        assert (await watch())[0] == "DELETED"
