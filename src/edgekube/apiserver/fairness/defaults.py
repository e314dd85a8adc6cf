"""The flow schemas and priority levels of a new cluster (apis/flowcontrol/bootstrap in Kubernetes)."""

from collections.abc import Iterator, Sequence

from edgekube.apiserver.request import Tree

API = "flowcontrol.apiserver.k8s.io/v1"
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"

_LEVELS: dict[str, tuple[int, int, tuple[int, int, int] | None]] = {
    "system": (30, 33, (64, 6, 50)),
    "node-high": (40, 25, (64, 6, 50)),
    "leader-election": (10, 0, (16, 4, 50)),
    "workload-high": (40, 50, (128, 6, 50)),
    "workload-low": (100, 90, (128, 6, 50)),
    "global-default": (20, 50, (128, 6, 50)),
    "catch-all": (5, 0, None),
}
"""Shares, percent lendable, and queues, hand size and queue length; None: no queues."""
_ANYBODY = ("Group system:unauthenticated", "Group system:authenticated")
_MANAGER, _SCHEDULER = "User system:kube-controller-manager", "User system:kube-scheduler"
_LEASES = ("get,create,update", "coordination.k8s.io", "leases")
_SCHEMAS: Sequence[tuple[str, str, int, str, tuple[str, ...], Sequence[tuple[str, str, str]] | str]] = (
    ("exempt", "exempt", 1, "", ("Group system:masters",), ()),
    ("probes", "exempt", 2, "", _ANYBODY, "/healthz,/readyz,/livez"),
    ("system-leader-election", "leader-election", 100, "ByUser", (_MANAGER, _SCHEDULER, "ServiceAccount kube-system:*"), (_LEASES,)),
    ("endpoint-controller", "workload-high", 150, "ByUser",
     (_MANAGER, "ServiceAccount kube-system:endpoint-controller", "ServiceAccount kube-system:endpointslicemirroring-controller"),
     (("get,create,update", "", "endpoints"),)),
    ("workload-leader-election", "leader-election", 200, "ByUser", ("Group system:serviceaccounts",), (_LEASES,)),
    ("system-node-high", "node-high", 400, "ByUser", ("Group system:nodes",),
     (("*", "", "nodes,nodes/status"), ("*", "coordination.k8s.io", "leases"))),
    ("system-nodes", "system", 500, "ByUser", ("Group system:nodes",), ()),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace", (_MANAGER,), ()),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", (_SCHEDULER,), ()),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", ("ServiceAccount kube-system:*",), ()),
    ("service-accounts", "workload-low", 9000, "ByUser", ("Group system:serviceaccounts",), ()),
    ("global-default", "global-default", 9900, "ByUser", _ANYBODY, ()),
    ("catch-all", "catch-all", 10000, "ByUser", _ANYBODY, ()),
)  # fmt: skip
"""Name, level, precedence, how flows are told apart, subjects, and resource rules or paths; (): everything."""


def levels() -> Iterator[Tree]:
    """Yield the PriorityLevelConfigurations."""
    exempt = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    yield _object("PriorityLevelConfiguration", "exempt", exempt)
    for name, (shares, lendable, queuing) in _LEVELS.items():
        response: Tree = {"type": "Reject"}
        if queuing is not None:
            sizes = zip(("queues", "handSize", "queueLengthLimit"), queuing, strict=True)
            response = {"type": "Queue", "queuing": dict(sizes)}
        limited = {
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": response,
        }
        yield _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def schemas() -> Iterator[Tree]:
    """Yield the FlowSchemas."""
    for name, level, precedence, by, subjects, what in _SCHEMAS:
        rule: Tree = {"subjects": [_subject(subject) for subject in subjects]}
        if not isinstance(what, str):
            rule["resourceRules"] = [_resources(*each) for each in what or (("*", "*", "*"),)]
        if not what or isinstance(what, str):
            urls = what.split(",") if isinstance(what, str) else ["*"]
            rule["nonResourceRules"] = [{"verbs": ["get"] if what else ["*"], "nonResourceURLs": urls}]
        spec: Tree = {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": level},
            "rules": [rule],
        }
        if by:
            spec["distinguisherMethod"] = {"type": by}
        yield _object("FlowSchema", name, spec)


def _object(kind: str, name: str, spec: Tree) -> Tree:
    meta = {"name": name, "annotations": {AUTO_UPDATE: "true"}}
    return {"apiVersion": API, "kind": kind, "metadata": meta, "spec": spec}


def _subject(text: str) -> Tree:
    kind, _, name = text.partition(" ")
    if kind == "ServiceAccount":
        namespace, _, account = name.partition(":")
        return {"kind": kind, "serviceAccount": {"namespace": namespace, "name": account}}
    return {"kind": kind, kind.lower(): {"name": name}}


def _resources(verbs: str, group: str, resources: str) -> Tree:
    return {
        "verbs": verbs.split(","), "apiGroups": [group], "resources": resources.split(","),
        "clusterScope": True, "namespaces": ["*"],
    }  # fmt: skip
