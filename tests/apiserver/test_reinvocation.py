"""Webhooks and policies see an object once more when a later one changed it, and only then."""

import pytest

from edgekube.apiserver.admission.reinvocation import Round

from .test_mutating_policies import MAPS, apply, bound, config, policy
from .test_webhooks import allow, change, judge, put, register  # noqa: F401 - a fixture

AGAIN = {"reinvocationPolicy": "IfNeeded"}
COUNT = "Object{data: {'n': string(size(object.data))}}"


@pytest.mark.parametrize(("steps", "after", "expected"), [
    ([("a", False, True), ("b", True, True)], 0, {"a"}),
    ([("a", True, True), ("b", False, True)], 0, set()),
    ([("a", False, False), ("b", True, True)], 0, set()),
    ([("a", False, True), ("b", False, True), ("c", True, False), ("d", False, True)], 0, {"a", "b"}),
    ([("a", False, True), ("b", False, False)], 1, {"a"}),
    ([("a", False, False)], 1, set()),
    ([], 1, set()),
])  # fmt: skip
def test_who_is_due(steps, after, expected):
    done, obj = Round(), {"n": 0}
    for key, changed, again in steps:
        done.note(key, changed=changed, again=again)
    done.ended(obj)
    assert done.needed({"n": after}) == expected


async def test_a_policy_sees_what_a_webhook_changed(api, judge):  # noqa: F811 - the fixture
    await bound(api, policy("count", apply(COUNT), **AGAIN))
    await bound(api, policy("once", apply("Object{data: {'once': string(size(object.data))}}")))
    await register(api, "Mutating", "m", judge.hook("/more", change(put("more", "x"))))
    made = await api.post(MAPS, config(k="1"))
    assert made["data"] == {"k": "1", "n": "4", "once": "2", "more": "x"}
    assert len(judge.asked) == 1, "one that does not want to know is asked once"


async def test_a_webhook_sees_what_a_policy_changed_the_second_time(api, judge):  # noqa: F811
    await bound(api, policy("count", apply(COUNT), **AGAIN))
    await register(
        api, "Mutating", "m", judge.hook("/one", allow, **AGAIN), judge.hook("/two", change(put("two", "x")))
    )
    made = await api.post(MAPS, config(k="1"))
    assert made["data"] == {"k": "1", "n": "3", "two": "x"}
    assert [path for path, _ in judge.asked] == ["/one", "/two", "/one"]
    assert judge.asked[-1][1]["object"]["data"] == made["data"]


async def test_what_changes_nothing_asks_nobody_again(api, judge):  # noqa: F811
    await bound(api, policy("same", apply("Object{data: {'k': '1'}}"), **AGAIN))
    await register(
        api, "Mutating", "m", judge.hook("/one", allow, **AGAIN), judge.hook("/two", allow, **AGAIN)
    )
    await api.post(MAPS, config(k="1"))
    assert [path for path, _ in judge.asked] == ["/one", "/two"]


async def test_a_second_change_asks_nobody_a_third_time(api, judge):  # noqa: F811
    answers = iter("12345")

    def grow(wish):
        return change(put("n", next(answers)))(wish)

    await register(api, "Mutating", "m", judge.hook("/one", grow, **AGAIN), judge.hook("/two", grow, **AGAIN))
    made = await api.post(MAPS, config(k="1"))
    assert [path for path, _ in judge.asked] == ["/one", "/two", "/one"]
    assert made["data"] == {"k": "1", "n": "3"}
