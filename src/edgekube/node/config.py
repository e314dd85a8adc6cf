"""What the kubelet part of the agent is told at start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekube.node.eviction.settings import EvictionSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGcSettings:
    """The kubelet's image…GC settings; percent of the disk, seconds."""

    high: int = 85
    """From here on images are removed; 100 switches that off."""
    low: int = 80
    """Down to here."""
    min_age: float = 120.0
    max_age: float = 0.0
    """How long an image may be unused; 0: for ever."""
    pinned: tuple[str, ...] = ()
    """Names (with * as a wildcard) that are never removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfig:
    """Settings; times in seconds, sizes in bytes, quantities as Kubernetes writes them."""

    node_name: str
    node_ip: str
    node_ip6: str = ""
    """The node's IPv6 address, in dual-stack clusters."""
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
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    """Subtracted from capacity to give allocatable: cpu, memory, ephemeral-storage."""
    system_reserved: Mapping[str, str] = field(default_factory=dict)
    eviction: EvictionSettings = field(default_factory=EvictionSettings)
    image_gc: ImageGcSettings = field(default_factory=ImageGcSettings)
    manifests: Path | None = None
    """The folder with static pods' files; None: `manifests` below `data_dir`."""
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
    def seccomp_dir(self) -> Path:
        """Where localhost seccomp profiles are."""
        return self.data_dir / "seccomp"

    @property
    def status_dir(self) -> Path:
        """Where pods' last statuses are kept."""
        return (self.run_dir or self.data_dir) / "pod-status"

    @property
    def pulled_images(self) -> Path:
        """Where it is kept which images came from a registry."""
        return self.data_dir / "pulled-images.json"

    @property
    def manifests_dir(self) -> Path:
        """Where static pods' files are."""
        return self.manifests or self.data_dir / "manifests"

    @property
    def images_dir(self) -> Path:
        """Where image archives are dropped."""
        return self.data_dir / "images"
