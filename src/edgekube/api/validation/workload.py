"""Selectors and pod templates, as workloads have them."""

from typing import Any

from edgekube.api.validation import metadata, pod_spec
from edgekube.api.validation.label_selector import label_selector, matches
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]


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
