"""What the status of a CustomResourceDefinition says (apiextensions controllers naming and establish). Pure."""

from collections.abc import Iterable

from edgekube.api.resource import AnyResource
from edgekube.apiserver.custom.rows import storage_version
from edgekube.apiserver.registry.strategy import CLEANUP
from edgekube.apiserver.request import Tree

ACCEPTED, ESTABLISHED, TERMINATING = "NamesAccepted", "Established", "Terminating"
FINALIZER = CLEANUP


def judged(definition: Tree, others: Iterable[AnyResource], now: str) -> Tree:
    """Return the status: names that nobody else in the group has are accepted; then it is established."""
    spec, status = definition["spec"], definition.get("status") or {}
    wished, group = spec["names"], spec["group"]
    rows = [row for row in others if row.group == group and row.plural != wished["plural"]]
    taken = _taken(wished, rows)
    accepted = dict(status.get("acceptedNames") or {})
    if taken is None:
        accepted = dict(wished)
        verdict = ("True", "NoConflicts", "no conflicts found")
    else:
        verdict = ("False", taken[0], f"{taken[1]} is already in use")
    conditions = list(status.get("conditions") or ())
    _say(conditions, ACCEPTED, verdict, now)
    before = next((c for c in conditions if c["type"] == ESTABLISHED), None)
    if taken is None:
        _say(
            conditions,
            ESTABLISHED,
            ("True", "InitialNamesAccepted", "the initial names have been accepted"),
            now,
        )
    elif before is None:
        _say(conditions, ESTABLISHED, ("False", "NotAccepted", "not all names are accepted"), now)
    stored = list(status.get("storedVersions") or ())
    current = storage_version(definition)
    if current not in stored:
        stored.append(current)
    return {"conditions": conditions, "acceptedNames": accepted, "storedVersions": stored}


def established(definition: Tree) -> bool:
    """Tell whether its resources are served."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == ESTABLISHED and c["status"] == "True" for c in conditions)


def terminating(status: Tree, reason: str, message: str, now: str, *, done: bool = False) -> Tree:
    """Return the status while its objects are deleted, or after."""
    conditions = list(status.get("conditions") or ())
    _say(conditions, TERMINATING, ("False" if done else "True", reason, message), now)
    return {**status, "conditions": conditions}


def _taken(wished: Tree, rows: Iterable[AnyResource]) -> tuple[str, str] | None:
    """Return which wish conflicts, and with what."""
    rows = tuple(rows)
    plurals = {
        name for row in rows for name in (row.plural, row.singular or row.kind.lower(), *row.short_names)
    }
    kinds = {name for row in rows for name in (row.kind, f"{row.kind}List")}
    for field, reason in (("plural", "PluralConflict"), ("singular", "SingularConflict")):
        if wished.get(field) in plurals:
            return reason, f'"{wished[field]}"'
    for short in wished.get("shortNames") or ():
        if short in plurals:
            return "ShortNamesConflict", f'"{short}"'
    for field, reason in (("kind", "KindConflict"), ("listKind", "ListKindConflict")):
        if wished.get(field) in kinds:
            return reason, f'"{wished[field]}"'
    return None


def _say(conditions: list[Tree], kind: str, verdict: tuple[str, str, str], now: str) -> None:
    status, reason, message = verdict
    for number, old in enumerate(conditions):
        if old["type"] == kind:
            since = old["lastTransitionTime"] if old["status"] == status else now
            conditions[number] = _condition(kind, verdict, since)
            return
    conditions.append(_condition(kind, (status, reason, message), now))


def _condition(kind: str, verdict: tuple[str, str, str], since: str) -> Tree:
    status, reason, message = verdict
    return {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}
