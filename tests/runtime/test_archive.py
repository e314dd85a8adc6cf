import io
import json
import tarfile
from pathlib import Path

import pytest

from edgekube.runtime.archive import Entry, read_names, write_archive

BUSYBOX = Path("/bin/busybox")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    arguments = {"binary": BUSYBOX, "applets": ("sh", "ls"), "env": {"B": "2", "A": "1"}}
    first = write_archive(tmp_path / "1.tar", "localhost/x:1", **arguments)
    second = write_archive(tmp_path / "2.tar", "localhost/x:1", **arguments)
    assert first == second
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    other = write_archive(tmp_path / "3.tar", "localhost/x:1", **arguments, user="1")
    assert other != first


def test_what_is_inside(tmp_path):
    path = tmp_path / "image.tar"
    identity = write_archive(
        path,
        "localhost/x:1",
        binary=BUSYBOX,
        applets=("sh",),
        files={
            "etc/motd": b"hello",
            "run.sh": Entry(b"#!", 0o755),
            "data": Entry(mode=0o700),
            "l": Entry(link="data"),
        },
        command=("a",),
        entrypoint=("/run.sh",),
        env={"K": "v"},
        user="7:8",
        stop_signal="SIGINT",
        architecture="arm64",
    )
    assert read_names(path) == ("localhost/x:1",)
    with tarfile.open(path) as tar:
        [manifest] = json.load(tar.extractfile("manifest.json"))
        config = json.load(tar.extractfile(manifest["Config"]))
        layer = tar.extractfile(manifest["Layers"][0]).read()
    assert manifest["Config"] == f"{identity}.json"
    assert config["architecture"] == "arm64"
    assert config["config"] == {
        "Cmd": ["a"],
        "Entrypoint": ["/run.sh"],
        "Env": ["K=v", "PATH=/bin"],
        "User": "7:8",
        "StopSignal": "SIGINT",
    }
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.extractfile("etc/motd").read() == b"hello"
        assert tar.getmember("run.sh").mode == 0o755
        assert tar.getmember("data").isdir()
        assert tar.getmember("l").linkname == "data"
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777
        assert tar.extractfile("bin/busybox").read() == BUSYBOX.read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a tar"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="not an image archive"):
        read_names(tmp_path / "x")
