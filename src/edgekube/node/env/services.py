"""Environment variables that name services (pkg/kubelet/envvars)."""

from collections.abc import Iterable

from edgekube.api.types import core_v1

MASTER = ("default", "kubernetes")


def service_environment(
    services: Iterable[core_v1.Service], namespace: str, *, links: bool
) -> dict[str, str]:
    """Return the API server's variables and, with `links`, those of all services of the pod's namespace."""
    found: dict[str, str] = {}
    for service in services:
        meta = service.metadata
        if meta.name == MASTER[1] and meta.namespace == MASTER[0]:
            found.update(_variables(service))
    if links:
        for service in services:
            if service.metadata.namespace == namespace:
                found.update(_variables(service))
    return found


def _variables(service: core_v1.Service) -> dict[str, str]:
    address = service.spec.cluster_ip
    if not address or address == "None" or not service.spec.ports:
        return {}
    prefix = service.metadata.name.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    first = service.spec.ports[0]
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(first.port)}
    for port in service.spec.ports:
        if port.name:
            found[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
    found[f"{prefix}_PORT"] = _url(first, host)
    for port in service.spec.ports:
        protocol = port.protocol or "TCP"
        start = f"{prefix}_PORT_{port.port}_{protocol}"
        found[start] = _url(port, host)
        found[f"{start}_PROTO"] = protocol.lower()
        found[f"{start}_PORT"] = str(port.port)
        found[f"{start}_ADDR"] = address
    return found


def _url(port: core_v1.ServicePort, host: str) -> str:
    return f"{(port.protocol or 'TCP').lower()}://{host}:{port.port}"
