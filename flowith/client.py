"""One caller's call to Flowith: its events as they come, signs of life, deadlines, and its end.

Knows nothing of OpenAI or Flask.
"""

import logging
import resource
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from chat_request import Prompt
from clock import Clock
from errors import CallerLeft, Overloaded, UpstreamError, UpstreamTimeout
from events import Event, Picture
from flowith.accounts import Account, Accounts
from flowith.attempt import Attempt
from flowith.crew import Crew, Signal
from flowith.deadlines import Deadlines
from flowith.dialects import Dialect, dialects_at
from flowith.download import Download
from flowith.file_address import origin_of
from flowith.image_dialects import image_dialects
from flowith.login import Login, why_not_kept
from flowith.retries import Retries
from flowith.transport import Transport
from settings import Api, Model, Settings

SPARE_FILES = 600  # descriptors for callers who wait, idle connections, logs and libraries
LOOK = 0.5  # seconds between two looks at what a crowd should not ask for with every token
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
        url = settings.flowith_api_url
        self.dialects: Mapping[str, Dialect] = dialects_at(url, agent)
        self.image_dialects: Mapping[str, Dialect] = image_dialects(url, self.dialects)
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
            if why := why_not_kept(Path(self.settings.state_file)):
                log.warning("no login can be renewed: STATE_FILE cannot be written: %s", why)
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

    Until the first event a failed call is repeated (`retries`), afterwards never. `first_event` is
    in monotonic seconds. `deadlines` may be moved before the first event.
    """

    def __init__(self, flowith: Flowith, prompt: Prompt, model: Model, label: str) -> None:
        self.flowith, self.settings = flowith, flowith.settings
        self.retries = Retries(
            flowith.accounts, self.settings, flowith.dialect_for, prompt, model, label
        )
        self.first_event: float | None = None
        self.caller_left: Callable[[], bool] = lambda: False
        draws = model.kind == "image"
        self._patience = self.settings.image_timeout if draws else self.settings.first_token_timeout
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
        self.flowith.clock.drop(self)
        with suppress(ValueError):  # it runs at this moment, in another thread, and will see
            self._generator.close()
        self.interrupt()

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
        flowith, retries = self.flowith, self.retries
        flowith.clock.add(self)
        while True:
            order = retries.next()
            try:
                attempt = Attempt(order, flowith.transport, flowith.crew, self._signal)
                self._attempt = attempt
                events: Sequence[Event] = ()
                while not attempt.finished:
                    yield from events
                    events = self._read(attempt)
                retries.succeeded(order)  # first, as whoever has the `Done` asks for no more
                yield from events
                return
            except UpstreamError as refusal:
                begun = self.first_event is not None
                delay = retries.delay(order, refusal, begun, self.deadlines.retry_by)
                if delay is None:
                    raise
            finally:
                self._end_attempt()
                retries.close(order)
            until = time.monotonic() + delay
            while time.monotonic() < until:
                yield from self._pause(until)

    def _read(self, attempt: Attempt) -> Sequence[Event]:
        """What has come, or a sign of life where nothing has for long."""
        deadlines = self.deadlines
        begun = self.first_event is not None
        patience = self.settings.idle_timeout if begun else self._patience
        silent_at = attempt.heard_at + patience
        events = attempt.read(
            min(deadlines.tick_at, deadlines.works_at, silent_at, deadlines.total_by)
        )
        now = time.monotonic()
        if self._stops or now >= deadlines.total_by:
            self._look(now)
        if events:
            attempt.heard_at = now
            if attempt.begun:
                self.first_event = self.first_event or now
                deadlines.tick_at = now + deadlines.heartbeat  # silence counts from here
            return events
        if now >= silent_at:
            phase = "fell silent" if begun else "said nothing"
            raise UpstreamTimeout(f"Flowith {phase} for {patience:g} seconds.")
        return deadlines.signs(now)

    def _look(self, now: float) -> None:
        """Whether going on makes sense at all."""
        if self._closed or (self._stops and self.caller_left()):
            raise CallerLeft
        if now >= self.deadlines.total_by:
            seconds = self.settings.total_timeout
            raise UpstreamTimeout(f"The answer was not complete after {seconds:g} seconds.")
        if self._stops and self.flowith.drains(now):
            raise Overloaded("The service is closing down; the answer is not complete.")

    def _pause(self, until: float) -> Sequence[Event]:
        """Wait until then at most, or for whoever wakes; a sign of life where one is due."""
        deadlines = self.deadlines
        self._look(time.monotonic())
        self._signal.wait(min(until, deadlines.tick_at, deadlines.total_by))
        return deadlines.signs(time.monotonic())

    def _end_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt:
            attempt.close()
