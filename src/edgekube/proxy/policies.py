"""
The node's part of network policies: keeps the packet rules equal to what the mirror says.

A pod is never without its policies: `PolicedNetwork` programs them between giving the pod its
address and telling the kubelet of it, and fails if it cannot.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from edgekube.control.mirror import Mirror
from edgekube.control.reconcile import Controller
from edgekube.network.base import UNLIMITED, Attachment, Bandwidth, NetworkError, PodNetwork, Traffic
from edgekube.network.policy import Policing, PolicyRules
from edgekube.proxy.policyplan import Knowledge, resolve

log = logging.getLogger(__name__)

OpenNetwork = Callable[[], Awaitable[PodNetwork]]
_KEY = "policies"
_RETRY = 5.0
"""Seconds until rules that could not be written are tried again."""


class NodePolicies:
    """Programs `rules` for the node; `network` waits for the pod network and returns it."""

    def __init__(
        self, mirror: Mirror, rules: PolicyRules, network: OpenNetwork, *, node_name: str, cluster_cidrs: tuple[str, ...],
        gather: float = 0.1, check: float = 30.0,
    ) -> None:  # fmt: skip
        self._mirror = mirror
        self._rules = rules
        self._network = network
        self._node_name, self._cluster_cidrs = node_name, cluster_cidrs
        self._gather = gather
        """Seconds at least between two batches."""
        self._check = check
        """Seconds between looks whether the rules are still there."""
        self._writing = asyncio.Lock()
        self._programmed: Policing | None = None
        """None: unknown, so everything must be written."""
        self._stale = True
        """Whether something may have changed since it was last resolved."""
        self._last = self._looked = float("-inf")
        self._controller = Controller("policies", self)

    async def run(self) -> None:
        """Program everything once the mirror is complete, then follow changes until cancelled."""
        mirror = self._mirror
        for copy in (mirror.policies, mirror.pods, mirror.namespaces, mirror.peer_slices):
            copy.subscribe(lambda _old, _new: self.look())
            await copy.synced.wait()
        self._controller.queue.add(_KEY)
        await self._controller.run()

    def look(self) -> None:
        """Compare soon."""
        self._stale = True
        wait = self._last + self._gather - asyncio.get_running_loop().time()
        if wait > 0:
            self._controller.queue.add_after(_KEY, wait)
        else:
            self._controller.queue.add(_KEY)

    async def open_network(self) -> PodNetwork:
        """Return the pod network that puts policies in force for every pod it attaches."""
        return PolicedNetwork(await self._network(), self)

    async def enforce(self) -> None:
        """Program what changed; raises NetworkError."""
        async with self._writing:
            self._stale = False
            try:
                wish = await self._wish()
                # Until this has ended well, nobody knows what is programmed.
                programmed, self._programmed = self._programmed, None
                if programmed is None:
                    await self._rules.replace(wish)
                elif programmed != wish:
                    await self._change(wish)
                self._programmed = wish
            except BaseException:
                self._stale = True
                raise

    async def reconcile(self, key: str) -> float:
        """Program what changed since the last time, or everything if it is not known what is programmed."""
        del key
        now = self._last = asyncio.get_running_loop().time()
        try:
            if self._programmed and now >= self._looked + self._check:
                self._looked = now
                if not await self._rules.intact():
                    log.warning("somebody removed policy rules: writing them again")
                    self._programmed = None
            if self._stale or self._programmed is None:
                await self.enforce()
        except NetworkError as error:
            log.warning("policies: %s", error)
            return _RETRY
        return self._check

    async def _change(self, wish: Policing) -> None:
        try:
            await self._rules.change(wish)
        except NetworkError as error:
            log.warning("policy rules could not be changed, writing them all again: %s", error)
            await self._rules.replace(wish)

    async def _wish(self) -> Policing:
        mirror = self._mirror
        if not len(mirror.policies):
            return Policing()
        attached = await (await self._network()).list()
        return resolve(
            Knowledge(
                node_name=self._node_name,
                cluster_cidrs=self._cluster_cidrs,
                policies=tuple(mirror.policies),
                pods=tuple(mirror.pods),
                addresses={item.uid: item.addresses for item in attached if item.address},
                namespaces={space.metadata.name: space.metadata.labels for space in mirror.namespaces},
                slices=tuple(mirror.peer_slices),
            )
        )

    async def admit(self) -> None:
        """Put policies in force for a pod that got its address; raises NetworkError if there are any and it fails."""
        try:
            await self.enforce()
        except NetworkError:
            if len(self._mirror.policies):
                raise
            # A kernel without nftables does for a node without policies; `reconcile` complains.
            self.look()


class PolicedNetwork:
    """A PodNetwork whose pods are under their policies before anybody can start them."""

    def __init__(self, network: PodNetwork, policies: NodePolicies) -> None:
        self._network = network
        self._policies = policies

    async def attach(
        self, uid: str, hostname: str, *, sysctls: Mapping[str, str], bandwidth: Bandwidth = UNLIMITED
    ) -> Attachment:
        """Give the pod its place, under its policies; NetworkError if they cannot be put in force."""
        made = await self._network.attach(uid, hostname, sysctls=sysctls, bandwidth=bandwidth)
        await self._policies.admit()
        return made

    async def detach(self, uid: str) -> None:
        """Take all of it away."""
        await self._network.detach(uid)
        self._policies.look()

    async def list(self) -> Sequence[Attachment]:
        """Return every pod that holds an address."""
        return await self._network.list()

    async def traffic(self, uid: str) -> Traffic:
        """Return the pod's counters."""
        return await self._network.traffic(uid)
