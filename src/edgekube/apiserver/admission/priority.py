"""Priority: from the class a Pod names, or the default class, to a number and a preemption policy (KEP-268)."""

from edgekube.api.kinds.scheduling_v1 import PRIORITY_CLASSES
from edgekube.api.resource import Key
from edgekube.api.validation.priority_class import SYSTEM_CLASSES
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.registry.storage import Glance, Storage

CREATE = frozenset({"create"})
DEFAULT_POLICY = "PreemptLowerPriority"


class Priority:
    """Resolve priorityClassName into a number."""

    verbs, resources = CREATE, frozenset({"pods"})

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def admit(self, attributes: Attributes) -> None:
        """Raise Forbidden for an unknown class, or for a number that is not the class's."""
        spec = attributes.obj["spec"]
        found = await self._class(spec.get("priorityClassName", ""), attributes)
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
        value = found.get("value", 0) if found is not None else 0
        if spec.get("priority", value) != value:
            raise attributes.forbid(
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority "
                f"admission controller computed {value} from the given PriorityClass name"
            )
        spec["priority"] = value
        policy = (found or {}).get("preemptionPolicy") or DEFAULT_POLICY
        if spec.get("preemptionPolicy", policy) != policy:
            raise attributes.forbid(
                f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name"
            )
        spec["preemptionPolicy"] = policy

    async def _class(self, name: str, attributes: Attributes) -> Glance | None:
        if not name:
            return await self._default()
        if name in SYSTEM_CLASSES:
            return {"metadata": {"name": name}, "value": SYSTEM_CLASSES[name]}
        found = await self._storage.look(PRIORITY_CLASSES, Key("", name))
        if found is None:
            raise attributes.forbid(f"no PriorityClass with name {name} was found")
        return found

    async def _default(self) -> Glance | None:
        """Return the default class; of several the one of least value."""
        found = [
            tree
            for tree in await self._storage.look_within(PRIORITY_CLASSES, "")
            if tree.get("globalDefault")
        ]
        return min(found, key=lambda tree: (tree.get("value", 0), tree["metadata"]["name"]), default=None)


class OneDefaultPriority:
    """Refuse a second default class."""

    verbs, resources = frozenset({"create", "update"}), frozenset({"priorityclasses.scheduling.k8s.io"})

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def validate(self, attributes: Attributes) -> None:
        """Raise Forbidden when there is one already."""
        if not attributes.obj.get("globalDefault"):
            return
        for tree in await self._objects.within(PRIORITY_CLASSES, ""):
            name = tree["metadata"]["name"]
            if tree.get("globalDefault") and name != attributes.obj["metadata"].get("name"):
                raise attributes.forbid(
                    f"PriorityClass {name} is already marked as default. Only one default can exist"
                )
