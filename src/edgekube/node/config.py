"""What the kubelet part of the agent is told at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfig:
    """Settings; times in seconds, sizes in bytes, quantities as Kubernetes writes them."""

    node_name: str
    node_ip: str
    data_dir: Path
    """Holds `pods/` (logs, volumes) and `images/` (archives to load)."""
    run_dir: Path | None = None
    """Holds what need not survive a reboot (best a tmpfs, to spare flash); None: `data_dir`."""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    cgroup_root: str = "/edgekube"
    """Cgroup under which pods' cgroups are made; "" leaves the choice to the runtime."""
    cgroup_mount: Path = Path("/sys/fs/cgroup")
    resolv_conf: Path = Path("/etc/resolv.conf")
    """The node's own resolver file, for dnsPolicy Default."""
    max_pods: int = 110
    reserved: Mapping[str, str] = field(default_factory=dict)
    """Subtracted from capacity to give allocatable: cpu, memory, ephemeral-storage."""
    labels: Mapping[str, str] = field(default_factory=dict)
    service_cidr: str = ""
    kubelet_version: str = "v1.37.0+edgekube"
    relist_period: float = 60.0
    status_period: float = 300.0
    stats_period: float = 15.0
    log_max_bytes: int = 10 << 20
    log_max_files: int = 5
    log_period: float = 10.0
    """How often log sizes are looked at."""

    @property
    def pods_dir(self) -> Path:
        """Where pods' folders are."""
        return self.data_dir / "pods"

    @property
    def status_dir(self) -> Path:
        """Where pods' last statuses are kept."""
        return (self.run_dir or self.data_dir) / "pod-status"

    @property
    def images_dir(self) -> Path:
        """Where image archives are dropped."""
        return self.data_dir / "images"
