"""Objects for controller tests, as the API would have stored them."""

import asyncio
import time
from itertools import count

import msgspec
import pytest

from edgekube.api.errors import Conflict, NotFound
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.client.typed import STRATEGIC
from edgekube.cloud.open import open_cloud
from edgekube.control.clock import stamp
from edgekube.control.informer import Informers
from edgekube.controllers.context import Options
from edgekube.controllers.table import build
from edgekube.scheduler.scheduler import Scheduler


class Make:
    """Builds stored-looking objects."""

    def __init__(self):
        self._uids = count(1)

    def meta(self, name, *, created=0.0, owner=None, **fields):
        owners = ()
        if owner is not None:
            owners = (
                meta_v1.OwnerReference(
                    api_version=owner.api_version, kind=owner.kind, name=owner.metadata.name,
                    uid=owner.metadata.uid, controller=True, block_owner_deletion=True,
                ),
            )  # fmt: skip
        fields = {"generation": 1, "resource_version": "1", "namespace": "default", **fields}
        return meta_v1.ObjectMeta(
            name=name,
            uid=f"uid-{next(self._uids)}",
            creation_timestamp=stamp(created),
            owner_references=owners,
            **fields,
        )

    def template(self, image="web:1", labels=None):
        return core_v1.PodTemplateSpec(
            metadata=meta_v1.ObjectMeta(labels=labels or {"app": "web"}),
            spec=core_v1.PodSpec(containers=(core_v1.Container(name="web", image=image),)),
        )

    def deployment(
        self, name="web", *, replicas=3, image="web:1", strategy=None, status=None, meta=None, **spec
    ):
        return apps_v1.Deployment(
            metadata=meta or self.meta(name),
            spec=apps_v1.DeploymentSpec(
                replicas=replicas, selector=meta_v1.LabelSelector(match_labels={"app": "web"}),
                template=self.template(image), strategy=strategy, progress_deadline_seconds=spec.pop("deadline", 600),
                **spec,
            ),
            status=status or apps_v1.DeploymentStatus(),
        )  # fmt: skip

    def replica_set(
        self, name="web-1", *, replicas=3, image="web:1", owner=None, status=None, created=0.0, **meta
    ):
        return apps_v1.ReplicaSet(
            metadata=self.meta(name, owner=owner, created=created, labels={"app": "web"}, **meta),
            spec=apps_v1.ReplicaSetSpec(
                replicas=replicas, selector=meta_v1.LabelSelector(match_labels={"app": "web"}),
                template=self.template(image),
            ),
            status=status or apps_v1.ReplicaSetStatus(replicas=0),
        )  # fmt: skip

    def pod(
        self,
        name="web-1-a",
        *,
        owner=None,
        node="",
        ready=None,
        phase="Running",
        created=0.0,
        restarts=0,
        **meta,
    ):
        conditions = ()
        if ready is not None:
            conditions = (
                core_v1.PodCondition(type="Ready", status="True", last_transition_time=stamp(ready)),
            )
        statuses = (
            core_v1.ContainerStatus(name="web", image="web:1", image_id="", ready=ready is not None, restart_count=restarts),
        )  # fmt: skip
        meta = {"labels": {"app": "web"}, **meta}
        return core_v1.Pod(
            metadata=self.meta(name, owner=owner, created=created, **meta),
            spec=core_v1.PodSpec(containers=(core_v1.Container(name="web", image="web:1"),), node_name=node),
            status=core_v1.PodStatus(phase=phase, conditions=conditions, container_statuses=statuses),
        )

    def node(self, name, *, conditions=(("Ready", "True"),), taints=(), **fields):
        spec = {k: fields.pop(k) for k in ("pod_cidr", "pod_cidrs") if k in fields}
        return core_v1.Node(
            metadata=self.meta(name, **{"namespace": "", **fields}),
            spec=core_v1.NodeSpec(taints=taints, **spec),
            status=core_v1.NodeStatus(
                conditions=tuple(core_v1.NodeCondition(type=t, status=s) for t, s in conditions)
            ),
        )


@pytest.fixture
def make():
    return Make()


@pytest.fixture(scope="session")
def make_any():
    """The same for hypothesis, whose examples share a fixture."""
    return Make()


class World:
    """A cluster without machines: API server, controllers and scheduler; `kubelet` plays the nodes."""

    def __init__(self, client, carrier, informers, options):
        self.client, self.carrier, self.informers, self.options = client, carrier, informers, options
        self.broken = set()
        self.dual = False
        """Whether pods get an IPv6 address too."""
        self._addresses = count(1)

    async def node(self, name, *, cpu="4", pods="110", labels=None, taints=()):
        amounts = {"cpu": cpu, "memory": "8Gi", "pods": pods}
        meta = meta_v1.ObjectMeta(name=name, labels=labels or {"kubernetes.io/hostname": name})
        conditions = (core_v1.NodeCondition(type="Ready", status="True"),)
        status = core_v1.NodeStatus(allocatable=amounts, capacity=amounts, conditions=conditions)
        node = core_v1.Node(metadata=meta, spec=core_v1.NodeSpec(taints=taints), status=status)
        stored = await self.client.create(core.NODES, node)
        return await self.client.update(
            core.NODES, msgspec.structs.replace(stored, status=status), subresource="status"
        )

    async def deploy(self, name="web", *, replicas=2, image="web:1", **spec):
        labels = {"app": name}
        return await self.client.create(
            apps.DEPLOYMENTS,
            apps_v1.Deployment(
                metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
                spec=apps_v1.DeploymentSpec(
                    replicas=replicas, selector=meta_v1.LabelSelector(match_labels=labels),
                    template=Make().template(image, labels), **spec,
                ),
            ),
        )  # fmt: skip

    async def kubelet(self):
        """Start what is bound, end what is deleted."""
        while True:
            for pod in self.informers.of(core.PODS):
                if not pod.spec.node_name:
                    continue
                try:
                    await self._kubelet(pod)
                except (Conflict, NotFound):
                    continue
            await asyncio.sleep(0.005)

    async def _kubelet(self, pod):
        if pod.metadata.deletion_timestamp:
            await self.client.delete(core.PODS, key_of(pod), grace=0, uid=pod.metadata.uid)
        elif pod.status.phase == "Pending" and pod.spec.containers[0].image not in self.broken:
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(time.time())}]
            number = next(self._addresses)
            ips = [f"10.42.0.{number}", *([f"fd00:42::{number:x}"] if self.dual else ())]
            addresses = {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
            status = {"phase": "Running", "conditions": conditions, **addresses}
            await self.client.patch(
                core.PODS, key_of(pod), {"status": status}, kind=STRATEGIC, subresource="status"
            )

    async def list(self, resource, **options):
        return (await self.client.list(resource, **options)).items

    async def eventually(self, check):
        """Wait until the async `check` returns something true, and return it."""
        async with asyncio.timeout(20):
            while not (found := await check()):
                await asyncio.sleep(0.01)
            return found

    async def quiet(self, seconds=0.3):
        """Wait until nothing is written any more; return what was."""
        while True:
            before = len(self.carrier.writes)
            await asyncio.sleep(seconds)
            if len(self.carrier.writes) == before:
                return self.carrier.writes

    async def rolled_out(self, name="web"):
        async def check():
            deployment = await self.client.get(apps.DEPLOYMENTS, Key("default", name))
            status, goal = deployment.status, deployment.spec.replicas
            done = status.observed_generation == deployment.metadata.generation and (
                (status.replicas or 0)
                == (status.updated_replicas or 0)
                == (status.available_replicas or 0)
                == goal
            )
            return deployment if done else None

        return await self.eventually(check)


@pytest.fixture
async def world(api_client, api_carrier):
    """The whole control plane, running."""
    options = Options(
        root_ca="-----BEGIN CERTIFICATE-----\n", cluster_cidr="10.42.0.0/16", cloud=open_cloud("edge://")
    )
    informers = Informers(api_client)
    world = World(api_client, api_carrier, informers, options)
    scheduler = Scheduler(api_client, informers)
    parts = [*build(api_client, informers, options), scheduler, informers]
    tasks = [asyncio.create_task(part.run()) for part in parts]
    tasks.append(asyncio.create_task(world.kubelet()))
    yield world
    failed = [task.exception() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert failed == []
