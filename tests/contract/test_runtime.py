"""What every container runtime must do: the fake one and podman, by the same words."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgekube.runtime.archive import write_archive
from edgekube.runtime.base import (
    ContainerEvent,
    ContainerInfo,
    ContainerRuntime,
    ContainerSpec,
    InvalidSpec,
    Limits,
    Mount,
    NoSuchContainer,
    NoSuchImage,
    Phase,
    PullFailed,
    RuntimeFailure,
    RuntimeUnavailable,
    Security,
    Session,
)
from edgekube.runtime.fake import FakeRuntime
from edgekube.runtime.podman import open_runtime
from runtime.machine import IMAGE, PodmanMachine, make_image

RECORD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP]) (.*)")
SLEEP = ("sh", "-c", "trap 'exit 7' TERM; echo ready; sleep 1000 & wait")


@dataclass
class World:
    """A runtime, a way to open it again, and ways to break and mend its service."""

    runtime: ContainerRuntime
    reopen: Callable[[], ContainerRuntime]
    stop_service: Callable[[], None]
    start_service: Callable[[], None]
    folder: Path
    cgroup: str
    made: int = 0

    def spec(self, *command: str, **changes: object) -> ContainerSpec:
        self.made += 1
        spec = ContainerSpec(
            name=f"c{self.made}",
            image=IMAGE,
            command=command or None,
            log_path=self.folder / f"c{self.made}.log",
            labels={"edgekube.io/pod-uid": "uid", "number": str(self.made)},
            cgroup_parent=f"{self.cgroup}/pod{self.made}",
        )
        return replace(spec, **changes)  # type: ignore[arg-type]

    async def run(self, spec: ContainerSpec) -> str:
        container = await self.runtime.containers.create(spec)
        await self.runtime.containers.start(container)
        return container

    async def running(self, **changes: object) -> tuple[str, ContainerSpec]:
        """Run the sleeper until its traps are set."""
        spec = self.spec(*SLEEP, **changes)
        container = await self.run(spec)
        await until(lambda: [text for _, _, text in records(spec.log_path)] == [b"ready"])
        return container, spec

    async def ended(self, spec: ContainerSpec) -> tuple[ContainerInfo, bytes]:
        """Run to the end; return what became of it and its log's text."""
        container = await self.run(spec)
        info = await self.phase(container, Phase.EXITED)
        return info, b"\n".join(text for _, _, text in records(spec.log_path))

    async def phase(self, container: str, phase: Phase) -> ContainerInfo:
        while True:
            info = await self.runtime.containers.inspect(container)
            if info.phase is phase:
                return info
            await asyncio.sleep(0.02)


def records(path: Path) -> list[tuple[bytes, bytes, bytes]]:
    """Return a log's (stream, tag, text); fails on any line that is not CRI format."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    assert lines.pop() == b""
    found = [RECORD.fullmatch(line) for line in lines]
    return [match.groups() for match in found if match is not None or pytest.fail(f"{lines}")]  # type: ignore[misc]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


async def output(session: Session) -> dict[int, bytes]:
    """Read a session to its end."""
    found: dict[int, bytes] = {1: b"", 2: b""}
    while (item := await session.read()) is not None:
        found[item[0]] += item[1]
    return found


async def seen(session: Session, text: bytes) -> bytes:
    """Read until `text` was seen."""
    found = b""
    while text not in found:
        item = await session.read()
        assert item is not None, found
        found += item[1]
    return found


@pytest.fixture(scope="module")
def machine() -> Iterator[PodmanMachine]:
    machine = PodmanMachine()
    try:
        machine.start()
        yield machine
    finally:
        machine.close()


@pytest.fixture(params=["fake", pytest.param("podman", marks=pytest.mark.root)])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    make = {"fake": fake_world, "podman": podman_world}[request.param]
    async with make(request, tmp_path) as world:
        await world.runtime.images.load(make_image(tmp_path))
        yield world


@asynccontextmanager
async def fake_world(_request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    runtime = FakeRuntime()

    def service(*, down: bool) -> Callable[[], None]:
        def switch() -> None:
            runtime.machine.down = down

        return switch

    yield World(
        runtime,
        lambda: FakeRuntime(runtime.machine),
        service(down=True),
        service(down=False),
        tmp_path,
        "/fake",
    )
    runtime.machine.power_off()


@asynccontextmanager
async def podman_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    machine: PodmanMachine = request.getfixturevalue("machine")
    opened: list[ContainerRuntime] = []

    def reopen() -> ContainerRuntime:
        opened.append(open_runtime(machine.paths.url))
        return opened[-1]

    world = World(reopen(), reopen, machine.kill, machine.start, tmp_path, machine.cgroup)
    yield world
    for info in await world.runtime.containers.list():
        await world.runtime.containers.remove(info.id)
    for runtime in opened:
        await runtime.close()


# --- The life of a container ----------------------------------------------------------------


async def test_a_container_is_created_started_and_stopped(world: World) -> None:
    spec = world.spec(*SLEEP)
    container = await world.runtime.containers.create(spec)
    created = await world.runtime.containers.inspect(container)
    assert (created.phase, created.name, created.image, created.labels) == (
        Phase.CREATED,
        spec.name,
        IMAGE,
        spec.labels,
    )
    assert created.created_at > 0
    assert created.started_at == created.finished_at == 0
    await world.runtime.containers.start(container)
    running = await world.runtime.containers.inspect(container)
    assert (running.phase, running.pid > 0, running.finished_at) == (Phase.RUNNING, True, 0)
    assert running.started_at > 0
    await until(lambda: records(spec.log_path))
    await world.runtime.containers.stop(container, grace=30)
    ended = await world.runtime.containers.inspect(container)
    assert (ended.phase, ended.exit_code, ended.oom_killed, ended.pid) == (Phase.EXITED, 7, False, 0)
    assert ended.finished_at >= ended.started_at


async def test_list_and_inspect_agree(world: World) -> None:
    container, _ = await world.running()
    assert list(await world.runtime.containers.list()) == [await world.runtime.containers.inspect(container)]
    await world.runtime.containers.stop(container, grace=30)
    assert list(await world.runtime.containers.list()) == [await world.runtime.containers.inspect(container)]


async def test_list_shows_only_pods_containers(world: World) -> None:
    mine = await world.runtime.containers.create(world.spec())
    other = await world.runtime.containers.create(world.spec(labels={"number": "0"}))
    assert [info.id for info in await world.runtime.containers.list()] == [mine]
    await world.runtime.containers.remove(other)


@pytest.mark.parametrize("code", [0, 1, 42, 255])
async def test_exit_codes(world: World, code: int) -> None:
    info, _ = await world.ended(world.spec("sh", "-c", f"exit {code}"))
    assert (info.exit_code, info.oom_killed) == (code, False)


async def test_who_ignores_the_stop_signal_is_killed(world: World) -> None:
    container = await world.run(world.spec("sleep", "1000"))
    await world.runtime.containers.stop(container, grace=0.1)
    info = await world.runtime.containers.inspect(container)
    assert (info.phase, info.exit_code, info.oom_killed) == (Phase.EXITED, 137, False)


async def test_the_stop_signal_can_be_chosen(world: World) -> None:
    spec = world.spec("sh", "-c", "trap 'exit 9' USR1; echo ready; sleep 1000 & wait", stop_signal="SIGUSR1")
    container = await world.run(spec)
    await until(lambda: records(spec.log_path))
    await world.runtime.containers.stop(container, grace=30)
    assert (await world.runtime.containers.inspect(container)).exit_code == 9


async def test_start_stop_and_remove_are_harmless_again(world: World) -> None:
    container, _ = await world.running()
    before = await world.runtime.containers.inspect(container)
    await world.runtime.containers.start(container)
    assert await world.runtime.containers.inspect(container) == before
    for _ in range(2):
        await world.runtime.containers.stop(container, grace=30)
    for _ in range(2):
        await world.runtime.containers.remove(container)
    with pytest.raises(NoSuchContainer):
        await world.runtime.containers.inspect(container)
    with pytest.raises(NoSuchContainer):
        await world.runtime.containers.start(container)
    with pytest.raises(NoSuchContainer):
        await world.runtime.containers.stop(container, grace=1)


async def test_remove_kills(world: World) -> None:
    container, _ = await world.running()
    await world.runtime.containers.remove(container)
    assert list(await world.runtime.containers.list()) == []


async def test_stopping_what_never_ran_is_harmless(world: World) -> None:
    container = await world.runtime.containers.create(world.spec())
    await world.runtime.containers.stop(container, grace=1)
    await world.runtime.containers.remove(container)


async def test_a_name_is_taken_over_only_from_one_that_never_ran(world: World) -> None:
    first = await world.runtime.containers.create(world.spec(*SLEEP, name="same"))
    spec = world.spec(*SLEEP, name="same")
    second = await world.runtime.containers.create(spec)
    assert second != first
    assert [info.id for info in await world.runtime.containers.list()] == [second]
    await world.runtime.containers.start(second)
    with pytest.raises(InvalidSpec, match="in use"):
        await world.runtime.containers.create(spec)


async def test_an_unknown_image_is_said(world: World) -> None:
    with pytest.raises(NoSuchImage):
        await world.runtime.containers.create(world.spec(image="localhost/nosuch:1"))


async def test_a_new_client_adopts_what_runs(world: World) -> None:
    container, spec = await world.running()
    before = await world.runtime.containers.inspect(container)
    await world.runtime.close()
    again = world.reopen()
    assert list(await again.containers.list()) == [before]
    await again.containers.stop(container, grace=30)
    assert (await again.containers.inspect(container)).exit_code == 7
    assert [text for _, _, text in records(spec.log_path)] == [b"ready"]


# --- What is inside -----------------------------------------------------------------------------


async def test_command_and_args(world: World) -> None:
    info, log = await world.ended(world.spec("echo", args=("a", "b c")))
    assert (info.exit_code, log) == (0, b"a b c")
    container = await world.run(world.spec())
    assert (await world.runtime.containers.inspect(container)).phase is Phase.RUNNING
    info, log = await world.ended(world.spec(args=("echo", "args alone")))
    assert log == b"args alone"


async def test_a_command_drops_the_images_cmd(world: World) -> None:
    info, log = await world.ended(world.spec("echo"))
    assert (info.exit_code, log) == (0, b"")


async def test_environment_user_and_hostname(world: World) -> None:
    spec = world.spec(
        "sh",
        "-c",
        'echo "$GREETING"; id -u; id -g; hostname',
        env={"GREETING": "hello there = $X"},
        security=Security(user="1234:56"),
        hostname="pod-name",
    )
    _, log = await world.ended(spec)
    assert log == b"hello there = $X\n1234\n56\npod-name"


async def test_mounts(world: World, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "file").write_text("content\n")
    script = "cat /data/file; touch /data/made; echo $X; touch /fixed/no"
    mounts = (
        Mount(source=str(source), target="/data"),
        Mount(source=str(source), target="/fixed", read_only=True),
    )
    info, log = await world.ended(world.spec("sh", "-c", script, mounts=mounts))
    assert info.exit_code == 1
    assert log.startswith(b"content\n")
    assert b"Read-only file system" in log
    assert sorted(path.name for path in source.iterdir()) == ["file", "made"]


async def test_a_missing_mount_source_is_said(world: World, tmp_path: Path) -> None:
    mounts = (Mount(source=str(tmp_path / "nowhere"), target="/data"),)
    with pytest.raises(RuntimeFailure, match="nowhere"):
        await world.run(world.spec(mounts=mounts))


async def test_a_read_only_root(world: World) -> None:
    spec = world.spec("touch", "/made", security=Security(read_only_root=True))
    info, log = await world.ended(spec)
    assert info.exit_code == 1
    assert b"Read-only file system" in log


async def test_a_handler_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(InvalidSpec, match='no runtime for "nosuch" is configured'):
        await world.runtime.containers.create(world.spec(handler="nosuch"))
    assert list(await world.runtime.containers.list()) == []


async def test_limits_of_a_running_container_change(world: World) -> None:
    script = "trap 'exit 7' TERM; echo ready; read x; tail -c 64m /dev/zero"
    spec = world.spec("sh", "-c", script, stdin=True, limits=Limits(memory=256 << 20, cpu_quota=50_000))
    container = await world.run(spec)
    await until(lambda: records(spec.log_path))
    before = await world.runtime.containers.inspect(container)
    await world.runtime.containers.update(
        container, Limits(memory=512 << 20, cpu_shares=100, cpu_quota=100_000)
    )
    await world.runtime.containers.update(container, Limits(memory=16 << 20))
    assert await world.runtime.containers.inspect(container) == before
    session = await world.runtime.sessions.attach(container, stdin=True, tty=False)
    await session.write(b"go\n")
    info = await world.phase(container, Phase.EXITED)
    assert info.oom_killed
    await session.close()
    with pytest.raises(NoSuchContainer):
        await world.runtime.containers.update("nobody", Limits(memory=32 << 20))


async def test_who_takes_too_much_memory_is_killed_and_it_is_known(world: World) -> None:
    events = await listening(world)
    spec = world.spec("tail", "-c", "64m", "/dev/zero", limits=Limits(memory=16 << 20))
    info, _ = await world.ended(spec)
    assert (info.exit_code, info.oom_killed) == (137, True)
    assert [i.oom_killed for i in await world.runtime.containers.list() if i.id == info.id] == [True]
    await until(lambda: [e.action for e in events.of(info.id)] == ["created", "started", "oom", "died"])
    await events.stop()
    # A restarted agent knows it, too.
    await world.runtime.close()
    again = world.reopen()
    assert (await again.containers.inspect(info.id)).oom_killed


async def test_usage_tells_of_running_containers_only(world: World) -> None:
    container, _ = await world.running()
    await world.runtime.containers.create(world.spec())
    [usage] = await world.runtime.containers.usage()
    assert usage.id == container
    assert usage.memory_bytes >= usage.working_set_bytes > 0
    assert usage.cpu_ns > 0
    assert usage.pids > 0


async def test_sizes_tell_what_a_container_wrote(world: World) -> None:
    made = await world.runtime.containers.create(world.spec())
    info, _ = await world.ended(world.spec("sh", "-c", "head -c 3000000 /dev/zero > /big"))
    found = await world.runtime.containers.sizes()
    assert set(found) == {made, info.id}
    assert found[made] < 1_000_000
    if world.reopen().__class__.__name__ != "FakeRuntime":  # Whose containers have no disk.
        assert found[info.id] >= 3_000_000


# --- Logs ---------------------------------------------------------------------------------------


async def test_logs_are_in_cri_format(world: World) -> None:
    spec = world.spec("sh", "-c", "echo out; echo err >&2; echo -n no end")
    await world.ended(spec)
    found = records(spec.log_path)
    assert [record for record in found if record[0] == b"stderr"] == [(b"stderr", b"F", b"err")]
    whole, rest = [record for record in found if record[0] == b"stdout"]
    assert whole == (b"stdout", b"F", b"out")
    assert rest[2] == b"no end"


async def test_reopening_a_log_after_a_rename_loses_nothing(world: World) -> None:
    spec = world.spec("cat", stdin=True)
    container = await world.run(spec)
    session = await world.runtime.sessions.attach(container, stdin=True, tty=False)
    old = spec.log_path.with_suffix(".old")
    for number in range(20):
        await session.write(b"line %d\n" % number)
        await seen(session, b"line %d\n" % number)
        if number == 9:
            spec.log_path.rename(old)
            await world.runtime.sessions.reopen_log(container)
            assert spec.log_path.exists()
    await session.close()
    expected = [b"line %d" % number for number in range(20)]
    assert [text for _, _, text in records(old) + records(spec.log_path)] == expected
    assert records(spec.log_path)


async def test_the_log_of_an_ended_container_cannot_be_reopened(world: World) -> None:
    info, _ = await world.ended(world.spec("true"))
    with pytest.raises(RuntimeFailure):
        await world.runtime.sessions.reopen_log(info.id)


# --- Sessions -----------------------------------------------------------------------------------


async def test_exec_gives_both_streams_and_the_code(world: World) -> None:
    container, spec = await world.running()
    command = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    session = await world.runtime.sessions.exec(container, command, stdin=False, tty=False)
    assert await output(session) == {1: b"out\n", 2: b"err\n"}
    assert await session.read() is None
    assert await session.wait() == 3
    await session.close()
    assert [text for _, _, text in records(spec.log_path)] == [b"ready"]


async def test_exec_reads_stdin_to_its_end(world: World) -> None:
    container, _ = await world.running()
    session = await world.runtime.sessions.exec(container, ["sh", "-c", "cat; exit 4"], stdin=True, tty=False)
    data = b"x" * 999 + b"\n"
    for _ in range(300):
        await session.write(data)
    await session.write(b"")
    assert (await output(session))[1] == data * 300
    assert await session.wait() == 4
    await session.close()


async def test_exec_on_a_terminal_is_resized(world: World) -> None:
    container, _ = await world.running()
    session = await world.runtime.sessions.exec(
        container, ["sh", "-c", "echo begin; read x; stty size; exit 5"], stdin=True, tty=True
    )
    await seen(session, b"begin\r\n")
    await session.resize(120, 40)
    await session.write(b"\n")
    assert b"40 120\r\n" in (await output(session))[1]
    assert await session.wait() == 5
    await session.close()


async def test_wait_alone_is_enough(world: World) -> None:
    container, _ = await world.running()
    session = await world.runtime.sessions.exec(container, ["false"], stdin=False, tty=False)
    assert await session.wait() == 1
    await session.close()


async def test_exec_of_what_is_not_there(world: World) -> None:
    with pytest.raises(NoSuchContainer):
        await world.runtime.sessions.exec("nosuch", ["true"], stdin=False, tty=False)
    ended, _ = await world.ended(world.spec("true"))
    with pytest.raises(RuntimeFailure):
        await world.runtime.sessions.exec(ended.id, ["true"], stdin=False, tty=False)
    with pytest.raises(RuntimeFailure):
        await world.runtime.sessions.attach(ended.id, stdin=False, tty=False)


async def test_closing_a_session_leaves_the_container_alone(world: World) -> None:
    container, _ = await world.running()
    session = await world.runtime.sessions.exec(container, ["sleep", "1000"], stdin=False, tty=False)
    await session.close()
    assert (await world.runtime.containers.inspect(container)).phase is Phase.RUNNING


async def test_attach_speaks_with_the_containers_own_process(world: World) -> None:
    spec = world.spec("sh", "-c", "read x; echo got $x; exit 6", stdin=True, stdin_once=True)
    container = await world.run(spec)
    session = await world.runtime.sessions.attach(container, stdin=True, tty=False)
    await session.write(b"word\n")
    assert (await output(session))[1] == b"got word\n"
    assert await session.wait() == 0
    await session.close()
    assert (await world.phase(container, Phase.EXITED)).exit_code == 6
    assert [text for _, _, text in records(spec.log_path)] == [b"got word"]


async def test_closing_stdin_ends_a_container_made_for_one_attachment(world: World) -> None:
    container = await world.run(world.spec("sh", "-c", "cat; exit 2", stdin=True, stdin_once=True))
    session = await world.runtime.sessions.attach(container, stdin=True, tty=False)
    await session.write(b"all\n")
    await session.write(b"")
    assert (await output(session))[1] == b"all\n"
    assert (await world.phase(container, Phase.EXITED)).exit_code == 2
    await session.close()


# --- Events -------------------------------------------------------------------------------------


@dataclass
class Listener:
    """Events as they come, collected by a task."""

    events: list[ContainerEvent]
    task: "asyncio.Task[None]"

    def of(self, container: str) -> Sequence[ContainerEvent]:
        if self.task.done():
            self.task.result()
        return [event for event in self.events if event.id == container]

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def listening(world: World) -> Listener:
    """Return a listener that surely hears: it has heard of a container made to be heard of."""
    events: list[ContainerEvent] = []

    async def collect() -> None:
        async for event in world.runtime.containers.events():
            events.append(event)  # noqa: PERF401 - seen as it comes

    listener = Listener(events, asyncio.create_task(collect()))
    while not events:
        await world.runtime.containers.remove(await world.runtime.containers.create(world.spec()))
        await asyncio.sleep(0.05)
    return listener


async def test_events_tell_a_containers_life(world: World) -> None:
    events = await listening(world)
    container, spec = await world.running()
    await world.runtime.containers.stop(container, grace=30)
    await world.runtime.containers.remove(container)
    await until(lambda: len(events.of(container)) >= 4)
    assert [event.action for event in events.of(container)] == ["created", "started", "died", "removed"]
    assert all(event.labels == spec.labels for event in events.of(container))
    await events.stop()


# --- Images -------------------------------------------------------------------------------------


async def test_images_are_loaded_inspected_listed_and_removed(world: World, tmp_path: Path) -> None:
    name = "localhost/other:2"
    write_archive(tmp_path / "other.tar", name, files={"file": b"x"}, command=("sh",))
    assert await world.runtime.images.load(tmp_path / "other.tar") == (name,)
    info = await world.runtime.images.inspect(name)
    assert info.names == (name,)
    assert info.size > 0
    assert info.digests[0].startswith("localhost/other@sha256:")
    assert await world.runtime.images.inspect(info.id) == info
    assert info.id in [image.id for image in await world.runtime.images.list()]
    for _ in range(2):
        await world.runtime.images.remove(name)
    with pytest.raises(NoSuchImage):
        await world.runtime.images.inspect(name)


async def test_an_image_in_use_is_not_removed(world: World) -> None:
    await world.runtime.containers.create(world.spec())
    with pytest.raises(RuntimeFailure):
        await world.runtime.images.remove(IMAGE)
    assert (await world.runtime.images.inspect(IMAGE)).names == (IMAGE,)


async def test_a_broken_archive_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_bytes(b"not a tar")
    for name in ("broken.tar", "missing.tar"):
        with pytest.raises(RuntimeFailure):
            await world.runtime.images.load(tmp_path / name)


async def test_a_pull_that_fails_says_why(world: World) -> None:
    with pytest.raises(PullFailed, match="connection refused"):
        await world.runtime.images.pull("127.0.0.1:1/nosuch:1")


# --- The service's death --------------------------------------------------------------------------


async def test_containers_outlive_the_service(world: World) -> None:
    events = await listening(world)
    container, _ = await world.running()
    before = await world.runtime.containers.inspect(container)
    world.stop_service()
    try:
        with pytest.raises(RuntimeUnavailable):
            await world.runtime.containers.list()
        with pytest.raises(RuntimeUnavailable):
            await world.runtime.info()
        with pytest.raises(RuntimeUnavailable):
            await world.runtime.images.pull(IMAGE)
        with pytest.raises(RuntimeUnavailable):
            await events.task
    finally:
        world.start_service()
    assert await world.runtime.containers.inspect(container) == before
    await world.runtime.containers.stop(container, grace=30)
    assert (await world.runtime.containers.inspect(container)).exit_code == 7


async def test_info_names_the_runtime(world: World) -> None:
    info = await world.runtime.info()
    assert info.name in {"fake", "podman"}
    assert re.match(r"\d+\.\d+", info.version)
    assert info.cgroup_version in {1, 2}
