"""
`pods/<name>/eviction` (policy/v1): delete a pod only if its PodDisruptionBudget has something left.

Source: pkg/registry/core/pod/storage/eviction.go. The budget is spent by an optimistic update of its
status, so two evictions never share one disruption; its controller fills it up again.
"""

from dataclasses import replace
from datetime import datetime

import msgspec

from edgekube.api.errors import BadRequest, Cause, Conflict, Forbidden, InternalError, TooManyRequests
from edgekube.api.validation.label_selector import matches
from edgekube.apiserver.exchange import Exchange, checked, success
from edgekube.apiserver.registry import problems
from edgekube.apiserver.registry.deletion import DeleteOptions, options_from
from edgekube.apiserver.registry.meta import timestamp
from edgekube.apiserver.registry.parts import STATUS
from edgekube.apiserver.registry.registry import Action
from edgekube.apiserver.request import Response, Tree
from edgekube.apiserver.route import Target

POLICY, BUDGET = "policy/v1", "PodDisruptionBudget"
MOST_DISRUPTED = 2000
"""Evictions that a budget's controller has not seen yet."""
RETRY_SECONDS = 10
TRIES = 5
CAUSE = "DisruptionBudget"
NO = "Cannot evict pod as it would violate the pod's disruption budget."
TWO = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
GUARDED_PHASES = ("Running", "Unknown", "")
TARGETED = {
    "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}  # fmt: skip


async def evict(exchange: Exchange) -> Response:
    """Delete a pod on behalf of a drain; raises TooManyRequests when its budget does not allow it now."""
    target, action = exchange.target, exchange.action()
    eviction = checked(exchange, exchange.tree(), POLICY, "Eviction")
    if (eviction.get("metadata") or {}).get("name", target.name) != target.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    eviction = await exchange.review(eviction, (POLICY, "Eviction"))
    action.reviewed = True
    options = options_from(eviction.get("deleteOptions") or {}, exchange.query)
    action.dry_run = action.dry_run or options.dry_run
    for attempt in range(TRIES):
        stored = await exchange.parts.registry.stored(target)
        pod = stored.tree()
        _check_uid(target, options, pod)
        spent = await _permitted(exchange, action, pod)
        asked = options
        if not spent and not options.resource_version:
            # Nothing was spent because of how the pod is now; if it changes meanwhile that is void.
            asked = replace(options, resource_version=str(stored.revision))
        try:
            await _remove(exchange, action, asked)
        except Conflict:
            if spent or options.resource_version or attempt == TRIES - 1:
                raise
            continue
        break
    return success(exchange, code=201)


def guarded(pod: Tree) -> bool:
    """Whether a budget is asked at all: not for a pod that has ended, has not begun or is going."""
    phase = (pod.get("status") or {}).get("phase", "")
    return phase in GUARDED_PHASES and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Tree) -> bool:
    """Whether a pod is healthy, as budgets count."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def expendable(budget: Tree, pod: Tree) -> bool:
    """Whether the pod is not ready and may go for that reason (KEP-3017)."""
    if is_ready(pod):
        return False
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    state = budget.get("status") or {}
    desired = state.get("desiredHealthy", 0)
    return bool(desired > 0 and state.get("currentHealthy", 0) >= desired)


def spend(budget: Tree, pod_name: str, now: datetime) -> None:
    """Take one disruption from a budget's status; raises TooManyRequests or Forbidden."""
    fields, state = budget["metadata"], budget.setdefault("status", {})
    name = fields["name"]
    if state.get("observedGeneration", 0) < fields.get("generation", 0):
        waiting = f"The disruption budget {name} is still being processed by the server."
        raise _too_many(waiting, retry_after=RETRY_SECONDS)
    allowed = state.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(state.get("disruptedPods") or ()) > MOST_DISRUPTED:
        raise _forbidden(
            name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        )
    if allowed == 0:
        raise _too_many(_why_none(name, state))
    state["disruptionsAllowed"] = allowed - 1
    state["disruptedPods"] = {**(state.get("disruptedPods") or {}), pod_name: timestamp(now)}
    if allowed == 1:
        _exhausted(budget, now)


async def _permitted(exchange: Exchange, action: Action, pod: Tree) -> bool:
    """Return whether a disruption was spent on the pod; False: it needs none."""
    if not guarded(pod):
        return False
    registry, row = exchange.parts.registry, exchange.parts.scheme.by_kind(POLICY, BUDGET)
    if row is None:
        return False
    labels = pod["metadata"].get("labels") or {}
    found = [
        budget for budget in await registry.storage.within(row, exchange.target.namespace)
        if (selector := budget["spec"].get("selector")) is not None and matches(selector, labels)
    ]  # fmt: skip
    if len(found) > 1:
        raise InternalError(TWO)
    if not found or expendable(found[0], pod):
        return False

    def wish(budget: Tree) -> Tree:
        spend(budget, pod["metadata"]["name"], registry.now())
        return budget

    name = found[0]["metadata"]["name"]
    mine = Action(
        target=Target(row, exchange.target.namespace, name), user=action.user, dry_run=action.dry_run
    )
    await registry.change(mine, wish, part=STATUS)
    return True


async def _remove(exchange: Exchange, action: Action, options: DeleteOptions) -> None:
    """Say on the pod why it goes, then delete it."""
    registry, target = exchange.parts.registry, exchange.target

    def condemned(pod: Tree) -> Tree:
        version = pod["metadata"]["resourceVersion"]
        _check_uid(target, options, pod)
        if options.resource_version and options.resource_version != version:
            raise problems.conflict(target.row, target.name)
        if guarded(pod):
            _condition(pod, TARGETED, registry.now())
        return pod

    outcome = await registry.change(action, condemned, part=STATUS)
    if options.resource_version and not action.dry_run:
        version = msgspec.json.decode(outcome.body)["metadata"]["resourceVersion"]
        options = replace(options, resource_version=version)
    await registry.delete(action, options)


def _check_uid(target: Target, options: DeleteOptions, pod: Tree) -> None:
    uid = pod["metadata"]["uid"]
    if options.uid and options.uid != uid:
        raise problems.precondition(target.row, target.name, options.uid, uid)


def _condition(obj: Tree, condition: Tree, now: datetime) -> None:
    """Set a condition; it changes its time only when its status changes."""
    state = obj.setdefault("status", {})
    others, before = [], None
    for one in state.get("conditions") or ():
        if one.get("type") == condition["type"]:
            before = one
        else:
            others.append(one)
    same = before is not None and before.get("status") == condition["status"]
    since = (
        before["lastTransitionTime"] if same and before and "lastTransitionTime" in before else timestamp(now)
    )
    state["conditions"] = [*others, {**condition, "lastTransitionTime": since}]


def _exhausted(budget: Tree, now: datetime) -> None:
    _condition(
        budget,
        {
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": budget["status"].get("observedGeneration", 0),
        },
        now,
    )  # fmt: skip


def _why_none(name: str, state: Tree) -> str:
    for condition in state.get("conditions") or ():
        if condition.get("type") == "DisruptionAllowed" and condition.get("reason") == "SyncFailed":
            message = condition.get("message", "")
            return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
    needs, has = state.get("desiredHealthy", 0), state.get("currentHealthy", 0)
    return f"The disruption budget {name} needs {needs} healthy pods and has {has} currently"


def _too_many(why: str, *, retry_after: int = 0) -> TooManyRequests:
    return TooManyRequests(NO, causes=[Cause(CAUSE, why)], retry_after=retry_after)


def _forbidden(name: str, why: str) -> Forbidden:
    return Forbidden(
        f'poddisruptionbudgets.policy "{name}" is forbidden: {why}',
        group="policy", kind="poddisruptionbudgets", name=name,
    )  # fmt: skip
