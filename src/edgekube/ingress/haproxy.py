"""
The table as HAProxy's configuration (HAProxy 2.4 or newer, configuration.txt).

Hosts come from validated names and paths from a safe alphabet, so nothing in it can end a word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekube.ingress.plan import ANY, Route, Site, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """Where it listens and keeps its files."""

    directory: Path
    http: str = "*:80"
    https: str = "*:443"
    connections: int = 2000
    """At once; each takes some 33 KB at most."""


def render(table: Table, options: ProxyOptions) -> str:
    """Return haproxy.cfg."""
    lines = [*_global(options), *_frontend(table, options)]
    for name, servers in sorted(table.backends.items()):
        lines += ["", f"backend {name}", "  balance roundrobin"]
        lines += [f"  server s{number} {server}" for number, server in enumerate(servers)]
    lines += ["", "backend nowhere"]
    return "\n".join(lines) + "\n"


def certificate_list(table: Table, options: ProxyOptions) -> str:
    """Return the crt-list: which certificate is for which hosts."""
    folder = options.directory / "certificates"
    entries = (
        f"{folder / name}.pem {' '.join(hosts)}".rstrip()
        for name, (_, hosts) in sorted(table.certificates.items())
    )
    return "\n".join(entries) + "\n"


def _global(options: ProxyOptions) -> Iterator[str]:
    yield from (
        "global",
        "  log stderr format raw daemon notice",
        f"  maxconn {options.connections}",
        # Old workers end their connections; websockets may be given this long.
        "  hard-stop-after 10m",
        f"  stats socket {options.directory / 'admin.sock'} mode 600 level admin expose-fd listeners",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "  tune.ssl.default-dh-param 2048",
        "",
        "defaults",
        "  mode http",
        "  log global",
        "  option dontlognull",
        "  option redispatch",
        "  retries 2",
        "  timeout http-request 10s",
        "  timeout http-keep-alive 60s",
        "  timeout connect 5s",
        "  timeout client 60s",
        "  timeout server 60s",
        "  timeout tunnel 1h",
    )


def _frontend(table: Table, options: ProxyOptions) -> Iterator[str]:
    yield from ("", "frontend web", f"  bind {options.http}")
    if table.certificates:
        yield f"  bind {options.https} ssl crt-list {options.directory / 'certificates.list'} alpn h2,http/1.1"
    yield from (
        "  option forwardfor",
        "  http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }",
        "  http-request set-header X-Forwarded-Host %[req.hdr(host)]",
        "  http-request set-var(txn.host) req.hdr(host),field(1,:),lower",
    )
    for number, site in enumerate(table.sites):
        yield f"  http-request set-var(txn.site) int({number}){_when(site)}"
    for number, site in enumerate(table.sites):
        if site.redirect:
            yield f"  http-request redirect scheme https code 308 if !{{ ssl_fc }} {{ var(txn.site) -m int {number} }}"
    for number, site in enumerate(table.sites):
        for route in site.routes:
            yield f"  use_backend {route.backend} if {{ var(txn.site) -m int {number} }} {_path(route)}"
    if table.default:
        yield f"  default_backend {table.default}"
    else:
        yield "  default_backend lost"
        yield from (
            "",
            "backend lost",
            "  http-request return status 404 content-type text/plain string '404 page not found'",
        )


def _when(site: Site) -> str:
    """Return the condition under which a request is for a site none before it took."""
    free = " if !{ var(txn.site) -m found }"
    if site.host == ANY:
        return free
    if site.host.startswith("*."):
        rest = site.host[1:].replace(".", "\\\\.")
        return f"{free} {{ var(txn.host) -m reg ^[^.]+{rest}$ }}"
    return f"{free} {{ var(txn.host) -m str {site.host.lower()} }}"


def _path(route: Route) -> str:
    if route.exact:
        return f"{{ path -m str '{route.path}' }}"
    if route.path == "/":
        return ""
    return f"{{ path,concat(/) -m beg '{route.path}/' }}"
