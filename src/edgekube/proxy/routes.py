"""Ways to the pods of other nodes, kept equal to what the Node objects and this node's own links say."""

import asyncio
import logging
from collections.abc import Callable

from edgekube.control.mirror import Mirror
from edgekube.control.reconcile import Controller
from edgekube.network.base import NetworkError, PeerRoutes, Surroundings
from edgekube.proxy.peers import Conflict, plan_peers

log = logging.getLogger(__name__)

_KEY = "routes"
_LOOK = 10.0
"""Seconds until the next look, whatever the kernel told."""
_GATHER = 0.2
"""Seconds to wait for the rest of what belongs to a change of addresses: DHCP takes one away and sets another."""


class NodeRoutes:
    """
    Keeps `routes` equal to the nodes of the cluster.

    `told` hears of it when this node itself claims another's pod CIDR, with "" when that is over.
    """

    def __init__(
        self, mirror: Mirror, routes: PeerRoutes, node_name: str, *, surroundings: Surroundings | None = None,
        told: Callable[[str], None] = lambda _problem: None,
    ) -> None:  # fmt: skip
        self._mirror = mirror
        self._routes = routes
        self._node_name = node_name
        self._surroundings = surroundings
        self._told = told
        self._conflicts: tuple[Conflict, ...] = ()
        self._problem = ""
        self._said = ""
        self._controller = Controller("node-routes", self)

    async def run(self) -> None:
        """Follow the nodes and the links until cancelled."""
        self._controller.watch(self._mirror.nodes, lambda _node: [_KEY])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run(), name="node-routes")
            if self._surroundings is not None:
                group.create_task(self._follow(self._surroundings), name="links")

    async def _follow(self, surroundings: Surroundings) -> None:
        while True:
            await surroundings.changed()
            await asyncio.sleep(_GATHER)
            self._controller.queue.add(_KEY)

    async def reconcile(self, key: str) -> float:
        """Program all ways; nodes that cannot be reached are left for later."""
        del key
        others = plan_peers(self._mirror.nodes, self._node_name)
        self._tell(others.conflicts)
        said = ""
        try:
            await self._routes.set_peers(others.peers, own=others.own)
        except NetworkError as error:
            said = str(error)
        if said and said != self._said:
            log.warning("%s", said)
        self._said = said
        return _LOOK

    def _tell(self, conflicts: tuple[Conflict, ...]) -> None:
        for conflict in conflicts:
            if conflict not in self._conflicts:
                log.warning("%s", conflict)
        self._conflicts = conflicts
        problem = next((str(item) for item in conflicts if item.loser == self._node_name), "")
        if problem != self._problem:
            self._problem = problem
            self._told(problem)
