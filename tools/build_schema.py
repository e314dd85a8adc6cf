"""Write `src/edgekube/api/schema/{definitions,descriptions}.bin` from Kubernetes' definitions.

    python tools/build_schema.py path/to/_definitions.json

The definitions come from the PyPI package `kubernetes-validate` (v1.37). The output is
committed, so nothing of this runs on a board. Each file is a msgpack map:

* `kinds`: "apps/v1/Deployment" -> definition name (definitions.bin only);
* `packages`: package -> zlib-compressed msgpack map of short name -> msgpack bytes.

A definition's bytes are its JSON schema with three changes: descriptions are kept apart (so
that only OpenAPI touches them), `"type": ["x", "null"]` is "x", and the enums of apiVersion and
kind are gone. A description's bytes are a map of property -> text; the definition's own is at "".
"""

import json
import sys
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

OUT = Path(__file__).parent.parent / "src" / "edgekube" / "api" / "schema"


def lean(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema node without descriptions."""
    node: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            node[key] = value.removeprefix("#/$defs/")
        elif key == "type":
            node[key] = next(k for k in value if k != "null") if isinstance(value, list) else value
        elif key == "properties":
            node[key] = {name: lean(prop) for name, prop in sorted(value.items())}
        elif key in ("items", "additionalProperties"):
            node[key] = lean(value)
        elif key == "oneOf":
            node[key] = [lean(choice) for choice in value]
        elif key not in ("description", "enum"):
            node[key] = value
    return node


def texts(schema: dict[str, Any]) -> dict[str, str]:
    """Return what a definition and its properties are for."""
    found = {
        name: prop["description"]
        for name, prop in schema.get("properties", {}).items()
        if "description" in prop
    }
    return {"": schema.get("description", ""), **found}


def packed(parts: dict[str, dict[str, bytes]]) -> dict[str, bytes]:
    return {
        package: zlib.compress(msgspec.msgpack.encode(names), 9) for package, names in sorted(parts.items())
    }


def main(path: str) -> None:
    definitions = json.loads(Path(path).read_text())["$defs"]
    kinds: dict[str, str] = {}
    shapes: dict[str, dict[str, bytes]] = defaultdict(dict)
    descriptions: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, schema in sorted(definitions.items()):
        package, short = name.rsplit(".", 1)
        shapes[package][short] = msgspec.msgpack.encode(lean(schema))
        descriptions[package][short] = msgspec.msgpack.encode(texts(schema))
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            parts = (gvk["group"], gvk["version"], gvk["kind"])
            kinds["/".join(part for part in parts if part)] = name
    write = msgspec.msgpack.encode
    (OUT / "definitions.bin").write_bytes(write({"kinds": kinds, "packages": packed(shapes)}))
    (OUT / "descriptions.bin").write_bytes(write({"kinds": {}, "packages": packed(descriptions)}))


if __name__ == "__main__":
    main(sys.argv[1])
