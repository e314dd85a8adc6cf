"""
JSON patch (RFC 6902) over JSON trees.

Errors follow kube-apiserver: what is not a patch at all is 400, a patch that does not apply 422.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edgekube.api.errors import BadRequest, Cause, Invalid, RequestEntityTooLarge
from edgekube.api.patch.tree import bounded, clone, same

MAX_OPERATIONS = 10_000
"""As in kube-apiserver, so that one request cannot keep the server busy."""


class _DoesNotApply(Exception):
    """Why an operation cannot be done."""


@bounded
def json_patch(tree: Any, operations: Any) -> Any:
    """
    Return `tree` after `operations`; the result shares nothing with the arguments.

    Raises BadRequest (not a list of objects), RequestEntityTooLarge, or Invalid (does not apply).
    """
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise BadRequest("error decoding patch: a JSON patch is an array of operations")
    if len(operations) > MAX_OPERATIONS:
        raise RequestEntityTooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        )
    root = {"": clone(tree)}
    for operation in operations:
        try:
            _apply(root, operation)
            root.setdefault("", None)
        except _DoesNotApply as error:
            raise Invalid(
                "the server rejected our request due to an error in our request",
                causes=[Cause("UnexpectedServerResponse", str(error))],
            ) from error
    return root[""]


def _apply(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    name = operation.get("op")
    verb = VERBS.get(name) if isinstance(name, str) else None
    if verb is None:
        raise _DoesNotApply(f"Unexpected kind: {name}")
    verb(root, operation)


def _add(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    _insert(root, _pointer(operation, "path"), clone(_value(operation)), "add")


def _remove(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    _take(root, _pointer(operation, "path"), "remove")


def _replace(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    path = _pointer(operation, "path")
    parent, last = _parent(root, path, "replace")
    value = clone(_value(operation))
    if isinstance(parent, list):
        parent[_index(parent, last, path, len(parent) - 1)] = value
    else:
        if last not in parent:
            raise _missing("replace", path)
        parent[last] = value


def _move(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    source, target = _pointer(operation, "from"), _pointer(operation, "path")
    if target != source and target[: len(source)] == source:
        raise _DoesNotApply(f"move operation does not apply: {_text(source)} cannot move into itself")
    _insert(root, target, _take(root, source, "move"), "move")


def _copy(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    value = clone(_get(root, _pointer(operation, "from"), "copy"))
    _insert(root, _pointer(operation, "path"), value, "copy")


def _test(root: dict[str, Any], operation: Mapping[str, Any]) -> None:
    path = _pointer(operation, "path")
    expected = operation.get("value")
    try:
        found = _get(root, path, "test")
    except _DoesNotApply:
        # A missing member equals null, as clients of Kubernetes rely on.
        found = None
    if not same(found, expected):
        raise _DoesNotApply(f"testing value {_text(path)} failed: test failed")


VERBS: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise _DoesNotApply(f"{operation['op']} operation does not apply: missing value")
    return operation["value"]


def _pointer(operation: Mapping[str, Any], member: str) -> tuple[str, ...]:
    """Read a JSON pointer (RFC 6901); the document itself is the member "" of a root."""
    text = operation.get(member)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _DoesNotApply(
            f"{operation['op']} operation does not apply: {member} {text!r} is not a JSON pointer"
        )
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/"))


def _text(path: tuple[str, ...]) -> str:
    return "/".join(token.replace("~", "~0").replace("/", "~1") for token in path)


def _missing(operation: str, path: tuple[str, ...]) -> _DoesNotApply:
    return _DoesNotApply(
        f"{operation} operation does not apply: doc is missing path: {_text(path)}: missing value"
    )


def _get(root: dict[str, Any], path: tuple[str, ...], operation: str) -> Any:
    return _walk(root, path, path, operation)


def _parent(
    root: dict[str, Any], path: tuple[str, ...], operation: str
) -> tuple[dict[str, Any] | list[Any], str]:
    parent = _walk(root, path[:-1], path, operation)
    if not isinstance(parent, dict | list):
        raise _missing(operation, path)
    return parent, path[-1]


def _walk(root: dict[str, Any], tokens: tuple[str, ...], path: tuple[str, ...], operation: str) -> Any:
    """Follow the first `tokens` of `path`."""
    node: Any = root
    for token in tokens:
        if isinstance(node, list):
            node = node[_index(node, token, path, len(node) - 1)]
        elif isinstance(node, dict) and token in node:
            node = node[token]
        else:
            raise _missing(operation, path)
    return node


def _index(items: list[Any], token: str, path: tuple[str, ...], last: int) -> int:
    """Return a list index from 0 to `last`; RFC 6901 forbids signs and leading zeros."""
    if (
        not token.isascii()
        or not token.isdigit()
        or (token[0] == "0" and len(token) > 1)
        or int(token) > last
    ):
        raise _DoesNotApply(f"Unable to access invalid index: {token} at {_text(path)} of {len(items)} items")
    return int(token)


def _insert(root: dict[str, Any], path: tuple[str, ...], value: Any, operation: str) -> None:
    parent, last = _parent(root, path, operation)
    if isinstance(parent, dict):
        parent[last] = value
    elif last == "-":
        parent.append(value)
    else:
        parent.insert(_index(parent, last, path, len(parent)), value)


def _take(root: dict[str, Any], path: tuple[str, ...], operation: str) -> Any:
    parent, last = _parent(root, path, operation)
    if isinstance(parent, list):
        return parent.pop(_index(parent, last, path, len(parent) - 1))
    if last not in parent:
        raise _missing(operation, path)
    return parent.pop(last)
