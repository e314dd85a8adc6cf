"""The server's keys and certificates, made at the first start and renewed at a later one when due."""

import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgekube.app.options import ServerOptions
from edgekube.app.paths import ServerPaths
from edgekube.app.tokens import BadToken, JoinToken
from edgekube.client import kubeconfig
from edgekube.lib import pki
from edgekube.lib.files import write_atomic

ADMIN = pki.Subject(name="kubernetes-admin", organizations=("system:masters",))
HUB = pki.Subject(name="hub")
FRONT_PROXY = pki.Subject(name="front-proxy-client")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server needs to prove who it is, and to know who others are."""

    authority: pki.KeyPair
    front_proxy: pki.KeyPair
    """The authority that extension servers know this server by."""
    service_account_key: bytes
    admin_token: str
    node_token: JoinToken


def prepare(options: ServerOptions, paths: ServerPaths) -> Credentials:
    """Load or make everything, and write the administrator's kubeconfig."""
    now = datetime.now(UTC)
    tls = paths.tls
    authority = _authority(tls, "ca", now)
    front_proxy = _authority(tls, "front-proxy-ca", now)
    api = pki.Subject(name="kube-apiserver", hosts=_api_hosts(options))
    broker = pki.Subject(name="broker", hosts=("127.0.0.1", "localhost", options.advertise))
    for stem, subject in (("apiserver", api), ("broker", broker), ("hub", HUB), ("admin", ADMIN)):
        _leaf(tls, stem, authority, subject, now)
    _leaf(tls, "front-proxy-client", front_proxy, FRONT_PROXY, now)
    key = tls / "service-account.key"
    if not key.exists():
        write_atomic(key, pki.new_key())
    if not paths.admin_token.exists():
        write_atomic(paths.admin_token, secrets.token_urlsafe(32).encode())
    access = kubeconfig.Access(
        server=f"https://{options.external}:{options.external_port}",
        authority=authority.certificate,
        certificate=(tls / "admin.crt").read_bytes(),
        key=(tls / "admin.key").read_bytes(),
    )
    write_atomic(paths.kubeconfig, kubeconfig.render(access, name=options.cluster).encode())
    return Credentials(
        authority,
        front_proxy,
        key.read_bytes(),
        paths.admin_token.read_text().strip(),
        _node_token(paths, authority),
    )


def _authority(tls: Path, stem: str, now: datetime) -> pki.KeyPair:
    certificate, key = tls / f"{stem}.crt", tls / f"{stem}.key"
    try:
        return pki.KeyPair.load(certificate, key)
    except FileNotFoundError:
        authority = pki.new_authority(f"edgekube-{stem}", now)
        authority.save(certificate, key)
        return authority


def _leaf(tls: Path, stem: str, authority: pki.KeyPair, subject: pki.Subject, now: datetime) -> None:
    """Make `stem`.crt and .key unless good ones are there: same CA, all hosts, more than half their life left."""
    certificate, key = tls / f"{stem}.crt", tls / f"{stem}.key"
    if certificate.exists() and key.exists():
        old = certificate.read_bytes()
        fresh = pki.not_after(old) - now > pki.LEAF_LIFETIME / 2
        if fresh and pki.is_issued_by(old, authority.certificate) and pki.hosts_of(old) >= set(subject.hosts):
            return
    pki.issue(authority, subject, now).save(certificate, key)


def _api_hosts(options: ServerOptions) -> tuple[str, ...]:
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    full = f"kubernetes.default.svc.{options.cluster_domain}"
    addresses = ("127.0.0.1", "::1", options.advertise, options.external, options.kubernetes_address)
    return tuple(dict.fromkeys(("localhost", socket.gethostname(), *names, full, *addresses)))


def _node_token(paths: ServerPaths, authority: pki.KeyPair) -> JoinToken:
    try:
        return JoinToken.parse(paths.node_token.read_text())
    except (FileNotFoundError, BadToken):
        token = JoinToken.new(pki.fingerprint(authority.certificate))
        write_atomic(paths.node_token, f"{token}\n".encode())
        return token
