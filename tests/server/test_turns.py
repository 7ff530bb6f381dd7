"""Work in small steps: no event is long, and others have their turn between two of them."""

import subprocess
import sys

import pytest
from conftest import ROOT

from events import Done, Event, Reasoning, Silence, Text
from server.call import LONGEST, in_pieces

COUNTING = """
from gevent import monkey
monkey.patch_all()
import json
import time
import gevent
from events import Text
from proxy import create_app
from server.call import in_pieces
from settings import Settings

turns = 0
def other():
    global turns
    while True:
        turns += 1
        time.sleep(0)

gevent.spawn(other)
"""
LONG_EVENT = f"""
for _ in in_pieces(iter([Text("x" * {LONGEST} * 3)])):
    pass
print(turns)
"""
MANY_MESSAGES = """
class Watched:
    def tick(self, now):
        pass

app = create_app(Settings.from_env({"API_KEY": "a-key"}))
app.extensions["flowith"].clock.add(Watched())  # to start the clock is a turn of others, too
client = app.test_client()
body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "a"}] * 30_000}
raw, headers = json.dumps(body), {"X-Api-Key": "a-key"}
time.sleep(0)
before = turns
assert client.post("/v1/messages/count_tokens", data=raw, headers=headers).status_code == 200
print(turns - before)
"""


@pytest.mark.parametrize("kind", [Text, Reasoning])
def test_a_long_event_comes_in_pieces(kind: type[Text] | type[Reasoning]) -> None:
    text = "".join(map(str, range(20_000)))
    events = list(in_pieces(iter([kind(text), Done()])))
    pieces = [event.text for event in events if isinstance(event, kind)]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LONGEST
    assert events[-1] == Done()


def test_others_pass_as_they_are() -> None:
    events: list[Event] = [Silence(), Text("x" * LONGEST), Text(""), Done()]
    passed = list(in_pieces(iter(events)))
    assert all(one is other for one, other in zip(passed, events, strict=True))


def turns_of_others(work: str) -> int:
    script = [sys.executable, "-c", COUNTING + work]
    return int(subprocess.run(script, cwd=ROOT, capture_output=True, check=True).stdout)


def test_others_have_their_turn_between_two_pieces() -> None:
    assert turns_of_others(LONG_EVENT) >= 3


def test_others_have_their_turn_when_a_request_took_long_to_check() -> None:
    """To check so many messages takes a tenth of a second, and what follows as long again."""
    assert turns_of_others(MANY_MESSAGES) >= 1
