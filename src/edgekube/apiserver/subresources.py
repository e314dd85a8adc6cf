"""The subresources, as a table: (group resource, subresource) → verb → function."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from edgekube.api.errors import BadRequest, Cause, Conflict, NotFound
from edgekube.apiserver import eviction, scale, verbs
from edgekube.apiserver.authn.accounts import BOUND
from edgekube.apiserver.exchange import Exchange, Serve, checked, success
from edgekube.apiserver.node.restriction import check_token
from edgekube.apiserver.registry import problems
from edgekube.apiserver.registry.meta import timestamp, utcnow
from edgekube.apiserver.registry.parts import (
    APPROVAL,
    BINDING,
    CSR_STATUS,
    EPHEMERAL_CONTAINERS,
    FINALIZE,
    RESIZE,
    STATUS,
)
from edgekube.apiserver.request import Response, Tree
from edgekube.apiserver.route import Target

MIN_TOKEN_SECONDS, DEFAULT_TOKEN_SECONDS, MAX_TOKEN_SECONDS = 600, 3600, 1 << 32


# --- pods


async def bind(exchange: Exchange) -> Response:
    """Assign a pod to a node (`pods/<name>/binding`, and `bindings` with the pod's name inside)."""
    binding = checked(exchange, exchange.tree(), "v1", "Binding")
    return await bind_to(exchange, exchange.target, binding)


async def bind_to(exchange: Exchange, target: Target, binding: Tree) -> Response:
    """Set spec.nodeName and the PodScheduled condition."""
    binding = await exchange.review(binding, ("v1", "Binding"), target=replace(target, subresource="binding"))
    node = (binding.get("target") or {}).get("name", "")
    if not node:
        raise BadRequest("binding: target.name is required")
    meta = binding.get("metadata") or {}

    def bound(pod: Tree) -> Tree:
        name, spec = target.name, pod["spec"]
        if meta.get("uid"):
            pod_uid = pod["metadata"]["uid"]
            if meta["uid"] != pod_uid:
                raise problems.precondition(target.row, name, meta["uid"], pod_uid)
        if "deletionTimestamp" in pod["metadata"]:
            raise _unbindable(target, f"pod {name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise _unbindable(target, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise _unbindable(target, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        for field in ("annotations", "labels"):
            if meta.get(field):
                pod["metadata"].setdefault(field, {}).update(meta[field])
        status = pod.setdefault("status", {})
        others = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"]
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(utcnow())}
        status["conditions"] = [*others, condition]
        return pod

    action = exchange.action()
    action.target, action.reviewed = target, True
    await exchange.parts.registry.change(action, bound, part=BINDING)
    return success(exchange, code=201)


def _unbindable(target: Target, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on pods/binding "{target.name}": {why}',
        kind="pods/binding", name=target.name,
    )  # fmt: skip


# --- service accounts


async def request_token(exchange: Exchange) -> Response:
    """Make a token for an account (authentication.k8s.io/v1 TokenRequest)."""
    parts, target = exchange.parts, exchange.target
    if parts.tokens is None:
        raise NotFound("the server issues no ServiceAccount tokens")
    wanted = checked(exchange, exchange.tree(), "authentication.k8s.io/v1", "TokenRequest")
    wanted = await exchange.review(wanted, ("authentication.k8s.io/v1", "TokenRequest"))
    spec = wanted.get("spec") or {}
    bound = spec.get("boundObjectRef") or {}
    await check_token(parts.registry.storage, exchange.request.user, target.namespace, bound)
    account = (await parts.registry.stored(target)).tree()["metadata"]
    seconds = _lifetime(spec.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)
    audiences = spec.get("audiences") or list(parts.tokens.config.audiences)
    token = parts.tokens.issue(
        target.namespace,
        {"name": account["name"], "uid": account["uid"]},
        seconds=seconds,
        audiences=audiences,
        bound=await _bound(exchange, bound),
    )
    expires = timestamp(parts.tokens.expiry(seconds))
    wanted["metadata"] = {
        "name": target.name,
        "namespace": target.namespace,
        "creationTimestamp": timestamp(utcnow()),
    }
    wanted["spec"] = {**spec, "audiences": audiences, "expirationSeconds": seconds}
    wanted["status"] = {"token": token, "expirationTimestamp": expires}
    return Response(code=201, body=msgspec.json.encode(wanted))


def _lifetime(seconds: int) -> int:
    """Return a token's life; raises Invalid for too short or too long ones."""
    rules = {
        "may not specify a duration less than 10 minutes": seconds < MIN_TOKEN_SECONDS,
        "may not specify a duration larger than 2^32 seconds": seconds > MAX_TOKEN_SECONDS,
    }
    causes = [
        Cause("FieldValueInvalid", f"Invalid value: {seconds}: {why}", "spec.expirationSeconds")
        for why, broken in rules.items()
        if broken
    ]
    if causes:
        raise problems.invalid("TokenRequest", "authentication.k8s.io", "", causes)
    return seconds


async def _bound(exchange: Exchange, reference: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the claim for a bound object; raises NotFound or Conflict."""
    if not reference:
        return {}
    kind, name = reference.get("kind", ""), reference.get("name", "")
    row = exchange.parts.scheme.by_kind(reference.get("apiVersion", "v1"), kind)
    claim = kind.lower()
    if row is None or row is not BOUND.get(claim):
        raise BadRequest(f"cannot bind token for serviceaccount to object type {kind}")
    namespace = exchange.target.namespace if row.namespaced else ""
    found = (await exchange.parts.registry.stored(Target(row, namespace, name))).tree()
    uid = found["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        raise problems.conflict(
            row, name, f"the UID in the bound object reference ({reference['uid']}) does not match"
        )
    if claim != "pod":
        return {claim: {"name": name, "uid": uid}}
    if (account := found["spec"].get("serviceAccountName")) != exchange.target.name:
        raise BadRequest(
            f"cannot bind token for serviceaccount {exchange.target.name!r} to pod running with different "
            f"serviceaccount name {account!r}"
        )
    return {"pod": {"name": name, "uid": uid}}


STATUS_VERBS = verbs.of_part(STATUS)

SUBRESOURCES: Mapping[tuple[str, str], Mapping[str, Serve]] = {
    ("*", "status"): STATUS_VERBS,
    ("*", "scale"): scale.VERBS,
    ("certificatesigningrequests.certificates.k8s.io", "status"): verbs.of_part(CSR_STATUS),
    ("certificatesigningrequests.certificates.k8s.io", "approval"): verbs.of_part(APPROVAL),
    ("pods", "binding"): {"create": bind},
    ("pods", "eviction"): {"create": eviction.evict},
    ("pods", "ephemeralcontainers"): verbs.of_part(EPHEMERAL_CONTAINERS),
    ("pods", "resize"): verbs.of_part(RESIZE),
    ("namespaces", "finalize"): {"update": verbs.of_part(FINALIZE)["update"]},
    ("serviceaccounts", "token"): {"create": request_token},
}


def subresource_of(target: Target) -> Mapping[str, Serve] | None:
    """Return what serves a target's subresource; None if nothing does."""
    if target.subresource not in target.row.subresources:
        return None
    return SUBRESOURCES.get((target.row.group_resource, target.subresource)) or SUBRESOURCES.get(
        ("*", target.subresource)
    )
