"""Why a machine cannot be a node, or not a good one, and the line that mends it."""

import gzip
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekube.board.base import Obstacle
from edgekube.board.files import Tree

RELEASED = 1_767_225_600.0
"""2026-01-01: no clock that is right can tell an earlier time (a board without RTC starts at its image's date)."""
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
HELPERS = ("/usr/libexec/podman", "/usr/lib/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman")
COMMAND_LINES = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")
MEMORY_SWITCH = "cgroup_enable=memory"
BIG_PAGES = 4096


@dataclass(frozen=True, slots=True)
class Program:
    """A program (any of `names`) and the Debian package it comes in."""

    names: tuple[str, ...]
    package: str
    fatal: bool = True


PROGRAMS = (
    Program(("podman",), "podman"),
    Program(("conmon",), "conmon"),
    Program(("crun", "runc"), "crun"),
    Program(("netavark",), "netavark"),
    Program(("ip",), "iproute2"),
    Program(("setpriv", "nsenter", "unshare"), "util-linux"),
    Program(("nft",), "nftables", fatal=False),
)
SERVER_PROGRAMS = (Program(("mosquitto",), "mosquitto"),)


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the kernel: its module and its configuration's name."""

    module: str
    option: str
    need: str
    fatal: bool = True


FEATURES = (
    Feature("overlay", "CONFIG_OVERLAY_FS", "container images"),
    Feature("nf_tables", "CONFIG_NF_TABLES", "Services"),
    Feature("nft_masq", "CONFIG_NFT_MASQ", "Services"),
    Feature("veth", "CONFIG_VETH", "pod networking"),
    Feature("bridge", "CONFIG_BRIDGE", "the sandbox", fatal=False),
    Feature("vxlan", "CONFIG_VXLAN", "pods across several networks", fatal=False),
)


def obstacles(
    tree: Tree, *, now: float, not_before: float, user: int, page_size: int, server: bool
) -> Sequence[Obstacle]:
    """Return all; `not_before` is when the clock must be past, `user` the uid we run as."""
    return [
        *_rights(user),
        *_controllers(tree),
        *_programs(tree, server=server),
        *_kernel(tree),
        *_clock(now, max(not_before, RELEASED)),
        *_pages(tree, page_size),
    ]


def _rights(user: int) -> Iterator[Obstacle]:
    if user != 0:
        yield Obstacle("containers need root", "run it with sudo", fatal=True)


def _controllers(tree: Tree) -> Iterator[Obstacle]:
    have = controllers(tree)
    if "memory" not in have:
        what = "the kernel's memory cgroup controller is off: memory limits would not hold"
        yield Obstacle(what, memory_fix(tree), fatal=True)
    missing = sorted({"cpu", "pids"} - have)
    if missing:
        what = f"the kernel's {' and '.join(missing)} cgroup controller is missing: such limits will not hold"
        yield Obstacle(what, "boot the distribution's own kernel", fatal=False)


def controllers(tree: Tree) -> set[str]:
    """Return the cgroup controllers there are (v2: one file names them; v1: a mounted tree each)."""
    unified = tree.text("/sys/fs/cgroup/cgroup.controllers")
    if unified:
        return set(unified.split())
    # /proc/cgroups lists no memory controller on kernels without cgroup v1; only trees count.
    names = ("memory", "cpu", "pids")
    return {name for name in names if tree.exists(f"/sys/fs/cgroup/{name}/cgroup.procs")}


def memory_fix(tree: Tree) -> str:
    """Return the line that turns the memory controller on."""
    file = next((name for name in COMMAND_LINES if tree.exists(name)), None)
    if file is None:
        return (
            f"sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{MEMORY_SWITCH} /' /etc/default/grub"
            " && sudo update-grub && sudo reboot"
        )
    if MEMORY_SWITCH in tree.text(file).split():
        return "sudo reboot"
    # cmdline.txt must stay one line.
    return f"sudo sed -i '1s/$/ {MEMORY_SWITCH}/' {file} && sudo reboot"


def _programs(tree: Tree, *, server: bool) -> Iterator[Obstacle]:
    wanted = [*PROGRAMS, *(SERVER_PROGRAMS if server else ())]
    for fatal in (True, False):
        missing = [p for p in wanted if p.fatal is fatal and not _installed(tree, p)]
        if missing:
            names = ", ".join(" or ".join(program.names) for program in missing)
            packages = " ".join(program.package for program in missing)
            verb = "missing" if fatal else "not installed (optional)"
            yield Obstacle(f"{verb}: {names}", f"sudo apt-get install -y {packages}", fatal=fatal)


def _installed(tree: Tree, program: Program) -> bool:
    own = os.environ.get("PATH", "").split(os.pathsep) if str(tree.root) == "/" else []
    folders = (*FOLDERS, *HELPERS, *(folder for folder in own if folder))
    return any(tree.exists(f"{folder}/{name}") for name in program.names for folder in folders)


def _kernel(tree: Tree) -> Iterator[Obstacle]:
    release = tree.text("/proc/sys/kernel/osrelease")
    known = known_modules(tree, release)
    if known is None:
        return
    missing = [f for f in FEATURES if f.module not in known and not tree.exists(f"/sys/module/{f.module}")]
    stale = tree.glob("/lib/modules/*") and not tree.exists(f"/lib/modules/{release}")
    fix = "sudo reboot" if stale else "boot the distribution's own kernel, or one with {}"
    for feature in missing:
        what = f"the running kernel {release} has no {feature.module}, which {feature.need} need"
        if stale:
            what += " (its modules are gone: a newer kernel was installed)"
        yield Obstacle(what, fix.format(f"{feature.option}=y"), fatal=feature.fatal)


def known_modules(tree: Tree, release: str) -> set[str] | None:
    """Return the features the kernel can have, built in or as modules; None if nothing tells."""
    folder = f"/lib/modules/{release}"
    lists = tree.text(f"{folder}/modules.builtin") + "\n" + tree.text(f"{folder}/modules.dep")
    modules = {
        line.partition(":")[0].rpartition("/")[2].partition(".ko")[0].replace("-", "_")
        for line in lists.splitlines()
        if ".ko" in line
    }
    options = _options(tree, release)
    built_in = {f.module for f in FEATURES if f"{f.option}=y" in options}
    if not modules:
        # Without its modules a kernel has what is built in, and nothing else.
        return built_in if options or tree.glob("/lib/modules/*") else None
    return modules | built_in


def _options(tree: Tree, release: str) -> set[str]:
    try:
        text = gzip.decompress(tree.path("/proc/config.gz").read_bytes()).decode()
    except (OSError, EOFError):
        text = tree.text(f"/boot/config-{release}")
    return set(text.splitlines())


def _clock(now: float, not_before: float) -> Iterator[Obstacle]:
    if now < not_before:
        told, least = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(t)) for t in (now, not_before))
        what = f"the clock says {told} UTC, which is before {least}: certificates would look invalid"
        yield Obstacle(
            what, "sudo timedatectl set-ntp true, and wait until `timedatectl` says synchronized", fatal=True
        )


def _pages(tree: Tree, page_size: int) -> Iterator[Obstacle]:
    if page_size > BIG_PAGES:
        what = f"memory pages of {page_size // 1024} KiB: some images (those with jemalloc) do not run"
        fix = "put kernel=kernel8.img into /boot/firmware/config.txt, and reboot"
        if tree.exists("/boot/firmware/config.txt"):
            fix = "echo kernel=kernel8.img | sudo tee -a /boot/firmware/config.txt && sudo reboot"
        yield Obstacle(what, fix, fatal=False)
