"""Which pods stand behind a Service, and on which ports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgekube.api.types import core_v1, discovery_v1
from edgekube.control.selectors import subset
from edgekube.controllers.pods import ENDED, ready_since

Ports = tuple[discovery_v1.EndpointPort, ...]
ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Backend:
    """One pod as an endpoint, with the ports its containers have."""

    endpoint: discovery_v1.Endpoint
    ports: Ports


def lost(nodes: Iterable[core_v1.Node]) -> frozenset[str]:
    """
    Return the nodes nobody hears from, none when it is all of them.

    If all are silent then the master is cut off rather than the nodes dead, and what was known
    to work is the best guess.
    """
    every = list(nodes)
    silent = frozenset(
        node.metadata.name
        for node in every
        if any(c.type == "Ready" and c.status == "Unknown" for c in node.status.conditions)
    )
    return frozenset() if len(silent) == len(every) else silent


def backends(
    service: core_v1.Service, pods: Iterable[core_v1.Pod], nodes: Mapping[str, core_v1.Node], family: str,
    *, silent: frozenset[str] = frozenset(),
) -> Sequence[Backend]:  # fmt: skip
    """Return the backends with an address of `family` (IPv4 or IPv6), ordered by address."""
    found = []
    for pod in pods:
        if not subset(service.spec.selector, pod.metadata.labels) or pod.status.phase in ENDED:
            continue
        address = _address(pod, family)
        if not address or not pod.spec.node_name:
            continue
        node = nodes.get(pod.spec.node_name)
        endpoint = _endpoint(service, pod, address, node, reachable=pod.spec.node_name not in silent)
        found.append(Backend(endpoint, ports_of(service, pod)))
    return sorted(found, key=lambda backend: backend.endpoint.addresses)


def ports_of(service: core_v1.Service, pod: core_v1.Pod) -> Ports:
    """Return the Service's ports as this pod has them; a named port it lacks is left out."""
    found = []
    for port in service.spec.ports:
        number = _number(port, pod)
        if number is not None:
            found.append(
                discovery_v1.EndpointPort(
                    name=port.name,
                    protocol=port.protocol or "TCP",
                    port=number,
                    app_protocol=port.app_protocol,
                )
            )
    return tuple(found)


def _number(port: core_v1.ServicePort, pod: core_v1.Pod) -> int | None:
    target = port.port if port.target_port is None else port.target_port
    if isinstance(target, int):
        return target or port.port
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for named in container.ports:
            if named.name == target and (named.protocol or "TCP") == (port.protocol or "TCP"):
                return named.container_port
    return None


def _address(pod: core_v1.Pod, family: str) -> str:
    addresses = [entry.ip for entry in pod.status.pod_ips] or [pod.status.pod_ip]
    return next((a for a in addresses if a and (":" in a) == (family == "IPv6")), "")


def _endpoint(
    service: core_v1.Service, pod: core_v1.Pod, address: str, node: core_v1.Node | None, *, reachable: bool
) -> discovery_v1.Endpoint:
    serving = ready_since(pod) is not None and reachable
    going = bool(pod.metadata.deletion_timestamp)
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    meta = pod.metadata
    zone = node.metadata.labels.get(ZONE, "") if node else ""
    return discovery_v1.Endpoint(
        addresses=(address,),
        conditions=discovery_v1.EndpointConditions(
            ready=bool(service.spec.publish_not_ready_addresses) or (serving and not going),
            serving=serving,
            terminating=going,
        ),
        hostname=pod.spec.hostname if named else "",
        node_name=pod.spec.node_name,
        target_ref=core_v1.ObjectReference(
            kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid
        ),
        zone=zone,
        hints=hints(service.spec.traffic_distribution, node_name=pod.spec.node_name, zone=zone)
        if serving and not going
        else None,
    )


def hints(distribution: str, *, node_name: str, zone: str) -> discovery_v1.EndpointHints | None:
    """Return for whom an endpoint that takes connections is meant (KEP-4444, KEP-3015)."""
    if distribution not in {"PreferClose", "PreferSameZone", "PreferSameNode"}:
        return None
    nodes = (discovery_v1.ForNode(name=node_name),) if distribution == "PreferSameNode" else ()
    zones = (discovery_v1.ForZone(name=zone),) if zone else ()
    return discovery_v1.EndpointHints(for_nodes=nodes, for_zones=zones) if nodes or zones else None
