"""
The cgroups of pods and of QoS classes: who gets how much of a busy CPU, and has how much memory in all.

(pkg/kubelet/cm: ResourceConfigForPod, qos_container_manager.)

`<root>/pod<uid>` for Guaranteed pods, `<root>/burstable/pod<uid>`, `<root>/besteffort/pod<uid>`.
"""

import logging
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from edgekube.api import quantity
from edgekube.api.podresources import of_pod
from edgekube.api.types import core_v1
from edgekube.node.config import KubeletConfig
from edgekube.node.pod.limits import MIN_QUOTA, MIN_SHARES, PERIOD, SHARES_PER_CPU
from edgekube.node.pod.spec import all_containers, qos_class

log = logging.getLogger(__name__)
MAX_SHARES = 262_144
MONITOR = 4 << 20
"""Bytes that the runtime's monitor of a container may take."""
V2 = "cgroup.controllers"


@dataclass(frozen=True, slots=True)
class Share:
    """A cgroup's values: CPU shares, µs of CPU in each 100 ms, bytes; None is without limit."""

    shares: int
    quota: int | None = None
    memory: int | None = None

    def or_more(self, other: "Share") -> "Share":
        """Return what is enough for both."""
        return Share(
            max(self.shares, other.shares), _wider(self.quota, other.quota), _wider(self.memory, other.memory)
        )


def share_of(pod: core_v1.Pod) -> Share:
    """
    Return what a pod's cgroup gets: limits only where the pod itself has some (KEP-2837).

    The sum of its containers' limits is none: the runtime's monitors live in this cgroup too, and would
    take of what is the containers'.
    """
    requests = of_pod(msgspec.to_builtins(pod.spec), "requests")
    limits = pod.spec.resources.limits if pod.spec.resources is not None else {}
    quota = max(quantity.milli(limits["cpu"]) * PERIOD // 1000, MIN_QUOTA) if "cpu" in limits else None
    monitors = MONITOR * sum(1 for _ in all_containers(pod))
    memory = quantity.value(limits["memory"]) + monitors if "memory" in limits else None
    return Share(_shares(int(requests.get("cpu", Decimal(0)) * 1000)), quota, memory)


def _shares(milli: int) -> int:
    return min(max(milli * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES)


def _wider(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


class PodCgroups:
    """Writes those cgroups; a value that is there already is not written again."""

    def __init__(self, config: KubeletConfig) -> None:
        self._root, self._mount = config.cgroup_root, config.cgroup_mount
        self._written: dict[str, Share] = {}
        self._burstable: dict[str, int] = {}

    def fit(self, pod: core_v1.Pod, path: str, share: Share) -> None:
        """Let the pod's cgroup `path` say `share`; it is made when it is not there."""
        if not path:
            return
        quality = qos_class(pod)
        self._set(path, share)
        if quality == "Burstable":
            self._burstable[pod.metadata.uid] = share.shares
            self._set(f"{self._root}/burstable", Share(min(sum(self._burstable.values()), MAX_SHARES)))
        elif quality == "BestEffort":
            self._set(f"{self._root}/besteffort", Share(MIN_SHARES))

    def drop(self, uid: str, path: str) -> None:
        """Forget a pod that is gone."""
        self._written.pop(path, None)
        if self._burstable.pop(uid, None) is not None:
            rest = max(sum(self._burstable.values()), MIN_SHARES)
            self._set(f"{self._root}/burstable", Share(min(rest, MAX_SHARES)))

    def _set(self, path: str, share: Share) -> None:
        if self._written.get(path) == share:
            return
        relative = path.strip("/")
        try:
            if (self._mount / V2).exists():
                _write_v2(self._mount, relative, share)
            else:
                _write_v1(self._mount, relative, share)
        except OSError as error:
            log.warning("cgroup %s: %s", path, error)
        self._written[path] = share


def _write_v1(mount: Path, relative: str, share: Share) -> None:
    values = {
        "cpu": {
            "cpu.shares": str(share.shares),
            "cpu.cfs_period_us": str(PERIOD),
            "cpu.cfs_quota_us": str(-1 if share.quota is None else share.quota),
        },
        "memory": {"memory.limit_in_bytes": str(-1 if share.memory is None else share.memory)},
    }
    for controller, files in values.items():
        if not (mount / controller).is_dir():
            continue
        folder = mount / controller / relative
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            _write(folder / name, value)


def _write_v2(mount: Path, relative: str, share: Share) -> None:
    folder = mount / relative
    folder.mkdir(parents=True, exist_ok=True)
    above = [parent for parent in reversed(folder.parents) if parent.is_relative_to(mount)]
    for parent in above:
        for controller in ("cpu", "memory", "pids"):
            _write(parent / "cgroup.subtree_control", f"+{controller}")
    _write(folder / "cpu.weight", str(weight(share.shares)))
    _write(folder / "cpu.max", f"{'max' if share.quota is None else share.quota} {PERIOD}")
    _write(folder / "memory.max", "max" if share.memory is None else str(share.memory))


def weight(shares: int) -> int:
    """Return the weight of cgroup v2 (1 … 10000) for shares of v1 (2 … 262144), as the kubelet does."""
    return 1 + (shares - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES)


def _write(path: Path, value: str) -> None:
    """Write what the kernel has; a controller that is not there, or that is in use, must not stop a pod."""
    try:
        with path.open("w") as file:
            file.write(value)
    except OSError as error:
        log.debug("%s: %s", path, error)
