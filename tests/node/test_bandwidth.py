"""What the bandwidth annotations say."""

import pytest

from edgekube.api.types import core_v1, meta_v1
from edgekube.network.base import UNLIMITED, Bandwidth, NetworkError
from edgekube.node.pod.bandwidth import EGRESS, INGRESS, bandwidth_of


def pod(*, host_network=False, **annotations):
    names = {"ingress": INGRESS, "egress": EGRESS}
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="a", annotations={names[k]: v for k, v in annotations.items()}),
        spec=core_v1.PodSpec(host_network=host_network),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod(), UNLIMITED),
        (pod(ingress="10M"), Bandwidth(10_000_000, 0)),
        (pod(ingress="1k", egress="2.5G"), Bandwidth(1000, 2_500_000_000)),
        (pod(egress="1Mi"), Bandwidth(0, 1 << 20)),
        (pod(egress="1P", host_network=True), UNLIMITED),
    ],
)
def test_limits(given, expected):
    assert bandwidth_of(given) == expected


@pytest.mark.parametrize("text", ["fast", "10 M", "999", "0", "-5M", "2P"])
def test_refuses_what_makes_no_sense(text):
    with pytest.raises(NetworkError, match="egress-bandwidth"):
        bandwidth_of(pod(egress=text))
