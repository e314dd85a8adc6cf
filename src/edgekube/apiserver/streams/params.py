"""Query parameters of a stream (core/v1 PodLogOptions, PodExecOptions, PodAttachOptions, PodPortForwardOptions)."""

from multidict import MultiMapping

from edgekube.api.errors import BadRequest
from edgekube.api.types import core_v1
from edgekube.transport.base import StreamRequest

DEFAULT = "kubectl.kubernetes.io/default-container"


def request_of(kind: str, pod: core_v1.Pod, query: MultiMapping[str]) -> StreamRequest:
    """Return what the node is asked; raises BadRequest in the API server's words."""
    meta = pod.metadata
    if kind == "portforward":
        return StreamRequest(kind=kind, namespace=meta.namespace, pod=meta.name, uid=meta.uid)
    container = _container(pod, query.get("container", ""))
    if kind == "log":
        return _log(pod, container, query)
    command = tuple(query.getall("command", ()))
    if kind == "exec" and not command:
        raise BadRequest("you must specify at least 1 command for the container")
    wanted = {name: _flag(query, name) for name in ("stdin", "stdout", "stderr", "tty")}
    if not (wanted["stdin"] or wanted["stdout"] or wanted["stderr"]):
        raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return StreamRequest(
        kind=kind,
        namespace=meta.namespace,
        pod=meta.name,
        uid=meta.uid,
        container=container,
        command=command,
        stdin=wanted["stdin"],
        stdout=wanted["stdout"],
        stderr=wanted["stderr"],
        tty=wanted["tty"],
    )


def _log(pod: core_v1.Pod, container: str, query: MultiMapping[str]) -> StreamRequest:
    tail, since = _number(query, "tailLines"), _number(query, "sinceSeconds")
    limit = _number(query, "limitBytes")
    if since is not None and query.get("sinceTime"):
        raise BadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
    return StreamRequest(
        kind="log",
        namespace=pod.metadata.namespace,
        pod=pod.metadata.name,
        uid=pod.metadata.uid,
        container=container,
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail_lines=tail,
        since_seconds=since,
        since_time=query.get("sinceTime", ""),
        limit_bytes=limit,
    )


def _container(pod: core_v1.Pod, name: str) -> str:
    """Return the container meant; without a name, the annotated or the only one."""
    spec, meta = pod.spec, pod.metadata
    every = [
        c.name for group in (spec.containers, spec.init_containers, spec.ephemeral_containers) for c in group
    ]
    if name:
        if name not in every:
            raise BadRequest(f"container {name} is not valid for pod {meta.name}")
        return name
    if meta.annotations.get(DEFAULT) in every:
        return meta.annotations[DEFAULT]
    if len(spec.containers) == 1:
        return spec.containers[0].name
    choices = " ".join(c.name for c in spec.containers)
    init = (
        f" or one of the init containers: [{' '.join(c.name for c in spec.init_containers)}]"
        if spec.init_containers
        else ""
    )
    raise BadRequest(
        f"a container name must be specified for pod {meta.name}, choose one of: [{choices}]{init}"
    )


def _flag(query: MultiMapping[str], name: str) -> bool:
    return query.get(name, "").lower() not in {"", "0", "false"}


def _number(query: MultiMapping[str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f'{name}: Invalid value: "{text}": must be greater than or equal to 0')
    return int(text)
