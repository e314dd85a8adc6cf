"""CustomResourceDefinitions (apiextensions/v1/defaults.go)."""

from edgekube.api.defaults.fill import Tree, fill, fill_empty


def custom_definition(tree: Tree) -> None:
    """Fill a definition: names that follow from the kind, no conversion, the storage version."""
    spec = tree.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind", "")
    fill_empty(names, {"singular": kind.lower(), "listKind": f"{kind}List"} if kind else {})
    conversion = spec.setdefault("conversion", {})
    fill_empty(conversion, {"strategy": "None"})
    service = (conversion.get("webhook") or {}).get("clientConfig", {}).get("service")
    if service is not None:
        fill(service, {"port": 443})
