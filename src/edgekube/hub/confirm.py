"""How a part of the hub says that a node's messages are written."""

from collections.abc import Iterable
from typing import Protocol


class Confirm(Protocol):
    """Called with the node and the numbers of its messages."""

    def __call__(self, node: str, seqs: Iterable[int]) -> None: ...  # noqa: D102 - see the class
