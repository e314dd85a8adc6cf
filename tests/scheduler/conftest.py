"""Pods and nodes for scheduler tests."""

from itertools import count

import pytest

from edgekube.api.types import core_v1, meta_v1
from edgekube.scheduler.cache import Cache
from edgekube.scheduler.infos import pod_info


class Make:
    def __init__(self):
        self._uids = count(1)

    def pod(
        self,
        name="p",
        *,
        labels=None,
        namespace="default",
        containers=None,
        requests=None,
        ports=(),
        owner="",
        **spec,
    ):
        if containers is None:
            container = core_v1.Container(
                name="c", image="web:1", ports=ports,
                resources=core_v1.ResourceRequirements(requests=requests or {}),
            )  # fmt: skip
            containers = (container,)
        owners = ()
        if owner:
            owners = (
                meta_v1.OwnerReference(
                    api_version="apps/v1", kind="ReplicaSet", name="rs", uid=owner, controller=True
                ),
            )
        status = core_v1.PodStatus(phase=spec.pop("phase", "Pending"))
        meta = meta_v1.ObjectMeta(
            name=name,
            namespace=namespace,
            uid=f"uid-{next(self._uids)}",
            labels=labels or {"app": "web"},
            owner_references=owners,
        )
        return core_v1.Pod(metadata=meta, spec=core_v1.PodSpec(containers=containers, **spec), status=status)

    def info(self, *args, **kwargs):
        return pod_info(self.pod(*args, **kwargs))

    def node(
        self,
        name,
        *,
        cpu="4",
        memory="8Gi",
        pods="110",
        labels=None,
        taints=(),
        unschedulable=None,
        images=(),
        sick=(),
        **more,
    ):
        return core_v1.Node(
            metadata=meta_v1.ObjectMeta(name=name, labels=labels or {"kubernetes.io/hostname": name}),
            spec=core_v1.NodeSpec(taints=taints, unschedulable=unschedulable),
            status=core_v1.NodeStatus(
                allocatable={"cpu": cpu, "memory": memory, "pods": pods, **more}, images=images,
                conditions=tuple(core_v1.NodeCondition(type=kind, status="True") for kind in ("Ready", *sick)),
            ),
        )  # fmt: skip

    def cache(self, *nodes, pods=()):
        cache = Cache()
        for node in nodes:
            cache.set_node(node)
        for pod in pods:
            cache.set_pod(pod)
        return cache


@pytest.fixture
def make():
    return Make()


@pytest.fixture(scope="session")
def make_any():
    return Make()
