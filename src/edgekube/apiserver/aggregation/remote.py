"""Extension servers: what an APIService says of one, and how to reach it as the front proxy."""

import base64
import binascii
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from edgekube.apiserver.identity import User
from edgekube.apiserver.request import Tree
from edgekube.lib.errors import EdgekubeError

REMOTE = "x-remote-"
"""Headers that only a front proxy may send: what a client sends of them is dropped."""


class BadBundle(EdgekubeError):
    """A caBundle that holds no certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProxy:
    """How this server proves to extension servers that it speaks for users: a client certificate's PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A group version served by a Service."""

    name: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    bundle: str = ""
    """PEM in base64."""
    insecure: bool = False

    @property
    def host(self) -> str:
        """The name its certificate has."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def root(self) -> str:
        """The path of its discovery document."""
        return f"/apis/{self.group}/{self.version}"


def remote_of(api_service: Tree) -> Remote | None:
    """Return the extension server of an APIService; None when this server serves it itself."""
    spec = api_service["spec"]
    service = spec.get("service")
    if service is None:
        return None
    return Remote(
        name=api_service["metadata"]["name"], group=spec.get("group", ""), version=spec["version"],
        namespace=service["namespace"], service=service["name"], port=service.get("port", 443),
        bundle=spec.get("caBundle", ""), insecure=bool(spec.get("insecureSkipTLSVerify")),
    )  # fmt: skip


@lru_cache(maxsize=64)
def context_of(bundle: str, proxy: FrontProxy | None, *, insecure: bool) -> ssl.SSLContext:
    """Return how to connect; raises BadBundle."""
    try:
        context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode() if bundle else None)
    except (ValueError, binascii.Error, ssl.SSLError) as error:
        raise BadBundle(f"caBundle cannot be read: {error}") from error
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if proxy is not None:
        context.load_cert_chain(proxy.certificate, proxy.key)
    return context


def headers_of(user: User) -> Iterable[tuple[str, str]]:
    """Return the headers that say who asks (Kubernetes docs, "Authenticating Proxy")."""
    yield "X-Remote-User", user.name
    if user.uid:
        yield "X-Remote-Uid", user.uid
    for group in user.groups:
        yield "X-Remote-Group", group
    for key, values in user.extra.items():
        for value in values:
            yield f"X-Remote-Extra-{quote(key, safe='')}", value
