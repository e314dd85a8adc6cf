"""Ingresses and their classes (pkg/apis/networking/validation)."""

from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_SUFFIXES = ("/..", "/.")
_ABSOLUTE = "must be an absolute path"
_NO_ADDRESS = "must be a DNS name, not an IP address"
_CONTROLLER_LENGTH = 250


def ingress(tree: Tree, problems: Problems) -> None:
    """Check an Ingress; that a new one names its class only once is seen to by admission."""
    _spec(tree.get("spec", {}), problems)


def status(tree: Tree, _old: Tree, problems: Problems) -> None:
    """Check an Ingress' status."""
    balancer = tree.get("status", {}).get("loadBalancer", {})
    for index, entry in enumerate(balancer.get("ingress", ())):
        path = f"status.loadBalancer.ingress[{index}]"
        if entry.get("ip"):
            problems.each(f"{path}.ip", entry["ip"], names.ip_address(entry["ip"]))
        if name := entry.get("hostname"):
            problems.each(f"{path}.hostname", name, names.subdomain(name))
            if not names.ip_address(name):
                problems.invalid(f"{path}.hostname", name, _NO_ADDRESS)


def _spec(spec: Tree, problems: Problems) -> None:
    rules = spec.get("rules")
    if not rules and "defaultBackend" not in spec:
        problems.invalid("spec", rules, "either `defaultBackend` or `rules` must be specified")
    if "defaultBackend" in spec:
        _backend(spec["defaultBackend"], "spec.defaultBackend", problems)
    for index, rule in enumerate(rules or ()):
        _rule(rule, f"spec.rules[{index}]", problems)
    for index, entry in enumerate(spec.get("tls", ())):
        for number, host in enumerate(entry.get("hosts", ())):
            problems.each(f"spec.tls[{index}].hosts[{number}]", host, _host(host))
        if secret := entry.get("secretName"):
            problems.each(f"spec.tls[{index}].secretName", secret, names.subdomain(secret))
    name = spec.get("ingressClassName")
    if name is not None:
        problems.each("spec.ingressClassName", name, names.subdomain(name))


def _host(host: str) -> list[str]:
    return names.wildcard_subdomain(host) if "*" in host else names.subdomain(host)


def _rule(rule: Tree, path: str, problems: Problems) -> None:
    host = rule.get("host", "")
    if host and not names.ip_address(host):
        problems.invalid(f"{path}.host", host, _NO_ADDRESS)
    elif host:
        problems.each(f"{path}.host", host, _host(host))
    http = rule.get("http")
    if http is None:
        return
    if not http.get("paths"):
        problems.required(f"{path}.http.paths")
    for index, entry in enumerate(http.get("paths", ())):
        here = f"{path}.http.paths[{index}]"
        _path(entry, here, problems)
        _backend(entry.get("backend", {}), f"{here}.backend", problems)


def _path(entry: Tree, path: str, problems: Problems) -> None:
    text, kind = entry.get("path", ""), entry.get("pathType", "")
    if not kind:
        problems.required(f"{path}.pathType", "pathType must be specified")
        return
    if kind not in _PATH_TYPES:
        problems.unsupported(f"{path}.pathType", kind, _PATH_TYPES)
        return
    loose = kind == "ImplementationSpecific"
    if not text.startswith("/") and not (loose and not text):
        problems.invalid(f"{path}.path", text, _ABSOLUTE)
    if loose:
        return
    problems.each(
        f"{path}.path", text, [f"must not contain '{bad}'" for bad in _SEQUENCES if text and bad in text]
    )
    problems.each(
        f"{path}.path", text, [f"cannot end with '{bad}'" for bad in _SUFFIXES if text.endswith(bad)]
    )


def _backend(backend: Tree, path: str, problems: Problems) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        problems.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        typed_reference(resource, f"{path}.resource", problems)
    elif service is not None:
        _service(service, path, problems)
    else:
        problems.invalid(path, "", "resource or service backend is required")


def _service(service: Tree, path: str, problems: Problems) -> None:
    name = service.get("name", "")
    if name:
        problems.each(f"{path}.service.name", name, names.label_1035(name))
    else:
        problems.required(f"{path}.service.name")
    port = service.get("port", {})
    if port.get("name") and port.get("number"):
        problems.invalid(path, "", "cannot set both port name & port number")
    elif port.get("name"):
        problems.each(f"{path}.service.port.name", port["name"], names.port_name(port["name"]))
    elif port.get("number"):
        problems.each(f"{path}.service.port.number", port["number"], names.port_number(port["number"]))
    else:
        problems.required(path, "port name or number is required")


def typed_reference(reference: Tree, path: str, problems: Problems) -> None:
    """Check a TypedLocalObjectReference."""
    group = reference.get("apiGroup")
    if group is not None:
        problems.each(f"{path}.apiGroup", group, names.subdomain(group))
    for field in ("kind", "name"):
        if value := reference.get(field):
            problems.each(f"{path}.{field}", value, names.path_segment(value))
        else:
            problems.required(f"{path}.{field}", f"{field} is required")


def ingress_class(tree: Tree, problems: Problems) -> None:
    """Check an IngressClass."""
    spec = tree.get("spec", {})
    controller = spec.get("controller", "")
    if not controller:
        problems.required("spec.controller")
    elif len(controller) > _CONTROLLER_LENGTH:
        problems.too_long("spec.controller", _CONTROLLER_LENGTH)
    else:
        problems.each("spec.controller", controller, names.domain_prefixed_path(controller))
    if "parameters" in spec:
        _parameters(spec["parameters"], "spec.parameters", problems)


def ingress_class_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change: the controller."""
    problems.unchanged(tree.get("spec", {}), old.get("spec", {}), "controller", "spec")


def _parameters(reference: Tree, path: str, problems: Problems) -> None:
    typed_reference(reference, path, problems)
    problems.one_of(reference, "scope", path, supported=("Cluster", "Namespace"))
    namespace, scope = reference.get("namespace", ""), reference.get("scope")
    if scope == "Namespace" and not namespace:
        problems.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    elif scope == "Namespace":
        problems.each(f"{path}.namespace", namespace, names.label(namespace))
    elif scope == "Cluster" and namespace:
        problems.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
