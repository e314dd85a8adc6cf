r"""
Every verb of kubectl that talks to the API server, and what it prints.

A transcript is a list of commands (`$ …`), what they read (`< …`), how they end (`! code`, 0 if it is not
said) and what they print, in which `...` stands for anything and spaces count once. Each transcript has a
namespace of its own, so that all of them run at the same time against one server.
"""

import asyncio
import base64
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from clients.cluster import controlled, serving

pytestmark = pytest.mark.timeout(180)
TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
# What asks for a whole node to itself.
ALONE = {"nodes"}
EDITOR = r"""#!/bin/sh
sed -i 's/^  \([ab]\): .*/  \1: edited/; s/^    \([b]\): .*/    \1: edited/' "$1"
"""
KUSTOMIZATION = """
namePrefix: my-
labels: [{pairs: {app: kust}}]
resources: [map.yaml]
"""
MAP = "{apiVersion: v1, kind: ConfigMap, metadata: {name: map}, data: {x: '1'}}"


@dataclass
class Step:
    command: str
    stdin: str = ""
    code: int = 0
    lines: list[str] = field(default_factory=list)


def read(text):
    steps = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line[2:]))
        elif line.startswith("< "):
            steps[-1].stdin = line[2:]
        elif line.startswith("! "):
            steps[-1].code = int(line[2:])
        else:
            steps[-1].lines.append(line)
    return steps


def words(command):
    """Split as a shell would, but leave JSON and selectors alone."""
    if "{" in command or "(" in command:
        head, _, rest = command.partition(" -p ")
        return [*re.findall(r"(?:-l [^-]+(?=-o)|\S+)", head), *(("-p", rest) if rest else ())]
    return shlex.split(command)


def matches(expected, actual):
    shape = " ".join(expected.split())
    found = " ".join(actual.split())
    pattern = ".*".join(
        re.escape(part.strip()) + r"\s*" if part.strip() else "" for part in shape.split("...")
    )
    return re.fullmatch(pattern.replace(r".*", r"\s*.*"), found, re.DOTALL)


def request():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "joe")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode()


async def play(cluster, path, env):
    """Run a transcript and return what differs from it."""
    name = path.stem
    places = {"$NS": name, "$URL": cluster.url, "$FOLDER": str(cluster.folder / "kust"), "$CSR": request()}

    def fill(text):
        return re.sub(r"\$(NS|URL|FOLDER|CSR)", lambda found: places[found[0]], text)

    wrong = []
    for step in read(path.read_text()):
        expected = fill("\n".join(step.lines))
        command = words(fill(step.command))
        command = cluster.kubectl_command("--namespace", name, *command)
        code, actual = await cluster.call(*command, stdin=fill(step.stdin), env=env)
        if code != step.code or not matches(expected, actual):
            wrong.append(
                f"{name}: $ {step.command}\nexpected {step.code}: {expected}\nactual {code}: {actual}"
            )
    return wrong


def prepare(folder):
    """Write what transcripts name: an editor that changes maps, and a kustomization."""
    editor = folder / "editor"
    editor.write_text(EDITOR)
    editor.chmod(0o755)
    (folder / "kust").mkdir()
    (folder / "kust" / "kustomization.yaml").write_text(KUSTOMIZATION)
    (folder / "kust" / "map.yaml").write_text(MAP)
    return {**os.environ, "KUBE_EDITOR": str(editor), "HOME": str(folder)}


async def test_what_kubectl_prints(schemas, tmp_path):
    env = prepare(tmp_path)
    at_once = asyncio.Semaphore(4)

    async def one(cluster, path):
        async with at_once:
            return await play(cluster, path, env)

    async with serving(schemas, tmp_path) as cluster, controlled(cluster):
        for path in TRANSCRIPTS:
            await cluster.kubectl("create", "namespace", path.stem)
        together = [path for path in TRANSCRIPTS if path.stem not in ALONE]
        found = await asyncio.gather(*(one(cluster, path) for path in together))
        for path in TRANSCRIPTS:
            if path.stem in ALONE:
                found.append(await play(cluster, path, env))
    wrong = [each for part in found for each in part]
    assert not wrong, "\n\n".join(wrong)


# What needs a node that answers is in test_streams.py, tests/apiserver/streams and tests/e2e; the rest never asks a server.
ELSEWHERE = {"attach", "cp", "exec", "logs", "port-forward", "proxy", "top"}
NO_SERVER = {"completion", "config", "kuberc", "options", "plugin"}


async def test_no_verb_is_forgotten(cluster):
    told = await cluster.kubectl("--help")
    verbs = set(re.findall(r"^  ([a-z-]+) {2,}", told, re.MULTILINE))
    tried = {step.command.split()[0] for path in TRANSCRIPTS for step in read(path.read_text())}
    assert len(verbs) > 35
    assert verbs - tried - ELSEWHERE - NO_SERVER == set()


def test_transcripts_are_compared():
    assert matches("a ... c", "a  b\nc")
    assert matches("a\n...", "a")
    assert not matches("a ... c", "a b d")
    assert not matches("", "a")
    (step,) = read("$ get pods\n< x\n! 1\nnone")
    assert step == Step("get pods", "x", 1, ["none"])
