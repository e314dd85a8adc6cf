"""Load balancers and machines: what Services and nodes are told by the provider."""

import pytest

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, discovery_v1, meta_v1
from edgekube.client.typed import MERGE
from edgekube.cloud.base import CloudNode, Instance
from edgekube.controllers.cloud.machines import SHUT_DOWN, missing, taints
from edgekube.controllers.cloud.plan import ANNOUNCER, FINALIZER, announcer, targets, wanted

POOL = {"pool.default": "192.0.2.1-192.0.2.2"}


def node(name, *, ready=True, address="192.0.2.10", **meta):
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(name=name, **meta),
        status=core_v1.NodeStatus(
            addresses=(core_v1.NodeAddress(type="InternalIP", address=address),),
            conditions=(core_v1.NodeCondition(type="Ready", status="True" if ready else "Unknown"),),
        ),
    )


def service(name="web", *, annotations=None, deleted="", **spec):
    spec = {"type": "LoadBalancer", "ports": (core_v1.ServicePort(port=80),), **spec}
    meta = meta_v1.ObjectMeta(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        annotations=annotations or {},
        deletion_timestamp=deleted,
    )
    return core_v1.Service(metadata=meta, spec=core_v1.ServiceSpec(**spec))


@pytest.mark.parametrize(
    ("made", "true"),
    [
        (service(), True),
        (service(type="NodePort"), False),
        (service(load_balancer_class="edgekube.io/edge"), True),
        (service(load_balancer_class="example.com/other"), False),
        (service(deleted="2030-01-01T00:00:00Z"), False),
    ],
)
def test_which_services_are_ours(made, true):
    assert wanted(made, "edge") is true


def test_nodes_that_may_be_sent_to():
    nodes = [
        node("well"), node("lost", ready=False), node("going", deletion_timestamp="2030-01-01T00:00:00Z"), node("busy"),
        node("excluded", labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
    ]  # fmt: skip
    ends = (
        discovery_v1.Endpoint(addresses=("10.0.0.1",), node_name="busy"),
        discovery_v1.Endpoint(
            addresses=("10.0.0.2",), node_name="well", conditions=discovery_v1.EndpointConditions(ready=False)
        ),
    )
    slices = [discovery_v1.EndpointSlice(address_type="IPv4", endpoints=ends)]
    assert [n.name for n in targets(service(), nodes, slices)] == ["busy", "well"]
    assert [n.name for n in targets(service(external_traffic_policy="Local"), nodes, slices)] == ["busy"]


NODES = [CloudNode(name=f"n{number}", addresses=(f"192.0.2.{number}",)) for number in range(10)]


def test_the_announcer_stays_while_it_can_and_its_successor_is_the_same_for_all():
    first = announcer(service(), ["192.0.2.100"], NODES)
    assert first == announcer(service(), ["192.0.2.100"], NODES[::-1])
    left = [node for node in NODES if node.name != first]
    second = announcer(service(annotations={ANNOUNCER: first}), ["192.0.2.100"], left)
    assert second != first
    assert announcer(service(annotations={ANNOUNCER: second}), ["192.0.2.100"], NODES) == second
    assert announcer(service(), ["192.0.2.100"], []) == ""
    spread = {announcer(service(f"s{number}"), ["192.0.2.100"], NODES) for number in range(50)}
    assert len(spread) > 5


def test_only_a_neighbour_can_announce():
    far = [CloudNode(name="far", addresses=("198.51.100.1",)), NODES[3]]
    assert all(announcer(service(f"s{n}"), ["192.0.2.100"], far) == "n3" for n in range(10))
    assert announcer(service(), ["203.0.113.1"], far[:1]) == "far"


async def configured(world, data):
    await world.client.create(
        core.CONFIG_MAPS,
        core_v1.ConfigMap(
            metadata=meta_v1.ObjectMeta(name="cloud-config", namespace="kube-system"), data=data
        ),
    )


async def add(world, made):
    stored = await world.client.create(
        core.NODES,
        core_v1.Node(metadata=meta_v1.ObjectMeta(name=made.metadata.name, labels=made.metadata.labels)),
    )
    return await world.client.patch(
        core.NODES, key_of(stored), {"status": status_of(made)}, subresource="status"
    )


def status_of(made):
    return {
        "addresses": [{"type": a.type, "address": a.address} for a in made.status.addresses],
        "conditions": [{"type": c.type, "status": c.status} for c in made.status.conditions],
    }


async def create(world, made):
    meta = meta_v1.ObjectMeta(
        name=made.metadata.name, namespace="default", annotations=made.metadata.annotations
    )
    return await world.client.create(core.SERVICES, core_v1.Service(metadata=meta, spec=made.spec))


async def got(world, name, *addresses, **more):
    async def check():
        found = await world.client.get(core.SERVICES, Key("default", name))
        ingress = found.status.load_balancer.ingress if found.status.load_balancer else ()
        fits = all(found.metadata.annotations.get(key) == value for key, value in more.items())
        return found if tuple(item.ip for item in ingress) == addresses and fits else None

    return await world.eventually(check)


async def test_a_service_from_pool_to_deletion(world):
    await configured(world, POOL)
    await add(world, node("n1", address="192.0.2.101"))
    await add(world, node("n2", address="192.0.2.102"))
    await create(world, service("a"))
    first = await got(world, "a", "192.0.2.1")
    assert FINALIZER in first.metadata.finalizers
    speaker = first.metadata.annotations[ANNOUNCER]
    await create(world, service("b"))
    await got(world, "b", "192.0.2.2")
    await create(world, service("c"))

    async def refused():
        events = await world.list(core.EVENTS)
        return [e for e in events if e.reason == "SyncLoadBalancerFailed" and "no address left" in e.message]

    await world.eventually(refused)
    silent = {"conditions": [{"type": "Ready", "status": "False"}]}
    await world.client.patch(core.NODES, Key("", speaker), {"status": silent}, subresource="status")
    await got(world, "a", "192.0.2.1", **{ANNOUNCER: ({"n1", "n2"} - {speaker}).pop()})
    await world.client.delete(core.SERVICES, Key("default", "b"))

    async def gone():
        try:
            await world.client.get(core.SERVICES, Key("default", "b"))
        except NotFound:
            return True
        return False

    await world.eventually(gone)
    await world.client.patch(
        core.SERVICES, Key("default", "c"), {"metadata": {"labels": {"try": "again"}}}, kind=MERGE
    )
    await got(world, "c", "192.0.2.2")
    await world.client.patch(core.SERVICES, Key("default", "a"), {"spec": {"type": "ClusterIP"}}, kind=MERGE)
    plain = await got(world, "a")

    async def released():
        now = await world.client.get(core.SERVICES, key_of(plain))
        return FINALIZER not in now.metadata.finalizers and ANNOUNCER not in now.metadata.annotations

    await world.eventually(released)


async def test_without_a_pool_the_nodes_addresses(world):
    await add(world, node("n1", address="192.0.2.101"))
    await create(world, service("a"))
    made = await got(world, "a", "192.0.2.101")
    assert ANNOUNCER not in made.metadata.annotations
    await add(world, node("n2", address="192.0.2.102"))
    await got(world, "a", "192.0.2.101", "192.0.2.102")


async def test_a_bad_pool_is_told_and_changes_nothing(world):
    await configured(world, {"pool.default": "everywhere"})
    await add(world, node("n1", address="192.0.2.101"))
    await create(world, service("a"))
    await got(world, "a", "192.0.2.101")

    async def told():
        return [e for e in await world.list(core.EVENTS) if e.reason == "BadCloudConfig"]

    (event, *_) = await world.eventually(told)
    assert event.message.startswith("pool.default: ")
    assert event.involved_object.name == "cloud-config"


async def test_nodes_learn_their_zone(world):
    await configured(world, {"zone.attic": "192.0.2.0/24"})
    await add(world, node("n1", address="192.0.2.101"))

    async def labelled():
        found = await world.client.get(core.NODES, Key("", "n1"))
        return found.metadata.labels.get("topology.kubernetes.io/zone") == "attic"

    await world.eventually(labelled)


def test_labels_and_taints_of_machines():
    lost = node("n", ready=False, labels={"topology.kubernetes.io/zone": "z"})
    assert missing(lost, Instance(zone="z", type="Pi 5")) == {"node.kubernetes.io/instance-type": "Pi 5"}
    assert taints(lost, Instance(shut_down=True)) == (SHUT_DOWN,)
    assert taints(node("n"), Instance(shut_down=True)) == ()
    off = core_v1.Node(metadata=lost.metadata, spec=core_v1.NodeSpec(taints=(SHUT_DOWN,)), status=lost.status)
    assert taints(off, Instance(shut_down=True)) == (SHUT_DOWN,)
    assert taints(off, Instance()) == ()
