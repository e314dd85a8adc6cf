"""Printer columns by group resource: what `kubectl get` shows. Adding a kind is adding a row."""

from collections.abc import Mapping

from edgekube.api.resource import AnyResource
from edgekube.apiserver.printers import (
    batch,
    cluster,
    config,
    custom,
    events,
    limits,
    networking,
    nodes,
    pods,
    rbac,
    services,
    storage,
    volumes,
    workloads,
)
from edgekube.apiserver.printers.base import Column, Printer, columns, name

DEFAULT = Printer(
    columns(Column("Created At", type="date")),
    lambda obj, _now: [name(obj), obj["metadata"].get("creationTimestamp", "")],
)

PRINTERS: Mapping[str, Printer] = {
    **config.PRINTERS,
    **events.PRINTERS,
    **nodes.PRINTERS,
    **pods.PRINTERS,
    **rbac.PRINTERS,
    **services.PRINTERS,
    **volumes.PRINTERS,
    **networking.PRINTERS,
    **storage.PRINTERS,
    **cluster.PRINTERS,
    **workloads.PRINTERS,
    **batch.PRINTERS,
    **limits.PRINTERS,
}


def printer_of(row: AnyResource) -> Printer:
    """Return the printer of a resource."""
    if row.custom is not None:
        return custom.printer(row.custom)
    return PRINTERS.get(row.group_resource, DEFAULT)
