"""Kubernetes quantities such as `500m`, `1Gi`, `1e3` (apimachinery's resource.Quantity).

Amounts are exact to a billionth and at most 2**63 - 1, like Kubernetes': finer amounts are
rounded away from zero, larger ones are cut to the limit.
"""

import re
from decimal import Context, Decimal
from functools import lru_cache

from edgekube.lib.errors import EdgekubeError

PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
_SHAPE = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([A-Za-z]*)([+-]?[0-9]*)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_NAMES = {power: suffix for suffix, power in _BINARY.items()}
_NANO = 10**9
_LIMIT = (2**63 - 1) * _NANO
_EXACT = Context(prec=60)
_LONGEST = 400
"""Characters; nobody means a longer number, and arithmetic on one is slow."""


class InvalidQuantity(EdgekubeError):
    """The text is no quantity; the message is Kubernetes' own."""


def parse(text: str) -> Decimal:
    """Return the amount a quantity stands for; raise InvalidQuantity."""
    nanos, _ = _read(text)
    return Decimal(nanos).scaleb(-9, context=_EXACT)


def canonical(text: str | float) -> str:
    """Return the form Kubernetes stores: no fraction, the largest fitting suffix of the same family."""
    return _canonical(text if isinstance(text, str) else repr(text))


def milli(text: str) -> int:
    """Return the amount in thousandths, rounded up."""
    return -(-_read(text)[0] // 10**6)


def value(text: str) -> int:
    """Return the amount in whole units, rounded up."""
    return -(-_read(text)[0] // _NANO)


@lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    nanos, family = _read(text)
    if nanos == 0:
        return "0"
    if family == "binary" and abs(nanos) >= 1024 * _NANO and nanos % _NANO == 0:
        return _with_suffix_of_1024(nanos // _NANO)
    power = -9
    while nanos % 1000 == 0 and power < 18:
        nanos //= 1000
        power += 3
    if family == "exponent":
        return f"{nanos}e{power}" if power else str(nanos)
    return f"{nanos}{_DECIMAL_NAMES[power]}"


def _with_suffix_of_1024(units: int) -> str:
    power = 0
    while units % 1024 == 0 and power < 60:
        units //= 1024
        power += 10
    return f"{units}{_BINARY_NAMES.get(power, '')}"


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[int, str]:
    """Return billionths and the suffix family: decimal, binary or exponent."""
    match = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or not (match[2] or match[3]):
        raise InvalidQuantity(f"quantities must match the regular expression '{PATTERN}'")
    sign, whole, fraction, suffix, exponent = match.groups(default="")
    digits = int((whole + fraction) or "0")
    scale, shift, family = _scale(suffix, exponent)
    nanos = _shifted(digits << shift, scale + 9 - len(fraction))
    return (-nanos if sign == "-" else nanos), family


def _scale(suffix: str, exponent: str) -> tuple[int, int, str]:
    if suffix in ("e", "E") and exponent not in ("", "+", "-"):
        return int(exponent), 0, "exponent"
    if not exponent:
        if suffix in _DECIMAL:
            return _DECIMAL[suffix], 0, "decimal"
        if suffix in _BINARY:
            return 0, _BINARY[suffix], "binary"
    raise InvalidQuantity("unable to parse quantity's suffix")


def _shifted(digits: int, power: int) -> int:
    """Return digits * 10**power as a whole number within the limits, never working on huge powers."""
    if digits == 0:
        return 0
    if power >= 0:
        return _LIMIT if power > 40 else min(digits * 10**power, _LIMIT)
    return 1 if power < -_LONGEST else min(-(-digits // 10**-power), _LIMIT)
