"""A ContainerSpec in podman's words (libpod's SpecGenerator), and podman's answers in ours. Pure."""

import re
import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from edgekube.runtime.base import (
    ContainerInfo,
    ContainerSpec,
    ImageInfo,
    Limits,
    Mount,
    Phase,
    Security,
)

Tree = dict[str, Any]

PHASES: Mapping[str, Phase] = {
    "created": Phase.CREATED,
    "configured": Phase.CREATED,
    "initialized": Phase.CREATED,
    "running": Phase.RUNNING,
    "stopping": Phase.RUNNING,
    "paused": Phase.PAUSED,
    "exited": Phase.EXITED,
    "stopped": Phase.EXITED,
    "removing": Phase.EXITED,
}
PROPAGATIONS = {"private": "rprivate", "rslave": "rslave", "rshared": "rshared"}


def create_body(spec: ContainerSpec) -> Tree:
    """Return the body of POST /containers/create."""
    body: Tree = {
        "name": spec.name,
        "image": spec.image,
        "env": dict(spec.env),
        "labels": dict(spec.labels),
        "mounts": [_mount(mount) for mount in spec.mounts if not mount.image],
        "image_volumes": [{"source": m.source, "destination": m.target} for m in spec.mounts if m.image],
        "devices": [{"path": f"{d.source}:{d.target}:{d.permissions}"} for d in spec.devices],
        "stdin": spec.stdin,
        "terminal": spec.tty,
        "netns": {"nsmode": "path", "value": spec.netns} if spec.netns else {"nsmode": "host"},
        "log_configuration": {"driver": "k8s-file", "path": str(spec.log_path)},
        # Kubernetes has probes of its own, and no containers that run systemd by surprise.
        "healthconfig": {"Test": ["NONE"]},
        "systemd": "false",
        "httpproxy": False,
        "resource_limits": _limits(spec.limits),
        **_process(spec),
        **_security(spec.security),
    }
    optional: Tree = {
        "work_dir": spec.working_dir,
        "hostname": spec.hostname,
        "cgroup_parent": spec.cgroup_parent,
        "pidns": _namespace(spec.pid_of),
        "ipcns": _namespace(spec.ipc_of),
        "stop_signal": signal_number(spec.stop_signal) if spec.stop_signal else 0,
        "oom_score_adj": spec.limits.oom_score_adj,
    }
    return body | {key: value for key, value in optional.items() if value}


def update_body(limits: Limits) -> Tree:
    """Return the body of POST /containers/{id}/update (the runtime spec's LinuxResources)."""
    return _limits(limits)


def signal_number(name: str) -> int:
    """Return the number of "SIGTERM", "TERM", "15" or "SIGRTMIN+3"; raises ValueError."""
    if name.isdigit():
        return int(name)
    base, _, offset = name.upper().removeprefix("SIG").partition("+")
    try:
        return signal.Signals[f"SIG{base}"].value + int(offset or 0)
    except KeyError as error:
        raise ValueError(f"unknown signal {name}") from error


def listed(item: Tree, *, oom_killed: bool) -> ContainerInfo:
    """Return a container of GET /containers/json."""
    return ContainerInfo(
        id=item["Id"],
        name=item["Names"][0],
        image=item["Image"],
        image_id=item["ImageID"],
        phase=PHASES.get(item["State"], Phase.UNKNOWN),
        labels=item["Labels"] or {},
        pid=item["Pid"],
        created_at=seconds(item["Created"]),
        started_at=seconds(item["StartedAt"]),
        finished_at=seconds(item["ExitedAt"]) if item["Exited"] else 0.0,
        exit_code=item["ExitCode"] if item["Exited"] else 0,
        oom_killed=oom_killed,
    )


def inspected(item: Tree, *, oom_killed: bool) -> ContainerInfo:
    """Return the container of GET /containers/{id}/json."""
    state = item["State"]
    phase = PHASES.get(state["Status"], Phase.UNKNOWN)
    over = phase is Phase.EXITED
    return ContainerInfo(
        id=item["Id"],
        name=item["Name"],
        image=item["ImageName"],
        image_id=item["Image"],
        phase=phase,
        labels=item["Config"]["Labels"] or {},
        pid=state["Pid"],
        created_at=seconds(item["Created"]),
        # Whole seconds, as the list tells them: the two must not differ.
        started_at=float(int(seconds(state["StartedAt"]))),
        finished_at=float(int(seconds(state["FinishedAt"]))) if over else 0.0,
        exit_code=state["ExitCode"] if over else 0,
        oom_killed=oom_killed or bool(state["OOMKilled"]),
        error=state["Error"] or "",
    )


def image(item: Tree) -> ImageInfo:
    """Return an image of GET /images/json or /images/{name}/json (the list knows no user)."""
    names = item.get("RepoTags") or item.get("Names") or item.get("NamesHistory") or ()
    return ImageInfo(
        id=item["Id"].removeprefix("sha256:"),
        names=tuple(names),
        digests=tuple(item.get("RepoDigests") or ()),
        size=item["Size"],
        user=item.get("User") or (item.get("Config") or {}).get("User") or "",
    )


def seconds(moment: str | float) -> float:
    """Return epoch seconds; Go's zero time (year 1) is 0. RFC 3339 nanoseconds lose their last three digits."""
    if not isinstance(moment, str):
        return max(0.0, float(moment))
    if moment.startswith("0001"):
        return 0.0
    text = re.sub(r"(\.\d{6})\d+", r"\1", moment)
    return datetime.fromisoformat(text).timestamp()


def _process(spec: ContainerSpec) -> Tree:
    # An entrypoint of our own makes podman drop the image's cmd, as Kubernetes wants.
    entrypoint: Tree = {"entrypoint": list(spec.command)} if spec.command else {}
    return entrypoint | ({"command": list(spec.args)} if spec.args else {})


def _security(security: Security) -> Tree:
    wishes: Tree = {
        "user": security.user,
        "groups": [str(group) for group in security.groups],
        "privileged": security.privileged,
        "read_only_filesystem": security.read_only_root,
        "no_new_privileges": security.no_new_privileges,
        "cap_add": list(security.cap_add),
        "cap_drop": list(security.cap_drop),
        "seccomp_profile_path": security.seccomp,
        "apparmor_profile": security.apparmor,
        "sysctl": dict(security.sysctls),
        "unmask": [] if security.mask_proc else ["ALL"],
    }
    return {key: value for key, value in wishes.items() if value}


def _limits(limits: Limits) -> Tree:
    cpu = {"shares": limits.cpu_shares, "quota": limits.cpu_quota}
    if limits.cpu_quota is not None:
        cpu["period"] = limits.cpu_period
    # Swap equal to memory means: none beside it (Kubernetes' NoSwap).
    memory = {} if limits.memory is None else {"limit": limits.memory, "swap": limits.memory}
    pids = {} if limits.pids is None else {"limit": limits.pids}
    cpu = {key: value for key, value in cpu.items() if value is not None}
    return {key: value for key, value in (("cpu", cpu), ("memory", memory), ("pids", pids)) if value}


def _mount(mount: Mount) -> Tree:
    options = ["rbind", "ro" if mount.read_only else "rw", PROPAGATIONS[mount.propagation]]
    return {"type": "bind", "source": mount.source, "destination": mount.target, "options": options}


def _namespace(of: str) -> Tree | None:
    if not of:
        return None
    if of == "host":
        return {"nsmode": "host"}
    # By path: joined by name, podman would not remove the one before the other.
    return {"nsmode": "path", "value": of} if of.startswith("/") else {"nsmode": "container", "value": of}


def event_labels(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Return the labels among an event's attributes."""
    own: Sequence[str] = ("containerExitCode", "image", "name", "podId")
    return {key: value for key, value in attributes.items() if key not in own}
