from pathlib import Path

import pytest

from edgekube.runtime.base import ContainerSpec, Device, Limits, Mount, Phase, Security
from edgekube.runtime.podman.translate import create_body, inspected, listed, seconds, signal_number

LOG = Path("/var/log/x")


def body(**changes):
    return create_body(ContainerSpec(name="n", image="i", log_path=LOG, **changes))


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        (None, None, {}),
        (("a",), None, {"entrypoint": ["a"]}),
        (("a",), ("b",), {"entrypoint": ["a"], "command": ["b"]}),
        (None, ("b",), {"command": ["b"]}),
        ((), (), {}),
    ],
)
def test_command_and_args_are_kubernetes(command, args, expected):
    made = body(command=command, args=args)
    assert {key: made[key] for key in ("entrypoint", "command") if key in made} == expected


def test_limits():
    limits = Limits(memory=64 << 20, cpu_shares=512, cpu_quota=50_000, pids=10, oom_score_adj=-997)
    made = body(limits=limits)
    assert made["resource_limits"] == {
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 10},
    }
    assert made["oom_score_adj"] == -997
    assert body()["resource_limits"] == {}


def test_security():
    security = Security(
        user="1:2",
        groups=(3, 4),
        read_only_root=True,
        no_new_privileges=True,
        cap_add=("NET_ADMIN",),
        cap_drop=("ALL",),
        seccomp="unconfined",
        sysctls={"net.ipv4.ip_forward": "1"},
        mask_proc=False,
    )
    made = body(security=security)
    assert made["user"] == "1:2"
    assert made["groups"] == ["3", "4"]
    assert made["cap_drop"] == ["ALL"]
    assert made["read_only_filesystem"] is made["no_new_privileges"] is True
    assert made["seccomp_profile_path"] == "unconfined"
    assert made["sysctl"] == {"net.ipv4.ip_forward": "1"}
    assert made["unmask"] == ["ALL"]
    assert "privileged" not in made
    assert body(security=Security(privileged=True))["privileged"] is True


def test_namespaces_mounts_and_devices():
    made = body(
        netns="/run/netns/p",
        pid_of="abc",
        ipc_of="host",
        mounts=(Mount(source="/a", target="/b", read_only=True, propagation="rslave"),),
        devices=(Device(source="/dev/x", target="/dev/y", permissions="r"),),
        stop_signal="SIGRTMIN+3",
    )
    assert made["netns"] == {"nsmode": "path", "value": "/run/netns/p"}
    assert made["pidns"] == {"nsmode": "container", "value": "abc"}
    assert made["ipcns"] == {"nsmode": "host"}
    assert made["mounts"] == [
        {"type": "bind", "source": "/a", "destination": "/b", "options": ["rbind", "ro", "rslave"]}
    ]
    assert made["devices"] == [{"path": "/dev/x:/dev/y:r"}]
    assert made["stop_signal"] == 37
    assert body()["netns"] == {"nsmode": "host"}
    assert "pidns" not in body()


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("TERM", 15), ("9", 9), ("sigint", 2)])
def test_signals(name, number):
    assert signal_number(name) == number


def test_unknown_signals_are_refused():
    with pytest.raises(ValueError, match="SIGNOPE"):
        signal_number("SIGNOPE")


def test_times():
    assert seconds("0001-01-01T00:00:00Z") == 0.0
    assert seconds("2026-11-23T05:01:43.421046446Z") == 1795410103.421046
    assert seconds("2026-11-23T06:01:43.5+01:00") == 1795410103.5
    assert seconds(-62135596800) == 0.0


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("configured", Phase.CREATED),
        ("stopping", Phase.RUNNING),
        ("stopped", Phase.EXITED),
        ("paused", Phase.PAUSED),
        ("novel", Phase.UNKNOWN),
    ],
)
def test_states(state, phase):
    common = {"Id": "1", "Created": "2026-11-23T05:01:43Z", "Image": "i"}
    row = common | {
        "Names": ["n"], "ImageID": "2", "State": state, "Labels": None, "Pid": 0, "StartedAt": 5,
        "ExitedAt": 6, "Exited": phase is Phase.EXITED, "ExitCode": 3,
    }  # fmt: skip
    tree = common | {
        "Name": "n",
        "ImageName": "i",
        "Image": "2",
        "Config": {"Labels": None},
        "State": {
            "Status": state, "Pid": 0, "ExitCode": 3, "OOMKilled": False, "Error": "",
            "StartedAt": "1970-01-01T00:00:05.7Z", "FinishedAt": "1970-01-01T00:00:06.9Z",
        },
    }  # fmt: skip
    info = listed(row, oom_killed=False)
    assert info == inspected(tree, oom_killed=False)
    assert (info.phase, info.exit_code) == (phase, 3 if phase is Phase.EXITED else 0)
