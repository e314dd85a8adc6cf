"""What a person may choose when starting a server, an agent or a whole machine."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from edgekube.app.nodeoptions import NodeOptions
from edgekube.app.paths import DEFAULT, RUN

API_PORT = 6443
NODE_PREFIX6 = 64
"""Bits of a node's share of the IPv6 pod addresses."""
SERVICE_PREFIX6 = 108
"""Bits that a range of IPv6 Services has at least, as for kube-apiserver."""
DUAL_STACK = (
    "--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48", "--service-cidr", "10.96.0.0/16,fd00:10:96::/112",
)  # fmt: skip
"""Flags of a server whose pods and Services may have IPv6 addresses too."""
BROKER_PORT = 8883


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options of `edgekube server`."""

    data_dir: Path = DEFAULT / "server"
    cluster: str = "edgekube"
    bind: tuple[str, ...] = ("0.0.0.0",)
    """Addresses the API listens on."""
    port: int = API_PORT
    listen_fd: int = -1
    """A listening socket inherited from the supervisor, besides `bind`."""
    advertise: str = "127.0.0.1"
    """The address nodes and pods reach this server at."""
    external: str = "127.0.0.1"
    """The address the administrator's kubeconfig names."""
    external_port: int = API_PORT
    broker: str = ""
    """An MQTT broker to use instead of starting one: `mqtts://host:port`, trusting this cluster's CA."""
    broker_port: int = BROKER_PORT
    store: str = ""
    """The store's URL; "" is the embedded one below `data_dir`."""
    scheduler_config: Path | None = None
    """A KubeSchedulerConfiguration with the scheduler's profiles."""
    token_auth_file: Path | None = None
    """Bearer tokens: lines of `token,user,uid,"group1,group2"`."""
    anonymous_auth: bool = True
    """Whether requests without credentials are anonymous, rather than refused."""
    audit_policy_file: Path | None = None
    """An audit.k8s.io/v1 Policy."""
    audit_log_path: Path | None = None
    """Where the audit log is written; None: there is none."""
    audit_log_maxsize: int = 100
    """MiB after which the audit log is turned over."""
    audit_log_maxbackup: int = 10
    """How many older audit logs are kept."""
    leader_elect: bool = False
    """Whether other servers share the store, so that only the elected one runs controllers and scheduler."""
    cluster_cidr: str = "10.244.0.0/16"
    """Pods' addresses: an IPv4 CIDR, in dual-stack clusters a comma and an IPv6 one after it."""
    service_cidr: str = "10.96.0.0/16"
    """Services' addresses: an IPv4 CIDR, in dual-stack clusters a comma and an IPv6 one after it."""
    cluster_domain: str = "cluster.local"
    network: str = "auto"
    """Which ways lead to other nodes' pods: `auto`, `routes` or `vxlan`."""
    cloud: str = "edge://"
    """The cloud provider's URL; "" for none."""

    @property
    def broker_urls(self) -> tuple[str, ...]:
        """Where nodes find the broker."""
        return (self.broker or f"mqtts://{self.advertise}:{self.broker_port}",)

    @property
    def cluster_cidrs(self) -> tuple[str, str]:
        """Pods' IPv4 CIDR and ("" for none) IPv6 CIDR; raises ValueError."""
        first, _, second = self.cluster_cidr.partition(",")
        six = ipaddress.IPv6Network(second) if second else None
        if six is not None and (six.prefixlen % 8 or six.prefixlen > NODE_PREFIX6):
            raise ValueError(f"{second}: the prefix length must be a multiple of 8, at most {NODE_PREFIX6}")
        return str(ipaddress.IPv4Network(first)), str(six) if six else ""

    @property
    def service_cidrs(self) -> tuple[str, str]:
        """Services' IPv4 CIDR and ("" for none) IPv6 CIDR; raises ValueError."""
        first, _, second = self.service_cidr.partition(",")
        six = ipaddress.IPv6Network(second) if second else None
        if six is not None and six.prefixlen < SERVICE_PREFIX6:
            raise ValueError(f"{second}: a range of Services has at least {SERVICE_PREFIX6} bits of prefix")
        return str(ipaddress.IPv4Network(first)), str(six) if six else ""

    @property
    def cluster_dns(self) -> str:
        """The DNS Service's address: the tenth of the service range."""
        return str(ipaddress.ip_network(self.service_cidrs[0])[10])

    @property
    def kubernetes_address(self) -> str:
        """The `kubernetes` Service's address: the first of the service range."""
        return str(ipaddress.ip_network(self.service_cidrs[0])[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """Options of `edgekube agent`."""

    data_dir: Path = DEFAULT / "agent"
    server: str = ""
    """`https://host:6443`; needed once, to join."""
    token_file: Path | None = None
    node_name: str = ""
    """Default: the machine's host name."""
    node_ip: str = ""
    """Default: the address the default route's interface (or else the first one) has, followed as it changes."""
    node_interface: str = ""
    """The interface whose address is the node's."""
    network: str = ""
    """Which ways lead to other nodes' pods: `auto`, `routes`, `vxlan`; "": as the server says."""
    runtime: str = ""
    """The runtime's URL; "" starts a podman of our own below `data_dir`."""
    run_dir: Path = Path("/run/edgekube-node")
    """Volatile state: sockets."""
    cgroup_root: str = "/edgekube"
    node: NodeOptions = field(default_factory=NodeOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """Options of `edgekube up` and `edgekube down`."""

    data_dir: Path = DEFAULT
    run_dir: Path = RUN
    name: str = "edgekube"
    sandbox: bool = True
    port: int = API_PORT
    node_name: str = "edge1"
    node_address: str = "10.50.0.2"
    """The node's address inside the sandbox."""
    agent_flags: tuple[str, ...] = ()
    """More flags for `edgekube agent`."""
    dual_stack: bool = False
    """Whether pods and Services may have IPv6 addresses too."""
    demo: bool = False
    patience: float = 60.0
    """Seconds the cluster may take to become ready."""
