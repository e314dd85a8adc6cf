"""Where things lie on disk: one data directory, `server/` and `agent/` below it."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT = Path("/var/lib/edgekube")
RUN = Path("/run/edgekube")


@dataclass(frozen=True, slots=True)
class ServerPaths:
    """The server's files below `root`."""

    root: Path

    @property
    def tls(self) -> Path:
        """Keys and certificates."""
        return self.root / "tls"

    @property
    def store(self) -> Path:
        """The embedded store."""
        return self.root / "state.db"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "admin.kubeconfig"

    @property
    def node_token(self) -> Path:
        """The join token for nodes that the first start makes."""
        return self.root / "node-token"

    @property
    def admin_token(self) -> Path:
        """The administrator's bearer token."""
        return self.root / "admin-token"

    @property
    def broker(self) -> Path:
        """Mosquitto's configuration and log."""
        return self.root / "mosquitto"


@dataclass(frozen=True, slots=True)
class AgentPaths:
    """The agent's files below `root`."""

    root: Path

    @property
    def certificate(self) -> Path:
        """The node's certificate."""
        return self.root / "tls" / "node.crt"

    @property
    def key(self) -> Path:
        """The board's key: its identity."""
        return self.root / "tls" / "node.key"

    @property
    def authority(self) -> Path:
        """The cluster's CA certificate."""
        return self.root / "tls" / "ca.crt"

    @property
    def membership(self) -> Path:
        """What joining told: brokers, cluster name, DNS."""
        return self.root / "membership.json"

    @property
    def wish(self) -> Path:
        """Desired state, as the hub sent it."""
        return self.root / "wish"

    @property
    def network(self) -> Path:
        """Pod addresses."""
        return self.root / "network"

    @property
    def podman(self) -> Path:
        """Podman's storage."""
        return self.root / "podman"
