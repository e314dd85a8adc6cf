"""JSON Web Tokens signed with ECDSA P-256 (RFC 7519, RFC 7518 §3.4: ES256)."""

import base64
import hashlib
from typing import Any

import msgspec

from edgekube.lib.errors import EdgekubeError

HALF = 32
"""Bytes of each of the signature's two numbers."""


class BadToken(EdgekubeError):
    """The token is malformed, or not signed by us."""


class Signer:
    """Signs and verifies with one key, PEM. `cryptography` is loaded at first use."""

    def __init__(self, key: bytes) -> None:
        self._pem = key
        self._loaded: Any = None

    @property
    def _key(self) -> Any:
        if self._loaded is None:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

            self._loaded = load_pem_private_key(self._pem, None)
        return self._loaded

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a signed token."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

        header = {"alg": "ES256", "kid": self.key_id, "typ": "JWT"}
        signed = f"{_text(msgspec.json.encode(header))}.{_text(msgspec.json.encode(claims))}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_text(r.to_bytes(HALF, 'big') + s.to_bytes(HALF, 'big'))}"

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token of ours; raises BadToken. Times are the caller's to judge."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

        try:
            signed, _, signature = token.rpartition(".")
            header, claims = (
                msgspec.json.decode(_bytes(part), type=dict[str, Any]) for part in signed.split(".")
            )
            raw = _bytes(signature)
            if header.get("alg") != "ES256" or len(raw) != 2 * HALF:
                raise BadToken("not an ES256 token")
            numbers = int.from_bytes(raw[:HALF], "big"), int.from_bytes(raw[HALF:], "big")
            der = utils.encode_dss_signature(*numbers)
            self._key.public_key().verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
        except (ValueError, msgspec.DecodeError, InvalidSignature) as error:
            raise BadToken("the token is not one of this cluster") from error
        return claims

    def public(self) -> dict[str, str]:
        """Return the public key as a JSON Web Key (RFC 7517, RFC 7518 §6.2)."""
        numbers = self._key.public_key().public_numbers()
        return {
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": _text(numbers.x.to_bytes(HALF, "big")),
            "y": _text(numbers.y.to_bytes(HALF, "big")),
        }

    @property
    def key_id(self) -> str:
        """Return a name for the public key."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return _text(hashlib.sha256(public).digest())


def looks_like(token: str) -> bool:
    """Whether a bearer token has a JWT's three parts."""
    return token.startswith("ey") and token.count(".") == 2


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
