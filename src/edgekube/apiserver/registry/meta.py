"""Metadata that the server itself sets (API conventions, "Metadata")."""

import secrets
from datetime import UTC, datetime

from edgekube.apiserver.request import Tree

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Characters of generated names: no vowels, so no words (apimachinery util/rand)."""
SUFFIX = 5
MAX_BASE = 63 - SUFFIX


def generated_name(base: str) -> str:
    """Return `base` with a random suffix, at most 63 characters long."""
    # One call for all letters: each lets go of the interpreter, which another thread may then take.
    number, letters = secrets.randbits(64), []
    for _ in range(SUFFIX):
        number, letter = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[letter])
    return base[:MAX_BASE] + "".join(letters)


def timestamp(now: datetime) -> str:
    """Return `now` (UTC) as a Kubernetes Time."""
    return now.isoformat(timespec="seconds")[:19] + "Z"


def parse(time: str) -> datetime:
    """Read a Kubernetes Time or MicroTime."""
    return datetime.fromisoformat(time)


def utcnow() -> datetime:
    """Return the time; the one place of this package's registry that asks the clock."""
    return datetime.now(UTC)


def stamp_new(obj: Tree, namespace: str, *, uid: str, now: datetime) -> None:
    """Set what every new object gets; drop what only the server may set."""
    meta = obj["metadata"]
    for field in (
        "selfLink",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ):
        meta.pop(field, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generated_name(meta["generateName"])
    if namespace:
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    meta["uid"] = uid
    meta["creationTimestamp"] = timestamp(now)


KEPT = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
)
"""What an update may leave out or get wrong: the stored value stays."""


def stamp_update(new: Tree, old: Tree) -> None:
    """Carry over what an update may not change."""
    meta, before = new["metadata"], old["metadata"]
    meta.pop("selfLink", None)
    for field in KEPT:
        if field in before:
            meta[field] = before[field]
        else:
            meta.pop(field, None)
    if "managedFields" not in meta and "managedFields" in before:
        meta["managedFields"] = before["managedFields"]
