"""Where a test's traffic starts: a pod, a node or a machine of the LAN, each with the same tools."""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e import netprobe
from edgekube.app.lab import Lab

PROBE = (sys.executable, "-I", "-S", str(Path(netprobe.__file__)))


@dataclass(frozen=True)
class Place:
    """A machine of the lab, or a pod on it."""

    lab: Lab
    machine: str
    uid: str = ""
    address: str = ""

    def ask(self, action, *arguments, timeout=60):
        """Run an action of the probe and return what it says."""
        done = self.lab.run(self.machine, self._line(action, *arguments), timeout=timeout)
        assert done.returncode == 0, f"{self.machine}: {action} {arguments}: {done.stderr}"
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def going_on(self, action, *arguments, first=False):
        """Run an action of the probe while the body runs; afterwards the list given holds what it said."""
        said = []
        line = self.lab.command(self.machine, self._line(action, *arguments))
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if first:
                assert process.stdout.readline()
            yield said
            out, _ = process.communicate(timeout=30)
            said.extend(json.loads(part) for part in out.splitlines())
        finally:
            process.kill()
            process.communicate()

    @contextlib.contextmanager
    def serving(self, action, *arguments):
        """Run a server of the probe in this place while the body runs."""
        line = self.lab.command(self.machine, self._line(action, *arguments))
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline()
            yield
        finally:
            # nsenter(1) waits for its child; what it started is known by its arguments.
            self.lab.run(self.machine, ["pkill", "-f", f"{action} {' '.join(arguments)}"])
            process.wait(10)
            process.stdout.close()

    def _line(self, action, *arguments):
        inside = ("nsenter", f"--net=/run/netns/ek-{self.uid}") if self.uid else ()
        return [*inside, *PROBE, action, *map(str, arguments)]
