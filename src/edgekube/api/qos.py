"""The quality of service class of a pod."""

from typing import Any


def qos_class(spec: dict[str, Any]) -> str:
    """Return Guaranteed, Burstable or BestEffort (pkg/apis/core/helper/qos; KEP-753 counts init containers)."""
    guaranteed, any_set = True, False
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            asked, limit = requests.get(name), limits.get(name)
            any_set = any_set or bool(asked or limit)
            guaranteed = guaranteed and limit is not None and (asked is None or asked == limit)
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
