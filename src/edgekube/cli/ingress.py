"""`edgekube ingress`."""

import argparse
from pathlib import Path

from edgekube.cli.machine import own_address
from edgekube.cli.session import UsageError, access_of


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--data-dir", type=Path, default=Path("/var/lib/edgekube/ingress"), help="for HAProxy's files"
    )
    parser.add_argument("--http", default="*:80", metavar="ADDRESS:PORT")
    parser.add_argument(
        "--https", default="*:443", metavar="ADDRESS:PORT", help="used once there is a certificate"
    )
    parser.add_argument(
        "--address",
        action="append",
        default=[],
        help="published in Ingresses; again for more; default: this machine's",
    )
    parser.add_argument("-v", "--verbose", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM."""
    from edgekube.app import ingress  # noqa: PLC0415 - only this verb needs it
    from edgekube.ingress.haproxy import ProxyOptions  # noqa: PLC0415

    for name in ("http", "https"):
        if not getattr(options, name).rpartition(":")[2].isdigit():
            raise UsageError(f"--{name} {getattr(options, name)}: must be ADDRESS:PORT, e.g. *:80")
    return ingress.run(
        ingress.IngressOptions(
            access=access_of(options), addresses=tuple(options.address) or (own_address(),),
            proxy=ProxyOptions(directory=options.data_dir, http=options.http, https=options.https),
        )
    )  # fmt: skip
