"""What every check of the Pod Security Standards needs: whose containers, and how to say it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = Mapping[str, Any]
FIELDS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, in a few words, and where."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What a check looks at."""

    metadata: Tree
    spec: Tree
    minor: int
    """The version of the standards: 31 is v1.31."""

    @property
    def security(self) -> Tree:
        """The pod's own securityContext."""
        return self.spec.get("securityContext") or {}

    @property
    def windows(self) -> bool:
        """Whether it can only run on Windows."""
        return (self.spec.get("os") or {}).get("name") == "windows"

    def containers(self) -> Iterator[tuple[Tree, Tree]]:
        """Yield every container with its securityContext."""
        for field in FIELDS:
            for container in self.spec.get(field) or ():
                yield container, container.get("securityContext") or {}

    def named(self, test: Callable[[Tree], bool]) -> list[str]:
        """Return the names of containers whose securityContext passes a test."""
        return [container["name"] for container, security in self.containers() if test(security)]


Check = Callable[[Pod], Violation | None]


def quoted(names: Iterable[str]) -> str:
    """Return `"a", "b"`."""
    return ", ".join(f'"{name}"' for name in names)


def many(word: str, names: Sequence[object]) -> str:
    """Return a word as there are many of it."""
    return word if len(names) == 1 else f"{word}s"


def containers(names: Sequence[str]) -> str:
    """Return `container "a"` or `containers "a", "b"`."""
    return f"{many('container', names)} {quoted(names)}"


def setters(pod: bool, names: Sequence[str]) -> str:  # noqa: FBT001 - reads as a sentence
    """Return who set something: the pod, containers, or both."""
    return " and ".join((*(("pod",) if pod else ()), *((containers(names),) if names else ())))
