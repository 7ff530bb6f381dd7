"""The estimate against real counts of o200k_base, and its behaviour on text made to upset it."""

import json
import time
from collections import defaultdict
from itertools import product

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from bridge import tokens
from bridge.tokens import MOST_PER_CHARACTER, estimate_tokens

CLOSE = ("english", "chinese", "python", "javascript", "json")


def _samples() -> dict[str, list[tuple[int, str]]]:
    samples = defaultdict(list)
    table = ROOT / "tests" / "data" / "tokens.tsv"
    for line in table.read_text(encoding="utf-8").split("\n"):
        if line and not line.startswith("#"):
            kind, count, text = line.split("\t")
            samples[kind].append((int(count), str(json.loads(text))))
    return samples


SAMPLES = _samples()
TEXTS = [text for kind in SAMPLES.values() for _, text in kind]


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_total_of_a_kind_is_close(kind: str) -> None:
    real = sum(count for count, _ in SAMPLES[kind])
    estimated = sum(estimate_tokens(text) for _, text in SAMPLES[kind])
    assert estimated == pytest.approx(real, rel=0.15 if kind in CLOSE else 0.25)


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_single_text_is_near(kind: str) -> None:
    far = {
        text: (count, estimate_tokens(text))
        for count, text in SAMPLES[kind]
        if abs(estimate_tokens(text) - count) > max(3, 0.3 * count)
    }
    assert not far


def test_no_text_is_no_tokens_and_any_text_is_one() -> None:
    assert estimate_tokens("") == 0
    for text in (" ", "\n", "a", "é", ".", "\0", "\ud800", "\u200b", "。", "\U0010ffff"):
        assert estimate_tokens(text) >= 1


@pytest.mark.parametrize(
    "char", [*"aA0 \n\t.=-_é哈かх가ع！😀", "\ud800", "ab ", "Aa", "x1", "\n  "]
)
def test_long_repetition_grows_in_step_and_never_explodes(char: str) -> None:
    once, twice, huge = (estimate_tokens(char * n) for n in (10_000, 20_000, 400_000))
    assert twice == pytest.approx(2 * once, rel=0.02)
    assert huge == pytest.approx(40 * once, rel=0.02)
    assert once <= 2 * 10_000 * len(char)


@pytest.mark.parametrize("text", TEXTS)
def test_more_text_is_hardly_ever_fewer_tokens(text: str) -> None:
    most = 0
    for end in range(1, len(text) + 1, 3):
        estimated = estimate_tokens(text[:end])
        assert estimated >= most - 2
        most = max(most, estimated)


def test_texts_put_together_are_the_sum() -> None:
    apart = sum(map(estimate_tokens, TEXTS))
    assert estimate_tokens("\n\n".join(TEXTS)) == pytest.approx(apart, rel=0.05)


def test_a_long_text_is_judged_by_slices_of_all_of_it() -> None:
    prose, code = (SAMPLES[kind][0][1] + "\n" for kind in ("english", "python"))
    whole = prose * 1500 + code * 1500
    real = 1500 * (SAMPLES["english"][0][0] + SAMPLES["python"][0][0])
    assert len(whole) > 1_000_000
    assert estimate_tokens(whole) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    "unit", ["A ", "x0", "Aa", "a'", " \n", "\n ", '."', "A", " ", "\n" + " " * 300, "AAAAAAA."]
)
def test_hostile_text_takes_no_time(unit: str) -> None:
    for size in (65_536, 4_000_000):
        text = unit * (size // len(unit))
        started = time.perf_counter()
        estimate_tokens(text)
        assert time.perf_counter() - started < 0.5


@given(st.text())
def test_no_text_is_estimated_at_more_than_the_bound(text: str) -> None:
    """`cut_at_length` counts no further where even that would be within its limit."""
    assert estimate_tokens(text) <= MOST_PER_CHARACTER * len(text)


def test_what_is_remembered_has_an_end() -> None:
    pieces = [" " + "".join(letters) for letters in product("aé", repeat=14)]
    before = [estimate_tokens(text) for text in TEXTS]
    estimate_tokens("".join(pieces[:1500]) + "a" * 5_000)
    assert len(tokens._costs) > 1000
    assert max(map(len, tokens._costs)) <= 32
    for start in range(0, len(pieces), 1000):
        estimate_tokens("".join(pieces[start : start + 1000]))
    assert len(tokens._costs) <= 8192
    assert [estimate_tokens(text) for text in TEXTS] == before
