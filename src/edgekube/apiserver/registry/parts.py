"""Which part of an object an update may change: the object, or what a subresource shows of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekube.api import validation
from edgekube.api.errors import Cause
from edgekube.api.resource import AnyResource, Durability
from edgekube.apiserver.registry.certificates import prepare_approval, prepare_csr_status
from edgekube.apiserver.registry.pods import prepare_ephemeral, prepare_resize
from edgekube.apiserver.registry.strategy import prepare_status, prepare_update, strategy_of
from edgekube.apiserver.request import Tree

Prepare = Callable[[AnyResource, Tree, Tree], None]
Validate = Callable[[AnyResource, Tree, Tree], Sequence[Cause]]


def _row_durability(row: AnyResource) -> Durability:
    return row.durability


def _status_durability(row: AnyResource) -> Durability:
    """Never more durable than the resource itself."""
    return row.durability if row.durability is Durability.VOLATILE else strategy_of(row).status_durability


def _no_causes(_row: AnyResource, _new: Tree, _old: Tree) -> Sequence[Cause]:
    return ()


def _rules_of(subresource: str) -> Validate:
    def validate(row: AnyResource, new: Tree, old: Tree) -> Sequence[Cause]:
        return validation.part(row, new, old, subresource)

    return validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How an update of this part is prepared, checked and kept."""

    prepare: Prepare
    validate: Validate = validation.update
    durability: Callable[[AnyResource], Durability] = _row_durability
    admitted: bool = False
    """Whether admission sees it."""


def only(*path: str) -> Prepare:
    """Return a preparation that keeps of an update one field and the metadata the client may set."""

    def prepare(_row: AnyResource, new: Tree, old: Tree) -> None:
        wished: object = new
        for step in path:
            wished = wished.get(step) if isinstance(wished, dict) else None
        for field in [name for name in new if name not in {"metadata", "kind", "apiVersion"}]:
            del new[field]
        new.update({name: value for name, value in old.items() if name != "metadata"})
        holder = new
        for step in path[:-1]:
            holder[step] = dict(holder.get(step) or {})
            holder = holder[step]
        if wished:
            holder[path[-1]] = wished
        else:
            holder.pop(path[-1], None)

    return prepare


MAIN = Part(prepare=prepare_update, admitted=True)
STATUS = Part(prepare=prepare_status, durability=_status_durability, validate=_rules_of("status"))
CSR_STATUS = Part(prepare=prepare_csr_status, validate=_rules_of("status"), admitted=True)
APPROVAL = Part(prepare=prepare_approval, validate=_rules_of("approval"), admitted=True)
FINALIZE = Part(prepare=only("spec", "finalizers"), validate=_no_causes)
EPHEMERAL_CONTAINERS = Part(
    prepare=prepare_ephemeral, validate=_rules_of("ephemeralcontainers"), admitted=True
)
RESIZE = Part(prepare=prepare_resize, validate=_rules_of("resize"), admitted=True)
BINDING = Part(prepare=lambda _row, _new, _old: None, validate=_no_causes)
"""The server's own change: nothing is held back."""
