"""Where a pod's things are on the node's disk."""

from dataclasses import dataclass
from pathlib import Path

from edgekube.api.types import core_v1


@dataclass(frozen=True, slots=True)
class PodFolder:
    """`<data>/pods/<namespace>_<name>_<uid>`; container names hold no dots, so dotted ones are ours."""

    root: Path

    @classmethod
    def of(cls, pods_dir: Path, pod: core_v1.Pod) -> "PodFolder":
        """Return a pod's folder (which need not be there)."""
        meta = pod.metadata
        return cls(pods_dir / f"{meta.namespace}_{meta.name}_{meta.uid}")

    @property
    def uid(self) -> str:
        """The pod's uid, from the name."""
        return self.root.name.rpartition("_")[2]

    def log(self, container: str, attempt: int) -> Path:
        """The log of one attempt."""
        return self.root / container / f"{attempt}.log"

    def volume(self, name: str) -> Path:
        """A volume's folder."""
        return self.root / ".volumes" / name

    @property
    def volumes(self) -> Path:
        """Where volumes are."""
        return self.root / ".volumes"

    def etc(self, name: str) -> Path:
        """A file every container gets: hosts, hostname, resolv.conf."""
        return self.root / ".etc" / name

    @property
    def grant(self) -> Path:
        """What the pod's containers were granted last by a resize."""
        return self.root / ".granted"

    def termination(self, container: str, attempt: int) -> Path:
        """The termination message of one attempt."""
        return self.root / ".termination" / f"{container}.{attempt}"
