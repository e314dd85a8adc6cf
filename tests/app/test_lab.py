"""A lab's machines and cables in the kernel, without a cluster on them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekube.app import sandbox
from edgekube.app.lab import Lab, LabError, LabOptions

pytestmark = pytest.mark.root

CLIENTS = ("client1", "client2")
RTT = """
import json, socket, sys, time
times = []
for _ in range(int(sys.argv[2])):
    began = time.monotonic()
    try:
        socket.create_connection((sys.argv[1], 9), float(sys.argv[3]))
    except ConnectionRefusedError:
        times.append(time.monotonic() - began)
    except OSError:
        pass
print(json.dumps(times))
"""


@pytest.fixture
def lab(tmp_path):
    made = Lab(LabOptions(directory=tmp_path / "lab", name=f"t-{tmp_path.name[:20]}", nodes=1, lans=2))
    try:
        made.start(["router", *CLIENTS])
        yield made
    finally:
        made.down(keep=False)


def until(check):
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(lab, tries=5, patience=2.0, target="client2"):
    """Seconds each answered try to connect took: a refusal is an answer."""
    line = [sys.executable, "-I", "-S", "-c", RTT, lab.address(target), str(tries), str(patience)]
    return json.loads(lab.run("client1", line).stdout)


def supervisors(directory):
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return [line for line in lines if b"edgekube.app.supervisor" in line and str(directory).encode() in line]


def test_lans_reach_each_other_by_the_router_and_nothing_else(lab):
    assert len(answers(lab)) == 5
    assert lab.run("client1", ["ip", "route", "show", "default"]).stdout == ""
    assert lab.run("router", ["ip", "route", "show", "default"]).stdout == ""
    lab.power("router", "off")
    assert answers(lab, 1, 0.3) == []
    lab.power("router", "on")
    assert len(answers(lab)) == 5


def test_a_machine_knows_its_name(lab):
    until(lambda: lab.run("client2", ["hostname"]).stdout.strip() == "client2")


def test_a_link_goes_down_and_up_and_stays_so_over_a_power_cut(lab):
    lab.link("client2", "down")
    assert answers(lab, 1, 0.3) == []
    lab.power("client2", "off")
    lab.power("client2", "on")
    assert answers(lab, 1, 0.3) == []
    lab.link("client2", "up")
    assert len(answers(lab)) == 5


def test_loss_loses_and_ends(lab):
    lab.loss("client2", 100)
    assert answers(lab, 2, 0.3) == []
    lab.loss("client2", 0)
    assert len(answers(lab)) == 5


def test_latency_is_added_each_way_whatever_else_happens_to_the_cable(lab):
    lab.latency("client2", 40)
    first = answers(lab)
    lab.latency("client2", 30)
    lab.link("client2", "down")
    lab.link("client2", "up")
    lab.power("client2", "off")
    lab.power("client2", "on")
    second = answers(lab)
    assert len(first) == len(second) == 5
    assert min(first) >= 0.08
    assert min(second) >= 0.06
    lab.latency("client2", 0)
    assert min(answers(lab)) < 0.06


def test_big_transfers_pass_a_slow_cable(lab):
    lab.latency("client2", 5)
    code = (
        "import socket; s = socket.create_server(('', 9)); print('listening', flush=True); c, _ = s.accept();"
        "n = 0\nwhile d := c.recv(1 << 16): n += len(d)\nprint(n)"
    )
    line = lab.command("client2", [sys.executable, "-I", "-S", "-c", code])
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline()
        send = f"import socket; s = socket.create_connection(({lab.address('client2')!r}, 9)); s.sendall(bytes(5_000_000))"
        assert lab.run("client1", [sys.executable, "-I", "-S", "-c", send]).returncode == 0
        assert server.stdout.read().strip() == "5000000"


def test_another_process_finds_it(lab):
    other = Lab.find(lab.options.directory)
    assert other.options == lab.options
    assert lab.address("client1") in other.run("client1", ["ip", "address"]).stdout
    other.power("client1", "off")
    assert not lab.running("client1")
    with pytest.raises(LabError, match="client1 has no power"):
        lab.run("client1", ["hostname"])


def test_what_cannot_be_done_is_said(lab):
    with pytest.raises(LabError, match="no machine 'node9'"):
        lab.power("node9", "off")
    with pytest.raises(LabError, match="links down instead"):
        lab.power("switch", "off")
    with pytest.raises(LabError, match="not one cable but 2"):
        lab.loss("router", 5)
    with pytest.raises(LabError, match="percent"):
        lab.loss("client1", 101)
    with pytest.raises(LabError, match="other options"):
        Lab(LabOptions(directory=lab.options.directory, name="another")).up()


@pytest.mark.parametrize("state", ["kept", "lost", "damaged"])
def test_down_leaves_nothing_whatever_the_start_came_to(lab, state):
    lab.latency("client1", 5)
    if state == "lost":
        lab.state_path.unlink()
    elif state == "damaged":
        lab.state_path.write_bytes(b"{")
    assert supervisors(lab.options.directory)
    Lab.remains(lab.options.directory, lab.options.name).down(keep=False)
    assert supervisors(lab.options.directory) == []
    assert not lab.options.directory.exists() or not any(lab.options.directory.iterdir())


def test_a_handle_of_an_ended_machine_is_harmless(lab):
    handle = sandbox.Handle(1, 1, 1, isolated=True)
    sandbox.kill(handle)
    assert lab.running("client1")
