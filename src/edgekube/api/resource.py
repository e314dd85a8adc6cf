"""What the API serves: the descriptor every layer uses to name a resource."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from edgekube.api.types import meta_v1

if TYPE_CHECKING:
    from edgekube.api.custom import CustomKind

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Object(Protocol):
    """Any typed kind: a generated Struct with metadata."""

    @property
    def metadata(self) -> meta_v1.ObjectMeta:
        """The object's metadata."""
        ...


class Key(NamedTuple):
    """The name of an object within its resource; `namespace` is "" for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Object) -> Key:
    """Return the key of a typed object."""
    return Key(obj.metadata.namespace, obj.metadata.name)


class Durability(Enum):
    """How far a write is on flash before it is acknowledged (chosen per resource, and per subresource)."""

    DURABLE = "durable"
    """Synced: survives a power cut."""
    SOFT = "soft"
    """Survives a killed process; flushed within seconds."""
    VOLATILE = "volatile"
    """Memory only."""


class Scope(Enum):
    """Whether objects live in a namespace."""

    NAMESPACED = "Namespaced"
    CLUSTER = "Cluster"


ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """One row of the scheme: where a kind is served and how its objects look in Python."""

    group: str
    version: str
    kind: str
    plural: str
    type: type[T]
    """A generated Struct; `dict` for resources known only at run time (custom resources)."""
    scope: Scope = field(default=Scope.NAMESPACED, kw_only=True)
    singular: str = field(default="", kw_only=True)
    short_names: tuple[str, ...] = field(default=(), kw_only=True)
    categories: tuple[str, ...] = field(default=(), kw_only=True)
    verbs: tuple[str, ...] = field(default=ALL_VERBS, kw_only=True)
    subresources: tuple[str, ...] = field(default=(), kw_only=True)
    durability: Durability = field(default=Durability.DURABLE, kw_only=True)
    custom: "CustomKind | None" = field(default=None, kw_only=True, compare=False, repr=False)
    """What a custom resource is normalised, defaulted, checked and shown by."""

    @property
    def api_version(self) -> str:
        """`v1`, `apps/v1`, …."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: how errors and `kubectl get -o name` name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def namespaced(self) -> bool:
        """Whether objects live in a namespace."""
        return self.scope is Scope.NAMESPACED

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, or of one object, or of its subresource."""
        parts = ["/api" if not self.group else f"/apis/{self.group}", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [self.plural, name, subresource]
        return "/".join(part for part in parts if part)


AnyResource = Resource[Any]
