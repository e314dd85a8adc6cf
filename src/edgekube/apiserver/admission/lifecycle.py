"""NamespaceLifecycle: no new objects in namespaces that are missing or on their way out."""

from edgekube.api.errors import Cause, Forbidden, NotFound
from edgekube.api.kinds.core_v1 import NAMESPACES
from edgekube.api.resource import Key
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.registry.strategy import strategy_of

DELETE = frozenset({"delete"})


class NamespaceLifecycle:
    """Refuse creates where they would be lost."""

    verbs = frozenset({"create"})
    resources: frozenset[str] = frozenset()

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def admit(self, attributes: Attributes) -> None:
        """Look the namespace up."""
        target = attributes.target
        if not target.row.namespaced:
            return
        namespace = await self._objects.look(NAMESPACES, Key("", target.namespace))
        if namespace is None:
            raise NotFound(
                f'namespaces "{target.namespace}" not found', kind="namespaces", name=target.namespace
            )
        if "deletionTimestamp" in namespace["metadata"]:
            raise _terminating(attributes)


class ProtectedNames:
    """Refuse to delete what the cluster cannot do without."""

    verbs = DELETE
    resources = frozenset({"namespaces"})

    async def admit(self, attributes: Attributes) -> None:
        """Compare with the strategy's list."""
        if attributes.obj["metadata"]["name"] in strategy_of(attributes.target.row).protected:
            raise attributes.forbid("this namespace may not be deleted")


def _terminating(attributes: Attributes) -> Forbidden:
    namespace = attributes.target.namespace
    error = attributes.forbid(
        f"unable to create new content in namespace {namespace} because it is being terminated"
    )
    cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
    return Forbidden(error.message, group=error.group, kind=error.kind, name=error.name, causes=[cause])
