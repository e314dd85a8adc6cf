"""ConfigMaps, Secrets, ServiceAccounts."""

from datetime import datetime
from typing import Any

from edgekube.apiserver.printers.base import AGE, Column, Printer, age, columns, integer, name
from edgekube.apiserver.request import Tree


def config_map_cells(config: Tree, now: datetime) -> list[Any]:
    """Return a ConfigMap's cells."""
    return [
        name(config),
        len(config.get("data") or ()) + len(config.get("binaryData") or ()),
        age(config, now),
    ]


def secret_cells(secret: Tree, now: datetime) -> list[Any]:
    """Return a Secret's cells."""
    return [name(secret), secret.get("type", ""), len(secret.get("data") or ()), age(secret, now)]


def account_cells(account: Tree, now: datetime) -> list[Any]:
    """Return a ServiceAccount's cells."""
    return [name(account), len(account.get("secrets") or ()), age(account, now)]


PRINTERS = {
    "configmaps": Printer(columns(Column("Data"), AGE), config_map_cells),
    "secrets": Printer(columns("Type", integer("Data"), AGE), secret_cells),
    "serviceaccounts": Printer(columns("Secrets", AGE), account_cells),
}
