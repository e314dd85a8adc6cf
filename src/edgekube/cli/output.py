"""How answers look: tables for people, JSON, YAML and names for programs."""

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
FORMATS = ("", "wide", "json", "yaml", "name")


def as_json(tree: Any) -> str:
    """Return indented JSON."""
    return msgspec.json.format(msgspec.json.encode(tree), indent=4).decode() + "\n"


def as_yaml(tree: Any) -> str:
    """Return YAML."""
    import yaml  # noqa: PLC0415 - only when asked for

    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def rows_of(table: dict[str, Any], *, wide: bool, namespace: bool) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of a server's Table; priority > 0 columns only when `wide`."""
    columns = table["columnDefinitions"]
    shown = [i for i, column in enumerate(columns) if wide or not column.get("priority")]
    header = [columns[i]["name"].upper() for i in shown]
    rows = [
        ["<none>" if row["cells"][i] in (None, "") else str(row["cells"][i]) for i in shown]
        for row in table["rows"] or ()
    ]
    if namespace:
        header.insert(0, "NAMESPACE")
        for cells, row in zip(rows, table["rows"] or (), strict=True):
            cells.insert(0, row["object"]["metadata"].get("namespace", ""))
    return header, rows


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; with colours and bold headers on a terminal."""
    if not sys.stdout.isatty():
        sys.stdout.write(plain_table(header, rows))
        return
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    Console(soft_wrap=True).print(table)


STYLES = {
    "Running": "green", "Ready": "green", "Active": "green", "Bound": "green", "Completed": "dim", "Succeeded": "dim",
    "Pending": "yellow", "ContainerCreating": "yellow", "Terminating": "yellow", "NotReady": "red", "Failed": "red",
    "Warning": "yellow", "Error": "red", "CrashLoopBackOff": "red", "ImagePullBackOff": "red", "ErrImagePull": "red",
    "OOMKilled": "red",
}  # fmt: skip


def style_of(cell: str) -> str:
    """Return the colour that a state's word deserves."""
    return STYLES.get(cell, "")


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns aligned by spaces, three between, as kubectl prints them."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
