"""PolicyRules in the kernel: table `edgekube-policies` of family ip, and of ip6 if need be; no subprocess."""

import errno

from edgekube.network.netlink import NetlinkError
from edgekube.network.nftables.families import FAMILIES, Family
from edgekube.network.nftables.kernel import Count, Kernel
from edgekube.network.nftables.policies_layout import (
    TABLE,
    Layout,
    part_of,
    write_change,
    write_frame,
)
from edgekube.network.nftables.transaction import Transaction
from edgekube.network.policy import Policing


class NftablesPolicyRules:
    """
    Programs the network namespace the process runs in; a family without policies has no table.

    A step is one atomic netlink batch for each family.
    """

    def __init__(self, *, table: str = TABLE) -> None:
        self.kernel = Kernel(table)
        self._layouts: dict[int, Layout] = {}
        """By family, of those that have a table."""

    async def replace(self, wish: Policing) -> None:
        """Build the tables anew."""
        await self.kernel.do(lambda: self._program(wish, afresh=True))

    async def change(self, wish: Policing) -> None:
        """Write the difference."""
        await self.kernel.do(lambda: self._program(wish, afresh=False))

    async def intact(self) -> bool:
        """Compare the kernel's ruleset generation with the last one seen; if it moved, count our rules."""
        return await self.kernel.do(lambda: not self._layouts or self.kernel.holds(self._count))

    async def clear(self) -> None:
        """Remove the tables."""
        await self.replace(Policing())

    def close(self) -> None:
        """Let the socket and the thread go; the rules stay in the kernel."""
        self.kernel.close()

    def _count(self) -> dict[int, Count]:
        return {number: layout.count() for number, layout in self._layouts.items()}

    def _program(self, wish: Policing, *, afresh: bool) -> None:
        for family in FAMILIES:
            layout = Layout(part_of(wish, family), family)
            old = self._layouts.get(family.number)
            if not afresh and old is not None and layout.wish:
                change = Transaction(self.kernel.table, family=family.number)
                write_change(change, old, layout)
                self.kernel.commit(change)
                self._layouts[family.number] = layout
            elif afresh or old is not None or layout.wish:
                self._write(layout, family)

    def _write(self, layout: Layout, family: Family) -> None:
        change = Transaction(self.kernel.table, family=family.number)
        if layout.wish:
            change.start_afresh("edgekube: network policies")
            write_frame(change, family)
            write_change(change, Layout(family=family), layout)
        else:
            change.add_table()
            change.delete_table()
        try:
            self.kernel.commit(change)
        except NetlinkError as error:
            # A kernel without IPv6 has nothing to remove.
            if layout.wish or error.number not in {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}:
                raise
        self._layouts.pop(family.number, None)
        if layout.wish:
            self._layouts[family.number] = layout
