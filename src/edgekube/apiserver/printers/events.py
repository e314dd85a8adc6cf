"""Events and Leases."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import AGE, Column, Printer, age, columns, name, since, spec
from edgekube.apiserver.request import Tree


def _source(event: Tree) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent", "")
    host = source.get("host") or event.get("reportingInstance", "")
    return f"{component}, {host}" if host else component


def event_cells(event: Tree, now: datetime) -> list[Any]:
    """Return an Event's cells."""
    series = event.get("series") or {}
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    regarding = event.get("involvedObject") or {}
    thing = f"{regarding.get('kind', '').lower()}/{regarding.get('name', '')}"
    count = series.get("count") or event.get("count") or 1
    return [
        since(last, now), event.get("type", ""), event.get("reason", ""), thing,
        regarding.get("fieldPath", ""), _source(event), (event.get("message") or "").strip(),
        since(first, now), count, name(event),
    ]  # fmt: skip


def lease_cells(lease: Tree, now: datetime) -> list[Any]:
    """Return a Lease's cells."""
    return [name(lease), spec(lease).get("holderIdentity", ""), age(lease, now)]


EVENT_COLUMNS = (
    Column("Last Seen"), Column("Type"), Column("Reason"), Column("Object"), Column("Subobject", priority=1),
    Column("Source", priority=1), Column("Message"), Column("First Seen", priority=1),
    Column("Count", priority=1), Column("Name", format="name", priority=1),
)  # fmt: skip

PRINTERS = {
    "events": Printer(EVENT_COLUMNS, event_cells),
    "events.events.k8s.io": Printer(EVENT_COLUMNS, event_cells),
    "leases.coordination.k8s.io": Printer(columns("Holder", AGE), lease_cells),
}
