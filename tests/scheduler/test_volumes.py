"""Volumes in the decision: where claims are, where they can be, and what binding takes."""

import msgspec
import pytest

from edgekube.api.types import core_v1, meta_v1, storage_v1
from edgekube.control.volumes import BIND_COMPLETED, SELECTED_NODE
from edgekube.scheduler.decide import Placement, Unfit, decide
from edgekube.scheduler.plugins import Plugins
from edgekube.scheduler.volumes import all_bound, needed


def claim(
    name="data", *, size="1Gi", bound_to="", kind="local", modes=("ReadWriteOnce",), annotations=None, **meta
):
    marks = {BIND_COMPLETED: "yes"} if bound_to else {}
    return core_v1.PersistentVolumeClaim(
        metadata=meta_v1.ObjectMeta(
            name=name, namespace="default", uid=f"uid-{name}", annotations=marks | (annotations or {}), **meta
        ),
        spec=core_v1.PersistentVolumeClaimSpec(
            storage_class_name=kind, access_modes=modes, volume_name=bound_to,
            resources=core_v1.VolumeResourceRequirements(requests={"storage": size}),
        ),
        status=core_v1.PersistentVolumeClaimStatus(phase="Bound" if bound_to else "Pending"),
    )  # fmt: skip


def volume(name, node="n1", *, size="1Gi", kind="local", phase="Available", labels=None):
    want = core_v1.NodeSelectorRequirement(key="kubernetes.io/hostname", operator="In", values=(node,))
    selector = core_v1.NodeSelector(
        node_selector_terms=(core_v1.NodeSelectorTerm(match_expressions=(want,)),)
    )
    return core_v1.PersistentVolume(
        metadata=meta_v1.ObjectMeta(name=name, labels=labels or {}),
        spec=core_v1.PersistentVolumeSpec(
            storage_class_name=kind, access_modes=("ReadWriteOnce",), capacity={"storage": size},
            node_affinity=core_v1.VolumeNodeAffinity(required=selector),
        ),
        status=core_v1.PersistentVolumeStatus(phase=phase),
    )  # fmt: skip


def classes(mode="WaitForFirstConsumer", provisioner="kubernetes.io/no-provisioner", zone=""):
    topologies = ()
    if zone:
        want = core_v1.TopologySelectorLabelRequirement(key="zone", values=(zone,))
        topologies = (core_v1.TopologySelectorTerm(match_label_expressions=(want,)),)
    return {"local": storage_v1.StorageClass(
        metadata=meta_v1.ObjectMeta(name="local"), provisioner=provisioner, volume_binding_mode=mode,
        allowed_topologies=topologies,
    )}  # fmt: skip


def user(make, *names):
    volumes = tuple(
        core_v1.Volume(
            name=name,
            persistent_volume_claim=core_v1.PersistentVolumeClaimVolumeSource(claim_name=name),
        )
        for name in names or ("data",)
    )
    return make.info(volumes=volumes)


def world(make, *, claims=(), volumes=(), kinds=None, pods=(), nodes=("n1", "n2")):
    cache = make.cache(*(make.node(name) for name in nodes), pods=pods)
    for found in claims:
        cache.claims[found.metadata.namespace, found.metadata.name] = found
    cache.volumes.update({found.metadata.name: found for found in volumes})
    cache.classes.update(classes() if kinds is None else kinds)
    return cache


def test_a_bound_volume_decides_the_node(make):
    cache = world(make, claims=[claim(bound_to="v")], volumes=[volume("v", "n2")])
    assert decide(user(make), cache.snapshot(), Plugins()).node == "n2"
    assert all_bound(user(make), cache.storage)


@pytest.mark.parametrize(("claims", "volumes", "kinds", "why"), [
    ([], [], None, 'persistentvolumeclaim "data" not found'),
    ([claim(deletion_timestamp="2026-01-01T00:00:00Z")], [], None, 'persistentvolumeclaim "data" is being deleted'),
    ([claim()], [], classes("Immediate"), "pod has unbound immediate PersistentVolumeClaims"),
    ([claim(kind="")], [], None, "pod has unbound immediate PersistentVolumeClaims"),
    ([claim(bound_to="v")], [volume("v", "n9")], None, "2 node(s) didn't match PersistentVolume's node affinity"),
    ([claim(bound_to="v")], [], None, "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
    ([claim()], [], None, "2 node(s) didn't find available persistent volumes to bind"),
    ([claim(size="2Gi")], [volume("v")], None, "2 node(s) didn't find available persistent volumes to bind"),
    ([claim()], [volume("v", phase="Released")], None, "2 node(s) didn't find available persistent volumes to bind"),
    ([claim()], [volume("v", kind="other")], None, "2 node(s) didn't find available persistent volumes to bind"),
    ([claim()], [], classes(provisioner="x", zone="far"), "2 node(s) didn't find available persistent volumes to bind"),
])  # fmt: skip
def test_why_not(make, claims, volumes, kinds, why):
    cache = world(make, claims=claims, volumes=volumes, kinds=kinds)
    found = decide(user(make), cache.snapshot(), Plugins())
    assert isinstance(found, Unfit)
    assert found.message == f"0/2 nodes are available: {why}."
    assert found.preemption == "0/2 nodes are available: 2 Preemption is not helpful for scheduling."


def test_two_claims_never_get_one_volume(make):
    claims = [claim("a"), claim("b", size="2Gi")]
    fits = world(make, claims=claims, volumes=[volume("small"), volume("large", size="3Gi"), volume("far", "n2", size="9Gi")])  # fmt: skip
    pod = user(make, "a", "b")
    assert decide(pod, fits.snapshot(), Plugins()).node == "n1"
    found = needed(pod, fits.node("n1"), fits.storage)
    assert [(v.metadata.name, c.metadata.name) for v, c in found.volumes] == [("small", "a"), ("large", "b")]
    assert isinstance(decide(pod, world(make, claims=claims, volumes=[volume("large", size="3Gi")]).snapshot(), Plugins()), Unfit)  # fmt: skip


def test_what_can_be_made_is_made_where_it_was_promised(make):
    kinds = classes(provisioner="edgekube.io/local-path")
    cache = world(make, claims=[claim()], kinds=kinds)
    found = needed(user(make), cache.node("n1"), cache.storage)
    assert (found.volumes, [c.metadata.name for c in found.provision]) == ((), ["data"])
    cache = world(make, claims=[claim(annotations={SELECTED_NODE: "n2"})], kinds=kinds)
    assert decide(user(make), cache.snapshot(), Plugins()).node == "n2"


def test_a_volume_kept_for_this_claim_is_taken_though_another_is_smaller(make):
    kept = volume("kept", size="5Gi")
    kept = msgspec.structs.replace(
        kept, spec=msgspec.structs.replace(kept.spec, claim_ref=core_v1.ObjectReference(namespace="default", name="data"))
    )  # fmt: skip
    cache = world(make, claims=[claim()], volumes=[volume("small"), kept])
    assert needed(user(make), cache.node("n1"), cache.storage).volumes[0][0].metadata.name == "kept"


def test_a_claim_for_one_pod_only(make):
    held = claim(bound_to="v", modes=("ReadWriteOncePod",))
    first = make.pod("first", node_name="n1", volumes=user(make).pod.spec.volumes)
    cache = world(make, claims=[held], volumes=[volume("v")], pods=[first], nodes=("n1",))
    found = decide(user(make), cache.snapshot(), Plugins())
    assert "ReadWriteOncePod access mode" in found.message
    assert found.candidates
    cache.drop_pod(first.metadata.uid)
    assert decide(user(make), cache.snapshot(), Plugins()) == Placement("n1", 1)


def test_a_volume_in_a_zone(make):
    zoned = msgspec.structs.replace(
        volume("v"), spec=core_v1.PersistentVolumeSpec(), metadata=meta_v1.ObjectMeta(name="v", labels={"topology.kubernetes.io/zone": "attic"})
    )  # fmt: skip
    cache = world(make, claims=[claim(bound_to="v")], volumes=[zoned], nodes=())
    cache.set_node(make.node("cellar", labels={"topology.kubernetes.io/zone": "cellar"}))
    assert "1 node(s) had no available volume zone" in decide(user(make), cache.snapshot(), Plugins()).message
    cache.set_node(make.node("attic", labels={"topology.kubernetes.io/zone": "attic"}))
    assert decide(user(make), cache.snapshot(), Plugins()).node == "attic"
