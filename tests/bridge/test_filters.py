"""The filters between upstream and caller, at every way to cut a text into pieces."""

from collections.abc import Iterable
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.filters import (
    count_usage,
    cut_at_length,
    cut_at_stop,
    hide_reasoning,
    split_think,
    tag_reasoning,
)
from bridge.tokens import estimate_tokens
from errors import ThoughtsOnly
from events import (
    Citation,
    Done,
    Event,
    Reasoning,
    Silence,
    Text,
    ToolCall,
    Usage,
    Working,
)


def told(pieces: Iterable[str]) -> Iterable[Event]:
    yield from (Text(piece) for piece in pieces)
    yield Done()


def said(events: Iterable[Event], kind: type[Text] | type[Reasoning] = Text) -> str:
    return "".join(e.text for e in events if isinstance(e, kind))


def splits(text: str) -> list[list[str]]:
    halves = [[text[:i], text[i:]] for i in range(1, len(text))]
    return [[text], list(text), *halves]


def parted(events: Iterable[Event], *, calls: bool = False) -> tuple[list[Event], bool]:
    """What `split_think` makes of them, and whether it says that they were thoughts only."""
    passed: list[Event] = []
    try:
        for event in split_think(iter(events), calls=calls):
            passed.append(event)  # noqa: PERF402 - those before the error count
    except ThoughtsOnly:
        return passed, True
    return passed, False


THINK = [
    ("<think>Hm</think>Hi", "Hm", "Hi"),
    ("<think>\nHm\nm\n\n</think>\nHi\n", "Hm\nm", "Hi\n"),
    ("<THINK>Hm</Think>Hi", "Hm", "Hi"),
    (" \n<think>Hm</think> Hi", "Hm", "Hi"),
    ("<think>a</think>\n<think>b</think>c", "ab", "c"),
    ("<think>Hm", "Hm", ""),
    ("<think>Hm</thin", "Hm</thin", ""),
    ("<think></think>Hi", "", "Hi"),
    ("<thinking", "", "<thinking"),
    (" <thin", "", " <thin"),
    ("<", "", "<"),
    ("  spaces stay", "", "  spaces stay"),
    ("Tags in prose: <think>x</think>", "", "Tags in prose: <think>x</think>"),
    ("a < b", "", "a < b"),
    ("<thinking>\nHm\n</thinking>\n\nHi", "Hm", "Hi"),
    ("<thought>Hm</thought>Hi", "Hm", "Hi"),
    ("<seed:think>Hm</seed:think>Hi", "Hm", "Hi"),
    ("<mm:think>\nHm</mm:think>\n\nHi", "Hm", "Hi"),
    ("<ifm|think_fast>Hm</ifm|think_fast>Hi", "Hm", "Hi"),
    ("[THINK]Hm[/THINK]Hi", "Hm", "Hi"),
    ("[THINKS]Hm", "", "[THINKS]Hm"),
    ("<|channel>thought\nHm\n<channel|>Hi", "Hm", "Hi"),
    ("<|START_THINKING|>Hm<|END_THINKING|>Hi", "Hm", "Hi"),
    ("<|open|>think<|sep|>Hm<|close|>think<|sep|>Hi", "Hm", "Hi"),
    ("<|open|>thin", "", "<|open|>thin"),
    ("◁think▷Hm◁/think▷Hi", "Hm", "Hi"),
    ("to=self<|message|>Hm<|eom|>Hi", "Hm", "Hi"),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b"
        "<|end|>Hi",
        "ab",
        "Hi",
    ),
    ("</think>\n\nHi", "", "Hi"),
    (" </mm:think><think>Hm</think></think>Hi", "Hm", "Hi"),
    ("Hi</think>", "", "Hi</think>"),
    ("<thinking>a</think>b</thinking>c", "a</think>b", "c"),
    ("<thoughts>a", "", "<thoughts>a"),
    ("<think>a\n\n\nb\n</think>\n", "a\n\n\nb", ""),
    ("<think>İKſ</think>Hi", "İKſ", "Hi"),
]


@pytest.mark.parametrize(("text", "thought", "answer"), THINK, ids=[t[0] for t in THINK])
def test_thoughts_are_split_from_the_answer_at_any_cut(
    text: str, thought: str, answer: str
) -> None:
    for pieces in splits(text):
        events, empty = parted(told(pieces))
        assert said(events, Reasoning) == thought, pieces
        assert said(events) == answer, pieces
        assert empty == (not answer)
        assert empty or events[-1] == Done()


@given(st.text(alphabet="<think/>x \n", max_size=40), st.data())
def test_cutting_a_wire_elsewhere_changes_nothing(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True) if text[a:b]]
    (whole, empty), (parts, also) = (parted(told(p)) for p in ([text] if text else [], pieces))
    assert empty == also
    assert said(whole) == said(parts)
    assert said(whole, Reasoning) == said(parts, Reasoning)


@given(st.lists(st.text(max_size=20)))
def test_text_without_tags_is_passed_on_unchanged(pieces: list[str]) -> None:
    text = "".join(pieces)
    if "<" not in text:
        events, empty = parted(told(pieces))
        assert said(events) == text
        assert empty == (not text.strip())


CALLED = '<tool_call>\n{"name": "f"}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "calls", "reason", "called"),
    [
        (f"<think>So:\n{CALLED}\n", True, "stop", True),
        (f"<think>So:\n{CALLED}", False, "stop", False),
        (f"<think>So:\n{CALLED}", True, "length", False),
        (f"<think>Perhaps {CALLED}? No.", True, "stop", False),
        (f"<think>So:\n{CALLED}</think>", True, "stop", False),
        (f"<think>{CALLED[:-1]}", True, "stop", False),
        ("<think></tool_call>", True, "stop", False),
    ],
)
def test_a_call_that_ends_unclosed_thoughts_is_text(
    text: str, calls: bool, reason: str, called: bool
) -> None:
    for pieces in splits(text):
        events: list[Event] = [*map(Text, pieces), Done(reason)]
        shaped, empty = parted(events, calls=calls)
        assert said(shaped) == (CALLED if called else ""), pieces
        assert empty == (reason == "stop" and not called)
        assert empty or shaped[-1] == Done(reason)


@pytest.mark.parametrize(
    "answer",
    [
        [Text("<thi"), Usage(1, 1)],
        [ToolCall("i", "f", "{}"), Usage(1, 1)],
        [Text("<think>a</think>b")],
    ],
    ids=repr,
)
def test_words_and_calls_are_an_answer(answer: list[Event]) -> None:
    events, empty = parted([Reasoning("Hm"), *answer, Done()], calls=True)
    assert not empty
    assert events[-1] == Done()


def test_the_rest_flows_while_a_tag_is_awaited() -> None:
    events: list[Event] = [Text("<thi"), Silence(), Working(), Citation("t"), Text("x"), Done()]
    shaped = list(split_think(iter(events)))
    assert shaped == [Silence(), Working(), Text("<thi"), Citation("t"), Text("x"), Done()]


def test_the_first_word_of_an_answer_is_not_held_back() -> None:
    shaped = split_think(iter([Text("H")]))
    assert next(shaped) == Text("H")


STOPS = [
    ("one END two", ("END",), "one ", "END"),
    ("one EN", ("END",), "one EN", ""),
    ("aab", ("ab", "b"), "a", "ab"),
    ("aab", ("b", "ab"), "a", "ab"),
    ("xENENDx", ("END",), "xEN", "END"),
    ("aabaabaaab", ("aabaaa",), "aab", "aabaaa"),
    ("no stop", ("zzz",), "no stop", ""),
    ("END", ("END",), "", "END"),
    ("a\n\nb", ("\n\n", "b"), "a", "\n\n"),
]


@pytest.mark.parametrize(("text", "stops", "left", "stop"), STOPS)
def test_an_answer_ends_before_the_first_stop_at_any_cut(
    text: str, stops: tuple[str, ...], left: str, stop: str
) -> None:
    for pieces in splits(text):
        *events, end = cut_at_stop(iter(told(pieces)), stops)
        assert said(events) == left, pieces
        assert end == Done("stop", stop)
        assert not any(isinstance(event, Done) for event in events)


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1))
def test_no_text_after_a_stop_and_none_lost_before_it(text: str, stops: list[str]) -> None:
    complete = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
    expected = text[: min(complete)[1]] if complete else text
    for pieces in (text, [text]):
        assert said(cut_at_stop(iter(told(pieces)), tuple(stops))) == expected


def test_the_rest_flows_while_a_stop_is_awaited() -> None:
    events: list[Event] = [Text("aE"), Silence(), Text("N"), Citation("t"), Text("D"), Done()]
    shaped = list(cut_at_stop(iter(events), ("END",)))
    assert shaped == [Text("a"), Silence(), Text("EN"), Citation("t"), Text("D"), Done()]


class Counted(str):
    """Text that counts how often something looks into it."""

    looks = 0

    def __getitem__(self, at: Any) -> str:
        Counted.looks += 1
        return str.__getitem__(self, at)


@pytest.mark.parametrize("size", [1, 7, 4000])
def test_stops_cost_in_proportion_to_the_text(size: int) -> None:
    stop, text = Counted("a" * 400 + "b"), "a" * 4000
    pieces = [Counted(text[at : at + size]) for at in range(0, len(text), size)]
    Counted.looks = 0
    assert said(cut_at_stop(iter(told(pieces)), (stop,))) == text
    assert Counted.looks < 8 * len(text)


def test_line_ends_within_thoughts_cost_in_proportion() -> None:
    pieces = ["<think>a", *["\n"] * 60_000, "b"]
    start = thread_time()
    assert said(parted(told(pieces))[0], Reasoning) == "".join(pieces)[7:]
    assert thread_time() - start < 5  # it takes 0.3 s; held text that is looked at again, 14 s


@pytest.mark.parametrize(
    ("thought", "passed"),
    [("hello </thi", "hello "), ("hello <<", "hello <"), ("hello", "hello")],
)
def test_only_a_possible_beginning_is_held_back(thought: str, passed: str) -> None:
    events = split_think(iter([Text(f"<think>{thought}"), Silence(), Done()]))
    assert next(events) == Reasoning(passed)
    assert next(events) == Silence()


@pytest.mark.parametrize("limit", [1, 5, 20, 100])
def test_an_answer_is_cut_at_its_length_thoughts_included(limit: int) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 40
    for pieces in ([text], text.split(" "), list(text)):
        events: list[Event] = [Reasoning("Let me think about it."), *told(pieces)]
        cut = list(cut_at_length(iter(events), limit))
        assert cut[-1] == Done("length")
        kept = said(cut, Reasoning) + said(cut)
        assert (said(cut, Reasoning) + said(events)).startswith(kept)
        assert 0 < estimate_tokens(kept) <= limit * 1.15 + 1


def test_an_answer_within_its_length_is_left_alone() -> None:
    events: list[Event] = [Text("Hello"), Usage(1, 2), Done("stop")]
    assert list(cut_at_length(iter(events), 50)) == events


def test_usage_comes_once_before_the_end() -> None:
    events: list[Event] = [Text("Hello"), Usage(3, 5), Done()]
    assert list(count_usage(iter(events), lambda: 9)) == [Text("Hello"), Usage(3, 5), Done()]
    events = [Reasoning("Hm"), Text("Hello"), Done()]
    estimated = list(count_usage(iter(events), lambda: 9))
    assert estimated[-2] == Usage(9, 2, 1)
    assert estimated[-1] == Done()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Usage(0, 0), Usage(9, 2, 1)),  # of null, of floats, or by other names
        (Usage(3, 0, cached=2), Usage(3, 2, 1, cached=2)),
        (Usage(0, 5), Usage(9, 5)),
    ],
)
def test_a_count_that_cannot_be_true_is_estimated(given: Usage, told: Usage) -> None:
    events: list[Event] = [Reasoning("Hm"), Text("Hello"), given, Done()]
    assert list(count_usage(iter(events), lambda: 9))[-2] == told


def test_thoughts_can_be_hidden_or_put_back_into_the_text() -> None:
    events: list[Event] = [Reasoning("a"), Silence(), Reasoning("b"), Text("c"), Done()]
    assert said(tag_reasoning(iter(events))) == "<think>\nab\n</think>\n\nc"
    hidden = list(hide_reasoning(iter(events)))
    assert hidden == [Silence(), Text("c"), Done()]
