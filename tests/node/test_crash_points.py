"""The agent dies before or after every single call it makes; the next one must come to the same end."""

import asyncio

import pytest

pytestmark = pytest.mark.looptime

CALLS = {
    "containers": ("create", "start", "stop", "remove"),
    "images": ("pull",),
    "network": ("attach", "detach"),
}
SPEC = {
    "initContainers": [{"name": "init", "image": "fake/exit:0"}],
    "containers": [{"name": "one"}, {"name": "two"}],
    "volumes": [{"name": "v", "emptyDir": {}}],
}


class Knife:
    """Counts calls that change something; the one numbered `at` never returns, done or not done."""

    def __init__(self, at, *, after):
        self.at, self.after = at, after
        self.count = 0
        self.cut = asyncio.Event()
        self.starts = []

    def over(self, adapter, names):
        for name in names:
            setattr(adapter, name, self._wrapped(name, getattr(adapter, name)))
        return adapter

    def _wrapped(self, name, call):
        async def wrapped(*args, **kwargs):
            self.count += 1
            mine = self.count == self.at
            if mine and not self.after:
                self.cut.set()
                await asyncio.Event().wait()
            result = await call(*args, **kwargs)
            if name == "start":
                self.starts.append(args[0])
            if mine:
                self.cut.set()
                await asyncio.Event().wait()
            return result

        return wrapped


class Proxy:
    """An adapter of one's own, so that the next agent gets an unharmed one."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


def arm(rig, knife):
    def runtime(made):
        knife.over(made.containers, CALLS["containers"])
        knife.over(made.images, CALLS["images"])
        return made

    rig.runtime_wrapper = runtime
    rig.network_wrapper = lambda network: knife.over(Proxy(network), CALLS["network"])


async def live_and_die(rig, pod, knife):
    """Run the pod's whole life; on the cut, kill the agent and start another."""

    async def until(true):
        while not true():
            if knife.cut.is_set():
                knife.cut.clear()
                await rig.stop()
                knife.at = -1
                rig.start()
            await asyncio.sleep(0.05)

    arm(rig, knife)
    rig.start()
    rig.put(pod)
    async with asyncio.timeout(120):
        await until(lambda: "uid-web" in rig.notes.statuses and rig.notes.last().phase == "Running")
        await asyncio.sleep(1)
        assert rig.notes.last().phase == "Running"
        assert sorted(c.name.split("_")[1] for c in rig.containers()) == ["init", "one", "two"]
        assert all(status.restart_count == 0 for status in rig.notes.last().container_statuses)
        assert len(knife.starts) == len(set(knife.starts)) <= 3
        rig.delete(pod)
        await until(lambda: rig.notes.gone)
    assert rig.machine.containers == {}
    assert await rig.network.list() == []
    assert list((rig.folder / "pods").iterdir()) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 16))
async def test_every_crash_point_converges(rig, pod_of, at, after):
    knife = Knife(at, after=after)
    await live_and_die(rig, pod_of(SPEC), knife)
    assert knife.at == -1, "this number was never reached: lower the range"


async def test_the_crash_points_are_all_there(rig, pod_of):
    knife = Knife(-1, after=True)
    await live_and_die(rig, pod_of(SPEC), knife)
    # 2 pulls, 3 creates, 3 starts, 2 stops, 3 removes, attach and detach.
    assert knife.count == 15, "set the range of crash points to this"
