"""Paths that are no resources: discovery, version, health, metrics, OpenAPI."""

import platform
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from edgekube.api.errors import NotFound
from edgekube.apiserver.authn.accounts import ServiceAccountTokens
from edgekube.apiserver.discovery import Discovery
from edgekube.apiserver.handler import Page
from edgekube.apiserver.request import Request, Response

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
    """
    Serve /healthz and its like: `ok`, or 500 with the checks that fail; `?verbose` lists them all.

    `?exclude=<check>` leaves one out, and `/<name>/<check>` asks for one alone (404 if there is none).
    """

    async def page(request: Request) -> Response:
        alone = request.path.strip("/").partition("/")[2]
        if alone:
            return _one_check(alone, checks)
        left_out = request.query.get("exclude", "")
        results = {check: check == left_out or probe() for check, probe in checks.items()}
        healthy = all(results.values())
        if healthy and "verbose" not in request.query:
            return Response(body=b"ok", content_type=TEXT)
        lines = [_check_line(check, good=good, left_out=check == left_out) for check, good in results.items()]
        if left_out and left_out not in checks:
            lines.append(f"warn: some health checks cannot be excluded: no matches for {left_out!r}")
        lines.append(f"{name} check {'passed' if healthy else 'failed'}")
        body = "\n".join(lines).encode() + b"\n"
        return Response(code=200 if healthy else 500, body=body, content_type=TEXT)

    return page


def _one_check(check: str, checks: Checks) -> Response:
    probe = checks.get(check)
    if probe is None:
        raise NotFound("the server could not find the requested resource")
    if probe():
        return Response(body=b"ok", content_type=TEXT)
    return Response(code=500, body=f"internal server error: {check} failed\n".encode(), content_type=TEXT)


def _check_line(check: str, *, good: bool, left_out: bool) -> str:
    if left_out:
        return f"[+]{check} excluded: ok"
    return f"[+]{check} ok" if good else f"[-]{check} failed: reason withheld"


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


ISSUER_PATH, KEYS_PATH = "/.well-known/openid-configuration", "/openid/v1/jwks"


def issuer_pages(tokens: ServiceAccountTokens | None) -> dict[str, Page]:
    """Serve what others need to verify ServiceAccount tokens (OpenID Connect Discovery 1.0, KEP-1393)."""
    if tokens is None:
        return {}
    issuer = tokens.config.issuer

    async def configuration(_request: Request) -> Response:
        body = {
            "issuer": issuer,
            "jwks_uri": f"{issuer.rstrip('/')}{KEYS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
        headers = [("Cache-Control", "public, max-age=3600")]
        return Response(body=msgspec.json.encode(body), headers=headers)

    async def keys(_request: Request) -> Response:
        body = msgspec.json.encode({"keys": tokens.public_keys()})
        headers = [("Cache-Control", "public, max-age=3600")]
        return Response(body=body, content_type="application/jwk-set+json", headers=headers)

    return {ISSUER_PATH: configuration, KEYS_PATH: keys}


async def root_page(_request: Request) -> Response:
    """Serve /: where to go."""
    paths = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    return Response(body=msgspec.json.encode({"paths": paths}))
