"""
The machine is being shut down: end the pods in order, the critical ones last (KEP-2000).

Only a shutdown of the machine ends pods; an agent that is merely stopped leaves them running. Which
of the two a SIGTERM means, systemd knows: while shutdown.target is about to be reached,
`systemctl is-system-running` says "stopping" (systemctl(1)), for reboot, poweroff, halt and kexec
alike. Other init systems say it by a file, `shutdown` in the agent's run directory. The agent's
service needs no inhibitor lock, but time to end: TimeoutStopSec= beyond the grace period, and an
order After=network-online.target, so that it is stopped while the network is there to report.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekube.api.types import core_v1
from edgekube.node.eviction.loop import Victim
from edgekube.node.eviction.rank import is_critical
from edgekube.node.pod.spec import grace_of
from edgekube.node.pod.state import Doom

log = logging.getLogger(__name__)

TERMINATED, MESSAGE = "Terminated", "Pod was terminated in response to imminent node shutdown."
REFUSED = Doom(
    reason="NodeShutdown", message="Pod was rejected: Pod was rejected as the node is shutting down."
)
READY = "node is shutting down"
"""What the Ready condition says meanwhile."""
MARKER = "shutdown"
ASK = 2.0
"""Seconds systemd has to answer."""
POLL = 0.1
SLACK = 3.0
"""Seconds beyond their grace that containers may take to be cleared away."""

Ask = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Wave:
    """Pods ended together, and the seconds they have."""

    pods: tuple[Victim, ...]
    seconds: float


def waves(pods: Iterable[Victim], *, grace: float, critical: float) -> tuple[Wave, ...]:
    """Return who goes when: ordinary pods have `grace` - `critical` seconds, critical ones the rest."""
    active = [pod for pod in pods if pod.active]
    groups = (
        Wave(tuple(pod for pod in active if not is_critical(pod.pod)), max(grace - critical, 0.0)),
        Wave(tuple(pod for pod in active if is_critical(pod.pod)), critical),
    )
    return tuple(wave for wave in groups if wave.pods)


async def end(pods: Sequence[Victim], *, grace: float, critical: float) -> None:
    """End all pods; returns when they have ended, at the latest some seconds after `grace`."""
    for wave in waves(pods, grace=grace, critical=critical):
        log.warning("the machine is shut down: ending %d pods within %.0f s", len(wave.pods), wave.seconds)
        for pod in wave.pods:
            pod.doom(doom_of(pod.pod, wave.seconds))
        for _ in range(int((wave.seconds + SLACK) / POLL)):
            if not any(pod.active for pod in wave.pods):
                break
            await asyncio.sleep(POLL)


def doom_of(pod: core_v1.Pod, seconds: float) -> Doom:
    """Return a pod's end: with its own grace period, but no more than there is."""
    return Doom(reason=TERMINATED, message=MESSAGE, grace=min(grace_of(pod), seconds), disrupted=True)


async def machine_stops(
    run_dir: Path, *, command: Sequence[str] = ("systemctl", "is-system-running")
) -> bool:
    """Tell whether the machine is being shut down."""
    if await asyncio.to_thread((run_dir / MARKER).exists):
        return True
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(ASK):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return output.strip() == b"stopping"
