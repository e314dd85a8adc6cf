"""PolicyRules in memory: a judge to be asked whether a packet would pass."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from edgekube.network.base import NetworkError, Transport
from edgekube.network.policy import Direction, Grant, Isolated, Place, Policing


class MemoryPolicyRules:
    """Judges the first packet of a connection between other addresses than the node's own."""

    def __init__(self) -> None:
        self.wish = Policing()
        self.steps = 0
        """How many atomic steps were made."""
        self._intact = False

    async def replace(self, wish: Policing) -> None:
        """Make `wish` all there is."""
        self._check(wish)
        self.wish, self._intact = wish, True
        self.steps += 1

    async def change(self, wish: Policing) -> None:
        """Go to `wish`."""
        if not self._intact:
            raise NetworkError("the rules are gone")
        await self.replace(wish)

    async def intact(self) -> bool:
        """Tell whether nobody flushed."""
        return self._intact

    async def clear(self) -> None:
        """Remove everything."""
        self.flush()

    def flush(self) -> None:
        """Do as another program that flushes all rules."""
        self.wish, self._intact = Policing(), False

    def close(self) -> None:
        """Nothing to let go."""

    def allows(self, source: str, target: str, transport: Transport | None, port: int = 0) -> bool:
        """Tell whether a packet passes; `transport` None is a protocol without ports, such as ICMP."""
        if source == target:
            return True
        out = self._lets(Isolated(Direction.EGRESS, source), target, target, transport, port)
        return out and self._lets(Isolated(Direction.INGRESS, target), source, target, transport, port)

    def _lets(self, pod: Isolated, peer: str, target: str, transport: Transport | None, port: int) -> bool:
        policies = self.wish.isolated.get(pod)
        if policies is None:
            return True
        return any(
            self._is_peer(grant, peer) and self._is_port(grant, target, transport, port)
            for policy in policies
            for grant in self.wish.policies[policy]
        )

    def _is_peer(self, grant: Grant, peer: str) -> bool:
        if grant.anyone or any(peer in self.wish.addresses[name] for name in grant.peers):
            return True
        return any(ip_address(peer) in ip_network(cidr) for cidr in grant.cidrs)

    def _is_port(self, grant: Grant, target: str, transport: Transport | None, port: int) -> bool:
        if not grant.ports and not grant.places:
            return True
        if transport is None:
            return False
        if any(ports.transport is transport and ports.first <= port <= ports.last for ports in grant.ports):
            return True
        return any(Place(target, transport, port) in self.wish.places[name] for name in grant.places)

    def _check(self, wish: Policing) -> None:
        """Raise what a kernel would: a name that leads nowhere."""
        grants = [grant for policy in wish.policies.values() for grant in policy]
        named: list[tuple[Iterable[object], Iterable[object]]] = [
            ((policy for policies in wish.isolated.values() for policy in policies), wish.policies),
            ((name for grant in grants for name in grant.peers), wish.addresses),
            ((name for grant in grants for name in grant.places), wish.places),
        ]
        for names, known in named:
            missing = set(names) - set(known)
            if missing:
                raise NetworkError(f"nothing is named {missing.pop()}")
