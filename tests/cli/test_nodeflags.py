"""The agent's flags about resources: the kubelet's notations, and what is refused."""

import argparse

import pytest

from edgekube.cli import nodeflags
from edgekube.cli.session import UsageError
from edgekube.node.eviction.settings import EvictionSettings


def options(*words):
    parser = argparse.ArgumentParser()
    nodeflags.add(parser)
    return nodeflags.take(vars(parser.parse_args(words)))


def test_without_flags_the_kubelets_defaults():
    assert options() == nodeflags.DEFAULT
    assert options().eviction == EvictionSettings()


def test_the_kubelets_notations():
    found = options(
        "--eviction-hard", "memory.available<50Mi,nodefs.available<5%",
        "--eviction-soft", "memory.available<20%", "--eviction-soft-grace-period", "memory.available=1m30s",
        "--eviction-minimum-reclaim", "nodefs.available=1Gi", "--eviction-pressure-transition-period", "30s",
        "--kube-reserved", "cpu=100m, memory=64Mi", "--pin-image", "registry.local/*", "--pin-image", "busybox",
        "--image-gc-high-threshold", "70", "--image-gc-low-threshold", "60", "--shutdown-grace-period", "1m",
    )  # fmt: skip
    eviction = found.eviction
    assert eviction.hard == {"memory.available": "50Mi", "nodefs.available": "5%"}
    assert (eviction.soft_grace, eviction.transition) == ({"memory.available": 90.0}, 30.0)
    assert eviction.minimum_reclaim == {"nodefs.available": "1Gi"}
    assert found.kube_reserved == {"cpu": "100m", "memory": "64Mi"}
    assert (found.image_gc.high, found.image_gc.low) == (70, 60)
    assert found.image_gc.pinned == ("registry.local/*", "busybox")
    assert found.shutdown_grace == 60.0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--eviction-hard", "memory<1"], "unsupported eviction signal memory"),
        (["--eviction-hard", "memory.available=1"], "should be name<value"),
        (["--eviction-hard", "memory.available<1Mi,memory.available<2Mi"], "twice"),
        (["--kube-reserved", "gpu=1"], "cannot reserve 'gpu'"),
        (["--kube-reserved", "cpu=many"], "quantities must match"),
        (["--shutdown-grace-period", "soon"], "no duration"),
    ],
)
def test_nonsense_is_explained(words, complaint, capsys):
    with pytest.raises(SystemExit):
        options(*words)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--eviction-soft", "memory.available<1Gi"],
        ["--image-gc-high-threshold", "50"],
        ["--shutdown-grace-period", "5s", "--shutdown-grace-period-critical-pods", "6s"],
    ],
)
def test_what_does_not_fit_together_is_refused(words):
    with pytest.raises(UsageError):
        options(*words)
