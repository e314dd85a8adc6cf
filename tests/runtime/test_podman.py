"""What only a real podman can show: limits, namespaces, hangs, deaths, an independent witness."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from podman import PodmanClient

from edgekube.runtime.base import (
    ContainerInfo,
    ContainerSpec,
    Device,
    InvalidSpec,
    Limits,
    Phase,
    RuntimeUnavailable,
    Security,
)
from edgekube.runtime.podman import PodmanRuntime, PodmanService, ServicePaths, open_runtime
from runtime.machine import IMAGE, PodmanMachine, make_image, service_pid

pytestmark = pytest.mark.root
SLEEP = ("sh", "-c", "trap 'exit 7' TERM; echo ready; sleep 1000 & wait")


@dataclass
class Node:
    machine: PodmanMachine
    runtime: PodmanRuntime
    folder: Path
    made: int = 0

    def spec(self, *command: str, **changes) -> ContainerSpec:
        self.made += 1
        return replace(
            ContainerSpec(
                name=f"t{self.made}",
                image=IMAGE,
                command=command or None,
                log_path=self.folder / f"t{self.made}.log",
                labels={"edgekube.io/pod-uid": "uid"},
                cgroup_parent=f"{self.machine.cgroup}/pod{self.made}",
            ),
            **changes,
        )

    async def run(self, *command: str, **changes) -> tuple[str, ContainerSpec]:
        spec = self.spec(*command, **changes)
        container = await self.runtime.containers.create(spec)
        await self.runtime.containers.start(container)
        return container, spec

    async def ended(self, *command: str, **changes) -> tuple[ContainerInfo, str]:
        container, spec = await self.run(*command, **changes)
        return await over(self.runtime, container), text(spec.log_path)


async def over(runtime: PodmanRuntime, container: str) -> ContainerInfo:
    while (info := await runtime.containers.inspect(container)).phase is not Phase.EXITED:
        await asyncio.sleep(0.02)
    return info


def text(*logs: Path) -> str:
    """Return what was logged, partial records joined."""
    found = ""
    for log in logs:
        for line in log.read_text().splitlines():
            _, _, tag, message = line.split(" ", 3)
            found += message + ("\n" if tag == "F" else "")
    return found


async def holds(url: str, container: str) -> ContainerInfo:
    runtime = open_runtime(url)
    try:
        return await runtime.containers.inspect(container)
    finally:
        await runtime.close()


@pytest.fixture
async def node(machine: PodmanMachine, tmp_path: Path) -> AsyncIterator[Node]:
    runtime = open_runtime(machine.paths.url)
    await runtime.images.load(make_image(tmp_path))
    yield Node(machine, runtime, tmp_path)
    # The youngest first: it may live in another's namespaces.
    for info in sorted(await runtime.containers.list(), key=lambda info: -info.created_at):
        await runtime.containers.remove(info.id)
    await runtime.close()


# --- Limits and isolation -------------------------------------------------------------------------


async def test_limits_reach_the_kernel(node):
    limits = Limits(memory=32 << 20, cpu_shares=512, cpu_quota=20_000, pids=17, oom_score_adj=500)
    container, spec = await node.run(*SLEEP, limits=limits)
    cgroup = f"{spec.cgroup_parent.lstrip('/')}/libpod-{container}"
    root = Path("/sys/fs/cgroup")
    v1 = {
        f"memory/{cgroup}/memory.limit_in_bytes": str(32 << 20),
        f"memory/{cgroup}/memory.memsw.limit_in_bytes": str(32 << 20),
        f"cpu/{cgroup}/cpu.shares": "512",
        f"cpu/{cgroup}/cpu.cfs_quota_us": "20000",
        f"pids/{cgroup}/pids.max": "17",
    }
    v2 = {
        f"{cgroup}/memory.max": str(32 << 20),
        f"{cgroup}/memory.swap.max": "0",
        f"{cgroup}/cpu.max": "20000 100000",
        f"{cgroup}/pids.max": "17",
    }
    expected = v2 if (root / "cgroup.controllers").exists() else v1
    assert {name: (root / name).read_text().strip() for name in expected} == expected
    session = await node.runtime.sessions.exec(
        container, ["cat", "/proc/1/oom_score_adj"], stdin=False, tty=False
    )
    assert await session.read() == (1, b"500\n")
    await session.close()


async def test_changed_limits_reach_the_kernel(node):
    container, spec = await node.run(*SLEEP, limits=Limits(memory=32 << 20, cpu_shares=512, cpu_quota=20_000))
    root, cgroup = Path("/sys/fs/cgroup"), f"{spec.cgroup_parent.lstrip('/')}/libpod-{container}"
    for size, shares, quota in ((64 << 20, 1024, 70_000), (24 << 20, 2, 1000)):
        await node.runtime.containers.update(
            container, Limits(memory=size, cpu_shares=shares, cpu_quota=quota)
        )
        v1 = {
            f"memory/{cgroup}/memory.limit_in_bytes": str(size),
            f"memory/{cgroup}/memory.memsw.limit_in_bytes": str(size),
            f"cpu/{cgroup}/cpu.shares": str(shares),
            f"cpu/{cgroup}/cpu.cfs_quota_us": str(quota),
        }
        v2 = {f"{cgroup}/memory.max": str(size), f"{cgroup}/cpu.max": f"{quota} 100000"}
        expected = v2 if (root / "cgroup.controllers").exists() else v1
        assert {name: (root / name).read_text().strip() for name in expected} == expected


async def test_a_start_that_was_half_done_goes_on(node):
    container = await node.runtime.containers.create(node.spec(*SLEEP))
    node.machine.podman("init", container)
    again = open_runtime(node.machine.paths.url)
    assert (await again.containers.inspect(container)).phase is Phase.CREATED
    await again.containers.start(container)
    assert (await again.containers.inspect(container)).phase is Phase.RUNNING
    await again.close()


async def test_a_fork_too_many_fails(node):
    info, log = await node.ended(
        "sh", "-c", "sleep 5 & sleep 5 & sleep 5 & sleep 5 & echo not reached", limits=Limits(pids=3)
    )
    assert info.exit_code != 0
    assert "can't fork" in log
    assert "not reached" not in log


async def test_exit_code_137_alone_is_no_out_of_memory_kill(node):
    info, _ = await node.ended("sh", "-c", "exit 137", limits=Limits(memory=16 << 20))
    assert (info.exit_code, info.oom_killed) == (137, False)


async def test_a_child_killed_for_memory_counts(node):
    info, _ = await node.ended("sh", "-c", "tail -c 64m /dev/zero; exit $?", limits=Limits(memory=16 << 20))
    assert (info.exit_code, info.oom_killed) == (137, True)


async def test_an_adopted_container_is_watched_too(node):
    container, _ = await node.run(
        "sh", "-c", "read x; tail -c 64m /dev/zero", stdin=True, limits=Limits(memory=16 << 20)
    )
    await node.runtime.close()
    again = open_runtime(node.machine.paths.url)
    assert [info.phase for info in await again.containers.list()] == [Phase.RUNNING]
    session = await again.sessions.attach(container, stdin=True, tty=False)
    await session.write(b"go\n")
    info = await over(again, container)
    assert (info.exit_code, info.oom_killed) == (137, True)
    await session.close()
    await again.close()


async def test_nothing_is_left_in_the_root_folder(node):
    await node.ended("tail", "-c", "64m", "/dev/zero", limits=Limits(memory=16 << 20))
    assert not Path("/oom").exists()


async def test_rights(node):
    status = ("cat", "/proc/self/status")
    _, plain = await node.ended(*status)
    security = Security(user="5:6", groups=(77,), cap_drop=("ALL",), no_new_privileges=True)
    _, bound = await node.ended(*status, security=security)
    fields = [
        dict(line.split(":\t", 1) for line in log.splitlines() if ":\t" in line) for log in (plain, bound)
    ]
    assert [int(f["CapBnd"], 16) == 0 for f in fields] == [False, True]
    assert [f["NoNewPrivs"] for f in fields] == ["0", "1"]
    assert fields[0]["Seccomp"] == "2"
    assert fields[1]["Uid"].split() == ["5"] * 4
    assert set(fields[1]["Groups"].split()) == {"6", "77"}
    _, free = await node.ended(*status, security=Security(seccomp="unconfined"))
    assert "Seccomp:\t0" in free


async def test_privileges_and_devices(node):
    _, log = await node.ended("cat", "/proc/self/status", security=Security(privileged=True))
    assert "Seccomp:\t0" in log
    device = Device(source="/dev/null", target="/dev/mine", permissions="rw")
    info, log = await node.ended("sh", "-c", "cat /dev/mine && ls -l /dev/mine", devices=(device,))
    assert info.exit_code == 0
    assert log.startswith("c")


async def test_a_container_joins_the_network_namespace_it_is_given(node):
    inside = node.machine.enter
    subprocess.run([*inside, "ip", "netns", "add", "pod"], check=True)
    try:
        number = subprocess.run(
            [*inside, "stat", "-Lc", "%i", "/run/netns/pod"], check=True, capture_output=True, text=True
        ).stdout.strip()
        _, log = await node.ended("readlink", "/proc/self/ns/net", netns="/run/netns/pod")
        assert log == f"net:[{number}]\n"
        _, log = await node.ended("readlink", "/proc/self/ns/net")
        assert log != f"net:[{number}]\n"
    finally:
        subprocess.run([*inside, "ip", "netns", "delete", "pod"], check=True)


async def test_containers_share_processes_and_ipc(node):
    first, _ = await node.run("sleep", "12345")
    _, log = await node.ended("ps", "-o", "args", pid_of=first, ipc_of=first)
    assert "sleep 12345" in log
    _, log = await node.ended("ps", "-o", "args")
    assert "sleep 12345" not in log


async def test_the_agents_environment_does_not_leak(node, monkeypatch):
    _, log = await node.ended("env")
    names = {line.partition("=")[0] for line in log.splitlines()}
    assert names <= {"PATH", "TERM", "HOME", "HOSTNAME", "container"}


async def test_a_command_that_is_not_there(node):
    container = await node.runtime.containers.create(node.spec("/nosuch"))
    with pytest.raises(InvalidSpec, match="nosuch"):
        await node.runtime.containers.start(container)
    # It never ran: the next attempt may have its name.
    assert (await node.runtime.containers.inspect(container)).phase is Phase.CREATED


async def test_bad_values_are_refused(node):
    with pytest.raises(InvalidSpec, match="SIGNOPE"):
        await node.runtime.containers.create(node.spec(stop_signal="SIGNOPE"))


# --- Logs and streams -----------------------------------------------------------------------------


async def test_a_log_rotated_under_load_loses_no_line(node):
    container, spec = await node.run("seq", "1", "200000")
    log, rotated = spec.log_path, []
    for number in range(8):
        if (await node.runtime.containers.inspect(container)).phase is not Phase.RUNNING:
            break
        rotated.append(log.rename(log.with_suffix(f".{number}")))
        with suppress(Exception):  # it may end just then
            await node.runtime.sessions.reopen_log(container)
    await over(node.runtime, container)
    logs = [*rotated, log] if log.exists() else rotated
    assert rotated
    assert text(*logs) == "".join(f"{number}\n" for number in range(1, 200_001))


async def test_much_output_arrives_whole(node):
    container, _ = await node.run(*SLEEP)
    session = await node.runtime.sessions.exec(
        container, ["sh", "-c", "seq 1 300000; exit 3"], stdin=False, tty=False
    )
    found = bytearray()
    while (item := await session.read()) is not None:
        found += item[1]
    assert bytes(found) == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert await session.wait() == 3
    await session.close()


async def test_the_monitors_of_ended_execs_go_away(node):
    # exit_command_delay is 5 s, not 5 min: seen in the monitors' own command lines.
    container, _ = await node.run(*SLEEP)
    session = await node.runtime.sessions.exec(container, ["true"], stdin=False, tty=False)
    assert await session.wait() == 0
    await session.close()
    delays = {
        words[words.index("--exit-delay") + 1]
        for words in command_lines()
        if words[0].endswith("conmon")
        and str(node.machine.root) in " ".join(words)
        and "--exit-delay" in words
    }
    assert delays <= {"5"}


def command_lines() -> list[list[str]]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().decode(errors="replace").split("\0")
            found.append(words)
    return found


# --- The service ----------------------------------------------------------------------------------


async def test_a_hung_service_is_told_in_bounded_time_and_forgiven(node):
    container, _ = await node.run(*SLEEP)
    impatient = open_runtime(f"{node.machine.paths.url}&timeout=0.3")
    node.machine.suspend()
    try:
        with pytest.raises(RuntimeUnavailable, match="does not answer"):
            await impatient.containers.list()
        with pytest.raises(RuntimeUnavailable):
            await impatient.sessions.exec(container, ["true"], stdin=False, tty=False)
    finally:
        node.machine.resume()
    assert (await node.runtime.containers.inspect(container)).phase is Phase.RUNNING
    await impatient.close()


@asynccontextmanager
async def supervised(
    machine: PodmanMachine, name: str, *, every: float = 10.0
) -> AsyncIterator[PodmanService]:
    """Run a service of its own storage in the machine's namespaces."""
    paths = ServicePaths(machine.root / name, machine.root / f"{name}-run")
    service = PodmanService(paths, enter=machine.enter, every=every)
    task = asyncio.create_task(service.run())
    try:
        await service.ready()
        yield service
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert service.pid == 0


async def test_a_killed_service_comes_back_and_containers_never_notice(machine, tmp_path):
    async with supervised(machine, "again") as service:
        runtime = open_runtime(service.url)
        await runtime.images.load(make_image(tmp_path))
        node = Node(machine, runtime, tmp_path)
        container, _ = await node.run(*SLEEP)
        before = await runtime.containers.inspect(container)
        for _ in range(2):
            killed = service.pid
            os.kill(service_pid(killed), signal.SIGKILL)
            while service.pid in {0, killed}:
                await asyncio.sleep(0.02)
            await service.ready()
            assert await runtime.containers.inspect(container) == before
        await runtime.close()
    # The next agent's service finds it, too.
    async with supervised(machine, "again") as service:
        assert await holds(service.url, container) == before
        await open_runtime(service.url).containers.remove(container)


async def test_a_hung_service_is_killed_and_comes_back(machine, tmp_path):
    async with supervised(machine, "hung", every=2.0) as service:
        runtime = open_runtime(service.url)
        await runtime.images.load(make_image(tmp_path))
        node = Node(machine, runtime, tmp_path)
        container, _ = await node.run(*SLEEP)
        before = await runtime.containers.inspect(container)
        hung = service.pid
        os.kill(service_pid(hung), signal.SIGSTOP)
        async with asyncio.timeout(40):
            while service.pid in {0, hung}:
                await asyncio.sleep(0.05)
        await service.ready()
        assert await runtime.containers.inspect(container) == before
        await runtime.containers.remove(container)
        await runtime.close()


AGENT = """
import asyncio, sys
from pathlib import Path
from edgekube.runtime.podman import PodmanService, ServicePaths
async def main():
    service = PodmanService(ServicePaths(Path(sys.argv[1]), Path(sys.argv[2])))
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run())
        await service.ready()
        print(service.pid, flush=True)
asyncio.run(main())
"""


def test_the_service_never_outlives_the_agent(machine):
    folders = [str(machine.root / name) for name in ("orphan", "orphan-run")]
    agent = subprocess.Popen(
        [*machine.enter, sys.executable, "-c", AGENT, *folders], stdout=subprocess.PIPE, text=True
    )
    try:
        assert agent.stdout is not None
        assert int(agent.stdout.readline()) > 0
        assert any(folders[0] in " ".join(words) and words[0] == "podman" for words in command_lines())
    finally:
        os.kill(service_pid(agent.pid), signal.SIGKILL)
        agent.wait()
        agent.stdout.close()
    while any(folders[0] in " ".join(words) and words[0] == "podman" for words in command_lines()):
        time.sleep(0.02)


# --- An independent witness -----------------------------------------------------------------------


async def test_podmans_own_client_sees_the_same(node):
    container, spec = await node.run(*SLEEP, env={"A": "b"}, stop_signal="SIGUSR1")
    other, _ = await node.run("sh", "-c", "exit 3")
    await over(node.runtime, other)

    def look():
        with PodmanClient(base_url=f"unix://{node.machine.paths.socket}") as client:
            return {c.id: c.inspect() for c in client.containers.list(all=True)}, client.images.list()

    seen, images = await asyncio.to_thread(look)
    assert seen[container]["Name"] == spec.name
    assert seen[container]["State"]["Status"] == "running"
    assert seen[container]["HostConfig"]["LogConfig"]["Type"] == "k8s-file"
    assert seen[container]["Config"]["StopSignal"] == 10
    assert "A=b" in seen[container]["Config"]["Env"]
    assert seen[other]["State"]["ExitCode"] == 3
    assert [tag for image in images for tag in image.tags if tag == IMAGE]
    listed = {info.id: info for info in await node.runtime.containers.list()}
    # Podman says "stopped" until it has cleared up after a container.
    phases = {i: s["State"]["Status"].replace("stopped", "exited") for i, s in seen.items()}
    assert phases == {i: info.phase.value for i, info in listed.items()}
