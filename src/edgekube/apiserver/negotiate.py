"""
Which representation a client wants (RFC 9110 Accept; Kubernetes docs, "Alternate representations").

`application/json;as=Table;v=v1;g=meta.k8s.io` asks for a transformed JSON answer.
"""

from dataclasses import dataclass
from functools import lru_cache

from edgekube.api.errors import NotAcceptable
from edgekube.apiserver.request import JSON

YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ALIASES = {
    "application/json": JSON,
    "*/*": JSON,
    "application/*": JSON,
    "application/yaml": YAML,
    PROTOBUF: PROTOBUF,
}
TRANSFORMS = frozenset({"", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


@dataclass(frozen=True, slots=True)
class Media:
    """The representation chosen: `transform` is "" for the object itself."""

    type: str = JSON
    transform: str = ""
    fallback: bool = False
    """Whether JSON will do where this type cannot be had (custom resources have no protobuf form)."""


@dataclass(frozen=True, slots=True)
class _Offer:
    type: str
    parameters: dict[str, str]
    quality: float


def offers(accept: str) -> list[_Offer]:
    """Take an Accept header apart, best first."""
    found = []
    for clause in accept.split(","):
        name, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if name:
            found.append(_Offer(name.lower(), parameters, quality))
    return sorted(found, key=lambda offer: -offer.quality)


@lru_cache(maxsize=256)
def choose(accept: str) -> Media:
    """Return what to answer with; raises NotAcceptable."""
    for offer in offers(accept or "*/*"):
        media = ALIASES.get(offer.type)
        transform = offer.parameters.get("as", "")
        known = transform in TRANSFORMS and (not transform or offer.parameters.get("v") == "v1")
        if media == PROTOBUF and transform:
            continue
        if media and known:
            return Media(media, transform, media == PROTOBUF and _takes_json(accept))
    raise not_acceptable()


def _takes_json(accept: str) -> bool:
    return any(ALIASES.get(offer.type) == JSON and "as" not in offer.parameters for offer in offers(accept))


def not_acceptable() -> NotAcceptable:
    """Return the answer to those who take nothing that we have."""
    kinds = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    return NotAcceptable(f"only the following media types are accepted: {kinds}")
