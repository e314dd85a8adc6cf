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
    ranked = sorted((item for item in addresses if ":" not in item.address), key=_rank)
    if wish.interface:
        ranked = [item for item in ranked if item.interface == wish.interface]
    if not ranked:
        return before or NOWHERE
    best = [item.address for item in ranked if _rank(item) == _rank(ranked[0])]
    return before if before in best else best[0]


def choose6(addresses: Sequence[NodeAddress], address: str, *, before: str = "") -> str:
    """Return an IPv6 address on the interface that has the IPv4 `address`, "" if there is none."""
    interfaces = {item.interface for item in addresses if item.address == address}
    found = [item.address for item in addresses if ":" in item.address and item.interface in interfaces]
    return before if before in found else next(iter(found), "")


def _rank(item: NodeAddress) -> tuple[bool, bool, bool]:
    """Sort the likeliest first; of equal ones the kernel's order decides."""
    return IPv4Address(item.address).is_link_local, not item.default, item.interface.startswith(_INSIDE)


class NodeAddressLoop:
    """
    Calls `tell` with the node's IPv4 and IPv6 address whenever one is another than before.

    The latter is looked for if `dual`, and else "".
    """

    def __init__(
        self, surroundings: Surroundings, wish: AddressWish, tell: Callable[[str, str], None], *, known: str = "",
        dual: bool = False,
    ) -> None:  # fmt: skip
        self._surroundings, self._wish, self._tell = surroundings, wish, tell
        self._known, self._known6, self._dual = known, "", dual

    async def run(self) -> None:
        """Follow changes until cancelled; returns at once if the user fixed the address and there is no other."""
        while self._dual or not self._wish.address:
            self._look()
            try:
                async with asyncio.timeout(_LOOK):
                    await self._surroundings.changed()
            except TimeoutError:
                continue
            await asyncio.sleep(_SETTLE)

    def _look(self) -> None:
        try:
            addresses = self._surroundings.addresses()
        except NetworkError as error:
            log.warning("this node's addresses: %s", error)
            return
        found = choose(addresses, self._wish, before=self._known)
        found6 = choose6(addresses, found, before=self._known6) if self._dual else ""
        if (found, found6) == (self._known, self._known6):
            return
        if self._known:
            log.info("this node's address is %s %s now, was %s %s", found, found6, self._known, self._known6)
        self._known, self._known6 = found, found6
        self._tell(found, found6)
