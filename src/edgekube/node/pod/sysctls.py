"""Which sysctls a pod may set: those that are its own and harm nobody else (pkg/kubelet/sysctl)."""

from edgekube.api.types import core_v1

IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
NET = "net."
SAFE = frozenset({
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
})  # fmt: skip


def forbidden(pod: core_v1.Pod) -> str:
    """Return what is wrong with the pod's sysctls; "" nothing."""
    context = pod.spec.security_context
    for sysctl in context.sysctls if context is not None else ():
        name = sysctl.name.replace("/", ".")
        if name not in SAFE:
            return f'forbidden sysctl: "{name}" not allowlisted'
        if pod.spec.host_network and name.startswith(NET):
            return f'forbidden sysctl: "{name}" not allowed with host net enabled'
        if pod.spec.host_ipc and name.startswith(IPC):
            return f'forbidden sysctl: "{name}" not allowed with host ipc enabled'
    return ""
