"""The real kubectl, unmodified, against the written kubeconfig."""

import os
import pty
import re
import socket
import subprocess
import threading
import time

import pytest

from e2e.harness import BIN, eventually
from e2e.manifests import WEB, sleeper

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture
def web(cluster, space):
    cluster.kubectl("-n", space, "apply", "-f", "-", stdin=WEB)
    cluster.kubectl("-n", space, "rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    return lambda *words, **kwargs: cluster.kubectl("-n", space, *words, **kwargs)


def test_nodes_wide(cluster):
    out = cluster.kubectl("get", "nodes", "-o", "wide")
    header, row = out.splitlines()
    assert header.split()[:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert "edge1" in row and "Ready" in row and "10.50.0.2" in row and "podman://" in row


def test_apply_get_describe(cluster, space, web):
    everything = web("get", "all")
    assert re.search(r"deployment.apps/web +2/2 +2 +2", everything)
    assert len(re.findall(r"pod/web-\w+-\w+ +1/1 +Running", everything)) == 2
    assert "service/web" in everything and "replicaset.apps/web-" in everything
    assert "unchanged" in web("apply", "-f", "-", stdin=WEB)
    text = web("describe", "deployment", "web")
    assert re.search(r"Replicas: +2 desired \| 2 updated \| 2 total \| 2 available", text)
    assert "ScalingReplicaSet" in text
    name = web("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
    pod = web("describe", "pod", name)
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert reason in pod
    assert "Namespace:" in web("describe", "service", "web")
    assert "Capacity:" in cluster.kubectl("describe", "node", "edge1")


def test_service_answers_with_config_and_in_turn(cluster, space, web):
    address = cluster.json("-n", space, "get", "service", "web")["spec"]["clusterIP"]
    code = f"import urllib.request as u; print([u.urlopen('http://{address}/', timeout=5).read().decode() for _ in range(20)])"
    answers = eventually(lambda: cluster.inside("python3", "-c", code).stdout, "the Service answers")
    hosts = re.findall(r"hello from (\S+?)\\n", answers)
    assert {hosts.count(host) for host in set(hosts)} == {10}


def test_name_is_answered_inside_a_pod(cluster, space, web):
    line = web("exec", "deploy/web", "-c", "web", "--", "cat", "/etc/resolv.conf")
    assert f"search {space}.svc.cluster.local svc.cluster.local cluster.local" in line
    web("apply", "-f", "-", stdin=sleeper("client"))
    web("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    out = eventually(
        lambda: "hello from" in web("exec", "client", "--", "wget", "-qO-", "http://web/", check=False),
        "http://web answers",
    )
    assert out


def test_logs(cluster, space, web):
    assert "started" in web("logs", "deploy/web", "-c", "web")
    assert "oops" in web("logs", "deploy/web", "-c", "web", "--tail=5")
    stamped = web("logs", "deploy/web", "-c", "web", "--timestamps")
    assert re.search(r"^\d{4}-\d\d-\d\dT\S+ started$", stamped, re.MULTILINE)
    assert len(web("logs", "deploy/web", "-c", "web", "--tail=2").splitlines()) == 2
    web(
        "apply",
        "-f",
        "-",
        stdin=sleeper("talker", command="i=0; while :; do echo line $i; i=$((i+1)); sleep 0.2; done"),
    )
    web("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
    with cluster.popen("-n", space, "logs", "-f", "talker", stdout=subprocess.PIPE) as follow:
        lines = [follow.stdout.readline().decode().strip() for _ in range(10)]
        follow.terminate()
    first = int(lines[0].split()[1])
    assert lines == [f"line {first + i}" for i in range(10)]


def test_previous_log_and_back_off(cluster, space):
    cluster.kubectl(
        "-n", space, "apply", "-f", "-", stdin=sleeper("crash", command="date +%N; echo dying; exit 3")
    )
    eventually(
        lambda: "CrashLoopBackOff" in cluster.kubectl("-n", space, "get", "pod", "crash"), "it backs off"
    )
    assert "dying" in cluster.kubectl("-n", space, "logs", "crash", "--previous")
    state = cluster.json("-n", space, "get", "pod", "crash")["status"]["containerStatuses"][0]
    assert state["lastState"]["terminated"]["exitCode"] == 3
    assert state["restartCount"] >= 1


def test_exec(cluster, space, web):
    assert (
        web("exec", "deploy/web", "-c", "web", "--", "sh", "-c", "echo $password; cat /etc/web/greeting")
        == "open-sesame\nhello"
    )
    assert web("exec", "-i", "deploy/web", "-c", "web", "--", "cat", stdin="to and fro") == "to and fro"
    result = cluster.run(
        [str(BIN / "kubectl"), "-n", space, "exec", "deploy/web", "-c", "web", "--", "sh", "-c", "exit 7"]
    )
    assert result.returncode == 7


def test_exec_with_a_terminal(cluster, space, web):
    master, slave = pty.openpty()
    os.set_inheritable(slave, True)
    process = cluster.popen(
        "-n",
        space,
        "exec",
        "-it",
        "deploy/web",
        "-c",
        "web",
        "--",
        "sh",
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    seen = b""

    def expect(text: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + 20
        while text not in seen and time.monotonic() < deadline:
            seen += os.read(master, 4096)
        assert text in seen

    os.write(master, b"echo $((6*7))x; tty\n")
    expect(b"42x")
    expect(b"/dev/")
    os.write(master, b"exit 5\n")
    assert process.wait(20) == 5
    os.close(master)


def test_cp(cluster, space, web, tmp_path):
    name = web("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
    blob = os.urandom(3_000_000)
    (tmp_path / "up.bin").write_bytes(blob)
    web("cp", str(tmp_path / "up.bin"), f"{name}:/tmp/up.bin", "-c", "web")
    web("cp", f"{name}:/tmp/up.bin", str(tmp_path / "down.bin"), "-c", "web")
    assert (tmp_path / "down.bin").read_bytes() == blob


def test_port_forward(cluster, space, web):
    process = cluster.popen("-n", space, "port-forward", "service/web", ":80", stdout=subprocess.PIPE)
    try:
        port = int(re.search(rb":(\d+) ->", process.stdout.readline()).group(1))
        answers = []

        def ask() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                data = b""
                while chunk := connection.recv(4096):
                    data += chunk
            answers.append(data)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4
        assert all(b"hello from" in answer for answer in answers)
    finally:
        process.terminate()
        process.communicate()


def test_scale_and_label(cluster, space, web):
    web("scale", "deployment/web", "--replicas=3")
    web("wait", "--for=jsonpath={.status.readyReplicas}=3", "deployment/web", "--timeout=60s")
    web("scale", "deployment/web", "--replicas=1")
    eventually(lambda: len(web("get", "pods", "-o", "name").split()) == 1, "one pod is left")
    web("label", "deployment", "web", "tier=front")
    assert web("get", "deploy", "-l", "tier=front", "-o", "name").strip() == "deployment.apps/web"
    web("annotate", "deployment", "web", "note=x")
    web("label", "deployment", "web", "tier-")


def test_rollout(cluster, space, web):
    web("set", "env", "deployment/web", "COLOR=blue", "-c", "web")
    web("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    assert web("exec", "deploy/web", "-c", "web", "--", "sh", "-c", "echo $COLOR") == "blue\n"
    assert len(re.findall(r"^\d+ ", web("rollout", "history", "deployment/web"), re.MULTILINE)) == 2
    web("rollout", "undo", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    assert web("exec", "deploy/web", "-c", "web", "--", "sh", "-c", "echo $COLOR") == "\n"
    web("rollout", "restart", "deployment/web")
    web("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)


def test_set_image_that_is_missing_keeps_the_old_pods(cluster, space, web):
    web("set", "image", "deployment/web", "web=localhost/missing:1")
    web(
        "patch",
        "deployment",
        "web",
        "-p",
        '{"spec":{"template":{"spec":{"containers":[{"name":"web","imagePullPolicy":"Never"}]}}}}',
    )
    eventually(lambda: "ErrImageNeverPull" in web("get", "pods"), "the new pod says why")
    assert web("get", "deploy", "web", "-o", "jsonpath={.status.availableReplicas}") == "2"
    web("rollout", "undo", "deployment/web")


def test_edit(cluster, space, web, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/greeting: hello/greeting: servus/' \"$1\"\n")
    editor.chmod(0o755)
    result = subprocess.run(
        [str(BIN / "kubectl"), "-n", space, "edit", "configmap", "web"], env={**cluster.env, "KUBE_EDITOR": str(editor)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "edited" in result.stdout, result.stderr
    assert web("get", "cm", "web", "-o", "jsonpath={.data.greeting}") == "servus"
    eventually(
        lambda: web("exec", "deploy/web", "-c", "web", "--", "cat", "/etc/web/greeting") == "servus",
        "the volume follows",
    )


def test_explain_and_resources(cluster):
    text = cluster.kubectl("explain", "deployment.spec.strategy")
    assert "rollingUpdate" in text and "DeploymentStrategy" in text
    resources = cluster.kubectl("api-resources")
    for word in ("deployments", "pods", "endpointslices", "leases", "events"):
        assert word in resources


def test_events_and_wait_and_delete(cluster, space, web):
    assert "Scheduled" in web("get", "events")
    assert "Started" in web("events", "--types=Normal")
    web("delete", "deployment", "web", timeout=90)
    web("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=60s")
    assert web("get", "pods,rs", check=False).startswith("No resources found")


def test_bad_manifests_are_named(cluster, space):
    bad = sleeper("Bad_Name")
    out = cluster.kubectl("-n", space, "apply", "-f", "-", stdin=bad, check=False)
    assert 'The Pod "Bad_Name" is invalid: metadata.name: Invalid value' in out
    unknown = sleeper("typo", extra="    imagePullPolice: Never")
    out = cluster.kubectl("-n", space, "apply", "-f", "-", stdin=unknown, check=False)
    assert 'unknown field "spec.containers[0].imagePullPolice"' in out
    missing = cluster.kubectl("-n", space, "get", "pod", "nobody", check=False)
    assert missing.strip() == 'Error from server (NotFound): pods "nobody" not found'
