"""Rules of PodSpecs that stand for themselves: gates, DNS limits, aliases, sysctls, profiles (pkg/apis/core/validation)."""

import re
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
MOST_SERVERS, MOST_SEARCHES, SEARCHES_LENGTH = 3, 32, 2048
SYSCTL_LENGTH = 253
_PART = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = rf"({_PART}[\./])*{_PART}"
_SYSCTL_NAME = re.compile(_SYSCTL, re.ASCII)
_APPARMOR = ("Localhost", "RuntimeDefault", "Unconfined")
_POLICIES = ("Never", "PreemptLowerPriority")


def extras(spec: Tree, path: str, problems: Problems) -> None:
    """Check the small things of a PodSpec."""
    _gates(spec, path, problems)
    for index, gate in enumerate(spec.get("readinessGates", ())):
        kind = gate.get("conditionType", "")
        problems.each(f"{path}.readinessGates[{index}].conditionType", kind, names.qualified(kind))
    for index, alias in enumerate(spec.get("hostAliases", ())):
        for number, host in enumerate(alias.get("hostnames", ())):
            problems.each(f"{path}.hostAliases[{index}].hostnames[{number}]", host, names.subdomain(host))
    _dns(spec.get("dnsConfig", {}), f"{path}.dnsConfig", problems)
    if spec.get("preemptionPolicy"):
        problems.one_of(spec, "preemptionPolicy", path, supported=_POLICIES)
    if "os" in spec:
        problems.one_of(spec["os"], "name", f"{path}.os", supported=("linux", "windows"))
    context, here = spec.get("securityContext", {}), f"{path}.securityContext"
    _sysctls(context, here, problems)
    apparmor(context, here, problems)
    if context.get("supplementalGroupsPolicy"):
        problems.one_of(context, "supplementalGroupsPolicy", here, supported=("Merge", "Strict"))


def apparmor(context: Tree, path: str, problems: Problems) -> None:
    """Check the AppArmor profile of a pod or container."""
    if "appArmorProfile" not in context:
        return
    profile, here = context["appArmorProfile"], f"{path}.appArmorProfile"
    problems.one_of(profile, "type", here, supported=_APPARMOR)
    name = profile.get("localhostProfile")
    if profile.get("type") == "Localhost":
        if not (name or "").strip():
            problems.required(f"{here}.localhostProfile", "must be set when AppArmor type is Localhost")
    elif name is not None:
        problems.invalid(f"{here}.localhostProfile", name, "can only be set when AppArmor type is Localhost")


def _gates(spec: Tree, path: str, problems: Problems) -> None:
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates", ())):
        name, here = gate.get("name", ""), f"{path}.schedulingGates[{index}]"
        problems.each(here, name, names.qualified(name))
        if name in seen:
            problems.duplicate(here, name)
        seen.add(name)
    if seen and spec.get("nodeName"):
        problems.forbidden(f"{path}.nodeName", "cannot be set until all schedulingGates have been cleared")


def _dns(config: Tree, path: str, problems: Problems) -> None:
    if len(config.get("nameservers", ())) > MOST_SERVERS:
        problems.invalid(
            f"{path}.nameservers",
            config["nameservers"],
            f"must not have more than {MOST_SERVERS} nameservers",
        )
    searches = config.get("searches", ())
    if len(searches) > MOST_SEARCHES:
        problems.invalid(
            f"{path}.searches", searches, f"must not have more than {MOST_SEARCHES} search paths"
        )
    if len(" ".join(searches)) > SEARCHES_LENGTH:
        problems.invalid(
            f"{path}.searches", searches,
            f"must not have more than {SEARCHES_LENGTH} characters (including spaces) in the search list",
        )  # fmt: skip
    for index, search in enumerate(searches):
        # A dot at the end is fine, and so is a dot alone; underscores are what some services use.
        name = search.removesuffix(".").replace("_", "a")
        if search != ".":
            problems.each(f"{path}.searches[{index}]", search, names.subdomain(name))
    for index, option in enumerate(config.get("options", ())):
        if not option.get("name"):
            problems.required(f"{path}.options[{index}]", "must not be empty")


def _sysctls(context: Tree, path: str, problems: Problems) -> None:
    for index, setting in enumerate(context.get("sysctls", ())):
        name = setting.get("name", "")
        if name and (len(name) > SYSCTL_LENGTH or not _SYSCTL_NAME.fullmatch(name)):
            problems.invalid(
                f"{path}.sysctls[{index}].name", name,
                f"must have at most {SYSCTL_LENGTH} characters and match regex ^{_SYSCTL}$",
            )  # fmt: skip
