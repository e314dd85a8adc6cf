"""Claims of generic ephemeral volumes."""

import msgspec

from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import core_v1, meta_v1
from edgekube.controllers.ephemeral import plan

KEY = Key("default", "p-v")


def with_volume(pod):
    requests = {"storage": "1Gi"}
    spec = core_v1.PersistentVolumeClaimSpec(
        access_modes=("ReadWriteOnce",), resources=core_v1.VolumeResourceRequirements(requests=requests)
    )
    template = core_v1.PersistentVolumeClaimTemplate(
        metadata=meta_v1.ObjectMeta(labels={"a": "b"}), spec=spec
    )
    source = core_v1.EphemeralVolumeSource(volume_claim_template=template)
    volumes = (core_v1.Volume(name="v", ephemeral=source), core_v1.Volume(name="w"))
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, volumes=volumes))


def test_a_claim_is_made_once_and_belongs_to_the_pod(make):
    pod = with_volume(make.pod("p"))
    (claim,) = plan(pod, {}).create
    assert (claim.metadata.name, claim.metadata.labels) == ("p-v", {"a": "b"})
    assert claim.metadata.owner_references[0].uid == pod.metadata.uid
    assert claim.spec.resources.requests == {"storage": "1Gi"}
    again = plan(pod, {"p-v": claim})
    assert (again.create, again.foreign) == ((), ())


def test_somebody_elses_claim_is_not_taken(make):
    pod = with_volume(make.pod("p"))
    other = core_v1.PersistentVolumeClaim(metadata=make.meta("p-v"))
    assert plan(pod, {"p-v": other}).foreign == ("p-v",)


def test_ended_pods_get_none(make):
    assert plan(with_volume(make.pod("p", phase="Succeeded")), {}).create == ()


async def test_through_the_api(world):
    container = core_v1.Container(name="c", image="web:1")
    meta = meta_v1.ObjectMeta(name="p", namespace="default")
    pod = core_v1.Pod(metadata=meta, spec=core_v1.PodSpec(containers=(container,)))
    made = await world.client.create(core.PODS, with_volume(pod))

    async def check():
        found = await world.list(core.PERSISTENT_VOLUME_CLAIMS, namespace="default")
        return [claim.metadata.owner_references[0].uid for claim in found]

    assert await world.eventually(check) == [made.metadata.uid]
