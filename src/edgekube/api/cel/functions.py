"""
Kubernetes' functions in CEL, besides the standard ones (k8s.io/apiserver/pkg/cel/library).

Receivers come first: `'a b'.split(' ')` calls `split('a b', ' ')`. Quantities are maps with their
amount in nanos; addresses and URLs are their texts, checked.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edgekube.api import quantity
from edgekube.api.cel import patterns

NANO = 10**9
MOST_DIGITS = 4
"""Characters of a precision (`.999`)."""


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    parts = list(text) if separator == "" else text.split(separator, -1 if limit < 0 else limit - 1)
    if separator == "" and 0 < limit < len(parts):
        return [*parts[: limit - 1], "".join(parts[limit - 1 :])]
    return parts


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= stop <= len(text):
        raise ValueError(f"index out of range: {start}, {stop}")
    return text[start:stop]


def _char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise ValueError(f"index out of range: {index}")
    return text[index : index + 1]


def _index_of(where: Any, what: Any, start: int = 0) -> int:
    if isinstance(where, str):
        return where.find(what, start)
    return next((number for number, item in enumerate(where) if item == what), -1)


def _last_index_of(where: Any, what: Any) -> int:
    if isinstance(where, str):
        return where.rfind(what)
    return max((number for number, item in enumerate(where) if item == what), default=-1)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return text.replace(old, new, limit)


def _format(text: str, values: list[Any]) -> str:
    left = iter(values)

    def verb(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        if match[1] and len(match[1]) > MOST_DIGITS:
            raise ValueError("format: precision is too large")
        return _verbs[match[2]](next(left), int(match[1][1:]) if match[1] else 6)

    try:
        return re.sub(r"%(\.\d+)?([sdfebxXo%])", verb, text)
    except StopIteration as error:
        raise ValueError("format: too few arguments") from error


_verbs: Mapping[str, Callable[[Any, int], str]] = {
    "s": lambda value, _: _text(value), "d": lambda value, _: str(int(value)),
    "f": lambda value, digits: f"{float(value):.{digits}f}", "e": lambda value, digits: f"{float(value):.{digits}e}",
    "b": lambda value, _: f"{int(value):b}", "o": lambda value, _: f"{int(value):o}",
    "x": lambda value, _: value.encode().hex() if isinstance(value, str) else f"{int(value):x}",
    "X": lambda value, _: value.encode().hex().upper() if isinstance(value, str) else f"{int(value):X}",
}  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    return "null" if value is None else str(value)


def _find(text: str, pattern: str) -> str:
    return next(patterns.found(text, pattern), "")


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    return list(islice(patterns.found(text, pattern), None if limit < 0 else limit))


def _sum(values: list[Any]) -> Any:
    if values and isinstance(values[0], timedelta):
        return sum(values, timedelta())
    return sum(values)


def _least(*values: Any) -> Any:
    return min(values[0] if len(values) == 1 and isinstance(values[0], list) else values)


def _most(*values: Any) -> Any:
    return max(values[0] if len(values) == 1 and isinstance(values[0], list) else values)


def _is_sorted(values: list[Any]) -> bool:
    return all(left <= right for left, right in pairwise(values))


def _quantity(text: str) -> dict[str, int]:
    return {"quantity": int(quantity.parse(text) * NANO)}


def _tries(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, quantity.InvalidQuantity):
            return False
        return True

    return check


def _amount(value: Any) -> int:
    found: int = value["quantity"] if isinstance(value, dict) else value * NANO
    return found


def _whole(value: dict[str, int]) -> int:
    amount, rest = divmod(value["quantity"], NANO)
    if rest:
        raise ValueError("cannot convert value to integer")
    return amount


def _compare(left: Any, right: Any) -> int:
    one, other = _amount(left), _amount(right)
    return (one > other) - (one < other)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if not parts.scheme and not text.startswith("/"):
        raise ValueError(f"URL parse error during conversion from string: {text}")
    return text


def _ip(text: str) -> str:
    ipaddress.ip_address(text)
    return text


def _cidr(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"network address parse error during conversion from string: {text}")
    ipaddress.ip_network(text, strict=False)
    return text


def _contains_ip(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


def _contains_cidr(network: str, other: str) -> bool:
    outer, inner = (ipaddress.ip_network(text, strict=False) for text in (network, other))
    if isinstance(outer, ipaddress.IPv4Network) and isinstance(inner, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    return (
        isinstance(outer, ipaddress.IPv6Network)
        and isinstance(inner, ipaddress.IPv6Network)
        and inner.subnet_of(outer)
    )


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "jsonpatch_escapeKey": lambda text: text.replace("~", "~0").replace("/", "~1"),
    "lowerAscii": lambda text: text.lower(), "upperAscii": lambda text: text.upper(), "trim": lambda text: text.strip(),
    "split": _split, "join": lambda parts, separator="": separator.join(parts), "replace": _replace,
    "substring": _substring, "charAt": _char_at, "indexOf": _index_of, "lastIndexOf": _last_index_of,
    "reverse": lambda value: value[::-1], "format": _format, "find": _find, "findAll": _find_all,
    "sum": _sum, "min": _least, "max": _most, "isSorted": _is_sorted,
    "quantity": _quantity, "isQuantity": _tries(quantity.parse), "asInteger": _whole,
    "asApproximateFloat": lambda value: value["quantity"] / NANO, "isInteger": lambda value: value["quantity"] % NANO == 0,
    "sign": lambda value: _compare(value, 0), "add": lambda a, b: {"quantity": _amount(a) + _amount(b)},
    "sub": lambda a, b: {"quantity": _amount(a) - _amount(b)}, "compareTo": _compare,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0, "isLessThan": lambda a, b: _compare(a, b) < 0,
    "url": _url, "isURL": _tries(_url), "getScheme": lambda text: urlsplit(text).scheme,
    "getHostname": lambda text: urlsplit(text).hostname or "", "getHost": lambda text: urlsplit(text).netloc.rpartition("@")[2],
    "getPort": lambda text: str(urlsplit(text).port or ""), "getEscapedPath": lambda text: urlsplit(text).path,
    "getQuery": lambda text: parse_qs(urlsplit(text).query),
    "ip": _ip, "isIP": _tries(_ip), "family": lambda text: ipaddress.ip_address(text).version,
    "isLoopback": lambda text: ipaddress.ip_address(text).is_loopback,
    "isUnspecified": lambda text: ipaddress.ip_address(text).is_unspecified,
    "isLinkLocalMulticast": lambda text: ipaddress.ip_address(text).is_multicast and ipaddress.ip_address(text).is_link_local,
    "isLinkLocalUnicast": lambda text: ipaddress.ip_address(text).is_link_local,
    "isGlobalUnicast": lambda text: not (ipaddress.ip_address(text).is_multicast or ipaddress.ip_address(text).is_loopback),
    "cidr": _cidr, "isCIDR": _tries(_cidr), "containsIP": _contains_ip, "containsCIDR": _contains_cidr,
    "prefixLength": lambda text: ipaddress.ip_network(text, strict=False).prefixlen,
    "masked": lambda text: str(ipaddress.ip_network(text, strict=False)),
}  # fmt: skip


def moment(text: str) -> datetime:
    """Return a date-time as CEL's timestamp."""
    return datetime.fromisoformat(text)
