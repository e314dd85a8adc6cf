"""
Several schedulers in one, read from a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1).

Of each profile: `schedulerName`, and per extension point (`filter`, `score`, `multiPoint`) which
plug-ins are disabled (`*`: all) and which are enabled, scores with their weight.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from edgekube.lib.errors import EdgekubeError
from edgekube.scheduler.plugins import FilterRow, Plugins, ScoreRow

KIND = "KubeSchedulerConfiguration"
NAME = "default-scheduler"


class BadProfile(EdgekubeError):
    """The configuration is not understood; the message names the field."""


class _Row(Protocol):
    @property
    def name(self) -> str:
        """The plug-in's name."""
        ...


R = TypeVar("R", bound=_Row)


def profiles(configuration: Mapping[str, Any], available: Plugins) -> Mapping[str, Plugins]:
    """Return the plug-ins by scheduler name; raises BadProfile."""
    if configuration.get("kind") != KIND:
        raise BadProfile(f"kind: must be {KIND}")
    found: dict[str, Plugins] = {}
    for number, profile in enumerate(configuration.get("profiles") or [{}]):
        where = f"profiles[{number}]"
        name = profile.get("schedulerName") or NAME
        if name in found:
            raise BadProfile(f"{where}.schedulerName: Duplicate value: {name}")
        plugins = profile.get("plugins") or {}
        both = plugins.get("multiPoint") or {}
        _check(plugins, available, where)
        filters = _chosen(available.filters, (both, plugins.get("filter") or {}), _same)
        scores = _chosen(available.scores, (both, plugins.get("score") or {}), _weighed)
        found[name] = Plugins(filters, scores)
    return found


def _check(plugins: Mapping[str, Any], available: Plugins, where: str) -> None:
    known = {row.name for row in available.filters} | {row.name for row in available.scores}
    for point in ("multiPoint", "filter", "score"):
        for number, entry in enumerate((plugins.get(point) or {}).get("enabled") or ()):
            if entry.get("name") not in known:
                raise BadProfile(
                    f"{where}.plugins.{point}.enabled[{number}].name: Not found: {entry.get('name')}"
                )


def _chosen(
    rows: Iterable[R], points: Iterable[Mapping[str, Any]], shape: Callable[[R, Mapping[str, Any]], R]
) -> tuple[R, ...]:
    everything = {row.name: row for row in rows}
    chosen = dict(everything)
    for point in points:
        for entry in point.get("disabled") or ():
            if entry["name"] == "*":
                chosen.clear()
            chosen.pop(entry["name"], None)
        for entry in point.get("enabled") or ():
            if entry["name"] in everything:
                chosen[entry["name"]] = shape(everything[entry["name"]], entry)
    return tuple(chosen.values())


def _same(row: FilterRow, _entry: Mapping[str, Any]) -> FilterRow:
    return row


def _weighed(row: ScoreRow, entry: Mapping[str, Any]) -> ScoreRow:
    return replace(row, weight=entry["weight"]) if entry.get("weight") else row
