"""What every command that talks to a cluster shares: the access, the client, the names of things."""

import argparse
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgekube.api.resource import AnyResource, Resource, Scope
from edgekube.client import kubeconfig
from edgekube.lib.errors import EdgekubeError

if TYPE_CHECKING:
    from edgekube.client.https import HttpsCarrier

LOCAL = Path("/var/lib/edgekube/server/admin.kubeconfig")
"""The kubeconfig of a cluster on this machine, used when nobody names another."""
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class UsageError(EdgekubeError):
    """The command line makes no sense; `str()` tells what would."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a person named: a resource and, maybe, an object of it."""

    resource: AnyResource
    name: str = ""


def access_of(options: argparse.Namespace) -> kubeconfig.Access:
    """Return the access that --kubeconfig, --context, KUBECONFIG or the local cluster give."""
    paths = kubeconfig.files(options.kubeconfig, os.environ, Path.home())
    if not options.kubeconfig and "KUBECONFIG" not in os.environ and not paths[0].exists() and LOCAL.exists():
        paths = (LOCAL,)
    return kubeconfig.load(paths, context=options.context)


class Session:
    """An open connection and what discovery told about the server."""

    def __init__(self, carrier: "HttpsCarrier", namespace: str) -> None:
        self.carrier = carrier
        self.namespace = namespace
        self._resources: list[AnyResource] = []

    async def get(self, path: str, *, accept: str = "", **query: str) -> Any:
        """GET a path and return its JSON tree."""
        return msgspec.json.decode(await self.carrier.raw("GET", path, query, accept=accept))

    async def resources(self) -> Sequence[AnyResource]:
        """Return everything the server serves, in its order of preference."""
        if not self._resources:
            for root in ("/api", "/apis"):
                tree = await self.get(root, accept=DISCOVERY)
                for group in tree["items"]:
                    self._resources += _rows(group)
        return self._resources

    async def resolve(self, word: str) -> AnyResource:
        """Return the resource a person means by `word`: po, pod, pods, deployments.apps, Deployment …."""
        plain, _, group = word.lower().partition(".")
        for row in await self.resources():
            names = {row.plural, row.singular, row.kind.lower(), *row.short_names}
            if plain in names and (not group or group in {row.group, f"{row.version}.{row.group}"}):
                return row
        raise UsageError(f"the server doesn't have a resource type {word!r}")

    async def kind(self, api_version: str, kind: str) -> AnyResource:
        """Return the resource of a manifest's apiVersion and kind."""
        for row in await self.resources():
            if (row.api_version, row.kind) == (api_version, kind):
                return row
        raise UsageError(f'no matches for kind "{kind}" in version "{api_version}"')

    async def targets(self, words: Sequence[str]) -> list[Target]:
        """Return what `pod/a pod/b`, `pod a b`, `pods,services` or `all` name."""
        if not words:
            raise UsageError("name a resource, e.g. `pods`, `deployment/web` or `all`")
        if any("/" in word for word in words):
            pairs = [word.partition("/") for word in words]
            if not all(kind and name for kind, _, name in pairs):
                raise UsageError("with kind/name, every argument is kind/name")
            return [Target(await self.resolve(kind), name) for kind, _, name in pairs]
        rows: list[AnyResource] = []
        for word in words[0].split(","):
            members = [row for row in await self.resources() if word in row.categories]
            rows += members or [await self.resolve(word)]
        return [Target(row, name) for row in rows for name in words[1:] or [""]]

    def path(self, target: Target, subresource: str = "", *, everywhere: bool = False) -> str:
        """Return the URL path of a target in the session's namespace (or in all)."""
        return target.resource.path("" if everywhere else self.namespace, target.name, subresource)


@asynccontextmanager
async def open_session(options: argparse.Namespace) -> AsyncIterator[Session]:
    """Connect as the options say."""
    from edgekube.client.https import HttpsCarrier  # noqa: PLC0415 - `--help` need not load aiohttp

    access = access_of(options)
    async with HttpsCarrier(access) as carrier:
        yield Session(carrier, options.namespace or access.namespace)


def _rows(group: dict[str, Any]) -> list[AnyResource]:
    version = group["versions"][0]
    return [
        Resource(
            group.get("metadata", {}).get("name", ""), version["version"], entry["responseKind"]["kind"],
            entry["resource"], dict, scope=Scope(entry["scope"].replace("Namespaced", "Namespaced")),
            singular=entry.get("singularResource", ""), short_names=tuple(entry.get("shortNames", ())),
            categories=tuple(entry.get("categories", ())), verbs=tuple(entry["verbs"]),
        )
        for entry in version.get("resources", ())
    ]  # fmt: skip
