"""Who owns whom: the ownership graph and the pure decisions over it (pkg/controller/garbagecollector in Kubernetes)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from edgekube.api.resource import AnyResource, Key
from edgekube.api.types import meta_v1

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Owner(Enum):
    """What is known of one owner."""

    SOLID = "there"
    WAITING = "being deleted in the foreground, waits for its dependents"
    GONE = "not there, or another object has its name"


@dataclass(frozen=True, slots=True)
class Item:
    """One object, as far as ownership goes."""

    row: AnyResource
    key: Key
    meta: meta_v1.ObjectMeta

    @property
    def uid(self) -> str:
        """The object's uid."""
        return self.meta.uid

    @property
    def owners(self) -> frozenset[str]:
        """Uids of its owners."""
        return frozenset(reference.uid for reference in self.meta.owner_references)

    @property
    def deleting(self) -> bool:
        """Whether it is marked for deletion."""
        return bool(self.meta.deletion_timestamp)

    @property
    def foreground(self) -> bool:
        """Whether it waits for its dependents."""
        return self.deleting and FOREGROUND in self.meta.finalizers

    @property
    def orphaning(self) -> bool:
        """Whether its dependents are to be let go."""
        return self.deleting and ORPHAN in self.meta.finalizers

    def blocks(self, owner: str) -> bool:
        """Whether it holds up the foreground deletion of `owner`."""
        return any(r.uid == owner and r.block_owner_deletion for r in self.meta.owner_references)


@dataclass(frozen=True, slots=True)
class Decision:
    """Delete with `propagation` ("": do not), or keep and `drop` references to these owners."""

    propagation: str = ""
    drop: frozenset[str] = frozenset()


def decide(item: Item, owners: Mapping[str, Owner], *, has_dependents: bool) -> Decision:
    """Decide about an object that has owners; it is deleted only when none of them is solid."""
    states = {uid: owners[uid] for uid in item.owners}
    solid = [uid for uid, state in states.items() if state is Owner.SOLID]
    if item.deleting or not states:
        return Decision()
    if solid:
        return Decision(drop=frozenset(states) - frozenset(solid))
    if Owner.WAITING in states.values() and has_dependents:
        return Decision("Foreground")
    if ORPHAN in item.meta.finalizers:
        return Decision("Orphan")
    return Decision("Foreground" if FOREGROUND in item.meta.finalizers else "Background")


class Graph:
    """All objects by uid, and their dependents, those of unknown owners included."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)

    def get(self, uid: str) -> Item | None:
        """Return one object."""
        return self._items.get(uid)

    def dependents(self, uid: str) -> Iterable[Item]:
        """Return the objects that name `uid` as owner."""
        return [self._items[found] for found in self._dependents.get(uid, ())]

    def blocking(self, uid: str) -> Iterable[Item]:
        """Return the dependents that hold up foreground deletion of `uid`."""
        return [item for item in self.dependents(uid) if item.blocks(uid)]

    def set(self, item: Item) -> None:
        """Add or update an object."""
        self._unlink(item.uid)
        self._items[item.uid] = item
        for owner in item.owners:
            self._dependents[owner].add(item.uid)

    def drop(self, uid: str) -> None:
        """Remove an object."""
        self._unlink(uid)
        self._items.pop(uid, None)

    def _unlink(self, uid: str) -> None:
        known = self._items.get(uid)
        for owner in known.owners if known else ():
            self._dependents[owner].discard(uid)
            if not self._dependents[owner]:
                del self._dependents[owner]
