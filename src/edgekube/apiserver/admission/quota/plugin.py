"""ResourceQuota admission: the last word on a write, after everybody has changed the object."""

from edgekube.api.kinds.core_v1 import RESOURCE_QUOTAS
from edgekube.api.quota import EVALUATORS, evaluator_of
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.admission.quota.bank import Bank, Request, Vault

RESIZE = "resize"


class ResourceQuota:
    """Charge the namespace's quotas, or refuse."""

    verbs = frozenset({"create", "update"})
    resources: frozenset[str] = frozenset()

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._bank = Bank(vault)

    async def validate(self, attributes: Attributes) -> None:
        """Raise Forbidden when a quota is exceeded."""
        target = attributes.target
        if not target.namespace:
            return
        # What only counts by number costs nothing more when it changes.
        if attributes.verb == "update" and target.row.group_resource not in EVALUATORS:
            return
        # A pod's cost changes only by resizing it.
        if target.row.plural == "pods" and attributes.verb == "update" and target.subresource != RESIZE:
            return
        if not await self._vault.stored_within(RESOURCE_QUOTAS, target.namespace):
            return
        evaluator = evaluator_of(target.row.group_resource)
        request = Request(
            evaluator=evaluator, obj=attributes.obj, old=attributes.old, dry_run=attributes.dry_run
        )
        if refusal := await self._bank.charge(target.namespace, request):
            raise attributes.forbid(refusal)
        attributes.undo.append(lambda: self._bank.refund(target.namespace, request))
