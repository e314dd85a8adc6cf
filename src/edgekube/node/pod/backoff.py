"""
Crash back-off: 10 s after the second exit, doubled each time, at most 5 min, forgotten after a run of 10 min.

The first restart is at once. (kubelet's `doBackOff` over client-go's flowcontrol.Backoff.)
"""

from edgekube.node.pod.state import Restart

FIRST, LIMIT = 10.0, 300.0
FORGET = 2 * LIMIT


def retry_at(restart: Restart | None, exited_at: float) -> float:
    """Return when a container that exited at `exited_at` may start again; 0: now."""
    if restart is None or exited_at - restart.since > FORGET:
        return 0.0
    return exited_at + restart.delay


def after_restart(restart: Restart | None, exited_at: float, *, now: float) -> Restart:
    """Return the back-off to remember when the container is started again."""
    if restart is None or exited_at - restart.since > FORGET:
        return Restart(FIRST, now)
    return Restart(min(restart.delay * 2, LIMIT), now)
