"""What to send: the difference between what a node should have and what it has. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgekube.hub.refs import CLAIMS, CONFIG_MAPS, PODS, SECRETS, VOLUMES, Ref
from edgekube.transport.wire import ObjectDelta

MESSAGE = 256 << 10
"""Bytes of objects in one message, unless one object alone is larger."""
ORDER = {CONFIG_MAPS: 0, SECRETS: 1, CLAIMS: 2, VOLUMES: 3, PODS: 9}
"""What pods refer to goes first."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Objects to send, objects to take away."""

    changed: tuple[Ref, ...]
    gone: tuple[Ref, ...]


def difference(wish: Mapping[Ref, str], known: Mapping[Ref, str]) -> Difference:
    """Compare versions by object."""
    changed = [ref for ref, version in wish.items() if known.get(ref) != version]
    changed.sort(key=lambda ref: (ORDER.get(ref.path, 5), ref))
    return Difference(tuple(changed), tuple(ref for ref in known if ref not in wish))


def batches(deltas: Iterable[ObjectDelta]) -> Iterator[tuple[ObjectDelta, ...]]:
    """Cut into messages."""
    batch: list[ObjectDelta] = []
    size = 0
    for delta in deltas:
        if batch and size + len(delta.raw) > MESSAGE:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(delta)
        size += len(delta.raw)
    if batch:
        yield tuple(batch)


def parse(key: str) -> Ref:
    """Return the reference a digest's key stands for."""
    path, namespace, name = key.rsplit("/", 2)
    return Ref(path, namespace, name)
