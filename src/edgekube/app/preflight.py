"""Before a start: what this machine lacks, and the line that mends it."""

from collections.abc import Callable

from edgekube.board.linux import LinuxBoard
from edgekube.lib.errors import EdgekubeError


class NotFit(EdgekubeError):
    """The machine cannot run a cluster as it is."""


def check(say: Callable[[str], None]) -> None:
    """Say what is not ideal; raises NotFit naming what is fatal and how to mend it."""
    obstacles = LinuxBoard().obstacles()
    for obstacle in obstacles:
        if not obstacle.fatal:
            say(f"note: {obstacle.what}; {obstacle.fix}")
    fatal = [obstacle for obstacle in obstacles if obstacle.fatal]
    if fatal:
        raise NotFit(
            "this machine is not ready:\n" + "\n".join(f"  {o.what}\n    mend: {o.fix}" for o in fatal)
        )
