"""Which labels a node may give itself (Kubernetes docs, "NodeRestriction"; pkg/kubelet/apis/well_known_labels.go). Pure."""

from collections.abc import Mapping

ISOLATED = "node-restriction.kubernetes.io"
"""Labels of this domain are for administrators only."""
RESERVED = ("kubernetes.io", "k8s.io")
KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
KUBELET_LABELS = frozenset({
    "kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
})  # fmt: skip


def forbidden(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Return the labels that were set, changed or taken away and that a node must leave alone, in order."""
    changed = (label for label in {*new, *old} if new.get(label) != old.get(label))
    return sorted(label for label in changed if not _allowed(label))


def _allowed(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if _below(domain, ISOLATED):
        return False
    if not any(_below(domain, root) for root in RESERVED):
        return True
    return label in KUBELET_LABELS or any(_below(domain, root) for root in KUBELET_DOMAINS)


def _below(domain: str, root: str) -> bool:
    return domain == root or domain.endswith(f".{root}")
