"""A pod's life on real podman, seen through kubectl: visitors, resizes, and what only a kernel can show."""

import json
import subprocess
from pathlib import Path

import pytest

from e2e.harness import IMAGE, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


def pod(name, spec, **container):
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": SLEEP, **container}
    tree = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [main], **spec},
    }
    return json.dumps(tree)


def ready(k, name):
    k("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def status_of(k, name):
    return json.loads(k("get", "pod", name, "-o", "json"))["status"]


def test_debug_sees_the_processes_of_its_target(cluster, k, space):
    k("apply", "-f", "-", stdin=pod("web", {}, command=["sh", "-c", "exec sleep 4242"]))
    ready(k, "web")
    words = ["-n", space, "debug", "-i", "web", f"--image={IMAGE}", "--image-pull-policy=IfNotPresent"]
    more = ["--target=main", "-c", "visitor", "--profile=general", "--", "sh", "-c"]
    script = "ps; read line; echo got $line; exit 3"
    with cluster.popen(
        *words, *more, script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shell:
        eventually(
            lambda: [
                s
                for s in status_of(k, "web").get("ephemeralContainerStatuses", ())
                if "running" in s["state"]
            ],
            "the visitor runs",
        )
        out, err = shell.communicate(b"hello\n", timeout=60)
    assert b"got hello" in out, err
    assert "sleep 4242" in k("logs", "web", "-c", "visitor")
    (visitor,) = eventually(
        lambda: [s for s in status_of(k, "web")["ephemeralContainerStatuses"] if "terminated" in s["state"]],
        "its end is told",
    )
    assert (visitor["name"], visitor["state"]["terminated"]["exitCode"], visitor["restartCount"]) == (
        "visitor",
        3,
        0,
    )
    assert status_of(k, "web")["containerStatuses"][0]["restartCount"] == 0
    k("delete", "pod", "web", "--wait=true")


def cgroup_value(identity, controller, v1, v2):
    """Return what the kernel says of a container's cgroup, wherever that is."""
    root = Path("/sys/fs/cgroup")
    unified = (root / "cgroup.controllers").exists()
    base, name = (root, v2) if unified else (root / controller, v1)
    (found,) = base.glob(f"**/libpod-{identity}/{name}")
    return found.read_text().strip()


def test_a_resize_reaches_the_kernel_and_nobody_is_restarted(k):
    small = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    large = {"requests": {"cpu": "150m", "memory": "48Mi"}, "limits": {"cpu": "400m", "memory": "96Mi"}}
    k("apply", "-f", "-", stdin=pod("web", {}, resources=small))
    ready(k, "web")
    before = status_of(k, "web")["containerStatuses"][0]
    assert before["resources"] == small
    patch = {"spec": {"containers": [{"name": "main", "resources": large}]}}
    k("patch", "pod", "web", "--subresource", "resize", "--patch", json.dumps(patch))
    after = eventually(
        lambda: (s := status_of(k, "web")["containerStatuses"][0]).get("resources") == large and s,
        "it has more",
    )
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    identity = after["containerID"].partition("://")[2]
    assert cgroup_value(identity, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert cgroup_value(identity, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "40000"
    huge = {
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "resources": {
                        **large,
                        "requests": {"cpu": "150m", "memory": "96Mi"},
                        "limits": {"cpu": "400m", "memory": "900Gi"},
                    },
                }
            ]
        }
    }
    huge["spec"]["containers"][0]["resources"]["requests"]["memory"] = "900Gi"
    k("patch", "pod", "web", "--subresource", "resize", "--patch", json.dumps(huge))
    pending = eventually(
        lambda: [c for c in status_of(k, "web")["conditions"] if c["type"] == "PodResizePending"],
        "it is refused",
    )
    assert pending[0]["reason"] == "Infeasible"
    assert "Node didn't have enough capacity: memory" in pending[0]["message"]
    k("delete", "pod", "web", "--wait=true")


def test_what_a_kernel_must_show(k):
    script = (
        "echo $FROM_FILE; ls /files/bin/busybox; id -G; grep CapEff /proc/self/status; ls -ld /scratch; "
        "cat /dev/shm/x /proc/self/oom_score_adj; touch /files/x || echo read only"
    )
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"fsGroup": 4242, "supplementalGroups": [77]},
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "files", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}},
        ],
        "initContainers": [
            {
                "name": "init", "image": IMAGE, "command": ["sh", "-c", "echo \"FROM_FILE='made before'\" > /scratch/env; dd if=/dev/zero of=/tmp/x bs=1024 count=2000; true"],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "tmp", "mountPath": "/tmp"}],
            },
            {"name": "side", "image": IMAGE, "restartPolicy": "Always", "command": SLEEP},
        ],
    }  # fmt: skip
    mounts = [
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "files", "mountPath": "/files"},
    ]
    env = [
        {
            "name": "FROM_FILE",
            "valueFrom": {"fileKeyRef": {"volumeName": "scratch", "path": "env", "key": "FROM_FILE"}},
        }
    ]
    main = {"volumeMounts": mounts, "env": env, "command": ["sh", "-c", script + "; ls -l /tmp/x"]}
    k("apply", "-f", "-", stdin=pod("probe", spec, **main))
    eventually(lambda: status_of(k, "probe").get("phase") in ("Succeeded", "Failed"), "it has ended")
    text = k("logs", "probe", "-c", "main")
    assert "made before" in text
    assert "/files/bin/busybox" in text
    assert "read only" in text
    groups = next(line for line in text.splitlines() if line.startswith("0") and "4242" in line).split()
    assert {"77", "4242"} <= set(groups)
    effective = int(next(line for line in text.splitlines() if line.startswith("CapEff")).split()[1], 16)
    net_raw, sys_admin = 1 << 13, 1 << 21
    assert effective & net_raw
    assert not effective & sys_admin
    size = int(next(line for line in text.splitlines() if line.endswith("/tmp/x")).split()[4])
    assert size <= 1 << 20, "a memory-backed volume holds no more than it may"
    assert "1000" in text.splitlines()
    status = status_of(k, "probe")
    sidecar = status["initContainerStatuses"][1]
    assert "terminated" in sidecar["state"], "a sidecar ends with its pod"
    k("delete", "pod", "probe", "--wait=true")


def test_containers_share_memory(k):
    other = {
        "name": "other",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
    }
    text = pod(
        "pair", {}, command=["sh", "-c", "trap 'exit 0' TERM; echo shared > /dev/shm/word; sleep 1000 & wait"]
    )
    tree = json.loads(text)
    tree["spec"]["containers"].append(other)
    k("apply", "-f", "-", stdin=json.dumps(tree))
    ready(k, "pair")
    assert k("exec", "pair", "-c", "other", "--", "cat", "/dev/shm/word").strip() == "shared"
    k("delete", "pod", "pair", "--wait=true")


def test_a_runtime_class_names_the_runtime(k, space):
    for name, handler in (("good", "crun"), ("bad", "nosuch")):
        tree = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": f"{space}-{name}"},
            "handler": handler,
        }
        k("apply", "-f", "-", stdin=json.dumps(tree))
    k("apply", "-f", "-", stdin=pod("good", {"runtimeClassName": f"{space}-good"}))
    k("apply", "-f", "-", stdin=pod("bad", {"runtimeClassName": f"{space}-bad"}))
    ready(k, "good")
    waiting = eventually(
        lambda: (
            (status_of(k, "bad").get("containerStatuses") or [{"state": {}}])[0]["state"]
            .get("waiting", {})
            .get("message")
        ),
        "the other is refused",
    )
    assert "nosuch" in waiting
    for name in ("good", "bad"):
        k("delete", "pod", name, "--wait=true")
        k("delete", "runtimeclass", f"{space}-{name}")
