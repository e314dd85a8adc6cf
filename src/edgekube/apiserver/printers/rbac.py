"""Roles and their bindings."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import AGE, Column, Printer, age, columns, name
from edgekube.apiserver.request import Tree


def role_cells(role: Tree, _now: datetime) -> list[Any]:
    """Return a Role's or ClusterRole's cells."""
    return [name(role), role["metadata"].get("creationTimestamp", "")]


def binding_cells(binding: Tree, now: datetime) -> list[Any]:
    """Return a binding's cells."""
    ref, subjects = binding.get("roleRef") or {}, binding.get("subjects") or ()
    accounts = [f"{s.get('namespace', '')}/{s['name']}" for s in subjects if s["kind"] == "ServiceAccount"]
    users = [s["name"] for s in subjects if s["kind"] == "User"]
    groups = [s["name"] for s in subjects if s["kind"] == "Group"]
    lists = [", ".join(names) for names in (users, groups, accounts)]
    return [name(binding), f"{ref.get('kind', '')}/{ref.get('name', '')}", age(binding, now), *lists]


_ROLE = Printer(columns(Column("Created At")), role_cells)
_BINDING = Printer(
    columns(
        Column("Role"),
        AGE,
        Column("Users", priority=1),
        Column("Groups", priority=1),
        Column("ServiceAccounts", priority=1),
    ),
    binding_cells,
)
PRINTERS = {
    "roles.rbac.authorization.k8s.io": _ROLE,
    "clusterroles.rbac.authorization.k8s.io": _ROLE,
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
}
