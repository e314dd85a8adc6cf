"""
Certificate signing requests (pkg/apis/certificates/validation).

What is inside the PKCS#10 request is checked by `pkcs10`, which needs no cryptography library:
that the PEM holds a well-formed request. That its signature is good is for the signer to see.
"""

import base64
import binascii
import re
from typing import Any

from edgekube.api.validation import names
from edgekube.api.validation.problems import Problems

Tree = dict[str, Any]
USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
LEGACY = "kubernetes.io/legacy-unknown"
SHORTEST = 600
DECIDED = ("Approved", "Denied")
KNOWN = (*DECIDED, "Failed")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n(.*?)-----END \1-----", re.DOTALL)
_SIGNER_LENGTH = 571


def certificate_request(tree: Tree, problems: Problems) -> None:
    """Check a new CertificateSigningRequest."""
    spec = tree.get("spec", {})
    request = spec.get("request", "")
    if why := pkcs10(request):
        problems.invalid("spec.request", request, why)
    _usages(spec.get("usages", ()), problems)
    if spec.get("signerName") == LEGACY:
        problems.invalid(
            "spec.signerName", LEGACY, "the legacy signerName is not allowed via this API version"
        )
    else:
        _signer_name(spec.get("signerName", ""), "spec.signerName", problems)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < SHORTEST:
        problems.invalid(
            "spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)"
        )
    conditions(tree, problems)


def update(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check an update of the main resource: status is not its business."""
    _kept(tree, old, problems, approves=False)
    _certificate(tree, old, problems, signs=False)


def status(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check an update of `/status`: a certificate may be put in, a decision may not."""
    _kept(tree, old, problems, approves=False)
    _certificate(tree, old, problems, signs=True)
    conditions(tree, problems)


def approval(tree: Tree, old: Tree, problems: Problems) -> None:
    """Check an update of `/approval`: a decision may be added."""
    _kept(tree, old, problems, approves=True)
    _certificate(tree, old, problems, signs=False)
    conditions(tree, problems)


def conditions(tree: Tree, problems: Problems) -> None:
    """Check the conditions of a request."""
    seen: set[str] = set()
    for index, condition in enumerate(tree.get("status", {}).get("conditions", ())):
        path = f"status.conditions[{index}]"
        kind, state = condition.get("type", ""), condition.get("status", "")
        if not kind:
            problems.required(f"{path}.type")
        if not state:
            problems.required(f"{path}.status")
        elif kind in KNOWN and state != "True":
            problems.unsupported(f"{path}.status", state, ("True",))
        elif state not in ("True", "False", "Unknown"):
            problems.unsupported(f"{path}.status", state, ("False", "True", "Unknown"))
        if kind in seen:
            problems.duplicate(f"{path}.type", kind)
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in seen:
            problems.invalid(f"{path}.type", kind, "Approved and Denied conditions are mutually exclusive")
        seen.add(kind)


def pkcs10(request: str) -> str:
    """Return what is wrong with base64 of PEM of a certificate request; "" when it is well-formed."""
    try:
        pem = base64.b64decode(request, validate=True)
    except (binascii.Error, ValueError):
        return "PEM block type must be CERTIFICATE REQUEST"
    found = _BLOCK.match(pem.lstrip())
    if not found or found[1] != b"CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        der = base64.b64decode(b"".join(found[2].split()), validate=True)
    except (binascii.Error, ValueError):
        return "asn1: structure error: malformed certificate request"
    return "" if _is_request(der) else "asn1: structure error: malformed certificate request"


def _is_request(der: bytes) -> bool:
    """Whether DER is a sequence of request information, algorithm and signature (RFC 2986 §4.2)."""
    whole = _element(der, 0)
    if whole is None or whole[0] != 0x30 or whole[2] != len(der):
        return False
    at, tags = whole[1], []
    while at < len(der):
        part = _element(der, at)
        if part is None:
            return False
        tags.append(part[0])
        at = part[2]
    return tags == [0x30, 0x30, 0x03]


def _element(der: bytes, at: int) -> tuple[int, int, int] | None:
    """Return tag, start and end of the content at `at`; None when it does not fit."""
    if at + 2 > len(der):
        return None
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start : start + size], "big"), start + size
    return (tag, start, start + length) if start + length <= len(der) else None


def _usages(given: list[str], problems: Problems) -> None:
    if not given:
        problems.required("spec.usages")
    for index, usage in enumerate(given):
        if usage not in USAGES:
            problems.unsupported(f"spec.usages[{index}]", usage, USAGES)
        if usage in given[:index]:
            problems.duplicate(f"spec.usages[{index}]", usage)


def _signer_name(name: str, path: str, problems: Problems) -> None:
    """A domain with at least two parts, then a path of at least one."""
    if not name:
        problems.required(path)
        return
    domain, slash, rest = name.partition("/")
    if not slash:
        problems.invalid(
            path, name, 'must be a fully qualified domain and path of the form "example.com/signer-name"'
        )
        return
    problems.each(path, domain, names.subdomain(domain))
    if "." not in domain:
        problems.invalid(path, domain, "should be a domain with at least two segments separated by dots")
    for part in rest.split("/"):
        problems.each(path, part, names.subdomain(part) if part else ["path segment must not be empty"])
    if len(name) > _SIGNER_LENGTH:
        problems.too_long(path, _SIGNER_LENGTH)


def _of_type(tree: Tree, kind: str) -> list[Tree]:
    return [c for c in tree.get("status", {}).get("conditions", ()) if c.get("type") == kind]


def _kept(tree: Tree, old: Tree, problems: Problems, *, approves: bool) -> None:
    field = "status.conditions"
    for kind in KNOWN:
        new, before = _of_type(tree, kind), _of_type(old, kind)
        if len(new) < len(before):
            problems.forbidden(field, f'updates may not remove a condition of type "{kind}"')
        elif approves or kind not in DECIDED:
            continue
        elif len(new) > len(before):
            problems.forbidden(field, f'updates may not add a condition of type "{kind}"')
        elif new != before:
            problems.forbidden(field, f'updates may not modify a condition of type "{kind}"')


def _certificate(tree: Tree, old: Tree, problems: Problems, *, signs: bool) -> None:
    new, before = (t.get("status", {}).get("certificate", "") for t in (tree, old))
    if new == before:
        return
    if not signs:
        problems.forbidden("status.certificate", "updates may not set certificate content")
    elif before:
        problems.forbidden("status.certificate", "updates may not modify existing certificate content")
    elif why := _bad_chain(new):
        problems.invalid("status.certificate", "<certificate data>", why)


def _bad_chain(encoded: str) -> str:
    try:
        pem = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return "no PEM blocks found"
    blocks = list(_BLOCK.finditer(pem))
    if not blocks:
        return "must contain at least one CERTIFICATE PEM block"
    for block in blocks:
        if block[1] != b"CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block[1].decode()}"'
    return ""
