"""Topic names under `ek/<cluster>/`, and MQTT's filters (MQTT 5.0, section 4.7)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one cluster. A node may only use those below `n/<node>/` and read `all/`."""

    cluster: str

    def down(self, node: str) -> str:
        """Hub → node."""
        return f"ek/{self.cluster}/n/{node}/down"

    def up(self, node: str) -> str:
        """Node → hub; `+` for all nodes."""
        return f"ek/{self.cluster}/n/{node}/up"

    def gone(self, node: str) -> str:
        """A node's last will."""
        return f"ek/{self.cluster}/n/{node}/gone"

    def stream_in(self, node: str, stream: str) -> str:
        """Stream frames toward the node."""
        return f"ek/{self.cluster}/n/{node}/s/{stream}/in"

    def stream_out(self, node: str, stream: str) -> str:
        """Stream frames from the node."""
        return f"ek/{self.cluster}/n/{node}/s/{stream}/out"

    @property
    def all_down(self) -> str:
        """Hub → every node."""
        return f"ek/{self.cluster}/all/down"

    @property
    def all_gone(self) -> str:
        """The hub's last will."""
        return f"ek/{self.cluster}/all/gone"


def node_of(topic: str) -> str:
    """Return the node a topic below `n/` belongs to; the broker's ACL vouches for it."""
    return topic.split("/", 4)[3]


def stream_of(topic: str) -> str:
    """Return the stream id of a stream topic."""
    return topic.split("/", 6)[5]


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether `topic_filter`, which may hold `+` and a last `#`, covers `topic`."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for number, part in enumerate(wanted):
        if part == "#":
            return True
        if number >= len(levels) or part not in {"+", levels[number]}:
            return False
    return len(wanted) == len(levels)
