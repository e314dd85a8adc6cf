"""A request and its answer as everything behind the HTTP layer sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekube.apiserver.identity import User
from edgekube.apiserver.watching import Events

Tree = dict[str, Any]
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Header names are in lower case; of a repeated query parameter the first counts."""

    method: str
    path: str
    user: User
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    notes: dict[str, str] = field(default_factory=dict)
    """Annotations of its audit event."""


@dataclass(slots=True, kw_only=True)
class Response:
    """One answer: a body, or, of a watch, events until the iterator ends."""

    code: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)
    events: Events | None = None


def truthy(value: str | None) -> bool:
    """Read a boolean query parameter as apimachinery's conversion does ("", "0" and "false" are false)."""
    return value is not None and value.lower() not in {"", "0", "false"}
