"""`edgekube describe`: one object for people, with its events."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edgekube.cli.output import plain_table
from edgekube.cli.session import Session, Target, UsageError, open_session

HIDDEN = {"managedFields", "resourceVersion", "uid", "generation", "selfLink", "creationTimestamp"}
NOTE = "kubectl.kubernetes.io/last-applied-configuration"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", nargs="+", metavar="TYPE NAME | TYPE/NAME")
    parser.add_argument("-l", "--selector", default="")


async def run(options: argparse.Namespace) -> int:
    """Do it."""
    async with open_session(options) as session:
        found = 0
        for target in await session.targets(options.what):
            for tree in await _trees(session, target, options.selector):
                print("\n\n" * bool(found) + render(tree, target.resource.kind), end="")
                print(await _events(session, tree), end="")
                found += 1
        if not found:
            raise UsageError("nothing found")
    return 0


async def _trees(session: Session, target: Target, selector: str) -> Sequence[dict[str, Any]]:
    if target.name:
        return [await session.get(session.path(target))]
    query = {"labelSelector": selector} if selector else {}
    items: Sequence[dict[str, Any]] = (await session.get(session.path(target), **query))["items"]
    return items


def render(tree: Mapping[str, Any], kind: str) -> str:
    """Return the object as aligned `Name: value` lines, secrets' values left out."""
    meta = tree["metadata"]
    lines = [("Name", meta["name"])]
    if meta.get("namespace"):
        lines.append(("Namespace", meta["namespace"]))
    lines.append(("Created", meta.get("creationTimestamp", "")))
    notes = {name: value for name, value in (meta.get("annotations") or {}).items() if name != NOTE}
    body: dict[str, Any] = {"labels": meta.get("labels"), "annotations": notes}
    body |= {
        name: meta[name] for name in ("ownerReferences", "finalizers", "deletionTimestamp") if name in meta
    }
    body |= {name: value for name, value in tree.items() if name not in {"metadata", "apiVersion", "kind"}}
    if kind == "Secret":
        body["data"] = {
            name: f"{len(value) * 3 // 4} bytes" for name, value in (tree.get("data") or {}).items()
        }
    width = 16
    text = "".join(f"{name + ':':<{width}} {value}\n" for name, value in lines)
    return text + "".join(line + "\n" for name, value in body.items() for line in _field(name, value, 0))


def _field(name: str, value: Any, depth: int) -> Iterator[str]:
    if name in HIDDEN or value in (None, {}, []):
        return
    title = "  " * depth + _title(name) + ":"
    if isinstance(value, dict):
        yield title
        for key, inner in value.items():
            plain = not isinstance(inner, dict | list)
            yield from (
                [f"{'  ' * (depth + 1)}{key}: {_text(inner)}"]
                if plain and depth == 0
                else _field(key, inner, depth + 1)
            )
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        yield title
        for item in value:
            lines = [line for key, inner in item.items() for line in _field(key, inner, depth + 2)]
            if lines:
                yield "  " * (depth + 1) + "- " + lines[0].lstrip()
                yield from lines[1:]
    elif isinstance(value, list):
        yield f"{title} {', '.join(map(_text, value))}"
    else:
        yield f"{title} {_text(value)}"


def _title(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return words[:1].upper() + words[1:]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _events(session: Session, tree: Mapping[str, Any]) -> str:
    meta = tree["metadata"]
    events = await session.resolve("events")
    space = meta.get("namespace") or "default"
    items = (await session.get(events.path(space), fieldSelector=f"involvedObject.uid={meta['uid']}"))[
        "items"
    ]
    if not items:
        return "Events: <none>\n"
    now = datetime.now(UTC)
    items.sort(key=_last_seen)
    rows = [
        [
            e.get("type", ""),
            e.get("reason", ""),
            _age(now, _last_seen(e), e.get("count", 1)),
            _source(e),
            e.get("message", ""),
        ]
        for e in items
    ]
    table = plain_table(["Type", "Reason", "Age", "From", "Message"], rows)
    return "Events:\n" + "".join(f"  {line}\n" for line in table.splitlines())


def _source(event: Mapping[str, Any]) -> str:
    return str(event.get("source", {}).get("component") or event.get("reportingComponent", ""))


def _last_seen(event: Mapping[str, Any]) -> str:
    return str(
        event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", "")
    )


def _age(now: datetime, stamp: str, count: int) -> str:
    try:
        seconds = int((now - datetime.fromisoformat(stamp)).total_seconds())
    except ValueError:
        return "<unknown>"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}" + (f" (x{count})" if count > 1 else "")
    return f"{max(seconds, 0)}s" + (f" (x{count})" if count > 1 else "")
