"""What every controller is given."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgekube.api.scheme import Scheme
from edgekube.client.typed import Client
from edgekube.cloud.base import Cloud
from edgekube.control.clock import Clock
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers

Sign = Callable[[str, Sequence[str], float], bytes]
"""Makes a PEM certificate of (base64 PEM request, usages, seconds it is valid); runs in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the cluster is laid out."""

    cluster_cidr: str = "10.42.0.0/16"
    """Pod addresses of all nodes; in dual-stack clusters an IPv4 and an IPv6 CIDR with a comma between."""
    node_prefix: int = 24
    """Prefix length of one node's share."""
    node_prefix6: int = 64
    """The same of IPv6."""
    root_ca: str = ""
    """PEM of the CA that signed the API server's certificate; "" publishes none."""
    node_grace: float = 40.0
    """Seconds without a renewed Lease before a node counts as lost."""
    terminated_pods: int = 1000
    """Ended pods kept before the oldest are deleted."""
    sign: Sign | None = None
    """Signs certificate requests with the cluster's CA; None: nobody does."""
    cloud: Cloud | None = None
    """The provider of load balancers and machines."""
    clock: Clock = time.time
    scheme: Scheme = field(default_factory=Scheme)


@dataclass(frozen=True, slots=True)
class Context:
    """The client, the shared caches, the options, and where events go."""

    client: Client
    informers: Informers
    options: Options
    events: EventSink

    @property
    def clock(self) -> Clock:
        """Unix seconds."""
        return self.options.clock


class Part(Protocol):
    """Something the server runs until it stops."""

    @property
    def name(self) -> str:
        """For logs and task names."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...
