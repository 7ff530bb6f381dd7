"""One caller's call to Flowith: choose an account, POST, fail over before the first event, close.

Knows nothing of OpenAI or Flask.
"""

import json
import logging
import random
import re
import resource
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import orjson

import errors
from chat_request import Prompt
from clock import Clock
from errors import (
    DOCTOR,
    CallerLeft,
    EmptyAnswer,
    Overloaded,
    UpstreamError,
    UpstreamNotFound,
    UpstreamTimeout,
)
from events import Done, Event, Picture, Reasoning, Silence, Text, ToolCall, Working
from flowith.accounts import Account, Accounts
from flowith.connection import Exchange
from flowith.dialects import DIALECTS, Decoder, Dialect, moved
from flowith.download import Download
from flowith.file_address import origin_of
from flowith.image_generation import (
    FileLines,
    FileReply,
    ImageDialect,
    costs_nothing,
    image_dialects,
)
from flowith.login import Login
from flowith.reader import Channel, Crew, Reader
from flowith.refusal import quote
from flowith.transport import Transport
from flowith.uploads import with_addresses
from settings import Api, Model, Settings

ERROR_BODY = 65_536  # bytes read of an error's body
LONGEST_ANSWER = 67_108_864  # bytes; more than any model writes
SPARE_FILES = 600  # descriptors for callers who wait, idle connections, logs and libraries
TRIES_PER_MODEL = 2  # before the row's next fallback gets its turn
FIRST_DELAY, LONGEST_DELAY = 0.25, 4.0  # seconds between tries, doubled each time
# the key itself may well be good, so it must not rest for this
NO_STORE = "Flowith's file store takes no images from this kind of key: send an https: URL instead."
MOVE_ON = (errors.UpstreamAuth, errors.OutOfCredits, errors.RateLimited)  # the account's fault
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
log = logging.getLogger("flowith")


class Flowith:
    """The upstream side of this process."""

    def __init__(self, settings: Settings, agent: str = "flowith-proxy") -> None:
        self.settings = settings
        self.agent = agent
        self.clock = Clock()
        self.crew = Crew()
        self.transport = Transport(settings.connect_timeout, settings.max_streams)
        self.accounts = self._to_accounts()
        self.image_dialects = image_dialects(settings.flowith_api_url)
        self.running = 0
        self.limit = fitting(settings.max_streams)
        self.drains: Callable[[float], bool] = lambda now: False
        self.tell_running: Callable[[int], None] = lambda running: None

    def _to_accounts(self) -> Accounts:
        """An account for each token; the refresh token goes with the first web login."""
        accounts = Accounts(self.settings.flowith_auth_token)
        if self.settings.flowith_refresh_token:
            first = next((a for a in accounts.all if a.kind == "web"), None)
            if first is None:
                first = Account(len(accounts.all) + 1, "")
                accounts.all.append(first)
            first.login = Login(self.settings, first.token, self.transport)
        return accounts

    def open(self, prompt: Prompt, model: Model, label: str = "") -> "Answer":
        """Begin a call. Nothing is sent until its events are asked for; close it in any case.

        `label` names the call in the log. Raises Overloaded when there is no room.
        """
        limit = self.limit
        if self.running >= limit:
            text = f"All {limit} places for running answers are taken; try again in a moment."
            raise Overloaded(text, headers={"Retry-After": "1"})
        self.running += 1
        self.tell_running(self.running)
        return Answer(self, prompt, model, label)

    def dialect_for(self, model: Model, account: Account) -> Dialect | ImageDialect:
        """models.json decides, else `dialect_of` the account."""
        dialect = DIALECTS[model.api] if model.api else self.dialect_of(account)
        return self.image_dialects[dialect.name] if model.kind == "image" else dialect

    def dialect_of(self, account: Account) -> Dialect:
        """FLOWITH_API decides, else the shape of the token."""
        chosen = self.settings.flowith_api
        return DIALECTS[account.kind if chosen == "auto" else chosen]

    def apis_for(self, model: Model) -> set[str]:
        """The APIs that a call to this model may go to; none without an account."""
        return {self.dialect_for(model, account).name for account in self.accounts.all}

    def url_for(self, dialect: Dialect | ImageDialect) -> str:
        """Where a dialect is."""
        if isinstance(dialect, ImageDialect):
            return dialect.url
        return moved(dialect.url, self.settings.flowith_api_url)


def fitting(wanted: int) -> int:
    """How many answers the limit of open files leaves room for, after raising it if that helps.

    Each takes two descriptors; a process that runs out of them cannot even say no.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + SPARE_FILES
    if soft < needed:
        soft = min(needed, hard) if hard != resource.RLIM_INFINITY else needed
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fits = max(1, min(wanted, (soft - SPARE_FILES) // 2))
    if fits < wanted:
        log.warning("open files are limited to %d: room for %d answers at once", soft, fits)
    return fits


class Answer:
    """Flowith's answer to one call; `events` may be asked for once.

    Until the first event a failed call is repeated elsewhere, within the budget; afterwards never.
    `attempts` holds account and API of each try, `failures` account and code of each that failed,
    `first_event` monotonic seconds.
    """

    def __init__(self, flowith: Flowith, prompt: Prompt, model: Model, label: str) -> None:
        self.flowith, self.settings = flowith, flowith.settings
        self.prompt, self.model, self.label = prompt, model, label
        self.dialect: Dialect | ImageDialect | None = None
        self.attempts: list[tuple[str, str]] = []
        self.failures: list[tuple[str, str]] = []
        self.first_event: float | None = None
        self.caller_left: Callable[[], bool] = lambda: False
        self._draws = model.kind == "image"
        self._patience = (
            self.settings.image_timeout if self._draws else self.settings.first_token_timeout
        )
        self._upstream = model.upstream
        self._held: list[Event] = []
        self._html = self._closed = False
        self._channel: Channel | None = None
        self._download: Download | None = None
        self._reader: Reader | None = None
        self._generator = self._events()
        started = time.monotonic()
        self._tick_at = self._works_at = started + self.settings.hold
        self.total_by = started + self.settings.total_timeout
        self._retry_by = started + self.settings.retry_seconds

    def tick(self, now: float) -> None:
        """Called by the clock."""
        channel = self._channel
        if channel and (now >= channel.wake_at or self.caller_left() or self.flowith.drains(now)):
            channel.wake()

    def interrupt(self) -> None:
        """Make `events` look up at once, because the caller has left. Never blocks."""
        for waits in (self._channel, self._download):
            if waits:
                waits.wake()

    def close(self) -> None:
        """Stop the upstream call in whatever phase it is; may be called more than once."""
        if not self._closed:
            self._closed = True
            self.flowith.running -= 1
            self.flowith.tell_running(self.flowith.running)
        self._end_reader()
        if self._download:
            self._download.close()
        self.flowith.clock.drop(self)
        with suppress(ValueError):  # it runs at this moment, in another thread, and will see
            self._generator.close()

    def events(self) -> Generator[Event]:
        """The answer; ends with one `Done`, or raises ProxyError or CallerLeft.

        `Silence` comes first after `hold` seconds without a word, then every `heartbeat` seconds.
        """
        return self._generator

    def fetch(self, picture: Picture) -> Iterator[Event]:
        """A picture that `events` has given, with its file; signs of life until it is here. Raises
        as `events` does."""
        settings = self.settings
        self._download = Download(
            picture.url,
            origin_of(settings.flowith_api_url),
            self.flowith.agent,
            settings.heartbeat,
            self.flowith.clock,
            lambda: self._look(time.monotonic()),
        )
        return self._download.events()

    def _events(self) -> Generator[Event]:
        accounts, avoid = self.flowith.accounts, list[Account]()
        self.flowith.clock.add(self)
        while True:
            account = accounts.take(self._api(), avoid)
            try:
                yield from self._try(account)
                accounts.settle(account, None)
                return
            except UpstreamError as refusal:
                avoid.append(account)
                accounts.settle(account, refusal)
                delay = self._delay(refusal, avoid)
                self._note(account, refusal)
                if delay is None:
                    raise
            finally:
                self._end_reader()
                accounts.give_back(account)
            yield from self._wait(time.monotonic() + delay)

    def _api(self) -> Api | None:
        chosen = self.settings.flowith_api
        return self.model.api or (None if chosen == "auto" else cast("Api", chosen))

    def _try(self, account: Account) -> Iterator[Event]:
        """One try on one account. A refused token is renewed if it can be, then tried in its
        other form, each once."""
        dialect = self.dialect = self.flowith.dialect_for(self.model, account)
        self.attempts.append((account.name, dialect.name))
        first = account.bearer.get(dialect.name, dialect.bearer)
        ways = [(first, False), (first, True), (not first, False)]
        for bearer, renew in ways if account.login else ways[::2]:
            refused = account.token if renew else ""
            self._held, self._html = [], False
            self._reader = self._send(account, dialect, bearer, refused)
            self._channel = self._reader.channel
            try:
                yield from self._read(dialect.decoder(), self._channel)
                return
            except errors.UpstreamAuth:
                self._end_reader(finished=True)
                if bearer is not first:
                    raise

    def _send(
        self, account: Account, dialect: Dialect | ImageDialect, bearer: bool, refused: str
    ) -> Reader:
        """Start the POST in a reader; `refused` is a token that has to be renewed first."""
        flowith, url, upstream = self.flowith, self.flowith.url_for(dialect), self._upstream

        def send(exchange: Exchange) -> Any:
            if account.login:
                account.token = account.login.renew(exchange, refused)
            headers = {
                "Authorization": f"Bearer {account.token}" if bearer else account.token,
                **dialect.headers,
                "User-Agent": flowith.agent,
                "X-Request-ID": self.label,
            }
            prompt, transport = self.prompt, flowith.transport
            try:
                messages = with_addresses(prompt.messages, url, headers, transport, exchange)
            except errors.UpstreamAuth:
                if dialect.name.startswith("web"):
                    raise
                raise errors.UpstreamRejected(NO_STORE, param="messages") from None
            payload = dialect.payload(replace(prompt, messages=messages), self.model, upstream)
            if isinstance(dialect, ImageDialect):
                exchange.fresh = True  # on a kept connection that dies a POST is sent again
            response = transport.post(url, headers, to_json(payload), exchange)
            status, encoding = response.status_code, response.headers.get("Content-Encoding", "")
            if not 200 <= status < 300:
                said = response.raw.read(ERROR_BODY, decode_content=True)
                raise dialect.to_refusal(status, said, response.headers)
            if encoding.lower() not in ("", "identity", "gzip", "deflate"):
                raise UpstreamError("Flowith encoded its answer in a way nobody asked for.")
            account.bearer[dialect.name] = bearer
            self._html = "text/html" in response.headers.get("Content-Type", "")
            return response

        return Reader(send, url, flowith.clock, flowith.crew)

    def _read(self, decoder: Decoder | FileLines | FileReply, channel: Channel) -> Iterator[Event]:
        """The events of one try, up to its `Done`."""
        settings = self.settings
        heard, received = time.monotonic(), 0
        while self._reader:
            begun = self.first_event is not None
            patience = settings.idle_timeout if begun else self._patience
            items = channel.take(min(self._tick_at, heard + patience, self.total_by))
            now = time.monotonic()
            self._look(now)
            end: Any = items.pop() if items and type(items[-1]) is not bytes else _GOES_ON
            if items:
                block = items[0] if len(items) == 1 else b"".join(items)
                received += len(block)
                self._check(block, received)
                if events := decoder.decode(block):
                    heard = now
                    yield from self._pass(events, now)
                    next_tick = now + settings.heartbeat
                    began = self.first_event is not None
                    self._tick_at = next_tick if began else max(self._tick_at, next_tick)
                    if now >= self._works_at:
                        self._works_at = now + settings.heartbeat
                        yield Working()
            if end is None:
                yield from self._pass(decoder.flush(), now)
            elif end is not _GOES_ON:
                raise end
            elif now >= heard + patience:
                phase = "fell silent" if begun else "said nothing"
                raise UpstreamTimeout(f"Flowith {phase} for {patience:g} seconds.")
            elif now >= self._tick_at:
                self._tick_at = now + settings.heartbeat
                yield Silence()

    def _pass(self, events: list[Event], now: float) -> Iterator[Event]:
        """Hold back what does not yet make an answer, so that an empty one can be tried again."""
        for event in events:
            if type(event) is Done:
                if self.first_event is None and event.reason == "stop":
                    raise EmptyAnswer("Flowith sent an empty answer.")
                self._end_reader(finished=True)
                yield from self._held
            elif self.first_event is None and type(event) is not Silence:
                self._held.append(event)
                if _says_something(event):
                    self.first_event = now
                    yield from self._held
                    self._held = []
                continue
            yield event

    def _check(self, block: bytes, received: int) -> None:
        if received > LONGEST_ANSWER:
            raise UpstreamError("Flowith's answer does not end.")
        if self._html and re.match(rb"\s*<(!doctype|html)", block, re.I):
            raise UpstreamNotFound(
                "A web page came in place of an answer: a captive portal, or Flowith's address has"
                f" moved. {DOCTOR}"
            )
        self._html = False

    def _look(self, now: float) -> None:
        """Whether going on makes sense at all."""
        if self.caller_left():
            raise CallerLeft
        if now >= self.total_by:
            raise UpstreamTimeout(
                f"The answer was not complete after {self.settings.total_timeout:g} seconds."
            )
        if self.flowith.drains(now):
            raise Overloaded("The service is closing down; the answer is not complete.")

    def _wait(self, until: float) -> Iterator[Event]:
        self._channel = channel = Channel()
        while (now := time.monotonic()) < until:
            self._look(now)
            if now >= self._tick_at:
                self._tick_at = now + self.settings.heartbeat
                yield Silence()
            channel.take(min(until, self._tick_at, self.total_by))

    def _delay(self, refusal: UpstreamError, avoid: list[Account]) -> float | None:
        """Seconds until the next try, None when there is to be none."""
        tries = len(avoid)
        begun = self.first_event is not None
        if self._draws and not costs_nothing(refusal):
            return None
        if begun or not refusal.retryable or tries >= self.settings.retry_attempts:
            return None
        if isinstance(refusal, MOVE_ON):
            return 0.0 if self.flowith.accounts.others(self._api(), avoid) else None
        gone = isinstance(refusal, UpstreamNotFound)
        if gone and len(self._upstream) < 2:
            return None
        if (gone or tries >= TRIES_PER_MODEL) and len(self._upstream) > 1:
            self._upstream = self._upstream[1:]
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311
        return delay if time.monotonic() + delay < self._retry_by else None

    def _note(self, account: Account, refusal: UpstreamError) -> None:
        self.failures.append((account.name, refusal.code or refusal.type))
        status = refusal.upstream_status or "-"
        log.warning("%s account=%s failed=%s status=%s", self.label, *self.failures[-1], status)
        said = (part for m in self.prompt.messages for part in _texts(m["content"]))
        current = (a.token for a in self.flowith.accounts.all)  # a login's is not in the settings
        quote(refusal, (*self.settings.flowith_auth_token, *current), said)

    def _end_reader(self, finished: bool = False) -> None:
        reader, self._reader = self._reader, None
        if reader:
            reader.close(finished)


_GOES_ON = object()


def _says_something(event: Event) -> bool:
    if isinstance(event, (Text, Reasoning)):
        return not event.text.isspace()
    return isinstance(event, (ToolCall, Picture))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (part["text"] for part in content if part.get("type") == "text")


def to_json(payload: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON; half a surrogate pair becomes U+FFFD, since UTF-8 cannot hold it."""
    try:
        return orjson.dumps(payload)
    except TypeError:  # what UTF-8 or 64 bits cannot hold, and a thousand levels
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return LONE_SURROGATE.sub("\ufffd", text).encode()
