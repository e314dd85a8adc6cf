"""PolicyRules in the kernel: table `edgekube-policies`, one atomic netlink batch per step, no subprocess."""

from edgekube.network.nftables.kernel import Kernel
from edgekube.network.nftables.policies_layout import TABLE, Layout, write_change, write_frame
from edgekube.network.nftables.transaction import Transaction
from edgekube.network.policy import Policing


class NftablesPolicyRules:
    """Programs the network namespace the process runs in. Without policies there is no table."""

    def __init__(self, *, table: str = TABLE) -> None:
        self.kernel = Kernel(table)
        self._layout = Layout()
        self._there = False

    async def replace(self, wish: Policing) -> None:
        """Build the table anew in one batch."""
        await self.kernel.do(lambda: self._replace(Layout(wish)))

    async def change(self, wish: Policing) -> None:
        """Write the difference in one batch."""
        await self.kernel.do(lambda: self._change(Layout(wish)))

    async def intact(self) -> bool:
        """Compare the kernel's ruleset generation with the last one seen; if it moved, count our rules."""
        return await self.kernel.do(lambda: not self._there or self.kernel.holds(self._layout.count))

    async def clear(self) -> None:
        """Remove the table."""
        await self.kernel.do(lambda: self._replace(Layout()))

    def close(self) -> None:
        """Let the socket and the thread go; the rules stay in the kernel."""
        self.kernel.close()

    def _replace(self, layout: Layout) -> None:
        change = Transaction(self.kernel.table)
        if layout.wish:
            change.start_afresh("edgekube: network policies")
            write_frame(change)
            write_change(change, Layout(), layout)
        else:
            change.add_table()
            change.delete_table()
        self.kernel.commit(change)
        self._layout, self._there = layout, bool(layout.wish)

    def _change(self, layout: Layout) -> None:
        if not (self._there and layout.wish):
            if self._there or layout.wish:
                self._replace(layout)
            return
        change = Transaction(self.kernel.table)
        write_change(change, self._layout, layout)
        self.kernel.commit(change)
        self._layout = layout
