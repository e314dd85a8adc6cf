import asyncio
from pathlib import Path

import pytest

from edgekube.runtime.base import ContainerSpec, InvalidSpec, Phase, PullFailed
from edgekube.runtime.fake import FakeMachine, FakeRuntime


@pytest.fixture
async def runtime():
    runtime = FakeRuntime()
    yield runtime
    runtime.machine.power_off()


def spec(tmp_path: Path, image: str, *command: str, **changes) -> ContainerSpec:
    return ContainerSpec(
        name="c", image=image, command=command or None, log_path=tmp_path / "log",
        labels={"edgekube.io/pod-uid": "u"}, **changes,
    )  # fmt: skip


async def started(runtime: FakeRuntime, wish: ContainerSpec) -> str:
    await runtime.images.pull(wish.image)
    container = await runtime.containers.create(wish)
    await runtime.containers.start(container)
    return container


async def ended(runtime: FakeRuntime, container: str):
    while (info := await runtime.containers.inspect(container)).phase is not Phase.EXITED:
        await asyncio.sleep(0)
    return info


async def test_images_say_how_they_behave(runtime, tmp_path):
    assert (await ended(runtime, await started(runtime, spec(tmp_path, "fake/exit:3")))).exit_code == 3


@pytest.mark.parametrize(
    ("image", "code"), [("fake/sleep", 0), ("fake/stubborn", 137), ("docker.io/nginx", 0)]
)
async def test_sleepers(runtime, tmp_path, image, code):
    container = await started(runtime, spec(tmp_path, image))
    await runtime.containers.stop(container, grace=0.05)
    assert (await runtime.containers.inspect(container)).exit_code == code


@pytest.mark.looptime
async def test_time_can_be_virtual(tmp_path):
    loop = asyncio.get_running_loop()
    runtime = FakeRuntime(FakeMachine(now=loop.time))
    container = await started(runtime, spec(tmp_path, "any", "sleep", "86400"))
    await asyncio.sleep(86401)
    info = await runtime.containers.inspect(container)
    assert (info.exit_code, info.finished_at - info.started_at) == (0, 86400)


async def test_planned_failures_come_once(runtime, tmp_path):
    runtime.machine.fail("create", InvalidSpec("no"))
    await runtime.images.pull("fake/sleep")
    with pytest.raises(InvalidSpec, match="no"):
        await runtime.containers.create(spec(tmp_path, "fake/sleep"))
    await runtime.containers.create(spec(tmp_path, "fake/sleep"))
    runtime.machine.pull_errors["example.org/x:1"] = "denied"
    with pytest.raises(PullFailed, match="denied"):
        await runtime.images.pull("example.org/x:1")
    assert runtime.machine.pulls == ["fake/sleep", "example.org/x:1"]


async def test_programs_can_be_added(runtime, tmp_path):
    async def probe(process, words, channel):
        process.emit(channel, b"probed " + words[0].encode())
        return 9

    runtime.machine.programs["probe"] = probe
    container = await started(runtime, spec(tmp_path, "fake/sleep"))
    session = await runtime.sessions.exec(container, ["probe", "it"], stdin=False, tty=False)
    assert await session.read() == (1, b"probed it")
    assert await session.wait() == 9


async def test_an_out_of_memory_kill_and_an_end_can_be_made(runtime, tmp_path):
    container = await started(runtime, spec(tmp_path, "fake/sleep"))
    runtime.machine.oom_kill(container)
    info = await ended(runtime, container)
    assert (info.exit_code, info.oom_killed) == (137, True)
    await runtime.containers.start(container)
    runtime.machine.end(container, 5)
    info = await ended(runtime, container)
    assert (info.exit_code, info.oom_killed) == (5, False)


async def test_an_exec_ends_with_its_container(runtime, tmp_path):
    container = await started(runtime, spec(tmp_path, "fake/sleep"))
    session = await runtime.sessions.exec(container, ["sleep", "infinity"], stdin=False, tty=False)
    await runtime.containers.stop(container, grace=1)
    assert await session.wait() == 137
