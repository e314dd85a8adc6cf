"""Thresholds: what a row of probe results means. Pure."""

from dataclasses import dataclass, replace
from enum import Enum

from edgekube.api.types import core_v1


class ProbeKind(Enum):
    """Which question a probe answers."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"

    @property
    def title(self) -> str:
        """As events name it."""
        return self.value.capitalize()


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one running container; None: not asked (yet)."""

    started: bool | None = None
    ready: bool | None = None
    alive: bool | None = None
    message: str = ""
    """Why it is not alive."""


UNKNOWN = Health()


@dataclass(frozen=True, slots=True)
class Tally:
    """Consecutive equal results and the verdict they led to (None: none yet)."""

    last: bool | None = None
    run: int = 0
    verdict: bool | None = None


def advance(tally: Tally, probe: core_v1.Probe, *, success: bool) -> Tally:
    """Count a result; the verdict changes once the threshold is reached."""
    run = tally.run + 1 if tally.last is success else 1
    needed = (probe.success_threshold if success else probe.failure_threshold) or (1 if success else 3)
    return Tally(success, run, success if run >= needed else tally.verdict)


def judge(health: Health, kind: ProbeKind, *, verdict: bool, message: str) -> Health:
    """Return `health` with a probe's verdict in it; a failed startup probe means not alive."""
    if kind is ProbeKind.READINESS:
        return replace(health, ready=verdict)
    if not verdict:
        return replace(health, alive=False, message=message)
    if kind is ProbeKind.STARTUP:
        return replace(health, started=True)
    return replace(health, alive=True)
