"""Calling webhooks during admission (KEP-2876 for match conditions, admission.k8s.io/v1 for the review)."""

import asyncio
import base64
import binascii
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgekube.api import patch
from edgekube.api.cel import Budget, CelError
from edgekube.api.errors import BY_REASON, BadRequest, Forbidden, InternalError, StatusError, from_tree
from edgekube.api.kinds.admissionregistration_v1 import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from edgekube.api.kinds.core_v1 import NAMESPACES
from edgekube.api.resource import AnyResource, Key
from edgekube.api.schema import Normalised
from edgekube.api.scheme import Scheme
from edgekube.apiserver.admission.base import Attributes
from edgekube.apiserver.admission.matching import exempt, rules_match
from edgekube.apiserver.admission.reinvocation import Round
from edgekube.apiserver.admission.webhook.hooks import Hook, Hooks
from edgekube.apiserver.caches import Caches
from edgekube.apiserver.registry.problems import wrong_namespace
from edgekube.apiserver.registry.storage import Storage
from edgekube.apiserver.request import Tree
from edgekube.apiserver.webhook_client import WebhookClient, WebhookError

log = logging.getLogger(__name__)

VERBS = frozenset({"create", "update", "delete", "connect"})
REASONS = {400: "BadRequest", 404: "NotFound", 409: "Conflict", 422: "Invalid", 500: "InternalError"}
"""What a refusal that gives nothing but a code is called."""
OURS_ALWAYS = ("resourceVersion", "generation", "selfLink")
OURS = (*OURS_ALWAYS, "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
"""Metadata that only the server sets; changing the rest of it on an update is refused by validation."""
Renew = Callable[[AnyResource, Tree], Normalised]
"""Cleans and defaults an object that a webhook changed."""


class _Webhooks:
    """What both kinds of webhooks share: who is asked, and how."""

    verbs, resources, everywhere = VERBS, frozenset[str](), True
    row: AnyResource

    def __init__(self, scheme: Scheme, caches: Caches, storage: Storage, client: WebhookClient) -> None:
        self._scheme, self._storage, self._client = scheme, storage, client
        self._hooks = Hooks(self.row, caches, storage)

    async def _asked(self, attributes: Attributes) -> Sequence[Hook]:
        if attributes.settling or attributes.reviewed:
            return ()
        hooks = await self._hooks.all()
        if not hooks or exempt(attributes):
            return ()
        versions = self._versions(attributes.target.row)
        own = frozenset({attributes.target.row.version})
        found = [
            hook
            for hook in hooks
            if rules_match(hook.tree.get("rules") or (), attributes, own if hook.exact else versions)
        ]
        if not found:
            return ()
        labels = await self._namespace_labels(attributes)
        return [
            h for h in found if h.selectors.choose(attributes, labels) and self._conditions(h, attributes)
        ]

    def _versions(self, row: AnyResource) -> frozenset[str]:
        return frozenset(r.version for r in self._scheme if (r.group, r.plural) == (row.group, row.plural))

    async def _namespace_labels(self, attributes: Attributes) -> Mapping[str, str] | None:
        row = attributes.target.row
        if row.group_resource == "namespaces":
            labels: Mapping[str, str] = (attributes.obj.get("metadata") or {}).get("labels") or {}
            return labels
        if not row.namespaced:
            return None
        namespace = await self._storage.look(NAMESPACES, Key("", attributes.target.namespace))
        return (namespace or {}).get("metadata", {}).get("labels") or {}

    def _conditions(self, hook: Hook, attributes: Attributes) -> bool:
        """Tell whether all match conditions hold; one that fails counts as the failure policy says."""
        if not hook.conditions:
            return True
        variables, budget = variables_of(attributes), Budget()
        failed = None
        for name, program in hook.conditions:
            try:
                if not program.holds(variables, budget=budget):
                    return False
            except CelError as error:
                failed = f"match condition {name!r}: {error}"
        if failed and hook.fails_open:
            return False
        if failed:
            raise attributes.forbid(f"{failed}")
        return True

    async def _call(self, hook: Hook, attributes: Attributes) -> Tree:
        """Return the response to a review; raises StatusError for a refusal, WebhookError for a failure."""
        if attributes.dry_run and not hook.harmless:
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        request = review(attributes)
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
        answer = await self._client.post(hook.tree.get("clientConfig") or {}, body, seconds=hook.seconds)
        response = answer.get("response")
        if not isinstance(response, dict) or response.get("uid") != request["uid"]:
            raise WebhookError("expected response with the uid of the request")
        warnings, status = response.get("warnings") or [], response.get("status") or {}
        if not isinstance(warnings, list) or not isinstance(status, dict):
            raise WebhookError("the answer is no AdmissionReview")
        attributes.warnings += [str(text) for text in warnings]
        annotations = response.get("auditAnnotations")
        if isinstance(annotations, dict):
            attributes.notes |= {f"{hook.name}/{key}": str(value) for key, value in annotations.items()}
        if response.get("allowed") is not True:
            raise _refusal(hook, response)
        return response

    def _failed(self, hook: Hook, error: WebhookError) -> None:
        """Raise for a hook that could not be asked, unless it is to be passed over."""
        text = f'failed calling webhook "{hook.name}": failed to call webhook: {error}'
        if not hook.fails_open:
            raise InternalError(f"Internal error occurred: {text}") from error
        log.warning("%s; passed over", text)


SORT = "webhooks"


class MutatingWebhooks(_Webhooks):
    """Asks one webhook after the other, each for what those before it made of the object."""

    row = MUTATING_WEBHOOKS

    def __init__(
        self, scheme: Scheme, caches: Caches, storage: Storage, client: WebhookClient, *, renew: Renew
    ) -> None:
        super().__init__(scheme, caches, storage, client)
        self._renew = renew

    async def admit(self, attributes: Attributes) -> None:
        """Call, patch, in order."""
        hooks = await self._asked(attributes)
        if not hooks:
            return
        done = attributes.rounds[SORT] = Round()
        for hook in hooks:
            done.note(hook.key, changed=await self._apply(hook, attributes), again=hook.again)
        done.ended(attributes.obj)

    async def readmit(self, attributes: Attributes) -> None:
        """Call those again that want to know what others changed after them."""
        done = attributes.rounds.get(SORT)
        due = done.needed(attributes.obj) if done is not None else ()
        if due:
            for hook in await self._asked(attributes):
                if hook.key in due:
                    await self._apply(hook, attributes)

    async def _apply(self, hook: Hook, attributes: Attributes) -> bool:
        """Call one; return whether it changed the object."""
        try:
            response = await self._call(hook, attributes)
            changes = _patch_of(response)
        except WebhookError as error:
            self._failed(hook, error)
            return False
        if not changes or attributes.verb == "delete":
            return False
        try:
            tree = patch.json_patch(msgspec.json.decode(msgspec.json.encode(attributes.obj)), changes)
            if not isinstance(tree, dict):
                raise BadRequest("the patch leaves no object")
        except StatusError as error:
            raise _broken(hook.name, error) from error
        return take_over(attributes, tree, self._renew, who=hook.name)


def _broken(who: str, error: StatusError) -> InternalError:
    return InternalError(f'Internal error occurred: admission webhook "{who}": {error}')


def take_over(attributes: Attributes, tree: Tree, renew: Renew, *, who: str) -> bool:
    """
    Make `tree` the object; return whether it is another one.

    Raises InternalError, naming `who` made it, for what is no such object, and BadRequest for another namespace.
    """
    if attributes.kind is not None:
        return _replace(attributes, tree)
    try:
        if not isinstance(tree.get("metadata"), dict):
            raise BadRequest("the patch leaves no object")
        renewed = renew(attributes.target.row, tree)
    except StatusError as error:
        raise _broken(who, error) from error
    _restore(attributes, renewed.tree)
    if renewed.tree == attributes.obj:
        return False
    attributes.obj.clear()
    attributes.obj.update(renewed.tree)
    attributes.missing, attributes.changed = renewed.missing, True
    return True


def _replace(attributes: Attributes, tree: Tree) -> bool:
    """Take over what a webhook made of something that is not stored as it is."""
    tree |= {field: attributes.obj[field] for field in ("kind", "apiVersion") if field in attributes.obj}
    changed = tree != attributes.obj
    attributes.obj.clear()
    attributes.obj.update(tree)
    attributes.changed = attributes.changed or changed
    return changed


class ValidatingWebhooks(_Webhooks):
    """Asks all at once; the first refusal counts."""

    row = VALIDATING_WEBHOOKS

    async def validate(self, attributes: Attributes) -> None:
        """Call everyone who wants to see this write."""
        hooks = await self._asked(attributes)
        if hooks:
            results = await asyncio.gather(*(self._check(hook, attributes) for hook in hooks))
            for refusal in filter(None, results):
                raise refusal

    async def _check(self, hook: Hook, attributes: Attributes) -> StatusError | None:
        try:
            await self._call(hook, attributes)
        except WebhookError as error:
            try:
                self._failed(hook, error)
            except StatusError as failure:
                return failure
        except StatusError as refusal:
            return refusal
        return None


def review(attributes: Attributes) -> Tree:
    """Return the `request` of an AdmissionReview."""
    row, target = attributes.target.row, attributes.target
    kind = {"group": row.group, "version": row.version, "kind": row.kind}
    if attributes.kind is not None:
        group, _, version = attributes.kind[0].rpartition("/")
        kind = {"group": group, "version": version, "kind": attributes.kind[1]}
    resource = {"group": row.group, "version": row.version, "resource": row.plural}
    gone = attributes.verb == "delete"
    request: Tree = {
        "uid": str(uuid.uuid4()), "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "name": attributes.name, "operation": attributes.operation,
        "userInfo": attributes.user.tree(), "object": None if gone else attributes.obj,
        "oldObject": attributes.obj if gone else attributes.old, "dryRun": attributes.dry_run,
    }  # fmt: skip
    if attributes.verb != "connect":
        request["options"] = {"kind": f"{attributes.verb.title()}Options", "apiVersion": "meta.k8s.io/v1"}
    if target.namespace:
        request["namespace"] = target.namespace
    elif row.group_resource == "namespaces":
        request["namespace"] = request["name"]
    if attributes.subresource:
        request["subResource"] = request["requestSubResource"] = attributes.subresource
    return request


def variables_of(attributes: Attributes) -> Mapping[str, object]:
    """Return what expressions may speak of."""
    request = review(attributes)
    told = {name: value for name, value in request.items() if name not in {"object", "oldObject"}}
    return {"object": request["object"], "oldObject": request["oldObject"], "request": told}


def _restore(attributes: Attributes, tree: Tree) -> None:
    """Undo what is not for webhooks to change: what the server sets itself; raises BadRequest for the namespace."""
    fields, before = tree["metadata"], attributes.obj["metadata"]
    if fields.get("namespace", "") != before.get("namespace", ""):
        raise wrong_namespace()
    for field in OURS if attributes.verb == "create" else OURS_ALWAYS:
        if field in before:
            fields[field] = before[field]
        else:
            fields.pop(field, None)
    for field in ("kind", "apiVersion"):
        tree[field] = attributes.obj[field]
    if not attributes.subresource and "status" in attributes.target.row.subresources:
        if "status" in attributes.obj:
            tree["status"] = attributes.obj["status"]
        else:
            tree.pop("status", None)


def _patch_of(response: Tree) -> object:
    encoded = response.get("patch")
    if not encoded:
        return None
    if not isinstance(encoded, str):
        raise WebhookError("the patch is no text")
    if response.get("patchType") != "JSONPatch":
        raise WebhookError(f"unexpected patch type {response.get('patchType')!r}")
    try:
        return msgspec.json.decode(base64.b64decode(encoded))
    except (binascii.Error, ValueError) as error:
        raise WebhookError(f"the patch cannot be read: {error}") from error


def _refusal(hook: Hook, response: Tree) -> StatusError:
    status = response.get("status") or {}
    said = str(status.get("message") or status.get("reason") or "")
    head = f'admission webhook "{hook.name}" denied the request'
    text = f"{head}: {said}" if said else f"{head} without explanation"
    if not isinstance(status.get("details", {}), dict):
        status = {name: value for name, value in status.items() if name != "details"}
    reason = status.get("reason") or REASONS.get(status.get("code", Forbidden.code), "Forbidden")
    return from_tree({**status, "message": text, "reason": reason if reason in BY_REASON else "Forbidden"})
