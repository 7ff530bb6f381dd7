"""What is held back until an answer has words, so that an empty one can be tried again."""

import time
from types import SimpleNamespace
from typing import Any

from events import Citation, Done, Event, Text
from flowith.attempt import Attempt
from flowith.crew import Crew, Signal
from flowith.reader import GATHERED

READS, AT_ONCE = 500, 400


class Sources:
    """An answer that names many sources before its first word: its response, its raw body and what
    decodes it."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    reads = 0

    def __init__(self) -> None:
        self.raw = self

    def read1(self, size: int, decode_content: bool) -> bytes:
        self.reads += 1
        return b"x" * GATHERED if self.reads <= READS else b""

    def decode(self, block: bytes) -> list[Event]:
        return [Citation("a source")] * AT_ONCE

    def flush(self) -> list[Event]:
        return [Text("Hello"), Done()]

    def release_conn(self) -> None: ...


def test_many_sources_before_the_first_word_are_held_in_linear_time() -> None:
    answer = Sources()
    dialect = SimpleNamespace(url="http://flowith.invalid", decoder=lambda _: answer)
    order: Any = SimpleNamespace(dialect=dialect, send=lambda *_: answer)
    attempt = Attempt(order, None, Crew(), Signal())  # type: ignore[arg-type]  # sends nothing
    begun = time.process_time()
    while not attempt.finished:
        events = attempt.read(time.monotonic() + 60)
    assert time.process_time() - begun < 1
    assert events == [*[Citation("a source")] * READS * AT_ONCE, Text("Hello"), Done()]
    attempt.close()
