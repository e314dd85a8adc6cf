"""PATCH with application/apply-patch+yaml: server-side apply (KEP-555)."""

from collections.abc import Awaitable, Callable

from edgekube.api import managed
from edgekube.api.errors import BadRequest, Cause, Conflict, NotFound
from edgekube.api.resource import AnyResource, Durability
from edgekube.apiserver.codec import check_kind, from_json, from_yaml
from edgekube.apiserver.exchange import Exchange, answer
from edgekube.apiserver.managing import ignored, keep, readable
from edgekube.apiserver.registry import problems
from edgekube.apiserver.registry.meta import timestamp
from edgekube.apiserver.registry.parts import MAIN, Part
from edgekube.apiserver.request import Response, Tree, truthy

MEDIA = "application/apply-patch+yaml"
KUBECTL, LAST_APPLIED = "kubectl", "kubectl.kubernetes.io/last-applied-configuration"


async def apply(exchange: Exchange, *, part: Part = MAIN) -> Response:
    """Merge a configuration into the object, or create it; raises Conflict without `force`."""
    row = exchange.view.row if exchange.view else exchange.target.row
    wish = wish_of(exchange, config := configuration(exchange, row.api_version, row.kind))
    action = exchange.action()
    action.applied = True
    try:
        return answer(await exchange.parts.registry.change(action, wish, part=part))
    except NotFound:
        if part is not MAIN:
            raise
    if config["metadata"].get("uid"):
        raise problems.conflict(
            exchange.target.row, exchange.target.name, "uid mismatch: the object is not there"
        )
    return answer(await exchange.parts.registry.create(action, await wish({})))


def wish_of(exchange: Exchange, config: Tree) -> Callable[[Tree], Awaitable[Tree]]:
    """Return what makes of a live object the one with `config` applied; raises Invalid."""
    manager, query = exchange.query.get("fieldManager", ""), exchange.query
    if not manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
        raise problems.invalid("PatchOptions", "meta.k8s.io", "", [cause])
    return _Wish(exchange, config, manager=manager, force=truthy(query.get("force"))).of


def configuration(exchange: Exchange, api_version: str, kind: str) -> Tree:
    """Read the request's configuration, which must be of that kind; raises BadRequest."""
    target = exchange.target
    config = from_yaml(exchange.request.body)
    if not isinstance(config, dict):
        raise BadRequest("error decoding YAML: the body is not an object")
    if not config.get("apiVersion") or not config.get("kind"):
        raise BadRequest("Object 'Kind' is missing: apiVersion and kind must be set")
    check_kind(config, api_version, kind)
    exchange.parts.codec.report(config, exchange.query.get("fieldValidation", ""), exchange.warnings)
    meta = config.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise BadRequest("metadata: must be an object")
    if meta.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    if meta.setdefault("name", target.name) != target.name:
        raise problems.wrong_name(str(meta["name"]), target.name)
    return config


class _Wish:
    """From the live object to the one with the configuration applied."""

    def __init__(self, exchange: Exchange, config: Tree, *, manager: str, force: bool) -> None:
        self._exchange, self._config, self._manager, self._force = exchange, config, manager, force

    async def of(self, live: Tree) -> Tree:
        """Return the object to store."""
        view = self._exchange.view
        if view is None:
            return await self._applied(live)
        return await view.stored(await self._applied(await view.shown(live) if live else live))

    async def _applied(self, live: Tree) -> Tree:
        exchange = self._exchange
        row = exchange.view.row if exchange.view else exchange.target.row
        before = readable((live.get("metadata") or {}).get("managedFields") or [])
        bare = (
            {**live, "metadata": {k: v for k, v in live["metadata"].items() if k != "managedFields"}}
            if live
            else {}
        )
        untracked = row.durability is Durability.VOLATILE
        try:
            found = await self._merged(row, before, bare, force=self._force or untracked)
        except managed.Conflicts as error:
            if self._manager != KUBECTL or not self._wrote_before(row, bare, error):
                raise _conflict(error) from error
            found = await self._merged(row, before, bare, force=True)
        tree = {**found.tree, "metadata": dict(found.tree["metadata"])}
        keep(tree, {} if untracked else found.managers)
        return tree

    async def _merged(
        self, row: AnyResource, before: managed.Managers, bare: Tree, *, force: bool
    ) -> managed.Applied:
        registry, target = self._exchange.parts.registry, self._exchange.target
        who = managed.manager(managed.APPLY, self._manager, row.api_version, target.subresource)
        now, untouched = timestamp(registry.now()), ignored(row, target.subresource)
        try:
            if any(owned.api_version != row.api_version for owned in before.values()) and (
                forms := registry.fields.forms(target.row)
            ):
                return await managed.across.applied(
                    before, bare, self._config, forms=forms, who=who, version=row.api_version, now=now,
                    force=force, ignored=untouched,
                )  # fmt: skip
            return managed.applied(
                before, bare, self._config, shape=registry.fields.shape_of(row), who=who, version=row.api_version,
                now=now, force=force, ignored=untouched,
            )  # fmt: skip
        except managed.Untyped as error:
            name = f"{target.namespace}/{target.name}; {row.api_version}, Kind={row.kind}"
            raise BadRequest(f"failed to create typed patch object ({name}): {error}") from error

    def _wrote_before(self, row: AnyResource, bare: Tree, error: managed.Conflicts) -> bool:
        """Tell whether all that conflicts is what kubectl applied by itself, before it applied on the server."""
        text = (bare["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        if not text:
            return False
        try:
            last = from_json(text.encode())
        except BadRequest:
            return False
        shape = self._exchange.parts.registry.fields.shape_of(row)
        same = managed.unchanged(last, bare, shape) if isinstance(last, dict) else set()
        return all(conflict.path in same for conflict in error.found)


def _conflict(error: managed.Conflicts) -> Conflict:
    causes = [
        Cause("FieldManagerConflict", f"conflict with {_who(one)}", managed.text(one.path))
        for one in error.found
    ]
    if len(error.found) == 1:
        one = error.found[0]
        text = f"Apply failed with 1 conflict: conflict with {_who(one)}: {managed.text(one.path)}"
    else:
        by_manager: dict[str, list[str]] = {}
        for one in error.found:
            by_manager.setdefault(_who(one), []).append(f"- {managed.text(one.path)}")
        told = [f"conflicts with {who}:\n" + "\n".join(paths) for who, paths in sorted(by_manager.items())]
        text = f"Apply failed with {len(error.found)} conflicts: " + "\n".join(told)
    return Conflict(text, causes=causes)


def _who(conflict: managed.Conflict) -> str:
    manager = conflict.manager
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    if manager.operation == managed.UPDATE:
        text += f" using {manager.api_version}"
    return text
