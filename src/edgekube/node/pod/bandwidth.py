"""The limits that a pod's annotations set to its traffic (kubernetes.io/ingress-bandwidth, egress-bandwidth)."""

from edgekube.api import quantity
from edgekube.api.types import core_v1
from edgekube.network.base import Bandwidth, NetworkError

INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
LEAST, MOST = 1000, 10**15
"""Bits per second; others are mistakes (Kubernetes' pkg/util/bandwidth)."""


def bandwidth_of(pod: core_v1.Pod) -> Bandwidth:
    """Return the pod's limits; raises NetworkError for a malformed or senseless one."""
    return Bandwidth(_rate(pod, INGRESS), _rate(pod, EGRESS))


def _rate(pod: core_v1.Pod, name: str) -> int:
    text = pod.metadata.annotations.get(name, "")
    # On the node's own network there is nothing of the pod's to limit.
    if not text or pod.spec.host_network:
        return 0
    try:
        rate = quantity.value(text)
    except quantity.InvalidQuantity as error:
        raise NetworkError(f"annotation {name}: {text!r} is no quantity of bits per second") from error
    if not LEAST <= rate <= MOST:
        raise NetworkError(
            f"annotation {name}: {text} is unreasonable, 1k to 1P bits per second are possible"
        )
    return rate
