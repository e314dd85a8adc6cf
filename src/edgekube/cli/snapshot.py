"""`edgekube snapshot`: back the cluster's state up while it runs, and restore it into a server that does not."""

import argparse
from pathlib import Path

from edgekube.app.options import ServerOptions
from edgekube.app.paths import ServerPaths
from edgekube.app.snapshots import SNAPSHOT_PATH
from edgekube.cli.session import UsageError, open_session
from edgekube.lib.files import write_atomic


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=("save", "restore"))
    parser.add_argument("file", type=Path, help="holds every Secret in clear: keep it safe")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=ServerOptions().data_dir,
        help="for restore: the stopped server's directory",
    )
    parser.add_argument(
        "--store", default="", metavar="URL", help="for restore: default is the embedded store"
    )


async def run(options: argparse.Namespace) -> int:
    """Do it."""
    if options.action == "save":
        async with open_session(options) as session:
            data = await session.carrier.raw("GET", SNAPSHOT_PATH)
        write_atomic(options.file, data)
        print(f"saved {len(data)} bytes to {options.file}")
        return 0
    return _restore(options)


def _restore(options: argparse.Namespace) -> int:
    from edgekube.store.open import restore  # noqa: PLC0415 - only here

    if not options.file.exists():
        raise UsageError(f"{options.file}: no such file")
    state = ServerPaths(options.data_dir).store
    if not options.store and state.exists():
        aside = state.with_name(f"{state.name}.before-restore")
        for suffix in ("", "-wal", "-shm"):
            part = state.with_name(state.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        print(f"the old state is kept as {aside}")
    restore(options.store or f"sqlite:///{state}", options.file)
    print(f"restored {options.file}; start the server")
    return 0
