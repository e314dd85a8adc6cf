"""What new Pods get: ServiceAccount and its token volume, default tolerations, priority."""

import asyncio

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
TOLERATION_SECONDS = 300
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
PRIORITY_CLASSES = {"": 0, "system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class ServiceAccount:
    """Fill in the account, and mount its token unless told not to."""

    verbs, resources = CREATE, PODS

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def admit(self, attributes: Attributes) -> None:
        """Raise Forbidden when the account does not exist."""
        spec = attributes.obj["spec"]
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
            spec["imagePullSecrets"] = account["imagePullSecrets"]

    async def _account(self, namespace: str, name: str) -> Tree | None:
        """Find it; a new namespace's default account is given a moment to appear."""
        for attempt in range(ATTEMPTS if name == "default" else 1):
            if attempt:
                await asyncio.sleep(PAUSE)
            account = await self._objects.find(SERVICE_ACCOUNTS, Key(namespace, name))
            if account is not None:
                return account
        return None


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


class Priority:
    """Resolve priorityClassName into a number."""

    verbs, resources = CREATE, PODS

    async def admit(self, attributes: Attributes) -> None:
        """Raise Forbidden for an unknown class."""
        spec = attributes.obj["spec"]
        name = spec.get("priorityClassName", "")
        value = PRIORITY_CLASSES.get(name)
        if value is None:
            raise attributes.forbid(f"no PriorityClass with name {name} was found")
        spec["priority"] = value
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
