"""The errors of the registry, worded as Kubernetes words them (apimachinery api/errors)."""

from collections.abc import Sequence

from edgekube.api.errors import AlreadyExists, BadRequest, Cause, Conflict, Invalid, NotFound
from edgekube.api.resource import AnyResource

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def not_found(row: AnyResource, name: str) -> NotFound:
    """No such object."""
    return NotFound(f'{row.group_resource} "{name}" not found', group=row.group, kind=row.plural, name=name)


def already_exists(row: AnyResource, name: str) -> AlreadyExists:
    """The name is taken."""
    return AlreadyExists(
        f'{row.group_resource} "{name}" already exists', group=row.group, kind=row.plural, name=name
    )


def conflict(row: AnyResource, name: str, why: str = MODIFIED) -> Conflict:
    """Somebody else was faster, or a precondition does not hold."""
    return Conflict(
        f'Operation cannot be fulfilled on {row.group_resource} "{name}": {why}',
        group=row.group, kind=row.plural, name=name,
    )  # fmt: skip


def precondition(row: AnyResource, name: str, wanted: str, found: str) -> Conflict:
    """The object is another one of the same name."""
    why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    return conflict(row, name, why)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> Invalid:
    """The object breaks rules."""
    unique = tuple(dict.fromkeys(causes))
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in unique]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    subject = f"{kind}.{group}" if group else kind
    return Invalid(
        f'{subject} "{name}" is invalid: {listed}', group=group, kind=kind, name=name, causes=unique
    )


def wrong_namespace() -> BadRequest:
    """Body and URL disagree about the namespace."""
    return BadRequest("the namespace of the provided object does not match the namespace sent on the request")


def wrong_name(sent: str, wanted: str) -> BadRequest:
    """Body and URL disagree about the name."""
    return BadRequest(f"the name of the object ({sent}) does not match the name on the URL ({wanted})")
