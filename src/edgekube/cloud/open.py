"""Find and open cloud providers: entry points of the group `edgekube.cloud`, named by URL scheme."""

from importlib.metadata import entry_points

from edgekube.cloud.base import Cloud, CloudError

OPENERS = "edgekube.cloud"


def open_cloud(url: str) -> Cloud:
    """Open the provider that `url` names, e.g. `edge://`. Raises CloudError."""
    scheme = url.partition(":")[0]
    found = entry_points(group=OPENERS, name=scheme)
    if not found:
        known = ", ".join(sorted(entry_points(group=OPENERS).names)) or "none"
        raise CloudError(f"{url}: no cloud provider is called {scheme!r} here; there is: {known}")
    cloud: Cloud = next(iter(found)).load()(url)
    return cloud
