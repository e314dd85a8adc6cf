"""A short run of the fuzzers; their programs run as long as one likes."""

import pytest

from fuzz import nonsense
from fuzz.served import served

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def api():
    with served() as found:
        yield found


def test_broken_objects_and_odd_parameters(api):
    codes, wrong = nonsense.tried(api, cases=1500, seed=20)
    assert not wrong, "\n".join(wrong)
    # Enough of it has to get past the door.
    assert codes[200] + codes[201] > 200
    assert codes[422] > 50


def test_cases_made_from_the_served_schemas(api):
    pytest.importorskip("schemathesis")
    from fuzz import openapi  # noqa: PLC0415 - after the question whether schemathesis is here

    codes, wrong = openapi.tried(api, cases=300, seed=20, every=17)
    assert not wrong, "\n".join(wrong)
    assert codes.total() >= 300


def test_the_fuzzer_sees_what_is_wrong(api):
    class Broken:
        def send(self, method, path, *rest, **more):
            answer = api.send(method, path, *rest, **more)
            return type(answer)(500, b"") if method == "PUT" and "configmaps" in path else answer

    _, wrong = nonsense.tried(Broken(), cases=200, seed=20)
    assert wrong
