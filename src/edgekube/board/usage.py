"""How a machine feels: /proc and /sys alone (psutil would cost an agent 7 MB)."""

import os
from pathlib import Path

from edgekube.board.base import BoardUsage
from edgekube.board.facts import memory
from edgekube.board.files import Tree, read

THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
UNDERVOLTAGE = 0x1
SLOWED = 0xE
"""Bits of the Pi firmware's word: frequency capped, throttled, soft temperature limit, now."""
BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat's cpu line that are work: user, nice, system, irq, softirq, steal (proc(5))."""
VIRTUAL = ("lo", "veth", "vxlan", "tap", "ifb", "dummy", "docker", "podman", "cni")
SECOND = 1_000_000_000


def usage(tree: Tree, *, disk: Path, now: float, images: Path | None = None) -> BoardUsage:
    """Return the usage; `disk` is a path on the file system to tell of, `images` one on theirs, `now` epoch seconds."""
    total, free, available = memory(tree, "MemTotal", "MemFree", "MemAvailable")
    space = os.statvfs(disk)
    image_space = _other(images, disk)
    received, sent = traffic(tree)
    load = [float(word) for word in tree.text("/proc/loadavg").split()[:3]] or [0.0, 0.0, 0.0]
    word = throttled_word(tree)
    return BoardUsage(
        time=now,
        cpu_ns=cpu_ns(tree),
        memory_used=total - free,
        memory_working_set=total - available,
        memory_available=available,
        disk_capacity=space.f_blocks * space.f_frsize,
        disk_available=space.f_bavail * space.f_frsize,
        inodes=space.f_files,
        inodes_free=space.f_ffree,
        image_disk_capacity=image_space.f_blocks * image_space.f_frsize if image_space else 0,
        image_disk_available=image_space.f_bavail * image_space.f_frsize if image_space else 0,
        image_inodes=image_space.f_files if image_space else 0,
        image_inodes_free=image_space.f_ffree if image_space else 0,
        processes=processes(tree),
        processes_limit=min(_number(tree, "pid_max"), _number(tree, "threads-max")),
        received_bytes=received,
        sent_bytes=sent,
        load=(load[0], load[1], load[2]),
        temperature=temperature(tree),
        throttled=bool(word & SLOWED),
        undervoltage=bool(word & UNDERVOLTAGE) or undervoltage_alarm(tree),
    )


def _other(images: Path | None, disk: Path) -> os.statvfs_result | None:
    """Return the space of the images' file system if it is another one."""
    try:
        if images is None or images.stat().st_dev == disk.stat().st_dev:
            return None
        return os.statvfs(images)
    except OSError:
        return None


def processes(tree: Tree) -> int:
    """Return how many processes and threads there are (proc(5), loadavg's fourth column)."""
    words = tree.text("/proc/loadavg").split()
    count = words[3].partition("/")[2] if len(words) > 3 else ""
    return int(count) if count.isdecimal() else 0


def _number(tree: Tree, name: str) -> int:
    text = tree.text(f"/proc/sys/kernel/{name}").strip()
    return int(text) if text.isdecimal() else 0


def cpu_ns(tree: Tree) -> int:
    """Return the time all CPUs worked since boot, in ns."""
    columns = tree.text("/proc/stat").partition("\n")[0].split()[1:]
    ticks = sum(int(columns[index]) for index in BUSY if index < len(columns))
    return ticks * SECOND // os.sysconf("SC_CLK_TCK")


def traffic(tree: Tree) -> tuple[int, int]:
    """Return bytes received and sent by the interfaces that lead out: those with hardware, else all not made up."""
    lines = [line.partition(":") for line in tree.text("/proc/net/dev").splitlines()[2:]]
    counters = {name.strip(): values.split() for name, _, values in lines}
    real = [name for name in counters if tree.exists(f"/sys/class/net/{name}/device")]
    chosen = real or [name for name in counters if not name.startswith(VIRTUAL)]
    return sum(int(counters[name][0]) for name in chosen), sum(int(counters[name][8]) for name in chosen)


def temperature(tree: Tree) -> float | None:
    """Return the CPU's temperature in °C; None where nothing measures it."""
    zones = tree.glob("/sys/class/thermal/thermal_zone*")
    zones.sort(key=lambda zone: "cpu" not in read(zone / "type") and "soc" not in read(zone / "type"))
    files = [*(zone / "temp" for zone in zones), *tree.glob("/sys/class/hwmon/hwmon*/temp1_input")]
    readings = (read(file) for file in files)
    return next((int(text) / 1000 for text in readings if text.lstrip("-").isdigit()), None)


def throttled_word(tree: Tree) -> int:
    """Return the Pi firmware's word, 0 elsewhere."""
    text = tree.text(THROTTLED)
    try:
        return int(text, 16) if text else 0
    except ValueError:
        return 0


def undervoltage_alarm(tree: Tree) -> bool:
    """Tell whether the Pi's voltage sensor complains (hwmon driver rpi_volt)."""
    sensors = (name.parent for name in tree.glob("/sys/class/hwmon/hwmon*/name") if read(name) == "rpi_volt")
    return any(read(sensor / "in0_lcrit_alarm") == "1" for sensor in sensors)
