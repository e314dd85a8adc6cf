"""JSON merge patch (RFC 7386) over JSON trees."""

from typing import Any

from edgekube.api.patch.tree import bounded, clone


@bounded
def merge_patch(tree: Any, patch: Any) -> Any:
    """
    Return `tree` with `patch` merged in: null removes, objects merge, the rest replaces.

    The result shares nothing with the arguments.
    """
    return _merge(tree, patch)


def _merge(tree: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return clone(patch)
    before = tree if isinstance(tree, dict) else {}
    merged = {name: clone(value) for name, value in before.items() if name not in patch}
    for name, value in patch.items():
        if value is not None:
            merged[name] = _merge(before.get(name), value)
    return merged
