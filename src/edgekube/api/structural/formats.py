"""The string formats of OpenAPI that Kubernetes checks; others say nothing (kube-openapi strfmt)."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from urllib.parse import urlsplit

_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d|w))+|\d+ ?(ns|us|ms|s|m|h|d|w)\w*", re.ASCII)
_UUID = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?([1-5])?[0-9a-f]{3,4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE
)
_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)
_HOST = re.compile(
    r"([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.?"
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def _tries(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _date_time(text: str) -> datetime:
    if "T" not in text.upper() or not re.search(r"(Z|[+-]\d\d:\d\d)$", text, re.IGNORECASE):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def _uri(text: str) -> None:
    if not urlsplit(text).scheme and not text.startswith("/"):
        raise ValueError(text)


CHECKS: Mapping[str, Callable[[str], bool]] = {
    "date-time": _tries(_date_time),
    "datetime": _tries(_date_time),
    "date": _tries(date.fromisoformat),
    "duration": lambda text: _DURATION.fullmatch(text) is not None,
    "ipv4": _tries(ipaddress.IPv4Address),
    "ipv6": _tries(ipaddress.IPv6Address),
    "cidr": lambda text: "/" in text and _tries(lambda t: ipaddress.ip_network(t, strict=False))(text),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "hostname": lambda text: len(text) <= 253 and _HOST.fullmatch(text) is not None,
    "email": lambda text: _EMAIL.fullmatch(text) is not None,
    "uri": _tries(_uri),
    "byte": _tries(lambda text: base64.b64decode(text, validate=True)),
}  # fmt: skip
