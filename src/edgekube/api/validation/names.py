"""Rules of names and other short texts; each function returns what is wrong, in Kubernetes' words.

Source: k8s.io/apimachinery/pkg/util/validation.
"""

import ipaddress
import re
from collections.abc import Callable

Rule = Callable[[str], list[str]]

_LABEL_FMT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FMT = _LABEL_FMT + r"(\." + _LABEL_FMT + ")*"
_LABEL_1035_FMT = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED_FMT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_FMT = f"({_QUALIFIED_FMT})?"
_KEY_FMT = "[-._a-zA-Z0-9]+"
_PERCENT_FMT = "[0-9]+%"

_WILDCARD_FMT = r"\*\." + _SUBDOMAIN_FMT
_PATH_FMT = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"

_LABEL = re.compile(_LABEL_FMT)
_WILDCARD = re.compile(_WILDCARD_FMT)
_PATH = re.compile(_PATH_FMT)
_SUBDOMAIN = re.compile(_SUBDOMAIN_FMT)
_LABEL_1035 = re.compile(_LABEL_1035_FMT)
_QUALIFIED = re.compile(_QUALIFIED_FMT)
_KEY = re.compile(_KEY_FMT)
_PERCENT = re.compile(_PERCENT_FMT)
_PORT_CHARACTERS = re.compile("[-a-z0-9]+")
_VARIABLE = re.compile("[ -<>-~]+")

LABEL_LENGTH = 63
SUBDOMAIN_LENGTH = 253


def _explained(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_ERROR = _explained(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character",
    _LABEL_FMT, "my-name", "123-abc",
)  # fmt: skip
_SUBDOMAIN_ERROR = _explained(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character",
    _SUBDOMAIN_FMT, "example.com",
)  # fmt: skip
_WILDCARD_ERROR = _explained(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    _WILDCARD_FMT, "*.example.com",
)  # fmt: skip
_PATH_ERROR = f"(regex used for validation is '{_PATH_FMT}')"
_LABEL_1035_ERROR = _explained(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character",
    _LABEL_1035_FMT, "my-name", "abc-123",
)  # fmt: skip
_QUALIFIED_ERROR = _explained(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED_FMT, "MyName", "my.name", "123-abc",
)  # fmt: skip
_VALUE_ERROR = _explained(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character",
    _VALUE_FMT, "MyValue", "my_value", "12345",
)  # fmt: skip
_KEY_ERROR = _explained(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _KEY_FMT, "key.name", "KEY_NAME", "key-name",
)  # fmt: skip
_PERCENT_ERROR = _explained(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT_FMT, "1%", "93%"
)


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def _checked(text: str, limit: int, pattern: re.Pattern[str], error: str) -> list[str]:
    found = [_too_long(limit)] if len(text.encode()) > limit else []
    return found if pattern.fullmatch(text) else [*found, error]


def label(text: str) -> list[str]:
    """RFC 1123 label: at most 63 of a-z, 0-9 and `-`."""
    return _checked(text, LABEL_LENGTH, _LABEL, _LABEL_ERROR)


def label_1035(text: str) -> list[str]:
    """RFC 1035 label: starts with a letter (Services)."""
    return _checked(text, LABEL_LENGTH, _LABEL_1035, _LABEL_1035_ERROR)


def subdomain(text: str) -> list[str]:
    """RFC 1123 subdomain: at most 253 bytes of labels and dots."""
    return _checked(text, SUBDOMAIN_LENGTH, _SUBDOMAIN, _SUBDOMAIN_ERROR)


def wildcard_subdomain(text: str) -> list[str]:
    """Check `*.` and a subdomain (hosts of an Ingress)."""
    return _checked(text, SUBDOMAIN_LENGTH, _WILDCARD, _WILDCARD_ERROR)


def domain_prefixed_path(text: str) -> list[str]:
    """Check `example.com/some/path` (controllers of an IngressClass)."""
    domain, _, path = text.partition("/")
    if not domain or not path:
        return ['must be a domain-prefixed path (such as "acme.io/foo")']
    found = subdomain(domain)
    if not _PATH.fullmatch(path):
        found.append(f"Invalid path {_PATH_ERROR}")
    return found


def path_segment(text: str) -> list[str]:
    """Anything that can be one part of a URL path (RBAC)."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{bad}'" for bad in "/%" if bad in text]


def as_prefix(rule: Rule, text: str) -> list[str]:
    """Check a generateName: a trailing `-` will be followed by something."""
    return rule(f"{text[:-1]}a" if len(text) > 1 and text.endswith("-") else text)


def qualified(text: str) -> list[str]:
    """Check the key of a label, an annotation or a taint: `[prefix/]name`."""
    *prefixes, name = text.split("/")
    if len(prefixes) > 1:
        return [
            f"a qualified name {_QUALIFIED_ERROR} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    found = []
    if prefixes:
        found = [
            f"prefix part {error}"
            for error in (subdomain(prefixes[0]) if prefixes[0] else ["must be non-empty"])
        ]
    if not name:
        found.append("name part must be non-empty")
    elif len(name.encode()) > LABEL_LENGTH:
        found.append(f"name part {_too_long(LABEL_LENGTH)}")
    return found if _QUALIFIED.fullmatch(name) else [*found, f"name part {_QUALIFIED_ERROR}"]


def label_value(text: str) -> list[str]:
    """Check the value of a label."""
    if not text:
        return []
    return _checked(text, LABEL_LENGTH, _QUALIFIED, _VALUE_ERROR)


def config_key(text: str) -> list[str]:
    """Check a key of a ConfigMap or Secret: a file name."""
    found = _checked(text, SUBDOMAIN_LENGTH, _KEY, _KEY_ERROR)
    if text in (".", ".."):
        found.append(f"must not be '{text}'")
    elif text.startswith(".."):
        found.append("must not start with '..'")
    return found


def variable(text: str) -> list[str]:
    """Check an environment variable's name."""
    if _VARIABLE.fullmatch(text):
        return []
    return [
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
    ]


def port_number(number: int) -> list[str]:
    """Check a port."""
    return [] if 1 <= number <= 65535 else ["must be between 1 and 65535, inclusive"]


def port_name(text: str) -> list[str]:
    """Check an IANA service name (RFC 6335)."""
    found = [_too_long(15)] if len(text) > 15 else []
    if not _PORT_CHARACTERS.fullmatch(text):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= letter <= "z" for letter in text):
        found.append("must contain at least one letter (a-z)")
    if "--" in text:
        found.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def port(value: int | str) -> list[str]:
    """Check a port's number or name."""
    return port_number(value) if isinstance(value, int) else port_name(value)


def percent(text: str) -> list[str]:
    """Check a percentage."""
    return [] if _PERCENT.fullmatch(text) else [_PERCENT_ERROR]


def ip_address(text: str) -> list[str]:
    """Check an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"] if "%" in text else []


def cidr(text: str) -> list[str]:
    """Check an address range."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    return [] if "/" in text else ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
