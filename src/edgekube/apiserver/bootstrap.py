"""What a new cluster starts with: its namespaces, and the API's own Service."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, TypeVar

import msgspec

from edgekube.api.errors import AlreadyExists, Conflict, NotFound
from edgekube.api.kinds.core_v1 import CONFIG_MAPS, ENDPOINTS, NAMESPACES, SERVICES
from edgekube.api.kinds.discovery_v1 import ENDPOINT_SLICES
from edgekube.api.kinds.flowcontrol_v1 import FLOW_SCHEMAS, PRIORITY_LEVELS
from edgekube.api.kinds.rbac_v1 import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from edgekube.api.kinds.scheduling_v1 import PRIORITY_CLASSES
from edgekube.api.kinds.storage_v1 import STORAGE_CLASSES
from edgekube.api.resource import AnyResource, Key, Object, Resource, key_of
from edgekube.api.types import core_v1, discovery_v1, meta_v1, scheduling_v1, storage_v1
from edgekube.api.validation.priority_class import SYSTEM_CLASSES
from edgekube.apiserver.fairness import defaults as fairness
from edgekube.apiserver.rbac import defaults as rbac
from edgekube.apiserver.rbac import reconcile
from edgekube.client.base import Call
from edgekube.client.typed import Client

T = TypeVar("T", bound=Object)

NAMESPACE_NAMES = ("default", "kube-system", "kube-public", "kube-node-lease")
LOCAL_PATH = storage_v1.StorageClass(
    metadata=meta_v1.ObjectMeta(
        name="local-path", annotations={"storageclass.kubernetes.io/is-default-class": "true"}
    ),
    provisioner="edgekube.io/local-path",
    reclaim_policy="Delete",
    volume_binding_mode="WaitForFirstConsumer",
)
"""A directory on the node: what a claim that names no class gets."""
KUBERNETES = Key("default", "kubernetes")
FRONT_PROXY = "front-proxy-client"
"""The common name of the certificate that extension servers know this server by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    """Where the API server answers, as pods reach it."""

    address: str
    port: int = 6443
    service_cidr: str = "10.43.0.0/16"
    client_authority: str = ""
    """PEM certificate that client certificates are checked against; "": there are none."""
    front_proxy_authority: str = ""
    """PEM certificate that extension servers check ours against."""


async def bootstrap(client: Client, config: BootstrapConfig) -> None:
    """Make what is missing; harmless when repeated."""
    for name in NAMESPACE_NAMES:
        await _ensure(client, NAMESPACES, core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name)))
    await _refresh(client, CLUSTER_ROLES, rbac.cluster_roles(), reconcile.role)
    await _refresh(client, CLUSTER_ROLE_BINDINGS, rbac.cluster_role_bindings(), reconcile.binding)
    await _refresh(client, ROLES, rbac.roles(), reconcile.role)
    await _refresh(client, ROLE_BINDINGS, rbac.role_bindings(), reconcile.binding)
    await _ensure(client, STORAGE_CLASSES, LOCAL_PATH)
    for name, value in SYSTEM_CLASSES.items():
        meta = meta_v1.ObjectMeta(name=name)
        await _ensure(client, PRIORITY_CLASSES, scheduling_v1.PriorityClass(metadata=meta, value=value))
    await _provide(client, PRIORITY_LEVELS, fairness.levels())
    await _provide(client, FLOW_SCHEMAS, fairness.schemas())
    if config.front_proxy_authority:
        await _replace(client, CONFIG_MAPS, _authentication(config))
    await _ensure(client, SERVICES, _service(config))
    await _replace(client, ENDPOINTS, _endpoints(config))
    await _replace(client, ENDPOINT_SLICES, _slice(config))


async def _refresh(
    client: Client, resource: Resource[T], wished: Sequence[T], plan: Callable[[T, T], T | None]
) -> None:
    """Make the objects that are missing; of the others write what `plan` makes of the one there and the wished one."""
    there = {key_of(found): found for found in (await client.list(resource)).items}
    for obj in wished:
        found = there.get(key_of(obj))
        # Somebody else's write in between wins; the next start tries again.
        with contextlib.suppress(Conflict, AlreadyExists, NotFound):
            if found is None:
                await client.create(resource, obj)
            elif (changed := plan(found, obj)) is not None:
                await client.update(resource, changed)


async def _provide(client: Client, row: AnyResource, wished: Iterable[dict[str, Any]]) -> None:
    """Make the objects that are missing, of a kind that has no type."""
    listed = msgspec.json.decode(await client.carrier.do(Call(verb="list", resource=row)))
    there = {tree["metadata"]["name"] for tree in listed["items"]}
    for tree in wished:
        if tree["metadata"]["name"] not in there:
            with contextlib.suppress(AlreadyExists):
                body = msgspec.json.encode(tree)
                await client.carrier.do(Call(verb="create", resource=row, body=body))


async def _ensure(client: Client, resource: Resource[T], obj: T) -> None:
    try:
        await client.get(resource, key_of(obj))
    except NotFound:
        with contextlib.suppress(AlreadyExists):
            await client.create(resource, obj)


async def _replace(client: Client, resource: Resource[T], obj: T) -> None:
    try:
        await client.update(resource, obj)
    except NotFound:
        await client.create(resource, obj)


def _authentication(config: BootstrapConfig) -> core_v1.ConfigMap:
    """What extension servers need to believe us (Kubernetes docs, "Configure the Aggregation Layer")."""
    lists = {
        "requestheader-allowed-names": (FRONT_PROXY,),
        "requestheader-username-headers": ("X-Remote-User",),
        "requestheader-uid-headers": ("X-Remote-Uid",),
        "requestheader-group-headers": ("X-Remote-Group",),
        "requestheader-extra-headers-prefix": ("X-Remote-Extra-",),
    }
    return core_v1.ConfigMap(
        metadata=meta_v1.ObjectMeta(namespace="kube-system", name="extension-apiserver-authentication"),
        data={
            "client-ca-file": config.client_authority,
            "requestheader-client-ca-file": config.front_proxy_authority,
            **{name: msgspec.json.encode(values).decode() for name, values in lists.items()},
        },
    )


def _meta(labels: dict[str, str]) -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(namespace=KUBERNETES.namespace, name=KUBERNETES.name, labels=labels)


def _service(config: BootstrapConfig) -> core_v1.Service:
    """The `kubernetes` Service has the first address of the range."""
    address = str(ip_network(config.service_cidr)[1])
    port = core_v1.ServicePort(name="https", port=443, protocol="TCP", target_port=config.port)
    return core_v1.Service(
        metadata=_meta({"component": "apiserver", "provider": "kubernetes"}),
        spec=core_v1.ServiceSpec(cluster_ip=address, cluster_ips=(address,), ports=(port,), type="ClusterIP"),
    )


def _endpoints(config: BootstrapConfig) -> core_v1.Endpoints:
    subset = core_v1.EndpointSubset(
        addresses=(core_v1.EndpointAddress(ip=config.address),),
        ports=(core_v1.EndpointPort(name="https", port=config.port, protocol="TCP"),),
    )
    return core_v1.Endpoints(
        metadata=_meta({"endpointslice.kubernetes.io/skip-mirror": "true"}), subsets=(subset,)
    )


def _slice(config: BootstrapConfig) -> discovery_v1.EndpointSlice:
    ready = discovery_v1.EndpointConditions(ready=True)
    return discovery_v1.EndpointSlice(
        metadata=_meta({"kubernetes.io/service-name": KUBERNETES.name}),
        address_type="IPv6" if ":" in config.address else "IPv4",
        endpoints=(discovery_v1.Endpoint(addresses=(config.address,), conditions=ready),),
        ports=(discovery_v1.EndpointPort(name="https", port=config.port, protocol="TCP"),),
    )
