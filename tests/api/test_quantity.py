from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekube.api import quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"), ("0.0", "0"), ("0Mi", "0"), ("0.5", "500m"), (".5", "500m"), ("1.", "1"), ("1000m", "1"),
        ("1000", "1k"), ("1500", "1500"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("1023Ki", "1023Ki"),
        ("512", "512"), ("1024", "1024"), ("0.5Ki", "512"), ("1e3", "1e3"), ("1E3", "1e3"), ("12e2", "1200"),
        ("1e-3", "1e-3"), ("100E", "9223372036854775807"), ("9Ei", "9223372036854775807"), ("1E", "1E"),
        ("-1", "-1"), ("-1000m", "-1"), ("+1", "1"), ("0.1n", "1n"), ("-0.1n", "-1n"), ("1e-400", "1e-9"),
        ("1e999999999", "9223372036854775807"), ("100u", "100u"), ("1000000u", "1"), ("0.1", "100m"),
        ("1100Mi", "1100Mi"), ("0.0001Gi", "107374182400u"), ("1.0001Ki", "1024102400u"),
        (1, "1"), (0.5, "500m"), (2000, "2k"), (1e21, "9223372036854775807"),
    ],
)  # fmt: skip
def test_canonical_form(text, expected):
    assert quantity.canonical(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "1x", "1 Mi", "1mi", "1e", "1e+", "--1", ".", "1.2.3", "1K", "1g", "1Mi3", "m", "inf", "nan", "1\n", "1" * 1000, "\u0661"],
)  # fmt: skip
def test_what_is_no_quantity(text):
    with pytest.raises(quantity.InvalidQuantity):
        quantity.canonical(text)


@pytest.mark.parametrize(
    ("text", "milli", "value"),
    [
        ("100m", 100, 1),
        ("1", 1000, 1),
        ("1.0005", 1001, 2),
        ("-1500m", -1500, -1),
        ("1Ki", 1024000, 1024),
        ("1n", 1, 1),
    ],
)
def test_rounding_up(text, milli, value):
    assert (quantity.milli(text), quantity.value(text)) == (milli, value)


def test_parse():
    assert quantity.parse("1.5Gi") == Decimal(1610612736)
    assert quantity.parse("-250m") == Decimal("-0.25")


QUANTITIES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    st.one_of(st.integers(0, 10**20).map(str), st.decimals(0, 10**9, places=4).map(lambda d: f"{d:f}")),
    st.sampled_from(
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2"]
    ),
)


@given(QUANTITIES)
def test_canonical_is_stable_and_keeps_the_amount(text):
    once = quantity.canonical(text)
    assert quantity.canonical(once) == once
    assert quantity.parse(once) == quantity.parse(text)
    assert "." not in once


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        quantity.canonical(text)
    except quantity.InvalidQuantity:
        return
    assert quantity.value(text) >= quantity.parse(text)
