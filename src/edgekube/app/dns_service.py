"""The `kube-dns` Service: the name under which nodes answer DNS. It selects nothing; each node answers itself."""

from edgekube.api.errors import NotFound
from edgekube.api.kinds.core_v1 import SERVICES
from edgekube.api.resource import key_of
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.typed import Client

NAMESPACE, NAME = "kube-system", "kube-dns"


async def ensure(client: Client, address: str) -> None:
    """Make the Service at `address`; harmless when it is there."""
    ports = tuple(
        core_v1.ServicePort(name=name, port=53, protocol=protocol)
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    )
    service = core_v1.Service(
        metadata=meta_v1.ObjectMeta(
            namespace=NAMESPACE, name=NAME, labels={"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
        ),
        spec=core_v1.ServiceSpec(cluster_ip=address, cluster_ips=(address,), ports=ports, type="ClusterIP"),
    )
    try:
        await client.get(SERVICES, key_of(service))
    except NotFound:
        await client.create(SERVICES, service)
