"""One try of a call: one POST on one account, and what comes back of it.

The request is made and sent by a thread of the crew, so that a caller who leaves, or a deadline,
never waits for it. Knows nothing of retries.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
import requests

import errors
from chat_request import Prompt
from errors import EmptyAnswer, ThoughtsOnly, UpstreamError
from events import Done, Event, Picture, Reasoning, Silence, Text, ToolCall
from flowith.accounts import Account
from flowith.connection import Exchange
from flowith.crew import Crew, Signal
from flowith.decoders import Decoder, to_content_type
from flowith.dialects import Dialect
from flowith.reader import Reader
from flowith.transport import Transport, read_refusal
from flowith.uploads import with_addresses
from settings import Model

LONGEST_ANSWER = 67_108_864  # bytes; more than any model writes
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# the key itself may well be good, so it must not rest for this
NO_STORE = "Flowith's file store takes no images from this kind of key: send an https: URL instead."


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent, and how.

    `upstream` are the model ids still to be tried; `bearer` is the form of the token; `renew` says
    that the token was refused and has to be renewed first; `label` names the call.
    """

    account: Account
    dialect: Dialect
    prompt: Prompt
    model: Model
    upstream: tuple[str, ...]
    bearer: bool
    renew: bool
    agent: str
    label: str

    def send(self, transport: Transport, exchange: Exchange) -> requests.Response:
        """Send it; the response has a good status and its body is unread. Raises UpstreamError."""
        account = self.account
        if account.login:
            account.token = account.login.renew(account.token if self.renew else "")
        headers = self.dialect.headers_for(account.token, self.bearer, self.agent)
        headers["X-Request-ID"] = self.label
        body = self._body(headers, transport, exchange)
        if self.model.kind == "image":
            exchange.fresh = True  # on a kept connection that dies a POST is sent again
        response = transport.post(self.dialect.url, headers, body, exchange)
        if response.status_code != 200:
            said = read_refusal(response, exchange)
            raise self.dialect.to_refusal(response.status_code, said, response.headers)
        account.bearer[self.dialect.name] = self.bearer
        return response

    def _body(self, headers: Mapping[str, str], transport: Transport, exchange: Exchange) -> bytes:
        """The payload, its images stored at Flowith first."""
        prompt, url = self.prompt, self.dialect.url
        if any(isinstance(message["content"], list) for message in prompt.messages):
            try:
                messages = with_addresses(prompt.messages, url, headers, transport, exchange)
            except errors.UpstreamAuth:
                if self.dialect.name.startswith("web"):
                    raise
                raise errors.UpstreamRejected(NO_STORE, param="messages") from None
            prompt = replace(prompt, messages=messages)
        return to_json(self.dialect.payload(prompt, self.model, self.upstream))


class Attempt:
    """One POST under way: what its reader reads, made into events.

    `begun` once anything has been passed on that a caller may see, `finished` once the answer has
    come to its end. Its answer's head wakes `signal`.
    """

    def __init__(self, order: Order, transport: Transport, crew: Crew, signal: Signal) -> None:
        self.begun = self.finished = False
        self._spoke = False  # whether there are words or calls, and not thoughts alone
        self._held: list[Event] = []
        self._received = 0
        self._decoder: Decoder  # made when the head of the answer tells its type
        send = partial(self._send, order, transport)
        self._reader = Reader(send, order.dialect.url, crew, signal)

    def _send(self, order: Order, transport: Transport, exchange: Exchange) -> requests.Response:
        """In a thread of the crew."""
        response = order.send(transport, exchange)
        content_type = to_content_type(response.headers.get("Content-Type", ""))
        self._decoder = order.dialect.decoder(content_type)
        return response

    def read(self, until: float) -> list[Event]:
        """What the bytes that have arrived mean, as far as it may be passed on: nothing is before
        there is a word, so that an empty answer can be tried again. Waits for them until `until`
        (monotonic seconds) at most. Raises UpstreamError."""
        block = self._reader.read(until)
        if not block:
            return self._pass(self._decoder.flush()) if self._reader.finished else []
        self._received += len(block)
        if self._received > LONGEST_ANSWER:
            raise UpstreamError("Flowith's answer does not end.")
        events = self._decoder.decode(block)
        return self._pass(events) if events else events

    def cancel(self) -> None:
        """End whatever waits for Flowith. May be called from anywhere, more than once."""
        self._reader.cancel()

    def close(self) -> None:
        """Stop it in whatever phase it is."""
        self._reader.close(self.finished)

    def _pass(self, events: list[Event]) -> list[Event]:
        last = events[-1] if events else None
        self.finished = type(last) is Done
        if self._spoke:
            return events
        self._spoke = any(map(_is_word, events))
        if isinstance(last, Done) and last.is_own and not self._spoke:
            raise ThoughtsOnly if self.begun else EmptyAnswer("Flowith sent an empty answer.")
        self.begun = self.begun or self._spoke or any(map(_is_thought, events))
        if not (self.begun or self.finished):
            self._held += (event for event in events if type(event) is not Silence)
            return [event for event in events if type(event) is Silence]
        held, self._held = self._held, []
        return [*held, *events]


def _is_word(event: Event) -> bool:
    if isinstance(event, Text):
        return not event.text.isspace()
    return isinstance(event, (ToolCall, Picture))


def _is_thought(event: Event) -> bool:
    return isinstance(event, Reasoning) and not event.text.isspace()


def to_json(payload: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON; half a surrogate pair becomes U+FFFD, since UTF-8 cannot hold it."""
    try:
        return orjson.dumps(payload)
    except TypeError:  # what UTF-8 or 64 bits cannot hold, and a thousand levels
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return LONE_SURROGATE.sub("\ufffd", text).encode()
