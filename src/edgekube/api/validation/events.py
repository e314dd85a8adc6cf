"""Events."""

from typing import Any

from edgekube.api.validation.problems import Problems


def event(tree: dict[str, Any], problems: Problems) -> None:
    """Check an Event: it lives where the object it is about lives, or in `default`."""
    namespace = tree.get("metadata", {}).get("namespace", "")
    about = tree.get("involvedObject", {}).get("namespace", "")
    if about != namespace and (about or namespace not in ("default", "kube-system")):
        problems.invalid("involvedObject.namespace", about, "does not match event.namespace")
