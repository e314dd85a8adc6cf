"""What every board must tell, the fake one and Linux' (this machine's and a tree of files)."""

import re

import pytest

from board import trees
from edgekube.board.base import Board, Obstacle
from edgekube.board.fake import FakeBoard
from edgekube.board.linux import LinuxBoard, Process

LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@pytest.fixture(params=["fake", "here", "pi4", "pi5"])
def board(request, tmp_path) -> Board:
    process = Process(machine="aarch64", pointer_bits=64, page_size=4096, user=0)
    make = {
        "fake": FakeBoard,
        "here": LinuxBoard,
        "pi4": lambda: LinuxBoard(trees.pi4(tmp_path), process=process),
        "pi5": lambda: LinuxBoard(trees.pi5(tmp_path), process=process),
    }
    return make[request.param]()


def test_facts(board: Board) -> None:
    facts = board.facts()
    assert facts == board.facts()
    assert facts.architecture in {"arm64", "arm", "amd64", "386", "riscv64"}
    assert facts.operating_system == "linux"
    assert facts.hostname
    assert facts.kernel_version
    assert facts.boot_id
    assert facts.system_uuid
    assert facts.cpus >= 1
    assert facts.memory > 1 << 20
    assert facts.page_size in {4096, 16384, 65536}
    for key, value in facts.labels.items():
        assert key.startswith("edgekube.io/")
        assert LABEL.fullmatch(value)


def test_usage(board: Board) -> None:
    usage = board.usage()
    facts = board.facts()
    assert usage.time > 0
    assert usage.cpu_ns > 0
    assert 0 < usage.memory_working_set <= facts.memory
    assert 0 < usage.memory_used <= facts.memory
    assert 0 < usage.memory_available <= facts.memory
    assert 0 <= usage.disk_available <= usage.disk_capacity
    assert 0 <= usage.inodes_free <= usage.inodes
    assert min(usage.load) >= 0
    assert usage.temperature is None or -40 < usage.temperature < 120


def test_usage_goes_on(board: Board) -> None:
    first, second = board.usage(), board.usage()
    assert second.cpu_ns >= first.cpu_ns
    assert second.time >= first.time


def test_obstacles_say_what_and_how(board: Board) -> None:
    for obstacle in board.obstacles():
        assert isinstance(obstacle, Obstacle)
        assert obstacle.what
        assert obstacle.fix


def test_the_fake_is_what_it_is_told() -> None:
    board = FakeBoard()
    board.set_facts(boot_id="other")
    board.set_usage(temperature=90.0)
    board.set_obstacles([Obstacle("cold", "sudo heat", fatal=True)])
    assert board.facts().boot_id == "other"
    assert board.usage().temperature == 90.0
    assert board.obstacles()[0].what == "cold"
