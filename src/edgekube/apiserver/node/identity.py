"""Which user is a node (pkg/auth/nodeidentifier in Kubernetes)."""

from edgekube.apiserver.identity import User

NODES = "system:nodes"
PREFIX = "system:node:"


def node_of(user: User) -> str:
    """Return the node's name; "" for everybody else."""
    if user.name.startswith(PREFIX) and NODES in user.groups:
        return user.name.removeprefix(PREFIX)
    return ""
