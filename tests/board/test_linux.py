import re
import subprocess
from pathlib import Path

import psutil
import pytest

from board import trees
from edgekube.board.facts import architecture, count_cpus, label_value
from edgekube.board.linux import LinuxBoard, Process
from edgekube.board.obstacles import RELEASED

NOW = RELEASED + 1e6
ARM = Process(machine="aarch64", pointer_bits=64, page_size=4096, user=0)


def board(root: Path, process: Process = ARM, **options) -> LinuxBoard:
    return LinuxBoard(root, process=process, **({"now": lambda: NOW} | options))


def test_a_pi_4(tmp_path):
    facts = board(trees.pi4(tmp_path)).facts()
    assert (facts.hostname, facts.architecture, facts.cpus, facts.memory) == (
        "pi4",
        "arm64",
        4,
        3885312 * 1024,
    )
    assert facts.model == "Raspberry Pi 4 Model B Rev 1.5"
    assert (facts.system_uuid, facts.boot_id) == ("10000000deadbeef", "b1")
    assert facts.os_image == "Debian GNU/Linux 12 (bookworm)"
    assert facts.kernel_version == "6.12.25+rpt-rpi-v8"
    assert facts.labels == {
        "edgekube.io/model": "raspberry-pi-4-model-b-rev-1.5",
        "edgekube.io/storage": "sd",
        "edgekube.io/gpu": "v3d",
        "edgekube.io/camera": "true",
        "edgekube.io/rtc": "false",
    }
    usage = board(tmp_path).usage()
    assert (usage.temperature, usage.throttled, usage.undervoltage) == (48.312, True, True)


def test_a_pi_5(tmp_path):
    facts = board(trees.pi5(tmp_path)).facts()
    assert facts.labels == {
        "edgekube.io/model": "raspberry-pi-5-model-b-rev-1.0",
        "edgekube.io/storage": "nvme",
        "edgekube.io/gpu": "v3d",
        "edgekube.io/rtc": "true",
    }
    usage = board(tmp_path).usage()
    assert (usage.temperature, usage.throttled, usage.undervoltage) == (61.0, False, True)


def test_usage_counts_what_was_used_and_what_went_out(tmp_path):
    usage = board(trees.pi4(tmp_path)).usage()
    assert usage.time == NOW
    assert usage.cpu_ns == (100 + 20 + 30 + 6 + 7 + 8) * 10_000_000
    assert usage.memory_used == 3_000_000 * 1024
    assert usage.memory_working_set == 1_000_000 * 1024
    assert (usage.received_bytes, usage.sent_bytes) == (1000, 500)
    assert usage.load == (0.5, 0.4, 0.3)


def test_processes_and_how_many_there_may_be(tmp_path):
    root = trees.pi4(tmp_path)
    assert (board(root).usage().processes, board(root).usage().processes_limit) == (100, 0)
    (root / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/kernel/pid_max").write_text("32768\n")
    (root / "proc/sys/kernel/threads-max").write_text("30000\n")
    assert board(root).usage().processes_limit == 30000


def test_images_on_the_same_file_system_are_not_told_of_twice(tmp_path):
    root = trees.pi4(tmp_path)
    (tmp_path / "images").mkdir(exist_ok=True)
    assert board(root, images=tmp_path / "images").usage().image_disk_capacity == 0
    assert board(root, images=tmp_path / "missing").usage().image_disk_capacity == 0
    other = board(root, images=Path("/proc")).usage()
    assert (other.image_disk_capacity, other.disk_capacity > 0) == (0, True)


@pytest.mark.root
def test_images_on_a_file_system_of_their_own(tmp_path):
    root, images = trees.pi4(tmp_path / "root"), tmp_path / "images"
    images.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=100", "ek-test", str(images)], check=True
    )
    try:
        (images / "layer").write_bytes(bytes(512 << 10))
        usage = board(root, images=images).usage()
    finally:
        subprocess.run(["umount", str(images)], check=True)
    assert (usage.image_disk_capacity, usage.image_disk_available) == (1 << 20, 512 << 10)
    assert (usage.image_inodes, usage.image_inodes_free) == (100, 98)


def test_traffic_without_hardware_leaves_out_pods(tmp_path):
    usage = board(trees.pi5(tmp_path)).usage()
    assert (usage.received_bytes, usage.sent_bytes) == (1000, 500)


@pytest.mark.parametrize(
    ("folder", "files", "label"),
    [
        ("usb/sda/sda2", {"partition": "2", "../queue/rotational": "0"}, "ssd"),
        ("usb/sda/sda2", {"partition": "2", "../queue/rotational": "1"}, "hdd"),
        ("usb/sda", {"queue/rotational": "1"}, "hdd"),
        ("mmc0/mmcblk0", {"device/type": "MMC"}, "emmc"),
        ("virtio/vda", {"queue/rotational": "1"}, None),
    ],
)
def test_storage(tmp_path, folder, files, label):
    (tmp_path / "sys/devices" / folder).mkdir(parents=True)
    trees.disk(tmp_path, "8:2", folder, files)
    assert board(tmp_path).facts().labels.get("edgekube.io/storage") == label


def test_a_32_bit_system_on_a_64_bit_kernel_wants_32_bit_images():
    assert architecture("aarch64", 32) == "arm"
    assert architecture("aarch64", 64) == "arm64"
    assert architecture("x86_64", 64) == "amd64"
    assert architecture("armv7l", 32) == "arm"


@pytest.mark.parametrize(("online", "count"), [("0-3", 4), ("0", 1), ("0-1,3", 3), ("", 1)])
def test_cpus(online, count):
    assert count_cpus(online) == count


def test_labels_are_values_kubernetes_takes():
    assert label_value("ASUS  Tinker (Board) S+") == "asus-tinker-board-s"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", label_value("x" * 62 + " y"))


# --- Obstacles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [trees.pi4, trees.pi5])
def test_a_good_pi_has_none(tmp_path, make):
    assert list(board(make(tmp_path)).obstacles()) == []


def test_no_memory_controller(tmp_path):
    [obstacle] = board(trees.pi_without_memory(tmp_path)).obstacles()
    assert obstacle.fatal
    assert "memory" in obstacle.what
    assert "/boot/firmware/cmdline.txt" in obstacle.fix
    # The line really mends it, keeps one line and what was there; then only the reboot is left.
    cmdline = tmp_path / "boot/firmware/cmdline.txt"
    command = obstacle.fix.partition(" && ")[0].removeprefix("sudo ")
    subprocess.run(["sh", "-c", command.replace("/boot/firmware/cmdline.txt", str(cmdline))], check=True)
    assert (
        cmdline.read_text() == "console=tty1 root=PARTUUID=1 rootwait ds=nocloud;i=x cgroup_enable=memory\n"
    )
    [obstacle] = board(tmp_path).obstacles()
    assert obstacle.fix == "sudo reboot"


def test_the_old_place_of_cmdline_and_grub(tmp_path):
    trees.pi_without_memory(tmp_path)
    (tmp_path / "boot/firmware/cmdline.txt").rename(tmp_path / "boot/cmdline.txt")
    assert " /boot/cmdline.txt" in board(tmp_path).obstacles()[0].fix
    (tmp_path / "boot/cmdline.txt").unlink()
    assert "update-grub" in board(tmp_path).obstacles()[0].fix


def test_cgroup_v1_trees_count(tmp_path):
    trees.pi4(tmp_path)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").unlink()
    trees.write(tmp_path, {f"sys/fs/cgroup/{name}/cgroup.procs": "" for name in ("memory", "cpu")})
    [obstacle] = board(tmp_path).obstacles()
    assert "pids" in obstacle.what
    assert not obstacle.fatal


def test_missing_programs_are_named_with_one_line_that_installs_them(tmp_path):
    trees.pi4(tmp_path)
    for name in ("usr/bin/podman", "usr/bin/crun", "usr/sbin/mosquitto", "usr/sbin/nft"):
        (tmp_path / name).unlink()
    fatal, optional = board(tmp_path).obstacles()
    assert fatal.what == "missing: podman, crun or runc, mosquitto"
    assert fatal.fix == "sudo apt-get install -y podman crun mosquitto"
    assert (fatal.fatal, optional.fatal) == (True, False)
    assert optional.fix.endswith("nftables")
    assert "mosquitto" not in board(tmp_path, server=False).obstacles()[0].what


def test_runc_will_do(tmp_path):
    trees.pi4(tmp_path)
    (tmp_path / "usr/bin/crun").rename(tmp_path / "usr/bin/runc")
    assert list(board(tmp_path).obstacles()) == []


def test_modules_gone_after_an_upgrade(tmp_path):
    trees.pi4(tmp_path)
    trees.write(tmp_path, {"proc/sys/kernel/osrelease": "6.12.20+rpt-rpi-v8\n"})
    found = board(tmp_path).obstacles()
    assert {obstacle.fix for obstacle in found} == {"sudo reboot"}
    assert any("nf_tables" in obstacle.what for obstacle in found if obstacle.fatal)


def test_a_kernel_with_all_built_in(tmp_path):
    trees.pi4(tmp_path)
    (tmp_path / "lib/modules/6.12.25+rpt-rpi-v8/modules.dep").unlink()
    (tmp_path / "lib/modules/6.12.25+rpt-rpi-v8").rmdir()
    (tmp_path / "lib/modules").rmdir()
    assert list(board(tmp_path).obstacles()) == []
    options = [
        "CONFIG_OVERLAY_FS=y",
        "CONFIG_NF_TABLES=y",
        "CONFIG_NFT_MASQ=y",
        "CONFIG_BRIDGE=y",
        "CONFIG_VXLAN=y",
    ]
    trees.config_gz(tmp_path, *options)
    [obstacle] = board(tmp_path).obstacles()
    assert "veth" in obstacle.what
    assert "CONFIG_VETH=y" in obstacle.fix
    trees.config_gz(tmp_path, *options, "CONFIG_VETH=y")
    assert list(board(tmp_path).obstacles()) == []


def test_a_wrong_clock(tmp_path):
    trees.pi4(tmp_path)
    [obstacle] = board(tmp_path, now=lambda: 1_600_000_000.0).obstacles()
    assert obstacle.fatal
    assert "2020-09-13" in obstacle.what
    [obstacle] = board(tmp_path, not_before=NOW + 60).obstacles()
    assert "certificates" in obstacle.what
    assert list(board(tmp_path, not_before=NOW - 60).obstacles()) == []


def test_big_pages_and_rights_are_noted(tmp_path):
    process = Process(machine="aarch64", pointer_bits=64, page_size=16384, user=1000)
    rights, pages = board(trees.pi5(tmp_path), process).obstacles()
    assert rights.fatal
    assert not pages.fatal
    assert "16 KiB" in pages.what
    assert "kernel8.img" in pages.fix


def test_this_machines_numbers_agree_with_an_independent_witness():
    real = LinuxBoard()
    facts, usage = real.facts(), real.usage()
    assert facts.cpus == psutil.cpu_count()
    assert facts.memory == psutil.virtual_memory().total
    assert usage.disk_capacity == psutil.disk_usage("/").total
    # All numbers that change are compared with loose bounds: the machine goes on living.
    assert abs(usage.memory_available - psutil.virtual_memory().available) < facts.memory // 4
    busy = psutil.cpu_times()
    spent = busy.user + busy.nice + busy.system + busy.irq + busy.softirq + busy.steal
    assert 0 < usage.cpu_ns / 1e9 <= spent + 1
