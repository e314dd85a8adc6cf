"""$(VAR) references in env values, commands, arguments and sub-paths (third_party/forked/golang/expansion)."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


def missing(text: str, known: Mapping[str, str]) -> str:
    """Return the first name that `text` refers to and that is not known; "" none."""
    names = (match[2] for match in _REFERENCE.finditer(text) if match[1] != "$")
    return next((name for name in names if name not in known), "")


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; unknown names stay as they are; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return known.get(match[2], match[0])

    return _REFERENCE.sub(value, text)
