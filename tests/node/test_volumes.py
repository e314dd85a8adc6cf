"""Volumes on a temporary folder, and the files every pod gets."""

import base64
import math
import os
import stat

import msgspec
import pytest

from edgekube.api.types import core_v1
from edgekube.control.mirror import Mirror
from edgekube.control.reader import Copy
from edgekube.node.config import KubeletConfig
from edgekube.node.env.downward import Place
from edgekube.node.env.environment import ConfigError
from edgekube.node.folders import PodFolder
from edgekube.node.mounts import mount_tmpfs, unmount
from edgekube.node.volumes import etc
from edgekube.node.volumes.atomic import write_files
from edgekube.node.volumes.base import Content, VolumeError
from edgekube.node.volumes.manager import Volumes

NOW = 1_700_000_000.0
CONFIG = {
    "metadata": {"name": "c", "namespace": "default"},
    "data": {"a": "1", "b": "2"},
    "binaryData": {"bin": "AAE="},
}
SECRET = {
    "metadata": {"name": "s", "namespace": "default"},
    "data": {"pw": base64.b64encode(b"hush").decode()},
}


async def token(audience, seconds):
    return f"token for {audience}", "2023-11-14T23:13:20Z"


@pytest.fixture
def config(tmp_path):
    return KubeletConfig(node_name="pi", node_ip="10.0.0.1", data_dir=tmp_path, cluster_dns=("10.96.0.10",))


@pytest.fixture
def manager(config):
    mirror = Mirror(
        config_maps=Copy([msgspec.convert(CONFIG, core_v1.ConfigMap)]), secrets=Copy([msgspec.convert(SECRET, core_v1.Secret)])
    )  # fmt: skip
    return Volumes(config, mirror, clock=lambda: NOW, tmpfs=False)


async def make(manager, pod):
    return await manager.make(pod, Place("10.244.0.5", "10.0.0.1"), token)


def names(folder):
    """Return what a container sees, through all links: path → (text, mode)."""
    found = {}
    for root, _, files in os.walk(folder, followlinks=True):
        for name in files:
            path = os.path.relpath(os.path.join(root, name), folder)
            if not path.startswith(".."):
                with open(os.path.join(root, name), "rb") as file:
                    found[path] = (
                        file.read().decode(),
                        stat.S_IMODE(os.stat(os.path.join(root, name)).st_mode),
                    )
    return found


@pytest.mark.parametrize(
    ("volume", "wanted"),
    [
        ({"configMap": {"name": "c"}}, {"a": ("1", 0o644), "b": ("2", 0o644), "bin": ("\x00\x01", 0o644)}),
        (
            {"configMap": {"name": "c", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}]}},
            {"x/y": ("1", 0o400)},
        ),
        (
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "y", "mode": 0o755}]}},
            {"y": ("1", 0o755)},
        ),
        ({"configMap": {"name": "no", "optional": True}}, {}),
        ({"secret": {"secretName": "s", "defaultMode": 0o600}}, {"pw": ("hush", 0o600)}),
        (
            {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"n": ("web", 0o644)},
        ),
        (
            {
                "projected": {
                    "sources": [
                        {"configMap": {"name": "c", "items": [{"key": "a", "path": "a"}]}},
                        {"secret": {"name": "s"}},
                        {"serviceAccountToken": {"path": "token", "audience": "vault"}},
                    ]
                }
            },
            {"a": ("1", 0o644), "pw": ("hush", 0o644), "token": ("token for vault", 0o644)},
        ),
    ],
)
async def test_filled_volumes(manager, config, pod_of, volume, wanted):
    pod = pod_of({"volumes": [{"name": "v", **volume}]})
    refresh = await make(manager, pod)
    folder = PodFolder.of(config.pods_dir, pod).volume("v")
    assert names(folder) == wanted
    assert refresh == (NOW + 0.8 * 3600 if "token" in wanted else math.inf)
    before = os.readlink(folder / "..data")
    await make(manager, pod)
    assert os.readlink(folder / "..data") == before, "nothing changed, nothing is written"


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "c", "items": [{"key": "zz", "path": "z"}]}},
            "references non-existent configmap key: zz",
        ),
        (
            {"configMap": {"name": "c", "items": [{"key": "a", "path": "../../etc"}]}},
            "invalid path ../../etc",
        ),
        ({"nfs": {"server": "x", "path": "/"}}, "no volume plugin matched nfs"),
        ({"hostPath": {"path": "/proc/self/exe-none", "type": "File"}}, "is not a file"),
    ],
)
async def test_volumes_that_cannot_be(manager, pod_of, volume, message):
    with pytest.raises(VolumeError) as caught:
        await make(manager, pod_of({"volumes": [{"name": "v", **volume}]}))
    assert str(caught.value).startswith('MountVolume.SetUp failed for volume "v" : ')
    assert message in str(caught.value)


async def test_empty_dir_keeps_what_is_in_it_and_its_group(manager, config, pod_of):
    pod = pod_of({"securityContext": {"fsGroup": os.getgid()}, "volumes": [{"name": "v", "emptyDir": {}}]})
    await make(manager, pod)
    folder = PodFolder.of(config.pods_dir, pod).volume("v")
    assert folder.stat().st_mode & 0o7777 == 0o2777
    (folder / "file").write_text("kept")
    await make(manager, pod)
    assert (folder / "file").read_text() == "kept"
    await manager.remove(PodFolder.of(config.pods_dir, pod), everything=True)
    assert not folder.exists()


async def test_fs_group_may_read(manager, config, pod_of):
    pod = pod_of(
        {
            "securityContext": {"fsGroup": os.getgid()},
            "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400}}],
        }
    )
    await make(manager, pod)
    assert names(PodFolder.of(config.pods_dir, pod).volume("v")) == {"pw": ("hush", 0o440)}


@pytest.mark.parametrize("kind", ["DirectoryOrCreate", "FileOrCreate", ""])
async def test_host_path(manager, tmp_path, pod_of, kind):
    target = tmp_path / "host"
    await make(manager, pod_of({"volumes": [{"name": "v", "hostPath": {"path": str(target), "type": kind}}]}))
    assert target.is_file() if kind == "FileOrCreate" else target.is_dir()


async def test_mounts(manager, config, pod_of):
    mounts = [
        {"name": "v", "mountPath": "/v", "mountPropagation": "HostToContainer"},
        {"name": "v", "mountPath": "/sub", "subPath": "a/b", "readOnly": True},
        {"name": "v", "mountPath": "/expr", "subPathExpr": "$(WHO)"},
        {"name": "c", "mountPath": "/c/a", "subPath": "a"},
    ]
    pod = pod_of(
        {
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}],
            "containers": [{"name": "main", "volumeMounts": mounts}],
        }
    )
    await make(manager, pod)
    found = {m.target: m for m in manager.mounts(pod, pod.spec.containers[0], {"WHO": "me"}, attempt=0)}
    folder = PodFolder.of(config.pods_dir, pod)
    assert (found["/v"].source, found["/v"].read_only, found["/v"].propagation) == (
        str(folder.volume("v")),
        False,
        "rslave",
    )
    assert (found["/sub"].source, found["/sub"].read_only) == (str(folder.volume("v") / "a/b"), True)
    assert (folder.volume("v") / "a/b").stat().st_mode & 0o777 == 0o777
    assert found["/expr"].source == str(folder.volume("v") / "me")
    assert found["/c/a"].read_only
    with open(found["/c/a"].source) as file:
        assert file.read() == "1"
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"} <= set(found)


@pytest.mark.parametrize("sub_path", ["../out", "/abs", "link/x"])
async def test_sub_paths_stay_in_their_volume(manager, config, pod_of, tmp_path, sub_path):
    mount = {"name": "v", "mountPath": "/v", "subPath": sub_path}
    pod = pod_of(
        {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "main", "volumeMounts": [mount]}],
        }
    )
    await make(manager, pod)
    (PodFolder.of(config.pods_dir, pod).volume("v") / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError):
        manager.mounts(pod, pod.spec.containers[0], {}, attempt=0)


def test_atomic_writes_drop_old_files(tmp_path):
    assert write_files(tmp_path / "v", {"a": Content(b"1"), "d/x": Content(b"2")})
    assert write_files(tmp_path / "v", {"a": Content(b"3")})
    assert names(tmp_path / "v") == {"a": ("3", 0o644)}
    assert sorted(entry for entry in os.listdir(tmp_path / "v") if not entry.startswith("..20")) == [
        "..data",
        "a",
    ]
    assert len([entry for entry in os.listdir(tmp_path / "v") if entry.startswith("..20")]) == 1
    assert not write_files(tmp_path / "v", {"a": Content(b"3")})


@pytest.mark.root
def test_tmpfs(tmp_path):
    folder = tmp_path / "m"
    mount_tmpfs(folder, size=1 << 20)
    try:
        mount_tmpfs(folder, size=1 << 20)
        assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == 1 << 20
    finally:
        unmount(folder)
    assert not folder.is_mount()


NODE = "nameserver 192.168.1.1\nsearch lan\noptions edns0\n"
CLUSTER = "search default.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, CLUSTER),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, "search lan\nnameserver 192.168.1.1\noptions edns0\n"),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER),
        ({"dnsPolicy": "Default"}, "search lan\nnameserver 192.168.1.1\noptions edns0\n"),
        (
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]}},
            "nameserver 9.9.9.9\noptions ndots:2\n",
        ),
        ({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}], "searches": ["lan"]}}, CLUSTER.replace("ndots:5", "ndots:1")),
    ],
)  # fmt: skip
def test_resolv_conf(config, pod_of, spec, wanted):
    assert etc.resolv_conf(pod_of(spec), config, NODE) == wanted


def test_hosts(config, pod_of):
    pod = pod_of(
        {"hostname": "db-0", "subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}
    )
    lines = etc.hosts(pod, "10.244.0.5", config).splitlines()
    assert lines[0] == "# Kubernetes-managed hosts file."
    assert "10.244.0.5\tdb-0.db.default.svc.cluster.local\tdb-0" in lines
    assert lines[-2:] == ["# Entries added by HostAliases.", "1.2.3.4\ta\tb"]
    node = etc.hosts(
        pod_of({"hostNetwork": True}), "", config, node_hosts="127.0.0.1 localhost\n"
    ).splitlines()
    assert node == ["# Kubernetes-managed hosts file (host network).", "127.0.0.1 localhost"]
