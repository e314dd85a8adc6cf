"""CEL's `authorizer`: asking in an expression whether the user may do something (k8s.io/apiserver/pkg/cel/library/authz.go)."""

from collections.abc import Callable, Mapping
from typing import Any

from edgekube.api.errors import Forbidden
from edgekube.apiserver.authz import Access, Authorization
from edgekube.apiserver.identity import SERVICE_ACCOUNT_PREFIX, SERVICE_ACCOUNTS, User

Wish = dict[str, Any]


def functions_of(authorization: Authorization, user: User) -> Mapping[str, Callable[..., Any]]:
    """Return the functions; each takes and returns the question so far, `check` answers it."""

    def put(field: str) -> Callable[[Wish, str], Wish]:
        return lambda wish, value: {**wish, field: value}

    def service_account(wish: Wish, namespace: str, name: str) -> Wish:
        return {**wish, "account": [namespace, name]}

    def check(wish: Wish, verb: str) -> Wish:
        who = user
        if "account" in wish:
            namespace, name = wish["account"]
            groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", "system:authenticated")
            who = User(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups)
        access = Access(
            verb=verb, group=wish.get("group", ""), plural=wish.get("resource", ""),
            subresource=wish.get("subresource", ""), namespace=wish.get("namespace", ""), name=wish.get("name", ""),
            path=wish.get("path", ""),
        )  # fmt: skip
        try:
            authorization.require(who, access)
        except Forbidden as error:
            return {"allowed": False, "reason": str(error)}
        return {"allowed": True, "reason": ""}

    fields = ("group", "resource", "subresource", "namespace", "name", "path")
    return {
        **{field: put(field) for field in fields},
        "serviceAccount": service_account,
        "check": check,
        "allowed": lambda answer: answer["allowed"],
        "reason": lambda answer: answer["reason"],
        "errored": lambda _answer: False,
        "error": lambda _answer: "",
    }
