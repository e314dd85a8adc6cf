"""`edgekube apply` and `edgekube delete`: make manifests true, or undo them."""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgekube.api.errors import NotFound
from edgekube.cli.session import Session, Target, UsageError, open_session

LAST = "kubectl.kubernetes.io/last-applied-configuration"
SUFFIXES = {".yaml", ".yml", ".json"}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `apply`."""
    parser.add_argument(
        "-f", "--filename", action="append", required=True, help="file, folder or - for standard input"
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="folders with all below them")


def add_delete(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `delete`."""
    parser.add_argument("what", nargs="*", metavar="TYPE NAME | TYPE/NAME")
    parser.add_argument(
        "-f", "--filename", action="append", default=[], help="delete what these manifests name"
    )
    parser.add_argument("-R", "--recursive", action="store_true")
    parser.add_argument("-l", "--selector", default="", help="label selector")
    parser.add_argument("--all", action="store_true", help="all objects of the type in the namespace")
    parser.add_argument("--grace-period", type=int, default=-1, metavar="SECONDS")
    parser.add_argument(
        "--force", action="store_true", help="with --grace-period=0: do not wait for the node"
    )
    parser.add_argument("--cascade", choices=("background", "foreground", "orphan"), default="background")
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the objects are gone")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")


async def run(options: argparse.Namespace) -> int:
    """Apply: create what is missing, merge-patch what differs (three-way, against the last applied manifest)."""
    async with open_session(options) as session:
        for manifest in manifests(options.filename, recursive=options.recursive):
            row = await session.kind(manifest["apiVersion"], manifest["kind"])
            name = manifest["metadata"]["name"]
            space = manifest["metadata"].get("namespace") or session.namespace
            if row.namespaced:
                manifest["metadata"]["namespace"] = space
            text = msgspec.json.encode(manifest).decode()
            wish = {**manifest, "metadata": {**manifest["metadata"]}}
            wish["metadata"]["annotations"] = {
                **(manifest["metadata"].get("annotations") or {}),
                LAST: text + "\n",
            }
            query = {"fieldManager": "edgekube-apply", "fieldValidation": "Strict"}
            label = f"{row.singular or row.kind.lower()}{'.' + row.group if row.group else ''}/{name}"
            try:
                live = await session.get(row.path(space, name))
            except NotFound:
                await session.carrier.raw("POST", row.path(space), query, msgspec.json.encode(wish))
                print(f"{label} created")
                continue
            patch = three_way(last_applied(live), wish, live)
            if not patch:
                print(f"{label} unchanged")
                continue
            await session.carrier.raw(
                "PATCH",
                row.path(space, name),
                query,
                msgspec.json.encode(patch),
                content_type="application/merge-patch+json",
            )
            print(f"{label} configured")
    return 0


def last_applied(live: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest applied last, {} when there was none."""
    text = (live["metadata"].get("annotations") or {}).get(LAST, "")
    tree = msgspec.json.decode(text) if text else {}
    return tree if isinstance(tree, dict) else {}


def three_way(last: Any, wish: Any, live: Any) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that takes `live` to `wish` and drops what only `last` had."""
    patch: dict[str, Any] = {name: None for name in last if name not in wish and name in live}
    for name, value in wish.items():
        now = live.get(name)
        if isinstance(value, dict) and isinstance(now, dict):
            before = last.get(name)
            if inner := three_way(before if isinstance(before, dict) else {}, value, now):
                patch[name] = inner
        elif not covers(now, value):
            patch[name] = value
    return patch


def covers(live: Any, wish: Any) -> bool:
    """Tell whether `live` is `wish` plus what the server filled in (in lists: element by element)."""
    if isinstance(wish, dict) and isinstance(live, dict):
        return all(name in live and covers(live[name], value) for name, value in wish.items())
    if isinstance(wish, list) and isinstance(live, list):
        return len(wish) == len(live) and all(covers(a, b) for a, b in zip(live, wish, strict=True))
    return bool(live == wish)


def manifests(names: Iterable[str], *, recursive: bool) -> Iterator[dict[str, Any]]:
    """Yield every object in the files, folders and standard input named; Lists are taken apart."""
    import yaml  # noqa: PLC0415 - only these commands read YAML

    for name in names:
        for source, text in _texts(name, recursive=recursive):
            try:
                documents = list(yaml.safe_load_all(text))
            except yaml.YAMLError as error:
                raise UsageError(f"{source}: {error}") from error
            for document in documents:
                if document is not None:
                    yield from _objects(document, source)


def _objects(document: Any, source: str) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise UsageError(f"{source}: not an object")
    for field in ("apiVersion", "kind"):
        if not document.get(field):
            raise UsageError(f"{source}: {field} is missing")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _objects(item, source)
    elif not (document.get("metadata") or {}).get("name"):
        raise UsageError(f"{source}: metadata.name is missing")
    else:
        yield document


def _texts(name: str, *, recursive: bool) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "standard input", sys.stdin.read()
        return
    path = Path(name)
    if path.is_dir():
        found = sorted(path.rglob("*") if recursive else path.iterdir())
        for file in found:
            if file.suffix in SUFFIXES and file.is_file():
                yield str(file), file.read_text()
        return
    try:
        yield name, path.read_text()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error


async def run_delete(options: argparse.Namespace) -> int:
    """Delete by name, selector or manifest and wait until it is gone."""
    async with open_session(options) as session:
        paths = await _doomed(session, options)
        body: dict[str, Any] = {
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": options.cascade.capitalize()
        }  # fmt: skip
        if options.force or options.grace_period >= 0:
            body["gracePeriodSeconds"] = max(options.grace_period, 0) if not options.force else 0
        code = 0
        gone = []
        for label, path in paths:
            try:
                await session.carrier.raw("DELETE", path, None, msgspec.json.encode(body))
            except NotFound as error:
                if not options.ignore_not_found:
                    print(f"Error from server (NotFound): {error.message}", file=sys.stderr)
                    code = 1
                continue
            print(f"{label} deleted")
            gone.append(path)
        if not options.no_wait:
            await _until_gone(session, gone, options.timeout)
    return code


async def _doomed(session: Session, options: argparse.Namespace) -> list[tuple[str, str]]:
    paths: list[tuple[str, str]] = []
    for manifest in manifests(options.filename, recursive=options.recursive):
        row = await session.kind(manifest["apiVersion"], manifest["kind"])
        meta = manifest["metadata"]
        paths.append(
            (
                f"{row.kind.lower()}/{meta['name']}",
                row.path(meta.get("namespace") or session.namespace, meta["name"]),
            )
        )
    if not options.what:
        if not paths:
            raise UsageError("name what to delete: TYPE NAME, TYPE/NAME or -f FILE")
        return paths
    for target in await session.targets(options.what):
        if target.name:
            names = [target.name]
        elif options.selector or options.all:
            query = {"labelSelector": options.selector} if options.selector else {}
            tree = await session.get(session.path(target), **query)
            names = [item["metadata"]["name"] for item in tree["items"]]
        else:
            raise UsageError("name the objects, or give -l SELECTOR or --all")
        row = target.resource
        paths += [(f"{row.kind.lower()}/{name}", session.path(Target(row, name))) for name in names]
    return paths


async def _until_gone(session: Session, paths: list[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for path in paths:
        while time.monotonic() < deadline:
            try:
                await session.get(path)
            except NotFound:
                break
            await asyncio.sleep(0.2)
