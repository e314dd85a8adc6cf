"""
What is particular about a kind when it is created or updated (registry strategies in Kubernetes).

A row names functions over JSON trees; kinds without a row get `DEFAULT`. Writes to the main
resource never touch status, writes to `status` never touch anything but status and metadata.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgekube.api.qos import qos_class
from edgekube.api.resource import AnyResource, Durability
from edgekube.apiserver.registry import services, workloads
from edgekube.apiserver.request import Tree

OnCreate = Callable[[Tree], None]
OnUpdate = Callable[[Tree, Tree], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One kind's particulars."""

    on_create: tuple[OnCreate, ...] = ()
    on_update: tuple[OnUpdate, ...] = ()
    """Called with the new and the old form."""
    generation_of: tuple[str, ...] = ("spec",)
    """Top-level fields whose change counts as a new generation; () for kinds without generation."""
    generation_of_rest: bool = False
    """Whether every field but metadata, and but a status with a subresource of its own, counts (custom resources)."""
    keeps_status: bool = False
    """Whether status may be sent with a create."""
    create_on_update: bool = False
    """Whether PUT of a missing object creates it."""
    unconditional: bool = True
    """Whether an update may leave out resourceVersion."""
    status_durability: Durability = Durability.SOFT
    returns_deleted: bool = False
    """Whether DELETE answers with the object instead of a Status."""
    protected: frozenset[str] = frozenset()
    """Names that may not be deleted."""


def pending_pod(pod: Tree) -> None:
    """Give a new Pod its first status."""
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod["spec"])}


def keep_qos(new: Tree, old: Tree) -> None:
    """Pod status writers need not repeat the QoS class."""
    before = (old.get("status") or {}).get("qosClass")
    if before:
        new.setdefault("status", {}).setdefault("qosClass", before)


def active_namespace(namespace: Tree) -> None:
    """Give a new Namespace its phase and the finalizer that the namespace controller takes away."""
    namespace["status"] = {"phase": "Active"}
    namespace.setdefault("spec", {})["finalizers"] = ["kubernetes"]


def keep_finalizers(new: Tree, old: Tree) -> None:
    """spec.finalizers of a Namespace change through `/finalize` only."""
    spec = new.setdefault("spec", {})
    if finalizers := (old.get("spec") or {}).get("finalizers"):
        spec["finalizers"] = finalizers
    else:
        spec.pop("finalizers", None)


def merge_string_data(secret: Tree, _old: Tree | None = None) -> None:
    """StringData is write-only: it goes into data, base64-encoded."""
    import base64  # noqa: PLC0415 - only Secrets

    if strings := secret.pop("stringData", None):
        data = secret.setdefault("data", {})
        data.update({name: base64.b64encode(text.encode()).decode() for name, text in strings.items()})


def pending_volume(obj: Tree) -> None:
    """Give a new PersistentVolume or claim its phase."""
    obj["status"] = {"phase": "Pending"}


def keep_spec(new: Tree, old: Tree) -> None:
    """What was asked for stays (CertificateSigningRequests)."""
    _carry(new, old, "spec")


def unattached(obj: Tree) -> None:
    """Give a new VolumeAttachment its status."""
    obj["status"] = {"attached": False}


def no_status(obj: Tree) -> None:
    """Give a new object an empty status: in Go it is no pointer, so it shows."""
    obj["status"] = {}


def no_load_balancer(obj: Tree) -> None:
    """Give a new Ingress its status."""
    obj["status"] = {"loadBalancer": {}}


def local_is_available(service: Tree) -> None:
    """An APIService that this server serves itself is available at once."""
    service["status"] = {}
    if "service" not in service.get("spec", {}):
        service["status"]["conditions"] = [{
            "lastTransitionTime": service["metadata"]["creationTimestamp"],
            "message": "Local APIServices are always available", "reason": "Local", "status": "True",
            "type": "Available",
        }]  # fmt: skip


def undefined(definition: Tree) -> None:
    """Give a new definition the finalizer that its objects are deleted by, and a status that says nothing yet."""
    finalizers = definition["metadata"].setdefault("finalizers", [])
    if CLEANUP not in finalizers:
        finalizers.append(CLEANUP)
    definition["status"] = {
        "acceptedNames": {"kind": "", "plural": ""},
        "conditions": [],
        "storedVersions": [],
    }


CLEANUP = "customresourcecleanup.apiextensions.k8s.io"

DEFAULT = Strategy()
PLAIN = Strategy(generation_of=())
CUSTOM = Strategy(generation_of_rest=True)
CUSTOM_WITHOUT_STATUS = Strategy(generation_of_rest=True, keeps_status=True)
DEPLOYMENT = Strategy(generation_of=("spec", "annotations"))

EMPTY_STATUS = Strategy(on_create=(no_status,))
NETWORKING: Mapping[str, Strategy] = {
    "ingresses.networking.k8s.io": Strategy(
        on_create=(no_load_balancer,), status_durability=Durability.DURABLE
    ),
    "servicecidrs.networking.k8s.io": Strategy(
        on_create=(no_status,), generation_of=(), status_durability=Durability.DURABLE
    ),
    "ipaddresses.networking.k8s.io": PLAIN,
    "certificatesigningrequests.certificates.k8s.io": Strategy(
        on_create=(no_status,), on_update=(keep_spec,), generation_of=()
    ),
}
STORAGE: Mapping[str, Strategy] = {
    "storageclasses.storage.k8s.io": Strategy(generation_of=(), returns_deleted=True),
    "volumeattributesclasses.storage.k8s.io": Strategy(generation_of=(), returns_deleted=True),
    "volumeattachments.storage.k8s.io": Strategy(
        on_create=(unattached,), generation_of=(), returns_deleted=True, status_durability=Durability.DURABLE
    ),
    "csidrivers.storage.k8s.io": Strategy(generation_of=(), returns_deleted=True),
    "csinodes.storage.k8s.io": Strategy(generation_of=(), returns_deleted=True),
    "csistoragecapacities.storage.k8s.io": PLAIN,
}
CONFIGURATION: Mapping[str, Strategy] = {
    "customresourcedefinitions.apiextensions.k8s.io": Strategy(
        on_create=(undefined,), status_durability=Durability.DURABLE, returns_deleted=True
    ),
    "priorityclasses.scheduling.k8s.io": Strategy(
        generation_of=("value", "globalDefault", "description", "preemptionPolicy")
    ),
    "runtimeclasses.node.k8s.io": PLAIN,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": Strategy(generation_of=("webhooks",)),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": Strategy(generation_of=("webhooks",)),
    "validatingadmissionpolicies.admissionregistration.k8s.io": EMPTY_STATUS,
    "apiservices.apiregistration.k8s.io": Strategy(on_create=(local_is_available,), generation_of=()),
    "flowschemas.flowcontrol.apiserver.k8s.io": EMPTY_STATUS,
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": EMPTY_STATUS,
}
WORKLOADS: Mapping[str, Strategy] = {
    "deployments.apps": DEPLOYMENT,
    "replicasets.apps": Strategy(on_create=(workloads.no_replicas,)),
    "statefulsets.apps": Strategy(on_create=(workloads.no_stateful_replicas,)),
    "daemonsets.apps": Strategy(on_create=(workloads.no_daemons,)),
    "controllerrevisions.apps": PLAIN,
    "replicationcontrollers": Strategy(on_create=(workloads.no_replicas,)),
    "podtemplates": Strategy(generation_of=("template",), returns_deleted=True),
    "jobs.batch": Strategy(on_create=(workloads.generate_selector,)),
    "cronjobs.batch": EMPTY_STATUS,
    "horizontalpodautoscalers.autoscaling": Strategy(on_create=(workloads.never_scaled,), generation_of=()),
    "poddisruptionbudgets.policy": Strategy(
        on_create=(workloads.no_disruptions,), status_durability=Durability.DURABLE
    ),
    "resourcequotas": Strategy(on_create=(no_status,), generation_of=(), returns_deleted=True),
    "limitranges": PLAIN,
}

STRATEGIES: Mapping[str, Strategy] = {
    "pods": Strategy(on_create=(pending_pod,), on_update=(keep_qos,), returns_deleted=True),
    "nodes": Strategy(generation_of=(), keeps_status=True),
    "namespaces": Strategy(
        on_create=(active_namespace,), on_update=(keep_finalizers,), generation_of=(),
        status_durability=Durability.DURABLE, protected=frozenset({"default", "kube-system", "kube-public"}),
    ),
    "configmaps": PLAIN,
    "secrets": Strategy(on_create=(merge_string_data,), on_update=(merge_string_data,), generation_of=()),
    "serviceaccounts": Strategy(generation_of=(), returns_deleted=True),
    "services": Strategy(
        on_update=(services.drop_by_type, services.keep_allocated), generation_of=(), create_on_update=True, returns_deleted=True,
        status_durability=Durability.DURABLE,
    ),
    "endpoints": Strategy(generation_of=(), create_on_update=True),
    "endpointslices.discovery.k8s.io": Strategy(generation_of=("endpoints", "ports", "addressType", "labels")),
    "events": Strategy(generation_of=(), create_on_update=True, keeps_status=True),
    "leases.coordination.k8s.io": Strategy(generation_of=(), create_on_update=True),
    "persistentvolumes": Strategy(on_create=(pending_volume,), generation_of=(), returns_deleted=True,
                                  status_durability=Durability.DURABLE),
    "persistentvolumeclaims": Strategy(on_create=(pending_volume,), generation_of=(), returns_deleted=True,
                                       status_durability=Durability.DURABLE),
    **WORKLOADS,
    **NETWORKING,
    **STORAGE,
    **CONFIGURATION,
}  # fmt: skip


def strategy_of(row: AnyResource) -> Strategy:
    """Return the row's strategy."""
    if row.custom is not None:
        return CUSTOM if "status" in row.subresources else CUSTOM_WITHOUT_STATUS
    return STRATEGIES.get(row.group_resource, DEFAULT)


def prepare_create(row: AnyResource, obj: Tree) -> None:
    """Make a decoded, stamped object ready for admission."""
    strategy = strategy_of(row)
    if not strategy.keeps_status:
        obj.pop("status", None)
    if strategy.generation_of:
        obj["metadata"]["generation"] = 1
    for hook in strategy.on_create:
        hook(obj)


def prepare_update(row: AnyResource, new: Tree, old: Tree) -> None:
    """Bring an update of the main resource into line with the stored form."""
    strategy = strategy_of(row)
    if "status" in row.subresources:
        _carry(new, old, "status")
    for hook in strategy.on_update:
        hook(new, old)
    counts = strategy.generation_of
    if strategy.generation_of_rest:
        counts = tuple((new.keys() | old.keys()) - {"metadata", "kind", "apiVersion"})
    if counts and any(_part(new, f) != _part(old, f) for f in counts):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def prepare_status(row: AnyResource, new: Tree, old: Tree) -> None:
    """Keep of a status write only status and metadata."""
    for field in old.keys() | new.keys():
        if field not in {"status", "metadata", "kind", "apiVersion"}:
            _carry(new, old, field)
    before = old["metadata"]
    for field in ("ownerReferences", "finalizers", *(("labels",) if row.group == "apps" else ())):
        if field in before:
            new["metadata"][field] = before[field]
        else:
            new["metadata"].pop(field, None)
    for hook in strategy_of(row).on_update:
        hook(new, old)


def _carry(new: Tree, old: Tree, field: str) -> None:
    if field in old:
        new[field] = old[field]
    else:
        new.pop(field, None)


def _part(obj: Tree, field: str) -> object:
    return obj.get(field) or (obj["metadata"].get(field) if field in {"annotations", "labels"} else None)
