"""The files every container gets: /etc/hosts, /etc/hostname, /etc/resolv.conf. Pure text (kubelet_pods.go, dns.go)."""

from dataclasses import dataclass, field

from edgekube.api.types import core_v1
from edgekube.node.config import KubeletConfig

MAX_NAMESERVERS, MAX_SEARCHES = 3, 32
HEADER = "# Kubernetes-managed hosts file."
STANDARD = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
)


@dataclass(slots=True)
class Resolver:
    """What a resolv.conf says; options by name."""

    nameservers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the file."""
        lines = [f"search {' '.join(self.searches[:MAX_SEARCHES])}"] if self.searches else []
        lines += [f"nameserver {address}" for address in self.nameservers[:MAX_NAMESERVERS]]
        if self.options:
            shown = (name if not value else f"{name}:{value}" for name, value in self.options.items())
            lines.append(f"options {' '.join(shown)}")
        return "".join(f"{line}\n" for line in lines)


def pod_hostname(pod: core_v1.Pod, node_name: str) -> str:
    """Return the hostname a pod's processes see; at most 63 characters (hostname(7))."""
    if pod.spec.host_network:
        return node_name
    return (pod.spec.hostname_override or pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def pod_fqdn(pod: core_v1.Pod, domain: str) -> str:
    """Return the name the pod has in the cluster's DNS; "" when it has none."""
    if not pod.spec.subdomain or pod.spec.host_network:
        return ""
    return f"{pod_hostname(pod, '')}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"


def hosts(pod: core_v1.Pod, addresses: str, config: KubeletConfig, *, node_hosts: str = "") -> str:
    """Return /etc/hosts; `addresses` have commas between, `node_hosts` is the node's own, for pods on its network."""
    if pod.spec.host_network:
        lines = [f"{HEADER[:-1]} (host network).", *node_hosts.splitlines()]
    else:
        name, full = pod_hostname(pod, config.node_name), pod_fqdn(pod, config.cluster_domain)
        names = f"{full}\t{name}" if full else name
        lines = [HEADER, *STANDARD, *(f"{address}\t{names}" for address in addresses.split(",") if address)]
    if pod.spec.host_aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join((alias.ip, *alias.hostnames)) for alias in pod.spec.host_aliases]
    return "".join(f"{line}\n" for line in lines)


def resolv_conf(pod: core_v1.Pod, config: KubeletConfig, node_file: str) -> str:
    """Return /etc/resolv.conf; `node_file` is the node's own."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirst" and pod.spec.host_network:
        policy = "Default"
    node = parse(node_file)
    if policy == "None":
        resolver = Resolver()
    elif policy == "Default" or not config.cluster_dns:
        resolver = node
    else:
        domain = config.cluster_domain
        own = [f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain]
        resolver = Resolver(list(config.cluster_dns), own + node.searches, {"ndots": "5"})
    if pod.spec.dns_config is not None:
        _merge(resolver, pod.spec.dns_config)
    return resolver.text()


def parse(text: str) -> Resolver:
    """Read a resolv.conf."""
    found = Resolver()
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line.lstrip().startswith(("#", ";")):
            continue
        if words[0] == "nameserver":
            found.nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            found.searches = [word for word in words[1:] if word != "."]
        elif words[0] == "options":
            found.options |= {name: value for name, _, value in (word.partition(":") for word in words[1:])}
    return found


def _merge(resolver: Resolver, wish: core_v1.PodDNSConfig) -> None:
    resolver.nameservers = list(dict.fromkeys((*resolver.nameservers, *wish.nameservers)))
    resolver.searches = list(dict.fromkeys((*resolver.searches, *wish.searches)))
    resolver.options |= {option.name: option.value for option in wish.options}
