"""The scheme: every built-in resource, found by path or by kind. Adding a kind is adding a row."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from edgekube.api.kinds import (
    admissionregistration_v1,
    apiextensions_v1,
    apiregistration_v1,
    apps_v1,
    autoscaling_v1,
    autoscaling_v2,
    batch_v1,
    certificates_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    events_v1,
    flowcontrol_v1,
    metrics_v1beta1,
    networking_v1,
    node_v1,
    policy_v1,
    rbac_v1,
    scheduling_v1,
    storage_v1,
)
from edgekube.api.resource import AnyResource

BUILT_IN: tuple[AnyResource, ...] = (
    *core_v1.RESOURCES,
    *apps_v1.RESOURCES,
    *batch_v1.RESOURCES,
    *autoscaling_v2.RESOURCES,
    *autoscaling_v1.RESOURCES,
    *policy_v1.RESOURCES,
    *networking_v1.RESOURCES,
    *discovery_v1.RESOURCES,
    *events_v1.RESOURCES,
    *coordination_v1.RESOURCES,
    *rbac_v1.RESOURCES,
    *certificates_v1.RESOURCES,
    *storage_v1.RESOURCES,
    *scheduling_v1.RESOURCES,
    *node_v1.RESOURCES,
    *admissionregistration_v1.RESOURCES,
    *apiextensions_v1.RESOURCES,
    *apiregistration_v1.RESOURCES,
    *flowcontrol_v1.RESOURCES,
    *metrics_v1beta1.RESOURCES,
)

VIEWS: Mapping[AnyResource, AnyResource] = {
    events_v1.EVENTS: core_v1.EVENTS,
    autoscaling_v1.HORIZONTAL_POD_AUTOSCALERS: autoscaling_v2.HORIZONTAL_POD_AUTOSCALERS,
}
"""Rows that show what another row stores."""


class Scheme:
    """A lookup over rows; the API server adds custom resources at run time with `replace`."""

    def __init__(self, rows: Iterable[AnyResource] = BUILT_IN) -> None:
        self._by_path: dict[tuple[str, str, str], AnyResource] = {}
        self._by_kind: dict[tuple[str, str, str], AnyResource] = {}
        self.generation = 0
        """Counts changes, for those who keep something made of the rows."""
        self._listeners: list[Callable[[], None]] = []
        for row in rows:
            self.replace(row)

    def __iter__(self) -> Iterator[AnyResource]:
        return iter(tuple(self._by_path.values()))

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def replace(self, row: AnyResource) -> None:
        """Serve `row`, instead of an older row of the same path if there is one."""
        self._by_path[row.group, row.version, row.plural] = row
        self._by_kind[row.group, row.version, row.kind] = row
        self._changed()

    def remove(self, row: AnyResource) -> None:
        """Serve `row` no longer."""
        self._by_path.pop((row.group, row.version, row.plural), None)
        self._by_kind.pop((row.group, row.version, row.kind), None)
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        for listener in self._listeners:
            listener()

    def by_path(self, group: str, version: str, plural: str) -> AnyResource | None:
        """Return the row served at `/apis/<group>/<version>/<plural>`."""
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> AnyResource | None:
        """Return the row of an object's `apiVersion` and `kind`."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))
