"""A static pod's file: YAML or JSON to a pod as the API server would have made it. Pure, but for the schemas it loads."""

import hashlib
from typing import Any

import msgspec

from edgekube.api.types import core_v1
from edgekube.lib.errors import EdgekubeError
from edgekube.node.clock import stamp
from edgekube.node.pod.references import config_maps_of, secrets_of

SOURCE, MIRROR = "kubernetes.io/config.source", "kubernetes.io/config.mirror"
HASH, SEEN = "kubernetes.io/config.hash", "kubernetes.io/config.seen"
PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
LIMIT = 1 << 20
"""Bytes; a longer file is no pod."""


class BadManifest(EdgekubeError):
    """The file is no pod that can run without a master; the message says why."""


def is_mirror(pod: core_v1.Pod) -> bool:
    """Tell whether a pod only shows a static one."""
    return MIRROR in pod.metadata.annotations


def from_master(pod: core_v1.Pod | None) -> core_v1.Pod | None:
    """Return a pod as the master has it for us: None for a mirror; whoever calls theirs static is not believed."""
    if pod is None or is_mirror(pod):
        return None
    if SOURCE not in pod.metadata.annotations:
        return pod
    annotations = {**pod.metadata.annotations, SOURCE: "api"}
    return msgspec.structs.replace(
        pod, metadata=msgspec.structs.replace(pod.metadata, annotations=annotations)
    )


def read_manifest(data: bytes, *, path: str, node: str, now: float) -> core_v1.Pod:
    """Return the pod in a file; raises BadManifest. The same file gives the same uid on the same node."""
    from edgekube.api import defaults  # noqa: PLC0415 - only nodes with static pods pay for these
    from edgekube.api.kinds.core_v1 import PODS  # noqa: PLC0415

    tree = _cleaned(_tree(data))
    meta, spec = tree.setdefault("metadata", {}), tree.setdefault("spec", {})
    if not meta.get("name"):
        raise BadManifest("metadata.name: Required value")
    digest = hashlib.blake2b(b"\0".join((node.encode(), path.encode(), data)), digest_size=16).hexdigest()
    tree["metadata"] = {
        "name": f"{meta['name']}-{node.lower()}",
        "namespace": meta.get("namespace") or "default",
        "uid": digest,
        "labels": meta.get("labels") or {},
        "annotations": {
            **(meta.get("annotations") or {}), HASH: digest, SEEN: stamp(now), SOURCE: "file",
        },
        "creationTimestamp": stamp(now),
    }  # fmt: skip
    spec["nodeName"] = node
    # It was not scheduled and cannot go elsewhere: no taint drives it out.
    spec["tolerations"] = [*(spec.get("tolerations") or ()), {"operator": "Exists", "effect": "NoExecute"}]
    if "priority" not in spec and spec.get("priorityClassName") in PRIORITIES:
        spec["priority"] = PRIORITIES[spec["priorityClassName"]]
    tree.pop("status", None)
    defaults.apply(PODS, tree)
    _check(tree)
    try:
        made = msgspec.convert(tree, core_v1.Pod)
    except msgspec.ValidationError as error:
        raise BadManifest(str(error)) from error
    if others := _others(made):
        raise BadManifest(f"a static pod cannot refer to {', '.join(others)}: it runs without a master")
    return made


def _tree(data: bytes) -> dict[str, Any]:
    import yaml  # noqa: PLC0415

    if len(data) > LIMIT:
        raise BadManifest(f"over {LIMIT} bytes")
    try:
        # Through JSON, which has neither times nor keys that are no text.
        documents = [
            msgspec.json.decode(msgspec.json.encode(item))
            for item in yaml.safe_load_all(data)
            if item is not None
        ]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise BadManifest(f"no YAML: {' '.join(str(error).split())}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise BadManifest(f"one Pod is wanted in a file, not {len(documents)} documents")
    tree: dict[str, Any] = documents[0]
    if (tree.get("apiVersion"), tree.get("kind")) != ("v1", "Pod"):
        raise BadManifest(f"a v1 Pod is wanted, not {tree.get('apiVersion')} {tree.get('kind')}")
    return tree


def _cleaned(tree: dict[str, Any]) -> dict[str, Any]:
    from edgekube.api.schema.schemas import Schemas  # noqa: PLC0415

    found = Schemas.load().normalise("io.k8s.api.core.v1.Pod", tree)
    problems = [f"unknown field {name}" for name in found.unknown]
    problems += [f"{cause.field}: {cause.message}" for cause in found.causes]
    if problems:
        raise BadManifest("; ".join(problems))
    return found.tree


def _check(tree: dict[str, Any]) -> None:
    from edgekube.api.kinds.core_v1 import PODS  # noqa: PLC0415
    from edgekube.api.validation import metadata, pod  # noqa: PLC0415
    from edgekube.api.validation.problems import Problems  # noqa: PLC0415

    problems = Problems()
    metadata.create(PODS, tree["metadata"], problems)
    pod.pod(tree, problems)
    if problems.causes:
        raise BadManifest("; ".join(f"{cause.field}: {cause.message}" for cause in problems.causes))


def _others(pod: core_v1.Pod) -> list[str]:
    """Return the kinds of objects a pod needs that only the master has."""
    volumes = pod.spec.volumes
    sources = [source for volume in volumes if volume.projected for source in volume.projected.sources]
    needs = {
        "serviceaccounts": pod.spec.service_account_name or any(s.service_account_token for s in sources),
        "configmaps": config_maps_of(pod),
        "secrets": secrets_of(pod) or pod.spec.image_pull_secrets,
        "persistentvolumeclaims": any(v.persistent_volume_claim or v.ephemeral for v in volumes),
    }
    return sorted(kind for kind, needed in needs.items() if needed)
