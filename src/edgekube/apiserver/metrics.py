"""Counters of the API server in Prometheus' text format (version 0.0.4), under kube-apiserver's names."""

import resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edgekube.apiserver.authz import Access

BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)  # fmt: skip
"""Upper bounds, seconds (a part of those of kube-apiserver)."""
SERIES = 1024
"""Kinds of requests counted apart; what comes after that is counted together, so that no client can fill the memory."""
REFUSED = 400
VERBS = {"create": "POST", "update": "PUT"}
"""Verbs that are counted under the name of their method."""
KNOWN = frozenset({"GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION"})
CHANGES = frozenset({"create", "update", "patch", "delete", "deletecollection"})

Labels = tuple[str, str, str, str, str]
"""Verb, group, resource, subresource, scope."""
OTHERS: Labels = ("other", "", "", "", "")


@dataclass(slots=True)
class Series:
    """The requests of one sort: answers by code, and durations."""

    codes: Counter[int] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0


class Metrics:
    """Counts requests and their durations."""

    def __init__(self) -> None:
        self._series: dict[Labels, Series] = {}
        self._started = time.time()
        self.watchers = 0
        self.inflight = {"readOnly": 0, "mutating": 0}
        self.attempts = {"success": 0, "failure": 0}
        """Requests from outside by whether it was known who asks."""

    def begin(self, verb: str) -> str:
        """Note that a request begins; give what is returned to `end`."""
        kind = "mutating" if verb in CHANGES else "readOnly"
        self.inflight[kind] += 1
        return kind

    def end(self, kind: str) -> None:
        """Note that it ended."""
        self.inflight[kind] -= 1

    def count(self, access: Access | None, code: int, seconds: float) -> None:
        """Note one request and its answer."""
        labels = OTHERS if access is None else _labels(access)
        series = self._series.get(labels)
        if series is None:
            labels = self._new(labels, access, code)
            series = self._series.setdefault(labels, Series())
        series.codes[code] += 1
        series.seconds += seconds
        series.buckets[bisect_left(BUCKETS, seconds)] += 1

    def _new(self, labels: Labels, access: Access | None, code: int) -> Labels:
        """Return what a sort of request is counted under that was never seen: what failed may not even exist."""
        if code < REFUSED and len(self._series) < SERIES:
            return labels
        return (labels[0], "", "", "", "") if access is not None and labels[0] in KNOWN else OTHERS

    def text(self, objects: Iterable[tuple[str, int]], more: Iterable[str] = ()) -> str:
        """Return everything; `objects` are the numbers of stored objects by group resource, `more` further lines."""
        lines = [*self._requests(), *self._durations()]
        lines += _gauge("apiserver_storage_objects", {f'resource="{name}"': count for name, count in objects})
        lines += _gauge("apiserver_longrunning_requests", {'verb="WATCH"': self.watchers})
        kinds = {f'request_kind="{kind}"': count for kind, count in self.inflight.items()}
        lines += _gauge("apiserver_current_inflight_requests", kinds)
        lines.append("# TYPE authentication_attempts counter")
        lines += [f'authentication_attempts{{result="{name}"}} {n}' for name, n in self.attempts.items()]
        return "\n".join([*lines, *more, *_process(self._started)]) + "\n"

    def _requests(self) -> Iterator[str]:
        yield "# TYPE apiserver_request_total counter"
        for labels, series in sorted(self._series.items()):
            for code, number in sorted(series.codes.items()):
                yield f'apiserver_request_total{{{_text(labels)},code="{code}"}} {number}'

    def _durations(self) -> Iterator[str]:
        name = "apiserver_request_duration_seconds"
        yield f"# TYPE {name} histogram"
        for labels, series in sorted(self._series.items()):
            text, total = _text(labels), 0
            for bound, number in zip((*map(str, BUCKETS), "+Inf"), series.buckets, strict=True):
                total += number
                yield f'{name}_bucket{{{text},le="{bound}"}} {total}'
            yield f"{name}_sum{{{text}}} {series.seconds:.6f}"
            yield f"{name}_count{{{text}}} {total}"


def _labels(access: Access) -> Labels:
    verb = VERBS.get(access.verb) or access.verb.upper()
    if not access.plural:
        return verb, "", "", "", ""
    scope = "resource" if access.name else "namespace" if access.namespace else "cluster"
    return verb, access.group, access.plural, access.subresource, scope


def _text(labels: Labels) -> str:
    names = ("verb", "group", "resource", "subresource", "scope")
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, labels, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _gauge(name: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# TYPE {name} gauge"
    for labels, value in values.items():
        yield f"{name}{{{labels}}} {value}"


def _process(started: float) -> Iterator[str]:
    """Yield what Prometheus' clients say of every process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield "# TYPE process_cpu_seconds_total counter"
    yield f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.3f}"
    yield "# TYPE process_start_time_seconds gauge"
    yield f"process_start_time_seconds {started:.3f}"
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not a file to keep a path of
            pages = file.read().split()
    except OSError:
        return
    size = resource.getpagesize()
    for name, value in (("virtual", pages[0]), ("resident", pages[1])):
        yield f"# TYPE process_{name}_memory_bytes gauge"
        yield f"process_{name}_memory_bytes {int(value) * size}"
