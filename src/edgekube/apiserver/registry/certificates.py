"""What is particular about writing CertificateSigningRequests (pkg/registry/certificates in Kubernetes)."""

from edgekube.api.resource import AnyResource
from edgekube.apiserver.registry.meta import timestamp, utcnow
from edgekube.apiserver.registry.strategy import prepare_status
from edgekube.apiserver.request import Tree


def prepare_csr_status(row: AnyResource, new: Tree, old: Tree) -> None:
    """Keep of a write to `/status` only status; new conditions get their times."""
    prepare_status(row, new, old)
    _stamp_conditions(new, old)


def prepare_approval(row: AnyResource, new: Tree, old: Tree) -> None:
    """Keep of a write to `/approval` only conditions."""
    prepare_status(row, new, old)
    status, before = new.setdefault("status", {}), old.get("status") or {}
    status.pop("certificate", None)
    if "certificate" in before:
        status["certificate"] = before["certificate"]
    _stamp_conditions(new, old)


def _stamp_conditions(new: Tree, old: Tree) -> None:
    now = timestamp(utcnow())
    before = {
        (c.get("type"), c.get("status")): c.get("lastTransitionTime")
        for c in (old.get("status") or {}).get("conditions") or ()
    }
    for condition in (new.get("status") or {}).get("conditions") or ():
        condition.setdefault("lastUpdateTime", now)
        known = before.get((condition.get("type"), condition.get("status")))
        condition.setdefault("lastTransitionTime", known or now)
