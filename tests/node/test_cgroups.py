"""Removing pods' cgroups: on plain folders shaped like the hierarchies, and on real ones."""

import uuid
from pathlib import Path

import pytest

from edgekube.node.cgroups import pod_cgroups, remove_cgroup


def test_both_hierarchies_and_all_qualities(tmp_path):
    for path in ("memory/ek/podg", "cpu/ek/burstable/podb/libpod-1", "ek/besteffort/pode", "ek/other"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "ek/besteffort/pode/cgroup.procs").write_text("")
    assert pod_cgroups(tmp_path, "/ek") == {
        "/ek/podg": "g",
        "/ek/burstable/podb": "b",
        "/ek/besteffort/pode": "e",
    }
    for path in pod_cgroups(tmp_path, "/ek"):
        assert remove_cgroup(tmp_path, path)
    assert pod_cgroups(tmp_path, "/ek") == {}
    assert (tmp_path / "ek/other").is_dir()


def test_no_root_means_hands_off(tmp_path):
    (tmp_path / "podx").mkdir()
    assert pod_cgroups(tmp_path, "") == {}
    assert remove_cgroup(tmp_path, "")
    assert (tmp_path / "podx").is_dir()


@pytest.mark.root
def test_a_real_one():
    mount = Path("/sys/fs/cgroup")
    tree = mount / "pids" if (mount / "pids").is_dir() else mount
    name = f"ekn-{uuid.uuid4().hex[:8]}"
    (tree / name / "podx" / "inner").mkdir(parents=True)
    try:
        assert remove_cgroup(mount, f"/{name}/podx")
        assert not (tree / name / "podx").exists()
    finally:
        (tree / name).rmdir()
