"""Numbers that may be percentages (`IntOrString` in Kubernetes' API)."""


def scaled(wish: int | str, total: int, *, round_up: bool) -> int:
    """Return `wish`, or its percentage of `total` as a whole number; never negative."""
    if isinstance(wish, int):
        return max(wish, 0)
    if not wish.endswith("%"):
        return max(int(wish), 0)
    share = int(wish[:-1]) * total
    return -(-share // 100) if round_up else share // 100
