"""Validating admission policies and their bindings (pkg/apis/admissionregistration/validation)."""

import re
from collections.abc import Sequence
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.label_selector import label_selector
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.webhooks import compiles, match_conditions, rule

Tree = dict[str, Any]
_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_ACTIONS = ("Audit", "Deny", "Warn")
_NOT_FOUND = ("Allow", "Deny")
_REINVOCATIONS = ("IfNeeded", "Never")
_PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def policy(tree: Tree, problems: Problems) -> None:
    """Check a ValidatingAdmissionPolicy."""
    spec = tree.get("spec", {})
    _common(spec, problems)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        for field in ("validations", "auditAnnotations"):
            problems.required(
                f"spec.{field}", "validations or auditAnnotations must contain at least one item"
            )
    for index, validation in enumerate(spec.get("validations", ())):
        _validation(validation, f"spec.validations[{index}]", problems)
    _annotations(spec.get("auditAnnotations", ()), problems)


def _common(spec: Tree, problems: Problems) -> None:
    if spec.get("failurePolicy") not in ("Fail", "Ignore"):
        problems.unsupported("spec.failurePolicy", spec.get("failurePolicy"), ("Fail", "Ignore"))
    if "paramKind" in spec:
        _param_kind(spec["paramKind"], "spec.paramKind", problems)
    if not spec.get("matchConstraints"):
        problems.required("spec.matchConstraints")
    else:
        constraints = spec["matchConstraints"]
        _match(constraints, "spec.matchConstraints", problems)
        if not constraints.get("resourceRules"):
            problems.required("spec.matchConstraints.resourceRules")
    match_conditions(spec.get("matchConditions", ()), "spec.matchConditions", problems)
    for index, variable in enumerate(spec.get("variables", ())):
        _variable(variable, f"spec.variables[{index}]", problems)


def mutating_policy(tree: Tree, problems: Problems) -> None:
    """Check a MutatingAdmissionPolicy."""
    spec = tree.get("spec", {})
    _common(spec, problems)
    if spec.get("reinvocationPolicy") not in _REINVOCATIONS:
        problems.unsupported("spec.reinvocationPolicy", spec.get("reinvocationPolicy", ""), _REINVOCATIONS)
    if not spec.get("mutations"):
        problems.required("spec.mutations", "mutations must contain at least one item")
    for index, mutation in enumerate(spec.get("mutations", ())):
        path = f"spec.mutations[{index}]"
        kind = mutation.get("patchType", "")
        field = _PATCHES.get(kind)
        if field is None:
            problems.one_of(mutation, "patchType", path, supported=sorted(_PATCHES))
            continue
        for other in _PATCHES.values():
            if other != field and other in mutation:
                problems.invalid(f"{path}.{other}", mutation[other], f"must not be set for patchType {kind}")
        if field in mutation:
            _expression(mutation[field], "expression", f"{path}.{field}", problems)
        else:
            problems.required(f"{path}.{field}", f"must be specified when patchType is {kind}")


def mutating_binding(tree: Tree, problems: Problems) -> None:
    """Check a MutatingAdmissionPolicyBinding."""
    _binding(tree.get("spec", {}), problems)


def binding(tree: Tree, problems: Problems) -> None:
    """Check a ValidatingAdmissionPolicyBinding."""
    spec = tree.get("spec", {})
    _binding(spec, problems)
    _actions(spec.get("validationActions", ()), problems)


def _binding(spec: Tree, problems: Problems) -> None:
    name = spec.get("policyName", "")
    if name:
        problems.each("spec.policyName", name, names.subdomain(name))
    else:
        problems.required("spec.policyName")
    if "paramRef" in spec:
        _param_ref(spec["paramRef"], "spec.paramRef", problems)
    if "matchResources" in spec:
        _match(spec["matchResources"], "spec.matchResources", problems)


def _actions(actions: Sequence[str], problems: Problems) -> None:
    if not actions:
        problems.required("spec.validationActions")
    for index, action in enumerate(actions):
        if action not in _ACTIONS:
            problems.unsupported(f"spec.validationActions[{index}]", action, _ACTIONS)
        if action in actions[:index]:
            problems.duplicate(f"spec.validationActions[{index}]", action)
    if "Deny" in actions and "Warn" in actions:
        problems.invalid(
            "spec.validationActions", sorted(actions), 'must not contain both "Deny" and "Warn" '
            "(repeating the same validation failure information in the API response and headers serves no purpose)",
        )  # fmt: skip


def _match(match: Tree, path: str, problems: Problems) -> None:
    if match.get("matchPolicy") not in ("Equivalent", "Exact"):
        problems.unsupported(f"{path}.matchPolicy", match.get("matchPolicy"), ("Equivalent", "Exact"))
    for field in ("namespaceSelector", "objectSelector"):
        label_selector(match.get(field, {}), f"{path}.{field}", problems)
    for field in ("resourceRules", "excludeResourceRules"):
        for index, one in enumerate(match.get(field, ())):
            here = f"{path}.{field}[{index}]"
            rule(one, here, problems)
            for number, name in enumerate(one.get("resourceNames", ())):
                problems.each(f"{here}.resourceNames[{number}]", name, names.path_segment(name))


def _param_kind(kind: Tree, path: str, problems: Problems) -> None:
    version, what = kind.get("apiVersion", ""), kind.get("kind", "")
    if not version:
        problems.required(f"{path}.apiVersion")
    elif version.count("/") > 1:
        problems.invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}")
    else:
        problems.each(f"{path}.apiVersion", version, names.label_1035(version.rpartition("/")[2]))
    if not what:
        problems.required(f"{path}.kind")
    else:
        problems.each(f"{path}.kind", what, names.label_1035(what.lower()))


def _param_ref(ref: Tree, path: str, problems: Problems) -> None:
    name, selector = ref.get("name"), ref.get("selector")
    if name and selector is not None:
        problems.forbidden(f"{path}.name", "name and selector are mutually exclusive")
    elif not name and selector is None:
        problems.required(path, "one of name or selector must be specified")
    if name:
        problems.each(f"{path}.name", name, names.path_segment(name))
    if selector is not None:
        label_selector(selector, f"{path}.selector", problems)
    if not ref.get("parameterNotFoundAction"):
        problems.required(f"{path}.parameterNotFoundAction")
    else:
        problems.one_of(ref, "parameterNotFoundAction", path, supported=_NOT_FOUND)


def _variable(variable: Tree, path: str, problems: Problems) -> None:
    name = variable.get("name", "")
    if not name:
        problems.required(f"{path}.name")
    elif not _IDENTIFIER.fullmatch(name):
        problems.invalid(f"{path}.name", name, "name is not a valid CEL identifier")
    _expression(variable, "expression", path, problems)


def _validation(validation: Tree, path: str, problems: Problems) -> None:
    _expression(validation, "expression", path, problems)
    if validation.get("messageExpression", "").strip():
        compiles(validation["messageExpression"], f"{path}.messageExpression", problems)
    message, computed = validation.get("message", ""), validation.get("messageExpression", "")
    if message and not message.strip():
        problems.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip():
        problems.invalid(f"{path}.message", message, "message must not contain line breaks")
    if "\n" in validation.get("expression", "").strip() and not message and not computed:
        problems.required(f"{path}.message", "message must be specified if expression contains line breaks")
    if validation.get("reason") and validation["reason"] not in _REASONS:
        problems.unsupported(f"{path}.reason", validation["reason"], _REASONS)


def _expression(tree: Tree, field: str, path: str, problems: Problems) -> None:
    text = tree.get(field, "")
    if text.strip():
        compiles(text, f"{path}.{field}", problems)
    else:
        problems.required(f"{path}.{field}", f"{field} is not specified")


def _annotations(annotations: list[Tree], problems: Problems) -> None:
    seen: set[str] = set()
    for index, annotation in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{index}]", annotation.get("key", "")
        problems.each(f"{path}.key", key, names.qualified(key))
        _expression(annotation, "valueExpression", path, problems)
        if key in seen:
            problems.duplicate(f"{path}.key", key)
        seen.add(key)
