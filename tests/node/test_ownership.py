"""fsGroup: who owns a volume's files; how large a memory-backed volume may be."""

import os
import stat

import pytest

from edgekube.api.types import core_v1
from edgekube.node.volumes.empty_dir import memory_size
from edgekube.node.volumes.ownership import give

pytestmark = pytest.mark.root
GROUP = 4242


def modes(folder):
    """Return group and mode of everything below, "" the folder itself."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in ("", *folders, *files):
            about = os.lstat(os.path.join(root, name))
            path = os.path.relpath(os.path.join(root, name), folder)
            found[path] = (about.st_gid, oct(stat.S_IMODE(about.st_mode)))
    return found


@pytest.fixture
def volume(tmp_path):
    folder = tmp_path / "volume"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("x")
    (folder / "sub/file").chmod(0o600)
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "sub").chmod(0o700)
    folder.chmod(0o755)
    return folder


def test_everything_is_given(volume):
    host = os.lstat("/etc/hostname")
    assert give(volume, GROUP, policy="Always")
    found = modes(volume)
    link = found.pop("link")
    assert found == {
        ".": (GROUP, "0o2775"), "sub": (GROUP, "0o2770"), "sub/file": (GROUP, "0o660"),
    }  # fmt: skip
    assert link[0] != GROUP
    assert os.lstat("/etc/hostname") == host


def test_a_read_only_volume_is_only_made_readable(volume):
    give(volume, GROUP, policy="Always", read_only=True)
    assert modes(volume)["sub/file"] == (GROUP, "0o640")


def test_on_root_mismatch_looks_at_the_root_only(volume):
    assert give(volume, GROUP, policy="OnRootMismatch")
    (volume / "sub/file").chmod(0o600)
    assert not give(volume, GROUP, policy="OnRootMismatch")
    assert modes(volume)["sub/file"] == (GROUP, "0o600")
    assert give(volume, GROUP, policy="Always")
    assert modes(volume)["sub/file"] == (GROUP, "0o660")
    assert give(volume, GROUP + 1, policy="OnRootMismatch")


MIB = 1 << 20


@pytest.mark.parametrize(
    ("limit", "memory", "wanted"),
    [
        ("64Mi", [], 64),
        ("", [], 1024),
        ("64Mi", ["32Mi"], 32),
        ("", ["32Mi", "32Mi"], 64),
        ("2Gi", [None, "32Mi"], 1024),
    ],
)
def test_size_of_memory_volumes(pod_of, limit, memory, wanted):
    containers = [
        {"name": f"c{n}", "resources": {"limits": {"memory": m} if m else {}}} for n, m in enumerate(memory)
    ]
    pod = pod_of({"containers": containers} if containers else {})
    source = core_v1.EmptyDirVolumeSource(medium="Memory", size_limit=limit or None)
    assert memory_size(pod, source, {"memory": "1Gi"}) == wanted * MIB
