"""The checks of level baseline: no known privilege escalations."""

from edgekube.api.podsecurity.words import Pod, Violation, containers, many, quoted, setters

APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
SYSCTLS = (
    (0, frozenset({
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    })),
    (27, frozenset({"net.ipv4.ip_local_reserved_ports"})),
    (29, frozenset({
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    })),
    (32, frozenset({"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"})),
)  # fmt: skip
"""Since which minor version which kernel parameters are harmless."""
SELINUX = ((0, {"", "container_t", "container_init_t", "container_kvm_t"}), (31, {"container_engine_t"}))
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")


def apparmor(pod: Pod) -> Violation | None:
    """Profiles may be the runtime's or local ones."""
    found = []
    annotations = pod.metadata.get("annotations") or {}
    pod_sets = (pod.security.get("appArmorProfile") or {}).get("type") == "Unconfined"
    bad = pod.named(lambda s: (s.get("appArmorProfile") or {}).get("type") == "Unconfined")
    if pod_sets:
        found.append('pod must not set AppArmor profile type to "Unconfined"')
    if bad:
        found.append(f'{containers(bad)} must not set AppArmor profile type to "Unconfined"')
    wrong = sorted(
        f'"{name}"="{value}"'
        for name, value in annotations.items()
        if name.startswith(APPARMOR)
        and value not in {"", "runtime/default"}
        and not value.startswith("localhost/")
    )
    if wrong:
        found.append(f"{many('annotation', wrong)} {', '.join(wrong)}")
    return Violation(many("forbidden AppArmor profile", found), ", ".join(found)) if found else None


def capabilities(pod: Pod) -> Violation | None:
    """Only those that containers have anyway."""
    names, added = beyond(pod, CAPABILITIES)
    if not names:
        return None
    detail = f"{containers(names)} must not include {quoted(added)} in securityContext.capabilities.add"
    return Violation("non-default capabilities", detail)


def beyond(pod: Pod, allowed: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return which containers add capabilities that are not allowed, and which."""
    names, added = [], set()
    for container, security in pod.containers():
        extra = set((security.get("capabilities") or {}).get("add") or ()) - allowed
        if extra:
            names.append(container["name"])
            added |= extra
    return names, sorted(added)


def host_namespaces(pod: Pod) -> Violation | None:
    """None of the node's."""
    used = [f"{field}=true" for field in HOST_FIELDS if pod.spec.get(field)]
    return Violation("host namespaces", ", ".join(used)) if used else None


def host_paths(pod: Pod) -> Violation | None:
    """No directories of the node."""
    names = [volume["name"] for volume in pod.spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Violation("hostPath volumes", f"{many('volume', names)} {quoted(names)}") if names else None


def host_ports(pod: Pod) -> Violation | None:
    """No ports of the node."""
    names, numbers = [], set()
    for container, _ in pod.containers():
        found = {port["hostPort"] for port in container.get("ports") or () if port.get("hostPort")}
        if found:
            names.append(container["name"])
            numbers |= found
    if not names:
        return None
    ports = sorted(map(str, numbers))
    verb = "uses" if len(names) == 1 else "use"
    return Violation("hostPort", f"{containers(names)} {verb} {many('hostPort', ports)} {', '.join(ports)}")


def probe_hosts(pod: Pod) -> Violation | None:
    """Probes and lifecycle hooks go to the pod itself."""
    names, hosts = [], set()
    for container, _ in pod.containers():
        hooks = container.get("lifecycle") or {}
        actions = [container.get(field) or {} for field in PROBES]
        actions += [hooks.get(field) or {} for field in ("postStart", "preStop")]
        found = {(a.get(kind) or {}).get("host") for a in actions for kind in ("httpGet", "tcpSocket")}
        if found := {host for host in found if host}:
            names.append(container["name"])
            hosts |= found
    if not names:
        return None
    verb, said = "uses" if len(names) == 1 else "use", sorted(hosts)
    detail = f"{containers(names)} {verb} probe or lifecycle {many('host', said)} {quoted(said)}"
    return Violation("probe or lifecycle host", detail)


def host_process(pod: Pod) -> Violation | None:
    """No Windows host processes."""
    bad = pod.named(lambda s: (s.get("windowsOptions") or {}).get("hostProcess") is True)
    pod_sets = (pod.security.get("windowsOptions") or {}).get("hostProcess") is True
    if not (bad or pod_sets):
        return None
    detail = f"{setters(pod_sets, bad)} must not set securityContext.windowsOptions.hostProcess=true"
    return Violation("hostProcess", detail)


def privileged(pod: Pod) -> Violation | None:
    """No privileged containers."""
    bad = pod.named(lambda s: s.get("privileged") is True)
    return (
        Violation("privileged", f"{containers(bad)} must not set securityContext.privileged=true")
        if bad
        else None
    )


def proc_mount(pod: Pod) -> Violation | None:
    """Only the default /proc."""
    found = [
        (c["name"], s["procMount"]) for c, s in pod.containers() if s.get("procMount", "Default") != "Default"
    ]
    if not found:
        return None
    names, types = [name for name, _ in found], sorted({kind for _, kind in found})
    return Violation(
        "procMount", f"{containers(names)} must not set securityContext.procMount to {quoted(types)}"
    )


def selinux(pod: Pod) -> Violation | None:
    """Only container types; no users or roles."""
    allowed = set().union(*(types for since, types in SELINUX if pod.minor >= since))
    types, fields = set(), set()

    def bad(security: object) -> bool:
        options = (security.get("seLinuxOptions") if isinstance(security, dict) else None) or {}
        wrong = {field for field in ("user", "role") if options.get(field)}
        kind = options.get("type", "")
        if kind not in allowed:
            types.add(kind)
        fields.update(wrong)
        return bool(wrong) or kind not in allowed

    pod_sets = bad(pod.security)
    names = pod.named(bad)
    if not (pod_sets or names):
        return None
    data = [f"{many('type', list(types))} {quoted(sorted(types))}"] if types else []
    data += [f"{field} may not be set" for field in ("user", "role") if field in fields]
    return Violation(
        "seLinuxOptions",
        f"{setters(pod_sets, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}",
    )


def seccomp(pod: Pod) -> Violation | None:
    """Not switched off."""
    bad = pod.named(lambda s: (s.get("seccompProfile") or {}).get("type") == "Unconfined")
    pod_sets = (pod.security.get("seccompProfile") or {}).get("type") == "Unconfined"
    if not (bad or pod_sets):
        return None
    detail = f'{setters(pod_sets, bad)} must not set securityContext.seccompProfile.type to "Unconfined"'
    return Violation("seccompProfile", detail)


def sysctls(pod: Pod) -> Violation | None:
    """Only those that concern the pod alone."""
    allowed = frozenset().union(*(names for since, names in SYSCTLS if pod.minor >= since))
    wrong = [s["name"] for s in pod.security.get("sysctls") or () if s["name"] not in allowed]
    return Violation("forbidden sysctls", ", ".join(wrong)) if wrong else None
