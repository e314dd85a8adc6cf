"""The scheme: every built-in resource, found by path or by kind. Adding a kind is adding a row."""

from collections.abc import Iterable, Iterator

from edgekube.api.kinds import apps_v1, coordination_v1, core_v1, discovery_v1, metrics_v1beta1, rbac_v1
from edgekube.api.resource import AnyResource

BUILT_IN: tuple[AnyResource, ...] = (
    *core_v1.RESOURCES,
    *apps_v1.RESOURCES,
    *discovery_v1.RESOURCES,
    *coordination_v1.RESOURCES,
    *metrics_v1beta1.RESOURCES,
    *rbac_v1.RESOURCES,
)


class Scheme:
    """A lookup over rows; the API server adds custom resources at run time with `replace`."""

    def __init__(self, rows: Iterable[AnyResource] = BUILT_IN) -> None:
        self._by_path: dict[tuple[str, str, str], AnyResource] = {}
        self._by_kind: dict[tuple[str, str, str], AnyResource] = {}
        for row in rows:
            self.replace(row)

    def __iter__(self) -> Iterator[AnyResource]:
        return iter(tuple(self._by_path.values()))

    def replace(self, row: AnyResource) -> None:
        """Serve `row`, instead of an older row of the same path if there is one."""
        self._by_path[row.group, row.version, row.plural] = row
        self._by_kind[row.group, row.version, row.kind] = row

    def remove(self, row: AnyResource) -> None:
        """Serve `row` no longer."""
        self._by_path.pop((row.group, row.version, row.plural), None)
        self._by_kind.pop((row.group, row.version, row.kind), None)

    def by_path(self, group: str, version: str, plural: str) -> AnyResource | None:
        """Return the row served at `/apis/<group>/<version>/<plural>`."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> AnyResource | None:
        """Return the row of an object's `apiVersion` and `kind`."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))
