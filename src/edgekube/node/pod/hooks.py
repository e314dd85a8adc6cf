"""postStart and preStop: exec, httpGet, tcpSocket, sleep (kubelet's lifecycle handlers)."""

import asyncio

from edgekube.api.types import core_v1
from edgekube.node.probes.check import Answer, Target, ask
from edgekube.runtime.base import Sessions


async def run_hook(hook: core_v1.LifecycleHandler, target: Target, sessions: Sessions) -> Answer:
    """Run a hook to its end; the caller limits its time."""
    if hook.sleep is not None:
        await asyncio.sleep(float(hook.sleep.seconds))
        return Answer(success=True)
    return await ask(hook, target, sessions)
