"""`edgekube scale` and `edgekube rollout`: verbs on Deployments and their like."""

import argparse
import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from edgekube.cli.output import print_table
from edgekube.cli.session import Session, Target, UsageError, open_session

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
REVISION = "deployment.kubernetes.io/revision"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
HASH = "pod-template-hash"


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `scale`."""
    parser.add_argument("what", nargs="+", metavar="TYPE/NAME | TYPE NAME")
    parser.add_argument("--replicas", type=int, required=True, metavar="N")


def add_rollout(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `rollout`."""
    parser.add_argument("action", choices=tuple(ACTIONS))
    parser.add_argument("what", nargs="+", metavar="TYPE/NAME | TYPE NAME")
    parser.add_argument(
        "--to-revision", type=int, default=0, metavar="N", help="for undo; 0 is the one before"
    )
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="for status")


async def run_scale(options: argparse.Namespace) -> int:
    """Set the number of replicas."""
    if options.replicas < 0:
        raise UsageError("--replicas must be 0 or more")
    async with open_session(options) as session:
        for target in await _named(session, options.what):
            body = {"spec": {"replicas": options.replicas}}
            await _patch(session, target, body, kind=MERGE, subresource="scale")
            print(f"{_label(target)} scaled")
    return 0


async def run_rollout(options: argparse.Namespace) -> int:
    """Do the rollout action."""
    async with open_session(options) as session:
        for target in await _named(session, options.what):
            await ACTIONS[options.action](session, target, options)
    return 0


async def _status(session: Session, target: Target, options: argparse.Namespace) -> None:
    deadline, said = time.monotonic() + options.timeout, ""
    while True:
        message, done = progress(await session.get(session.path(target)))
        if message != said:
            print(message, flush=True)
            said = message
        if done:
            return
        if time.monotonic() > deadline:
            raise UsageError(f"{_label(target)}: not rolled out after {options.timeout:.0f} s")
        await asyncio.sleep(0.3)


def progress(tree: dict[str, Any]) -> tuple[str, bool]:
    """Return what `kubectl rollout status` says of a Deployment, and whether it is done; raises UsageError when stuck."""
    name, status, spec = tree["metadata"]["name"], tree.get("status", {}), tree["spec"]
    wanted = spec.get("replicas", 1)
    if tree["metadata"].get("generation", 0) > status.get("observedGeneration", 0):
        return "Waiting for deployment spec update to be observed...", False
    for condition in status.get("conditions", ()):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            raise UsageError(f'deployment "{name}" exceeded its progress deadline')
    updated, total, available = (
        status.get(f, 0) for f in ("updatedReplicas", "replicas", "availableReplicas")
    )
    waiting = f'Waiting for deployment "{name}" rollout to finish: '
    if updated < wanted:
        return f"{waiting}{updated} out of {wanted} new replicas have been updated...", False
    if total > updated:
        return f"{waiting}{total - updated} old replicas are pending termination...", False
    if available < updated:
        return f"{waiting}{available} of {updated} updated replicas are available...", False
    return f'deployment "{name}" successfully rolled out', True


async def _restart(session: Session, target: Target, _options: argparse.Namespace) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    await _patch(session, target, body, kind=STRATEGIC)
    print(f"{_label(target)} restarted")


async def _pause(session: Session, target: Target, _options: argparse.Namespace) -> None:
    await _patch(session, target, {"spec": {"paused": True}}, kind=MERGE)
    print(f"{_label(target)} paused")


async def _resume(session: Session, target: Target, _options: argparse.Namespace) -> None:
    await _patch(session, target, {"spec": {"paused": None}}, kind=MERGE)
    print(f"{_label(target)} resumed")


async def _history(session: Session, target: Target, _options: argparse.Namespace) -> None:
    rows = []
    for replica_set in await _revisions(session, target):
        notes = replica_set["metadata"].get("annotations", {})
        images = ",".join(c["image"] for c in replica_set["spec"]["template"]["spec"]["containers"])
        rows.append([notes.get(REVISION, "0"), notes.get("kubernetes.io/change-cause", "<none>"), images])
    print_table(["REVISION", "CHANGE-CAUSE", "IMAGES"], rows)


async def _undo(session: Session, target: Target, options: argparse.Namespace) -> None:
    history = await _revisions(session, target)
    numbers = [int(rs["metadata"]["annotations"].get(REVISION, "0")) for rs in history]
    wanted = options.to_revision or (sorted(numbers)[-2] if len(numbers) > 1 else 0)
    if wanted not in numbers:
        raise UsageError(
            f"{_label(target)}: no revision {options.to_revision or 'before this one'} to go back to"
        )
    template = history[numbers.index(wanted)]["spec"]["template"]
    template["metadata"].get("labels", {}).pop(HASH, None)
    body = [{"op": "replace", "path": "/spec/template", "value": template}]
    await _patch(session, target, body, kind="application/json-patch+json")
    print(f"{_label(target)} rolled back")


ACTIONS = {
    "status": _status,
    "history": _history,
    "undo": _undo,
    "restart": _restart,
    "pause": _pause,
    "resume": _resume,
}


async def _revisions(session: Session, target: Target) -> list[dict[str, Any]]:
    owner = (await session.get(session.path(target)))["metadata"]["uid"]
    row = await session.resolve("replicasets.apps")
    items = (await session.get(row.path(session.namespace)))["items"]
    mine = [rs for rs in items if any(o["uid"] == owner for o in rs["metadata"].get("ownerReferences", ()))]
    return sorted(mine, key=lambda rs: int(rs["metadata"].get("annotations", {}).get(REVISION, "0")))


async def _named(session: Session, words: list[str]) -> list[Target]:
    targets = await session.targets(words)
    if any(not target.name for target in targets):
        raise UsageError("name the object, e.g. deployment/web")
    return targets


async def _patch(session: Session, target: Target, body: object, *, kind: str, subresource: str = "") -> None:
    path = session.path(target, subresource)
    query = {"fieldManager": "edgekube"}
    await session.carrier.raw("PATCH", path, query, msgspec.json.encode(body), content_type=kind)


def _label(target: Target) -> str:
    row = target.resource
    return f"{row.singular or row.kind.lower()}{'.' + row.group if row.group else ''}/{target.name}"
