"""APIServices."""

from edgekube.api.defaults.fill import Tree, fill, present

HTTPS = 443


def api_service(tree: Tree) -> None:
    """Fill an APIService."""
    for service in present(tree.get("spec", {}), ("service",)):
        fill(service, {"port": HTTPS})
