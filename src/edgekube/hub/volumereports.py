"""Upward: volumes whose data a node has removed, which nothing holds any more."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekube.api.errors import NotFound
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.client.typed import Client
from edgekube.control.informer import Informers
from edgekube.control.reconcile import Controller
from edgekube.control.volumes import LOCAL, allows
from edgekube.control.writer import Writer, metadata_patch
from edgekube.hub.confirm import Confirm
from edgekube.transport.wire import VolumeGone

LIMIT = 2000
"""Unwritten reports; more wait for the node to repeat them."""


@dataclass(slots=True)
class _Waiting:
    node: str
    seqs: list[int] = field(default_factory=list)


class VolumeReports:
    """Takes the node's finalizer off volumes. Keys are names and uids."""

    def __init__(self, client: Client, informers: Informers, confirm: Confirm) -> None:
        self._confirm = confirm
        self._volumes, self._nodes = informers.of(core.PERSISTENT_VOLUMES), informers.of(core.NODES)
        self._writer = Writer(client, self._volumes)
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self.controller: Controller[tuple[str, str]] = Controller("hub-volumes", self)
        self.controller.watch(self._volumes, lambda _volume: ())

    def take(self, node: str, seq: int, body: VolumeGone) -> None:
        """Queue a report."""
        key = (body.name, body.uid)
        waiting = self._waiting.get(key)
        if waiting is None:
            if len(self._waiting) >= LIMIT:
                return
            waiting = self._waiting[key] = _Waiting(node)
        waiting.seqs.append(seq)
        self.controller.queue.add(key)

    async def reconcile(self, key: tuple[str, str]) -> float | None:
        """Write one report."""
        waiting = self._waiting.get(key)
        if waiting is None:
            return None
        seqs: Sequence[int] = tuple(waiting.seqs)
        # A Conflict tries again; gone already is as good as done.
        with contextlib.suppress(NotFound):
            await self._release(waiting.node, *key)
        self._waiting.pop(key, None)
        self._confirm(waiting.node, seqs)
        return None

    async def _release(self, name: str, volume_name: str, uid: str) -> None:
        volume, node = self._volumes.get(Key("", volume_name)), self._nodes.get(Key("", name))
        if (
            volume is None
            or node is None
            or volume.metadata.uid != uid
            or not volume.metadata.deletion_timestamp
        ):
            return
        # A node speaks for what is on it only.
        if LOCAL in volume.metadata.finalizers and allows(volume, name, node.metadata.labels):
            rest = [finalizer for finalizer in volume.metadata.finalizers if finalizer != LOCAL]
            version = volume.metadata.resource_version
            await self._writer.patch(
                Key("", volume_name), metadata_patch(uid, finalizers=rest, resourceVersion=version)
            )
