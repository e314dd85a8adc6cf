"""
Who sees an object once more (Kubernetes docs, "Dynamic Admission Control", "Reinvocation policy").

A webhook or policy with IfNeeded that ran runs again, once, if a later one of its sort changed the object, or
anything else did after all of its sort had run. One that did not run at first is not run then either.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

import msgspec

from edgekube.apiserver.request import Tree


@dataclass(slots=True)
class Round:
    """What the mutators of one sort did to one write."""

    ran: set[Hashable] = field(default_factory=set)
    """Those that want it again, if that is needed."""
    due: set[Hashable] = field(default_factory=set)
    """Those after which another one changed the object."""
    output: bytes = b""
    """The object when the last one had run."""

    def note(self, key: Hashable, *, changed: bool, again: bool) -> None:
        """Note that one ran; `again` says that it has IfNeeded."""
        if changed:
            self.due |= self.ran
        if again:
            self.ran.add(key)

    def ended(self, obj: Tree) -> None:
        """Note that all ran; next to free when none of them wants it again."""
        if self.ran:
            self.output = msgspec.json.encode(obj)

    def needed(self, obj: Tree) -> set[Hashable]:
        """Return those that run again."""
        if self.ran and msgspec.json.encode(obj) != self.output:
            return self.due | self.ran
        return self.due
