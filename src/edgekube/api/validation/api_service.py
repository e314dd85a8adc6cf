"""APIServices (kube-aggregator's pkg/apis/apiregistration/validation)."""

import base64
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
HIGHEST_GROUP, HIGHEST_VERSION = 20000, 1000


def api_service(tree: Tree, problems: Problems) -> None:
    """Check an APIService."""
    spec = tree.get("spec", {})
    group, version = spec.get("group", ""), spec.get("version", "")
    _name(tree["metadata"].get("name", ""), f"{version}.{group}", problems)
    if group:
        problems.each("spec.group", group, names.subdomain(group))
    elif version != "v1":
        problems.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
    problems.each("spec.version", version, names.label_1035(version))
    for field, most in (("groupPriorityMinimum", HIGHEST_GROUP), ("versionPriority", HIGHEST_VERSION)):
        value = spec.get(field, 0)
        if not 0 < value <= most:
            problems.invalid(f"spec.{field}", value, f"must be positive and less than {most}")
    service = spec.get("service")
    if service is None:
        _local(spec, problems)
        return
    for field in ("namespace", "name"):
        if not service.get(field):
            problems.required(f"spec.service.{field}")
    for wrong in names.port_number(service.get("port", 443)):
        problems.invalid("spec.service.port", service.get("port"), f"port is not valid: {wrong}")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        problems.invalid(
            "spec.insecureSkipTLSVerify", value=True, detail="may not be true if caBundle is present"
        )


def status(tree: Tree, _old: Tree, problems: Problems) -> None:
    """Check an APIService's status."""
    for index, condition in enumerate(tree.get("status", {}).get("conditions", ())):
        if condition.get("status") not in ("True", "False", "Unknown"):
            problems.unsupported(
                f"status.conditions[{index}].status",
                condition.get("status", ""),
                ("False", "True", "Unknown"),
            )


def _name(name: str, wanted: str, problems: Problems) -> None:
    if name != wanted:
        problems.invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"')


def _local(spec: Tree, problems: Problems) -> None:
    if spec.get("caBundle"):
        size = len(base64.b64decode(spec["caBundle"]))
        problems.invalid("spec.caBundle", f"{size} bytes", "local APIServices may not have a caBundle")
    if spec.get("insecureSkipTLSVerify"):
        problems.invalid(
            "spec.insecureSkipTLSVerify",
            value=True,
            detail="local APIServices may not have insecureSkipTLSVerify",
        )
