"""JSON merge patch (RFC 7386) over JSON trees."""

from typing import Any

from edgekube.api.patch.tree import clone


def merge_patch(tree: Any, patch: Any) -> Any:
    """Return `tree` with `patch` merged in: null removes, objects merge, the rest replaces. Shares nothing."""
    if not isinstance(patch, dict):
        return clone(patch)
    merged = (
        {name: clone(value) for name, value in tree.items() if name not in patch}
        if isinstance(tree, dict)
        else {}
    )
    before = tree if isinstance(tree, dict) else {}
    for name, value in patch.items():
        if value is not None:
            merged[name] = merge_patch(before.get(name), value)
    return merged
