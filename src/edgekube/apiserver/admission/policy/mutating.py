"""Changing writes by MutatingAdmissionPolicies (KEP-3962)."""

import copy
from collections.abc import Callable
from typing import Any

from edgekube.api import patch
from edgekube.api.cel import CelError, Program
from edgekube.api.errors import Cause, Invalid, StatusError
from edgekube.api.kinds.admissionregistration_v1 import MUTATING_POLICIES, MUTATING_POLICY_BINDINGS
from edgekube.api.managed.merge import merge
from edgekube.api.managed.shape import Form, Shape
from edgekube.api.resource import AnyResource
from edgekube.api.scheme import Scheme
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.admission.policy.bound import BoundPolicies, Case
from edgekube.apiserver.admission.policy.policies import Binding, Policy
from edgekube.apiserver.admission.reinvocation import Round
from edgekube.apiserver.admission.webhook.plugin import Renew, take_over
from edgekube.apiserver.authz import Authorization
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

SORT = "policies"
ShapeOf = Callable[[AnyResource], Shape]


class MutatingAdmissionPolicies(BoundPolicies):
    """Applies the configurations and patches that bound policies make."""

    verbs, resources, everywhere = frozenset({"create", "update"}), frozenset[str](), True
    policy_row, binding_row = MUTATING_POLICIES, MUTATING_POLICY_BINDINGS

    def __init__(
        self, scheme: Scheme, caches: Caches, storage: Storage, authorization: Authorization, *,
        shape_of: ShapeOf, renew: Renew,
    ) -> None:  # fmt: skip
        super().__init__(scheme, caches, storage, authorization)
        self._shape_of, self._renew = shape_of, renew

    async def admit(self, attributes: Attributes) -> None:
        """Run every policy that is for this write, in order."""
        if attributes.kind is not None:
            return
        done = Round()
        async for case in self.cases(attributes):
            changed = self._mutate(case, attributes)
            again = case.policy.spec.get("reinvocationPolicy") == "IfNeeded"
            done.note(case.key, changed=changed, again=again)
        if done.ran:
            done.ended(attributes.obj)
            attributes.rounds[SORT] = done

    async def readmit(self, attributes: Attributes) -> None:
        """Run those again that want to see what others changed after them."""
        done = attributes.rounds.get(SORT)
        due = done.needed(attributes.obj) if done is not None else ()
        if due:
            async for case in self.cases(attributes):
                if case.key in due:
                    self._mutate(case, attributes)

    def _mutate(self, case: Case, attributes: Attributes) -> bool:
        """Run one policy's mutations, all or none of them; return whether the object is another one."""
        changed = False
        for kind, program in case.policy.mutations:
            case.renew(attributes)
            try:
                tree = self._mutated(kind, program, case, attributes)
                if tree is not None:
                    changed = take_over(attributes, tree, self._renew, who=case.policy.name) or changed
            except (CelError, StatusError) as error:
                self._fail(
                    case.policy,
                    case.binding,
                    attributes,
                    f"expression '{program.text}' resulted in error: {error}",
                )
        return changed

    def _mutated(self, kind: str, program: Program, case: Case, attributes: Attributes) -> Tree | None:
        found = case.evaluate(program)
        if kind == "JSONPatch":
            if not isinstance(found, list):
                raise CelError("must evaluate to a list of JSONPatch")
            tree: Any = patch.json_patch(copy.deepcopy(attributes.obj), found)
            if not isinstance(tree, dict) or not isinstance(tree.get("metadata"), dict):
                raise CelError("the patch leaves no object")
            return tree
        if found is None:
            return None
        if not isinstance(found, dict):
            raise CelError("must evaluate to an Object")
        shape = self._shape_of(attributes.target.row)
        _check_whole(found, shape, "")
        merged = merge(copy.deepcopy(attributes.obj), found, shape)
        return dict(merged)

    def _fail(self, policy: Policy, binding: Binding, attributes: Attributes, text: str) -> None:
        if policy.fails_open:
            return
        message = (
            f"MutatingAdmissionPolicy '{policy.name}' with binding '{binding.name}' denied request: {text}"
        )
        refusal = attributes.forbid(message)
        raise Invalid(
            refusal.message,
            group=refusal.group,
            kind=refusal.kind,
            name=refusal.name,
            causes=[Cause("", message, "")],
        )


def _check_whole(value: Any, shape: Shape | None, path: str) -> None:
    """An apply configuration may not say what can only be said as a whole; raises CelError."""
    if shape is None or not isinstance(value, dict | list) or shape.form is Form.DEDUCED:
        return
    if shape.form is Form.WHOLE:
        raise CelError(f"may not mutate atomic arrays, maps or structs: {path}")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_whole(item, shape.children[name], f"{path}.{name}")
    elif shape.item is not None:
        for item in value:
            _check_whole(item, shape.item(), f"{path}[]")
