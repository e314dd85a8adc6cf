"""HorizontalPodAutoscalers (pkg/apis/autoscaling/v2/defaults.go)."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty


def _policy(kind: str, value: int) -> Tree:
    return {"type": kind, "value": value, "periodSeconds": 15}


def horizontal_pod_autoscaler(tree: Tree) -> None:
    """Fill an autoscaler: 80 % of the CPU requested, and the gaps of a behavior that is given."""
    spec = tree.setdefault("spec", {})
    fill(spec, {"minReplicas": 1})
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is None:
        return
    _rules(behavior.setdefault("scaleUp", {}), [_policy("Pods", 4), _policy("Percent", 100)])
    fill(behavior["scaleUp"], {"stabilizationWindowSeconds": 0})
    _rules(behavior.setdefault("scaleDown", {}), [_policy("Percent", 100)])


def _rules(rules: Tree, policies: list[Tree]) -> None:
    fill_empty(rules, {"selectPolicy": "Max", "policies": policies})
