"""StatefulSet: the plan as a table and as a simulation, and the loop against the real API server."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.control.clock import stamp
from edgekube.controllers.revisions import LABEL
from edgekube.controllers.statefulset.plan import Facts, plan, status

NOW = 1000.0


def stateful(
    make, *, replicas=3, partition=None, policy="OrderedReady", start=None, strategy="RollingUpdate", **spec
):
    rolling = apps_v1.RollingUpdateStatefulSetStrategy(
        partition=partition, max_unavailable=spec.pop("max_unavailable", None)
    )
    return apps_v1.StatefulSet(
        metadata=make.meta("db"),
        spec=apps_v1.StatefulSetSpec(
            replicas=replicas, service_name="db", selector=meta_v1.LabelSelector(match_labels={"app": "web"}),
            template=make.template(), pod_management_policy=policy,
            ordinals=apps_v1.StatefulSetOrdinals(start=start) if start is not None else None,
            update_strategy=apps_v1.StatefulSetUpdateStrategy(
                type=strategy, rolling_update=rolling if strategy == "RollingUpdate" else None
            ),
            **spec,
        ),
        status=apps_v1.StatefulSetStatus(replicas=0),
    )  # fmt: skip


def pods_of(make, owner, text):
    """`0:r 1:p` are pods by ordinal: r(eady), p(ending), u(nready), f(ailed), t(erminating); `'` of the old revision."""
    made = []
    for word in text.split():
        ordinal, letter = word.split(":")
        fields = {"labels": {"app": "web", LABEL: "old" if letter.endswith("'") else "new"}}
        letter = letter.rstrip("'")
        if letter == "t":
            fields["deletion_timestamp"] = stamp(NOW)
        ready = 0.0 if letter in "rt" else None
        phase = {"p": "Pending", "f": "Failed"}.get(letter, "Running")
        made.append(make.pod(f"db-{ordinal}", owner=owner, ready=ready, phase=phase, **fields))
    return made


def decide(make, owner, text, *, current="new"):
    facts = Facts(owner=owner, pods=pods_of(make, owner, text), current=current, update="new", now=NOW)
    decided = plan(facts)
    made = [f"+{ordinal}{'*' if name == 'old' else ''}" for ordinal, name in decided.create]
    gone = [f"-{pod.metadata.name.rpartition('-')[2]}" for pod in decided.delete]
    return " ".join(made + gone)


@pytest.mark.parametrize(("spec", "pods", "wanted"), [
    ({}, "", "+0"),
    ({}, "0:p", ""),
    ({}, "0:u", ""),
    ({}, "0:r", "+1"),
    ({}, "0:r 1:r 2:r", ""),
    ({}, "0:r 2:r", "+1"),
    ({}, "0:f", "-0"),
    ({}, "0:t", ""),
    ({"start": 5}, "", "+5"),
    ({"start": 1}, "0:r 1:r 2:r 3:r", "-0"),
    ({"policy": "Parallel"}, "1:p", "+0 +2"),
    ({"policy": "Parallel", "replicas": 0}, "0:r 1:u 2:r", "-2 -1 -0"),
    ({"replicas": 1}, "0:r 1:r 2:r", "-2"),
    ({"replicas": 1}, "0:r 1:u 2:r", "-2"),
    ({"replicas": 1}, "0:r 1:u 2:u", "-2"),
    ({"replicas": 1}, "0:u 1:r 2:u", ""),
    ({"replicas": 1}, "0:r 1:r 2:t", ""),
    ({}, "0:r' 1:r' 2:r'", "-2"),
    ({}, "0:r' 1:r' 2:u", ""),
    ({}, "0:r' 1:r' 2:r", "-1"),
    ({"partition": 2}, "0:r' 1:r' 2:r", ""),
    ({"partition": 2}, "0:r' 2:r", "+1*"),
    ({"partition": 1}, "0:r' 2:r", "+1"),
    ({"strategy": "OnDelete"}, "0:r' 1:r' 2:r'", ""),
    ({"max_unavailable": 2, "policy": "Parallel"}, "0:r' 1:r' 2:r'", "-2 -1"),
    ({"max_unavailable": "50%", "replicas": 4, "policy": "Parallel"}, "0:r' 1:r' 2:r' 3:t'", "-2"),
])  # fmt: skip
def test_the_next_step(make, spec, pods, wanted):
    assert decide(make, stateful(make, **spec), pods, current="old") == wanted


def test_pods_wait_to_be_available(make):
    owner = stateful(make, min_ready_seconds=30)
    pod = make.pod("db-0", owner=owner, ready=NOW - 10, labels={"app": "web", LABEL: "new"})
    facts = Facts(owner=owner, pods=[pod], current="new", update="new", now=NOW)
    decided = plan(facts)
    assert (decided.create, decided.again) == ([], 20.0)
    assert status(facts, 0).available_replicas == 0


def test_the_status_of_a_finished_update_has_one_revision(make):
    owner = stateful(make, replicas=2)
    half = Facts(owner=owner, pods=pods_of(make, owner, "0:r' 1:r"), current="old", update="new", now=NOW)
    found = status(half, 0)
    assert (found.current_revision, found.update_revision, found.current_replicas, found.updated_replicas) == (
        "old", "new", 1, 1,
    )  # fmt: skip
    done = Facts(owner=owner, pods=pods_of(make, owner, "0:r 1:r"), current="old", update="new", now=NOW)
    assert status(done, 0).current_revision == "new"


@given(
    replicas=st.integers(0, 5), policy=st.sampled_from(["OrderedReady", "Parallel"]), partition=st.integers(0, 3),
    first=st.dictionaries(st.integers(0, 7), st.sampled_from(["r", "r'", "p", "f", "u'"]), max_size=6),
    order=st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_it_converges_one_by_one(make_any, replicas, policy, partition, first, order):
    owner = stateful(make_any, replicas=replicas, policy=policy, partition=partition)
    state = dict(first)
    for _ in range(80):
        text = " ".join(f"{ordinal}:{letter}" for ordinal, letter in state.items())
        facts = Facts(owner=owner, pods=pods_of(make_any, owner, text), current="old", update="new", now=NOW)
        decided = plan(facts)
        if policy == "OrderedReady":
            assert len(decided.create) + len(decided.delete) <= 1
        for pod in decided.delete:
            state.pop(int(pod.metadata.name.rpartition("-")[2]))
        for ordinal, revision in decided.create:
            assert ordinal not in state
            state[ordinal] = "p'" if revision == "old" else "p"
        sick = [ordinal for ordinal, letter in state.items() if letter[0] in "pu"]
        if sick and not decided.busy:
            ordinal = order.choice(sick)
            state[ordinal] = "r" + state[ordinal][1:]
        elif not decided.busy:
            break
    assert sorted(state) == list(range(replicas))
    assert all(letter[0] == "r" for letter in state.values())
    assert all(state[ordinal] == "r" for ordinal in range(min(partition, replicas), replicas))


# --- the loop


async def create(world, **spec):
    labels = {"app": "db"}
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=labels),
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="db", image="db:1"),)),
    )
    found = apps_v1.StatefulSet(
        metadata=meta_v1.ObjectMeta(name="db", namespace="default"),
        spec=apps_v1.StatefulSetSpec(
            selector=meta_v1.LabelSelector(match_labels=labels), service_name="db", template=template, **spec
        ),
    )
    return await world.client.create(apps.STATEFUL_SETS, found)


async def settled(world, *, ready, revision=None):
    async def check():
        found = await world.client.get(apps.STATEFUL_SETS, Key("default", "db"))
        status = found.status
        done = status is not None and (
            status.observed_generation == found.metadata.generation
            and (status.ready_replicas or 0) == ready == status.replicas
            and status.current_revision == status.update_revision
            and status.current_revision != revision
        )
        return found if done else None

    return await world.eventually(check)


async def test_pods_come_in_order_with_names_and_claims_and_go_in_order(world):
    await world.node("n1")
    claim = core_v1.PersistentVolumeClaim(
        metadata=meta_v1.ObjectMeta(name="data"),
        spec=core_v1.PersistentVolumeClaimSpec(
            access_modes=("ReadWriteOnce",),
            resources=core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"}),
            # Claims made beforehand need no provisioner.
            storage_class_name="",
        ),
    )
    policy = apps_v1.StatefulSetPersistentVolumeClaimRetentionPolicy(
        when_deleted="Delete", when_scaled="Delete"
    )
    # Volumes are somebody else's: these pods are not scheduled, and yet the first must exist.
    await create(
        world, replicas=1, volume_claim_templates=(claim,), persistent_volume_claim_retention_policy=policy
    )

    async def made():
        return await world.list(core.PODS, namespace="default")

    (pod,) = await world.eventually(made)
    assert pod.metadata.name == "db-0"
    assert pod.spec.hostname == "db-0"
    assert pod.spec.subdomain == "db"
    assert pod.metadata.labels["apps.kubernetes.io/pod-index"] == "0"
    assert pod.spec.volumes[0].persistent_volume_claim.claim_name == "data-db-0"
    (made_claim,) = await world.list(core.PERSISTENT_VOLUME_CLAIMS, namespace="default")
    assert made_claim.metadata.name == "data-db-0"
    assert [ref.kind for ref in made_claim.metadata.owner_references] == ["StatefulSet"]


async def test_rolling_update_rollback_and_history(world):
    await world.node("n1")
    await create(world, replicas=3)
    first = await settled(world, ready=3)
    order = [pod.metadata.name for pod in sorted(
        await world.list(core.PODS, namespace="default"), key=lambda p: int(p.metadata.resource_version)
    )]  # fmt: skip
    assert sorted(order) == ["db-0", "db-1", "db-2"]
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "db:2"}]}}}}
    await world.client.patch(apps.STATEFUL_SETS, Key("default", "db"), patch)
    second = await settled(world, ready=3, revision=first.status.current_revision)
    images = {p.spec.containers[0].image for p in await world.list(core.PODS, namespace="default")}
    assert images == {"db:2"}
    back = {"spec": {"template": {"spec": {"containers": [{"name": "db", "image": "db:1"}]}}}}
    await world.client.patch(apps.STATEFUL_SETS, Key("default", "db"), back)
    third = await settled(world, ready=3, revision=second.status.current_revision)
    assert third.status.current_revision == first.status.current_revision
    revisions = await world.list(apps.CONTROLLER_REVISIONS, namespace="default")
    assert sorted(r.revision for r in revisions) == [2, 3]
    before = len(await world.quiet())
    for reader in world.informers:
        for obj in reader:
            reader._tell(obj, obj)
    assert (await world.quiet())[before:] == []


async def test_scaling_down_takes_the_highest_ordinal(world):
    await world.node("n1")
    await create(world, replicas=3, pod_management_policy="Parallel")
    found = await settled(world, ready=3)
    await world.client.update(
        apps.STATEFUL_SETS,
        msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, replicas=1)),
    )
    await settled(world, ready=1)
    (pod,) = await world.list(core.PODS, namespace="default")
    assert pod.metadata.name == "db-0"
