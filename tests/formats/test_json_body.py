"""A body means the same however long it is, though long ones are read by another parser."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidRequest
from formats.fields import LONG, parse_json

SHORT = b'{"a": %s}'
PADDED = b'{"a": %s, "pad": "' + b"x" * LONG + b'"}'


def meaning(body: bytes) -> Any:
    """The value of `a`, or why there is none; places differ with the length."""
    try:
        value = parse_json(body).get("a")
    except InvalidRequest as wrong:
        return wrong.message.partition(" (at ")[0]
    return repr(value)  # which tells 1, 1.0 and -0.0 apart


NUMBERS = st.one_of(
    st.integers(),
    st.integers(2**63 - 3, 2**63 + 3),
    st.integers(2**64 - 3, 2**64 + 3),
    st.integers(-(2**63) - 3, -(2**63) + 3),
    st.floats(allow_nan=False, allow_infinity=False),
).map(repr)
EDGES = st.sampled_from(
    [
        "NaN", "-Infinity", "1e999", "-1e999", "1e-999", "-0", "-0.0", "1E5", "01", "1.",
        "1.7976931348623159e308", "9" * 400, '"\\ud83d"', '"\\ud83d\\ude00"', '"\\u0000"',
        '"\x00"', '"\x7f"', '{"b": 1, "b": 2}', "[1,]", "", "'a'", "tru",
        "[" * 600 + "]" * 600, "[" * 2000 + "]" * 2000,
    ]
)  # fmt: skip


@given(NUMBERS | EDGES | st.lists(NUMBERS, max_size=3).map(lambda some: f"[{','.join(some)}]"))
def test_a_long_body_means_what_a_short_one_means(text: str) -> None:
    value = text.encode("utf-8", "surrogatepass")
    assert meaning(PADDED % value) == meaning(SHORT % value)


@pytest.mark.parametrize(
    "before", [b"\xef\xbb\xbf", b"\xff\xfe", b"\n\t ", b"[", b"\x00"], ids=repr
)
def test_what_stands_before_it_counts_as_in_a_short_one(before: bytes) -> None:
    assert meaning(before + PADDED % b"1") == meaning(before + SHORT % b"1")


@pytest.mark.parametrize("number", [str(2**64), f'[{{"b": [{-(2**63) - 1}]}}]'])
def test_no_integer_is_rounded(number: str) -> None:
    assert meaning(PADDED % number.encode()) == number.replace('"', "'")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a": 1 b}', "at character 8"),
        (b'{"a": "\xff"}', "at byte 7"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "too large"),
        (SHORT % (b"7" * 5_000), "too large"),
    ],
)
def test_what_is_no_json_is_told_and_where(body: bytes, place: str) -> None:
    with pytest.raises(InvalidRequest, match=place):
        parse_json(body)


def test_a_long_body_has_to_be_utf_8_too() -> None:
    assert "UTF-8" in meaning(PADDED % b'"\xff"')
    assert meaning(PADDED % '"é"'.encode("utf-16-le")) == meaning(SHORT % '"é"'.encode("utf-16-le"))
