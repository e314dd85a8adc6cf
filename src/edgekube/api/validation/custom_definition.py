"""CustomResourceDefinitions (apiextensions/validation)."""

from typing import Any

from edgekube.api import cel, jsonpath, structural
from edgekube.api.validation import names
from edgekube.api.validation.problems import IMMUTABLE, Problems

Tree = dict[str, Any]
COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
MOST_FIELDS = 8


def custom_definition(tree: Tree, problems: Problems) -> None:
    """Check a definition."""
    spec = tree.get("spec", {})
    group, plural = spec.get("group", ""), spec.get("names", {}).get("plural", "")
    name = tree.get("metadata", {}).get("name", "")
    if name != f"{plural}.{group}":
        problems.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    if problems.given(spec, "group", "spec"):
        problems.each("spec.group", group, names.subdomain(group))
        if "." not in group:
            problems.invalid("spec.group", group, "should be a domain with at least one dot")
    problems.one_of(spec, "scope", "spec", supported=("Cluster", "Namespaced"))
    _names(spec.get("names", {}), "spec.names", problems)
    _versions(spec, problems)
    _conversion(spec.get("conversion", {}), "spec.conversion", problems)
    if spec.get("preserveUnknownFields") is True:
        problems.invalid("spec.preserveUnknownFields", value=True, detail="must be false in order to use defaults in the schema, or set x-kubernetes-preserve-unknown-fields")  # fmt: skip


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change once it is established."""
    new, before = tree.get("spec", {}), old.get("spec", {})
    established = any(
        c.get("type") == "Established" and c.get("status") == "True"
        for c in old.get("status", {}).get("conditions", ())
    )
    fixed = [("group", "spec.group"), *([("scope", "spec.scope")] if established else [])]
    for field, path in fixed:
        if new.get(field) != before.get(field):
            problems.invalid(path, new.get(field), IMMUTABLE)
    for field in ("plural", *(("kind",) if established else ())):
        if new.get("names", {}).get(field) != before.get("names", {}).get(field):
            problems.invalid(f"spec.names.{field}", new.get("names", {}).get(field), IMMUTABLE)
    kept = {version.get("name") for version in new.get("versions", ())}
    for stored in old.get("status", {}).get("storedVersions", ()):
        if stored not in kept:
            problems.invalid("status.storedVersions[0]", stored, "must appear in spec.versions")


def _names(given: Tree, path: str, problems: Problems) -> None:
    for field in ("plural", "singular", "kind", "listKind"):
        if problems.given(given, field, path):
            text = given[field]
            problems.each(f"{path}.{field}", text, names.label_1035(text.lower() if "ind" in field else text))
    for field in ("shortNames", "categories"):
        for number, text in enumerate(given.get(field, ())):
            problems.each(f"{path}.{field}[{number}]", text, names.label_1035(text))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        problems.invalid(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same")


def _versions(spec: Tree, problems: Problems) -> None:
    versions, seen = spec.get("versions", ()), set()
    if not versions:
        problems.required("spec.versions", "must have at least one version")
        return
    for number, version in enumerate(versions):
        path, name = f"spec.versions[{number}]", version.get("name", "")
        problems.each(f"{path}.name", name, names.label_1035(name))
        if name in seen:
            problems.duplicate(f"{path}.name", name)
        seen.add(name)
        _version(version, path, problems)
    if sum(bool(version.get("storage")) for version in versions) != 1:
        problems.invalid("spec.versions", [v.get("name") for v in versions], "must have exactly one version marked as storage version")  # fmt: skip


def _version(version: Tree, path: str, problems: Problems) -> None:
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if schema is None:
        problems.required(f"{path}.schema.openAPIV3Schema", "schemas are required")
    else:
        structural.check(schema, f"{path}.schema.openAPIV3Schema", problems)
        cel.check_rules(schema, f"{path}.schema.openAPIV3Schema", problems)
    for number, column in enumerate(version.get("additionalPrinterColumns", ())):
        _column(column, f"{path}.additionalPrinterColumns[{number}]", problems)
    scale = version.get("subresources", {}).get("scale")
    if scale is not None:
        _scale(scale, f"{path}.subresources.scale", problems)
    chosen = version.get("selectableFields", ())
    if len(chosen) > MOST_FIELDS:
        problems.too_many(f"{path}.selectableFields", len(chosen), MOST_FIELDS)
    for number, field in enumerate(chosen):
        where, text = f"{path}.selectableFields[{number}].jsonPath", field.get("jsonPath", "")
        if not text:
            problems.required(where)
        elif jsonpath.fields(text) is None:
            problems.invalid(where, text, "is an invalid path")
        elif text.startswith(".metadata"):
            problems.invalid(where, text, "must not point to fields in metadata")


def _column(column: Tree, path: str, problems: Problems) -> None:
    problems.given(column, "name", path)
    problems.one_of(column, "type", path, supported=COLUMN_TYPES)
    if column.get("format"):
        problems.one_of(column, "format", path, supported=COLUMN_FORMATS)
    if problems.given(column, "jsonPath", path):
        try:
            jsonpath.parse(column["jsonPath"])
        except jsonpath.JsonPathError as error:
            problems.invalid(f"{path}.jsonPath", column["jsonPath"], str(error))


def _scale(scale: Tree, path: str, problems: Problems) -> None:
    roots = {"specReplicasPath": (".spec",), "statusReplicasPath": (".status",), "labelSelectorPath": (".spec", ".status")}  # fmt: skip
    for field, starts in roots.items():
        text = scale.get(field)
        if not text:
            if field != "labelSelectorPath":
                problems.required(f"{path}.{field}")
            continue
        if jsonpath.fields(text) is None:
            problems.invalid(f"{path}.{field}", text, "should be a json path without array notation")
        if not text.startswith(tuple(f"{start}." for start in starts)):
            below = " or ".join(starts)
            problems.invalid(f"{path}.{field}", text, f"should be a json path under {below}")


def _conversion(conversion: Tree, path: str, problems: Problems) -> None:
    problems.one_of(conversion, "strategy", path, supported=("None", "Webhook"))
    webhook = conversion.get("webhook")
    if conversion.get("strategy") != "Webhook":
        if webhook is not None:
            problems.forbidden(f"{path}.webhook", "should not be set when strategy is not set to Webhook")
        return
    if webhook is None or "clientConfig" not in webhook:
        problems.required(f"{path}.webhook.clientConfig", "required when strategy is set to Webhook")
        return
    config = webhook["clientConfig"]
    if ("url" in config) == ("service" in config):
        problems.required(f"{path}.webhook.clientConfig", "exactly one of url or service is required")
    if not webhook.get("conversionReviewVersions"):
        problems.required(f"{path}.webhook.conversionReviewVersions")
    elif "v1" not in webhook["conversionReviewVersions"]:
        problems.invalid(f"{path}.webhook.conversionReviewVersions", webhook["conversionReviewVersions"], "must include at least one of v1")  # fmt: skip
