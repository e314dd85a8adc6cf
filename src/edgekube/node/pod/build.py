"""From a pod's container to what the runtime is asked to make."""

from collections.abc import Mapping

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.node.config import KubeletConfig
from edgekube.node.env.downward import UnknownField
from edgekube.node.env.environment import ConfigError, Sources, environment
from edgekube.node.env.expand import expand
from edgekube.node.env.services import service_environment
from edgekube.node.folders import PodFolder
from edgekube.node.host import Host
from edgekube.node.labels import container_labels, runtime_name
from edgekube.node.pod.allocation import label_of
from edgekube.node.pod.limits import limits_of, security_of
from edgekube.node.pod.spec import qos_class
from edgekube.node.pod.state import Memory
from edgekube.node.volumes.base import VolumeError
from edgekube.node.volumes.etc import pod_fqdn, pod_hostname
from edgekube.runtime.base import ContainerSpec, ImageInfo


def container_spec(
    host: Host, pod: core_v1.Pod, container: core_v1.Container, *, attempt: int, image: ImageInfo, memory: Memory,
    pid_of: str,
) -> ContainerSpec:  # fmt: skip
    """Return the specification of one attempt; raises ConfigError."""
    config = host.config
    address = (
        config.node_ip if pod.spec.host_network else memory.attachment.address if memory.attachment else ""
    )
    try:
        env = environment(pod, container, _sources(host, pod, address, memory))
        mounts = host.volumes.mounts(pod, container, env, attempt=attempt)
        devices = host.volumes.devices(pod, container)
    except (UnknownField, VolumeError) as error:
        raise ConfigError(str(error)) from error
    log_path = PodFolder.of(config.pods_dir, pod).log(container.name, attempt)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    spec = pod.spec
    return ContainerSpec(
        name=runtime_name(pod, container.name, attempt=attempt),
        image=container.image,
        command=_words(container.command, env),
        args=_words(container.args, env),
        env={"HOSTNAME": _hostname(pod, config), **env},
        working_dir=container.working_dir,
        labels=container_labels(
            pod, container, attempt=attempt, boot_id=host.facts.boot_id, log_path=str(log_path)
        )
        | label_of(container.resources),
        mounts=mounts,
        devices=devices,
        limits=limits_of(pod, container, node_memory=host.facts.memory),
        security=security_of(pod, container, image, profiles=config.seccomp_dir),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdin_once),
        tty=bool(container.tty),
        netns="" if memory.attachment is None else memory.attachment.netns,
        pid_of=pid_of,
        ipc_of="host" if spec.host_ipc else "",
        hostname="" if spec.host_network else _hostname(pod, config),
        cgroup_parent=pod_cgroup(config, pod),
        log_path=log_path,
        stop_signal=container.lifecycle.stop_signal if container.lifecycle else "",
        handler=_handler(host, pod),
    )


def pod_cgroup(config: KubeletConfig, pod: core_v1.Pod) -> str:
    """Return the cgroup that holds a pod's containers; "" when the runtime chooses."""
    if not config.cgroup_root:
        return ""
    quality = qos_class(pod).lower()
    middle = "" if quality == "guaranteed" else f"/{quality}"
    return f"{config.cgroup_root}{middle}/pod{pod.metadata.uid}"


def _hostname(pod: core_v1.Pod, config: KubeletConfig) -> str:
    if pod.spec.set_hostname_as_fqdn and (full := pod_fqdn(pod, config.cluster_domain)):
        return full
    return pod_hostname(pod, config.node_name)


def _sources(host: Host, pod: core_v1.Pod, address: str, memory: Memory) -> Sources:
    links = pod.spec.enable_service_links is not False
    services = tuple(host.mirror.services)
    return Sources(
        config_map=host.mirror.config_maps.get,
        secret=host.mirror.secrets.get,
        services=service_environment(services, pod.metadata.namespace, links=links),
        place=host.place(address, memory.attachment),
        file=lambda volume, path: host.volumes.text(pod, volume, path),
    )


def _handler(host: Host, pod: core_v1.Pod) -> str:
    """Return the OCI runtime that the pod's RuntimeClass names; raises ConfigError."""
    name = pod.spec.runtime_class_name
    if not name:
        return ""
    found = host.mirror.runtime_classes.get(Key("", name))
    if found is None:
        raise ConfigError(
            f'failed to get runtime class "{name}": runtimeclass.node.k8s.io "{name}" not found'
        )
    return found.handler


def _words(words: tuple[str, ...], env: Mapping[str, str]) -> tuple[str, ...] | None:
    return tuple(expand(word, env) for word in words) or None
