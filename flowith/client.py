"""One caller's call to Flowith: choose an account, try, fail over before the first event, close.

Knows nothing of OpenAI or Flask.
"""

import logging
import random
import resource
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from typing import Any

import errors
from chat_request import Prompt
from clock import Clock
from errors import CallerLeft, Overloaded, UpstreamError, UpstreamNotFound, UpstreamTimeout
from events import Event, Picture, Silence, Working
from flowith.accounts import Account, Accounts
from flowith.attempt import Attempt, Order
from flowith.crew import Crew, Signal
from flowith.deadlines import Deadlines
from flowith.dialects import Dialect, dialects_at
from flowith.download import Download
from flowith.file_address import origin_of
from flowith.image_generation import costs_nothing, image_dialects
from flowith.login import Login
from flowith.refusal import quote
from flowith.transport import Transport
from settings import Api, Model, Settings

SPARE_FILES = 600  # descriptors for callers who wait, idle connections, logs and libraries
TRIES_PER_MODEL = 2  # before the row's next fallback gets its turn
LOOK = 0.5  # seconds between two looks at what a crowd should not ask for with every token
FIRST_DELAY, LONGEST_DELAY = 0.25, 4.0  # seconds between tries, doubled each time
MOVE_ON = (errors.UpstreamAuth, errors.OutOfCredits, errors.RateLimited)  # the account's fault
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
        self.dialects: Mapping[str, Dialect] = dialects_at(settings.flowith_api_url)
        self.image_dialects: Mapping[str, Dialect] = image_dialects(settings.flowith_api_url)
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
        if self.running >= self.limit:
            text = f"All {self.limit} places for running answers are taken; try again in a moment."
            raise Overloaded(text)
        self.running += 1
        self.tell_running(self.running)
        return Answer(self, prompt, model, label)

    def dialect_for(self, model: Model, account: Account) -> Dialect:
        """models.json decides, else `api_of` the account."""
        dialects = self.image_dialects if model.kind == "image" else self.dialects
        return dialects[model.api or self.api_of(account)]

    def api_of(self, account: Account) -> Api:
        """FLOWITH_API decides, else the shape of the token."""
        return self.settings.chosen_api or account.kind

    def apis_for(self, model: Model) -> set[str]:
        """The APIs that a call to this model may go to; none without an account."""
        return {self.dialect_for(model, account).name for account in self.accounts.all}


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
    `first_event` monotonic seconds. `deadlines` may be moved before the first event.
    """

    def __init__(self, flowith: Flowith, prompt: Prompt, model: Model, label: str) -> None:
        self.flowith, self.settings = flowith, flowith.settings
        self.prompt, self.model, self.label = prompt, model, label
        self.attempts: list[tuple[str, str]] = []
        self.failures: list[tuple[str, str]] = []
        self.first_event: float | None = None
        self.caller_left: Callable[[], bool] = lambda: False
        self._draws = model.kind == "image"
        self._upstream = model.upstream
        self._closed = False
        self._stops = False  # whether the caller has left, or the service is closing down
        self._look_at = 0.0  # when to find that out where nothing tells
        self._signal = Signal()  # where it waits for anything but bytes
        self._attempt: Attempt | None = None
        self._generator = self._events()
        self.deadlines = Deadlines.start(flowith.settings)

    def tick(self, now: float) -> None:
        """Called by the clock."""
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._stops = self._stops or self.caller_left() or self.flowith.drains(now)
        if self._stops:
            self.interrupt()
        elif now >= self._signal.wake_at:
            self._signal.wake()

    def interrupt(self) -> None:
        """Make `events` look up at once, because the caller has left. Never blocks."""
        self._stops = True
        attempt = self._attempt
        if attempt:
            attempt.cancel()
        self._signal.wake()

    def close(self) -> None:
        """Stop the upstream call in whatever phase it is; may be called more than once."""
        if self._closed:
            return
        self._closed = self._stops = True
        self.flowith.running -= 1
        self.flowith.tell_running(self.flowith.running)
        self._end_attempt()
        self.flowith.clock.drop(self)
        self.interrupt()
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
        origin = origin_of(self.settings.flowith_api_url)
        download = Download(picture.url, origin, self.flowith.agent, self._signal.wake)
        self.flowith.crew.do(download.run)
        try:
            while download.outcome is None:
                yield from self._pause(download.until)
                download.look_at_clock()
        finally:
            download.close()
        yield download.take()

    def _events(self) -> Generator[Event]:
        accounts, avoid = self.flowith.accounts, list[Account]()
        self.flowith.clock.add(self)
        while True:
            model = self._upstream[0]
            account = accounts.take(self._api(), model, avoid)
            try:
                yield from self._ask(account)
                return
            except UpstreamError as refusal:
                avoid.append(account)
                accounts.settle(account, model, refusal)
                delay = self._delay(refusal, avoid)
                self._note(account, refusal)
                if delay is None:
                    raise
            finally:
                self._end_attempt()
                accounts.give_back(account)
            yield from self._wait(time.monotonic() + delay)

    def _api(self) -> Api | None:
        return self.model.api or self.settings.chosen_api

    def _ask(self, account: Account) -> Iterator[Event]:
        """The answer of one account. A refused token is renewed if it can be, then tried in its
        other form, each once."""
        dialect = self.flowith.dialect_for(self.model, account)
        self.attempts.append((account.name, dialect.name))
        usual = account.bearer.get(dialect.name, dialect.bearer)
        renewed = [(usual, True)] if account.login else []
        ways = [(usual, False), *renewed, (not usual, False)]
        for way in ways:
            try:
                yield from self._read(self._begin(account, dialect, *way), account)
                return
            except errors.UpstreamAuth as refusal:
                self._end_attempt()
                if way is ways[-1] or refusal.upstream_status is None:
                    raise

    def _begin(self, account: Account, dialect: Dialect, bearer: bool, renew: bool) -> Attempt:
        flowith = self.flowith
        order = Order(
            account=account,
            dialect=dialect,
            prompt=self.prompt,
            model=self.model,
            upstream=self._upstream,
            bearer=bearer,
            renew=renew,
            agent=flowith.agent,
            label=self.label,
        )
        self._attempt = Attempt(order, flowith.transport, flowith.crew, self._signal)
        return self._attempt

    def _read(self, attempt: Attempt, account: Account) -> Iterator[Event]:
        """The events of one try, up to its `Done`."""
        settings, deadlines = self.settings, self.deadlines
        heard = time.monotonic()
        first = settings.image_timeout if self._draws else settings.first_token_timeout
        while True:
            begun = self.first_event is not None
            patience = settings.idle_timeout if begun else first
            sign_at = min(deadlines.tick_at, deadlines.works_at)
            events = attempt.read(min(sign_at, heard + patience, deadlines.total_by))
            now = time.monotonic()
            if self._stops or now >= deadlines.total_by:
                self._look(now)
            if events:
                heard = now
                if attempt.begun:
                    self.first_event = self.first_event or now
                    deadlines.tick_at = now + deadlines.heartbeat  # silence counts from here
                if attempt.finished:  # whoever has the `Done` asks for no more
                    self.flowith.accounts.settle(account, self._upstream[0], None)
                    yield from events
                    return
                yield from events
            elif now >= heard + patience:
                phase = "fell silent" if begun else "said nothing"
                raise UpstreamTimeout(f"Flowith {phase} for {patience:g} seconds.")
            elif now >= sign_at:
                if deadlines.silence_is_due(now):
                    yield Silence()
                elif deadlines.working_is_due(now):
                    yield Working()

    def _look(self, now: float) -> None:
        """Whether going on makes sense at all."""
        if self._closed or (self._stops and self.caller_left()):
            raise CallerLeft
        if now >= self.deadlines.total_by:
            seconds = self.settings.total_timeout
            raise UpstreamTimeout(f"The answer was not complete after {seconds:g} seconds.")
        if self._stops and self.flowith.drains(now):
            raise Overloaded("The service is closing down; the answer is not complete.")

    def _wait(self, until: float) -> Iterator[Event]:
        """Pause between two tries."""
        while time.monotonic() < until:
            yield from self._pause(until)

    def _pause(self, until: float) -> Iterator[Event]:
        """Wait until then at most, or for whoever wakes; a sign of life where one is due."""
        deadlines, now = self.deadlines, time.monotonic()
        self._look(now)
        if deadlines.silence_is_due(now):
            yield Silence()
        self._signal.wait(min(until, deadlines.tick_at, deadlines.total_by))

    def _delay(self, refusal: UpstreamError, avoid: list[Account]) -> float | None:
        """Seconds until the next try, None when there is to be none."""
        tries = len(avoid)
        if self._draws and not costs_nothing(refusal):
            return None
        over = self.first_event is not None or tries >= self.settings.retry_attempts
        if over or not refusal.retryable:
            return None
        if isinstance(refusal, MOVE_ON):
            others = self.flowith.accounts.others(self._api(), self._upstream[0], avoid)
            return 0.0 if others else None
        gone = isinstance(refusal, UpstreamNotFound)
        if gone and len(self._upstream) < 2:
            return None
        if (gone or tries >= TRIES_PER_MODEL) and len(self._upstream) > 1:
            self._upstream = self._upstream[1:]
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311
        return delay if time.monotonic() + delay < self.deadlines.retry_by else None

    def _note(self, account: Account, refusal: UpstreamError) -> None:
        self.failures.append((account.name, refusal.ending))
        status = refusal.upstream_status or "-"
        log.warning("%s account=%s failed=%s status=%s", self.label, *self.failures[-1], status)
        said = (part for m in self.prompt.messages for part in _texts(m["content"]))
        current = (a.token for a in self.flowith.accounts.all)  # a login's is not in the settings
        quote(refusal, (*self.settings.flowith_auth_token, *current), said)

    def _end_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt:
            attempt.close()


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (part["text"] for part in content if part.get("type") == "text")
