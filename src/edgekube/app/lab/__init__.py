"""
A lab: LANs of sandboxes on this machine, for tests and for trying things.

One sandbox is the switch (a bridge for each LAN and nothing else), one the master, the others nodes
and clients; each is a machine of its own, nodes with a podman of their own. Several LANs are joined
by a router. None has a route to the outside. Killing a machine's first process is a power cut.
"""

from edgekube.app.lab.lab import Lab
from edgekube.app.lab.topology import MASTER, LabError, LabOptions, Role

__all__ = ["MASTER", "Lab", "LabError", "LabOptions", "Role"]
