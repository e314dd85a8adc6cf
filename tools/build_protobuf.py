"""Write `src/edgekube/api/protobuf/fields.bin`: the field numbers of Kubernetes' protobuf messages.

    python tools/build_protobuf.py path/to/fields.json path/to/_definitions.json

fields.json: message -> number -> [JSON name, protobuf type, repeated, message type]; messages of
map entries have `"map": true`. _definitions.json (PyPI package kubernetes-validate, v1.37) tells
which fields JSON knows: a message field it does not know is an inlined Go struct. The output is
committed, so nothing of this runs on a board. Its form is described in edgekube.api.protobuf.table.
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import msgspec

from edgekube.api.schema.zeros import is_pointer

OUT = Path(__file__).parent.parent / "src" / "edgekube" / "api" / "protobuf"
META = "k8s.io.apimachinery.pkg.apis.meta.v1"
SPECIAL = {
    f"{META}.Time": "time",
    f"{META}.MicroTime": "microtime",
    f"{META}.FieldsV1": "json",
    "k8s.io.apimachinery.pkg.runtime.RawExtension": "json",
    "k8s.io.apimachinery.pkg.api.resource.Quantity": "quantity",
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": "intstr",
}
SCALARS = {3: "int64", 5: "int32", 8: "bool", 9: "string", 12: "bytes"}
RENAMED = {"uID": "uid", "aPIGroup": "apiGroup"}


def definition_name(message: str) -> str:
    return message.replace("k8s.io.", "io.k8s.", 1)


class Builder:
    def __init__(self, messages: dict[str, Any], definitions: dict[str, Any]) -> None:
        self.messages = messages
        self.definitions = definitions
        packages = {name.rpartition(".")[0] for name in definitions}
        self.wanted = {
            name for name in messages
            if any(definition_name(name).startswith(f"{package}.") for package in packages) or ".runtime." in name
        }  # fmt: skip

    def kinds(self) -> dict[str, str]:
        found = {}
        for name, definition in self.definitions.items():
            message = name.replace("io.k8s.", "k8s.io.", 1)
            for gvk in definition.get("x-kubernetes-group-version-kind", ()):
                if message in self.wanted:
                    found["/".join(filter(None, (gvk["group"], gvk["version"], gvk["kind"])))] = message
        return found

    def field(self, message: str, number: str, spec: list[Any]) -> list[Any]:
        name, wire, repeated, target = spec
        definition = self.definitions.get(definition_name(message), {})
        properties = definition.get("properties", {})
        name = RENAMED.get(name, name)
        if name not in properties and name[:1].lower() + name[1:] in properties:
            name = name[:1].lower() + name[1:]
        kind = SCALARS.get(wire) or SPECIAL.get(target) or "message"
        if self.messages.get(target, {}).get("map"):
            kind, repeated = "map", False
        elif target.endswith(("ExtraValue", "AttestationValue", ".Verbs")):
            kind = "strings"
        elif kind == "message" and not repeated and properties and name not in properties:
            kind = "inline"
        keep = (
            name in definition.get("required", ())
            or self.keeps_zero(message, name, kind)
            or bool(self.messages[message].get("map"))
        )
        return [
            int(number),
            name,
            kind,
            repeated,
            target if kind in ("message", "map", "inline") else "",
            keep,
        ]

    def keeps_zero(self, message: str, name: str, kind: str) -> bool:
        if kind in SCALARS.values():
            return is_pointer(message.rpartition(".")[2], name, text=kind in ("string", "bytes"))
        return True

    def build(self) -> bytes:
        rows = {
            name: msgspec.msgpack.encode(
                [self.field(name, n, spec) for n, spec in fields.items() if n != "map"]
            )
            for name, fields in sorted(self.messages.items())
            if name in self.wanted
        }
        return msgspec.msgpack.encode(
            {"kinds": self.kinds(), "messages": zlib.compress(msgspec.msgpack.encode(rows), 9)}
        )


def main(fields: str, definitions: str) -> None:
    builder = Builder(
        json.loads(Path(fields).read_text()), json.loads(Path(definitions).read_text())["$defs"]
    )
    (OUT / "fields.bin").write_bytes(builder.build())


if __name__ == "__main__":
    main(*sys.argv[1:])
