"""What configures a cluster: classes, certificate requests, webhooks, policies, API services, flows, leases."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import (
    AGE,
    NONE,
    UNSET,
    Column,
    Printer,
    age,
    columns,
    human,
    integer,
    name,
    spec,
    status,
)
from edgekube.apiserver.request import Tree


def priority_cells(kind: Tree, now: datetime) -> list[Any]:
    """Return a PriorityClass' cells."""
    return [
        name(kind), kind.get("value", 0), kind.get("globalDefault", False), age(kind, now),
        kind.get("preemptionPolicy", "PreemptLowerPriority"),
    ]  # fmt: skip


def runtime_cells(kind: Tree, now: datetime) -> list[Any]:
    """Return a RuntimeClass' cells."""
    return [name(kind), kind.get("handler", ""), age(kind, now)]


def _csr_state(request: Tree) -> str:
    """Return `Approved,Issued` and the like."""
    kinds = {condition["type"] for condition in status(request).get("conditions") or ()}
    text = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        text += ",Failed"
    return f"{text},Issued" if status(request).get("certificate") else text


def request_cells(request: Tree, now: datetime) -> list[Any]:
    """Return a CertificateSigningRequest's cells."""
    about = spec(request)
    seconds = about.get("expirationSeconds")
    return [
        name(request), age(request, now), about.get("signerName") or NONE, about.get("username", ""),
        NONE if seconds is None else human(seconds), _csr_state(request),
    ]  # fmt: skip


def webhooks_cells(configuration: Tree, now: datetime) -> list[Any]:
    """Return a webhook configuration's cells."""
    return [name(configuration), len(configuration.get("webhooks") or ()), age(configuration, now)]


def policy_cells(policy: Tree, now: datetime) -> list[Any]:
    """Return a ValidatingAdmissionPolicy's cells."""
    about = spec(policy)
    kind = about.get("paramKind")
    shown = f"{kind['apiVersion']}/{kind['kind']}" if kind else UNSET
    return [name(policy), len(about.get("validations") or ()), shown, age(policy, now)]


def mutations_cells(policy: Tree, now: datetime) -> list[Any]:
    """Return a MutatingAdmissionPolicy's cells."""
    about = spec(policy)
    kind = about.get("paramKind")
    shown = f"{kind['apiVersion']}/{kind['kind']}" if kind else UNSET
    return [name(policy), len(about.get("mutations") or ()), shown, age(policy, now)]


def binding_cells(binding: Tree, now: datetime) -> list[Any]:
    """Return a ValidatingAdmissionPolicyBinding's cells."""
    about = spec(binding)
    ref = about.get("paramRef")
    shown = UNSET
    if ref:
        space = ref.get("namespace")
        shown = f"{space}/{ref.get('name', '*')}" if space else ref.get("name", "*")
    return [name(binding), about.get("policyName", ""), shown, age(binding, now)]


def api_service_cells(service: Tree, now: datetime) -> list[Any]:
    """Return an APIService's cells."""
    ref = spec(service).get("service")
    where = f"{ref['namespace']}/{ref['name']}" if ref else "Local"
    available = next((c for c in status(service).get("conditions") or () if c["type"] == "Available"), None)
    text = "Unknown" if available is None else str(available["status"])
    if available is not None and text != "True":
        text = f"{text} ({available.get('reason', '')})"
    return [name(service), where, text, age(service, now)]


def flow_cells(schema: Tree, now: datetime) -> list[Any]:
    """Return a FlowSchema's cells."""
    about = spec(schema)
    level = (about.get("priorityLevelConfiguration") or {}).get("name", NONE)
    method = (about.get("distinguisherMethod") or {}).get("type", NONE)
    dangling = next((c for c in status(schema).get("conditions") or () if c["type"] == "Dangling"), None)
    missing = "?" if dangling is None else str(dangling["status"])
    return [name(schema), level, about.get("matchingPrecedence", 0), method, age(schema, now), missing]


def level_cells(level: Tree, now: datetime) -> list[Any]:
    """Return a PriorityLevelConfiguration's cells."""
    about = spec(level)
    limited, exempt = about.get("limited") or {}, about.get("exempt") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    shares = (limited or exempt).get("nominalConcurrencyShares", NONE)
    return [
        name(level), about.get("type", ""), shares, queuing.get("queues", NONE), queuing.get("handSize", NONE),
        queuing.get("queueLengthLimit", NONE), age(level, now),
    ]  # fmt: skip


def lease_cells(lease: Tree, now: datetime) -> list[Any]:
    """Return a Lease's cells."""
    return [name(lease), spec(lease).get("holderIdentity", ""), age(lease, now)]


_WEBHOOKS = Printer(columns(integer("Webhooks"), AGE), webhooks_cells)
_ADMISSION, _FLOW = "admissionregistration.k8s.io", "flowcontrol.apiserver.k8s.io"
PRINTERS = {
    "priorityclasses.scheduling.k8s.io": Printer(
        columns(integer("Value"), Column("Global-Default", type="boolean"), AGE, "PreemptionPolicy"), priority_cells
    ),
    "runtimeclasses.node.k8s.io": Printer(columns("Handler", AGE), runtime_cells),
    "certificatesigningrequests.certificates.k8s.io": Printer(
        columns(AGE, "SignerName", "Requestor", "RequestedDuration", "Condition"), request_cells
    ),
    f"validatingwebhookconfigurations.{_ADMISSION}": _WEBHOOKS,
    f"mutatingwebhookconfigurations.{_ADMISSION}": _WEBHOOKS,
    f"validatingadmissionpolicies.{_ADMISSION}": Printer(
        columns(integer("Validations"), "ParamKind", AGE), policy_cells
    ),
    f"validatingadmissionpolicybindings.{_ADMISSION}": Printer(
        columns("PolicyName", "ParamRef", AGE), binding_cells
    ),
    f"mutatingadmissionpolicies.{_ADMISSION}": Printer(
        columns(integer("Mutations"), "ParamKind", AGE), mutations_cells
    ),
    f"mutatingadmissionpolicybindings.{_ADMISSION}": Printer(
        columns("PolicyName", "ParamRef", AGE), binding_cells
    ),
    "apiservices.apiregistration.k8s.io": Printer(columns("Service", "Available", AGE), api_service_cells),
    f"flowschemas.{_FLOW}": Printer(
        columns("PriorityLevel", integer("MatchingPrecedence"), "DistinguisherMethod", AGE, "MissingPL"), flow_cells
    ),
    f"prioritylevelconfigurations.{_FLOW}": Printer(
        columns("Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", AGE), level_cells
    ),
    "leases.coordination.k8s.io": Printer(columns("Holder", AGE), lease_cells),
}  # fmt: skip
