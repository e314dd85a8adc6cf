"""
Files of variables, as init containers write them for others (KEP-3721).

A line is NAME='value', and the value may go on over several lines; NAME=value without quotes is taken
too. Empty lines and lines that begin with # say nothing.
"""

import re

from edgekube.lib.errors import EdgekubeError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
LIMIT = 64 << 10
"""Bytes such a file may have (as in the KEP)."""


class BadEnvFile(EdgekubeError):
    """The file is no file of variables."""


def parse(text: str) -> dict[str, str]:
    """Return the variables; of a name given twice the last counts. Raises BadEnvFile."""
    found: dict[str, str] = {}
    rest = text
    while rest:
        line, _, rest = rest.partition("\n")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.strip().partition("=")
        if not equals or _NAME.fullmatch(name) is None:
            raise BadEnvFile(f"invalid environment variable line {line.strip()!r}")
        if value.startswith("'"):
            quoted, end, after = f"{value[1:]}\n{rest}".partition("'")
            more, _, rest = after.partition("\n")
            if not end or more.strip():
                raise BadEnvFile(f"the value of {name} does not end with a quote")
            value = quoted
        found[name] = value
    return found
