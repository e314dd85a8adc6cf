"""`edgekube get`: list or watch, as tables or as data."""

import argparse
from typing import Any

import msgspec

from edgekube.cli import output
from edgekube.cli.session import Session, Target, open_session
from edgekube.client.base import Call


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "what", nargs="+", metavar="TYPE [NAME] | TYPE/NAME", help="e.g. pods, deploy web, node/pi4, all"
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    parser.add_argument("-l", "--selector", default="", help="label selector, e.g. app=web,tier!=db")
    parser.add_argument("--field-selector", default="", help="e.g. status.phase=Running")
    parser.add_argument("-o", "--output", default="", choices=output.FORMATS, help="wide, json, yaml or name")
    parser.add_argument("-w", "--watch", action="store_true", help="stay and print changes")
    parser.add_argument("--no-headers", action="store_true")


async def run(options: argparse.Namespace) -> int:
    """Do it."""
    async with open_session(options) as session:
        targets = await session.targets(options.what)
        if options.output in {"json", "yaml", "name"}:
            await _data(session, targets, options)
        else:
            await _tables(session, targets, options)
        if options.watch:
            await _watch(session, targets[0], options)
    return 0


def _query(options: argparse.Namespace) -> dict[str, str]:
    pairs = (("labelSelector", options.selector), ("fieldSelector", options.field_selector))
    return {name: value for name, value in pairs if value}


async def _tables(session: Session, targets: list[Target], options: argparse.Namespace) -> None:
    # Several objects of one resource share a table; several resources get one each.
    groups: dict[str, list[Target]] = {}
    for target in targets:
        groups.setdefault(target.resource.group_resource, []).append(target)
    printed = 0
    for members in groups.values():
        spaces = options.all_namespaces and members[0].resource.namespaced
        rows: list[list[str]] = []
        header: list[str] = []
        for target in members:
            path = session.path(target, everywhere=options.all_namespaces)
            table = await session.get(path, accept=output.TABLE, **_query(options))
            header, more = output.rows_of(table, wide=options.output == "wide", namespace=spaces)
            rows += more
        if len(groups) > 1:
            column = int(spaces)
            for row in rows:
                row[column] = f"{_type_name(members[0])}/{row[column]}"
        if rows:
            if printed:
                print()
            _print(header, rows, options)
            printed += 1
    if not printed and not options.watch:
        where = "" if options.all_namespaces else f" in {session.namespace} namespace"
        print("No resources found" + (where if any(t.resource.namespaced for t in targets) else ""))


def _print(header: list[str], rows: list[list[str]], options: argparse.Namespace) -> None:
    if options.no_headers:
        print(output.plain_table(rows[0], rows[1:]), end="")
    else:
        output.print_table(header, rows)


def _type_name(target: Target) -> str:
    row = target.resource
    return (
        f"{row.singular or row.kind.lower()}.{row.group}" if row.group else row.singular or row.kind.lower()
    )


async def _data(session: Session, targets: list[Target], options: argparse.Namespace) -> None:
    items: list[Any] = []
    single = len(targets) == 1 and bool(targets[0].name)
    for target in targets:
        tree = await session.get(session.path(target, everywhere=options.all_namespaces), **_query(options))
        listed = tree.get("items", [tree])
        for item in listed:
            item.setdefault("apiVersion", target.resource.api_version)
            item.setdefault("kind", target.resource.kind)
        if options.output == "name":
            print(
                *(f"{_type_name(target)}/{item['metadata']['name']}" for item in listed),
                sep="\n",
                end="\n" if listed else "",
            )
        items += listed
    if options.output == "name":
        return
    whole = (
        items[0]
        if single
        else {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
    )
    print((output.as_json if options.output == "json" else output.as_yaml)(whole), end="")


async def _watch(session: Session, target: Target, options: argparse.Namespace) -> None:
    fields = [f"metadata.name={target.name}"] if target.name else []
    fields += [options.field_selector] if options.field_selector else []
    query = {"watch": "true", **_query(options)} | ({"fieldSelector": ",".join(fields)} if fields else {})
    space = "" if options.all_namespaces else session.namespace
    listing = await session.get(target.resource.path(space), limit="1")
    call = Call(
        verb="watch", resource=target.resource, namespace=space,
        query={**query, "resourceVersion": listing["metadata"]["resourceVersion"]},
    )  # fmt: skip
    async for event in session.carrier.watch(call):
        tree = msgspec.json.decode(event.raw)
        named = Target(target.resource, tree["metadata"]["name"])
        if options.output in {"json", "yaml"}:
            print((output.as_json if options.output == "json" else output.as_yaml)(tree), end="", flush=True)
        elif event.type == "DELETED" or options.output == "name":
            print(
                f"{_type_name(named)}/{named.name}" + (" deleted" if event.type == "DELETED" else ""),
                flush=True,
            )
        else:
            path = target.resource.path(tree["metadata"].get("namespace", ""), named.name)
            table = await session.get(path, accept=output.TABLE)
            spaces = options.all_namespaces and target.resource.namespaced
            _, rows = output.rows_of(table, wide=options.output == "wide", namespace=spaces)
            print("   ".join(rows[0]), flush=True)
