"""ConfigMaps and Secrets."""

from base64 import b64decode
from typing import Any

import msgspec

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
LIMIT = 1024 * 1024
_FROZEN = "field is immutable when `immutable` is set"
_DOCKER_JSON = "kubernetes.io/dockerconfigjson"
_KEYS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    _DOCKER_JSON: (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def config_map(tree: Tree, problems: Problems) -> None:
    """Check a ConfigMap."""
    data, binary = tree.get("data", {}), tree.get("binaryData", {})
    for key in data:
        problems.each(f"data[{key}]", key, names.config_key(key))
        if key in binary:
            problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key in binary:
        problems.each(f"binaryData[{key}]", key, names.config_key(key))
    size = sum(len(text.encode()) for text in data.values()) + sum(
        len(text) * 3 // 4 for text in binary.values()
    )
    if size > LIMIT:
        problems.too_long("", LIMIT)


def config_map_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    _frozen(tree, old, ("data", "binaryData"), problems)


def secret(tree: Tree, problems: Problems) -> None:
    """Check a Secret."""
    data = tree.get("data", {})
    for key in data:
        problems.each(f"data[{key}]", key, names.config_key(key))
    if sum(len(text) * 3 // 4 for text in data.values()) > LIMIT:
        problems.too_long("data", LIMIT)
    _keys_of_type(tree, data, problems)


def secret_update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check what may not change."""
    problems.unchanged(tree, old, "type", "")
    _frozen(tree, old, ("data", "stringData"), problems)


def _keys_of_type(tree: Tree, data: Tree, problems: Problems) -> None:
    kind = tree.get("type", "")
    for key in _KEYS_OF_TYPE.get(kind, ()):
        if key not in data:
            problems.required(f"data[{key}]")
        elif key.startswith(".docker") and not _is_json(data[key]):
            problems.invalid(f"data[{key}]", "<secret contents redacted>", "invalid character in JSON")
    if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        problems.required("data[username]")
        problems.required("data[password]")
    if kind == "kubernetes.io/service-account-token":
        annotation = "kubernetes.io/service-account.name"
        if not tree.get("metadata", {}).get("annotations", {}).get(annotation):
            problems.required(f"metadata.annotations[{annotation}]")


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(b64decode(text))
    except (msgspec.DecodeError, ValueError):
        return False
    return True


def _frozen(tree: Tree, old: Tree, fields: tuple[str, ...], problems: Problems) -> None:
    if not old.get("immutable"):
        return
    if not tree.get("immutable"):
        problems.forbidden("immutable", _FROZEN)
    for field in fields:
        if (tree.get(field) or {}) != (old.get(field) or {}):
            problems.forbidden(field, _FROZEN)
