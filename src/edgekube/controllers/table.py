"""All controllers."""

from collections.abc import Callable, Sequence

from edgekube.client.typed import Client
from edgekube.control.events import EventSink
from edgekube.control.informer import Informers
from edgekube.controllers import (
    accounttokens,
    clusterroles,
    ephemeral,
    namespace,
    podgc,
    publishers,
    tokencleaner,
    ttl,
)
from edgekube.controllers.autoscale import controller as autoscale
from edgekube.controllers.certificates import controller as certificates
from edgekube.controllers.cloud import balancers, machines
from edgekube.controllers.context import Context, Options, Part
from edgekube.controllers.cronjob import controller as cronjob
from edgekube.controllers.daemonset import controller as daemonset
from edgekube.controllers.deployment import controller as deployment
from edgekube.controllers.disruption import controller as disruption
from edgekube.controllers.endpoints import controller as endpoints
from edgekube.controllers.endpoints import mirroring
from edgekube.controllers.garbage import controller as garbage
from edgekube.controllers.job import controller as job
from edgekube.controllers.nodes import eviction, ipam, lifecycle
from edgekube.controllers.quota import controller as quota
from edgekube.controllers.replicaset import controller as replicaset
from edgekube.controllers.statefulset import controller as statefulset
from edgekube.controllers.volumes import binder, localpath, protection

TABLE: Sequence[Callable[[Context], Part]] = (
    deployment.build,
    replicaset.build,
    replicaset.build_replication,
    statefulset.build,
    daemonset.build,
    job.build,
    cronjob.build,
    ttl.build,
    autoscale.build,
    endpoints.build,
    mirroring.build,
    namespace.build,
    publishers.build_service_accounts,
    publishers.build_root_ca,
    lifecycle.build,
    eviction.build,
    ipam.build,
    machines.build,
    balancers.build,
    podgc.build,
    disruption.build,
    quota.build,
    ephemeral.build,
    binder.build_claims,
    binder.build_volumes,
    localpath.build,
    protection.build,
    tokencleaner.build,
    clusterroles.build,
    accounttokens.build,
    certificates.build,
    # Last: it reads the caches that the others made.
    garbage.build,
)


def build(client: Client, informers: Informers, options: Options) -> list[Part]:
    """Return everything to run beside `informers.run()`, each in its own task."""
    events = EventSink(client, options.clock)
    context = Context(client, informers, options, events)
    return [events, *(make(context) for make in TABLE)]
