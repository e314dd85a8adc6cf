"""The client port: calls to the API, raw. `client.typed.Client` puts types on it.

There are two carriers: HTTPS (`client.https`) and, inside the server process, a direct call
into the API server's handler (`apiserver.local`), which goes the same way as a request from
outside, without HTTP.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edgekube.api.resource import AnyResource
from edgekube.lib.errors import EdgekubeError


class Unreachable(EdgekubeError):
    """The API server did not answer; whether a write happened is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `verb` is get, list, create, update, patch, delete, deletecollection or watch."""

    verb: str
    resource: AnyResource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters by their Kubernetes names, e.g. labelSelector, fieldManager, dryRun."""
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK; `raw` is the object's JSON."""

    type: str
    raw: bytes


class Carrier(Protocol):
    """Brings a call to the API server. Both raise api.errors.StatusError or Unreachable."""

    async def do(self, call: Call) -> bytes:
        """Return the body of the successful answer (JSON)."""
        ...

    def watch(self, call: Call) -> AsyncIterator[WatchEvent]:
        """Yield events until the server ends the watch; raises Expired when the revision is compacted."""
        ...
