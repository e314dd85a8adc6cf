"""Stores by URL: the scheme names the adapter, found among the entry points of group `edgekube.store`."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from edgekube.store.base import Store, StoreError

OPENERS = "edgekube.store"
RESTORERS = "edgekube.store.restore"


def open_store(url: str) -> Store:
    """Open the store that `url` names, e.g. `memory://` or `sqlite:///var/lib/edgekube/state.db`. Raises StoreError."""
    store: Store = _adapter(OPENERS, url)(url)
    return store


def restore(url: str, path: Path) -> None:
    """Make the store that `url` names out of the backup at `path`, while nothing runs on it. Raises StoreError."""
    _adapter(RESTORERS, url)(url, path)


def _adapter(group: str, url: str) -> Any:
    scheme = url.partition(":")[0]
    found = entry_points(group=group, name=scheme)
    if not found:
        known = ", ".join(sorted(entry_points(group=group).names)) or "none"
        raise StoreError(f"{url}: no store is called {scheme!r} here; there is: {known}")
    return next(iter(found)).load()
