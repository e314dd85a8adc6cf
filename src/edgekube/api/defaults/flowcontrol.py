"""Flow schemas and priority levels."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty

PRECEDENCE = 1000
SHARES = 30
QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}


def flow_schema(tree: Tree) -> None:
    """Fill a FlowSchema."""
    fill_empty(tree.setdefault("spec", {}), {"matchingPrecedence": PRECEDENCE})


def priority_level(tree: Tree) -> None:
    """Fill a PriorityLevelConfiguration."""
    spec = tree.setdefault("spec", {})
    exempt, limited = spec.get("exempt"), spec.get("limited")
    if exempt is not None:
        fill(exempt, {"nominalConcurrencyShares": 0, "lendablePercent": 0})
    if limited is not None:
        fill(limited, {"nominalConcurrencyShares": SHARES, "lendablePercent": 0})
        response = limited.get("limitResponse", {})
        if response.get("queuing") is not None:
            fill_empty(response["queuing"], QUEUING)
