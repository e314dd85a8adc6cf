"""Paths that are no resources: discovery, version, health, metrics, OpenAPI."""

import platform
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from edgekube.apiserver.discovery import Discovery
from edgekube.apiserver.handler import Page
from edgekube.apiserver.request import Request, Response, truthy

TEXT = "text/plain; charset=utf-8"
Checks = Mapping[str, Callable[[], bool]]


def version_page(version: str) -> Page:
    """Serve /version; `version` is like v1.37.0+edgekube0.1.0."""
    major, minor = version.removeprefix("v").split(".")[:2]
    info = {
        "major": major,
        "minor": minor,
        "gitVersion": version,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }
    body = msgspec.json.encode(info)

    async def page(_request: Request) -> Response:
        return Response(body=body)

    return page


def health_page(name: str, checks: Checks) -> Page:
    """Serve /healthz and its like: `ok`, or 500 with the checks that fail."""

    async def page(request: Request) -> Response:
        results = {check: probe() for check, probe in checks.items()}
        healthy = all(results.values())
        lines = [
            f"[{'+' if good else '-'}]{check} {'ok' if good else 'failed'}" for check, good in results.items()
        ]
        if healthy and not truthy(request.query.get("verbose", "0")) and request.query.get("verbose") != "":
            return Response(body=b"ok", content_type=TEXT)
        lines.append(f"{name} check {'passed' if healthy else 'failed'}")
        return Response(
            code=200 if healthy else 500, body="\n".join(lines).encode() + b"\n", content_type=TEXT
        )

    return page


def discovery_page(discovery: Callable[[], Discovery]) -> Page:
    """Serve /api and /apis."""

    async def page(request: Request) -> Response:
        return discovery().answer(request.path, request.headers.get("accept", ""))

    return page


def metrics_page(text: Callable[[], Awaitable[str]]) -> Page:
    """Serve /metrics."""

    async def page(_request: Request) -> Response:
        return Response(body=(await text()).encode(), content_type="text/plain; version=0.0.4")

    return page


async def root_page(_request: Request) -> Response:
    """Serve /: where to go."""
    paths = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    return Response(body=msgspec.json.encode({"paths": paths}))
