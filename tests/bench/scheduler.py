"""How fast pods get their nodes: the decision alone, and bound through the API server in this process.

python tests/bench/scheduler.py [pods] [nodes]
"""

import asyncio
import contextlib
import sys
import time

import uvloop

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.schema import Schemas
from edgekube.api.types import core_v1, meta_v1
from edgekube.apiserver.bootstrap import BootstrapConfig, bootstrap
from edgekube.apiserver.identity import User
from edgekube.apiserver.server import ApiServer, ApiServerConfig
from edgekube.client.typed import Client
from edgekube.control.informer import Informers
from edgekube.scheduler.cache import Cache
from edgekube.scheduler.decide import decide
from edgekube.scheduler.infos import pod_info
from edgekube.scheduler.memory import Memory
from edgekube.scheduler.plugins import Plugins
from edgekube.scheduler.scheduler import Scheduler
from edgekube.store.memory import MemoryStore


def node(number):
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "5000"}
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(name=f"n{number}", labels={"kubernetes.io/hostname": f"n{number}"}),
        status=core_v1.NodeStatus(
            allocatable=amounts, conditions=(core_v1.NodeCondition(type="Ready", status="True"),)
        ),
    )


def pod(number, uid=""):
    requests = {"cpu": "10m", "memory": "16Mi"}
    container = core_v1.Container(
        name="c", image="web:1", resources=core_v1.ResourceRequirements(requests=requests)
    )
    meta = meta_v1.ObjectMeta(name=f"p{number}", namespace="default", uid=uid, labels={"app": "web"})
    return core_v1.Pod(metadata=meta, spec=core_v1.PodSpec(containers=(container,)))


def pure(pods, nodes):
    cache, plugins, memory = Cache(), Plugins(), Memory()
    for number in range(nodes):
        cache.set_node(node(number))
    infos = [pod_info(pod(number, f"uid{number}")) for number in range(pods)]
    start, first = time.perf_counter(), 0
    for info in infos:
        found = decide(info, cache.snapshot(), plugins, start=first, memory=memory)
        cache.assume(info, found.node)
        first = (first + found.looked) % nodes
    took = time.perf_counter() - start
    print(
        f"decision alone: {pods / took:8.0f} pods/s, {took / pods * 1e6:6.0f} µs a pod, {nodes} nodes, "
        f"{memory.looks / pods:.2f} looks a pod"
    )


async def bound(pods, nodes):
    server = ApiServer(MemoryStore(), Schemas.load(), ApiServerConfig())
    client = Client(server.local(User("system:kube-scheduler", ("system:masters",))))
    tasks = [asyncio.create_task(server.run())]
    await server.ready.wait()
    await bootstrap(client, BootstrapConfig(address="192.0.2.1"))
    await client.create(
        core.SERVICE_ACCOUNTS,
        core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace="default")),
    )
    for number in range(nodes):
        made = await client.create(core.NODES, node(number))
        await client.update(core.NODES, made, subresource="status")
        await client.patch(
            core.NODES,
            core_key(number),
            {"status": {"allocatable": dict(node(0).status.allocatable)}},
            subresource="status",
        )
    for number in range(pods):
        await client.create(core.PODS, pod(number))
    informers = Informers(client)
    scheduler = Scheduler(client, informers)
    tasks.append(asyncio.create_task(informers.run()))
    await asyncio.sleep(0.01)
    cache = informers.of(core.PODS)
    done = asyncio.Event()
    count = 0

    def seen(old, new):
        nonlocal count
        if new is not None and new.spec.node_name and (old is None or not old.spec.node_name):
            count += 1
            if count == pods:
                done.set()

    cache.subscribe(seen)
    await cache.synced.wait()
    start, cpu = time.perf_counter(), time.process_time()
    tasks.append(asyncio.create_task(scheduler.run()))
    await done.wait()
    took, used = time.perf_counter() - start, time.process_time() - cpu
    print(f"bound by API:   {pods / took:8.0f} pods/s, {used / pods * 1e6:6.0f} µs CPU a pod, {nodes} nodes")
    begun = time.perf_counter()
    count, pods = 0, 1
    done.clear()
    await client.create(core.PODS, pod("last"))
    await done.wait()
    print(f"one pod:        {(time.perf_counter() - begun) * 1e3:8.2f} ms from POST to bound and seen")
    for task in tasks:
        task.cancel()
    with contextlib.suppress(BaseException):
        await asyncio.gather(*tasks, return_exceptions=True)


def core_key(number):
    return Key("", f"n{number}")


if __name__ == "__main__":
    pods, nodes = (int(text) for text in (sys.argv[1:] + ["2000", "10"][len(sys.argv) - 1 :]))
    pure(pods, nodes)
    uvloop.run(bound(pods, nodes))
