"""What pods refer to, and so what their node may read. The references of a pod are pure."""

from collections.abc import Iterator
from typing import Any

import msgspec

from edgekube.api.kinds.core_v1 import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.request import Tree

Reference = tuple[str, str, str]
"""Plural, namespace, name."""
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
REMEMBERED = 4096
"""Pods whose references are kept at most."""


def pod_references(pod: Tree) -> frozenset[Reference]:
    """Return the objects a pod needs on its node."""
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    namespace = meta.get("namespace", "")
    found = {("serviceaccounts", spec.get("serviceAccountName") or "default")}
    found |= {("secrets", each.get("name", "")) for each in spec.get("imagePullSecrets") or ()}
    for field in CONTAINERS:
        for container in spec.get(field) or ():
            found.update(_environment(container))
    for volume in spec.get("volumes") or ():
        found.update(_volume(volume, meta.get("name", "")))
    return frozenset((plural, namespace, name) for plural, name in found if name)


def volume_references(volume: Tree) -> frozenset[Reference]:
    """Return the Secrets with which a node mounts a PersistentVolume."""
    return frozenset(
        ("secrets", ref.get("namespace", ""), ref["name"])
        for ref in _secret_refs(volume.get("spec") or {})
        if "name" in ref
    )


def _environment(container: Tree) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        yield "secrets", (source.get("secretRef") or {}).get("name", "")
        yield "configmaps", (source.get("configMapRef") or {}).get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield "secrets", (source.get("secretKeyRef") or {}).get("name", "")
        yield "configmaps", (source.get("configMapKeyRef") or {}).get("name", "")


def _volume(volume: Tree, pod: str) -> Iterator[tuple[str, str]]:
    yield "secrets", (volume.get("secret") or {}).get("secretName", "")
    yield "configmaps", (volume.get("configMap") or {}).get("name", "")
    yield "persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
    if "ephemeral" in volume:
        yield "persistentvolumeclaims", f"{pod}-{volume.get('name', '')}"
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield "secrets", (source.get("secret") or {}).get("name", "")
        yield "configmaps", (source.get("configMap") or {}).get("name", "")
    for ref in _secret_refs(volume):
        yield "secrets", ref.get("name", "")


def _secret_refs(value: Any) -> Iterator[Tree]:
    """Yield what the volume drivers call `secretRef`, `nodePublishSecretRef` and the like."""
    if isinstance(value, dict):
        for name, part in value.items():
            if isinstance(part, dict) and name.lower().endswith("secretref"):
                yield part
            else:
                yield from _secret_refs(part)


class Graph:
    """The references of a node's pods, read from the watch caches and kept until a pod changes."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._pods: dict[str, tuple[int, frozenset[Reference]]] = {}
        self._nodes: dict[str, tuple[tuple[int, ...], frozenset[Reference]]] = {}

    def refers(self, node: str, reference: Reference) -> bool:
        """Whether a pod on `node` needs an object, itself or through its claims."""
        return reference in self._references(node)

    def runs(self, node: str, namespace: str, name: str) -> bool:
        """Whether a pod is on `node`."""
        entry = self._caches.of(PODS).get(namespace, name)
        return entry is not None and entry.fields.get("spec.nodeName") == node

    def _references(self, node: str) -> frozenset[Reference]:
        rows = (PODS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES)
        seen = tuple(self._caches.of(row).revision for row in rows)
        known = self._nodes.get(node)
        if known is None or known[0] != seen:
            known = self._nodes[node] = (seen, self._collect(node))
        return known[1]

    def _collect(self, node: str) -> frozenset[Reference]:
        found: set[Reference] = set()
        for entry in self._caches.of(PODS).page().entries:
            if entry.fields.get("spec.nodeName") == node:
                found |= self._of_pod(entry.path, entry.revision, entry.raw)
        for plural, namespace, name in tuple(found):
            if plural == "persistentvolumeclaims":
                found |= self._behind(namespace, name)
        return frozenset(found)

    def _of_pod(self, path: str, revision: int, raw: bytes) -> frozenset[Reference]:
        known = self._pods.get(path)
        if known is None or known[0] != revision:
            if len(self._pods) >= REMEMBERED:
                self._pods.clear()
            known = self._pods[path] = (revision, pod_references(msgspec.json.decode(raw)))
        return known[1]

    def _behind(self, namespace: str, claim: str) -> frozenset[Reference]:
        """Return the volume of a claim and the Secrets it is mounted with."""
        entry = self._caches.of(PERSISTENT_VOLUME_CLAIMS).get(namespace, claim)
        name = (msgspec.json.decode(entry.raw).get("spec") or {}).get("volumeName", "") if entry else ""
        volume = self._caches.of(PERSISTENT_VOLUMES).get("", name) if name else None
        if volume is None:
            return frozenset()
        return volume_references(msgspec.json.decode(volume.raw)) | {("persistentvolumes", "", name)}
