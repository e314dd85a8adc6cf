"""Whose object is it: controller references, adoption and release (ControllerRefManager in Kubernetes)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from edgekube.api.resource import Key, Object, key_of
from edgekube.api.types import meta_v1
from edgekube.control.events import Described
from edgekube.control.selectors import matches
from edgekube.control.writer import Writer

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Claim(Generic[T]):
    """`mine` already, `adopt` these, `release` those."""

    mine: tuple[T, ...]
    adopt: tuple[T, ...]
    release: tuple[T, ...]


def controller_of(obj: Object) -> meta_v1.OwnerReference | None:
    """Return the reference to the one controller of `obj`."""
    for reference in obj.metadata.owner_references:
        if reference.controller:
            return reference
    return None


def owner_or_namespace(obj: Object) -> Iterable[str]:
    """Index objects by controller uid, those without one by namespace (which is never a uid)."""
    reference = controller_of(obj)
    return [reference.uid if reference else obj.metadata.namespace]


def owner_keys(obj: Object, kind: str) -> Iterable[Key]:
    """Return the key of the controller of `obj` if it is of that kind."""
    reference = controller_of(obj)
    return [Key(obj.metadata.namespace, reference.name)] if reference and reference.kind == kind else []


def owned_by(owner: Described) -> meta_v1.OwnerReference:
    """Return the reference that says `owner` controls an object."""
    return meta_v1.OwnerReference(
        api_version=owner.api_version, kind=owner.kind, name=owner.metadata.name, uid=owner.metadata.uid,
        controller=True, block_owner_deletion=True,
    )  # fmt: skip


def claim(owner: Object, selector: meta_v1.LabelSelector, candidates: Iterable[T]) -> Claim[T]:
    """Sort `candidates` by what `owner` should do with them; others' objects are left out."""
    mine: list[T] = []
    adopt: list[T] = []
    release: list[T] = []
    going = bool(owner.metadata.deletion_timestamp)
    for obj in candidates:
        reference = controller_of(obj)
        fits = matches(selector, obj.metadata.labels)
        if reference is not None and reference.uid == owner.metadata.uid:
            if fits or going:
                mine.append(obj)
            elif not obj.metadata.deletion_timestamp:
                release.append(obj)
        elif reference is None and fits and not going and not obj.metadata.deletion_timestamp:
            adopt.append(obj)
    return Claim(tuple(mine), tuple(adopt), tuple(release))


class Owners(Protocol):
    """Where an owner's present form is asked for, past every cache."""

    async def live(self, key: Key) -> Object | None:
        """Return it, None when it is gone."""
        ...


async def take(
    owner: Described,
    selector: meta_v1.LabelSelector,
    candidates: Iterable[T],
    *,
    owners: Owners,
    objects: Writer[T],
) -> Sequence[T]:
    """Adopt and release; return what `owner` controls afterwards."""
    claimed = claim(owner, selector, candidates)
    for obj in claimed.release:
        await objects.patch(key_of(obj), release_patch(obj, owner))
    if not claimed.adopt:
        return claimed.mine
    # The cache may be behind: an owner that is being deleted must not take new dependents.
    live = await owners.live(key_of(owner))
    if live is None or live.metadata.uid != owner.metadata.uid or live.metadata.deletion_timestamp:
        return claimed.mine
    adopted = [await objects.patch(key_of(obj), adoption_patch(obj, owner)) for obj in claimed.adopt]
    return (*claimed.mine, *adopted)


def references_patch(obj: Object, references: Iterable[meta_v1.OwnerReference]) -> dict[str, Any]:
    """Return a merge patch that sets the owners of exactly this version of `obj`."""
    return {
        "metadata": {
            "uid": obj.metadata.uid,
            "resourceVersion": obj.metadata.resource_version,
            "ownerReferences": [msgspec.to_builtins(reference) for reference in references],
        }
    }


def adoption_patch(obj: Object, owner: Described) -> dict[str, Any]:
    """Return the patch that makes `owner` the controller of `obj`."""
    return references_patch(obj, (*obj.metadata.owner_references, owned_by(owner)))


def release_patch(obj: Object, owner: Object) -> dict[str, Any]:
    """Return the patch that makes `owner` no longer an owner of `obj`."""
    return references_patch(obj, (r for r in obj.metadata.owner_references if r.uid != owner.metadata.uid))
