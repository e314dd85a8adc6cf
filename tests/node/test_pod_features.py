"""What a pod may ask of its node, feature by feature: small pods on the in-memory adapters, in virtual time."""

import asyncio

import msgspec
import pytest

from edgekube.node.env.envfile import BadEnvFile, parse
from edgekube.node.pod.limits import limits_of
from edgekube.node.pod.sysctls import forbidden
from edgekube.node.reference import flaw

pytestmark = pytest.mark.looptime


def spec_of(rig, name="main"):
    """Return what the runtime was asked to make of a container last."""
    found = [
        c for c in rig.machine.containers.values() if c.info.labels["edgekube.io/container-name"] == name
    ]
    return max(found, key=lambda c: c.info.created_at).spec


async def running(rig, pod):
    rig.start()
    rig.put(pod)
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Running")


async def waiting(rig, pod, reason):
    """Run until the container waits for that reason; return what it says."""
    rig.start()
    rig.put(pod)

    def state():
        return rig.notes.last().container_statuses[0].state.waiting if rig.notes.statuses else None

    await rig.until(lambda: state() and state().reason == reason)
    return state().message


# --- Containers and their order ---------------------------------------------------------------


async def test_sidecars_start_in_order_and_end_in_reverse(rig, pod_of):
    sidecars = [{"name": f"side-{n}", "restartPolicy": "Always", "image": "fake/slow"} for n in (1, 2)]
    plain = {"name": "init", "image": "fake/exit:0"}
    pod = pod_of({"initContainers": [sidecars[0], plain, sidecars[1]]})
    await running(rig, pod)
    begun = {i.labels["edgekube.io/container-name"]: i.id for i in rig.containers()}
    assert sorted(begun, key=begun.get) == ["side-1", "init", "side-2", "main"]
    ended = []
    rig.machine.subscribe()
    queue = rig.machine.subscribe()
    rig.delete(pod)
    await rig.until(lambda: rig.notes.gone)
    while not queue.empty():
        event = queue.get_nowait()
        if event.action == "died":
            ended.append(event.labels["edgekube.io/container-name"])
    assert ended == ["main", "side-2", "side-1"]


async def test_stubborn_containers_and_their_sidecars_share_one_grace(rig, pod_of):
    sidecars = [{"name": f"side-{n}", "restartPolicy": "Always", "image": "fake/stubborn"} for n in (1, 2)]
    pod = pod_of({"initContainers": sidecars, "containers": [{"name": "main", "image": "fake/stubborn"}]})
    await running(rig, pod)
    begun = rig.now()
    rig.delete(pod, grace=20)
    await rig.until(lambda: rig.notes.gone, seconds=90)
    assert 20 <= rig.now() - begun < 25


@pytest.mark.parametrize(
    ("policy", "rules", "image", "restarts"),
    [
        (
            "Never",
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
            "fake/exit:42",
            True,
        ),
        (
            "Never",
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
            "fake/exit:1",
            False,
        ),
        (
            "Never",
            [{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [42]}}],
            "fake/exit:1",
            True,
        ),
        ("OnFailure", [], "fake/exit:1", True),
        ("OnFailure", [], "fake/exit:0", False),
        ("Never", [], "fake/exit:1", False),
    ],
)
async def test_a_container_may_have_a_restart_policy_of_its_own(rig, pod_of, policy, rules, image, restarts):
    own = {"name": "own", "image": image, "restartPolicy": policy, "restartPolicyRules": rules}
    pod_policy = "Always" if policy == "Never" and not restarts else "Never"
    await running(rig, pod_of({"restartPolicy": pod_policy, "containers": [own, {"name": "main"}]}))
    await asyncio.sleep(60)
    count = max(s.restart_count for s in rig.notes.last().container_statuses if s.name == "own")
    assert (count > 0) is restarts
    assert rig.notes.last().phase == "Running"


async def test_the_deadline(rig, pod_of):
    await running(rig, pod_of({"activeDeadlineSeconds": 30}))
    await rig.until(lambda: rig.notes.last().phase == "Failed", seconds=40)
    status = rig.notes.last()
    text = "Pod was active on the node longer than the specified deadline"
    assert (status.reason, status.message) == ("DeadlineExceeded", text)
    assert [e.message for e in rig.notes.events if e.reason == "DeadlineExceeded"] == [text]


async def test_readiness_is_asked_while_a_pod_ends(rig, pod_of):
    script = "trap 'sleep 20; exit 0' TERM; sleep infinity"
    main = {
        "name": "main", "command": ["sh", "-c", script],
        "readinessProbe": {"exec": {"command": ["cat", "/flag/up"]}, "periodSeconds": 1, "failureThreshold": 1},
        "volumeMounts": [{"name": "flag", "mountPath": "/flag"}],
    }  # fmt: skip
    pod = pod_of({"containers": [main], "volumes": [{"name": "flag", "emptyDir": {}}]})
    await running(rig, pod)
    flag = rig.folder / "pods/default_web_uid-web/.volumes/flag/up"
    flag.touch()
    await rig.until(lambda: rig.notes.last().container_statuses[0].ready)
    rig.delete(pod, grace=60)
    await asyncio.sleep(3)
    assert rig.notes.last().container_statuses[0].ready
    flag.unlink()
    await asyncio.sleep(3)
    assert not rig.notes.last().container_statuses[0].ready
    assert rig.notes.last().container_statuses[0].state.running


async def test_a_stop_signal_of_ones_own(rig, pod_of):
    main = {
        "name": "main", "command": ["sh", "-c", "trap 'exit 5' USR1; sleep infinity"], "lifecycle": {"stopSignal": "SIGUSR1"},
    }  # fmt: skip
    pod = pod_of({"containers": [main], "restartPolicy": "Never", "os": {"name": "linux"}})
    await running(rig, pod)
    assert rig.notes.last().container_statuses[0].stop_signal == "SIGUSR1"
    rig.delete(pod)
    await rig.until(lambda: rig.notes.gone)
    assert rig.notes.last().container_statuses[0].state.terminated.exit_code == 5


@pytest.mark.parametrize(
    ("policy", "command", "wanted"),
    [
        ("File", "echo no; exit 1", ""),
        ("FallbackToLogsOnError", "echo last words; exit 1", "last words\n"),
        ("FallbackToLogsOnError", "echo fine; exit 0", ""),
    ],
)
async def test_termination_messages(rig, pod_of, policy, command, wanted):
    main = {"name": "main", "command": ["sh", "-c", command], "terminationMessagePolicy": policy}
    rig.start()
    rig.put(pod_of({"containers": [main], "restartPolicy": "Never"}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase in ("Failed", "Succeeded"))
    assert rig.notes.last().container_statuses[0].state.terminated.message == wanted


# --- What a node refuses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sysctl", "more", "message"),
    [
        ("net.ipv4.tcp_syncookies", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("kernel.msgmax", {}, 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled'),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, 'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled'),
    ],
)  # fmt: skip
def test_sysctls(pod_of, sysctl, more, message):
    context = {"sysctls": [{"name": sysctl, "value": "1"}]}
    assert forbidden(pod_of({"securityContext": context, **more})) == message


async def test_a_pod_with_an_unsafe_sysctl_is_refused(rig, pod_of):
    context = {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}
    rig.start()
    rig.put(pod_of({"securityContext": context}))
    await rig.until(lambda: rig.notes.statuses and rig.notes.last().phase == "Failed")
    assert rig.notes.last().reason == "SysctlForbidden"
    assert rig.containers() == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hostUsers": False}, "the runtime does not support user namespaces (spec.hostUsers is false)"),
        (
            {"containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(NOPE)"}]}]},
            'missing value for "NOPE"',
        ),
        (
            {"containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}]}]},
            'volume mount "v": recursive read-only mounts are not supported by the runtime',
        ),
        (
            {"containers": [{"name": "main", "env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "A"}}}]}]},
            'couldn\'t find file "env" in volume "v"',
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_configured(rig, pod_of, spec, message):
    pod = pod_of({"volumes": [{"name": "v", "emptyDir": {}}], **spec})
    assert await waiting(rig, pod, "CreateContainerConfigError") == message
    assert any(e.message == f"Error: {message}" for e in rig.notes.events if e.reason == "Failed")


# --- Environment and volumes -----------------------------------------------------------------


async def test_variables_from_a_file_that_an_init_container_wrote(rig, pod_of):
    async def write(process, words, channel):
        source, _ = process.surroundings.mounts["/work"]
        (source / "env").write_text("# made\nA='one\ntwo'\nB='three'\n")
        return 0

    rig.machine.programs["write"] = write
    init = {"name": "init", "command": ["write"], "volumeMounts": [{"name": "v", "mountPath": "/work"}]}
    env = [
        {
            "name": name,
            "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": key, "optional": True}},
        }
        for name, key in (("X", "A"), ("Y", "B"), ("Z", "C"))
    ]
    spec = {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "initContainers": [init],
        "containers": [{"name": "main", "env": env}],
    }
    await running(rig, pod_of(spec))
    found = spec_of(rig).env
    assert (found["X"], found["Y"], "Z" in found) == ("one\ntwo", "three", False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A=1\n\n# no\nB='a=b'\n", {"A": "1", "B": "a=b"}),
        ("A='1'\nA='2'", {"A": "2"}),
        ("A='it\n\nis'\nB=x", {"A": "it\n\nis", "B": "x"}),
        ("", {}),
    ],
)
def test_env_files(text, wanted):
    assert parse(text) == wanted


@pytest.mark.parametrize("text", ["nothing", "=x", "1A=x", "A='x", "A='x'y"])
def test_bad_env_files(text):
    with pytest.raises(BadEnvFile):
        parse(text)


async def test_an_image_as_a_volume(rig, pod_of):
    spec = {
        "volumes": [{"name": "v", "image": {"reference": "fake/files:1", "pullPolicy": "IfNotPresent"}}],
        "containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    }
    await running(rig, pod_of(spec))
    (mount,) = [m for m in spec_of(rig).mounts if m.target == "/v"]
    assert (mount.source, mount.image, mount.read_only) == ("fake/files:1", True, True)
    assert "fake/files:1" in rig.machine.pulls


async def test_an_image_volume_that_cannot_be_had(rig, pod_of):
    spec = {
        "volumes": [{"name": "v", "image": {"reference": "127.0.0.1:1/files", "pullPolicy": "Always"}}],
        "containers": [{"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
    }
    assert "connection refused" in await waiting(rig, pod_of(spec), "ErrImagePull")


# --- Images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "reason", "event", "message"),
    [
        ("127.0.0.1:1/x", "ErrImagePull", "Failed", 'Failed to pull image "127.0.0.1:1/x": 127.0.0.1:1/x: connection refused'),
        (
            "Fake/Upper", "InvalidImageName", "InspectFailed",
            'Failed to apply default image tag "Fake/Upper": couldn\'t parse image name "Fake/Upper": invalid reference format: repository name (Fake/Upper) must be lowercase',
        ),
        ("fake/x", "ErrImageNeverPull", "ErrImageNeverPull", 'Container image "fake/x" is not present with pull policy of Never'),
    ],
)  # fmt: skip
async def test_images_in_words(rig, pod_of, image, reason, event, message):
    policy = "Never" if reason == "ErrImageNeverPull" else "Always"
    pod = pod_of({"containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]})
    await waiting(rig, pod, reason)
    told = [
        (e.type, e.reason, e.message) for e in rig.notes.events if e.reason not in ("Pulling", "Scheduled")
    ]
    assert told == [("Warning", event, message), ("Warning", "Failed", f"Error: {reason}")]


async def test_pulls_in_words(rig, pod_of):
    main = {"name": "main", "image": "127.0.0.1:1/x"}
    assert "connection refused" in await waiting(rig, pod_of({"containers": [main]}), "ErrImagePull")
    await asyncio.sleep(5)
    told = {(e.type, e.reason, e.message) for e in rig.notes.events}
    assert ("Normal", "BackOff", 'Back-off pulling image "127.0.0.1:1/x"') in told
    assert ("Warning", "Failed", "Error: ImagePullBackOff") in told
    waits = rig.notes.last().container_statuses[0].state.waiting
    assert waits.message.startswith('Back-off pulling image "127.0.0.1:1/x": ErrImagePull: ')
    del rig.machine.pull_errors["127.0.0.1:1"]
    await rig.until(lambda: "Pulled" in rig.notes.reasons(), seconds=60)
    pulled = next(e.message for e in rig.notes.events if e.reason == "Pulled")
    assert (
        pulled
        == 'Successfully pulled image "127.0.0.1:1/x" in 0ms (0ms including waiting). Image size: 1048576 bytes.'
    )


@pytest.mark.parametrize(
    ("image", "good"),
    [
        ("busybox", True), ("busybox:1.36", True), ("localhost/x", True), ("registry.lan:5000/a/b_c/d-e:v1.2", True),
        (f"x@sha256:{'0' * 64}", True), (f"r.io/x:1@sha256:{'0' * 64}", True), ("Host.Lan/x", True),
        ("x:", False), ("X", False), ("a//b", False), ("a b", False), ("", False), ("x:-1", False), ("-x", False),
        (f"{'a' * 256}", False),
    ],
)  # fmt: skip
def test_image_names(image, good):
    assert (flaw(image) == "") is good


# --- Security ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "general", "wanted"),
    [
        ({}, {}, {"seccomp": "unconfined", "user": "", "groups": ()}),
        ({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}, {}, {"seccomp": "{data}/seccomp/a/b.json"}),
        ({}, {"seccompProfile": {"type": "RuntimeDefault"}}, {"seccomp": ""}),
        ({"seccompProfile": {"type": "Unconfined"}}, {"seccompProfile": {"type": "RuntimeDefault"}}, {"seccomp": "unconfined"}),
        ({}, {"supplementalGroups": [4, 5], "fsGroup": 6}, {"groups": (4, 5, 6)}),
        ({}, {"runAsUser": 7, "supplementalGroups": [4], "supplementalGroupsPolicy": "Strict"}, {"user": "7:0", "groups": (4,)}),
        ({}, {"runAsUser": 7, "runAsGroup": 8, "supplementalGroupsPolicy": "Strict"}, {"user": "7:8"}),
        ({"procMount": "Unmasked"}, {}, {"mask_proc": False}),
        ({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}, {}, {"cap_add": ("NET_ADMIN",), "cap_drop": ("ALL",)}),
        ({"privileged": True}, {}, {"privileged": True}),
        ({"readOnlyRootFilesystem": True}, {}, {"read_only_root": True}),
        ({"allowPrivilegeEscalation": False}, {}, {"no_new_privileges": True}),
        ({"appArmorProfile": {"type": "Localhost", "localhostProfile": "strict"}}, {}, {"apparmor": "strict"}),
        ({}, {"appArmorProfile": {"type": "Unconfined"}}, {"apparmor": "unconfined"}),
    ],
)  # fmt: skip
async def test_security(rig, pod_of, own, general, wanted):
    main = {"name": "main", "securityContext": own}
    await running(rig, pod_of({"securityContext": general, "containers": [main]}))
    security = spec_of(rig).security
    for name, value in wanted.items():
        text = value.format(data=rig.folder) if isinstance(value, str) else value
        assert getattr(security, name) == text, name


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"hostPID": True}, {"pid_of": "host"}),
        ({"hostIPC": True}, {"ipc_of": "host"}),
        ({"hostNetwork": True}, {"netns": "", "hostname": ""}),
    ],
)
async def test_namespaces_of_the_node(rig, pod_of, spec, wanted):
    await running(rig, pod_of(spec))
    assert {name: getattr(spec_of(rig), name) for name in wanted} == wanted


async def test_shared_processes(rig, pod_of):
    await running(
        rig, pod_of({"shareProcessNamespace": True, "containers": [{"name": "one"}, {"name": "two"}]})
    )
    first = rig.containers(name="one")[0]
    assert spec_of(rig, "one").pid_of == ""
    assert spec_of(rig, "two").pid_of == first.id


def test_out_of_memory_scores(pod_of):
    small = {"requests": {"memory": "1Gi"}}
    spec = {
        "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}],
        "containers": [{"name": "main", "resources": small}],
    }
    pod = pod_of(spec)
    scores = {
        c.name: limits_of(pod, c, node_memory=4 << 30).oom_score_adj
        for c in (*pod.spec.init_containers, *pod.spec.containers)
    }
    assert scores == {"side": 750, "init": 999, "main": 750}
    critical = msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, priority=2_000_001_000))
    assert limits_of(critical, pod.spec.containers[0], node_memory=4 << 30).oom_score_adj == -997
