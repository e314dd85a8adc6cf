"""Trees of files that look like boards."""

import gzip
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = (
    "usr/bin/podman", "usr/bin/conmon", "usr/bin/crun", "usr/lib/podman/netavark", "usr/sbin/mosquitto",
    "usr/sbin/ip", "usr/bin/setpriv", "usr/sbin/nft",
)  # fmt: skip
MODULES = ("fs/overlayfs/overlay", "net/netfilter/nf_tables", "net/netfilter/nft_masq", "drivers/net/veth")
MODULES += ("net/bridge/bridge", "drivers/net/vxlan/vxlan")
COMMON: Mapping[str, str] = {
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "proc/sys/kernel/random/boot_id": "b1\n",
    "etc/os-release": 'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "proc/meminfo": "MemTotal:        3885312 kB\nMemFree:  885312 kB\nMemAvailable:    2885312 kB\n",
    "proc/stat": "cpu  100 20 30 4000 50 6 7 8 9 0\ncpu0 1 2 3 4\n",
    "proc/loadavg": "0.50 0.40 0.30 1/100 4242\n",
    "proc/net/dev": (
        "Inter-|   Receive\n face |bytes packets\n"
        "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
        "  eth0: 1000 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n"
        " veth1: 77 1 0 0 0 0 0 0 77 1 0 0 0 0 0 0\n"
    ),
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    "sys/devices/system/cpu/online": "0-3\n",
    "boot/firmware/config.txt": "[all]\n",
    "boot/firmware/cmdline.txt": "console=tty1 root=PARTUUID=1 rootwait ds=nocloud;i=x\n",
}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def disk(root: Path, number: str, folder: str, files: Mapping[str, str]) -> None:
    """Put "/" on the disk whose /sys folder is `folder`."""
    write(root, {f"sys/devices/{folder}/{name}": text for name, text in files.items()})
    link = root / f"sys/dev/block/{number}"
    link.parent.mkdir(parents=True, exist_ok=True)
    (root / "sys/devices" / folder).mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"../../devices/{folder}")
    write(root, {"proc/self/mountinfo": f"22 1 {number} / / rw - ext4 /dev/root rw\n"})


def kernel(root: Path, release: str) -> None:
    lines = "".join(f"kernel/{name}.ko.xz: kernel/other.ko.xz\n" for name in MODULES)
    write(root, {"proc/sys/kernel/osrelease": f"{release}\n", f"lib/modules/{release}/modules.dep": lines})


def config_gz(root: Path, *options: str) -> None:
    (root / "proc/config.gz").write_bytes(gzip.compress("".join(f"{o}\n" for o in options).encode()))


def pi4(root: Path) -> Path:
    write(root, COMMON | dict.fromkeys(PROGRAMS, ""))
    kernel(root, "6.12.25+rpt-rpi-v8")
    disk(root, "179:2", "mmc0/mmcblk0/mmcblk0p2", {"partition": "2\n"})
    write(
        root,
        {
            "sys/devices/mmc0/mmcblk0/device/type": "SD\n",
            "proc/sys/kernel/hostname": "pi4\n",
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
            "proc/device-tree/serial-number": "10000000deadbeef\0",
            "sys/class/drm/card0/device/uevent": "DRIVER=vc4-drm\n",
            "sys/class/drm/card1/device/uevent": "DRIVER=v3d\n",
            "sys/class/video4linux/video10/name": "bcm2835-codec-decode\n",
            "sys/class/video4linux/video0/name": "unicam-image\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/class/net/eth0/device/uevent": "",
        },
    )
    return root


def pi5(root: Path) -> Path:
    write(root, COMMON | dict.fromkeys(PROGRAMS, ""))
    kernel(root, "6.12.25+rpt-rpi-2712")
    disk(root, "259:2", "pcie/nvme0n1/nvme0n1p2", {"partition": "2\n"})
    write(
        root,
        {
            "proc/sys/kernel/hostname": "pi5\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "sys/class/rtc/rtc0/name": "rpi-rtc\n",
            "sys/class/drm/card0/device/uevent": "DRIVER=v3d\n",
            "sys/class/video4linux/video19/name": "rpi-hevc-dec\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "61000\n",
            "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
        },
    )
    return root


def pi_without_memory(root: Path) -> Path:
    """A Pi as it comes: the firmware turns the memory controller off."""
    pi4(root)
    write(root, {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n"})
    return root
