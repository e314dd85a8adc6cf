"""Health pages: all checks, one of them, without one."""

import pytest

from edgekube.api.errors import NotFound
from edgekube.apiserver.identity import ANONYMOUS
from edgekube.apiserver.pages import health_page
from edgekube.apiserver.request import Request

CHECKS = {"ping": lambda: True, "disk": lambda: False}


def ask(path="/readyz", **query):
    return health_page("readyz", CHECKS)(Request(method="GET", path=path, user=ANONYMOUS, query=query))


@pytest.mark.parametrize(
    ("path", "query", "code", "body"),
    [
        ("/readyz", {}, 500, "[+]ping ok\n[-]disk failed: reason withheld\nreadyz check failed\n"),
        ("/readyz", {"exclude": "disk"}, 200, "ok"),
        (
            "/readyz",
            {"exclude": "disk", "verbose": ""},
            200,
            "[+]ping ok\n[+]disk excluded: ok\nreadyz check passed\n",
        ),
        ("/readyz/ping", {}, 200, "ok"),
        ("/readyz/disk", {}, 500, "internal server error: disk failed\n"),
    ],
)
async def test_checks(path, query, code, body):
    response = await ask(path, **query)
    assert (response.code, response.body.decode()) == (code, body)


async def test_an_unknown_check_is_not_found():
    with pytest.raises(NotFound):
        await ask("/readyz/other")


@pytest.mark.parametrize(
    "path", ["/healthz", "/livez", "/readyz", "/readyz/", "/readyz/caches", "/livez/ping"]
)
async def test_anybody_may_ask_the_server(api, path):
    response = await api.send("GET", path, user=ANONYMOUS)
    assert (response.code, response.body) == (200, b"ok")
