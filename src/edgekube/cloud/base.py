"""
The cloud port: what Kubernetes asks of the place it runs in (k8s.io/cloud-provider, made small).

A provider has the parts it can do; None says it cannot. Truth stays in the API: a provider that
was restarted is told by `adopt` what it gave before, so it needs no store of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgekube.lib.errors import EdgekubeError


class CloudError(EdgekubeError):
    """The provider cannot do it now; `str()` says why."""


class BadCloudConfig(CloudError):
    """The provider's configuration is not understood; the message names the entry."""


class NothingLeft(CloudError):
    """The addresses, or the port on them, are all given away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudNode:
    """A node as a provider sees it."""

    name: str
    addresses: tuple[str, ...] = ()
    """Those to reach it at, best first: external before internal ones."""
    provider_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What a provider knows of the machine below a node; "" where it knows nothing."""

    zone: str = ""
    region: str = ""
    type: str = ""
    shut_down: bool = False


Port = tuple[str, int]
"""Protocol and number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """A Service of type LoadBalancer."""

    uid: str
    name: str
    """`namespace/name`, for messages."""
    ports: frozenset[Port]
    families: tuple[str, ...] = ("IPv4",)
    """The IP families to have an address of each, where the provider can."""
    wanted: str = ""
    """The one address asked for (spec.loadBalancerIP)."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    """What its status says it has."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where outsiders reach a balancer. `announced`: one node must speak for these addresses on the LAN."""

    addresses: tuple[str, ...]
    announced: bool = False


class Instances(Protocol):
    """Machines."""

    async def instance(self, node: CloudNode) -> Instance | None:
        """Return what is known of a node's machine; None: it is no more, so the node may be deleted. Raises CloudError."""
        ...


class Balancers(Protocol):
    """Addresses for outsiders."""

    def adopt(self, known: Iterable[Balancer]) -> None:
        """Learn what was given before, the oldest first; called once, before `ensure`."""
        ...

    async def ensure(self, balancer: Balancer, nodes: Sequence[CloudNode]) -> Assigned:
        """Make the balancer lead to `nodes`; the same again changes nothing. Raises CloudError, NothingLeft."""
        ...

    async def delete(self, uid: str) -> None:
        """Take back what a balancer has; one that is unknown is no error. Raises CloudError."""
        ...


class Cloud(Protocol):
    """A provider."""

    @property
    def name(self) -> str:
        """As in the URL that chose it."""
        ...

    @property
    def instances(self) -> Instances | None:
        """Machines, if it knows of them."""
        ...

    @property
    def balancers(self) -> Balancers | None:
        """Load balancers, if it makes them."""
        ...

    def configure(self, data: Mapping[str, str]) -> None:
        """Take the entries of the ConfigMap kube-system/cloud-config, {} for none; raises BadCloudConfig and keeps the old."""
        ...
