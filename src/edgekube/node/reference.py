"""Names of images (the distribution project's reference grammar)."""

import re

_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_NAME = rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*"
_REFERENCE = re.compile(
    rf"({_NAME})(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{{32,}})?"
)
LENGTH = 255


def flaw(image: str) -> str:
    """Return what is wrong with an image's name; "" nothing."""
    found = _REFERENCE.fullmatch(image)
    if found is not None:
        return "" if len(found[1]) <= LENGTH else "repository name must not be more than 255 characters"
    if _REFERENCE.fullmatch(image.lower()):
        return f"invalid reference format: repository name ({image}) must be lowercase"
    return "invalid reference format"
