"""Work in small steps: no event is long, and others have their turn between two of them."""

import time

import pytest

from events import Done, Event, Reasoning, Silence, Text
from server.turns import LONGEST, in_turns


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The turns that others were given."""
    given: list[float] = []
    monkeypatch.setattr(time, "sleep", given.append)
    return given


@pytest.mark.parametrize("kind", [Text, Reasoning])
def test_a_long_event_comes_in_pieces(kind: type[Text] | type[Reasoning]) -> None:
    text = "".join(map(str, range(20_000)))
    events = list(in_turns(iter([kind(text), Done()])))
    pieces = [event.text for event in events if isinstance(event, kind)]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LONGEST
    assert events[-1] == Done()


def test_others_pass_as_they_are() -> None:
    events: list[Event] = [Silence(), Text("x" * LONGEST), Text(""), Done()]
    passed = list(in_turns(iter(events)))
    assert all(one is other for one, other in zip(passed, events, strict=True))


def test_slow_work_gives_others_their_turn(turns: list[float]) -> None:
    for _ in in_turns(iter([Text("x" * LONGEST * 3)])):
        until = time.monotonic() + 0.03
        while time.monotonic() < until:
            pass
    assert turns == [0, 0, 0]
