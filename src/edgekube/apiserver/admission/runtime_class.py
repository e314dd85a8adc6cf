"""RuntimeClass: what a Pod's class costs and where it runs goes into the Pod (KEP-688, KEP-894)."""

from collections.abc import Sequence

from edgekube.api import quantity
from edgekube.api.kinds.node_v1 import RUNTIME_CLASSES
from edgekube.api.resource import Key
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.request import Tree


class RuntimeClass:
    """Set overhead, and merge node selector and tolerations."""

    verbs, resources = frozenset({"create"}), frozenset({"pods"})

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def admit(self, attributes: Attributes) -> None:
        """Raise Forbidden for an unknown class, or for a Pod that contradicts it."""
        spec = attributes.obj["spec"]
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                raise attributes.forbid(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                )
            return
        found = await self._objects.find(RUNTIME_CLASSES, Key("", name))
        if found is None:
            raise attributes.forbid(f'pod rejected: RuntimeClass "{name}" not found')
        self._overhead(attributes, spec, found)
        _schedule(attributes, spec, found.get("scheduling") or {})

    @staticmethod
    def _overhead(attributes: Attributes, spec: Tree, found: Tree) -> None:
        fixed = (found.get("overhead") or {}).get("podFixed") or {}
        if spec.get("overhead") and not _same(spec["overhead"], fixed):
            raise attributes.forbid(
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                if fixed
                else "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            )
        if fixed:
            spec["overhead"] = dict(fixed)


def _same(one: Tree, other: Tree) -> bool:
    return {name: quantity.parse(value) for name, value in one.items()} == {
        name: quantity.parse(value) for name, value in other.items()
    }


def _schedule(attributes: Attributes, spec: Tree, scheduling: Tree) -> None:
    wanted, own = scheduling.get("nodeSelector") or {}, spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if own.get(key, value) != value:
            raise attributes.forbid(
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own[key]}"
            )
    if wanted:
        spec["nodeSelector"] = {**own, **wanted}
    if tolerations := scheduling.get("tolerations"):
        spec["tolerations"] = merged(spec.get("tolerations") or (), tolerations)


def merged(own: Sequence[Tree], more: Sequence[Tree]) -> list[Tree]:
    """Return all tolerations, each once."""
    found = list(own)
    found += [toleration for toleration in more if toleration not in found]
    return found
