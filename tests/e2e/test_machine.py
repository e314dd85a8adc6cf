"""`edgekube up` and `down`, and what they leave behind."""

import subprocess
from pathlib import Path

import pytest

from e2e.harness import BIN, eventually, start
from edgekube.app import demo, sandbox
from edgekube.app.up import UpError, down, listen, up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def footprint(name):
    """What a cluster could leave on the host."""

    def lines(*command):
        return sorted(
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        )

    def command_line(entry):
        try:
            return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""

    def ours(found):
        """Leave out the namespaces of other test runs."""
        return [line for line in found if "ekt-" not in line]

    processes = [
        line
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and name in (line := command_line(entry))
    ]
    return {
        "netns": ours(lines("ip", "netns")),
        "links": lines("ip", "-o", "link"),
        "mounts": ours(sorted(Path("/proc/self/mounts").read_text().splitlines())),
        "tables": lines("nft", "list", "tables"),
        "containers": lines("podman", "ps", "-a", "-q"),
        "cgroups": sorted(str(p) for p in Path("/sys/fs/cgroup").glob(f"**/{name}*")),
        "processes": sorted(processes),
    }


def test_up_demo_up_again_and_down_without_a_trace(tmp_path):
    before = footprint("ek-trace")
    cluster = start(tmp_path, name="ek-trace", port=16446)
    try:
        assert "Hello from demo-" in demo.run(cluster.options, print)
        pids = cluster.pid_of("edgekube.cli.main server"), cluster.pid_of("edgekube.cli.main agent")
        up(cluster.options, print)
        assert (cluster.pid_of("edgekube.cli.main server"), cluster.pid_of("edgekube.cli.main agent")) == pids
        # Nothing but cgroups and processes shows outside even while it runs.
        during = footprint("ek-trace")
        for what in ("netns", "links", "mounts", "tables", "containers"):
            assert during[what] == before[what], what
    finally:
        down(cluster.options, print)
    assert footprint("ek-trace") == before
    down(cluster.options, print)
    # What was stored is there again after the next start.
    up(cluster.options, print)
    try:
        assert "demo" in cluster.kubectl("get", "deployments", "-o", "name")
        assert "Hello from demo-" in demo.run(cluster.options, print)
    finally:
        down(cluster.options, print)
    assert footprint("ek-trace") == before


def test_taken_port_is_named():
    with (
        listen(16447),
        pytest.raises(UpError, match=r"127\.0\.0\.1:16447: Address already in use; see who has it: ss -ltnp"),
    ):
        listen(16447)


def test_the_agent_holds_no_connection_but_the_brokers(cluster):
    pid = cluster.pid_of("edgekube.cli.main agent")
    inner = next(
        line.split()[-1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("NSpid")
    )
    out = eventually(
        lambda: cluster.inside("ss", "-Htnp", "state", "established").stdout, "there are connections"
    )
    mine = [line for line in out.splitlines() if f"pid={inner}," in line]
    assert len(mine) == 1, out
    assert mine[0].split()[3].endswith(":8883")


def test_the_wire_is_msgpack_and_a_node_reads_only_its_own(cluster, space):
    tls = cluster.options.data_dir / "agent" / "tls"
    command = [
        "mosquitto_sub", "-h", cluster.options.node_address, "-p", "8883", "-V", "5", "-q", "1", "-i", "spy",
        "--cafile", str(tls / "ca.crt"), "--cert", str(tls / "node.crt"), "--key", str(tls / "node.key"),
        "-t", "ek/#", "-F", "%t %x", "-W", "8",
    ]  # fmt: skip
    handle = sandbox.find(cluster.options.run_dir, cluster.options.name)
    spy = subprocess.Popen(sandbox.enter(handle, command), stdout=subprocess.PIPE, text=True)
    eventually(lambda: cluster.pid_of("mosquitto_sub"), "the spy listens")
    for number in range(20):
        cluster.kubectl("-n", space, "create", "service", "clusterip", f"svc-{number}", "--tcp=80:80")
    lines = spy.communicate(timeout=30)[0].splitlines()
    import msgspec  # noqa: PLC0415 - this test only

    topics = {line.split()[0] for line in lines}
    assert topics
    prefix = f"ek/{cluster.options.name}/"
    assert all(topic.startswith((f"{prefix}all/", f"{prefix}n/edge1/")) for topic in topics), topics
    for line in lines:
        version, _epoch, _seq, _kind, _body = msgspec.msgpack.decode(bytes.fromhex(line.split()[1]))
        assert version == 1


def test_a_snapshot_brings_a_lost_state_back(tmp_path):
    cluster = start(tmp_path, name="ek-snap", port=16449)
    options = cluster.options
    try:
        cluster.kubectl("create", "configmap", "kept", "--from-literal=a=1")
        assert "saved" in cluster.edgekube("snapshot", "save", str(tmp_path / "backup")).stdout
        cluster.kubectl("delete", "configmap", "kept")
        down(options, print)
        folder = str(options.data_dir / "server")
        result = cluster.edgekube("snapshot", "restore", str(tmp_path / "backup"), "--data-dir", folder)
        assert "restored" in result.stdout, result.stderr
        up(options, print)
        assert cluster.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "1"
    finally:
        down(options, print)


def test_cli(cluster, space):
    from e2e.manifests import WEB, sleeper  # noqa: PLC0415

    def edgekube(*words, stdin=""):
        result = cluster.edgekube(*words, "-n", space, stdin=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert "deployment.apps/web created" in edgekube("apply", "-f", "-", stdin=WEB)
    assert "successfully rolled out" in edgekube("rollout", "status", "deployment/web")
    assert "deployment.apps/web unchanged" in edgekube("apply", "-f", "-", stdin=WEB)
    assert edgekube("get", "deploy").split()[:2] == ["NAME", "READY"]
    assert "edge1" in edgekube("get", "pods", "-o", "wide")
    assert edgekube("get", "svc", "web", "-o", "name") == "service/web\n"
    assert "kind: Deployment" in edgekube("get", "deploy/web", "-o", "yaml")
    assert "ScalingReplicaSet" in edgekube("describe", "deployment", "web")
    assert "started" in edgekube("logs", "deployment/web", "-c", "web")
    assert "scaled" in edgekube("scale", "deployment/web", "--replicas=1")
    edgekube("apply", "-f", "-", stdin=sleeper("box"))
    cluster.kubectl("-n", space, "wait", "--for=condition=Ready", "pod/box", "--timeout=60s")
    code = cluster.run(
        [str(BIN / "edgekube"), "exec", "-n", space, "box", "--", "sh", "-c", "echo out; exit 4"]
    )
    assert (code.stdout, code.returncode) == ("out\n", 4)
    eventually(lambda: "box" in cluster.edgekube("top", "pods", "-n", space).stdout, "there are metrics")
    assert "deleted" in edgekube("delete", "deployment/web", "pod/box")
    assert "server   v1.37" in cluster.edgekube("version").stdout
    wrong = cluster.edgekube("get", "gizmos")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "error: the server doesn't have a resource type 'gizmos'\n",
    )
    assert cluster.edgekube("kubeconfig", "--data-dir", str(cluster.options.data_dir)).stdout.startswith(
        "apiVersion: v1"
    )
    token = cluster.edgekube("token", "create").stdout.strip()
    assert token.startswith("edge1::")
    assert token.split("::")[2].split(".")[0] in cluster.edgekube("token", "list").stdout
