import pytest

from edgekube.transport.topics import Topics, matches, node_of, stream_of


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/#", "a/b/c", True), ("a/#", "a", True),
        ("#", "a/b", True), ("+/b", "a/b", True), ("a/+/c", "a//c", True), ("a", "a/b", False), ("a/b", "a", False),
        ("#", "$SYS/x", False), ("+/x", "$SYS/x", False), ("$SYS/#", "$SYS/x", True),
    ],
)  # fmt: skip
def test_filters(topic_filter, topic, expected):
    assert matches(topic_filter, topic) is expected


def test_topics_name_their_node_and_stream():
    topics = Topics("c")
    assert node_of(topics.up("n1")) == node_of(topics.gone("n1")) == "n1"
    topic = topics.stream_out("n1", "abc")
    assert (node_of(topic), stream_of(topic)) == ("n1", "abc")
    assert matches(topics.stream_out("+", "+"), topic)
    assert not matches(topics.stream_in("n1", "+"), topic)
