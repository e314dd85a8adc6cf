"""Rows of the events.k8s.io group: another view of the core events, same storage."""

from edgekube.api.resource import Durability, Resource
from edgekube.api.types import events_v1 as t

EVENTS = Resource(
    "events.k8s.io", "v1", "Event", "events", t.Event, short_names=("ev",), durability=Durability.VOLATILE
)

RESOURCES = (EVENTS,)
