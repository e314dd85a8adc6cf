"""A machine on this machine: children live and live again, and nothing is left when it ends."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edgekube.app import sandbox

pytestmark = pytest.mark.root


@pytest.fixture
def machine(tmp_path):
    made = sandbox.Machine(
        name="box",
        run_dir=tmp_path / "run",
        log_dir=tmp_path / "log",
        children=(("counter", ("sh", "-c", f"echo $$ >> {tmp_path}/started; exec sleep 1000")),),
        address="10.50.7.2",
    )
    yield made
    sandbox.cut_power(made.run_dir, made.name)
    sandbox.stop(made.run_dir, made.name)


def until(check):
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_namespaces():
    found = []
    for entry in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            found.append(entry.stat().st_ino)
        except OSError:
            continue
    return found


def mounts():
    """Return this machine's mounts but for other programs' network namespaces, which come and go."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if not line.startswith("nsfs ")]


def run(handle, *command):
    return subprocess.run(sandbox.enter(handle, command), capture_output=True, text=True, check=True).stdout


def test_it_has_its_own_network_processes_and_mounts(machine):
    before = mounts()
    handle = sandbox.start(machine)
    until((machine.log_dir / "counter.log").exists)
    assert "10.50.7.2/24" in run(handle, "ip", "-4", "address", "show", "eth0")
    assert run(handle, "ip", "route", "show", "default") == ""
    assert "sleep 1000" in run(handle, "ps", "ax")
    assert len(run(handle, "ps", "ax").splitlines()) < 10
    assert mounts() == before
    assert sandbox.find(machine.run_dir, machine.name) == handle


def test_a_dead_child_is_started_again(machine, tmp_path):
    handle = sandbox.start(machine)
    started = tmp_path / "started"
    until(lambda: started.exists() and started.read_text().split())
    run(handle, "kill", "-9", started.read_text().split()[0])
    until(lambda: len(started.read_text().split()) == 2)


@pytest.mark.parametrize("end", [sandbox.stop, sandbox.cut_power])
def test_it_ends_whole(machine, end):
    handle = sandbox.start(machine)
    until((machine.log_dir / "counter.log").exists)
    namespace = os.stat(f"/proc/{handle.pid}/ns/pid").st_ino
    end(machine.run_dir, machine.name)
    assert sandbox.find(machine.run_dir, machine.name) is None

    until(lambda: namespace not in pid_namespaces())


def test_a_reused_pid_is_not_taken_for_the_machine(machine):
    handle = sandbox.start(machine)
    file = machine.run_dir / "box.json"
    file.write_text(file.read_text().replace(f'"start_time":{handle.start_time}', '"start_time":1'))
    assert sandbox.find(machine.run_dir, machine.name) is None
    os.kill(handle.pid, signal.SIGKILL)


def test_stopping_what_does_not_run_is_harmless(tmp_path):
    sandbox.stop(tmp_path, "nothing")
    sandbox.remove_cgroups("/edgekube-nothing-there")
