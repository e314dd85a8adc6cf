"""
Deleting, as a pure decision (rest.BeforeDelete and the generic store's finalizer rules in Kubernetes).

An object goes at once, or is marked with deletionTimestamp and goes when its grace period is
over (pods: their kubelet says so with a grace of 0) and its last finalizer is removed.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edgekube.api.errors import BadRequest, Cause, Invalid
from edgekube.api.resource import AnyResource
from edgekube.apiserver.registry import meta
from edgekube.apiserver.request import Tree

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
POLICIES = ("Background", "Foreground", "Orphan")
DEFAULT_GRACE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """meta/v1 DeleteOptions, from body or query."""

    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`remove` now, or store `marked` (None: nothing changes)."""

    remove: bool
    marked: Tree | None = None


def options_from(tree: Mapping[str, Any], query: Mapping[str, str]) -> DeleteOptions:
    """Read options; the body goes before the query. Raises BadRequest or Invalid."""
    grace = tree.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    try:
        seconds = None if grace is None else max(int(grace), 0)
    except ValueError as error:
        raise BadRequest(f"gracePeriodSeconds: {grace!r} is not a number") from error
    propagation = tree.get("propagationPolicy") or query.get("propagationPolicy", "")
    if propagation and propagation not in POLICIES:
        message = (
            f'Unsupported value: "{propagation}": supported values: "Background", "Foreground", "Orphan"'
        )
        raise Invalid(
            f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: {message}',
            group="meta.k8s.io", kind="DeleteOptions",
            causes=[Cause("FieldValueNotSupported", message, "propagationPolicy")],
        )  # fmt: skip
    orphan = tree.get("orphanDependents", query.get("orphanDependents"))
    if orphan is not None and not propagation:
        propagation = "Orphan" if str(orphan).lower() == "true" else "Background"
    preconditions = tree.get("preconditions") or {}
    return DeleteOptions(
        grace=seconds,
        propagation=propagation,
        uid=preconditions.get("uid", ""),
        resource_version=preconditions.get("resourceVersion", ""),
        dry_run=bool(tree.get("dryRun") or query.get("dryRun")),
    )


def plan(row: AnyResource, obj: Tree, options: DeleteOptions, now: datetime) -> Verdict:
    """Decide what deleting `obj` means now."""
    grace = GRACE.get(row.group_resource, _no_grace)(obj, options)
    finalizers = _finalizers(obj["metadata"].get("finalizers") or [], options.propagation)
    held = bool(finalizers or PENDING.get(row.group_resource, _nothing)(obj))
    if not grace and not held:
        return Verdict(remove=True)
    marked = copy.deepcopy(obj)
    _set(marked["metadata"], "finalizers", finalizers)
    _mark(marked, grace, now, given=options.grace is not None)
    for hook in MARKS.get(row.group_resource, ()):
        hook(marked)
    return Verdict(remove=False, marked=None if marked == obj else marked)


def finished(row: AnyResource, obj: Tree) -> bool:
    """Whether an update leaves nothing that keeps a deleted object."""
    fields = obj["metadata"]
    return (
        "deletionTimestamp" in fields
        and not fields.get("deletionGracePeriodSeconds")
        and not fields.get("finalizers")
        and not PENDING.get(row.group_resource, _nothing)(obj)
    )


def _mark(obj: Tree, grace: int, now: datetime, *, given: bool) -> None:
    fields = obj["metadata"]
    if "deletionTimestamp" in fields:
        before = fields.get("deletionGracePeriodSeconds", 0)
        if not given or grace >= before:
            return
        started = meta.parse(fields["deletionTimestamp"]) - timedelta(seconds=before)
        fields["deletionTimestamp"] = meta.timestamp(max(started + timedelta(seconds=grace), now))
    else:
        fields["deletionTimestamp"] = meta.timestamp(now + timedelta(seconds=grace))
        if fields.get("generation"):
            fields["generation"] += 1
    fields["deletionGracePeriodSeconds"] = grace


def _finalizers(present: list[str], propagation: str) -> list[str]:
    if not propagation:
        return present
    others = [name for name in present if name not in {ORPHAN, FOREGROUND}]
    wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(propagation)
    return [*others, wanted] if wanted else others


def _set(fields: Tree, name: str, value: object) -> None:
    if value:
        fields[name] = value
    else:
        fields.pop(name, None)


def _pod_grace(pod: Tree, options: DeleteOptions) -> int:
    """A pod that no kubelet runs needs no grace (pod strategy CheckGracefulDelete)."""
    spec, fields = pod["spec"], pod["metadata"]
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}:
        return 0
    asked = (
        spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE) if options.grace is None else options.grace
    )
    if "deletionTimestamp" in fields:
        before = int(fields.get("deletionGracePeriodSeconds", 0))
        return before if options.grace is None else min(before, asked)
    return int(asked)


def _no_grace(_obj: Tree, _options: DeleteOptions) -> int:
    return 0


def _nothing(_obj: Tree) -> object:
    return None


def _terminating(namespace: Tree) -> None:
    namespace.setdefault("status", {})["phase"] = "Terminating"


GRACE = {"pods": _pod_grace}
PENDING = {"namespaces": lambda namespace: (namespace.get("spec") or {}).get("finalizers")}
"""What else keeps an object: a Namespace's own finalizers."""
MARKS = {"namespaces": (_terminating,)}
