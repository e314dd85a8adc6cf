"""PATCH with application/apply-patch+yaml: server-side apply (KEP-555)."""

from edgekube.api import managed
from edgekube.api.errors import BadRequest, Cause, Conflict, NotFound
from edgekube.api.managed import Manager
from edgekube.apiserver.codec import check_kind, from_yaml
from edgekube.apiserver.exchange import Exchange, answer
from edgekube.apiserver.managing import ignored, keep
from edgekube.apiserver.registry import problems
from edgekube.apiserver.registry.meta import timestamp
from edgekube.apiserver.registry.parts import MAIN, Part
from edgekube.apiserver.request import Response, Tree, truthy

MEDIA = "application/apply-patch+yaml"


async def apply(exchange: Exchange, *, part: Part = MAIN) -> Response:
    """Merge a configuration into the object, or create it; raises Conflict without `force`."""
    manager, query = exchange.query.get("fieldManager", ""), exchange.query
    if not manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
        raise problems.invalid("PatchOptions", "meta.k8s.io", "", [cause])
    config = _configuration(exchange)
    action = exchange.action()
    action.applied = True
    wish = _Wish(exchange, config, manager=manager, force=truthy(query.get("force")))
    try:
        return answer(await exchange.parts.registry.change(action, wish.of, part=part))
    except NotFound:
        if part is not MAIN:
            raise
    return answer(await exchange.parts.registry.create(action, await wish.of({})))


def _configuration(exchange: Exchange) -> Tree:
    target, row = exchange.target, exchange.view.row if exchange.view else exchange.target.row
    config = from_yaml(exchange.request.body)
    if not isinstance(config, dict):
        raise BadRequest("error decoding YAML: the body is not an object")
    if not config.get("apiVersion") or not config.get("kind"):
        raise BadRequest("Object 'Kind' is missing: apiVersion and kind must be set")
    check_kind(config, row.api_version, row.kind)
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
            return self._applied(live)
        return await view.stored(self._applied(await view.shown(live) if live else live))

    def _applied(self, live: Tree) -> Tree:
        exchange = self._exchange
        row = exchange.view.row if exchange.view else exchange.target.row
        fields, subresource = exchange.parts.registry.fields, exchange.target.subresource
        who = Manager(managed.APPLY, self._manager, row.api_version, subresource)
        now = timestamp(exchange.parts.registry.now())
        before = managed.decode((live.get("metadata") or {}).get("managedFields") or [])
        bare = (
            {**live, "metadata": {k: v for k, v in live["metadata"].items() if k != "managedFields"}}
            if live
            else {}
        )
        try:
            found = managed.applied(
                before, bare, self._config, shape=fields.shape_of(row), who=who, now=now, force=self._force,
                ignored=ignored(row, subresource),
            )  # fmt: skip
        except managed.Untyped as error:
            name = f"{exchange.target.namespace}/{exchange.target.name}; {row.api_version}, Kind={row.kind}"
            raise BadRequest(f"failed to create typed patch object ({name}): {error}") from error
        except managed.Conflicts as error:
            raise _conflict(error) from error
        tree = {**found.tree, "metadata": dict(found.tree["metadata"])}
        keep(tree, found.managers)
        return tree


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
        text += f" at {conflict.time}" if conflict.time else ""
    return text
