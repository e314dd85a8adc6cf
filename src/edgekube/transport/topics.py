"""Topic names and filters (MQTT 5, 4.7): levels between slashes, `+` for one level, `#` for the rest."""

from dataclasses import dataclass

ROOT = "ek"


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic is chosen by a filter."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in {"+", levels[position]}:
            return False
    return len(wanted) == len(levels)


@dataclass(frozen=True, slots=True)
class Topics:
    """The control tree of one cluster."""

    cluster: str

    @property
    def all_down(self) -> str:
        """From the hub to every node."""
        return f"{ROOT}/{self.cluster}/all/down"

    def down(self, node: str) -> str:
        """From the hub to one node."""
        return f"{ROOT}/{self.cluster}/n/{node}/down"

    def up(self, node: str) -> str:
        """From one node to the hub (`+` for all)."""
        return f"{ROOT}/{self.cluster}/n/{node}/up"

    def presence(self, node: str) -> str:
        """Where a node's last will goes (`+` for all)."""
        return f"{ROOT}/{self.cluster}/n/{node}/presence"

    def stream_in(self, node: str, stream: str) -> str:
        """Frames toward the node."""
        return f"{ROOT}/{self.cluster}/n/{node}/s/{stream}/in"

    def stream_out(self, node: str, stream: str) -> str:
        """Frames from the node."""
        return f"{ROOT}/{self.cluster}/n/{node}/s/{stream}/out"

    @staticmethod
    def node_of(topic: str) -> str:
        """Return the node a topic below `n/` belongs to."""
        return topic.split("/")[3]

    @staticmethod
    def stream_of(topic: str) -> str:
        """Return the stream a topic below `s/` belongs to."""
        return topic.split("/")[5]
