"""
Join a cluster: run once as `python -m edgekube.app.enroll`, then never again.

A process of its own because signing needs `cryptography` (19 MB) and HTTPS, which the agent never
needs afterwards. The CA is fetched unverified and believed only if its hash is the token's.
"""

import argparse
import http.client
import ssl
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edgekube.app import membership
from edgekube.app.membership import AUTHORITY_PATH, JOIN_PATH, JoinAnswer, JoinRequest, Membership
from edgekube.app.paths import AgentPaths
from edgekube.app.tokens import JoinToken
from edgekube.lib import pki
from edgekube.lib.errors import EdgekubeError
from edgekube.lib.files import write_atomic

TIMEOUT = 10.0
"""Seconds one HTTP call may take."""


class JoinRefused(EdgekubeError):
    """The server said no for good."""


class ServerAway(EdgekubeError):
    """The server cannot be reached (yet)."""


def enroll(server: str, token: JoinToken, node_name: str, paths: AgentPaths) -> None:
    """Get and save certificate and membership; raises JoinRefused or ServerAway."""
    authority = _fetch_authority(server, token)
    if not paths.key.exists():
        write_atomic(paths.key, pki.new_key())
    csr = pki.request(paths.key.read_bytes(), pki.Subject(name=node_name))
    context = ssl.create_default_context(cadata=authority.decode())
    body = msgspec.json.encode(JoinRequest(node_name, csr.decode()))
    headers = {"Authorization": f"Bearer {token.bearer}", "Content-Type": "application/json"}
    answer = msgspec.json.decode(_call(server, "POST", JOIN_PATH, context, body, headers), type=JoinAnswer)
    write_atomic(paths.authority, answer.authority.encode(), mode=0o644)
    write_atomic(paths.certificate, answer.certificate.encode(), mode=0o644)
    membership.save(paths.membership, Membership(node_name, answer.facts))


def _fetch_authority(server: str, token: JoinToken) -> bytes:
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    authority = _call(server, "GET", AUTHORITY_PATH, blind, b"", {})
    if pki.fingerprint(authority) != token.authority:
        raise JoinRefused(f"{server} has another CA than the token: wrong server, or somebody in between")
    return authority


def _call(
    server: str, method: str, path: str, context: ssl.SSLContext, body: bytes, headers: dict[str, str]
) -> bytes:
    url = urlsplit(server)
    connection = http.client.HTTPSConnection(
        url.hostname or "", url.port or 6443, timeout=TIMEOUT, context=context
    )
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerAway(f"{server}: {error}") from error
    finally:
        connection.close()
    if answer.status >= 500 or answer.status == 429:
        raise ServerAway(f"{server}: HTTP {answer.status}: {data[:300].decode(errors='replace')}")
    if answer.status >= 300:
        raise JoinRefused(f"{server}: HTTP {answer.status}: {data[:300].decode(errors='replace')}")
    return data


def main() -> int:
    """Join, waiting for the server as long as it takes."""
    parser = argparse.ArgumentParser(prog="edgekube.app.enroll")
    parser.add_argument("--server", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    delay = 0.2
    while True:
        try:
            token = JoinToken.parse(options.token_file.read_text())
            enroll(options.server, token, options.node_name, AgentPaths(options.data_dir))
        except (ServerAway, FileNotFoundError) as error:
            print(f"join: {error}; again in {delay:.1f} s", file=sys.stderr)  # noqa: T201 - a program of its own
            time.sleep(delay)
            delay = min(delay * 1.5, 15.0)
        except EdgekubeError as error:
            print(f"join: {error}", file=sys.stderr)  # noqa: T201
            return 1
        else:
            return 0


if __name__ == "__main__":
    sys.exit(main())
