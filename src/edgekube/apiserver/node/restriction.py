"""Admission plug-in NodeRestriction (plugin/pkg/admission/noderestriction in Kubernetes): a node writes only what is its own."""

from collections.abc import Callable, Mapping

from edgekube.api.errors import Forbidden
from edgekube.api.kinds.core_v1 import NODES, PODS
from edgekube.api.resource import Key
from edgekube.apiserver.admission.base import Attributes, Objects
from edgekube.apiserver.identity import User
from edgekube.apiserver.node import labels
from edgekube.apiserver.node.graph import pod_references
from edgekube.apiserver.node.identity import PREFIX, node_of
from edgekube.apiserver.request import Tree

MIRROR = "kubernetes.io/config.mirror"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
CLAIM_STATUS = frozenset({
    "capacity", "conditions", "allocatedResources", "allocatedResourceStatuses",
    "currentVolumeAttributesClassName", "modifyVolumeStatus",
})  # fmt: skip
"""What a node may say of a claim: how a resize went."""


class NodeRestriction:
    """Refuses; changes nothing. Users that are no nodes pass."""

    verbs = frozenset({"create", "update", "delete"})
    everywhere = True

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._checks: Mapping[str, Callable[[Attributes, str], None]] = {
            "nodes": _node,
            "persistentvolumeclaims": _claim,
            "leases.coordination.k8s.io": _lease,
            "csinodes.storage.k8s.io": _named_alike,
            "certificatesigningrequests.certificates.k8s.io": _request,
        }
        self.resources = frozenset({*self._checks, "pods"})

    async def validate(self, attributes: Attributes) -> None:
        """Raise Forbidden for what belongs to others."""
        node = node_of(attributes.user)
        if not node or attributes.settling:
            return
        resource = attributes.target.row.group_resource
        if resource == "pods":
            await self._pod(attributes, node)
        else:
            self._checks[resource](attributes, node)

    async def _pod(self, attributes: Attributes, node: str) -> None:
        if attributes.verb == "create":
            _mirror(attributes, node)
            await self._owned_by(attributes, node)
            return
        pod = attributes.old or attributes.obj
        if (pod.get("spec") or {}).get("nodeName") != node:
            raise attributes.forbid(f'node "{node}" can only change pods with spec.nodeName set to itself')
        if attributes.verb == "update" and not _going(attributes):
            _pod_status(attributes, node)

    async def _owned_by(self, attributes: Attributes, node: str) -> None:
        """A mirror pod may have one owner, the node itself."""
        owners = attributes.obj["metadata"].get("ownerReferences") or ()
        if not owners:
            return
        found = await self._objects.find(NODES, Key("", node))
        uid = found["metadata"].get("uid") if found else None
        if len(owners) > 1 or not _is_node(owners[0], node, uid):
            raise attributes.forbid(
                f'node "{node}" can only create pods with an owner reference set to itself'
            )


def _is_node(owner: Tree, node: str, uid: str | None) -> bool:
    same = (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) == ("v1", "Node", node)
    return (
        same
        and owner.get("uid") == uid
        and not owner.get("blockOwnerDeletion")
        and bool(owner.get("controller"))
    )


def _mirror(attributes: Attributes, node: str) -> None:
    pod = attributes.obj
    spec = pod.get("spec") or {}
    if MIRROR not in (pod["metadata"].get("annotations") or {}):
        raise attributes.forbid(f'node "{node}" can only create mirror pods')
    if spec.get("nodeName") != node:
        raise attributes.forbid(f'node "{node}" can only create pods with spec.nodeName set to itself')
    if spec.get("serviceAccountName") or "resourceClaims" in spec:
        raise attributes.forbid(
            f'node "{node}" can not create pods that reference a service account or resource claims'
        )
    others = {plural for plural, _, _ in pod_references(pod)} - {"serviceaccounts"}
    if others:
        raise attributes.forbid(
            f'node "{node}" can not create pods that reference {", ".join(sorted(others))}'
        )


def _going(attributes: Attributes) -> bool:
    """Whether an update is the server's own step of a deletion or an eviction, and so not the node's."""
    return bool(attributes.obj["metadata"].get("deletionTimestamp")) and not attributes.subresource


def _pod_status(attributes: Attributes, node: str) -> None:
    if attributes.subresource not in {"status", "eviction"}:
        raise attributes.forbid(f'node "{node}" can only update pod status')
    old = attributes.old or {"metadata": {}}
    if (attributes.obj["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        raise attributes.forbid(f'node "{node}" cannot update labels through pod status')


def _node(attributes: Attributes, node: str) -> None:
    name = attributes.obj["metadata"].get("name", "")
    if attributes.verb == "delete" or name != node:
        raise attributes.forbid(f'node "{node}" is not allowed to {_word(attributes)} node "{name}"')
    old = attributes.old
    before = old["metadata"].get("labels") if old else None
    wrong = labels.forbidden(attributes.obj["metadata"].get("labels") or {}, before or {})
    if wrong:
        deed = "modify labels" if old else "set the following labels"
        raise attributes.forbid(f'node "{node}" is not allowed to {deed}: {", ".join(wrong)}')
    if old is None:
        return
    if _part(attributes.obj, "spec", "taints") != _part(old, "spec", "taints"):
        raise attributes.forbid(f'node "{node}" is not allowed to modify taints')
    if _part(attributes.obj, "metadata", "ownerReferences") != _part(old, "metadata", "ownerReferences"):
        raise attributes.forbid(f'node "{node}" is not allowed to modify ownerReferences')


def _part(obj: Tree, above: str, name: str) -> object:
    return (obj.get(above) or {}).get(name) or None


def _word(attributes: Attributes) -> str:
    return "delete" if attributes.verb == "delete" else "modify"


def _claim(attributes: Attributes, node: str) -> None:
    if attributes.verb != "update" or attributes.subresource != "status":
        raise attributes.forbid(f'node "{node}" may only update PVC status')
    if _without_resize(attributes.obj) != _without_resize(attributes.old or {}):
        raise attributes.forbid(f'node "{node}" is not allowed to update fields other than those of a resize')


def _without_resize(claim: Tree) -> Tree:
    status = {name: value for name, value in (claim.get("status") or {}).items() if name not in CLAIM_STATUS}
    meta = {name: value for name, value in (claim.get("metadata") or {}).items() if name != "managedFields"}
    return {"spec": claim.get("spec"), "metadata": meta, "status": status}


def _lease(attributes: Attributes, node: str) -> None:
    if attributes.target.namespace != "kube-node-lease":
        raise attributes.forbid('can only access leases in the "kube-node-lease" system namespace')
    _named_alike(attributes, node)


def _named_alike(attributes: Attributes, node: str) -> None:
    if attributes.obj["metadata"].get("name") != node:
        plural = attributes.target.row.kind.lower()
        raise attributes.forbid(f"can only access {plural} with the same name as the requesting node")


def _request(attributes: Attributes, node: str) -> None:
    """A node asks for certificates of its own name only."""
    spec = attributes.obj.get("spec") or {}
    if attributes.verb != "create" or spec.get("signerName") not in {CLIENT_SIGNER, SERVING_SIGNER}:
        return
    from edgekube.lib import x509  # noqa: PLC0415 - loads a large library, rarely needed

    asked = x509.parse_request(spec.get("request") or "")
    if asked is not None and asked.name != f"{PREFIX}{node}":
        raise attributes.forbid(
            f'requesting node "{node}" may only create certificate requests for its own name, not "{asked.name}"'
        )


async def check_token(objects: Objects, user: User, namespace: str, reference: Mapping[str, str]) -> None:
    """Refuse a node tokens that are not bound to one of its own pods; raises Forbidden."""
    node = node_of(user)
    if not node:
        return
    if reference.get("kind") != "Pod" or not reference.get("name"):
        raise Forbidden(f'node "{node}" can only request tokens bound to a pod')
    if not reference.get("uid"):
        raise Forbidden(f'node "{node}" can only request tokens with a bound object UID')
    pod = await objects.find(PODS, Key(namespace, reference["name"]))
    if pod is None or (pod.get("spec") or {}).get("nodeName") != node:
        raise Forbidden(f'node "{node}" can only request tokens for pods running on the node')
