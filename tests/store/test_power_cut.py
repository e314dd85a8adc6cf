"""What survives when the power goes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("power_cut.py")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not (shutil.which("mkfs.ext4") and Path("/dev/loop-control").exists()),
        reason="needs ext4 on a loop device",
    ),
]


def test_a_power_cut_loses_nothing_durable_and_repeats_no_revision(tmp_path):
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        SCRIPT,
        tmp_path,
        "1",
        "150",
        "40",
    ]
    done = subprocess.run(command, check=True, capture_output=True, timeout=50)
    seen = set()
    for result in json.loads(done.stdout):
        told = [*result["acknowledged"], *result["late"]]
        revisions = {revision for _, revision, _ in told}
        assert len(revisions) == len(told)
        assert min(revisions) > max(seen, default=0)
        seen |= revisions
        assert result["revision"] > max(seen)
        durable = [(key, step) for key, _, step in result["acknowledged"] if key.startswith("/durable/")]
        for key, step in durable:
            assert result["records"][key] >= step
        assert not any(key.startswith("/volatile/") for key in result["records"])
