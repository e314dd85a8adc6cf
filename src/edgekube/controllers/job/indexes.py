"""Sets of completion indexes as text: `1,3-5,7` (batch/v1 JobStatus.completedIndexes)."""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

from edgekube.api.types import core_v1

COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"


def parse(text: str, limit: int) -> set[int]:
    """Return the indexes below `limit`; what is no number is left out."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found.update(range(int(first), min(int(last or first) + 1, limit)))
    return {index for index in found if index < limit}


def text_of(indexes: Iterable[int]) -> str:
    """Return the text of a set, runs of three and more as ranges, pairs as well."""
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a},{b}" if b == a + 1 else f"{a}-{b}" for a, b in parts)


def index_of(pod: core_v1.Pod) -> int:
    """Return the pod's completion index, -1 when it has none."""
    text = pod.metadata.annotations.get(COMPLETION_INDEX, "")
    return int(text) if text.isdecimal() else -1


def first_free(count: int, taken: AbstractSet[int], completions: int) -> Collection[int]:
    """Return the lowest `count` indexes that are not taken."""
    free: list[int] = []
    for index in range(completions):
        if len(free) == count:
            break
        if index not in taken:
            free.append(index)
    return free
