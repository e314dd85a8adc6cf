"""Doing what a plan says, one step at a time. Each step may be repeated; each says whether to go on."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Any

from edgekube.api.resource import Key
from edgekube.api.types import core_v1
from edgekube.lib.backoff import Backoff
from edgekube.lib.errors import EdgekubeError
from edgekube.network.base import NetworkError
from edgekube.node.cgroups import remove_cgroup
from edgekube.node.env.environment import ConfigError
from edgekube.node.folders import PodFolder
from edgekube.node.host import Host
from edgekube.node.images import ImageMissing, logins_for
from edgekube.node.labels import CONTAINER_NAME, attempt_of
from edgekube.node.log.files import remove_logs
from edgekube.node.pod import backoff
from edgekube.node.pod.allocation import granted
from edgekube.node.pod.bandwidth import bandwidth_of
from edgekube.node.pod.build import container_spec, pod_cgroup
from edgekube.node.pod.endings import Endings
from edgekube.node.pod.hooks import run_hook
from edgekube.node.pod.resizer import Resizer
from edgekube.node.pod.spec import container_named, full_name, grace_of, target_of
from edgekube.node.pod.state import (
    AttachNetwork,
    CreateContainer,
    DetachNetwork,
    EnsureImage,
    Failure,
    Finish,
    GrantResources,
    MakeVolumes,
    Memory,
    RemoveContainer,
    RemoveVolumes,
    ResizeContainer,
    RunContainer,
    Step,
    StopContainers,
    Stopping,
)
from edgekube.node.volumes.etc import pod_hostname
from edgekube.node.volumes.image import images_of
from edgekube.node.volumes.projected import DEFAULT_EXPIRATION
from edgekube.runtime.base import (
    ContainerInfo,
    HalfStarted,
    ImageInfo,
    Phase,
    RuntimeFailure,
    RuntimeUnavailable,
)

IMAGE_REASONS = ("ErrImage", "InvalidImageName")


class Steps:
    """The hands of one pod's worker. Failures go into `memory`; only RuntimeUnavailable is raised."""

    def __init__(self, host: Host, memory: Memory) -> None:
        self._host, self._memory = host, memory
        self._resizer = Resizer(host, memory)
        self._images: dict[str, ImageInfo] = {}
        self._tokens: dict[tuple[str, int], tuple[str, str]] = {}
        """By audience and seconds: token and expiry, asked for ahead of time and used once."""
        self._backoff = Backoff[str](first=1.0, limit=120.0)
        self._remake = Backoff[str](first=10.0, limit=300.0)
        self._endings = Endings(host, memory)
        self._table: dict[type, Callable[[core_v1.Pod, Any], Awaitable[bool]]] = {
            AttachNetwork: self._attach,
            MakeVolumes: self._volumes,
            EnsureImage: self._image,
            CreateContainer: self._create,
            RunContainer: self._run,
            StopContainers: self._endings.stop,
            GrantResources: self._resizer.grant,
            ResizeContainer: self._resizer.resize,
            RemoveContainer: self._remove,
            DetachNetwork: self._detach,
            RemoveVolumes: self._remove_volumes,
            Finish: self._finish,
        }

    @property
    def hurry(self) -> asyncio.Event:
        """Set it when the grace period of a stop that is under way was cut short."""
        return self._endings.hurry

    async def perform(self, pod: core_v1.Pod, step: Step) -> bool:
        """Do one step; False when what follows it makes no sense now."""
        return await self._table[type(step)](pod, step)

    # --- network and volumes ---

    async def _attach(self, pod: core_v1.Pod, _step: AttachNetwork) -> bool:
        network = self._host.network
        if network is None:
            return False
        security = pod.spec.security_context
        wished = {s.name.replace("/", "."): s.value for s in security.sysctls} if security else {}
        sysctls = {key: value for key, value in wished.items() if key.startswith("net.")}
        name = pod_hostname(pod, self._host.config.node_name)
        try:
            self._memory.attachment, _ = await asyncio.gather(
                network.attach(pod.metadata.uid, name, sysctls=sysctls, bandwidth=bandwidth_of(pod)),
                self._warm(pod),
            )
        except NetworkError as error:
            text = f"Failed to create pod sandbox: {error}"
            self._sandbox_failed(pod, "FailedCreatePodSandBox", text)
            return False
        self._sandbox_made()
        return True

    async def _warm(self, pod: core_v1.Pod) -> None:
        """Ask meanwhile for what the next steps will want: tokens, and the first container's image."""
        account = Key(pod.metadata.namespace, pod.spec.service_account_name or "default")

        async def ask(source: core_v1.ServiceAccountTokenProjection) -> None:
            seconds = source.expiration_seconds or DEFAULT_EXPIRATION
            with contextlib.suppress(EdgekubeError):
                self._tokens[source.audience, seconds] = await self._host.reporter.service_account_token(
                    account, source.audience, seconds, pod
                )

        wanted = [
            ask(source.service_account_token)
            for volume in pod.spec.volumes
            if volume.projected is not None
            for source in volume.projected.sources
            if source.service_account_token is not None
        ]
        first = (*pod.spec.init_containers, *pod.spec.containers)[0]
        await asyncio.gather(self._host.images.warm(first), *wanted)

    async def _volumes(self, pod: core_v1.Pod, _step: MakeVolumes) -> bool:
        memory, host = self._memory, self._host
        memory.volumes_stale = False
        attachment = memory.attachment
        address = host.config.node_ip if attachment is None else attachment.address

        async def token(audience: str, seconds: int) -> tuple[str, str]:
            if (asked := self._tokens.pop((audience, seconds), None)) is not None:
                return asked
            account = Key(pod.metadata.namespace, pod.spec.service_account_name or "default")
            return await host.reporter.service_account_token(account, audience, seconds, pod)

        try:
            memory.volumes_refresh_at = await host.volumes.make(
                granted(pod, memory.granted),
                host.place(address, attachment),
                token,
                resumed=bool(host.containers.of_pod(pod.metadata.uid)),
            )
        except (EdgekubeError, OSError) as error:
            self._sandbox_failed(pod, "FailedMount", str(error))
            assert memory.sandbox is not None
            memory.volumes_refresh_at = memory.sandbox.retry_at
            return False
        memory.volumes_ready = True
        self._sandbox_made()
        return True

    def _sandbox_made(self) -> None:
        self._memory.sandbox = None
        self._backoff.forget("sandbox")

    def _sandbox_failed(self, pod: core_v1.Pod, reason: str, message: str) -> None:
        now = self._host.clock()
        delay = self._backoff.next("sandbox")
        self._memory.sandbox = Failure(reason=reason, message=message, at=now, retry_at=now + delay)
        self._host.event(pod, reason, message, warning=True)

    async def _detach(self, pod: core_v1.Pod, _step: DetachNetwork) -> bool:
        network = self._host.network
        if network is not None:
            try:
                await network.detach(pod.metadata.uid)
            except NetworkError as error:
                self._host.event(pod, "FailedKillPod", f"error killing pod: {error}", warning=True)
                raise
        self._memory.attachment = None
        self._memory.detached = True
        return True

    async def _remove_volumes(self, pod: core_v1.Pod, step: RemoveVolumes) -> bool:
        config = self._host.config
        await self._host.volumes.remove(PodFolder.of(config.pods_dir, pod), everything=step.everything)
        if step.everything:
            path = pod_cgroup(config, pod)
            remove_cgroup(config.cgroup_mount, path)
            self._host.cgroups.drop(pod.metadata.uid, path)
        self._memory.volumes_removed = True
        self._memory.volumes_refresh_at = math.inf
        return True

    async def _finish(self, pod: core_v1.Pod, _step: Finish) -> bool:
        meta = pod.metadata
        if not self._memory.removed:
            self._host.reporter.pod_gone(Key(meta.namespace, meta.name), meta.uid)
        return True

    # --- containers ---

    async def _image(self, pod: core_v1.Pod, step: EnsureImage) -> bool:
        container = _named(pod, step.container)
        known = (
            self._host.mirror.secrets.get(Key(pod.metadata.namespace, reference.name))
            for reference in pod.spec.image_pull_secrets
        )
        secrets = [secret for secret in known if secret is not None]

        def tell(reason: str, message: str) -> None:
            self._host.event(pod, reason, message, container=container.name)

        try:
            for wanted in images_of(pod, container):
                image = wanted.image
                await self._host.images.ensure(wanted, logins_for(image, secrets), tell)
            image = container.image
            info = await self._host.images.ensure(container, logins_for(image, secrets), tell)
        except ImageMissing as error:
            pulling = ("Failed", f'Failed to pull image "{image}": {error}')
            reason, text = {
                "ErrImageNeverPull": ("ErrImageNeverPull", str(error)), "InvalidImageName": ("InspectFailed", str(error)),
            }.get(error.reason, pulling)  # fmt: skip
            self._host.event(pod, reason, text, warning=True, container=container.name)
            self._not_made(pod, container.name, error.reason, str(error), delay=error.retry_after)
            return False
        self._images[container.name] = info
        return True

    async def _create(self, pod: core_v1.Pod, step: CreateContainer) -> bool:
        host, memory = self._host, self._memory
        pod = granted(pod, memory.granted)
        container = _named(pod, step.container)
        before = self._newest(pod, step.container)
        try:
            image = self._images.pop(step.container, None) or await host.runtime.images.inspect(
                container.image
            )
            spec = container_spec(
                host,
                pod,
                container,
                attempt=step.attempt,
                image=image,
                memory=memory,
                pid_of=self._processes(pod, container.name),
            )
            self._resizer.fit(pod)
            identity = await host.runtime.containers.create(spec)
        except RuntimeUnavailable:
            raise
        except (ConfigError, RuntimeFailure, OSError) as error:
            config = isinstance(error, ConfigError)
            reason = "CreateContainerConfigError" if config else "CreateContainerError"
            self._not_made(pod, container.name, reason, str(error), delay=self._remake.next(container.name))
            return False
        memory.failures.pop(container.name, None)
        self._remake.forget(container.name)
        memory.attempts[container.name] = step.attempt
        if before is not None:
            known = memory.restarts.get(container.name)
            memory.restarts[container.name] = backoff.after_restart(
                known, _ended_at(before, memory), now=host.clock()
            )
        host.event(pod, "Created", "Container created", container=container.name)
        await host.containers.refresh(identity)
        return True

    def _not_made(self, pod: core_v1.Pod, name: str, reason: str, message: str, *, delay: float) -> None:
        now = self._host.clock()
        known = self._memory.failures.get(name)
        self._memory.failures[name] = Failure(
            reason=reason,
            message=message,
            at=now,
            retry_at=now + delay,
            count=known.count + 1 if known else 1,
        )
        text = f"Error: {reason if reason.startswith(IMAGE_REASONS) else message}"
        self._host.event(pod, "Failed", text, warning=True, container=name)

    async def _run(self, pod: core_v1.Pod, step: RunContainer) -> bool:
        host = self._host
        try:
            await host.runtime.containers.start(step.id)
        except RuntimeUnavailable:
            raise
        except HalfStarted:
            # It never ran: the same attempt is made once more, and nothing counts as a restart.
            await host.runtime.containers.remove(step.id)
            self._memory.attempts.pop(step.container, None)
            await host.containers.refresh(step.id)
            return False
        except RuntimeFailure as error:
            now = host.clock()
            self._memory.start_errors[step.id] = Failure(
                reason="RunContainerError", message=str(error), at=now, retry_at=now
            )
            host.event(pod, "Failed", f"Error: {error}", warning=True, container=step.container)
            await host.containers.refresh(step.id)
            return False
        host.event(pod, "Started", "Container started", container=step.container)
        await host.containers.refresh(step.id)
        container = _named(pod, step.container)
        if container.lifecycle is not None and container.lifecycle.post_start is not None:
            await self._post_start(pod, container, step.id, container.lifecycle.post_start)
        return True

    async def _post_start(
        self, pod: core_v1.Pod, container: core_v1.Container, identity: str, hook: core_v1.LifecycleHandler
    ) -> None:
        answer = await run_hook(hook, self._endings.target(container, identity), self._host.runtime.sessions)
        if not answer.success:
            self._host.event(
                pod, "FailedPostStartHook", f"PostStartHook failed: {answer.output}", warning=True, container=container.name
            )  # fmt: skip
            await self._endings.stop_one(
                pod, Stopping(container.name, identity, grace_of(pod), "FailedPostStartHook", replace=True)
            )

    async def _remove(self, pod: core_v1.Pod, step: RemoveContainer) -> bool:
        info = next((i for i in self._host.containers.of_pod(pod.metadata.uid) if i.id == step.id), None)
        await self._host.runtime.containers.remove(step.id)
        await self._host.containers.refresh(step.id)
        for remembered in (
            self._memory.messages,
            self._memory.start_errors,
            self._memory.health,
            self._memory.applied,
        ):
            remembered.pop(step.id, None)
        self._memory.replace.discard(step.id)
        if info is not None and step.log:
            folder = PodFolder.of(self._host.config.pods_dir, pod)
            name, attempt = info.labels.get(CONTAINER_NAME, ""), attempt_of(info.labels)
            remove_logs(folder.log(name, attempt))
            folder.termination(name, attempt).unlink(missing_ok=True)
        return True

    def _newest(self, pod: core_v1.Pod, name: str) -> ContainerInfo | None:
        infos = [
            i for i in self._host.containers.of_pod(pod.metadata.uid) if i.labels.get(CONTAINER_NAME) == name
        ]
        return max(infos, key=lambda info: attempt_of(info.labels), default=None)

    def _processes(self, pod: core_v1.Pod, name: str) -> str:
        """Return whose PID namespace a container joins: a container's id, "host", "" none; raises ConfigError."""
        if pod.spec.host_pid:
            return "host"
        running = [i for i in self._host.containers.of_pod(pod.metadata.uid) if i.phase is Phase.RUNNING]
        if pod.spec.share_process_namespace:
            return min(running, key=lambda info: info.started_at).id if running else ""
        target = target_of(pod, name)
        if not target:
            return ""
        found = next((info for info in running if info.labels.get(CONTAINER_NAME) == target), None)
        if found is None:
            raise ConfigError(f"unable to find target container {target}")
        return found.id


def _named(pod: core_v1.Pod, name: str) -> core_v1.Container:
    container = container_named(pod, name)
    assert container is not None, f"{full_name(pod)} has no container {name}"
    return container


def _ended_at(info: ContainerInfo, memory: Memory) -> float:
    error = memory.start_errors.get(info.id)
    return error.at if error is not None else info.finished_at
