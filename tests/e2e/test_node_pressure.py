"""A node under pressure, static pods, and a machine that is shut down: on real podman and a disk that really fills."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from e2e.harness import IMAGE, Cluster, eventually, free_port, start
from e2e.manifests import STAY
from edgekube.app.options import UpOptions
from edgekube.app.up import down

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SIZE = 256
"""MiB of the node's disk."""
FLAGS = (
    "--eviction-hard", "nodefs.available<40%", "--eviction-minimum-reclaim", "nodefs.available=5%",
    "--eviction-pressure-transition-period", "8s", "--kube-reserved", "cpu=100m",
    "--shutdown-grace-period", "20s", "--shutdown-grace-period-critical-pods", "5s",
)  # fmt: skip
RUN_DIR = "/run/edgekube-node"


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[Cluster]:
    """A cluster of its own on a small disk."""
    folder = tmp_path_factory.mktemp("pressure")
    disk = folder / "data" / "agent"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "ek-pressure", str(disk)], check=True)
    name = f"ekp-{os.getpid()}"
    try:
        yield start(folder, name=name, port=free_port(), agent_flags=FLAGS)
    finally:
        down(UpOptions(data_dir=folder / "data", run_dir=folder / "run", name=name), print)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def pod(name, command, spec=None, **container):
    main = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        **container,
    }
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [main], **(spec or {})},
    }  # fmt: skip


def put(board, tree):
    board.kubectl("apply", "-f", "-", stdin=json.dumps(tree))


def phase(board, name):
    return board.kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}", check=False)


def conditions(board):
    return {c["type"]: c for c in board.json("get", "node", "edge1")["status"]["conditions"]}


def taints(board):
    return {t["key"] for t in board.json("get", "node", "edge1")["spec"].get("taints", ())}


def begun(board, name):
    """When the pod's container began: the same for as long as nobody touched it."""
    return board.json("get", "pod", name)["status"]["containerStatuses"][0]["containerID"]


def fill(path):
    """Use up what is left, to the last byte."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 14))


def test_a_full_disk_evicts_who_filled_it_and_recovers(board):
    put(board, pod("quiet", STAY))
    board.kubectl("wait", "--for=condition=Ready", "pod/quiet", "--timeout=60s")
    before = begun(board, "quiet")
    disk, running = board.options.data_dir / "agent", agent(board)
    much = (shutil.disk_usage(disk).free >> 20) - SIZE * 20 // 100
    script = f"head -c {much}m /dev/zero > /data/much; sleep 3600"
    put(
        board,
        pod(
            "greedy", ["sh", "-c", script], {"volumes": [{"name": "data", "emptyDir": {}}]},
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
        ),
    )  # fmt: skip
    eventually(lambda: shutil.disk_usage(disk).free >> 20 <= SIZE * 20 // 100, "the pod wrote all of it")
    fill(disk / "ballast")
    eventually(lambda: "node.kubernetes.io/disk-pressure" in taints(board), "the node is tainted")
    assert conditions(board)["DiskPressure"]["reason"] == "KubeletHasDiskPressure"
    put(board, pod("late", STAY, {"nodeName": "edge1"}))
    eventually(lambda: phase(board, "late") == "Failed", "the late pod is refused")
    assert board.json("get", "pod", "late")["status"]["message"] == (
        "Pod was rejected: The node had condition: [DiskPressure]. "
    )
    eventually(lambda: phase(board, "greedy") == "Failed", "the greedy pod is evicted")
    status = board.json("get", "pod", "greedy")["status"]
    assert status["reason"] == "Evicted"
    assert status["message"].startswith(
        "The node was low on resource: ephemeral-storage. Threshold quantity: "
    )
    assert any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status["conditions"])
    events = {e["reason"] for e in board.json("get", "events", "-A")["items"]}
    assert {"Evicted", "EvictionThresholdMet"} <= events
    eventually(lambda: conditions(board)["DiskPressure"]["status"] == "False", "the pressure is over")
    eventually(lambda: "node.kubernetes.io/disk-pressure" not in taints(board), "new pods may come")
    assert (begun(board, "quiet"), phase(board, "quiet")) == (before, "Running")
    assert agent(board) == running
    (disk / "ballast").unlink()


def test_reserved_resources_are_not_allocatable(board):
    status = board.json("get", "node", "edge1")["status"]
    cores = int(status["capacity"]["cpu"])
    assert status["allocatable"]["cpu"] == f"{cores * 1000 - 100}m"
    put(board, {**pod("huge", STAY, resources={"requests": {"cpu": str(cores)}})})
    eventually(
        lambda: (
            "Insufficient cpu" in board.kubectl("get", "events", "--field-selector=involvedObject.name=huge")
        ),
        "the scheduler says why",
    )
    board.kubectl("delete", "pod", "huge")


def test_static_pods_and_their_mirrors(board):
    folder = board.options.data_dir / "agent" / "manifests"
    folder.mkdir(exist_ok=True)
    (folder / "bad.yaml").write_text("kind: [")
    (folder / "web.yaml").write_text(
        json.dumps(pod("static", ["sh", "-c", "echo from a file; exec sleep 3600"]))
    )
    name = "static-edge1"
    eventually(lambda: phase(board, name) == "Running", "the mirror runs")
    found = board.json("get", "pod", name)
    assert found["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert "from a file" in board.kubectl("logs", name)
    assert "root" in board.kubectl("exec", name, "--", "id")
    before = begun(board, name)
    board.kubectl("delete", "pod", name, "--wait=false")
    eventually(
        lambda: (
            board.json("get", "pod", name)["metadata"]["uid"] != found["metadata"]["uid"]
            if phase(board, name) == "Running"
            else False
        ),
        "the mirror is there again",
    )
    assert begun(board, name) == before
    assert "InvalidManifest" in board.kubectl("get", "events", "-A")
    (folder / "web.yaml").unlink()
    (folder / "bad.yaml").unlink()
    eventually(lambda: "NotFound" in phase(board, name), "the mirror is gone")


def test_a_killed_podman_harms_no_pod(board):
    put(board, pod("steady", STAY))
    board.kubectl("wait", "--for=condition=Ready", "pod/steady", "--timeout=50s")
    before = begun(board, "steady")
    old = board.pid_of("system service --time=0")
    os.kill(old, signal.SIGKILL)
    put(board, pod("fresh", STAY))
    eventually(lambda: phase(board, "fresh") == "Running", "a new pod runs")
    assert board.pid_of("system service --time=0") not in (0, old)
    assert (begun(board, "steady"), phase(board, "steady")) == (before, "Running")
    assert conditions(board)["Ready"]["status"] == "True"
    board.kubectl("delete", "pod", "steady", "fresh", "--wait=false")


def agent(board):
    return board.pid_of("edgekube.cli.main agent")


def test_a_stopped_agent_leaves_pods_running_and_a_shutdown_ends_them(board):
    put(board, pod("calm", STAY))
    board.kubectl("wait", "--for=condition=Ready", "pod/calm", "--timeout=50s")
    before = begun(board, "calm")
    old = agent(board)
    os.kill(old, signal.SIGTERM)
    eventually(lambda: agent(board) not in (0, old), "the agent is started again")
    eventually(lambda: conditions(board)["Ready"]["status"] == "True", "the node is ready")
    assert (begun(board, "calm"), phase(board, "calm")) == (before, "Running")
    # What an init system without systemd does when the machine goes down.
    board.inside("touch", f"{RUN_DIR}/shutdown")
    old = agent(board)
    os.kill(old, signal.SIGTERM)
    eventually(lambda: phase(board, "calm") == "Failed", "the pod is ended")
    status = board.json("get", "pod", "calm")["status"]
    assert status["reason"] == "Terminated"
    assert status["message"] == "Pod was terminated in response to imminent node shutdown."
    eventually(lambda: agent(board) not in (0, old), "the agent is started again")
    eventually(lambda: conditions(board)["Ready"]["status"] == "True", "the node is ready")
    assert "No such file" in board.inside("ls", f"{RUN_DIR}/shutdown").stderr
