"""The one second try: when it is made, and what of the first the caller hears."""

from collections.abc import Iterator

import pytest

from bridge.second_try import ask_twice
from chat_request import Prompt
from errors import ThoughtsOnly, Unmet, UpstreamError
from events import (
    Citation,
    Done,
    Event,
    PromptSize,
    Reasoning,
    Silence,
    Text,
    ToolCall,
    Usage,
    Working,
)

PROMPT = Prompt([{"role": "user", "content": "q"}])
GOOD: list[Event] = [PromptSize(3), Reasoning("ah"), Text("{}"), Usage(1, 1), Done()]
SIGNS: list[Event] = [PromptSize(3), Silence(), Working()]


class Model:
    """Answers with the events of each try in turn, then with what is raised."""

    def __init__(self, *tries: list[Event | UpstreamError]) -> None:
        self.tries = list(tries)
        self.asked: list[tuple[Prompt, bool]] = []

    def __call__(self, prompt: Prompt, last_try: bool) -> Iterator[Event]:
        self.asked.append((prompt, last_try))
        for one in self.tries.pop(0):
            if isinstance(one, UpstreamError):
                raise one
            yield one


UNMET = Unmet("No JSON.", said="I cannot.")


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("first", [[], SIGNS, [*SIGNS, Reasoning("hm")]], ids=repr)
def test_it_is_asked_again_while_no_answer_has_left(hold: bool, first: list[Event]) -> None:
    model = Model([*first, UNMET], [*GOOD])
    passed = list(ask_twice(model, PROMPT, hold=hold))
    again = GOOD[1:] if PromptSize(3) in first else GOOD
    heard = [event for event in first if not (hold and isinstance(event, Reasoning))]
    assert passed == [*heard, *again]
    (_, one), (prompt, other) = model.asked
    assert (one, other) == (False, True)
    assert [m["role"] for m in prompt.messages] == ["user", "assistant", "user"]
    assert prompt.messages[1]["content"] == "I cannot."
    assert "No JSON." in prompt.messages[2]["content"]


@pytest.mark.parametrize("hold", [False, True])
def test_thoughts_alone_are_asked_for_again_in_the_same_words(hold: bool) -> None:
    model = Model([Silence(), Reasoning("hm"), ThoughtsOnly()], [*GOOD])
    passed = list(ask_twice(model, PROMPT, hold=hold))
    assert passed == [Silence(), *([] if hold else [Reasoning("hm")]), *GOOD]
    assert model.asked == [(PROMPT, False), (PROMPT, True)]


LEFT = [Text("a"), ToolCall("i", "f", "{}"), Citation("t")]


@pytest.mark.parametrize("event", LEFT, ids=lambda event: type(event).__name__)
def test_what_has_left_is_never_followed_by_a_second_answer(event: Event) -> None:
    for wrong in (UNMET, ThoughtsOnly()):
        model = Model([event, wrong], [*GOOD])
        with pytest.raises(type(wrong)):
            list(ask_twice(model, PROMPT, hold=False))
        assert len(model.asked) == 1


@pytest.mark.parametrize("event", LEFT, ids=lambda event: type(event).__name__)
def test_what_is_held_has_not_left_and_is_dropped(event: Event) -> None:
    model = Model([event, UNMET], [*GOOD])
    assert list(ask_twice(model, PROMPT, hold=True)) == GOOD


def test_a_good_answer_comes_as_it_is() -> None:
    assert list(ask_twice(Model([*GOOD]), PROMPT, hold=False)) == GOOD
    mixed: list[Event] = [Text("a"), Silence(), Text("b"), Done()]
    held = ask_twice(Model([*mixed]), PROMPT, hold=True)
    assert list(held) == [Silence(), Text("a"), Text("b"), Done()]


def test_the_second_failure_is_told() -> None:
    with pytest.raises(Unmet, match="still none"):
        list(ask_twice(Model([UNMET], [Unmet("still none", said="")]), PROMPT, hold=True))
