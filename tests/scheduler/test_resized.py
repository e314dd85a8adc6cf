"""What pods count for while they are being resized."""

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.scheduler.infos import pod_info
from edgekube.scheduler.resized import gave_back


def pod(asked, allocated=None, actual=None, reason="", generation=2):
    status = {"name": "main", "image": "", "imageID": "", "ready": True, "restartCount": 0}
    if allocated is not None:
        status |= {
            "allocatedResources": {"cpu": allocated},
            "resources": {"requests": {"cpu": actual or allocated}},
        }
    tree = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": generation},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "resources": {"requests": {"cpu": asked, "memory": "1Gi"}}}]},
        "status": {
            "containerStatuses": [status],
            "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}] if reason else [],
        },
    }  # fmt: skip
    return msgspec.convert(tree, core_v1.Pod)


@pytest.mark.parametrize(
    ("made", "cpu"),
    [
        (pod("1"), 1000),
        (pod("1", "2", generation=1), 1000),
        (pod("2", "1"), 2000),
        (pod("1", "2"), 2000),
        (pod("1", "1", "2"), 2000),
        (pod("900", "1", reason="Infeasible"), 1000),
        (pod("3", "1", reason="Deferred"), 3000),
    ],
)
def test_what_a_pod_counts_for(made, cpu):
    assert pod_info(made).requests == {"cpu": cpu, "memory": 1 << 30}


def test_who_gives_back_is_noticed():
    assert gave_back(pod("1", "2"), pod("1", "1"))
    assert not gave_back(pod("1", "1"), pod("1", "1"))
    assert not gave_back(pod("1", generation=1), pod("1", "1", generation=1))
