"""$(VAR) references in env values, commands, arguments and sub-paths (third_party/forked/golang/expansion)."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; unknown names stay as they are; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return known.get(match[2], match[0])

    return _REFERENCE.sub(value, text)
