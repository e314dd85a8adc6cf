"""The Node authorizer (plugin/pkg/auth/authorizer/node in Kubernetes): tables of what any node and what this node may."""

from collections.abc import Callable, Mapping

import msgspec

from edgekube.api.kinds.storage_v1 import VOLUME_ATTACHMENTS
from edgekube.apiserver.authz import Access
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.identity import User
from edgekube.apiserver.node.graph import Graph
from edgekube.apiserver.node.identity import node_of

LEASE_NAMESPACE = "kube-node-lease"
READ = frozenset({"get", "list", "watch"})
CHANGE = frozenset({"update", "patch"})
OWN = frozenset({"get", "create", "update", "patch", "delete"})

Resource = tuple[str, str, str]
"""Group, plural, subresource."""

ANY_NODE: Mapping[Resource, frozenset[str]] = {
    ("authentication.k8s.io", "tokenreviews", ""): frozenset({"create"}),
    ("authorization.k8s.io", "subjectaccessreviews", ""): frozenset({"create"}),
    ("authorization.k8s.io", "localsubjectaccessreviews", ""): frozenset({"create"}),
    ("", "services", ""): READ,
    ("", "endpoints", ""): frozenset({"get"}),
    ("", "events", ""): CHANGE | {"create"},
    ("", "nodes", ""): CHANGE | {"create"},
    ("", "nodes", "status"): CHANGE,
    ("", "pods", ""): frozenset({"create", "delete"}),
    ("", "pods", "status"): CHANGE,
    ("", "pods", "eviction"): frozenset({"create"}),
    ("certificates.k8s.io", "certificatesigningrequests", ""): READ | {"create"},
    ("certificates.k8s.io", "clustertrustbundles", ""): READ,
    ("certificates.k8s.io", "podcertificaterequests", ""): READ | {"create"},
    ("storage.k8s.io", "csidrivers", ""): READ,
    ("node.k8s.io", "runtimeclasses", ""): READ,
}
"""Admission narrows the writes among these to the node's own objects."""


class NodeAuthorizer:
    """An Authorizer with an opinion about nodes only, and never a refusal."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._graph = Graph(caches)
        guarded = {
            "secrets": self._referred, "configmaps": self._referred,
            "persistentvolumeclaims": self._referred, "persistentvolumes": self._referred,
        }  # fmt: skip
        self._guarded: dict[Resource, Callable[[str, Access], bool]] = {
            **{("", plural, ""): check for plural, check in guarded.items()},
            ("", "persistentvolumeclaims", "status"): self._claim_status,
            ("", "serviceaccounts", "token"): self._token,
            ("", "serviceaccounts", ""): self._account,
            ("", "pods", ""): self._pod,
            ("", "nodes", ""): _own_node,
            ("coordination.k8s.io", "leases", ""): _own_lease,
            ("storage.k8s.io", "csinodes", ""): _own_csi_node,
            ("storage.k8s.io", "volumeattachments", ""): self._attachment,
        }

    def allows(self, user: User, access: Access) -> bool | None:
        """Return yes, or None."""
        node = node_of(user)
        if not node or not access.plural:
            return None
        resource = (access.group, access.plural, access.subresource)
        if access.verb in ANY_NODE.get(resource, ()):
            return True
        check = self._guarded.get(resource)
        return True if check is not None and check(node, access) else None

    def _refers(self, node: str, access: Access) -> bool:
        return self._graph.refers(node, (access.plural, access.namespace, access.name))

    def _referred(self, node: str, access: Access) -> bool:
        """Single objects only; of claims and volumes not even a watch."""
        verbs = READ if access.plural in {"secrets", "configmaps"} else {"get"}
        return access.verb in verbs and bool(access.name) and self._refers(node, access)

    def _claim_status(self, node: str, access: Access) -> bool:
        return access.verb in CHANGE | {"get"} and self._refers(node, access)

    def _token(self, node: str, access: Access) -> bool:
        return access.verb == "create" and self._refers(node, access)

    def _account(self, node: str, access: Access) -> bool:
        return access.verb == "get" and self._refers(node, access)

    def _pod(self, node: str, access: Access) -> bool:
        """A node's pods, one or all of them (KEP-4601)."""
        if access.verb == "get":
            return self._graph.runs(node, access.namespace, access.name)
        chosen = access.selected("spec.nodeName") == node
        single = bool(access.name) and self._graph.runs(node, access.namespace, access.name)
        return access.verb in {"list", "watch", "deletecollection"} and (chosen or single)

    def _attachment(self, node: str, access: Access) -> bool:
        entry = self._caches.of(VOLUME_ATTACHMENTS).get("", access.name) if access.verb == "get" else None
        return entry is not None and msgspec.json.decode(entry.raw)["spec"].get("nodeName") == node


def _own_node(node: str, access: Access) -> bool:
    return access.verb in READ and node in {access.name, access.selected("metadata.name")}


def _own_lease(node: str, access: Access) -> bool:
    """The name of what is created is in its body, where admission sees it."""
    named = access.name == node or (access.verb == "create" and not access.name)
    return access.namespace == LEASE_NAMESPACE and access.verb in OWN and named


def _own_csi_node(node: str, access: Access) -> bool:
    return access.verb in OWN and (access.name == node or (access.verb == "create" and not access.name))
