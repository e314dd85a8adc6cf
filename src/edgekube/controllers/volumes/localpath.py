"""
The provisioner that ships: a directory on the node's own disk for every claim (as k3s' local-path).

The directory is made when the first pod starts on the node (hostPath DirectoryOrCreate), and the node
removes it when the volume is released: until then a finalizer holds the volume.
"""

import msgspec

from edgekube.api.kinds import core_v1 as core
from edgekube.api.kinds import storage_v1 as storage
from edgekube.api.resource import Key, key_of
from edgekube.api.types import core_v1, meta_v1, storage_v1
from edgekube.control import volumes as rules
from edgekube.control.index import Index
from edgekube.control.reconcile import Controller
from edgekube.control.volumes import Claim, Volume
from edgekube.control.writer import Writer
from edgekube.controllers.context import Context
from edgekube.controllers.volumes.plan import PROVISIONED_BY, PROVISIONER

NAME = "edgekube.io/local-path"
FINALIZER = "edgekube.io/local-path"
STORAGE_PATH = "edgekube.io/storage-path"
"""Annotation of a Node: where it keeps volumes."""
DEFAULT_PATH = "/var/lib/edgekube/storage"
HOSTNAME = "kubernetes.io/hostname"
MODES = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


def volume_for(claim: Claim, found: storage_v1.StorageClass, node: core_v1.Node) -> Volume:
    """Return the volume for a claim on that node."""
    name = f"pvc-{claim.metadata.uid}"
    root = found.parameters.get("path") or node.metadata.annotations.get(STORAGE_PATH, DEFAULT_PATH)
    path = f"{root.rstrip('/')}/{name}_{claim.metadata.namespace}_{claim.metadata.name}"
    host = node.metadata.labels.get(HOSTNAME, node.metadata.name)
    want = core_v1.NodeSelectorRequirement(key=HOSTNAME, operator="In", values=(host,))
    selector = core_v1.NodeSelector(
        node_selector_terms=(core_v1.NodeSelectorTerm(match_expressions=(want,)),)
    )
    return Volume(
        metadata=meta_v1.ObjectMeta(name=name, annotations={PROVISIONED_BY: NAME}, finalizers=(FINALIZER,)),
        spec=core_v1.PersistentVolumeSpec(
            capacity={
                "storage": (claim.spec.resources.requests if claim.spec.resources else {}).get("storage", "0")
            },
            access_modes=claim.spec.access_modes,
            persistent_volume_reclaim_policy=found.reclaim_policy or "Delete",
            storage_class_name=found.metadata.name,
            volume_mode="Filesystem",
            mount_options=found.mount_options,
            claim_ref=rules.names(claim),
            host_path=core_v1.HostPathVolumeSource(path=path, type="DirectoryOrCreate"),
            node_affinity=core_v1.VolumeNodeAffinity(required=selector),
        ),
    )


def refusal(claim: Claim) -> str:
    """Return why a claim cannot have a directory, "" when it can."""
    if claim.spec.volume_mode == "Block":
        return "a directory is no block device: volumeMode Block is not supported"
    others = sorted(set(claim.spec.access_modes) - MODES)
    return f"a directory of one node cannot be shared by several: {', '.join(others)}" if others else ""


class LocalPath:
    """Make a volume for every claim that is ours to serve, and let go of those on nodes that are gone."""

    def __init__(self, context: Context) -> None:
        self.claims = context.informers.of(core.PERSISTENT_VOLUME_CLAIMS)
        self.volumes = context.informers.of(core.PERSISTENT_VOLUMES)
        self.nodes = context.informers.of(core.NODES)
        self._classes = context.informers.of(storage.STORAGE_CLASSES)
        self._writer = Writer(context.client, self.claims)
        self._volume_writer = Writer(context.client, self.volumes)
        self._events = context.events.recorder(NAME)

    async def reconcile(self, key: Key) -> float | None:
        """Provision for a claim (key with namespace), or look after a volume (without)."""
        if key.namespace:
            await self._provision(key)
        else:
            await self._release(key)
        return None

    async def _provision(self, key: Key) -> None:
        claim = self.claims.get(key)
        if claim is None or not _ours(claim) or claim.metadata.deletion_timestamp:
            return
        found = self._classes.get(Key("", rules.class_of(claim)))
        name = claim.metadata.annotations.get(rules.SELECTED_NODE, "")
        if found is None or not name or self.volumes.get(Key("", f"pvc-{claim.metadata.uid}")) is not None:
            return
        node = self.nodes.get(Key("", name))
        if why := refusal(claim) or ("" if node else f'node "{name}" is gone'):
            self._events.warning(claim, "ProvisioningFailed", why)
            if node is None:
                await self._choose_again(claim)
            return
        assert node is not None
        volume = await self._volume_writer.create(volume_for(claim, found, node))
        self._events.normal(
            claim, "ProvisioningSucceeded", f"Successfully provisioned volume {volume.metadata.name}"
        )

    async def _choose_again(self, claim: Claim) -> None:
        """Take the choice of a node back, so that the scheduler makes another."""
        marks = {k: v for k, v in claim.metadata.annotations.items() if k != rules.SELECTED_NODE}
        meta = msgspec.structs.replace(claim.metadata, annotations=marks)
        await self._writer.update(msgspec.structs.replace(claim, metadata=meta))

    async def _release(self, key: Key) -> None:
        """Where the node is gone for good, so is the directory: nothing holds the volume any more."""
        volume = self.volumes.get(key)
        if (
            volume is None
            or not volume.metadata.deletion_timestamp
            or FINALIZER not in volume.metadata.finalizers
        ):
            return
        if any(rules.allows(volume, node.metadata.name, node.metadata.labels) for node in self.nodes):
            return
        rest = tuple(name for name in volume.metadata.finalizers if name != FINALIZER)
        meta = msgspec.structs.replace(volume.metadata, finalizers=rest)
        await self._volume_writer.update(msgspec.structs.replace(volume, metadata=meta))


def _ours(claim: Claim) -> bool:
    return claim.metadata.annotations.get(PROVISIONER) == NAME and not claim.spec.volume_name


def build(context: Context) -> Controller[Key]:
    """Return the loop."""
    logic = LocalPath(context)
    controller = Controller("local-path-provisioner", logic)
    going = Index(logic.volumes, lambda v: ["going"] if v.metadata.deletion_timestamp else [])
    controller.watch(logic.claims, lambda claim: [key_of(claim)] if _ours(claim) else [])
    controller.watch(logic.volumes, lambda volume: [key_of(volume)])
    controller.watch(logic.nodes, lambda _: [key_of(volume) for volume in going.of("going")])
    return controller
