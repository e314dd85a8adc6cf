"""Killing an agent at one exact boundary of its calls, and watching the next agent go on."""

import asyncio
import contextlib
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path

CHANGES = {
    "containers": ("create", "start", "stop", "remove", "update"),
    "images": ("pull",),
    "sessions": ("exec",),
    "network": ("attach", "detach"),
}
LOOKS = {
    "containers": ("inspect", "list", "usage"),
    "images": ("inspect", "list"),
    "sessions": (),
    "network": ("list",),
}
FILES = ("mkdir", "symlink", "rename", "replace", "unlink", "rmdir", "chmod", "chown")
WRITES = ("write_bytes", "write_text", "touch")


STEP = 0.2


class PowerCut(BaseException):
    """The agent dies here: nothing in it may catch this and go on."""


@dataclass
class Knife:
    """Counts an agent's calls; at the one numbered `at` the agent dies, the call done or not done."""

    at: int
    after: bool
    count: int = 0
    fell: bool = False
    starts: list[str] = field(default_factory=list)
    kill: object = None
    """Ends the agent's task."""

    def reached(self):
        """Count a boundary; tell whether it is the one."""
        self.count += 1
        return self.count == self.at and not self.fell

    def fall(self):
        """Let the agent die."""
        self.fell = True
        self.kill()

    def call(self, name, function):
        """Return an adapter's call with the knife over it."""

        @functools.wraps(function)
        async def wrapped(*args, **kwargs):
            mine = self.reached()
            if mine and not self.after:
                self.fall()
                await asyncio.Event().wait()
            try:
                result = await function(*args, **kwargs)
                if name == "start":
                    self.starts.append(args[0])
            finally:
                if mine:
                    self.fall()
                    await asyncio.Event().wait()
            return result

        return wrapped

    def over(self, adapter, names):
        """Put the knife over some calls of an adapter."""
        for name in names:
            setattr(adapter, name, self.call(name, getattr(adapter, name)))
        return adapter

    @contextlib.contextmanager
    def over_files(self, folder, monkeypatch):
        """Put the knife over every change to files below `folder` (and relative to open folders in it)."""

        def wrap(function):
            @functools.wraps(function)
            def wrapped(path, *args, **kwargs):
                ours = isinstance(path, str | Path) and str(path).startswith(str(folder))
                if not ours and kwargs.get("dir_fd") is None:
                    return function(path, *args, **kwargs)
                mine = self.reached()
                if mine and not self.after:
                    self.cut_files()
                result = function(path, *args, **kwargs)
                if mine:
                    self.cut_files()
                return result

            return wrapped

        with monkeypatch.context() as patch:
            for name in FILES:
                patch.setattr(os, name, wrap(getattr(os, name)))
            for name in WRITES:
                patch.setattr(Path, name, wrap(getattr(Path, name)))
            yield

    def cut_files(self):
        """Die between two changes to the disk, with whatever is half done."""
        self.fell = True
        raise PowerCut


class Proxy:
    """An adapter of one's own, so that the next agent gets an unharmed one."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


class Patient:
    """A node on which the agent dies once, and is started again by whoever waits."""

    def __init__(self, rig, knife, calls):
        self.rig, self.knife, self.calls = rig, knife, calls
        knife.kill = self.kill
        rig.runtime_wrapper = self._runtime
        rig.network_wrapper = lambda network: knife.over(Proxy(network), calls.get("network", ()))

    def kill(self):
        """End the agent that runs now."""
        self.rig.task.cancel()

    def _runtime(self, made):
        for face in ("containers", "images", "sessions"):
            self.knife.over(getattr(made, face), self.calls.get(face, ()))
        return made

    async def until(self, true, seconds=300):
        """Wait in virtual time, starting the agent again when it died."""
        async with asyncio.timeout(seconds):
            while not true():
                await self.check()
                await asyncio.sleep(STEP)

    async def sleep(self, seconds):
        """Let time pass."""
        until = self.rig.now() + seconds
        await self.until(lambda: self.rig.now() >= until)

    async def check(self):
        """Start the agent again if it is dead."""
        task = self.rig.task
        if task is None or not task.done():
            return
        with contextlib.suppress(asyncio.CancelledError, PowerCut):
            try:
                task.result()
            except BaseExceptionGroup as group:
                if group.split(PowerCut)[1] is not None:
                    raise
        self.rig.start()
