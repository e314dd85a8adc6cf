"""Secrets. ConfigMaps have no defaults."""

from base64 import b64encode

from edgekube.api.defaults.fill import Tree, fill_empty


def secret(tree: Tree) -> None:
    """Fill a Secret; `stringData` is only for writing and becomes `data`."""
    fill_empty(tree, {"type": "Opaque"})
    plain = tree.pop("stringData", {})
    if plain:
        encoded = {key: b64encode(text.encode()).decode() for key, text in plain.items()}
        tree["data"] = {**tree.get("data", {}), **encoded}
