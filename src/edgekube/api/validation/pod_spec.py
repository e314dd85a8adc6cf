"""PodSpecs, of pods and of templates."""

from typing import Any

from edgekube.api.validation import container_extras, metadata, names, placement, pod_extras, security
from edgekube.api.validation.container import container, ephemeral_container, init_container
from edgekube.api.validation.problems import Problems
from edgekube.api.validation.resources import requirements
from edgekube.api.validation.volumes import volumes

Tree = dict[str, Any]
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_LISTS = (
    ("initContainers", init_container),
    ("containers", container),
    ("ephemeralContainers", ephemeral_container),
)


def pod_spec(spec: Tree, path: str, problems: Problems) -> None:
    """Check a PodSpec."""
    known = volumes(spec, path, problems)
    _containers(spec, path, problems, known=known)
    problems.one_of(spec, "restartPolicy", path, supported=_RESTART_POLICIES)
    _dns(spec, path, problems)
    problems.at_least(spec, "terminationGracePeriodSeconds", path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        problems.invalid(
            f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"
        )
    _names(spec, path, problems)
    metadata.labels(spec.get("nodeSelector", {}), f"{path}.nodeSelector", problems)
    _tolerations(spec.get("tolerations", ()), f"{path}.tolerations", problems)
    placement.placement(spec, path, problems)
    security.pod(spec.get("securityContext", {}), f"{path}.securityContext", problems)
    _host(spec, path, problems)
    pod_extras.extras(spec, path, problems)
    container_extras.targets(spec, path, problems)
    for index, alias in enumerate(spec.get("hostAliases", ())):
        problems.each(
            f"{path}.hostAliases[{index}].ip", alias.get("ip", ""), names.ip_address(alias.get("ip", ""))
        )
    if "resources" in spec:
        requirements(spec["resources"], f"{path}.resources", problems)


def _containers(spec: Tree, path: str, problems: Problems, *, known: frozenset[str]) -> None:
    if not spec.get("containers"):
        problems.required(f"{path}.containers")
    seen: set[str] = set()
    for field, check in _LISTS:
        for index, one in enumerate(spec.get(field, ())):
            here = f"{path}.{field}[{index}]"
            check(one, here, problems, volumes=known)
            name = one.get("name", "")
            if name and name in seen:
                problems.duplicate(f"{here}.name", name)
            seen.add(name)


def _dns(spec: Tree, path: str, problems: Problems) -> None:
    problems.one_of(spec, "dnsPolicy", path, supported=_DNS_POLICIES)
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            problems.required(f"{path}.dnsConfig", "must provide `dnsConfig` when `dnsPolicy` is None")
        elif not config.get("nameservers"):
            problems.required(
                f"{path}.dnsConfig.nameservers",
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            )
    for index, server in enumerate((config or {}).get("nameservers", ())):
        problems.each(f"{path}.dnsConfig.nameservers[{index}]", server, names.ip_address(server))


def _names(spec: Tree, path: str, problems: Problems) -> None:
    for field, rule in (
        ("hostname", names.label),
        ("subdomain", names.label),
        ("nodeName", names.subdomain),
        ("serviceAccountName", names.subdomain),
        ("priorityClassName", names.subdomain),
        ("runtimeClassName", names.subdomain),
    ):
        if spec.get(field):
            problems.each(f"{path}.{field}", spec[field], rule(spec[field]))


def _tolerations(tolerations: list[Tree], path: str, problems: Problems) -> None:
    for index, toleration in enumerate(tolerations):
        here = f"{path}[{index}]"
        key, operator = toleration.get("key", ""), toleration.get("operator", "")
        if key:
            problems.each(f"{here}.key", key, names.qualified(key))
        elif operator != "Exists":
            problems.invalid(
                f"{here}.operator",
                operator,
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        if operator not in ("", "Equal", "Exists"):
            problems.unsupported(f"{here}.operator", operator, ("Equal", "Exists"))
        if operator == "Exists" and toleration.get("value"):
            problems.invalid(here, toleration, "value must be empty when `operator` is 'Exists'")
        effect = toleration.get("effect", "")
        if effect and effect not in _EFFECTS:
            problems.unsupported(f"{here}.effect", effect, _EFFECTS)
        if "tolerationSeconds" in toleration and effect != "NoExecute":
            problems.invalid(
                f"{here}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"
            )


def _host(spec: Tree, path: str, problems: Problems) -> None:
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        problems.invalid(
            f"{path}.securityContext.shareProcessNamespace",
            spec["shareProcessNamespace"],
            "ShareProcessNamespace and HostPID cannot both be enabled",
        )
    taken: set[str] = set()
    for index, one in enumerate(spec.get("containers", ())):
        for number, port in enumerate(one.get("ports", ())):
            here = f"{path}.containers[{index}].ports[{number}]"
            if not port.get("hostPort"):
                continue
            if spec.get("hostNetwork") and port["hostPort"] != port.get("containerPort"):
                problems.invalid(
                    f"{here}.containerPort",
                    port.get("containerPort", 0),
                    "must match `hostPort` when `hostNetwork` is true",
                )
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in taken:
                problems.duplicate(f"{here}.hostPort", key)
            taken.add(key)
