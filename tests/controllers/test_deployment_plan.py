"""A rollout: every step of it in a simulated cluster, and the cases people look at."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.types import apps_v1
from edgekube.controllers.deployment import facts, rollout
from edgekube.controllers.deployment.plan import plan
from edgekube.controllers.hashing import HASH_LABEL, same_template, template_hash, with_label

NOW = 1_000_000.0
replace = msgspec.structs.replace


def rolling(surge, unavailable):
    update = apps_v1.RollingUpdateDeployment(max_surge=surge, max_unavailable=unavailable)
    return apps_v1.DeploymentStrategy(type="RollingUpdate", rolling_update=update)


class Cluster:
    """Applies plans; pods appear and become ready when told."""

    def __init__(self, make, deployment):
        self.make, self.deployment, self.sets, self.now = make, deployment, [], NOW

    def reconcile(self):
        running = {rs.metadata.uid: rs.status.replicas for rs in self.sets}
        decided = plan(self.deployment, self.sets, running, self.now)
        if decided.create is not None:
            meta = replace(
                decided.create.metadata, uid=f"uid-{len(self.sets)}-{self.now}", generation=1,
                creation_timestamp=self.make.meta("x", created=self.now).creation_timestamp,
            )  # fmt: skip
            created = replace(decided.create, metadata=meta, status=apps_v1.ReplicaSetStatus(replicas=0))
            self.sets.append(created)
        updated = {old.metadata.name: new for old, new in decided.updates}
        gone = {rs.metadata.name for rs in decided.delete}
        self.sets = [updated.get(rs.metadata.name, rs) for rs in self.sets if rs.metadata.name not in gone]
        meta = self.deployment.metadata
        if decided.revision:
            meta = replace(meta, annotations={**meta.annotations, facts.REVISION: decided.revision})
        self.deployment = replace(self.deployment, metadata=meta, status=decided.status)
        self.now += 1
        return decided

    def settle(self, *, ready=None):
        """Pods are made and removed; `ready` limits how many new ones become ready."""
        for number, rs in enumerate(self.sets):
            size = facts.size(rs)
            up = min(facts.available(rs), size)
            more = size - up if ready is None else min(ready, size - up)
            if ready is not None:
                ready -= more
            status = apps_v1.ReplicaSetStatus(
                replicas=size, ready_replicas=up + more, available_replicas=up + more, observed_generation=1
            )
            self.sets[number] = replace(rs, status=status)

    def finish(self):
        for _ in range(200):
            decided = self.reconcile()
            self.settle()
            if decided.create is None and not decided.updates and self.done():
                return
        raise AssertionError("the rollout never ends")

    def done(self):
        # Two looks: the status follows the ReplicaSets by one.
        self.reconcile()
        status = self.deployment.status
        return status.updated_replicas == status.replicas == status.available_replicas and (
            (status.replicas or 0) == facts.replicas(self.deployment)
        )

    def image(self, image):
        spec = replace(self.deployment.spec, template=self.make.template(image))
        meta = replace(self.deployment.metadata, generation=self.deployment.metadata.generation + 1)
        self.deployment = replace(self.deployment, spec=spec, metadata=meta)

    def scale(self, replicas):
        self.deployment = replace(self.deployment, spec=replace(self.deployment.spec, replicas=replicas))

    @property
    def total(self):
        return sum(map(facts.size, self.sets))

    @property
    def available(self):
        return sum(map(facts.available, self.sets))

    def condition(self, kind):
        return next((c for c in self.deployment.status.conditions if c.type == kind), None)


amount = st.one_of(st.integers(0, 5), st.integers(0, 100).map(lambda n: f"{n}%"))


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(0, 12), surge=amount, unavailable=amount,
    readiness=st.lists(st.integers(0, 4), max_size=12), images=st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
)  # fmt: skip
def test_no_step_of_a_rollout_exceeds_surge_or_drops_below_availability(
    make_any, replicas, surge, unavailable, readiness, images
):
    cluster = Cluster(make_any, make_any.deployment(replicas=replicas, strategy=rolling(surge, unavailable)))
    cluster.finish()
    ceiling = replicas + facts.surge(cluster.deployment)
    floor = replicas - facts.unavailable(cluster.deployment)
    steps = iter(readiness)
    for image in images:
        cluster.image(image)
        for _ in range(6):
            cluster.reconcile()
            assert cluster.total <= max(ceiling, replicas)
            # Pods go the moment their ReplicaSet shrinks: what stays must be enough.
            assert sum(min(facts.available(rs), facts.size(rs)) for rs in cluster.sets) >= floor
            cluster.settle(ready=next(steps, 1))
    cluster.finish()
    assert cluster.total == cluster.available == replicas
    live = [rs for rs in cluster.sets if facts.size(rs)]
    assert all(same_template(rs.spec.template, cluster.deployment.spec.template) for rs in live)


def test_a_settled_deployment_writes_nothing(make):
    cluster = Cluster(make, make.deployment())
    cluster.finish()
    before = cluster.deployment
    decided = cluster.reconcile()
    assert (decided.create, decided.updates, decided.delete) == (None, (), ())
    assert decided.status == before.status
    assert decided.revision == before.metadata.annotations[facts.REVISION]


def test_the_first_replica_set_is_named_after_the_hash_of_its_template(make):
    deployment = make.deployment()
    created = plan(deployment, [], {}, NOW).create
    value = template_hash(deployment.spec.template, 0)
    assert created.metadata.name == f"web-{value}"
    assert created.spec.selector.match_labels == {"app": "web", HASH_LABEL: value}
    assert created.spec.template.metadata.labels[HASH_LABEL] == value
    assert created.metadata.annotations == {facts.REVISION: "1", facts.DESIRED: "3", facts.MAXIMUM: "4"}
    assert created.metadata.owner_references[0].controller
    assert set(value) <= set("bcdfghjklmnpqrstvwxz2456789")


def test_a_collision_changes_the_name(make):
    template = make.template()
    assert template_hash(template, 0) != template_hash(template, 1)


def test_the_hash_label_is_no_difference_between_templates(make):
    assert same_template(with_label(make.template(), "x"), make.template())
    assert not same_template(make.template("web:2"), make.template())


def test_going_back_to_an_old_template_reuses_its_replica_set_with_a_new_revision(make):
    cluster = Cluster(make, make.deployment())
    cluster.finish()
    cluster.image("web:2")
    cluster.finish()
    assert cluster.deployment.metadata.annotations[facts.REVISION] == "2"
    cluster.image("web:1")
    cluster.finish()
    assert len(cluster.sets) == 2
    assert [facts.revision(rs) for rs in cluster.sets] == [3, 2]
    assert [facts.size(rs) for rs in cluster.sets] == [3, 0]
    assert cluster.deployment.metadata.annotations[facts.REVISION] == "3"


def test_only_the_newest_old_replica_sets_are_kept(make):
    cluster = Cluster(make, make.deployment(revision_history_limit=2))
    for number in range(6):
        cluster.image(f"web:{number}")
        cluster.finish()
    cluster.reconcile()
    assert sorted(facts.revision(rs) for rs in cluster.sets) == [4, 5, 6]


def test_recreate_waits_for_the_last_old_pod(make):
    strategy = apps_v1.DeploymentStrategy(type="Recreate")
    cluster = Cluster(make, make.deployment(strategy=strategy))
    cluster.finish()
    cluster.image("web:2")
    assert [facts.size(new) for _, new in cluster.reconcile().updates] == [0]
    old = cluster.sets[0].metadata.uid
    gone = [replace(rs, status=apps_v1.ReplicaSetStatus(replicas=0)) for rs in cluster.sets]
    assert plan(cluster.deployment, gone, {old: 1}, NOW).create is None
    assert facts.size(plan(cluster.deployment, gone, {}, NOW).create) == 3


def test_a_paused_deployment_scales_but_does_not_roll(make):
    cluster = Cluster(make, make.deployment())
    cluster.finish()
    cluster.deployment = replace(cluster.deployment, spec=replace(cluster.deployment.spec, paused=True))
    cluster.image("web:2")
    cluster.scale(5)
    decided = cluster.reconcile()
    assert decided.create is None
    assert [facts.size(rs) for rs in cluster.sets] == [5]
    assert cluster.condition("Progressing").reason == "DeploymentPaused"
    cluster.deployment = replace(cluster.deployment, spec=replace(cluster.deployment.spec, paused=False))
    assert cluster.reconcile().create is not None


def test_scaling_in_mid_rollout_is_shared_in_proportion(make):
    cluster = Cluster(make, make.deployment(replicas=10, strategy=rolling(3, 2)))
    cluster.finish()
    cluster.image("web:2")
    cluster.reconcile()
    cluster.settle(ready=0)
    cluster.reconcile()
    sizes = [facts.size(rs) for rs in cluster.sets]
    assert sizes == [8, 3]
    cluster.scale(20)
    cluster.reconcile()
    after = [facts.size(rs) for rs in cluster.sets]
    assert sum(after) == 23
    assert all(now > before for now, before in zip(after, sizes, strict=True))


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 3, (1, 0)),
        ("25%", "25%", 10, (3, 2)),
        (0, 0, 4, (0, 1)),
        ("0%", "10%", 4, (0, 1)),
        (2, 9, 4, (2, 4)),
    ],
)
def test_fenceposts(make, surge, unavailable, replicas, expected):
    deployment = make.deployment(replicas=replicas, strategy=rolling(surge, unavailable))
    assert (facts.surge(deployment), facts.unavailable(deployment)) == expected


def test_conditions_tell_how_the_rollout_goes(make):
    cluster = Cluster(make, make.deployment(deadline=60))
    cluster.reconcile()
    assert cluster.condition("Progressing").reason == "NewReplicaSetCreated"
    assert cluster.condition("Available").reason == "MinimumReplicasUnavailable"
    cluster.settle(ready=1)
    cluster.reconcile()
    assert cluster.condition("Progressing").reason == "ReplicaSetUpdated"
    assert cluster.deployment.status.unavailable_replicas == 2
    cluster.finish()
    progressing = cluster.condition("Progressing")
    assert progressing.reason == "NewReplicaSetAvailable"
    assert progressing.message == f'ReplicaSet "{cluster.sets[0].metadata.name}" has successfully progressed.'
    assert cluster.condition("Available").message == "Deployment has minimum availability."


def test_no_progress_for_too_long_times_out(make):
    cluster = Cluster(make, make.deployment(deadline=60))
    cluster.reconcile()
    again = cluster.reconcile().again
    assert 55 < again <= 61
    cluster.now += again
    cluster.reconcile()
    condition = cluster.condition("Progressing")
    assert (condition.status, condition.reason) == ("False", "ProgressDeadlineExceeded")
    assert cluster.reconcile().again is None


def test_a_replica_set_that_cannot_make_pods_shows(make):
    cluster = Cluster(make, make.deployment())
    cluster.reconcile()
    failure = apps_v1.ReplicaSetCondition(
        type="ReplicaFailure", status="True", reason="FailedCreate", message="quota"
    )
    status = apps_v1.ReplicaSetStatus(replicas=0, conditions=(failure,))
    cluster.sets = [replace(rs, status=status) for rs in cluster.sets]
    cluster.reconcile()
    assert cluster.condition("ReplicaFailure").message == "quota"
    cluster.settle()
    cluster.reconcile()
    assert cluster.condition("ReplicaFailure") is None


def test_a_deployment_being_deleted_only_gets_its_counts(make):
    deployment = make.deployment(meta=make.meta("web", deletion_timestamp="2026-01-01T00:00:00Z"))
    decided = plan(deployment, [make.replica_set(owner=deployment, replicas=1)], {}, NOW)
    assert (decided.create, decided.updates, decided.delete) == (None, (), ())


def test_broken_old_pods_go_first(make):
    deployment = make.deployment(replicas=4, strategy=rolling(1, 1))
    ok = apps_v1.ReplicaSetStatus(replicas=2, available_replicas=2)
    bad = apps_v1.ReplicaSetStatus(replicas=2, available_replicas=0)
    new = make.replica_set("new", replicas=0, image="web:1")
    olds = [
        make.replica_set("ok", replicas=2, image="a", status=ok),
        make.replica_set("bad", replicas=2, image="b", status=bad),
    ]
    assert rollout.shrunk(deployment, new, olds) == {"bad": 1}


def test_new_pods_that_are_not_available_yet_hold_the_old_ones(make):
    deployment = make.deployment(replicas=10, strategy=rolling(3, 2))
    old = apps_v1.ReplicaSetStatus(replicas=8, available_replicas=6)
    new = make.replica_set("new", replicas=3, image="web:1")
    olds = [make.replica_set("old", replicas=8, image="a", status=old)]
    assert rollout.shrunk(deployment, new, olds) == {}
