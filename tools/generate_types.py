"""Write `src/edgekube/api/types/*.py`: one frozen msgspec Struct per Kubernetes definition.

    python tools/generate_types.py path/to/_definitions.json

The definitions come from the PyPI package `kubernetes-validate` (v1.37). The output is
committed, so nothing of this runs on a board. Shapes of the generated classes:

* attribute names are snake_case, JSON names are Kubernetes' own;
* optional strings are "" and optional lists () when absent, other optional values None;
* a kind's `metadata` and `status` are always there; `spec` too.
"""

import json
import keyword
import re
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent.parent / "src" / "edgekube" / "api" / "types"
GROUPS = {
    "io.k8s.apimachinery.pkg.apis.meta.v1": "meta_v1",
    "io.k8s.api.core.v1": "core_v1",
    "io.k8s.api.apps.v1": "apps_v1",
    "io.k8s.api.batch.v1": "batch_v1",
    "io.k8s.api.autoscaling.v1": "autoscaling_v1",
    "io.k8s.api.autoscaling.v2": "autoscaling_v2",
    "io.k8s.api.policy.v1": "policy_v1",
    "io.k8s.api.networking.v1": "networking_v1",
    "io.k8s.api.discovery.v1": "discovery_v1",
    "io.k8s.api.events.v1": "events_v1",
    "io.k8s.api.coordination.v1": "coordination_v1",
    "io.k8s.api.rbac.v1": "rbac_v1",
    "io.k8s.api.authentication.v1": "authentication_v1",
    "io.k8s.api.authorization.v1": "authorization_v1",
    "io.k8s.api.certificates.v1": "certificates_v1",
    "io.k8s.api.storage.v1": "storage_v1",
    "io.k8s.api.scheduling.v1": "scheduling_v1",
    "io.k8s.api.node.v1": "node_v1",
}
SKIP_LISTS = re.compile(r"List$")
# Optional strings in which "" and absent mean different things.
NULLABLE = {
    "storageClassName",
    "ingressClassName",
    "loadBalancerClass",
    "runtimeClassName",
    "volumeAttributesClassName",
}
REQUIRED = {
    ("ReplicaSetSpec", "template"),
    ("PodTemplateSpec", "spec"),
    ("ReplicationControllerSpec", "template"),
}
LEFT_OUT = {("ObjectMeta", "managedFields")}
"""Most of an object's bytes, and nothing a part of ours reads: servers keep it when an update leaves it out."""
SCALARS = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}
SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "str",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int | str",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "str",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "str",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "dict[str, Any]",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "dict[str, Any]",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "dict[str, Any]",
}


def snake(name: str) -> str:
    name = name.lstrip("$")
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    name = re.sub(r"([A-Z]+)([A-Z][a-z]{2,})", r"\1_\2", name).lower()
    return name + "_" if keyword.iskeyword(name) else name


class Writer:
    def __init__(self, defs: dict[str, Any]) -> None:
        self.defs = defs

    def type_of(self, prop: dict[str, Any], imports: set[str], home: str) -> str:
        if ref := prop.get("$ref"):
            return self.ref(ref.rsplit("/", 1)[1], imports, home)
        kinds = prop.get("type", "object")
        kind = next(k for k in ([kinds] if isinstance(kinds, str) else kinds) if k != "null")
        if kind == "array":
            return f"tuple[{self.type_of(prop['items'], imports, home)}, ...]"
        if kind == "object":
            extra = prop.get("additionalProperties")
            return f"dict[str, {self.type_of(extra, imports, home)}]" if extra else "dict[str, Any]"
        return SCALARS[kind]

    def ref(self, name: str, imports: set[str], home: str) -> str:
        if name in SPECIAL:
            return SPECIAL[name]
        package, cls = name.rsplit(".", 1)
        if package not in GROUPS:
            return "dict[str, Any]"
        if package == home:
            return cls
        imports.add(GROUPS[package])
        return f"{GROUPS[package]}.{cls}"

    def has_required(self, prop: dict[str, Any]) -> bool:
        ref = prop.get("$ref", "").rsplit("/", 1)[-1]
        definition = self.defs.get(ref, {})
        return bool(definition.get("required")) or any(
            (ref.rsplit(".", 1)[-1], p) in REQUIRED for p in definition.get("properties", {})
        )

    def field(
        self,
        cls: str,
        name: str,
        prop: dict[str, Any],
        definition: dict[str, Any],
        imports: set[str],
        home: str,
    ) -> str:
        gvk = definition.get("x-kubernetes-group-version-kind")
        typ = self.type_of(prop, imports, home)
        attr = snake(name)
        args = [] if attr == name else [f'name="{name}"']
        needed = name in definition.get("required", ()) or (cls, name) in REQUIRED
        if gvk and name in ("apiVersion", "kind"):
            value = (
                gvk[0]["kind"]
                if name == "kind"
                else "/".join(filter(None, (gvk[0]["group"], gvk[0]["version"])))
            )
            args.insert(0, f'default_factory=lambda: "{value}"')
        elif gvk and name in ("metadata", "spec", "status") and "$ref" in prop:
            if not (self.has_required(prop) and name == "spec"):
                args.insert(0, f"default={typ}()" if not self.has_required(prop) else "default=None")
                if self.has_required(prop):
                    typ += " | None"
        elif typ.startswith("tuple"):
            args.insert(0, "default=()")
        elif typ.startswith("dict"):
            args.insert(0, "default_factory=dict") if not needed else None
        elif not needed and typ == "str" and name not in NULLABLE:
            args.insert(0, 'default=""')
        elif not needed:
            typ += " | None"
            args.insert(0, "default=None")
        if len(args) == 1 and args[0].startswith("default="):
            return f"    {attr}: {typ} = {args[0].removeprefix('default=')}"
        return f"    {attr}: {typ}" + (f" = msgspec.field({', '.join(args)})" if args else "")

    def order(self, names: list[str]) -> list[str]:
        """Definitions first, so that default instances can be made in the class body."""
        done: list[str] = []
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name in seen:
                return
            seen.add(name)
            for prop in ("metadata", "spec", "status"):
                ref = self.defs[name].get("properties", {}).get(prop, {}).get("$ref", "").rsplit("/", 1)[-1]
                if ref in names:
                    visit(ref)
            done.append(name)

        for name in names:
            visit(name)
        return done

    def module(self, package: str) -> str:
        names = sorted(
            n
            for n in self.defs
            if n.rsplit(".", 1)[0] == package
            and n not in SPECIAL
            and not SKIP_LISTS.search(n)
            and "properties" in self.defs[n]
        )
        imports: set[str] = set()
        body: list[str] = []
        for name in self.order(names):
            cls, definition = name.rsplit(".", 1)[1], self.defs[name]
            body.append(f"\n\nclass {cls}(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):")
            first = definition.get("description", cls).split("\n")[0].replace("\\", "\\\\").replace('"', "'")
            sentence = first.split(". ")[0].rstrip(".")
            body.append(f'    """{sentence}."""\n')
            body += [
                self.field(cls, prop, definition["properties"][prop], definition, imports, package)
                for prop in sorted(definition["properties"])
                if (cls, prop) not in LEFT_OUT
            ]
        text = "\n".join(body)
        anyimport = "from typing import Any\n\n" if re.search(r"\bAny\b", text) else ""
        local = "".join(f"from edgekube.api.types import {m}\n" for m in sorted(imports))
        head = f'"""Generated by tools/generate_types.py from the Kubernetes v1.37 definitions: {package}."""\n\nfrom __future__ import annotations\n\n'
        return head + anyimport + "import msgspec\n\n" + local + text + "\n"


def main(path: str) -> None:
    defs = json.loads(Path(path).read_text())["$defs"]
    writer = Writer(defs)
    OUT.mkdir(parents=True, exist_ok=True)
    for package, stem in GROUPS.items():
        (OUT / f"{stem}.py").write_text(writer.module(package))


if __name__ == "__main__":
    main(sys.argv[1])
