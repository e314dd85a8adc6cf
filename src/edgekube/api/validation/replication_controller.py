"""ReplicationControllers and PodTemplates (pkg/apis/core/validation)."""

from typing import Any

from edgekube.api.validation import metadata, workload
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]


def replication_controller(tree: Tree, problems: Problems) -> None:
    """Check a ReplicationController."""
    spec = tree.get("spec", {})
    selector, template = spec.get("selector", {}), spec.get("template")
    for name in ("replicas", "minReadySeconds"):
        problems.at_least(spec, name, "spec")
    if not selector:
        problems.required("spec.selector")
    metadata.labels(selector, "spec.selector", problems)
    if template is None:
        problems.required("spec.template")
        return
    labels = template.get("metadata", {}).get("labels", {})
    if selector and not selector.items() <= labels.items():
        problems.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    workload.pod_template(template, "spec.template", problems)
    policy = template.get("spec", {}).get("restartPolicy", "Always")
    if policy != "Always":
        problems.unsupported("spec.template.spec.restartPolicy", policy, ("Always",))


def pod_template(tree: Tree, problems: Problems) -> None:
    """Check a PodTemplate."""
    workload.pod_template(tree.get("template", {}), "template", problems)
