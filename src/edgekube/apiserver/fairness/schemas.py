"""Flow schemas: which requests belong together and to which priority level (flowcontrol.apiserver.k8s.io/v1). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from edgekube.apiserver.authz import Access
from edgekube.apiserver.fairness.queues import Shape
from edgekube.apiserver.identity import SERVICE_ACCOUNT_PREFIX, User
from edgekube.apiserver.request import Tree

ALL = "*"


@dataclass(frozen=True, slots=True)
class Schema:
    """A flow schema as far as it decides."""

    name: str
    uid: str
    level: str
    precedence: int
    by: str
    rules: Sequence[Tree]

    def matches(self, user: User, access: Access) -> bool:
        """Whether one of the rules is about this user and this request."""
        return any(
            any(_subject(subject, user) for subject in rule.get("subjects") or ()) and _request(rule, access)
            for rule in self.rules
        )

    def flow(self, user: User, access: Access) -> str:
        """Return what tells the flows within the schema apart."""
        return {"ByUser": user.name, "ByNamespace": access.namespace}.get(self.by, "")


@dataclass(frozen=True, slots=True)
class Priority:
    """A priority level; `shape` None: its requests are never held up."""

    name: str
    uid: str
    shape: Shape | None


def schema_of(tree: Tree) -> Schema:
    """Read a FlowSchema."""
    spec, meta = tree["spec"], tree["metadata"]
    return Schema(
        meta["name"], meta.get("uid", ""), spec["priorityLevelConfiguration"]["name"],
        spec.get("matchingPrecedence", 1000), (spec.get("distinguisherMethod") or {}).get("type", ""),
        spec.get("rules") or (),
    )  # fmt: skip


def priorities_of(trees: Sequence[Tree], seats: int) -> list[Priority]:
    """Read PriorityLevelConfigurations, and divide `seats` among them by their shares."""
    limited = {tree["metadata"]["name"]: tree["spec"].get("limited") or {} for tree in trees}
    shares = {name: spec.get("nominalConcurrencyShares", 30) for name, spec in limited.items()}
    whole = sum(shares[tree["metadata"]["name"]] for tree in trees if tree["spec"]["type"] == "Limited") or 1
    found = []
    for tree in trees:
        meta, name = tree["metadata"], tree["metadata"]["name"]
        shape = None
        if tree["spec"]["type"] == "Limited":
            shape = _shape(limited[name], ceil(seats * shares[name] / whole))
        found.append(Priority(name, meta.get("uid", ""), shape))
    return found


def _shape(limited: Tree, seats: int) -> Shape:
    response = limited.get("limitResponse") or {}
    if response.get("type") != "Queue":
        return Shape(seats)
    queuing = response.get("queuing") or {}
    return Shape(
        seats, queuing.get("queues", 64), queuing.get("handSize", 8), queuing.get("queueLengthLimit", 50)
    )


def _subject(subject: Tree, user: User) -> bool:
    match subject.get("kind"):
        case "User":
            return subject["user"]["name"] in {ALL, user.name}
        case "Group":
            return subject["group"]["name"] == ALL or subject["group"]["name"] in user.groups
        case "ServiceAccount":
            account = subject["serviceAccount"]
            prefix = f"{SERVICE_ACCOUNT_PREFIX}{account['namespace']}:"
            return user.name.startswith(prefix) and account["name"] in {ALL, user.name.removeprefix(prefix)}
    return False


def _request(rule: Tree, access: Access) -> bool:
    if not access.plural:
        return any(
            _has(each["verbs"], access.verb)
            and any(_path(url, access.path) for url in each["nonResourceURLs"])
            for each in rule.get("nonResourceRules") or ()
        )
    resource = f"{access.plural}/{access.subresource}" if access.subresource else access.plural
    return any(
        _has(each["verbs"], access.verb)
        and _has(each["apiGroups"], access.group)
        and _has(each["resources"], resource)
        and (
            _has(each.get("namespaces") or (), access.namespace)
            if access.namespace
            else each.get("clusterScope")
        )
        for each in rule.get("resourceRules") or ()
    )


def _has(values: Sequence[str], wanted: str) -> bool:
    return ALL in values or wanted in values


def _path(url: str, path: str) -> bool:
    return url in {ALL, path} or (url.endswith(ALL) and path.startswith(url.removesuffix(ALL)))
