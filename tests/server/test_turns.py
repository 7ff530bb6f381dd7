"""Work in small steps: no event is long, and others have their turn between two of them."""

import subprocess
import sys

import pytest
from conftest import ROOT

from events import Done, Event, Reasoning, Silence, Text
from server.turns import LONGEST, in_turns

TURNS = f"""
from gevent import monkey
monkey.patch_all()
import time
import gevent
from events import Text
from server.turns import in_turns

turns = 0
def other():
    global turns
    while True:
        turns += 1
        time.sleep(0)

gevent.spawn(other)
for _ in in_turns(iter([Text("x" * {LONGEST} * 3)])):
    pass
print(turns)
"""


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


def test_others_have_their_turn_between_two_pieces() -> None:
    said = subprocess.run([sys.executable, "-c", TURNS], cwd=ROOT, capture_output=True, check=True)
    assert int(said.stdout) >= 3
