"""Short stable names for pod templates, as Kubernetes forms them (FNV-1a, rand.SafeEncodeString)."""

import msgspec

from edgekube.api.types import core_v1, meta_v1

HASH_LABEL = "pod-template-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels, so that no hash is a word."""
_OFFSET, _PRIME, _MASK = 0x811C9DC5, 0x01000193, 0xFFFFFFFF


def fnv1a(data: bytes) -> int:
    """Return the 32-bit FNV-1a hash."""
    value = _OFFSET
    for byte in data:
        value = (value ^ byte) * _PRIME & _MASK
    return value


def template_hash(template: core_v1.PodTemplateSpec, collisions: int) -> str:
    """Return the hash of a template; another one for every count of collisions."""
    return hash_of(msgspec.json.encode(template, order="deterministic"), collisions)


def hash_of(data: bytes, collisions: int) -> str:
    """Return a short hash of anything encoded; another one for every count of collisions."""
    if collisions:
        data += collisions.to_bytes(8, "little")
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(fnv1a(data)))


def with_label(template: core_v1.PodTemplateSpec, value: str) -> core_v1.PodTemplateSpec:
    """Return the template whose pods carry the hash label."""
    meta = template.metadata or meta_v1.ObjectMeta()
    labelled = msgspec.structs.replace(meta, labels={**meta.labels, HASH_LABEL: value})
    return msgspec.structs.replace(template, metadata=labelled)


def same_template(left: core_v1.PodTemplateSpec, right: core_v1.PodTemplateSpec) -> bool:
    """Whether two templates make the same pods, the hash label aside."""
    return left.spec == right.spec and _bare(left) == _bare(right)


def _bare(template: core_v1.PodTemplateSpec) -> meta_v1.ObjectMeta:
    meta = template.metadata or meta_v1.ObjectMeta()
    labels = {name: value for name, value in meta.labels.items() if name != HASH_LABEL}
    return msgspec.structs.replace(meta, labels=labels, creation_timestamp="")
