"""What a node learns when it joins, kept on its disk: how to reach the brokers and what the cluster is like."""

from pathlib import Path

import msgspec

from edgekube.lib.errors import EdgekubeError
from edgekube.lib.files import write_atomic

JOIN_PATH = "/edgekube/v1/join"
AUTHORITY_PATH = "/edgekube/v1/ca"


class JoinRequest(msgspec.Struct, frozen=True, rename="camel"):
    """A node's application: a PEM certificate request made with the board's key."""

    node_name: str
    csr: str


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What every node must know of its cluster. Addresses and CIDRs as text."""

    cluster: str
    brokers: tuple[str, ...]
    """`mqtts://host:port`, tried in turn."""
    cluster_dns: str
    cluster_domain: str
    cluster_cidr: str
    service_cidr: str
    cluster_cidr6: str = ""
    """In dual-stack clusters."""
    service_cidr6: str = ""
    """In clusters whose Services have IPv6 addresses too."""
    network: str = "auto"
    """Which ways lead to other nodes' pods, where a node says nothing else: `auto`, `routes` or `vxlan`."""


class JoinAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """The signed certificate and the CA that signed it (PEM), and the cluster's facts."""

    certificate: str
    authority: str
    facts: ClusterFacts


class Membership(msgspec.Struct, frozen=True, rename="camel"):
    """The node's memory of having joined."""

    node_name: str
    facts: ClusterFacts


class NotJoined(EdgekubeError):
    """This node has no membership, or an unreadable one."""


def load(path: Path) -> Membership:
    """Read the membership; raises NotJoined."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Membership)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise NotJoined(f"{path}: {error}") from error


def save(path: Path, membership: Membership) -> None:
    """Write the membership."""
    write_atomic(path, msgspec.json.encode(membership))
