"""
Cases that schemathesis makes of the OpenAPI documents this server serves: no answer is 5xx, none hangs.

    python tests/fuzz/openapi.py [--cases 20000] [--seed 1]
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import hypothesis
import schemathesis
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.served import Hang, served

SETTINGS = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "phases": (hypothesis.Phase.generate,),
    "print_blob": False,
}
ACCOUNT = {"metadata": {"name": "default"}}
# Names that are there half of the time, so that more than the routes is tried.
NAMES = ("a", "default", "kubernetes", "kube-system", "admin")


# What stands behind a proxied path may be away.
BEHIND = frozenset({502, 503})


class Wrong(AssertionError):
    """An answer that no request may get."""


def operations(api):
    """Return every operation of every document that `api` serves."""
    index = api.send("GET", "/openapi/v3").tree()
    for path in sorted(index["paths"]):
        document = api.send("GET", f"/openapi/v3/{path}").tree()
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            yield found.ok()


def encoded(case):
    """Return the body as bytes, or None."""
    if type(case.body).__name__ == "NotSet":
        return None
    if isinstance(case.body, bytes):
        return case.body
    if "yaml" in (case.media_type or ""):
        return yaml.safe_dump(_plain(case.body), allow_unicode=True).encode(errors="replace")
    return json.dumps(_plain(case.body)).encode()


def _plain(tree):
    if isinstance(tree, dict):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return tree if isinstance(tree, str | int | float | bool | None) else str(tree)


def place(case, number):
    """Fill in the path; two of three cases are about namespaces and names that may be there."""
    if number % 3:
        for name in case.path_parameters or {}:
            case.path_parameters[name] = "default" if name == "namespace" else NAMES[number % len(NAMES)]
    return case.formatted_path


def named(case, number):
    """Give every other body a name that is taken or could be."""
    body = case.body
    if number % 2 and isinstance(body, dict) and "metadata" in body:
        metadata = body["metadata"] if isinstance(body["metadata"], dict) else {}
        body["metadata"] = {"name": NAMES[number % len(NAMES)]} | (
            {"labels": metadata["labels"]} if "labels" in metadata else {}
        )


def try_operation(api, operation, *, cases, seed, codes):
    """Do `cases` requests of an operation; raises Wrong."""
    number = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=cases, **SETTINGS)
    @hypothesis.given(operation.as_strategy())
    def one(case):
        nonlocal number
        number += 1
        path = place(case, number)
        named(case, number)
        query = [(name, str(value)) for name, value in (case.query or {}).items()]
        media = case.media_type or "application/json"
        body = encoded(case)
        try:
            answer = api.send(case.method, path, body, query=query, Content_Type=media)
        except Hang as error:
            raise Wrong(f"no answer: {error} {body!r}") from error
        codes[answer.code] += 1
        if answer.wrong and not ("/proxy" in path and answer.code in BEHIND):
            raise Wrong(f"{answer.code} {case.method} {path} {query} {media} {body!r}: {answer.body!r}")

    one()


def tried(api, *, cases, seed, report=lambda text: None, every=1):
    """Try every `every`-th operation; return what was answered how often, and what went wrong."""
    chosen = list(operations(api))[::every]
    codes, wrong = Counter(), []
    share = max(1, -(-cases // len(chosen)))
    for count, operation in enumerate(chosen):
        api.send("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}})
        api.send("POST", "/api/v1/namespaces/default/serviceaccounts", ACCOUNT)
        try:
            try_operation(api, operation, cases=share, seed=seed + count, codes=codes)
        except Wrong as error:
            wrong.append(str(error))
            report(f"WRONG {error}")
        if count % 25 == 0:
            report(f"{count}/{len(chosen)} operations, {codes.total()} cases")
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
