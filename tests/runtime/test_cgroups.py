import pytest

from edgekube.runtime.base import Usage
from edgekube.runtime.cgroups import Cgroups
from edgekube.runtime.podman.oom import OomTracker

V1 = {
    "memory/p/c/memory.usage_in_bytes": "5000\n",
    "memory/p/c/memory.stat": "cache 10\ntotal_inactive_file 2000\n",
    "memory/p/c/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "cpuacct/p/c/cpuacct.usage": "777\n",
    "pids/p/c/pids.current": "4\n",
}
V2 = {
    "cgroup.controllers": "cpu memory pids\n",
    "p/c/memory.current": "5000\n",
    "p/c/memory.stat": "anon 10\ninactive_file 6000\n",
    "p/c/memory.events": "low 0\noom 1\noom_kill 3\n",
    "p/c/cpu.stat": "usage_usec 12\nuser_usec 5\n",
    "p/c/pids.current": "4\n",
}


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Cgroups(root)


@pytest.mark.parametrize(
    ("files", "version", "usage"),
    [
        (V1, 1, Usage(id="c", cpu_ns=777, memory_bytes=5000, working_set_bytes=3000, pids=4)),
        (V2, 2, Usage(id="c", cpu_ns=12000, memory_bytes=5000, working_set_bytes=0, pids=4)),
    ],
)
def test_usage(tmp_path, files, version, usage):
    cgroups = write(tmp_path, files)
    assert cgroups.version == version
    assert cgroups.usage("c", "/p/c") == usage
    assert cgroups.oom_kills("/p/c") == 3
    assert cgroups.usage("c", "/p/gone") is None
    assert cgroups.oom_kills("/p/gone") == 0


def test_v2_without_the_memory_controller(tmp_path):
    cgroups = write(tmp_path, {name: text for name, text in V2.items() if "memory." not in name})
    assert cgroups.usage("c", "/p/c") == Usage(
        id="c", cpu_ns=12000, memory_bytes=0, working_set_bytes=0, pids=4
    )


@pytest.fixture
def v2(tmp_path):
    """A pod's cgroup in which one process was killed long ago."""
    return write(tmp_path / "cgroup", {"cgroup.controllers": "memory", "p/memory.events": "oom_kill 1\n"})


def kill(cgroups):
    kills = cgroups.oom_kills("/p") + 1
    write(cgroups.root, {"p/memory.events": f"oom_kill {kills}\n"})


async def test_v2_the_parents_count_tells_after_the_container_is_gone(tmp_path, v2):
    tracker = OomTracker(tmp_path / "state", v2)
    tracker.arm("c", "/p/libpod-c")
    assert tracker.watches("c")
    kill(v2)
    assert await tracker.killed("c", 137)
    assert not tracker.watches("c")
    assert await tracker.killed("c", 137)
    # A restarted agent knows what was found before, and what happened meanwhile.
    assert await OomTracker(tmp_path / "state", v2).killed("c", 137)
    tracker.arm("d", "/p/libpod-d")
    kill(v2)
    assert await OomTracker(tmp_path / "state", v2).killed("d", 137)


async def test_v2_other_deaths_are_not_taken_for_it(tmp_path, v2):
    tracker = OomTracker(tmp_path / "state", v2)
    for name in ("quiet", "other", "ours"):
        tracker.arm(name, f"/p/libpod-{name}")
    assert not await tracker.killed("quiet", 137)
    kill(v2)
    assert not await tracker.killed("other", 1)
    tracker.stopping("ours")
    assert not await tracker.killed("ours", 137)
    assert not await tracker.killed("unknown", 137)


async def test_v2_a_new_start_begins_anew(tmp_path, v2):
    tracker = OomTracker(tmp_path / "state", v2)
    tracker.arm("c", "/p/libpod-c")
    kill(v2)
    assert await tracker.killed("c", 137)
    tracker.arm("c", "/p/libpod-c")
    assert not await tracker.killed("c", 137)
    tracker.forget("c")
    assert list((tmp_path / "state").iterdir()) == []
