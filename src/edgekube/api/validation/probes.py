"""Probes and lifecycle hooks."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def probes(container: Tree, path: str, problems: Problems) -> None:
    """Check a container's probes and hooks."""
    for name in _PROBES:
        if name in container:
            _probe(name, container[name], f"{path}.{name}", problems=problems)
    for name in ("postStart", "preStop"):
        if name in container.get("lifecycle", {}):
            handler(
                container["lifecycle"][name], _HOOK_HANDLERS, f"{path}.lifecycle.{name}", problems=problems
            )


def handler(tree: Tree, known: tuple[str, ...], path: str, *, problems: Problems) -> None:
    """Check that there is exactly one handler, and that."""
    found = [name for name in known if name in tree]
    if not found:
        problems.required(path, "must specify a handler type")
    for extra in found[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for name in found[:1]:
        _action(name, tree[name], f"{path}.{name}", problems=problems)


def _probe(name: str, probe: Tree, path: str, *, problems: Problems) -> None:
    handler(probe, _PROBE_HANDLERS, path, problems=problems)
    for number in _NUMBERS:
        problems.at_least(probe, number, path)
    if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        problems.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and name == "readinessProbe":
        problems.invalid(
            f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"
        )
    elif grace is not None:
        problems.at_least(probe, "terminationGracePeriodSeconds", path, least=1)


def _action(name: str, action: Tree, path: str, *, problems: Problems) -> None:
    if name == "exec":
        problems.given(action, "command", path)
        return
    if name == "sleep":
        problems.at_least(action, "seconds", path)
        return
    port = action.get("port", 0)
    problems.each(f"{path}.port", port, names.port(port))
    if name == "httpGet":
        problems.given(action, "path", path)
        problems.one_of(action, "scheme", path, supported=("HTTP", "HTTPS"))
        for index, header in enumerate(action.get("httpHeaders", ())):
            problems.given(header, "name", f"{path}.httpHeaders[{index}]")
