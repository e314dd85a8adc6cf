"""
APIServices of the group versions that this server serves itself (kube-aggregator's autoregister).

Built-in ones are made at the start; those of custom resources come and go with their definitions.
What somebody made by hand, or pointed at a Service, stays as it is.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from edgekube.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from edgekube.api.kinds.apiregistration_v1 import API_SERVICES
from edgekube.api.resource import AnyResource
from edgekube.api.scheme import Scheme
from edgekube.apiserver import virtual
from edgekube.apiserver.identity import User
from edgekube.apiserver.registry.deletion import DeleteOptions
from edgekube.apiserver.registry.registry import Action, Registry
from edgekube.apiserver.request import Tree
from edgekube.apiserver.route import Target
from edgekube.store.base import StoreUnavailable

log = logging.getLogger(__name__)

SELF = User("system:apiserver", ("system:masters",))
MANAGED = "kube-aggregator.kubernetes.io/automanaged"
RETRY_SECONDS = 5.0
Priority = tuple[int, int]
"""groupPriorityMinimum and versionPriority."""
PRIORITIES: Mapping[str, Priority] = {
    "v1.": (18000, 1),
    "v1.apps": (17800, 15),
    "v1.events.k8s.io": (17750, 5),
    "v1.authentication.k8s.io": (17700, 15),
    "v1.authorization.k8s.io": (17600, 15),
    "v1.autoscaling": (17500, 15),
    "v2.autoscaling": (17500, 30),
    "v1.batch": (17400, 15),
    "v1.certificates.k8s.io": (17300, 15),
    "v1.networking.k8s.io": (17200, 15),
    "v1.policy": (17100, 15),
    "v1.rbac.authorization.k8s.io": (17000, 15),
    "v1.storage.k8s.io": (16800, 15),
    "v1.apiextensions.k8s.io": (16700, 15),
    "v1.admissionregistration.k8s.io": (16700, 15),
    "v1.scheduling.k8s.io": (16600, 15),
    "v1.coordination.k8s.io": (16500, 15),
    "v1.node.k8s.io": (16300, 15),
    "v1.discovery.k8s.io": (16200, 15),
    "v1.flowcontrol.apiserver.k8s.io": (16100, 21),
    "v1beta1.metrics.k8s.io": (100, 100),
}
BUILT_IN, CUSTOM = (15000, 15), (1000, 100)


def name_of(group: str, version: str) -> str:
    """Return the name of a group version's APIService."""
    return f"{version}.{group}"


def wished(rows: Iterable[AnyResource]) -> dict[str, Tree]:
    """Return the APIServices of everything served, by name."""
    found: dict[str, Tree] = {}
    for row in rows:
        name = name_of(row.group, row.version)
        if name in found:
            continue
        usual = BUILT_IN if row.custom is None else CUSTOM
        group, version = PRIORITIES.get(name, usual)
        spec: Tree = {"version": row.version, "groupPriorityMinimum": group, "versionPriority": version}
        if row.group:
            spec["group"] = row.group
        labels = {MANAGED: "onstart" if row.custom is None else "true"}
        found[name] = {"metadata": {"name": name, "labels": labels}, "spec": spec}
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write."""

    create: Sequence[Tree]
    replace: Sequence[Tree]
    delete: Sequence[str]


def plan(wish: Mapping[str, Tree], stored: Iterable[Tree]) -> Plan:
    """Compare what should be there with what is."""
    there = {tree["metadata"]["name"]: tree for tree in stored}
    ours = {
        name: tree
        for name, tree in there.items()
        if MANAGED in (tree["metadata"].get("labels") or {}) and "service" not in tree["spec"]
    }
    return Plan(
        [tree for name, tree in wish.items() if name not in there],
        [tree for name, tree in wish.items() if name in ours and ours[name]["spec"] != tree["spec"]],
        [name for name in ours if name not in wish],
    )


class LocalServices:
    """Keeps the APIServices of what the scheme has."""

    def __init__(self, scheme: Scheme, registry: Registry) -> None:
        self._scheme, self._registry = scheme, registry
        self._changed = asyncio.Event()

    def look(self) -> None:
        """Look again: an APIService is gone."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the scheme until cancelled."""
        self._scheme.listen(self.look)
        while True:
            self._changed.clear()
            try:
                await self._settle()
            except (StatusError, StoreUnavailable) as error:
                log.warning("APIServices: %s; trying again in %g s", error, RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._changed.wait()

    async def _settle(self) -> None:
        rows = (*self._scheme, *(entry.row for entry in virtual.VIRTUAL))
        found = plan(wished(rows), await self._registry.storage.all(API_SERVICES))
        for tree in found.create:
            with suppress(AlreadyExists):
                await self._registry.create(_action(tree["metadata"]["name"]), tree)
        for tree in found.replace:
            with suppress(Conflict, NotFound):
                await self._registry.update(_action(tree["metadata"]["name"]), tree)
        for name in found.delete:
            with suppress(NotFound):
                await self._registry.delete(_action(name), DeleteOptions())


def _action(name: str) -> Action:
    return Action(target=Target(API_SERVICES, "", name), user=SELF)
