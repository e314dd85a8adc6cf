"""What follows from a lab's options, and the small parts it is made of."""

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.app.lab import LabError, LabOptions, Role, faults
from edgekube.app.lab.relay import Line
from edgekube.app.lab.state import MachineState, StateFile, fresh
from edgekube.app.lab.topology import places


def options(tmp_path, **more):
    return LabOptions(directory=tmp_path, **more)


@given(nodes=st.integers(1, 100), lans=st.integers(1, 4))
def test_every_machine_has_an_address_of_its_lan_and_a_port_of_its_own(nodes, lans):
    made = places(LabOptions(directory=Path("/lab"), nodes=nodes, lans=lans)).values()
    cables = [cable for place in made for cable in place.cables]
    assert len({cable.address for cable in cables}) == len(cables)
    assert len({cable.port for cable in cables}) == len(cables)
    # IFNAMSIZ leaves 15 characters.
    assert all(len(cable.port) <= 15 for cable in cables)
    assert all(cable.address.startswith(f"10.{50 + cable.lan}.0.") for cable in cables)
    on = [place.cables[0].lan for place in made if place.role is Role.NODE]
    assert len(on) == nodes
    assert max(map(on.count, range(lans))) - min(map(on.count, range(lans))) <= 1


def test_one_lan_has_no_router_and_no_routes(tmp_path):
    made = places(options(tmp_path, nodes=2))
    assert list(made) == ["switch", "master", "node1", "node2", "client1"]
    assert not any(place.routes for place in made.values())


def test_lans_know_each_other_by_the_router_alone(tmp_path):
    made = places(options(tmp_path, nodes=2, lans=2))
    assert made["node2"].routes == (("10.50.0.0/24", "10.51.0.1"),)
    assert [cable.address for cable in made["router"].cables] == ["10.50.0.1", "10.51.0.1"]
    assert made["router"].routes == ()


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"nodes": 101}, {"lans": 0}, {"lans": 5}])
def test_impossible_sizes_are_refused(tmp_path, wrong):
    with pytest.raises(LabError, match="a lab has 1 to"):
        places(options(tmp_path, **wrong))


def test_the_state_is_found_by_another(tmp_path):
    wish = options(tmp_path, nodes=2, lans=2, name="x", port=7, network="vxlan", images=(Path("/a.tar"),))
    StateFile(tmp_path).write(fresh(wish, list(places(wish))))
    with StateFile(tmp_path).edit("node1") as state:
        state.loss = 5.0
    found = StateFile(tmp_path).read()
    assert found.options(tmp_path) == wish
    assert found.machines["node1"] == MachineState(loss=5.0)
    assert found.machines["node2"] == MachineState()


def test_a_change_that_fails_is_not_written(tmp_path):
    wish = options(tmp_path)
    StateFile(tmp_path).write(fresh(wish, list(places(wish))))

    def change():
        with StateFile(tmp_path).edit("node1") as state:
            state.loss = 101.0
            faults.check(state)

    with pytest.raises(LabError, match="percent"):
        change()
    assert StateFile(tmp_path).read().machines["node1"].loss == 0


def test_writers_take_turns(tmp_path):
    wish = options(tmp_path)
    file = StateFile(tmp_path)
    file.write(fresh(wish, ["node1"]))

    def more():
        for _ in range(20):
            with StateFile(tmp_path).edit("node1") as state:
                state.latency += 1

    threads = [threading.Thread(target=more) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read().machines["node1"].latency == 80


@pytest.mark.parametrize(("content", "says"), [(None, "no lab in"), (b"{", "lab.json")])
def test_no_state_and_a_damaged_one_are_told_apart(tmp_path, content, says):
    if content is not None:
        (tmp_path / "lab.json").write_bytes(content)
    with pytest.raises(LabError, match=says), StateFile(tmp_path).edit("node1"):
        pass


@pytest.mark.parametrize(
    "state", [MachineState(loss=-1), MachineState(loss=100.5), MachineState(latency=-1), MachineState(latency=60001),
              MachineState(loss=float("nan")), MachineState(latency=float("inf"))],
)  # fmt: skip
def test_impossible_cables_are_refused(state):
    with pytest.raises(LabError, match="not"):
        faults.check(state)


def test_loss_is_a_rule_for_each_direction_and_nothing_for_good_cables():
    text = faults.loss_rules({"p-node1": 12.5, "p-node2": 0})
    assert re.findall(r"(\w+name) \{ (.*?) \} numgen random mod 100000 < (\d+) drop", text) == [
        ("iifname", "p-node1, r-node1", "12500"),
        ("oifname", "p-node1, r-node1", "12500"),
    ]
    assert "node2" not in text
    assert "r-node1 } drop" in faults.loss_rules({"p-node1": 100})


def test_netem_is_told_both_or_to_leave():
    bad = MachineState(loss=2.5, latency=30)
    assert "delay 30ms loss 2.5%" in faults.netem_line("eth0", bad)
    assert faults.netem_line("eth0", MachineState()) == "qdisc replace dev eth0 root noqueue"


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40))
def test_a_delay_line_keeps_order_and_time(steps):
    """Times are in seconds; each frame comes out at the first look a delay after it went in."""
    line, now, went, out = Line(10.0), 0.0, [], []
    for number, (pause, look) in enumerate(steps):
        now += pause
        line.put(str(number).encode(), now)
        went.append(now)
        if look:
            out += [(frame, now) for frame in line.due(now)]
    end = now + 10.0
    assert line.next() is None or line.next() <= end
    out += [(frame, end) for frame in line.due(end)]
    assert [frame for frame, _ in out] == [str(number).encode() for number in range(len(steps))]
    assert all(at >= before + 10.0 for (_, at), before in zip(out, went, strict=True))


def test_a_full_delay_line_loses_the_newest():
    line = Line(1.0, 2)
    for number in range(3):
        line.put(bytes([number]), 0.0)
    assert line.due(1.0) == [b"\0", b"\1"]
