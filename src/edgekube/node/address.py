"""
Which address this node is known by (Node.status.addresses InternalIP), followed as DHCP changes it.

An address given by the user is never changed; one that is lost is kept until there is another, since
a pulled cable is no reason to be called something else.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from edgekube.network.base import NetworkError, NodeAddress, Surroundings

log = logging.getLogger(__name__)

NOWHERE = "127.0.0.1"
"""A node's address while it has none."""
_SETTLE = 0.3
"""Seconds to wait for the rest of a change: DHCP clients take an address away before they set the next."""
_LOOK = 60.0
_INSIDE = ("br-", "cni", "docker", "flannel", "kube", "lxc", "lxdbr", "podman", "veth", "virbr")
"""Beginnings of names of interfaces that lead to containers and virtual machines here, not to other nodes."""


@dataclass(frozen=True, slots=True)
class AddressWish:
    """What the user said: an address, or an interface; both "" leaves the choice to us."""

    address: str = ""
    interface: str = ""


def choose(addresses: Sequence[NodeAddress], wish: AddressWish, *, before: str = "") -> str:
    """
    Return the node's address; `before` is the one it had.

    That one stays if it is as good as any; else the default route's interface's first, then any LAN's.
    """
    if wish.address:
        return wish.address
    ranked = sorted(addresses, key=_rank)
    if wish.interface:
        ranked = [item for item in ranked if item.interface == wish.interface]
    if not ranked:
        return before or NOWHERE
    best = [item.address for item in ranked if _rank(item) == _rank(ranked[0])]
    return before if before in best else best[0]


def _rank(item: NodeAddress) -> tuple[bool, bool, bool]:
    """Sort the likeliest first; of equal ones the kernel's order decides."""
    return IPv4Address(item.address).is_link_local, not item.default, item.interface.startswith(_INSIDE)


class NodeAddressLoop:
    """Calls `tell` with the node's address whenever it is another than before."""

    def __init__(
        self, surroundings: Surroundings, wish: AddressWish, tell: Callable[[str], None], *, known: str = ""
    ) -> None:
        self._surroundings, self._wish, self._tell = surroundings, wish, tell
        self._known = known

    async def run(self) -> None:
        """Follow changes until cancelled; returns at once if the user fixed the address."""
        while not self._wish.address:
            self._look()
            try:
                async with asyncio.timeout(_LOOK):
                    await self._surroundings.changed()
            except TimeoutError:
                continue
            await asyncio.sleep(_SETTLE)

    def _look(self) -> None:
        try:
            found = choose(self._surroundings.addresses(), self._wish, before=self._known)
        except NetworkError as error:
            log.warning("this node's addresses: %s", error)
            return
        if found != self._known:
            if self._known:
                log.info("this node's address is %s now, was %s", found, self._known)
            self._known = found
            self._tell(found)
