"""What a lab consists of: machines, cables and addresses, all following from its options."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edgekube.lib.errors import EdgekubeError

NETWORKS = tuple(f"10.{50 + number}.0" for number in range(4))
"""The LANs' first three octets."""
NETWORKS6 = tuple(f"fd00:50:{number}" for number in range(4))
"""The same of a dual-stack lab: the first three groups."""
MASTER = f"{NETWORKS[0]}.2"
ROUTER_HOST, FIRST_NODE, CLIENT_HOST = 1, 10, 250
MOST_NODES = 100
NODE_INTERFACE = "eth0"


class LabError(EdgekubeError):
    """The lab cannot do that; `str()` says why."""


class Role(StrEnum):
    """What a machine of the lab is for."""

    SWITCH = "switch"
    """All LANs' bridges; a machine without addresses."""
    ROUTER = "router"
    MASTER = "master"
    NODE = "node"
    CLIENT = "client"
    """A machine on the LAN that has nothing to do with the cluster and knows no way to pods or Services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """A lab's size and place."""

    directory: Path
    name: str = "lab"
    nodes: int = 3
    lans: int = 1
    port: int = 16443
    """Of the API on the host's 127.0.0.1."""
    network: str = "auto"
    """The way to other nodes' pods: `auto`, `routes` or `vxlan`."""
    dual_stack: bool = False
    """Whether machines, pods and Services have IPv6 addresses too."""
    images: tuple[Path, ...] = ()
    """Image archives every node has on its disk."""


@dataclass(frozen=True, slots=True)
class Cable:
    """A veth pair (veth(4)) from a machine's `interface` to the switch's `port`, in LAN number `lan` from 0."""

    interface: str
    port: str
    lan: int
    address: str
    address6: str = ""
    """In a dual-stack lab."""

    @property
    def mac(self) -> str:
        """The interface's address, the same after every power cut: a locally administered one (IEEE 802)."""
        return ":".join(["02", "00", *(f"{int(part):02x}" for part in self.address.split("."))])


@dataclass(frozen=True, slots=True)
class Place:
    """A machine and how it is connected; `routes` are pairs of a network and the router's address."""

    name: str
    role: Role
    cables: tuple[Cable, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """The first address; "" for the switch."""
        return self.cables[0].address if self.cables else ""


def bridge(lan: int) -> str:
    """Return the name of a LAN's bridge in the switch."""
    return f"lan{lan + 1}"


def places(options: LabOptions) -> dict[str, Place]:
    """Return the lab's machines by name; nodes take turns on the LANs. Raises LabError."""
    if not 1 <= options.nodes <= MOST_NODES:
        raise LabError(f"a lab has 1 to {MOST_NODES} nodes, not {options.nodes}")
    if not 1 <= options.lans <= len(NETWORKS):
        raise LabError(f"a lab has 1 to {len(NETWORKS)} LANs, not {options.lans}")
    lans = range(options.lans)
    made = [Place("switch", Role.SWITCH)]
    if options.lans > 1:
        ports = (_cable(f"eth{lan}", f"p-router{lan + 1}", lan, ROUTER_HOST, options) for lan in lans)
        made.append(Place("router", Role.ROUTER, tuple(ports)))
    made.append(_host("master", Role.MASTER, 0, 2, options))
    for number in range(options.nodes):
        lan = number % options.lans
        made.append(_host(f"node{number + 1}", Role.NODE, lan, FIRST_NODE + number, options))
    made.extend(_host(f"client{lan + 1}", Role.CLIENT, lan, CLIENT_HOST, options) for lan in lans)
    return {place.name: place for place in made}


def _host(name: str, role: Role, lan: int, host: int, options: LabOptions) -> Place:
    others = [other for other in range(options.lans) if other != lan]
    routes = [(f"{NETWORKS[other]}.0/24", f"{NETWORKS[lan]}.{ROUTER_HOST}") for other in others]
    if options.dual_stack:
        routes += [(f"{NETWORKS6[other]}::/64", f"{NETWORKS6[lan]}::{ROUTER_HOST}") for other in others]
    return Place(name, role, (_cable(NODE_INTERFACE, f"p-{name}", lan, host, options),), tuple(routes))


def _cable(interface: str, port: str, lan: int, host: int, options: LabOptions) -> Cable:
    address6 = f"{NETWORKS6[lan]}::{host}" if options.dual_stack else ""
    return Cable(interface, port, lan, f"{NETWORKS[lan]}.{host}", address6)
