"""Rows of the storage.k8s.io group."""

from edgekube.api.resource import Resource, Scope
from edgekube.api.types import storage_v1 as t

GROUP = "storage.k8s.io"
CLUSTER = Scope.CLUSTER

STORAGE_CLASSES = Resource(
    GROUP, "v1", "StorageClass", "storageclasses", t.StorageClass, scope=CLUSTER, short_names=("sc",)
)
VOLUME_ATTACHMENTS = Resource(
    GROUP,
    "v1",
    "VolumeAttachment",
    "volumeattachments",
    t.VolumeAttachment,
    scope=CLUSTER,
    subresources=("status",),
)
CSI_DRIVERS = Resource(GROUP, "v1", "CSIDriver", "csidrivers", t.CSIDriver, scope=CLUSTER)
CSI_NODES = Resource(GROUP, "v1", "CSINode", "csinodes", t.CSINode, scope=CLUSTER)
CSI_STORAGE_CAPACITIES = Resource(
    GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities", t.CSIStorageCapacity
)
VOLUME_ATTRIBUTES_CLASSES = Resource(
    GROUP, "v1", "VolumeAttributesClass", "volumeattributesclasses", t.VolumeAttributesClass, scope=CLUSTER,
    short_names=("vac",),
)  # fmt: skip

RESOURCES = (
    STORAGE_CLASSES, VOLUME_ATTACHMENTS, CSI_DRIVERS, CSI_NODES, CSI_STORAGE_CAPACITIES, VOLUME_ATTRIBUTES_CLASSES,
)  # fmt: skip
