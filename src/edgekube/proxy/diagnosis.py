"""
What is wrong around the node's packet rules and not ours to mend: said once, as an event of the node and in the log.

Other programs' rules that drop what pods send, and a kernel's table of connections that is full.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from edgekube.api.resource import Key
from edgekube.control.mirror import NodeEvent, Reporter
from edgekube.network.base import Flows, NetworkError, ServiceRules
from edgekube.network.foreign import ForeignRules
from edgekube.proxy.obstacles import Probe, obstacles

log = logging.getLogger(__name__)

FULL, ROOM = 0.95, 0.85
"""Parts of the kernel's table of connections from which on it is called full, and below which no longer."""
CONNECTIONS, OBSTRUCTED = "ConnectionTableFull", "ForeignRulesDropPodTraffic"
"""Reasons of the events."""


def crowded(flows: Flows, *, before: bool) -> bool:
    """Tell whether the kernel is about to drop new connections, whosever they are."""
    return flows.known >= flows.most * (ROOM if before else FULL)


class Diagnosis:
    """Looks every `check` seconds, at others' rules as often; `probes` says which packets must pass."""

    def __init__(
        self, reporter: Reporter, node_name: str, rules: ServiceRules, foreign: ForeignRules, *,
        probes: Callable[[], Sequence[Probe]], check: float = 30.0,
    ) -> None:  # fmt: skip
        self._reporter, self._node_name = reporter, node_name
        self._rules, self._foreign, self._probes = rules, foreign, probes
        self._check = check
        self._full = False
        self._said: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self._check)
        finally:
            self._foreign.close()

    async def look(self) -> None:
        """Look at everything once."""
        for part in (self._look_at_flows, self._look_at_others):
            try:
                await part()
            except NetworkError as error:
                log.debug("%s", error)

    async def _look_at_flows(self) -> None:
        flows = await self._rules.flows()
        full = crowded(flows, before=self._full)
        if full and not self._full:
            self._say(
                CONNECTIONS,
                f"the kernel follows {flows.known} of at most {flows.most} connections, then drops new ones:"
                " raise net.netfilter.nf_conntrack_max",
            )
        self._full = full

    async def _look_at_others(self) -> None:
        chains = await self._foreign.chains()
        found = frozenset(map(str, obstacles(chains, self._probes()))) if chains else frozenset()
        for problem in sorted(found - self._said):
            self._say(OBSTRUCTED, problem)
        for over in sorted(self._said - found):
            log.info("no longer so: %s", over)
        self._said = found

    def _say(self, reason: str, message: str) -> None:
        log.warning("%s", message)
        name = self._node_name
        event = NodeEvent("v1/nodes", Key("", name), name, "Warning", reason, message)
        self._reporter.event(event)
