"""Nodes' Leases, renewed on behalf of those that have a connection: the heartbeat costs no traffic."""

import logging
import time

from edgekube.api.errors import AlreadyExists, NotFound, StatusError
from edgekube.api.kinds import coordination_v1 as coordination
from edgekube.api.kinds import core_v1 as core
from edgekube.api.resource import Key
from edgekube.api.types import coordination_v1, core_v1, meta_v1
from edgekube.client.base import Unreachable
from edgekube.client.typed import Client
from edgekube.control.clock import Clock, micro_stamp
from edgekube.control.informer import Informers

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
DURATION = 40
"""Seconds a Lease is good for (Kubernetes' default)."""


class Leases:
    """Renews one Lease a node."""

    def __init__(self, client: Client, informers: Informers, *, clock: Clock = time.time) -> None:
        self._client, self._clock = client, clock
        self._nodes = informers.of(core.NODES)

    async def renew(self, name: str) -> None:
        """Renew a node's Lease, made at need; a failure is logged: the next renewal comes soon."""
        node = self._nodes.get(Key("", name))
        if node is None:
            return
        key, now = Key(NAMESPACE, name), micro_stamp(self._clock())
        try:
            await self._client.patch(coordination.LEASES, key, {"spec": {"renewTime": now}})
        except NotFound:
            await self._create(key, node, now)
        except (StatusError, Unreachable) as error:
            log.warning("lease of %s: %s", name, error)

    async def _create(self, key: Key, node: core_v1.Node, now: str) -> None:
        owner = meta_v1.OwnerReference(
            api_version="v1", kind="Node", name=node.metadata.name, uid=node.metadata.uid
        )
        lease = coordination_v1.Lease(
            metadata=meta_v1.ObjectMeta(name=key.name, namespace=key.namespace, owner_references=(owner,)),
            spec=coordination_v1.LeaseSpec(
                holder_identity=key.name, lease_duration_seconds=DURATION, renew_time=now
            ),
        )
        try:
            await self._client.create(coordination.LEASES, lease)
        except AlreadyExists:
            return
        except (StatusError, Unreachable) as error:
            log.warning("lease of %s: %s", key.name, error)
