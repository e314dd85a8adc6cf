"""What the node should have: deltas into the mirror's copies, and the digest of it all."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edgekube.api.resource import Key
from edgekube.api.types import core_v1, discovery_v1, networking_v1, node_v1
from edgekube.control.mirror import Mirror
from edgekube.control.policies import SLICES, PeerSlice
from edgekube.control.reader import Copy
from edgekube.transport.wire import ObjectDelta

log = logging.getLogger(__name__)

KINDS: dict[str, tuple[str, type[Any]]] = {
    "v1/configmaps": ("config_maps", core_v1.ConfigMap),
    "v1/secrets": ("secrets", core_v1.Secret),
    "v1/persistentvolumeclaims": ("claims", core_v1.PersistentVolumeClaim),
    "v1/persistentvolumes": ("volumes", core_v1.PersistentVolume),
    "v1/nodes": ("nodes", core_v1.Node),
    "node.k8s.io/v1/runtimeclasses": ("runtime_classes", node_v1.RuntimeClass),
    "v1/services": ("services", core_v1.Service),
    "discovery.k8s.io/v1/endpointslices": ("endpoint_slices", discovery_v1.EndpointSlice),
    "v1/namespaces": ("namespaces", core_v1.Namespace),
    SLICES: ("peer_slices", PeerSlice),
    "networking.k8s.io/v1/networkpolicies": ("policies", networking_v1.NetworkPolicy),
    "v1/pods": ("pods", core_v1.Pod),
}
"""Path → attribute of the mirror and type. Pods last: what they refer to is there before them."""
ORDER = {path: number for number, path in enumerate(KINDS)}


@dataclass(slots=True)
class Wish:
    """The mirror and what it consists of."""

    mirror: Mirror = field(default_factory=Mirror)
    digest: dict[str, str] = field(default_factory=dict)
    malformed: int = 0
    """Objects that could not be decoded; they count as known, or they would be asked for for ever."""

    def apply(self, deltas: Iterable[ObjectDelta]) -> tuple[ObjectDelta, ...]:
        """Take changes over; return those that were news."""
        news = [delta for delta in deltas if self._is_news(delta)]
        for delta in sorted(news, key=lambda d: ORDER.get(d.path, -1)):
            if delta.raw:
                self.digest[delta.key] = delta.version
            else:
                self.digest.pop(delta.key, None)
            self._show(delta)
        return tuple(news)

    def missing(self, digest: dict[str, str]) -> bool:
        """Tell whether something of a complete digest is not here."""
        return any(self.digest.get(key) != version for key, version in digest.items())

    def surplus(self, digest: dict[str, str]) -> tuple[ObjectDelta, ...]:
        """Return the removal of everything a complete digest does not have."""
        return tuple(_removal(key) for key in self.digest if key not in digest)

    def is_synced(self) -> None:
        """Tell the mirror's readers that it is complete."""
        for attribute, _ in KINDS.values():
            self._copy(attribute).synced.set()

    def _is_news(self, delta: ObjectDelta) -> bool:
        known = self.digest.get(delta.key)
        return known != delta.version if delta.raw else known is not None

    def _show(self, delta: ObjectDelta) -> None:
        row = KINDS.get(delta.path)
        if row is None:
            return  # A newer hub's; kept, so that a newer agent finds it.
        attribute, shape = row
        copy = self._copy(attribute)
        if not delta.raw:
            copy.drop(Key(delta.namespace, delta.name))
            return
        try:
            copy.set(msgspec.json.decode(delta.raw, type=shape))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.malformed += 1
            log.error("%s: %s", delta.key, error)  # noqa: TRY400 - expected, no traceback

    def _copy(self, attribute: str) -> Copy[Any]:
        copy: Copy[Any] = getattr(self.mirror, attribute)
        return copy


def _removal(key: str) -> ObjectDelta:
    path, namespace, name = key.rsplit("/", 2)
    return ObjectDelta(path, namespace, name, "", b"")
