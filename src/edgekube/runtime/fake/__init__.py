"""A faithful make-believe runtime, for tests and for trying things without podman."""

from edgekube.runtime.fake.machine import FakeMachine
from edgekube.runtime.fake.process import Process
from edgekube.runtime.fake.runtime import FakeRuntime, open_runtime

__all__ = ["FakeMachine", "FakeRuntime", "Process", "open_runtime"]
