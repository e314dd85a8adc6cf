"""The cgroups of pods and QoS classes: values by table, files of both hierarchies, resizes, the end."""

import pytest

from edgekube.node.config import KubeletConfig
from edgekube.node.podcgroups import PodCgroups, Share, share_of, weight

MIB = 1 << 20


@pytest.mark.parametrize(
    ("containers", "more", "wanted"),
    [
        ([{}], {}, Share(2)),
        ([{"requests": {"cpu": "250m"}}, {"requests": {"cpu": "250m"}}], {}, Share(512)),
        ([{"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}], {}, Share(1024)),
        ([{}, {}], {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1500m", "memory": "64Mi"}}}, Share(1024, 150_000, 72 * MIB)),
        (
            [{"requests": {"cpu": "100m"}}],
            {"initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}}}]},
            Share(1024),
        ),
        ([{}], {"overhead": {"cpu": "500m"}}, Share(512)),
    ],
)  # fmt: skip
def test_values(pod_of, containers, more, wanted):
    named = [{"name": f"c{number}", "resources": resources} for number, resources in enumerate(containers)]
    assert share_of(pod_of({"containers": named, **more})) == wanted


@pytest.mark.parametrize(("shares", "wanted"), [(2, 1), (1024, 39), (262_144, 10_000)])
def test_weights(shares, wanted):
    assert weight(shares) == wanted


def test_enough_for_both():
    assert Share(2, 100, None).or_more(Share(5, 50, 7)) == Share(5, 100, None)


@pytest.fixture(params=["v1", "v2"])
def tree(request, tmp_path):
    """Return a folder that looks like a cgroup mount."""
    mount = tmp_path / "cgroup"
    mount.mkdir()
    if request.param == "v2":
        (mount / "cgroup.controllers").touch()
    else:
        (mount / "cpu").mkdir()
        (mount / "memory").mkdir()
    return request.param, mount


def values(tree, path):
    version, mount = tree
    names = {
        "v1": ("cpu/{}/cpu.shares", "cpu/{}/cpu.cfs_quota_us", "memory/{}/memory.limit_in_bytes"),
        "v2": ("{}/cpu.weight", "{}/cpu.max", "{}/memory.max"),
    }[version]
    return [(mount / name.format(path)).read_text() for name in names]


def test_files(tree, tmp_path, pod_of):
    config = KubeletConfig(node_name="pi", node_ip="10.0.0.1", data_dir=tmp_path, cgroup_mount=tree[1])
    cgroups = PodCgroups(config)
    pod = pod_of({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]})
    cgroups.fit(pod, "/edgekube/burstable/poduid-web", Share(1024, 50_000, 64 * MIB))
    wanted = {"v1": ["1024", "50000", str(64 * MIB)], "v2": ["39", "50000 100000", str(64 * MIB)]}[tree[0]]
    assert values(tree, "edgekube/burstable/poduid-web") == wanted
    class_wide = {"v1": ["1024", "-1", "-1"], "v2": ["39", "max 100000", "max"]}[tree[0]]
    assert values(tree, "edgekube/burstable") == class_wide
    cgroups.fit(pod_of(uid="other"), "/edgekube/besteffort/podother", Share(2))
    assert values(tree, "edgekube/besteffort")[0] == {"v1": "2", "v2": "1"}[tree[0]]
    cgroups.drop("uid-web", "/edgekube/burstable/poduid-web")
    assert values(tree, "edgekube/burstable")[0] == {"v1": "2", "v2": "1"}[tree[0]]
    if tree[0] == "v2":
        assert (tree[1] / "edgekube/burstable/cgroup.subtree_control").read_text().startswith("+")
