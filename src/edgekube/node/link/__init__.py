"""The agent's end of the wire: the hub's wish on this node's disk, this node's reports to the hub."""

from edgekube.node.link.link import NodeLink

__all__ = ["NodeLink"]
