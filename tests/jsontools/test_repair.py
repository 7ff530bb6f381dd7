"""Broken JSON that is mended: what was written in it is what comes out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsontools.text import compact, repair

WRITTEN = {
    "a line of a shell that goes on": "docker run \\\n  -p 80:80 \\\n  it\n",
    "a backslash before a quote": 'say \\"hi\\"',
    "backslashes at the end": "C:\\\\",
    "letters behind a backslash": "C:\\new\\table",
    "two line ends at the end": "a\n\n",
    "a character in two halves": "😀",
    "an old private character": "\ue000 \ue001",
}


@pytest.mark.parametrize("case", WRITTEN)
@pytest.mark.parametrize("end", ["", ",}", "]}", "}]}"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_in_broken_json_is_kept(case: str, end: str, ascii_only: bool) -> None:
    value = {"command": WRITTEN[case], "n": 1}
    written = json.dumps(value, ensure_ascii=ascii_only)
    assert compact(repair(written[:-1] + end)) == compact(value)


TEXTS = st.text(st.sampled_from("ab1 \\\n\t\"'{}[],:é😀"), max_size=8)
KEYS = st.sampled_from(["a", "b c", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


@given(VALUES, st.booleans())
def test_any_json_that_lacks_its_last_bracket_means_the_same(value: Any, ascii_only: bool) -> None:
    written = json.dumps({"a": value}, ensure_ascii=ascii_only)
    assert compact(repair(written[:-1])) == compact({"a": value})
