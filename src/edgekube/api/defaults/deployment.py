"""Deployments."""

from edgekube.api.defaults import pod
from edgekube.api.defaults.fill import Tree, fill, fill_empty

_SPEC = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
_ROLLING_UPDATE = {"maxUnavailable": "25%", "maxSurge": "25%"}


def deployment(tree: Tree) -> None:
    """Fill a Deployment."""
    spec = tree.setdefault("spec", {})
    fill(spec, _SPEC)
    strategy = spec.setdefault("strategy", {})
    fill_empty(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), _ROLLING_UPDATE)
    pod.template(spec.setdefault("template", {}))
