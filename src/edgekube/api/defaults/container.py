"""Containers: image pull policy, probes, ports, environment."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty, items, present

_TERMINATION = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_HTTP_GET = {"path": "/", "scheme": "HTTP"}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def container(tree: Tree) -> None:
    """Fill a container, init container or ephemeral container."""
    tree.setdefault("resources", {})
    fill_empty(tree, _TERMINATION)
    fill_empty(tree, {"imagePullPolicy": pull_policy(tree.get("image", ""))})
    for port in items(tree, "ports"):
        fill_empty(port, {"protocol": "TCP"})
    for probe in present(tree, _PROBES):
        fill_empty(probe, _PROBE)
        _handler(probe)
    for hook in present(tree.get("lifecycle", {}), ("postStart", "preStop")):
        _handler(hook)
    for variable in items(tree, "env"):
        references(variable.get("valueFrom", {}))


def references(source: Tree) -> None:
    """Fill a downward API source: of a variable or of a file in a volume."""
    if "fieldRef" in source:
        fill_empty(source["fieldRef"], {"apiVersion": "v1"})
    if "resourceFieldRef" in source:
        fill_empty(source["resourceFieldRef"], {"divisor": "0"})


def pull_policy(image: str) -> str:
    """Return Always for the tag `latest` or no tag at all; a digest is as good as a tag."""
    if not image or "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def limits_as_requests(tree: Tree) -> None:
    """Request what is limited, where nothing is requested."""
    resources = tree.get("resources", {})
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **resources.get("requests", {})}


def host_ports(tree: Tree) -> None:
    """On the host's network a port of a container is a port of the host."""
    for port in items(tree, "ports"):
        fill_empty(port, {"hostPort": port.get("containerPort", 0)})


def _handler(handler: Tree) -> None:
    if "httpGet" in handler:
        fill_empty(handler["httpGet"], _HTTP_GET)
    if "grpc" in handler:
        fill(handler["grpc"], {"service": ""})
