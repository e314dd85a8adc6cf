"""Rows of the policy group."""

from edgekube.api.resource import Resource
from edgekube.api.types import policy_v1 as t

POD_DISRUPTION_BUDGETS = Resource(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", t.PodDisruptionBudget, short_names=("pdb",),
    subresources=("status",),
)  # fmt: skip

RESOURCES = (POD_DISRUPTION_BUDGETS,)
