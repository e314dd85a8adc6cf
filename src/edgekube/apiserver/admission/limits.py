"""LimitRanger: the defaults and bounds of a Namespace's LimitRanges."""

from edgekube.api import limits
from edgekube.api.kinds.core_v1 import LIMIT_RANGES
from edgekube.apiserver.admission.base import Attributes, Objects

CHECKS = {"pods": limits.pod_problems, "persistentvolumeclaims": limits.claim_problems}


class LimitRanger:
    """Fill in what containers lack, then refuse what is outside the bounds."""

    verbs = frozenset({"create", "update"})
    resources = frozenset(CHECKS)

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def admit(self, attributes: Attributes) -> None:
        """Raise Forbidden with every bound that is broken."""
        target, obj = attributes.target, attributes.obj
        plural = target.row.plural
        # A pod's resources change only by resizing it.
        if plural == "pods" and attributes.verb == "update" and target.subresource != "resize":
            return
        if "deletionTimestamp" in obj["metadata"]:
            return
        ranges = await self._objects.within(LIMIT_RANGES, target.namespace)
        if not ranges:
            return
        if plural == "pods" and attributes.verb == "create":
            limits.fill(obj, ranges)
        if problems := CHECKS[plural](obj, ranges):
            raise attributes.forbid(limits.joined(problems))

    readmit = admit
