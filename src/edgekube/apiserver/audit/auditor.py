"""Makes audit.k8s.io/v1 Events of requests and their answers."""

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from edgekube.apiserver.audit.policy import Policy, Rule
from edgekube.apiserver.audit.sink import Sink
from edgekube.apiserver.authz import Access
from edgekube.apiserver.request import Request, Response

Tree = dict[str, Any]
BODIES = {"Request": ("request",), "RequestResponse": ("request", "response")}


class Record:
    """One request under audit, stage by stage."""

    def __init__(self, sink: Sink, rule: Rule, request: Request, access: Access) -> None:
        self._sink, self._rule, self._request = sink, rule, request
        self._event = _first(rule, request, access)
        self.stage("RequestReceived")

    def stage(self, name: str, response: Response | None = None) -> None:
        """Note that the request has come to a stage."""
        if name in self._rule.omitted:
            return
        event = {**self._event, "stage": name, "stageTimestamp": _now()}
        if response is not None:
            event.update(_answer(self._rule, self._request, response))
        if self._request.notes:
            event["annotations"] = self._request.notes
        self._sink.put(msgspec.json.encode(event))


class Auditor:
    """Decides by policy, and begins records."""

    def __init__(self, policy: Policy, sink: Sink) -> None:
        self._policy, self.sink = policy, sink

    def begin(self, request: Request, access: Access) -> Record | None:
        """Return the record of a request; None: it is not noted."""
        rule = self._policy.of(request.user, access)
        return None if rule.level == "None" else Record(self.sink, rule, request, access)


def _first(rule: Rule, request: Request, access: Access) -> Tree:
    query = "&".join(f"{name}={value}" for name, value in request.query.items())
    event: Tree = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": rule.level,
        "auditID": request.headers.get("audit-id") or str(uuid.uuid4()),
        "requestURI": f"{request.path}?{query}" if query else request.path,
        "verb": access.verb,
        "user": request.user.tree(),
        "userAgent": request.headers.get("user-agent", ""),
        "requestReceivedTimestamp": _now(),
    }
    if access.plural:
        version = request.path.split("/")[3 if access.group else 2]
        reference = {
            "resource": access.plural, "namespace": access.namespace, "name": access.name,
            "apiGroup": access.group, "apiVersion": version, "subresource": access.subresource,
        }  # fmt: skip
        event["objectRef"] = {name: value for name, value in reference.items() if value}
    return event


def _answer(rule: Rule, request: Request, response: Response) -> Tree:
    found: Tree = {"responseStatus": {"metadata": {}, "code": response.code}}
    if response.code >= 400 and (tree := _tree(response.body)):
        found["responseStatus"] |= {
            name: tree[name] for name in ("status", "message", "reason") if name in tree
        }
    bodies = {"request": request.body, "response": response.body if response.events is None else b""}
    for name in BODIES.get(rule.level, ()):
        if tree := _tree(bodies[name]):
            if rule.bare:
                _strip(tree)
            found[f"{name}Object"] = tree
    return found


def _tree(body: bytes) -> Tree:
    """Return a JSON object; {} for anything else."""
    try:
        tree = msgspec.json.decode(body) if body else None
    except msgspec.DecodeError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _strip(tree: Tree) -> None:
    for each in (tree, *(tree.get("items") or ())):
        if isinstance(each, dict) and isinstance(each.get("metadata"), dict):
            each["metadata"].pop("managedFields", None)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
