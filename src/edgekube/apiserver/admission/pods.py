"""What new Pods get: ServiceAccount and its token volume, default tolerations, priority."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from edgekube.api.kinds.core_v1 import SERVICE_ACCOUNTS
from edgekube.api.resource import Key
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.registry.meta import generated_name
from edgekube.apiserver.request import Tree

CREATE = frozenset({"create"})
PODS = frozenset({"pods"})
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a mount path
TOKEN_SECONDS = 3607
"""One hour and seven seconds: recognisable as the default (serviceaccount admission in Kubernetes)."""
ATTEMPTS, PAUSE = 50, 0.1
"""How often, and after how many seconds, the default account of a new namespace is looked for."""
MIRROR = "kubernetes.io/config.mirror"
"""Marks the API's image of a static pod: it can have nothing that only the API knows."""
ENFORCE = "kubernetes.io/enforce-mountable-secrets"
TOLERATION_SECONDS = 300
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class ServiceAccount:
    """Fill in the account, and mount its token unless told not to."""

    verbs, resources = CREATE, PODS

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def admit(self, attributes: Attributes) -> None:
        """Raise Forbidden when the account does not exist, or does not let the pod have its Secrets."""
        spec = attributes.obj["spec"]
        if MIRROR in (attributes.obj["metadata"].get("annotations") or {}):
            _check_mirror(attributes)
            return
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(attributes.target.namespace, name)
        if account is None:
            raise attributes.forbid(
                f"error looking up service account {attributes.target.namespace}/{name}: "
                f'serviceaccount "{name}" not found'
            )
        if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]
        if ((account["metadata"].get("annotations") or {}).get(ENFORCE)) == "true":
            _check_secrets(attributes, account)

    readmit = admit

    async def _account(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Find it; a new namespace's default account is given a moment to appear."""
        for attempt in range(ATTEMPTS if name == "default" else 1):
            if attempt:
                await asyncio.sleep(PAUSE)
            account = await self._objects.look(SERVICE_ACCOUNTS, Key(namespace, name))
            if account is not None:
                return account
        return None


def _secrets(spec: Tree) -> Iterator[tuple[str, str]]:
    """Yield where a pod names Secrets (in Kubernetes' words), and which."""
    for volume in spec.get("volumes") or ():
        projected = [
            source.get("secret") or {} for source in (volume.get("projected") or {}).get("sources") or ()
        ]
        for name in ((volume.get("secret") or {}).get("secretName"), *(one.get("name") for one in projected)):
            if name:
                yield "volume with secret.secretName", name
    for field, called in (("initContainers", "init container"), ("containers", "container")):
        for container in spec.get(field) or ():
            for where, name in _variables(container):
                yield f"{called} {container['name']} with {where} referencing secret.secretName", name


def _variables(container: Tree) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        if name := ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name"):
            yield f"envVar {variable['name']}", name
    for source in container.get("envFrom") or ():
        if name := (source.get("secretRef") or {}).get("name"):
            yield "envFrom", name


def _check_mirror(attributes: Attributes) -> None:
    spec = attributes.obj["spec"]
    if spec.get("serviceAccountName"):
        raise attributes.forbid("a mirror pod may not reference service accounts")
    if next(_secrets(spec), None):
        raise attributes.forbid("a mirror pod may not reference secrets")
    if any(
        source.get("serviceAccountToken") is not None
        for volume in spec.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    ):
        raise attributes.forbid("a mirror pod may not use ServiceAccountToken volume projections")


def _check_secrets(attributes: Attributes, account: Mapping[str, Any]) -> None:
    """An account that says so lets its pods have the Secrets it lists, and no others."""
    spec, name = attributes.obj["spec"], account["metadata"]["name"]
    mountable = {reference.get("name") for reference in account.get("secrets") or ()}
    for where, secret in _secrets(spec):
        if secret not in mountable:
            why = f"is not allowed because service account {name} does not reference that secret"
            raise attributes.forbid(f'{where}="{secret}" {why}')
    pullable = {reference.get("name") for reference in account.get("imagePullSecrets") or ()}
    for number, reference in enumerate(spec.get("imagePullSecrets") or ()):
        if reference.get("name") not in pullable:
            why = f"is not allowed because service account {name} does not reference that imagePullSecret"
            raise attributes.forbid(f'imagePullSecrets[{number}].name="{reference.get("name")}" {why}')


def mount_token(spec: Tree) -> None:
    """Add the projected volume `kube-api-access-…` and mount it wherever its path is free."""
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    bare = [
        c for c in containers if all(m.get("mountPath") != TOKEN_PATH for m in c.get("volumeMounts") or ())
    ]
    if not bare:
        return
    volume = next((v for v in spec.get("volumes") or () if v["name"].startswith("kube-api-access-")), None)
    if volume is None:
        volume = token_volume(generated_name("kube-api-access-"))
        spec["volumes"] = [*(spec.get("volumes") or ()), volume]
    for container in bare:
        mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def token_volume(name: str) -> Tree:
    """Return the volume in-cluster clients expect: token, ca.crt, namespace."""
    downward = {
        "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
    }
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": authority},
        {"downwardAPI": downward},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 420}}


class DefaultTolerationSeconds:
    """Pods stay five minutes on a node that is not ready or unreachable."""

    verbs, resources = CREATE, PODS

    async def admit(self, attributes: Attributes) -> None:
        """Add a toleration for each taint that none of the pod's own covers."""
        spec = attributes.obj["spec"]
        own = spec.get("tolerations") or []
        added = [
            {
                "key": taint,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }
            for taint in TAINTS
            if not any(
                item.get("key", "") in {"", taint} and item.get("effect", "") in {"", "NoExecute"}
                for item in own
            )
        ]
        if added:
            spec["tolerations"] = [*own, *added]
