"""Upward: nodes' events as core/v1 Events; repeats raise the count of the one that is there."""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b

from edgekube.api.errors import AlreadyExists, Forbidden, Invalid, NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.scheme import Scheme
from edgekube.api.types import core_v1, meta_v1
from edgekube.client.typed import Client
from edgekube.control.reconcile import Controller
from edgekube.hub.confirm import Confirm
from edgekube.transport.wire import EventReport

LIMIT = 2000
"""Unwritten events; more wait for the node to repeat them."""
MEMORY = 4096
COMPONENT = "kubelet"


@dataclass(slots=True)
class _Waiting:
    node: str
    report: EventReport
    seqs: list[int] = field(default_factory=list)


class EventReports:
    """Writes the newest form of each event. Keys are the Events' own."""

    def __init__(self, client: Client, confirm: Confirm, *, scheme: Scheme | None = None) -> None:
        self._client, self._confirm = client, confirm
        self._scheme = scheme or Scheme()
        self._waiting: dict[Key, _Waiting] = {}
        self._made: OrderedDict[Key, None] = OrderedDict()
        self.controller: Controller[Key] = Controller("hub-events", self, workers=2)

    def take(self, node: str, seq: int, report: EventReport) -> None:
        """Queue an event."""
        key = key_of_event(node, report)
        waiting = self._waiting.get(key)
        if waiting is None:
            if len(self._waiting) >= LIMIT:
                return
            waiting = self._waiting[key] = _Waiting(node, report)
        waiting.report = report
        waiting.seqs.append(seq)
        self.controller.queue.add(key)

    async def reconcile(self, key: Key) -> float | None:
        """Write one event."""
        waiting = self._waiting.pop(key, None)
        if waiting is None:
            return None
        try:
            await self._write(key, waiting)
        except (NotFound, Forbidden, Invalid):
            self._made.pop(key, None)  # Its namespace is going: not worth another try.
        except BaseException:
            self._waiting.setdefault(key, waiting)
            raise
        self._confirm(waiting.node, waiting.seqs)
        return None

    async def _write(self, key: Key, waiting: _Waiting) -> None:
        report = waiting.report
        patch = {"count": report.count, "lastTimestamp": report.last}
        if key in self._made:
            try:
                await self._client.patch(core.EVENTS, key, patch)
            except NotFound:
                del self._made[key]
            else:
                return
        try:
            await self._client.create(core.EVENTS, self._event(key, waiting.node, report))
        except AlreadyExists:
            await self._client.patch(core.EVENTS, key, patch)
        self._made[key] = None
        while len(self._made) > MEMORY:
            self._made.popitem(last=False)

    def _event(self, key: Key, node: str, report: EventReport) -> core_v1.Event:
        prefix, _, plural = report.path.rpartition("/")
        group, _, version = prefix.rpartition("/")
        resource = self._scheme.by_path(group, version, plural)
        return core_v1.Event(
            metadata=meta_v1.ObjectMeta(name=key.name, namespace=key.namespace),
            involved_object=core_v1.ObjectReference(
                api_version=prefix, kind=resource.kind if resource else plural, namespace=report.namespace,
                name=report.name, uid=report.uid, field_path=report.field_path,
            ),
            type=report.type, reason=report.reason, message=report.message[:1024], count=report.count,
            first_timestamp=report.first, last_timestamp=report.last,
            source=core_v1.EventSource(component=COMPONENT, host=node),
            reporting_component=COMPONENT, reporting_instance=node,
        )  # fmt: skip


def key_of_event(node: str, report: EventReport) -> Key:
    """Return the Event's key: the same for repeats, whoever counts them."""
    parts = (
        node, report.path, report.uid, report.field_path, report.type, report.reason, report.message, report.first,
    )  # fmt: skip
    digest = blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
    return Key(report.namespace or "default", f"{report.name}.{digest}")
