"""Token files, tokens of browsers, and nobody."""

import base64
import os

import pytest

from edgekube.api.errors import Unauthorized
from edgekube.apiserver.authn.base import Authentication, Credentials, credentials_of
from edgekube.apiserver.authn.tokenfile import PAUSE, BadTokenFile, TokenFile, read_tokens
from edgekube.apiserver.identity import ANONYMOUS, User

PROTOCOL = "base64url.bearer.authorization.k8s.io."


def test_lines_of_a_token_file():
    text = 'abc,ann,1,"dev,ops"\n\n# none\nxyz, bob ,2\n'
    assert read_tokens(text) == {"abc": User("ann", ("dev", "ops"), "1"), "xyz": User("bob", (), "2")}


@pytest.mark.parametrize("text", ["abc", "abc,ann", ",ann,1", "abc,,1"])
def test_broken_lines(text):
    with pytest.raises(BadTokenFile, match="line 1"):
        read_tokens(text)


async def test_a_token_file_is_read_again(tmp_path):
    path, now = tmp_path / "tokens", [0.0]
    path.write_text("one,ann,1\n")
    tokens = TokenFile(path, lambda: now[0])
    one, two = Credentials(token="one"), Credentials(token="two")
    assert (await tokens.authenticate(one)).name == "ann"

    def write(text):
        path.write_text(text)
        now[0] += PAUSE
        os.utime(path, (now[0], now[0]))

    write("two,bob,2\n")
    assert await tokens.authenticate(one) is None
    assert (await tokens.authenticate(two)).name == "bob"
    write("broken\n")
    assert (await tokens.authenticate(two)).name == "bob"
    path.unlink()
    now[0] += PAUSE
    assert (await tokens.authenticate(two)).name == "bob"


async def test_nobody_is_refused_when_anonymous_is_off():
    assert await Authentication(()).user_of(Credentials()) == ANONYMOUS
    with pytest.raises(Unauthorized):
        await Authentication((), anonymous=False).user_of(Credentials())


def test_a_browser_sends_its_token_as_a_subprotocol():
    encoded = base64.urlsafe_b64encode(b"tok?en~").decode().rstrip("=")
    headers = {"sec-websocket-protocol": f"v4.channel.k8s.io, {PROTOCOL}{encoded}"}
    assert credentials_of(headers, None).token == "tok?en~"
    both = {**headers, "authorization": "Bearer other"}
    assert credentials_of(both, None).token == "other"
    assert credentials_of({"sec-websocket-protocol": "v4.channel.k8s.io"}, None).token == ""
    with pytest.raises(Unauthorized):
        credentials_of({"sec-websocket-protocol": f"{PROTOCOL}_w"}, None)
