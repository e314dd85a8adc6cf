"""The command line's decisions: patches, tables, durations, progress, parsing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api.patch import merge_patch
from edgekube.cli.apply import covers, manifests, three_way
from edgekube.cli.describe import render
from edgekube.cli.main import COMMANDS, parser_for
from edgekube.cli.output import plain_table, rows_of
from edgekube.cli.session import UsageError
from edgekube.cli.streams import seconds_of
from edgekube.cli.workloads import progress

names = st.sampled_from("abcd")
leaves = st.one_of(st.integers(0, 3), st.text("xy", max_size=2), st.lists(st.integers(0, 2), max_size=2))
trees = st.recursive(
    st.dictionaries(names, leaves, max_size=3),
    lambda t: st.dictionaries(names, st.one_of(leaves, t), max_size=3),
)


@given(last=trees, wish=trees, live=trees)
def test_a_three_way_patch_makes_the_wish_true_and_the_next_one_empty(last, wish, live):
    after = merge_patch(live, three_way(last, wish, live))
    assert covers(after, wish)
    assert three_way(wish, wish, after) == {}


@given(last=trees, live=trees)
def test_what_was_applied_before_and_is_no_longer_wished_goes_away(last, live):
    after = merge_patch(live, three_way(last, {}, live))
    assert set(after) == set(live) - set(last)


def test_lists_are_matched_with_what_the_server_filled_in():
    wish = {"containers": [{"name": "a", "image": "x"}]}
    live = {"containers": [{"name": "a", "image": "x", "imagePullPolicy": "Always"}]}
    assert three_way({}, wish, live) == {}
    assert three_way({}, {"containers": []}, live) == {"containers": []}


def test_columns_of_low_priority_are_for_wide_only():
    table = {
        "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "IP", "priority": 1}],
        "rows": [{"cells": ["a", None], "object": {"metadata": {"namespace": "n"}}}],
    }
    assert rows_of(table, wide=False, namespace=True) == (["NAMESPACE", "NAME"], [["n", "a"]])
    assert rows_of(table, wide=True, namespace=False) == (["NAME", "IP"], [["a", "<none>"]])
    assert plain_table(["A", "LONG"], [["xyz", "1"]]) == "A     LONG\nxyz   1\n"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400)])
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["90", "m", "5 m", "5x", "1h3"])
def test_wrong_durations_are_named(text):
    with pytest.raises(UsageError, match=text[:1]):
        seconds_of(text)


def deployment(**status):
    return {
        "metadata": {"name": "web", "generation": 2},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": 2, **status},
    }


@pytest.mark.parametrize(
    ("status", "message", "done"),
    [
        ({"observedGeneration": 1}, "spec update to be observed", False),
        ({"updatedReplicas": 1, "replicas": 3}, "1 out of 3 new replicas have been updated", False),
        ({"updatedReplicas": 3, "replicas": 4}, "1 old replicas are pending termination", False),
        (
            {"updatedReplicas": 3, "replicas": 3, "availableReplicas": 2},
            "2 of 3 updated replicas are available",
            False,
        ),
        ({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}, "successfully rolled out", True),
    ],
)
def test_rollout_progress(status, message, done):
    text, finished = progress(deployment(**status))
    assert message in text
    assert finished is done


def test_a_stuck_rollout_is_an_error():
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    with pytest.raises(UsageError, match="exceeded its progress deadline"):
        progress(deployment(conditions=[condition]))


def test_manifests_name_what_is_wrong(tmp_path):
    file = tmp_path / "a.yaml"
    for text, wrong in (
        ("a: [", "a.yaml"),
        ("- 1", "not an object"),
        ("kind: Pod", "apiVersion is missing"),
        ("{apiVersion: v1, kind: Pod}", "metadata.name is missing"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=wrong):
            list(manifests([str(file)], recursive=False))
    file.write_text(
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, metadata: {name: x}}]}\n---\n"
    )
    assert [m["metadata"]["name"] for m in manifests([str(tmp_path)], recursive=False)] == ["x"]


def test_describe_hides_secrets():
    tree = {"metadata": {"name": "s"}, "type": "Opaque", "data": {"password": "c2VjcmV0"}}
    text = render(tree, "Secret")
    assert "c2VjcmV0" not in text
    assert "password: 6 bytes" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_verb_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        parser_for([command.name]).parse_args([command.name, "--help"])
    assert end.value.code == 0
    assert command.help.capitalize() in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")
