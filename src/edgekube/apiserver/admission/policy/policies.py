"""Policies and bindings, compiled once per change."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekube.api.cel import CelError, Program, compile_expression
from edgekube.api.resource import AnyResource
from edgekube.apiserver.admission.matching import Selectors
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree

NEVER = "false"
EXPRESSIONS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
"""Where a mutation has its expression, by patch type."""


@dataclass(frozen=True, slots=True)
class Validation:
    """One rule of a policy."""

    tree: Tree
    program: Program
    message: Program | None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, ready to run."""

    name: str
    spec: Tree
    selectors: Selectors
    conditions: tuple[Program, ...]
    variables: tuple[tuple[str, Program], ...]
    validations: tuple[Validation, ...]
    annotations: tuple[tuple[str, Program], ...] = ()
    """Of the audit event."""
    mutations: tuple[tuple[str, Program], ...] = ()
    """Patch type and expression."""

    @property
    def fails_open(self) -> bool:
        """Whether an expression that cannot be evaluated is passed over."""
        return self.spec.get("failurePolicy") == "Ignore"


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a policy is in force, and what it does."""

    name: str
    spec: Tree
    selectors: Selectors

    @property
    def actions(self) -> Sequence[str]:
        """Deny, Warn, Audit."""
        return self.spec.get("validationActions") or ("Deny",)


class Policies:
    """Every policy that is bound, with its bindings."""

    def __init__(
        self, caches: Caches, storage: Storage, policy_row: AnyResource, binding_row: AnyResource
    ) -> None:
        self._caches, self._storage = caches, storage
        self._policy_row, self._binding_row = policy_row, binding_row
        self._known: tuple[tuple[int, int], Sequence[tuple[Policy, Sequence[Binding]]]] = ((-1, -1), ())

    async def all(self) -> Sequence[tuple[Policy, Sequence[Binding]]]:
        """Return them by name; next to free when nothing is bound."""
        if not len(await self._caches.fresh(self._binding_row)):
            return ()
        rows = (self._policy_row, self._binding_row)
        revisions = [(await self._caches.fresh(row)).revision for row in rows]
        mark = (revisions[0], revisions[1])
        if self._known[0] != mark:
            bindings: dict[str, list[Binding]] = {}
            for tree in await self._storage.all(self._binding_row):
                found = _binding(tree)
                bindings.setdefault(found.spec.get("policyName", ""), []).append(found)
            policies = {tree["metadata"]["name"]: tree for tree in await self._storage.all(self._policy_row)}
            made = [(_policy(policies[n]), bindings[n]) for n in sorted(policies.keys() & bindings.keys())]
            self._known = (mark, made)
        return self._known[1]


def _binding(tree: Tree) -> Binding:
    spec = tree.get("spec") or {}
    return Binding(tree["metadata"]["name"], spec, Selectors.of(spec.get("matchResources") or {}))


def _policy(tree: Tree) -> Policy:
    spec = tree.get("spec") or {}
    return Policy(
        tree["metadata"]["name"],
        spec,
        Selectors.of(spec.get("matchConstraints") or {}),
        tuple(_compiled(c["expression"]) for c in spec.get("matchConditions") or ()),
        tuple((v["name"], _compiled(v["expression"])) for v in spec.get("variables") or ()),
        tuple(
            Validation(v, _compiled(v["expression"]), _told(v.get("messageExpression")))
            for v in spec.get("validations") or ()
        ),
        tuple((a["key"], _compiled(a["valueExpression"])) for a in spec.get("auditAnnotations") or ()),
        tuple(_mutation(m) for m in spec.get("mutations") or ()),
    )


def _mutation(mutation: Tree) -> tuple[str, Program]:
    kind = mutation["patchType"]
    return kind, _compiled((mutation.get(EXPRESSIONS[kind]) or {}).get("expression", ""))


def _told(text: str | None) -> Program | None:
    return _compiled(text) if text else None


def _compiled(text: str) -> Program:
    try:
        return compile_expression(text)
    except CelError:
        # Refused when it was written; one from before that rule is never true.
        return compile_expression(NEVER)
