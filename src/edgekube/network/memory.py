"""The network port in memory: pods have addresses but no interfaces, service rules are looked up, not programmed."""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, ip_address, ip_network

from edgekube.network.addresses import next_free
from edgekube.network.base import (
    UNLIMITED,
    Attachment,
    Backend,
    Bandwidth,
    Flows,
    Forwarding,
    Frontend,
    NetworkError,
    NodeAddress,
    Peer,
    Traffic,
)


class MemoryPodNetwork:
    """PodNetwork and PeerRoutes without a kernel; the first address of `pod_cidr` is the gateway's."""

    def __init__(self, pod_cidr: str = "10.244.0.0/24") -> None:
        self._network = IPv4Network(pod_cidr)
        self._pods: dict[str, Attachment] = {}
        self._last = ""
        self.sysctls: dict[str, Mapping[str, str]] = {}
        """What each pod asked for, by uid."""
        self.bandwidths: dict[str, Bandwidth] = {}
        """What each pod is allowed, by uid."""
        self.peers: Mapping[str, Peer] = {}
        self.own = ""
        """What peers call this node."""

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def attach(
        self, uid: str, hostname: str, *, sysctls: Mapping[str, str], bandwidth: Bandwidth = UNLIMITED
    ) -> Attachment:
        """Give the pod an address."""
        del hostname
        if uid not in self._pods:
            taken = {str(self._network[1]), *(pod.address for pod in self._pods.values())}
            self._last = next_free(self._network, taken, self._last)
            self._pods[uid] = Attachment(uid, f"/run/netns/ek-{uid}", self._last, "")
        self.sysctls[uid] = dict(sysctls)
        self.bandwidths[uid] = bandwidth
        return self._pods[uid]

    async def detach(self, uid: str) -> None:
        """Free the address."""
        self._pods.pop(uid, None)
        self.sysctls.pop(uid, None)
        self.bandwidths.pop(uid, None)

    async def list(self) -> Sequence[Attachment]:
        """Return what is attached."""
        return list(self._pods.values())

    async def traffic(self, uid: str) -> Traffic:
        """Return zeros: nothing flows here."""
        if uid not in self._pods:
            raise NetworkError(f"pod {uid} has no interface")
        return Traffic(0, 0, 0, 0)

    async def set_peers(self, peers: Mapping[str, Peer], *, own: str = "") -> None:
        """Remember the peers."""
        self.peers = dict(peers)
        self.own = own

    async def clear(self) -> None:
        """Forget everything."""
        self._pods.clear()
        self.peers = {}


class MemorySurroundings:
    """Surroundings that are told what they are."""

    def __init__(self, addresses: Iterable[NodeAddress] = ()) -> None:
        self._addresses = tuple(addresses)
        self._changed = asyncio.Event()

    def set(self, addresses: Iterable[NodeAddress]) -> None:
        """Have other addresses from now on."""
        self._addresses = tuple(addresses)
        self._changed.set()

    async def changed(self) -> None:
        """Wait for `set`."""
        await self._changed.wait()
        self._changed.clear()

    def addresses(self) -> Sequence[NodeAddress]:
        """Return what was set."""
        return self._addresses

    def close(self) -> None:
        """Nothing to close."""


class MemoryServiceRules:
    """ServiceRules that can be asked which backend a new connection would get."""

    def __init__(
        self, cluster_cidr: str = "10.244.0.0/16", *, cluster_cidr6: str = "fd00:10:244::/48"
    ) -> None:
        self._clusters = (ip_network(cluster_cidr), ip_network(cluster_cidr6))
        self._chance = random.Random(0)  # noqa: S311 - nothing secret about a backend
        self.rules: dict[Frontend, Forwarding] = {}
        self.steps = 0
        """How many atomic steps were made."""
        self.tracked = Flows(0, 65536)
        self._turns: dict[Frontend, int] = {}
        self._kept: dict[tuple[Frontend, str], tuple[Backend, float]] = {}
        self._intact = False

    async def replace(self, rules: Mapping[Frontend, Forwarding]) -> None:
        """Make `rules` all there is."""
        self.rules = dict(rules)
        self._turns.clear()
        self._kept.clear()
        self._intact = True
        self.steps += 1

    async def change(self, put: Mapping[Frontend, Forwarding], drop: Collection[Frontend]) -> None:
        """Set some, remove others."""
        absent = [frontend for frontend in drop if frontend not in self.rules]
        if absent or not self._intact:
            raise NetworkError(f"no rule for {absent[0]}" if absent else "the rules are gone")
        for frontend in drop:
            del self.rules[frontend]
        self.rules |= put
        for frontend in (*put, *drop):
            self._turns.pop(frontend, None)
        self.steps += 1

    async def intact(self) -> bool:
        """Tell whether nobody flushed."""
        return self._intact

    async def flows(self) -> Flows:
        """Return what `tracked` was set to."""
        return self.tracked

    async def clear(self) -> None:
        """Remove everything."""
        self.flush()

    def flush(self) -> None:
        """Do as another program that flushes all rules."""
        self.rules = {}
        self._intact = False

    def connect(self, frontend: Frontend, *, client: str = "192.0.2.1", now: float = 0.0) -> Backend | None:
        """
        Return the backend of a new connection; None: refused. Clients of the cluster CIDR are pods.

        KeyError: there is no such frontend. TimeoutError: the packets are dropped.
        """
        rule, address = self.rules[frontend], ip_address(client)
        if rule.sources and not any(address in ip_network(cidr) for cidr in rule.sources):
            raise TimeoutError(f"{client} is not let in")
        backends = (
            rule.inside if rule.inside and any(address in cidr for cidr in self._clusters) else rule.backends
        )
        if not backends:
            if rule.silent:
                raise TimeoutError("no backend on this node")
            return None
        kept, until = self._kept.get((frontend, client), (None, 0.0))
        if rule.affinity and kept in backends and now < until:
            chosen = kept
        elif rule.random:
            chosen = self._chance.choice(backends)
        else:
            turn = self._turns.get(frontend, 0)
            self._turns[frontend] = turn + 1
            chosen = backends[turn % len(backends)]
        self._kept[frontend, client] = (chosen, now + rule.affinity)
        return chosen
