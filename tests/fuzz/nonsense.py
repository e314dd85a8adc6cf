"""
Valid objects broken in every way, odd selectors, continue tokens, watches and patches: no 5xx, no hang.

    python tests/fuzz/nonsense.py [--cases 20000] [--seed 1]
"""

import argparse
import base64
import copy
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.served import Hang, served

SEEDS = list(yaml.safe_load_all(Path(__file__).with_name("seeds.yaml").read_text()))
SUBRESOURCES = (*("",) * 20, "/status", "/scale", "/eviction", "/binding", "/token", "/finalize", "/approval", "/resize", "/ephemeralcontainers", "/log", "/nope")  # fmt: skip
PATCHES = ("merge-patch+json", "strategic-merge-patch+json", "json-patch+json", "apply-patch+yaml")
VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 1.5, -0.0, 1e308, "", " ", "a", "A_B", "-", ".", "..", "a/b",
    "a" * 300, "é\u2028\U0001f600", "\x00", "\n", "\\", "%", "100%", "-1%", "1e999999", "1Gi", "0x10", "1.5m", "9" * 400, "2026-13-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "300.1.1.1", "::1", "10.0.0.0/33", "http://x", "*", "((((", "[", "self.x", "1/0", "{}",
    [], {}, [None], [[]], [{}], {"": ""}, {"a": None}, {"a": {"a": {"a": {}}}}, {"$patch": "delete"}, {"$patch": "replace"}, {"$retainKeys": 1},
    {"$setElementOrder/containers": [1]}, {"$deleteFromPrimitiveList/finalizers": [{}]}, {"f:x": {}},
)  # fmt: skip
SELECTORS = (
    "a", "!a", "a=b", "a==b", "a!=b", "a in (b,c)", "a notin ()", "a in (", "a in", "=", ",", "a=b,", ",,", "a=b=c", "(", ")", "a>1", "a<x", "a > 9999999999999999999999",
    "x" * 400, "\x00", "é=ö", "a in (b,c),!d,e>5", "metadata.name=a", "metadata.name!=a", "metadata.namespace=default", "spec.nodeName=", "status.phase!=Running",
    "spec.nope=1", "metadata.name=a,metadata.name=b", "metadata.name=\\,", "a\\=b=c", "\\", "metadata.name==", "type=Opaque", "involvedObject.kind=Pod",
)  # fmt: skip
NUMBERS = (
    "",
    "0",
    "1",
    "-1",
    "2",
    "500",
    "99999999999999999999999",
    "x",
    "1.5",
    "0x1",
    " 1",
    "1e3",
    "٣",
    "true",
    "None",
    "1_0",
)
PARAMETERS = {
    "labelSelector": SELECTORS, "fieldSelector": SELECTORS, "limit": NUMBERS, "resourceVersion": NUMBERS, "timeoutSeconds": NUMBERS,
    "resourceVersionMatch": ("", "Exact", "NotOlderThan", "exact", "x"), "watch": ("", "1", "0", "true", "false", "x"),
    "allowWatchBookmarks": ("1", "x", "true"), "sendInitialEvents": ("true", "false", "x"), "dryRun": ("All", "all", "", "None"),
    "fieldManager": ("", "m", "a" * 200, "\n", "é"), "fieldValidation": ("Strict", "Warn", "Ignore", "x"), "force": ("true", "x", ""),
    "gracePeriodSeconds": NUMBERS, "propagationPolicy": ("Foreground", "Background", "Orphan", "x"), "orphanDependents": ("true", "x"),
    "pretty": ("1", "x", "true"), "continue": ("x", "", "e30", "bnVsbA", "W10", "MQ", "//8", "a" * 1000, "%"), "container": ("c", ""),
    "includeObject": ("None", "Object", "Metadata", "x"), "nope": ("1",), "tailLines": NUMBERS, "sinceSeconds": NUMBERS,
}  # fmt: skip
ACCEPTS = (
    "application/json", "application/yaml", "*/*", "", "text/html", "application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "application/json;as=x",
    "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json;q=0.5", "application/json;q=x", ";;;", "application/cbor",
)  # fmt: skip
TYPES = (
    "application/json",
    "application/yaml",
    "application/json; charset=utf-8",
    "text/plain",
    "",
    "application/vnd.kubernetes.protobuf",
    "application/xml",
)
METHODS = (*("GET",) * 4, *("POST",) * 5, *("PUT",) * 5, *("PATCH",) * 7, "DELETE")
RAW = (b"", b"{", b"[]", b"null", b"\xff\xfe", b"k8s\x00", b"k8s\x00\x0a\xff\xff\xff\xff\x7f", b"a: [", b"a: &a [*a]", b"---\n---\n", b"{}" * 3, b"[" * 5000, b'{"a":' * 5000, b'{"a":1,"a":2}', b"\x00" * 100)  # fmt: skip


class Maker:
    """Makes requests by chance; the same seed makes the same ones."""

    def __init__(self, seed, plurals):
        self.random = random.Random(seed)
        self.plurals = plurals
        self.tokens = ["x"]

    def request(self):
        """Return (method, path, body, query, headers)."""
        pick = self.random.choice
        seed = pick(SEEDS)
        collection, name = self.place(seed)
        method = pick(METHODS)
        path = (
            collection
            if method == "POST" or (method == "GET" and self.random.random() < 0.7)
            else f"{collection}/{name}{pick(SUBRESOURCES)}"
        )
        if method == "POST" and self.random.random() < 0.2:
            path = f"{collection}/{name}{pick(SUBRESOURCES)}"
        query = self.query()
        headers = {"Accept": pick(ACCEPTS)} if self.random.random() < 0.15 else {}
        body = None if method == "GET" else self.body(seed)
        if method == "PATCH":
            headers["Content-Type"] = f"application/{pick(PATCHES)}"
            if headers["Content-Type"].endswith("json-patch+json"):
                body = self.operations(seed)
        elif self.random.random() < 0.05:
            headers["Content-Type"] = pick(TYPES)
        if method == "DELETE" and self.random.random() < 0.7:
            body = None
        elif body is not None and self.random.random() < 0.03:
            body = pick(RAW)
        return method, path, body, query, headers

    def place(self, seed):
        version, kind = seed["apiVersion"], seed["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural, namespaced = self.plurals[version, kind]
        namespace = "/namespaces/default" if namespaced else ""
        return f"{root}{namespace}/{plural}", seed["metadata"]["name"]

    def query(self):
        names = self.random.sample(sorted(PARAMETERS), self.random.choice((0, 0, 1, 1, 2, 4)))
        found = [(name, self.random.choice(PARAMETERS[name])) for name in names]
        if self.random.random() < 0.1:
            found.append(("continue", self.token()))
        return found

    def token(self):
        """Return a continue token that a list gave, or one bent."""
        token = self.random.choice(self.tokens)
        if self.random.random() < 0.5:
            return token
        try:
            inside = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except ValueError:
            return token[: self.random.randrange(len(token) + 1)]
        inside = self.broken(inside)
        return base64.urlsafe_b64encode(json.dumps(inside).encode()).decode().rstrip("=")

    def body(self, seed):
        tree = copy.deepcopy(seed)
        if self.random.random() < 0.5:
            tree["metadata"]["name"] = f"n{self.random.randrange(100)}"
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 5))):
            tree = self.broken(tree)
        return tree

    def broken(self, tree):
        """Return the tree with one place of it changed."""
        nodes = list(_places(tree))
        if not nodes:
            return self.random.choice(VALUES)
        holder, key = self.random.choice(nodes)
        change = self.random.randrange(6)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif change == 2 and isinstance(holder, dict):
            holder[str(self.random.choice(VALUES))] = copy.deepcopy(self.random.choice(VALUES))
        elif change == 3:
            other, where = self.random.choice(nodes)
            holder[key] = copy.deepcopy(other[where])
        else:
            holder[key] = copy.deepcopy(self.random.choice(VALUES))
        return tree

    def operations(self, seed):
        paths = ["/" + "/".join(path) for path in _paths(seed)]
        pick, odd = (
            self.random.choice,
            (
                "",
                "/",
                "/-",
                "/metadata/labels/-",
                "/spec/containers/-",
                "/spec/containers/99",
                "/a~1b/~0",
                "x",
                "/~",
            ),
        )
        chosen = [*paths, *odd]
        return [
            {"op": pick(("add", "remove", "replace", "move", "copy", "test", "x")), "path": pick(chosen), "from": pick(chosen), "value": pick(VALUES)}
            for _ in range(pick((0, 1, 1, 3)))
        ]  # fmt: skip


def _places(tree):
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _paths(tree, path=()):
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        here = (*path, str(key).replace("~", "~0").replace("/", "~1"))
        yield here
        yield from _paths(tree[key], here)


def plurals(api):
    """Return (apiVersion, kind) → (plural, namespaced) as discovery tells."""
    found = {}
    for version in {seed["apiVersion"] for seed in SEEDS}:
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        for row in api.send("GET", root).tree().get("resources", ()):
            if "/" not in row["name"]:
                found[version, row["kind"]] = (row["name"], row["namespaced"])
    return found


BARE = (
    {},
    {"metadata": {"name": "bare"}},
    {"metadata": {"generateName": "bare-"}, "spec": {}},
    {"metadata": {"name": "bare"}, "spec": None, "status": {}},
)


def bare(api):
    """Send the least one can send to every collection that discovery tells of; return what went wrong."""
    wrong = []
    groups = [
        f"/apis/{v['groupVersion']}" for g in api.send("GET", "/apis").tree()["groups"] for v in g["versions"]
    ]
    for root in ("/api/v1", *groups):
        for row in api.send("GET", root).tree()["resources"]:
            if "/" in row["name"]:
                continue
            place = (
                f"{root}/namespaces/default/{row['name']}" if row["namespaced"] else f"{root}/{row['name']}"
            )
            cases = [
                ("POST", place),
                ("PUT", f"{place}/bare"),
                ("PATCH", f"{place}/bare"),
                ("DELETE", f"{place}/bare"),
            ]
            for method, path in cases:
                for body in BARE:
                    kind = "merge-patch+json" if method == "PATCH" else "json"
                    answer = api.send(method, path, body, Content_Type=f"application/{kind}")
                    if answer.wrong:
                        wrong.append(f"{answer.code} {method} {path} {body}: {answer.body!r}")
    return wrong


def prepare(api):
    """Make what requests are about, again if it was deleted."""
    api.send("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
    api.send("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    known = plurals(api) | {("example.com/v1", "Thing"): ("things", True)}
    maker = Maker(0, known)
    for seed in SEEDS:
        api.send("POST", maker.place(seed)[0], seed)
    return known


def tried(api, *, cases, seed, report=lambda text: None):
    """Do `cases` requests; return what was answered how often, and what went wrong."""
    answer = api.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", SEEDS[-2])
    assert answer.code in {201, 409}, answer
    maker = Maker(seed, prepare(api))
    codes, wrong = Counter(), bare(api)
    for number in range(cases):
        if number % 100 == 99:
            prepare(api)
        if number % 5000 == 4999:
            report(f"{number + 1} cases, {dict(codes)}")
        method, path, body, query, headers = maker.request()
        case = f"{method} {path} {query} {headers} {body!r}"
        try:
            answer = api.send(method, path, body, query=query, **headers)
        except (Hang, OSError, RuntimeError) as error:
            api.close()
            wrong.append(f"no answer: {error!r} to {case}")
            report(wrong[-1])
            continue
        codes[answer.code] += 1
        if answer.wrong:
            wrong.append(f"{answer.code} {case}: {answer.body!r}")
            report(wrong[-1])
        elif b'"continue":"' in answer.body and method == "GET":
            maker.tokens.append(answer.body.split(b'"continue":"')[1].split(b'"')[0].decode())
    return codes, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.monotonic()
    with served() as api:
        codes, wrong = tried(
            api, cases=options.cases, seed=options.seed, report=lambda text: print(text, flush=True)
        )
    print(f"{codes.total()} cases in {time.monotonic() - started:.0f} s: {dict(sorted(codes.items()))}")
    print("\n".join(wrong) or "no 5xx, no hang")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
