"""What a machine is, from its files: names, sizes, and labels it finds by itself."""

import re
from collections.abc import Mapping
from pathlib import Path

from edgekube.board.base import BoardFacts
from edgekube.board.files import Tree, read

ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "riscv64": "riscv64",
}
"""`uname -m` to GOARCH."""
NARROW = {"arm64": "arm", "amd64": "386"}
"""What a 32-bit system on a 64-bit kernel runs (Raspberry Pi OS has such)."""
GPUS: Mapping[str, str] = {
    "v3d": "v3d",
    "vc4": "vc4",
    "nvidia": "nvidia",
    "tegra": "nvidia",
    "panfrost": "mali",
    "panthor": "mali",
    "lima": "mali",
    "mali": "mali",
    "i915": "intel",
    "xe": "intel",
    "amdgpu": "amd",
}
"""Kernel driver (its first word) to label, the better one first: a Pi has both v3d and vc4."""
CAMERAS = re.compile(r"unicam|rp1-cfe|camera|webcam|csi", re.IGNORECASE)
LABEL_LENGTH = 63


def facts(tree: Tree, *, machine: str, pointer_bits: int, page_size: int) -> BoardFacts:
    """Return the facts; `machine` is uname's, `pointer_bits` those of programs (32 or 64)."""
    model = model_of(tree)
    system = tree.fields("/etc/os-release", "=") or tree.fields("/usr/lib/os-release", "=")
    machine_id = tree.text("/etc/machine-id")
    serial = tree.first("/sys/class/dmi/id/product_uuid", "/proc/device-tree/serial-number")
    return BoardFacts(
        hostname=tree.text("/proc/sys/kernel/hostname"),
        architecture=architecture(machine, pointer_bits),
        operating_system="linux",
        os_image=system.get("PRETTY_NAME", "Linux"),
        kernel_version=tree.text("/proc/sys/kernel/osrelease"),
        machine_id=machine_id,
        boot_id=tree.text("/proc/sys/kernel/random/boot_id"),
        system_uuid=serial or machine_id,
        model=model,
        cpus=count_cpus(tree.text("/sys/devices/system/cpu/online")),
        memory=memory(tree, "MemTotal")[0],
        page_size=page_size,
        labels=labels(tree, model),
    )


def architecture(machine: str, pointer_bits: int) -> str:
    """Return the GOARCH word images must be made for: that of the programs, not of the kernel."""
    word = ARCHITECTURES.get(machine, machine)
    return NARROW.get(word, word) if pointer_bits == 32 else word


def model_of(tree: Tree) -> str:
    """Return the device tree's or DMI's model, "" where there is none."""
    board = tree.first("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
    if board:
        return board
    names = (tree.text("/sys/class/dmi/id/sys_vendor"), tree.text("/sys/class/dmi/id/product_name"))
    return " ".join(name for name in names if name)


def count_cpus(online: str) -> int:
    """Return how many CPUs a list such as "0-3,6" names."""
    ranges = (part.partition("-") for part in online.split(",") if part)
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges) or 1


def memory(tree: Tree, *names: str) -> list[int]:
    """Return entries of /proc/meminfo in bytes."""
    found = tree.fields("/proc/meminfo", ":")
    return [int(found.get(name, "0 kB").split()[0]) * 1024 for name in names]


def labels(tree: Tree, model: str) -> Mapping[str, str]:
    """Return the labels that could be found; what is not known is left out."""
    found = {
        "edgekube.io/model": label_value(model),
        "edgekube.io/storage": storage(tree),
        "edgekube.io/gpu": gpu(tree),
        "edgekube.io/camera": "true" if has_camera(tree) else "",
        "edgekube.io/rtc": "true" if tree.glob("/sys/class/rtc/rtc*") else "false",
    }
    return {key: value for key, value in found.items() if value}


def label_value(text: str) -> str:
    """Return text as a label's value: [A-Za-z0-9._-], at most 63, alphanumeric at both ends."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower())[:LABEL_LENGTH].strip("-._")


def storage(tree: Tree) -> str:
    """Return sd, emmc, nvme, ssd or hdd for the disk "/" is on; "" if it cannot be told."""
    disk = root_disk(tree)
    if disk is None:
        return ""
    if disk.name.startswith("nvme"):
        return "nvme"
    if disk.name.startswith("mmcblk"):
        return "sd" if read(disk / "device" / "type") == "SD" else "emmc"
    if disk.name.startswith("vd"):
        return ""  # a virtual disk says anything
    rotational = read(disk / "queue" / "rotational")
    return {"0": "ssd", "1": "hdd"}.get(rotational, "")


def root_disk(tree: Tree) -> Path | None:
    """Return the /sys folder of the whole disk that "/" is on."""
    mounts = [line.split() for line in tree.text("/proc/self/mountinfo").splitlines()]
    numbers = [fields[2] for fields in mounts if len(fields) > 4 and fields[4] == "/"]
    if not numbers:
        return None
    link = tree.path(f"/sys/dev/block/{numbers[-1]}")
    if not link.exists():
        return None
    device = link.resolve()
    return device.parent if (device / "partition").exists() else device


def gpu(tree: Tree) -> str:
    """Return the best GPU's label."""
    drivers = {
        line.removeprefix("DRIVER=").replace("-", "_").split("_")[0]
        for file in tree.glob("/sys/class/drm/card*/device/uevent")
        for line in read(file).splitlines()
        if line.startswith("DRIVER=")
    }
    if tree.exists("/proc/driver/nvidia/version") or tree.exists("/dev/nvhost-gpu"):
        drivers.add("nvidia")
    if tree.exists("/dev/mali0"):
        drivers.add("mali")
    return next((label for driver, label in GPUS.items() if driver in drivers), "")


def has_camera(tree: Tree) -> bool:
    """Tell whether a video device is a camera (a Pi's codecs and ISP are video devices, too)."""
    folders = tree.glob("/sys/class/video4linux/video*")
    return any(
        CAMERAS.search(read(folder / "name")) or "DRIVER=uvcvideo" in read(folder / "device" / "uevent")
        for folder in folders
    )
