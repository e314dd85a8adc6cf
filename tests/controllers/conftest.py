"""Objects for controller tests, as the API would have stored them."""

from itertools import count

import pytest

from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.control.clock import stamp


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
            name=name, uid=f"uid-{next(self._uids)}", creation_timestamp=stamp(created), owner_references=owners, **fields
        )

    def template(self, image="web:1", labels=None):
        return core_v1.PodTemplateSpec(
            metadata=meta_v1.ObjectMeta(labels=labels or {"app": "web"}),
            spec=core_v1.PodSpec(containers=(core_v1.Container(name="web", image=image),)),
        )

    def deployment(self, name="web", *, replicas=3, image="web:1", strategy=None, status=None, meta=None, **spec):
        return apps_v1.Deployment(
            metadata=meta or self.meta(name),
            spec=apps_v1.DeploymentSpec(
                replicas=replicas, selector=meta_v1.LabelSelector(match_labels={"app": "web"}),
                template=self.template(image), strategy=strategy, progress_deadline_seconds=spec.pop("deadline", 600),
                **spec,
            ),
            status=status or apps_v1.DeploymentStatus(),
        )  # fmt: skip

    def replica_set(self, name="web-1", *, replicas=3, image="web:1", owner=None, status=None, created=0.0, **meta):
        return apps_v1.ReplicaSet(
            metadata=self.meta(name, owner=owner, created=created, labels={"app": "web"}, **meta),
            spec=apps_v1.ReplicaSetSpec(
                replicas=replicas, selector=meta_v1.LabelSelector(match_labels={"app": "web"}),
                template=self.template(image),
            ),
            status=status or apps_v1.ReplicaSetStatus(replicas=0),
        )  # fmt: skip

    def pod(self, name="web-1-a", *, owner=None, node="", ready=None, phase="Running", created=0.0, restarts=0, **meta):
        conditions = ()
        if ready is not None:
            conditions = (core_v1.PodCondition(type="Ready", status="True", last_transition_time=stamp(ready)),)
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
            status=core_v1.NodeStatus(conditions=tuple(core_v1.NodeCondition(type=t, status=s) for t, s in conditions)),
        )


@pytest.fixture
def make():
    return Make()


@pytest.fixture(scope="session")
def make_any():
    """The same for hypothesis, whose examples share a fixture."""
    return Make()
