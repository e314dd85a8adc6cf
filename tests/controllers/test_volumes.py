"""Volumes: decisions as tables, and claims from Pending to gone against the real API server, scheduler included."""

import msgspec
import pytest

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import storage_v1 as storage
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1, storage_v1
from edgekube.control.volumes import BIND_COMPLETED, SELECTED_NODE
from edgekube.controllers.volumes.plan import PROVISIONED_BY, claim_plan, volume_plan

SIZE = core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"})


def claim(name="data", *, kind="fast", bound_to="", complete=None, **marks):
    marks = {key.replace("_", "/"): value for key, value in marks.items()}
    if bound_to and complete is not False:
        marks[BIND_COMPLETED] = "yes"
    return core_v1.PersistentVolumeClaim(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", annotations=marks),
        spec=core_v1.PersistentVolumeClaimSpec(
            storage_class_name=kind, access_modes=("ReadWriteOnce",), resources=SIZE, volume_name=bound_to
        ),
    )


def volume(name="v", *, size="1Gi", kind="fast", owner="", uid="", policy="Retain", **marks):
    ref = core_v1.ObjectReference(namespace="default", name=owner, uid=uid) if owner else None
    return core_v1.PersistentVolume(
        metadata=meta_v1.ObjectMeta(name=name, annotations={k.replace("_", "/"): v for k, v in marks.items()}),
        spec=core_v1.PersistentVolumeSpec(
            capacity={"storage": size}, access_modes=("ReadWriteOnce",), storage_class_name=kind, claim_ref=ref,
            persistent_volume_reclaim_policy=policy,
        ),
        status=core_v1.PersistentVolumeStatus(phase="Available"),
    )  # fmt: skip


def classes(mode="Immediate", provisioner="kubernetes.io/no-provisioner"):
    meta = meta_v1.ObjectMeta(name="fast")
    return {"fast": storage_v1.StorageClass(metadata=meta, provisioner=provisioner, volume_binding_mode=mode)}


NONE = "kubernetes.io/no-provisioner"


@pytest.mark.parametrize(("given", "volumes", "kinds", "bound", "reason"), [
    (claim(), [volume("a", size="3Gi"), volume("b", size="2Gi")], classes(), "b", None),
    (claim(), [volume(size="1Mi")], classes(), None, "FailedBinding"),
    (claim(), [volume(kind="slow")], classes(), None, "FailedBinding"),
    (claim(), [volume(owner="other", uid="x")], classes(), None, "FailedBinding"),
    (claim(), [volume("a"), volume("kept", size="9Gi", owner="data")], classes(), "kept", None),
    (claim(), [volume()], classes("WaitForFirstConsumer"), None, "WaitForFirstConsumer"),
    (claim(), [volume(owner="data", uid="uid-data")], classes("WaitForFirstConsumer"), "v", None),
    (claim(), [], classes(provisioner="x.example.com"), None, "ExternalProvisioning"),
    (claim(), [], {}, None, "ProvisioningFailed"),
    (claim(kind=""), [], {}, None, "FailedBinding"),
    (claim(kind=""), [volume(kind="")], {}, "v", None),
    (claim(bound_to="v", complete=False), [volume()], classes(), "v", None),
    (claim(bound_to="v", complete=False), [volume(owner="other", uid="x")], classes(), None, None),
    (claim(bound_to="v"), [], classes(), None, "ClaimLost"),
    (claim(bound_to="v"), [volume(owner="other", uid="x")], classes(), None, "ClaimMisbound"),
    (claim(bound_to="v"), [volume(owner="data", uid="uid-data")], classes(), "v", None),
])  # fmt: skip
def test_what_a_claim_gets(given, volumes, kinds, bound, reason):
    decided = claim_plan(given, {v.metadata.name: v for v in volumes}, kinds)
    assert (decided.bind and decided.bind.metadata.name) == bound
    assert (decided.note and decided.note.reason) == reason


MADE = {PROVISIONED_BY.replace("/", "_"): "x"}


@pytest.mark.parametrize(("found", "owner", "phase", "delete"), [
    (volume(), None, "Available", False), (volume(owner="data"), None, "Available", False),
    (volume(owner="data", uid="u"), claim(bound_to="v"), "Bound", False), (volume(owner="data", uid="u"), None, "Released", False),
    (volume(owner="data", uid="u", policy="Delete", **MADE), None, "Released", True),
    (volume(owner="data", uid="u", policy="Delete"), None, "Released", False),
    (volume(owner="data", uid="u", policy="Recycle"), None, "Failed", False),
    (volume(owner="data", uid="u"), claim(), "Available", False),
    (volume(owner="data", uid="u", policy="Delete", **MADE), claim(bound_to="another"), "Released", True),
])  # fmt: skip
def test_what_becomes_of_a_volume(found, owner, phase, delete):
    decided = volume_plan(found, owner)
    assert (decided.phase, decided.delete) == (phase, delete)


def user(name="user", claim_name="data"):
    source = core_v1.PersistentVolumeClaimVolumeSource(claim_name=claim_name)
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PodSpec(
            containers=(core_v1.Container(name="c", image="i"),),
            volumes=(core_v1.Volume(name="d", persistent_volume_claim=source),),
        ),
    )


async def make_class(world, mode="WaitForFirstConsumer"):
    meta = meta_v1.ObjectMeta(name="lp")
    found = storage_v1.StorageClass(
        metadata=meta, provisioner="edgekube.io/local-path", volume_binding_mode=mode, reclaim_policy="Delete",
        parameters={"path": "/data"},
    )  # fmt: skip
    await world.client.create(storage.STORAGE_CLASSES, found)


async def test_a_claim_from_first_consumer_to_gone(world):
    await world.node("n1")
    await make_class(world)
    wish = claim(kind="lp")
    meta = meta_v1.ObjectMeta(name="data", namespace="default")
    await world.client.create(core.PERSISTENT_VOLUME_CLAIMS, msgspec.structs.replace(wish, metadata=meta))
    await world.quiet()
    assert (
        await world.client.get(core.PERSISTENT_VOLUME_CLAIMS, Key("default", "data"))
    ).status.phase == "Pending"
    await world.client.create(core.PODS, user())

    async def running():
        pod = await world.client.get(core.PODS, Key("default", "user"))
        return pod if pod.status.phase == "Running" else None

    pod = await world.eventually(running)
    assert pod.spec.node_name == "n1"
    held = await world.client.get(core.PERSISTENT_VOLUME_CLAIMS, Key("default", "data"))
    assert (held.status.phase, held.status.capacity) == ("Bound", {"storage": "1Gi"})
    assert held.metadata.annotations[SELECTED_NODE] == "n1"
    made = await world.client.get(core.PERSISTENT_VOLUMES, Key("", held.spec.volume_name))
    assert made.spec.host_path.path == f"/data/{made.metadata.name}_default_data"
    assert made.status.phase == "Bound"
    # Deleted, the claim stays as long as the pod is there.
    await world.client.delete(core.PERSISTENT_VOLUME_CLAIMS, Key("default", "data"))
    await world.quiet()
    assert (
        await world.client.get(core.PERSISTENT_VOLUME_CLAIMS, Key("default", "data"))
    ).metadata.deletion_timestamp
    await world.client.delete(core.PODS, Key("default", "user"))

    async def released():
        found = await world.client.get(core.PERSISTENT_VOLUMES, Key("", made.metadata.name))
        return found if found.metadata.deletion_timestamp else None

    going = await world.eventually(released)
    assert "edgekube.io/local-path" in going.metadata.finalizers
    # The node is gone for good, and the directory with it.
    await world.client.delete(core.NODES, Key("", "n1"))

    async def gone():
        try:
            await world.client.get(core.PERSISTENT_VOLUMES, Key("", made.metadata.name))
        except NotFound:
            return True
        return False

    await world.eventually(gone)


async def test_volumes_made_by_hand_are_bound_and_kept(world):
    await world.node("n1")
    by_hand = volume("disk", kind="")
    meta = meta_v1.ObjectMeta(name="disk")
    source = core_v1.HostPathVolumeSource(path="/mnt/disk")
    await world.client.create(
        core.PERSISTENT_VOLUMES,
        msgspec.structs.replace(
            by_hand, metadata=meta, spec=msgspec.structs.replace(by_hand.spec, host_path=source)
        ),
    )
    wish = msgspec.structs.replace(
        claim(kind=""), metadata=meta_v1.ObjectMeta(name="data", namespace="default")
    )
    await world.client.create(core.PERSISTENT_VOLUME_CLAIMS, wish)

    async def phase(expected):
        found = await world.client.get(core.PERSISTENT_VOLUMES, Key("", "disk"))
        return found if found.status.phase == expected else None

    await world.eventually(lambda: phase("Bound"))
    await world.client.delete(core.PERSISTENT_VOLUME_CLAIMS, Key("default", "data"))
    kept = await world.eventually(lambda: phase("Released"))
    assert not kept.metadata.deletion_timestamp


async def test_a_claim_without_a_class_gets_the_default_one(world):
    wish = msgspec.structs.replace(claim(), metadata=meta_v1.ObjectMeta(name="data", namespace="default"))
    spec = msgspec.structs.replace(wish.spec, storage_class_name=None)
    made = await world.client.create(core.PERSISTENT_VOLUME_CLAIMS, msgspec.structs.replace(wish, spec=spec))
    assert made.spec.storage_class_name == "local-path"
    assert made.metadata.finalizers == ("kubernetes.io/pvc-protection",)
