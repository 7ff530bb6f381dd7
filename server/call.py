"""One request's work: the answers it opens, the caller they are for, and what became of it all.

Knows nothing of Flask or of formats.
"""

import time
from collections.abc import Iterator
from itertools import groupby

from bridge.second_try import ask_twice
from chat_request import ChatRequest, Prompt
from clock import MOMENT
from errors import Bug, CallerLeft, ContextTooLong, ProxyError, UpstreamRejected
from events import Event, Picture, Reasoning, Tally, Text
from flowith.client import Answer, Flowith
from server.caller import Caller
from server.log import Record, log_bug
from server.side_by_side import merged
from settings import Model
from translate import count_prompt, shape, to_prompt

MARGIN = 2.0  # seconds in which an answer whose time is over can say so itself
LONGEST = 8_192  # characters of one event


class Call:
    """Open answers for one caller and close them all, however the request ends.

    TOTAL_TIMEOUT is for all of them together, second tries too. It holds while the caller reads
    nothing, and so nobody here can do anything: then the connection is broken off.
    """

    def __init__(self, flowith: Flowith, record: Record, caller: Caller) -> None:
        self.flowith, self.record, self.caller = flowith, record, caller
        self.tally = Tally()
        self._answers: list[Answer] = []
        self._closed = False
        total = flowith.settings.total_timeout
        self._total_by = time.monotonic() + total
        flowith.clock.add(self, total + MARGIN)
        caller.watch(self._interrupt)

    def events(self, chat: ChatRequest, model: Model) -> Iterator[Event]:
        """The answers to all conversations of a request, side by side where there are several."""
        answers: list[Iterator[Event]] = []
        for _, wanted in groupby(chat.conversations, key=id):
            same = list(wanted)  # one conversation, as often as it is to be answered
            prompt = to_prompt(chat, same[0], model)
            answers += [self._converse(chat, prompt, model) for _ in same]
        if len(answers) == 1:
            return answers[0]
        return merged(answers, forgive=chat.drawing is not None)

    def _converse(self, chat: ChatRequest, prompt: Prompt, model: Model) -> Iterator[Event]:
        reasoning = self.flowith.settings.reasoning_format
        inline = chat.drawing is not None and chat.drawing.inline

        def ask(prompt: Prompt, last_try: bool) -> Iterator[Event]:
            answer = self._open(prompt, model)
            try:
                events = shape(in_pieces(answer.events()), chat, prompt, reasoning, last_try)
                yield from with_files(events, answer) if inline else events
            except UpstreamRejected as wrong:
                if wrong.param:  # the prompt's messages, for which the caller may have another name
                    wrong.param = chat.words_in
                if isinstance(wrong, ContextTooLong):
                    wrong.count(count_prompt(prompt), model.context)
                raise
            except (ProxyError, CallerLeft):
                raise
            except Exception as wrong:  # noqa: BLE001 - whatever it is, the caller hears of it
                log_bug(wrong, self.record.id)
                raise Bug from None
            finally:
                answer.close()

        if prompt.drawing:
            return ask(prompt, True)  # a picture may have cost credits
        return ask_twice(ask, prompt, hold=not chat.stream)

    def close(self) -> None:
        """Stop everything upstream and note what became of it; may be called more than once."""
        if self._closed:
            return
        self._closed = True
        self.flowith.clock.drop(self)
        self.caller.close()
        for answer in self._answers:
            answer.close()
        record, usage = self.record, self.tally.usage
        record.dialect = self.dialect()
        record.attempts = [attempt for a in self._answers for attempt in a.retries.attempts]
        record.failures = [failure for a in self._answers for failure in a.retries.failures]
        record.heartbeats = self.tally.heartbeats
        firsts = [a.first_event for a in self._answers if a.first_event is not None]
        record.first = min(firsts, default=None)
        if usage:
            record.prompt_tokens, record.completion_tokens = usage.prompt, usage.completion

    def break_off(self, code: str) -> None:
        """Cut the caller's connection, so that what has gone out is not taken for whole."""
        self.record.ending = f"broken off: {code}"
        self.close()
        self.caller.break_off()

    def tick(self, now: float) -> None:
        """Called by the clock. A connection whose call is over may serve the next one already."""
        if now >= self._total_by + MARGIN and not self._closed:
            self.break_off("timeout")

    def dialect(self) -> str:
        """The API that is being talked to, as far as it is known yet."""
        return next((a.retries.attempts[-1][1] for a in self._answers if a.retries.attempts), "")

    def _open(self, prompt: Prompt, model: Model) -> Answer:
        if self._closed:
            raise CallerLeft
        answer = self.flowith.open(prompt, model, self.record.id)
        answer.caller_left = self.caller.left
        answer.deadlines.total_by = self._total_by
        self._answers.append(answer)
        return answer

    def _interrupt(self) -> None:
        for answer in self._answers:
            answer.interrupt()


def in_pieces(events: Iterator[Event]) -> Iterator[Event]:
    """The same events, the text of a long one in pieces; others have their turn between two. A read
    is short, but what it ends may be one event of megabytes, and some filters take tens of
    milliseconds for a few KB."""
    for event in events:
        if not isinstance(event, (Text, Reasoning)) or len(event.text) <= LONGEST:
            yield event
            continue
        kind, text = type(event), event.text
        for at in range(0, len(text), LONGEST):
            yield kind(text[at : at + LONGEST])
            time.sleep(MOMENT)


def with_files(events: Iterator[Event], answer: Answer) -> Iterator[Event]:
    """The events, each picture with its file."""
    for event in events:
        if isinstance(event, Picture):
            yield from answer.fetch(event)
        else:
            yield event
