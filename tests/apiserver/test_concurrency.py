"""Many writers at once."""

import asyncio

import pytest

from edgekube.store.memory import MemoryStore
from edgekube.store.sqlite import open_store

MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"


async def test_a_hundred_writers_lose_no_update(api, config_map):
    await api.post(MAPS, config_map("a", n="0"))

    async def increment():
        while True:
            seen = await api.get(f"{MAPS}/a")
            await asyncio.sleep(0)
            seen["data"]["n"] = str(int(seen["data"]["n"]) + 1)
            response = await api.send("PUT", f"{MAPS}/a", seen)
            if response.code == 200:
                return
            assert response.code == 409

    await asyncio.gather(*(increment() for _ in range(100)))
    assert (await api.get(f"{MAPS}/a"))["data"]["n"] == "100"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_concurrent_patches_of_different_keys_all_arrive(
    make_server, start, config_map, tmp_path, kind
):
    store = MemoryStore() if kind == "memory" else open_store(f"sqlite:///{tmp_path}/db")
    async with start(make_server(store)) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        await api.post(MAPS, config_map("a"))
        await asyncio.gather(*(api.patch(f"{MAPS}/a", {"data": {f"k{n}": "x"}}) for n in range(5)))
        assert set((await api.get(f"{MAPS}/a"))["data"]) == {"k0", "k1", "k2", "k3", "k4"}
    await store.close()


async def test_concurrent_creates_of_one_name(api, config_map):
    codes = [
        r.code for r in await asyncio.gather(*(api.send("POST", MAPS, config_map("a")) for _ in range(20)))
    ]
    assert sorted(codes) == [201, *[409] * 19]


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def test_cluster_addresses_are_never_given_twice(api):
    made = await asyncio.gather(*(api.post(SERVICES, service(f"s{n}")) for n in range(100)))
    addresses = {item["spec"]["clusterIP"] for item in made}
    assert len(addresses) == 100
    assert not addresses & {"10.43.0.1", "10.43.0.10", "10.43.0.0", "10.43.0.255"}


async def test_addresses_are_remembered_across_a_restart(make_server, start):
    store = MemoryStore()
    async with start(make_server(store)) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "default"}})
        before = {(await api.post(SERVICES, service(f"a{n}")))["spec"]["clusterIP"] for n in range(120)}
    async with start(make_server(store)) as api:
        after = {(await api.post(SERVICES, service(f"b{n}")))["spec"]["clusterIP"] for n in range(120)}
    assert len(before | after) == 240


async def test_a_full_range_says_so_and_a_deleted_service_gives_back(api):
    for number in range(252):
        await api.post(SERVICES, service(f"s{number}"))
    status = await api.post(SERVICES, service("more"), code=500)
    assert "range is full" in status["message"]
    gone = (await api.get(f"{SERVICES}/s7"))["spec"]["clusterIP"]
    await api.delete(f"{SERVICES}/s7")
    assert (await api.post(SERVICES, service("more")))["spec"]["clusterIP"] == gone
