"""Programs that must not outlive us."""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> Callable[[], None]:
    """Return what the child calls before exec: the kernel kills it when our process ends (prctl(2))."""
    # Looked up here: between fork and exec nothing may be loaded.
    prctl, getppid, leave = ctypes.CDLL(None).prctl, os.getppid, os._exit

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if getppid() != parent:
            leave(1)

    return prepare
