"""All controllers and the scheduler against the real API server."""

import asyncio

import pytest

from edgekube.api.errors import NotFound
from edgekube.api.kinds import apps_v1 as apps
from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import discovery_v1 as discovery
from edgekube.api.resource import Key
from edgekube.api.types import apps_v1, core_v1, meta_v1
from edgekube.apiserver.server import ApiServerConfig

WEB = Key("default", "web")


async def test_a_deployment_becomes_ready_and_then_nothing_is_written(world):
    await world.node("n1")
    await world.node("n2")
    await world.deploy(replicas=4)
    deployment = await world.rolled_out()
    pods = await world.list(core.PODS, namespace="default")
    assert sorted(pod.spec.node_name for pod in pods) == ["n1", "n1", "n2", "n2"]
    assert deployment.metadata.annotations["deployment.kubernetes.io/revision"] == "1"
    reasons = {condition.type: condition.reason for condition in deployment.status.conditions}
    assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
    before = len(await world.quiet())
    for reader in world.informers:
        for obj in reader:
            reader._tell(obj, obj)
    await asyncio.sleep(0.3)
    assert world.carrier.writes[before:] == []


async def test_rolling_back_and_forth(world):
    await world.node("n1")
    await world.deploy(replicas=3)
    await world.rolled_out()
    for image, revision in (("web:2", "2"), ("web:1", "3")):
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}
        await world.client.patch(apps.DEPLOYMENTS, WEB, patch)
        deployment = await world.rolled_out()
        assert deployment.metadata.annotations["deployment.kubernetes.io/revision"] == revision
        pods = [
            p for p in await world.list(core.PODS, namespace="default") if not p.metadata.deletion_timestamp
        ]
        assert {pod.spec.containers[0].image for pod in pods} == {image}
    assert len(await world.list(apps.REPLICA_SETS, namespace="default")) == 2


async def test_a_rollout_to_a_broken_image_keeps_the_old_pods(world):
    await world.node("n1")
    await world.deploy(replicas=4)
    await world.rolled_out()
    world.broken.add("web:bad")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:bad"}]}}}}
    await world.client.patch(apps.DEPLOYMENTS, WEB, patch)
    await world.quiet()
    pods = await world.list(core.PODS, namespace="default")
    running = [pod for pod in pods if pod.status.phase == "Running"]
    assert len(running) == 3
    assert len(pods) == 5


async def test_a_deleted_pod_is_replaced(world):
    await world.node("n1")
    await world.deploy(replicas=1)
    await world.rolled_out()
    (pod,) = await world.list(core.PODS, namespace="default")
    await world.client.delete(core.PODS, Key("default", pod.metadata.name))

    async def replaced():
        pods = await world.list(core.PODS, namespace="default")
        return len(pods) == 1 and pods[0].metadata.uid != pod.metadata.uid

    await world.eventually(replaced)


async def test_a_burst_makes_exactly_as_many_pods_as_wanted(world):
    await world.node("n1", cpu="64", pods="500")
    await world.deploy(replicas=60)
    await world.rolled_out()
    created = [write for write in world.carrier.writes if write[:2] == ("create", "pods") and not write[3]]
    assert len(created) == 60


async def test_deleting_a_deployment_collects_everything_below_it(world):
    await world.node("n1")
    await world.deploy(replicas=2)
    await world.rolled_out()
    await world.client.delete(apps.DEPLOYMENTS, WEB, propagation="Background")

    async def empty():
        sets, pods = await world.list(apps.REPLICA_SETS), await world.list(core.PODS)
        return not sets and not pods

    await world.eventually(empty)


async def test_foreground_deletion_waits_for_the_dependents(world):
    await world.node("n1")
    await world.deploy(replicas=2)
    await world.rolled_out()
    await world.client.delete(apps.DEPLOYMENTS, WEB, propagation="Foreground")

    async def gone():
        try:
            await world.client.get(apps.DEPLOYMENTS, WEB)
        except NotFound:
            return True
        return False

    await world.eventually(gone)
    assert not await world.list(core.PODS)
    assert not await world.list(apps.REPLICA_SETS)


async def test_orphans_are_kept_and_adopted_again(world):
    await world.node("n1")
    await world.deploy(replicas=2)
    await world.rolled_out()
    (before,) = await world.list(apps.REPLICA_SETS)
    await world.client.delete(apps.DEPLOYMENTS, WEB, propagation="Orphan")

    async def free():
        (rs,) = await world.list(apps.REPLICA_SETS)
        return not rs.metadata.owner_references

    await world.eventually(free)
    await world.deploy(replicas=2)
    deployment = await world.rolled_out()
    (after,) = await world.list(apps.REPLICA_SETS)
    assert after.metadata.uid == before.metadata.uid
    assert after.metadata.owner_references[0].uid == deployment.metadata.uid


async def test_an_object_whose_owner_never_was_is_collected(world):
    owner = meta_v1.OwnerReference(api_version="v1", kind="ConfigMap", name="none", uid="nobody")
    meta = meta_v1.ObjectMeta(name="lost", namespace="default", owner_references=(owner,))
    await world.client.create(core.CONFIG_MAPS, core_v1.ConfigMap(metadata=meta))

    async def gone():
        try:
            await world.client.get(core.CONFIG_MAPS, Key("default", "lost"))
        except NotFound:
            return True
        return False

    await world.eventually(gone)


async def test_a_namespace_is_furnished_and_emptied(world):
    await world.node("n1")
    name = "team"
    await world.client.create(core.NAMESPACES, core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name)))

    async def furnished():
        try:
            await world.client.get(core.SERVICE_ACCOUNTS, Key(name, "default"))
            found = await world.client.get(core.CONFIG_MAPS, Key(name, "kube-root-ca.crt"))
        except NotFound:
            return False
        return found.data["ca.crt"].startswith("-----BEGIN")

    await world.eventually(furnished)
    meta = meta_v1.ObjectMeta(name="held", namespace=name, finalizers=("example.com/hold",))
    await world.client.create(core.CONFIG_MAPS, core_v1.ConfigMap(metadata=meta))
    await world.client.delete(core.NAMESPACES, Key("", name))

    async def told():
        found = await world.client.get(core.NAMESPACES, Key("", name))
        return {c.type: c.message for c in found.status.conditions}.get("NamespaceFinalizersRemaining")

    assert "example.com/hold in 1 resource instances" in await world.eventually(told)
    await world.client.patch(core.CONFIG_MAPS, Key(name, "held"), {"metadata": {"finalizers": None}})

    async def gone():
        return name not in {ns.metadata.name for ns in await world.list(core.NAMESPACES)}

    await world.eventually(gone)
    assert not await world.list(core.CONFIG_MAPS, namespace=name)


async def test_a_service_follows_its_pods(world):
    await world.node("n1", labels={"topology.kubernetes.io/zone": "shed"})
    port = core_v1.ServicePort(port=80, target_port=8080)
    service = core_v1.Service(
        metadata=meta_v1.ObjectMeta(name="web", namespace="default"),
        spec=core_v1.ServiceSpec(selector={"app": "web"}, ports=(port,)),
    )
    await world.client.create(core.SERVICES, service)

    async def slices(count):
        found = await world.list(discovery.ENDPOINT_SLICES, labels="kubernetes.io/service-name=web")
        return found if sum(len(piece.endpoints) for piece in found) == count and found else None

    (empty,) = await world.eventually(lambda: slices(0))
    await world.deploy(replicas=2)
    await world.rolled_out()
    (piece,) = await world.eventually(lambda: slices(2))
    assert piece.metadata.name == empty.metadata.name or piece.metadata.name.startswith("web-")
    assert [port.port for port in piece.ports] == [8080]
    assert {e.zone for e in piece.endpoints} == {"shed"}
    assert all(e.conditions.ready and e.node_name == "n1" for e in piece.endpoints)

    async def mirrored():
        endpoints = await world.client.get(core.ENDPOINTS, WEB)
        return endpoints.subsets and len(endpoints.subsets[0].addresses) == 2

    await world.eventually(mirrored)
    await world.client.delete(core.SERVICES, WEB)

    async def gone():
        left = await world.list(core.ENDPOINTS, fields="metadata.name=web")
        return not left and await slices(0) is None

    await world.eventually(gone)


@pytest.mark.parametrize(
    "api_config", [ApiServerConfig(service_cidr="10.43.0.0/16,fd00:43::/112")], ids=["dual-stack"]
)
async def test_a_service_of_both_families_has_slices_of_each(world):
    world.dual = True
    await world.node("n1")
    port = core_v1.ServicePort(port=80, target_port=8080)
    spec = core_v1.ServiceSpec(
        selector={"app": "web"}, ports=(port,), ip_family_policy="RequireDualStack", ip_families=("IPv6",)
    )
    meta = meta_v1.ObjectMeta(name="web", namespace="default")
    await world.client.create(core.SERVICES, core_v1.Service(metadata=meta, spec=spec))
    await world.deploy(replicas=3)
    await world.rolled_out()

    async def slices(**counts):
        pieces = await world.list(discovery.ENDPOINT_SLICES, labels="kubernetes.io/service-name=web")
        found = {piece.address_type: [e.addresses[0] for e in piece.endpoints] for piece in pieces}
        return found if {family: len(mine) for family, mine in found.items()} == counts else None

    found = await world.eventually(lambda: slices(IPv4=3, IPv6=3))
    assert all(address.startswith("fd00:42::") for address in found["IPv6"])
    assert all(address.startswith("10.42.0.") for address in found["IPv4"])

    async def mirrored(prefix):
        subsets = (await world.client.get(core.ENDPOINTS, WEB)).subsets
        addresses = [address.ip for subset in subsets for address in subset.addresses]
        return len(addresses) == 3 and all(address.startswith(prefix) for address in addresses)

    # The older form tells of the first family alone.
    await world.eventually(lambda: mirrored("fd00:42::"))
    single = {"spec": {"ipFamilyPolicy": "SingleStack"}}
    await world.client.patch(core.SERVICES, WEB, single)
    await world.eventually(lambda: slices(IPv6=3))
    await world.client.patch(core.SERVICES, WEB, {"spec": {"ipFamilyPolicy": "PreferDualStack"}})
    await world.eventually(lambda: slices(IPv4=3, IPv6=3))


async def test_a_node_that_turns_to_a_control_plane_takes_the_hints_with_it(world):
    for number in (1, 2):
        await world.node(f"n{number}", labels={"topology.kubernetes.io/zone": f"z{number}"})
    service = core_v1.Service(
        metadata=meta_v1.ObjectMeta(
            name="web", namespace="default", annotations={"service.kubernetes.io/topology-mode": "Auto"}
        ),
        spec=core_v1.ServiceSpec(
            selector={"app": "web"}, ports=(core_v1.ServicePort(port=80, target_port=8080),)
        ),
    )
    await world.client.create(core.SERVICES, service)
    await world.deploy(replicas=6)
    await world.rolled_out()

    async def hinted(wanted):
        pieces = await world.list(discovery.ENDPOINT_SLICES, labels="kubernetes.io/service-name=web")
        found = [endpoint.hints is not None for piece in pieces for endpoint in piece.endpoints]
        return found == [wanted] * 6

    await world.eventually(lambda: hinted(True))
    # Zone z2 has no processors left for pods: no share-out is fair.
    label = {"node-role.kubernetes.io/control-plane": ""}
    await world.client.patch(core.NODES, Key("", "n2"), {"metadata": {"labels": label}})
    await world.eventually(lambda: hinted(False))


async def test_every_node_gets_its_own_addresses(world):
    names = [f"n{number}" for number in range(12)]
    await asyncio.gather(*(world.node(name) for name in names))

    async def assigned():
        found = [node.spec.pod_cidr for node in await world.list(core.NODES)]
        return found if all(found) else None

    found = await world.eventually(assigned)
    assert len(set(found)) == 12
    await world.client.delete(core.NODES, Key("", "n3"))
    await world.node("late")
    again = await world.eventually(assigned)
    assert len(set(again)) == 12


async def test_events_tell_the_story(world):
    await world.node("n1")
    await world.deploy(replicas=1)
    await world.rolled_out()

    async def reasons():
        found = {event.reason for event in await world.list(core.EVENTS, namespace="default")}
        return {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"} <= found

    await world.eventually(reasons)


async def test_pods_that_fit_nowhere_say_why_and_start_when_a_node_comes(world):
    await world.node("small", cpu="100m")
    await world.node("kept", taints=(core_v1.Taint(key="for", value="db", effect="NoSchedule"),))
    spec = core_v1.PodSpec(
        containers=(
            core_v1.Container(
                name="web", image="web:1", resources=core_v1.ResourceRequirements(requests={"cpu": "2"})
            ),
        )
    )
    pod = core_v1.Pod(metadata=meta_v1.ObjectMeta(name="big", namespace="default"), spec=spec)

    async def account():
        return await world.list(core.SERVICE_ACCOUNTS, namespace="default")

    await world.eventually(account)
    await world.client.create(core.PODS, pod)

    async def refused():
        found = await world.client.get(core.PODS, Key("default", "big"))
        return next((c for c in found.status.conditions if c.type == "PodScheduled"), None)

    condition = await world.eventually(refused)
    assert (condition.status, condition.reason) == ("False", "Unschedulable")
    assert condition.message == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {for: db}. "
        "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )
    await world.node("large")

    async def bound():
        return (await world.client.get(core.PODS, Key("default", "big"))).spec.node_name == "large"

    await world.eventually(bound)


async def test_two_replica_sets_of_one_deployment_never_make_more_than_surge_allows(world):
    await world.node("n1", pods="500", cpu="64")
    rolling = apps_v1.RollingUpdateDeployment(max_surge=1, max_unavailable=0)
    strategy = apps_v1.DeploymentStrategy(type="RollingUpdate", rolling_update=rolling)
    await world.deploy(replicas=6, strategy=strategy)
    await world.rolled_out()
    most, least = 0, 99

    def seen(_old, _new):
        nonlocal most, least
        pods = [p for p in world.informers.of(core.PODS) if not p.metadata.deletion_timestamp]
        ready = [
            p for p in pods if any(c.type == "Ready" and c.status == "True" for c in p.status.conditions)
        ]
        most, least = max(most, len(pods)), min(least, len(ready))

    world.informers.of(core.PODS).subscribe(seen)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
    await world.client.patch(apps.DEPLOYMENTS, WEB, patch)
    await world.rolled_out()
    assert (most, least) == (7, 6)


async def test_a_deployment_may_come_at_once_with_its_namespace(world):
    await world.node("n1")
    await world.client.create(core.NAMESPACES, core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="fresh")))
    labels = {"app": "web"}
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=labels),
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="web", image="web:1"),)),
    )
    spec = apps_v1.DeploymentSpec(selector=meta_v1.LabelSelector(match_labels=labels), template=template)
    meta = meta_v1.ObjectMeta(name="web", namespace="fresh")
    await world.client.create(apps.DEPLOYMENTS, apps_v1.Deployment(metadata=meta, spec=spec))

    async def up():
        return (await world.client.get(apps.DEPLOYMENTS, Key("fresh", "web"))).status.available_replicas == 1

    await world.eventually(up)


async def test_pods_that_cannot_be_made_show_why_and_come_when_they_can(world):
    await world.node("n1")
    made = await world.deploy(replicas=1)
    await world.rolled_out()
    patch = {"spec": {"template": {"spec": {"serviceAccountName": "robot"}}}}
    await world.client.patch(apps.DEPLOYMENTS, WEB, patch)

    async def failure():
        deployment = await world.client.get(apps.DEPLOYMENTS, WEB)
        return next((c for c in deployment.status.conditions if c.type == "ReplicaFailure"), None)

    condition = await world.eventually(failure)
    assert condition.reason == "FailedCreate"
    assert "robot" in condition.message
    meta = meta_v1.ObjectMeta(name="robot", namespace="default")
    await world.client.create(core.SERVICE_ACCOUNTS, core_v1.ServiceAccount(metadata=meta))
    deployment = await world.rolled_out()
    assert deployment.metadata.uid == made.metadata.uid

    async def mended():
        return await failure() is None

    await world.eventually(mended)


async def test_a_pod_that_leaves_its_replica_set_is_released_and_one_that_fits_is_taken(world):
    await world.node("n1")
    await world.deploy(replicas=1)
    await world.rolled_out()
    (pod,) = await world.list(core.PODS, namespace="default")
    key = Key("default", pod.metadata.name)
    await world.client.patch(core.PODS, key, {"metadata": {"labels": {"app": "debug"}}})

    async def alone():
        found = await world.client.get(core.PODS, key)
        return (
            not found.metadata.owner_references and len(await world.list(core.PODS, namespace="default")) == 2
        )

    await world.eventually(alone)
    await world.client.patch(core.PODS, key, {"metadata": {"labels": {"app": "web"}}})

    async def one():
        pods = [
            p for p in await world.list(core.PODS, namespace="default") if not p.metadata.deletion_timestamp
        ]
        return len(pods) == 1 and pods[0].metadata.owner_references

    await world.eventually(one)


async def test_a_replication_controller_keeps_its_pods(world):
    await world.node("n1")
    labels = {"app": "old"}
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=labels),
        spec=core_v1.PodSpec(containers=(core_v1.Container(name="c", image="i"),)),
    )
    spec = core_v1.ReplicationControllerSpec(replicas=2, selector=labels, template=template)
    meta = meta_v1.ObjectMeta(name="old", namespace="default")
    await world.client.create(
        core.REPLICATION_CONTROLLERS, core_v1.ReplicationController(metadata=meta, spec=spec)
    )

    async def ready(count):
        found = await world.client.get(core.REPLICATION_CONTROLLERS, Key("default", "old"))
        return found.status and (found.status.ready_replicas or 0) == count

    await world.eventually(lambda: ready(2))
    pods = await world.list(core.PODS, namespace="default")
    assert {pod.metadata.owner_references[0].kind for pod in pods} == {"ReplicationController"}
    await world.client.patch(core.REPLICATION_CONTROLLERS, Key("default", "old"), {"spec": {"replicas": 1}})
    await world.eventually(lambda: ready(1))
