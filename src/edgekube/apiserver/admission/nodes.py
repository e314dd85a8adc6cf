"""What new Nodes get (TaintNodesByCondition)."""

from edgekube.apiserver.admission.base import Attributes

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition:
    """A new Node gets no pods before its kubelet has said that it is ready."""

    verbs, resources = frozenset({"create"}), frozenset({"nodes"})

    async def admit(self, attributes: Attributes) -> None:
        """Add the taint; the node lifecycle controller takes it away."""
        spec = attributes.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if all((taint.get("key"), taint.get("effect")) != tuple(NOT_READY.values()) for taint in taints):
            spec["taints"] = [*taints, dict(NOT_READY)]
