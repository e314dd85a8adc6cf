"""Counters of the API server in Prometheus' text format (version 0.0.4)."""

from collections import Counter
from collections.abc import Iterable

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Upper bounds, seconds."""


class Metrics:
    """Counts requests and their durations."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self.watchers = 0

    def count(self, method: str, code: int, seconds: float) -> None:
        """Note one request."""
        self._requests[method, code] += 1
        self._seconds += seconds
        for index, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self._buckets[index] += 1
                return
        self._buckets[-1] += 1

    def text(self, objects: Iterable[tuple[str, int]]) -> str:
        """Return everything; `objects` are the numbers of stored objects by group resource."""
        lines = ["# TYPE apiserver_request_total counter"]
        lines += [
            f'apiserver_request_total{{method="{method}",code="{code}"}} {number}'
            for (method, code), number in sorted(self._requests.items())
        ]
        lines.append("# TYPE apiserver_request_duration_seconds histogram")
        total = 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            total += number
            lines.append(f'apiserver_request_duration_seconds_bucket{{le="{bound}"}} {total}')
        lines += [
            f"apiserver_request_duration_seconds_sum {self._seconds:.6f}",
            f"apiserver_request_duration_seconds_count {total}",
            "# TYPE apiserver_storage_objects gauge",
        ]
        lines += [f'apiserver_storage_objects{{resource="{name}"}} {number}' for name, number in objects]
        lines += [
            "# TYPE apiserver_longrunning_requests gauge",
            f"apiserver_longrunning_requests {self.watchers}",
        ]
        return "\n".join(lines) + "\n"
