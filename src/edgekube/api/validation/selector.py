"""Label selectors and pod templates, as workloads have them."""

from typing import Any

from edgekube.api.validation import metadata, names, pod_spec
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_WITH_VALUES = ("In", "NotIn")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")


def label_selector(selector: Tree, path: str, problems: Problems) -> None:
    """Check a LabelSelector."""
    metadata.labels(selector.get("matchLabels", {}), f"{path}.matchLabels", problems)
    for index, term in enumerate(selector.get("matchExpressions", ())):
        here, operator, values = (
            f"{path}.matchExpressions[{index}]",
            term.get("operator", ""),
            term.get("values", ()),
        )
        if operator in _WITH_VALUES and not values:
            problems.required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in _WITHOUT_VALUES and values:
            problems.forbidden(
                f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            )
        elif operator not in (*_WITH_VALUES, *_WITHOUT_VALUES):
            problems.invalid(f"{here}.operator", operator, "not a valid selector operator")
        problems.each(f"{here}.key", term.get("key", ""), names.qualified(term.get("key", "")))
        for number, value in enumerate(values):
            problems.each(f"{here}.values[{number}]", value, names.label_value(value))


def workload(tree: Tree, kind: str, problems: Problems) -> None:
    """Check the selector and template of a Deployment or ReplicaSet."""
    spec = tree.get("spec", {})
    chosen = spec.get("selector")
    template = spec.get("template", {})
    if chosen is None:
        problems.required("spec.selector")
    else:
        label_selector(chosen, "spec.selector", problems)
        if not chosen.get("matchLabels") and not chosen.get("matchExpressions"):
            problems.invalid("spec.selector", chosen, f"empty selector is invalid for {kind.lower()}")
        elif not matches(chosen, template.get("metadata", {}).get("labels", {})):
            problems.invalid(
                "spec.template.metadata.labels",
                template.get("metadata", {}).get("labels", {}),
                "`selector` does not match template `labels`",
            )
    pod_template(template, "spec.template", problems)
    inner = template.get("spec", {})
    if inner.get("restartPolicy", "Always") != "Always":
        problems.unsupported("spec.template.spec.restartPolicy", inner["restartPolicy"], ("Always",))
    if "activeDeadlineSeconds" in inner:
        problems.forbidden(
            "spec.template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported"
        )


def pod_template(template: Tree, path: str, problems: Problems) -> None:
    """Check a PodTemplateSpec."""
    meta = template.get("metadata", {})
    metadata.labels(meta.get("labels", {}), f"{path}.metadata.labels", problems)
    metadata.annotations(meta.get("annotations", {}), f"{path}.metadata.annotations", problems)
    pod_spec.pod_spec(template.get("spec", {}), f"{path}.spec", problems)
    if template.get("spec", {}).get("ephemeralContainers"):
        problems.forbidden(
            f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"
        )


def matches(selector: Tree, labels: Tree) -> bool:
    """Whether labels fulfil a LabelSelector."""
    wanted = selector.get("matchLabels", {}).items()
    if any(labels.get(key) != value for key, value in wanted):
        return False
    return all(_holds(term, labels) for term in selector.get("matchExpressions", ()))


def _holds(term: Tree, labels: Tree) -> bool:
    key, operator = term.get("key", ""), term.get("operator")
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    return (labels.get(key) in term.get("values", ())) == (operator == "In")
