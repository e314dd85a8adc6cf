"""Several profiles in one scheduler."""

import pytest

from edgekube.scheduler.plugins import Plugins
from edgekube.scheduler.profiles import BadProfile, profiles


def configuration(*given):
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": list(given),
    }


def test_what_a_profile_leaves_out_and_weighs():
    found = profiles(
        configuration(
            {},
            {"schedulerName": "packed", "plugins": {
                "score": {"disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality", "weight": 7}]},
                "multiPoint": {"disabled": [{"name": "NodePorts"}]},
            }},
        ), Plugins(),
    )  # fmt: skip
    assert found["default-scheduler"] == Plugins()
    packed = found["packed"]
    assert [(row.name, row.weight) for row in packed.scores] == [("ImageLocality", 7)]
    assert {row.name for row in Plugins().filters} - {row.name for row in packed.filters} == {"NodePorts"}


@pytest.mark.parametrize(("given", "field"), [
    ({"kind": "Pod"}, "kind"),
    (configuration({}, {}), r"profiles\[1\].schedulerName"),
    (configuration({"plugins": {"filter": {"enabled": [{"name": "Magic"}]}}}), r"profiles\[0\].plugins.filter.enabled\[0\].name"),
])  # fmt: skip
def test_what_it_does_not_understand(given, field):
    with pytest.raises(BadProfile, match=field):
        profiles(given, Plugins())
