"""One request's work: the answers it opens, the caller they are for, and what became of it all.

Knows nothing of Flask.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from caller import Caller
from chat import ChatRequest
from completion import Tally
from errors import CallerLeft, Unmet
from events import Event, Silence, Working
from flowith.client import Answer, Flowith
from messages import Message
from record import Record
from settings import Model
from translate import corrected, shape, to_prompt

T = TypeVar("T")


class Call:
    """Open answers for one caller and close them all, however the request ends."""

    def __init__(self, flowith: Flowith, record: Record, caller: Caller) -> None:
        self.flowith, self.record, self.caller = flowith, record, caller
        self.tally = Tally()
        self._answers: list[Answer] = []
        self._closed = False
        caller.watch(self._interrupt)

    def converse(self, chat: ChatRequest, messages: list[Message], model: Model) -> Iterator[Event]:
        """The events of one choice. A model that did not do what the request demands is told so
        once, as long as the caller has heard nothing yet."""
        prompt = to_prompt(chat, messages, model)
        reasoning = self.flowith.settings.reasoning_format
        for last_try in (False, True):
            answer = self._open(prompt, model)
            events = shape(answer.events(), chat, prompt, reasoning, last_try)
            heard = False
            try:
                if not (chat.tools or chat.format):
                    yield from events
                    return
                for event in events:
                    heard = heard or not isinstance(event, (Silence, Working))
                    yield event
                return
            except Unmet as unmet:
                if last_try or heard:
                    raise
                prompt = corrected(prompt, unmet)
            finally:
                answer.close()

    def close(self) -> None:
        """Stop everything upstream and note what became of it; may be called more than once."""
        if self._closed:
            return
        self._closed = True
        self.caller.close()
        for answer in self._answers:
            answer.close()
        record, usage = self.record, self.tally.usage
        record.dialect = self.dialect()
        record.attempts = [attempt for a in self._answers for attempt in a.attempts]
        record.failures = [failure for a in self._answers for failure in a.failures]
        record.heartbeats = self.tally.heartbeats
        firsts = [a.first_event for a in self._answers if a.first_event is not None]
        record.first = min(firsts, default=None)
        if usage:
            record.prompt_tokens, record.completion_tokens = usage.prompt, usage.completion

    def dialect(self) -> str:
        """The API that is being talked to, as far as it is known yet."""
        return next((a.dialect.name for a in self._answers if a.dialect), "")

    def _open(self, prompt: Any, model: Model) -> Answer:
        if self._closed:
            raise CallerLeft
        answer = self.flowith.open(prompt, model, self.record.id)
        answer.caller_left = self.caller.left
        self._answers.append(answer)
        return answer

    def _interrupt(self) -> None:
        for answer in self._answers:
            answer.interrupt()


def merged(sources: Sequence[Iterator[T]]) -> Iterator[T]:
    """The items of all sources as they come, each source in a thread of its own.

    The first error of any source is raised here. The sources' upstream calls end by `Call.close`.
    """
    if len(sources) == 1:
        yield from sources[0]
        return
    items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=4 * len(sources))
    over = threading.Event()

    def give(kind: str, item: Any) -> None:
        while not over.is_set():
            with suppress(queue.Full):
                items.put((kind, item), timeout=0.5)
                return

    def run(source: Iterator[T]) -> None:
        try:
            for item in source:
                give("item", item)
            give("end", None)
        except BaseException as wrong:  # noqa: BLE001 - raised again where the items are taken
            give("error", wrong)

    for source in sources:
        threading.Thread(target=run, args=(source,), daemon=True).start()
    left = len(sources)
    try:
        while left:
            kind, item = items.get()
            if kind == "error":
                raise item
            if kind == "end":
                left -= 1
            else:
                yield item
    finally:
        over.set()
