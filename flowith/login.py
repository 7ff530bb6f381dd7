"""Keep a web login alive: its token dies after about an hour, the refresh token makes a new one.

A refresh token is good once. So its use belongs to the process and to no caller: it runs in a
thread of its own that nobody cancels, one process at a time does it (a lock file), and the new one
is on disk before anybody uses what came with it. Knows Flowith's login service and nothing else.
"""

import atexit
import base64
import fcntl
import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from errors import DOCTOR, UpstreamAuth, UpstreamError
from flowith.connection import Exchange
from flowith.line_decoder import to_object
from flowith.transport import Transport, read_whole
from settings import Settings

EARLY = 90.0  # seconds before its end at which a token is renewed
LOCK_TIME = 30.0  # seconds to wait for another process that refreshes
PATIENCE = 60.0  # seconds that the login service may be silent
PAUSE = 60.0  # seconds between two renewals, however old the token looks by this machine's clock
PAUSE_AFTER_FAILURE = 10.0  # seconds
LONGEST = 65_536  # bytes of the login service's answer
WHY = ("error_code", "msg", "error", "error_description")  # where it says why not
ENDED = "Flowith's login has ended and could not be renewed."
ELSEWHERE = (
    "Flowith's login could not be renewed: its refresh token was already used elsewhere, by another"
    " copy of this service or in a browser. Each copy needs a login of its own, or a flo_... key."
)
AGAIN = (
    "The operator should sign in again and set FLOWITH_AUTH_TOKEN and FLOWITH_REFRESH_TOKEN."
    f" {DOCTOR}"
)
log = logging.getLogger("flowith")


def expiry(token: str) -> float | None:
    """When a JWT ends (Unix seconds), None for what is no JWT or has no `exp`. Not verified."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def why_not_kept(file: Path) -> str:
    """Why a renewed login could not be kept in that file; empty where it can be. Leaves nothing
    behind."""
    try:
        tempfile.TemporaryFile(dir=file.resolve().parent).close()  # noqa: SIM115
        for there in (file, Path(f"{file}.lock")):
            if there.exists():
                there.open("r+").close()  # noqa: SIM115
    except OSError as wrong:
        return wrong.strerror or "unknown"
    return ""


def _is_token(given: object) -> bool:
    """Whether it can be one: a header has to hold it."""
    return isinstance(given, str) and given != "" and given.isascii() and given.isprintable()


class Login:
    """The renewable login of one account. `token` is current after `renew`."""

    def __init__(self, settings: Settings, token: str, transport: Transport) -> None:
        self.token = token
        self._settings, self._transport = settings, transport
        self._file = Path(settings.state_file)
        self._first = settings.flowith_refresh_token
        self._lock = threading.Lock()
        self._renewal: threading.Event | None = None  # set when the one under way is over
        self._failure = ""  # why the last one failed
        self._unwritten: dict[str, Any] = {}  # a state that the disk did not take
        self._not_before = 0.0  # monotonic seconds

    def renew(self, refused: str = "") -> str:
        """A token that lasts; refreshed when this one ends soon or was `refused`.

        Waits for the renewal, which goes on without the one who asked for it. Raises UpstreamAuth
        when the login cannot be renewed.
        """
        if not self._is_stale(refused):
            return self.token
        with self._lock:
            if self._renewal is None and time.monotonic() >= self._not_before:
                self._renewal = threading.Event()
                atexit.register(self._renewal.wait, PATIENCE)  # gevent's threads hold no exit up
                threading.Thread(target=self._run, args=(refused,), name="renewal").start()
            renewal = self._renewal
        if renewal is not None:
            renewal.wait()
        if self._failure and (self.token == refused or self._has_ended()):
            raise UpstreamAuth(self._failure)
        return self.token

    def stored(self) -> str:
        """The token that the last refresh left, else the one that was set; spends nothing."""
        return str((self._read() or {}).get("access_token") or self.token)

    def used_elsewhere(self) -> bool:
        """Whether the service has found out that another holder used the refresh token."""
        return bool((self._read() or {}).get("used_elsewhere"))

    def _is_stale(self, refused: str) -> bool:
        return self.token == refused or self._has_ended(EARLY)

    def _has_ended(self, early: float = 0.0) -> bool:
        """Whether there is no token that lasts so many seconds more."""
        ends = expiry(self.token)
        return not self.token or (ends is not None and ends - time.time() < early)

    def _run(self, refused: str) -> None:
        """The renewal, in a thread of its own."""
        failure = f"{ENDED} {AGAIN}"
        try:
            with self._locked():
                state = self._unwritten or self._state()
                self.token = state.get("access_token") or self.token
                if self._is_stale(refused):
                    self._refresh(state)
            failure = ""
        except UpstreamError as wrong:
            failure = wrong.message
            log.warning("login not renewed: %s", failure)
        finally:
            with self._lock:
                pause = PAUSE_AFTER_FAILURE if failure else PAUSE
                self._failure, self._not_before = failure, time.monotonic() + pause
                renewal, self._renewal = self._renewal, None
            if renewal is not None:
                renewal.set()
                atexit.unregister(renewal.wait)

    def _refresh(self, state: dict[str, Any]) -> None:
        """Spend the refresh token. Raises UpstreamAuth."""
        if state.get("used_elsewhere"):
            raise UpstreamAuth(f"{ELSEWHERE} {AGAIN}")
        # opened before the token is spent: a full or read-only disk shows while nothing is lost
        with self._place() as place:
            given = self._ask(state.get("refresh_token") or self._first)
            known: dict[str, Any] = {**given} if given else {**state, "used_elsewhere": True}
            kept = {"first": self._fingerprint(), **known}
            self._unwritten = {} if self._keep(place, kept) else kept
        if given is None:
            raise UpstreamAuth(f"{ELSEWHERE} {AGAIN}")
        self.token = given["access_token"]
        log.info("login renewed")

    def _ask(self, refresh_token: str) -> dict[str, str] | None:
        """The new tokens; None where the old one was already used. Raises UpstreamAuth."""
        settings, exchange = self._settings, Exchange()
        url = f"{settings.flowith_identity_url}/auth/v1/token?grant_type=refresh_token"
        headers = {"apikey": settings.flowith_identity_key, "Content-Type": "application/json"}
        body = json.dumps({"refresh_token": refresh_token}).encode()
        try:
            response = self._transport.post(url, headers, body, exchange, PATIENCE)
            said = to_object(read_whole(exchange, url, LONGEST, PATIENCE))
        except UpstreamError:
            raise UpstreamAuth(f"{ENDED} {AGAIN}") from None
        words = str([said.get(name) for name in WHY])
        if response.status_code == 400 and re.search("already.used", words, re.I):
            return None
        fresh = {name: said.get(name) for name in ("access_token", "refresh_token")}
        if response.status_code != 200 or not all(map(_is_token, fresh.values())):
            raise UpstreamAuth(f"{ENDED} {AGAIN}")
        return {name: str(value) for name, value in fresh.items()}

    def _read(self) -> dict[str, Any] | None:
        """What an earlier refresh left, unless the operator has set another token since; None for
        a file that is damaged."""
        try:
            state = json.loads(self._file.read_bytes())
        except OSError:
            return {}
        except (ValueError, RecursionError):
            return None
        names = ("access_token", "refresh_token")
        if not isinstance(state, dict) or not all(isinstance(state.get(n, ""), str) for n in names):
            return None
        return state if state.get("first") == self._fingerprint() else {}

    def _state(self) -> dict[str, Any]:
        """As `_read`; a damaged file is kept aside for the operator to look at."""
        state = self._read()
        if state is not None:
            return state
        aside = self._file.with_name(f"{self._file.name}.damaged")
        log.warning("%s is damaged (STATE_FILE): it is kept as %s", self._file, aside)
        with suppress(OSError):
            self._file.replace(aside)
        return {}

    def _fingerprint(self) -> str:
        return hashlib.sha256(self._first.encode()).hexdigest()[:16]

    @contextmanager
    def _place(self) -> Iterator[Path]:
        """A file beside the state file, readable by its owner alone. Raises UpstreamAuth where
        there is no place for one."""
        folder = self._file.resolve().parent
        try:
            number, name = tempfile.mkstemp(dir=folder, prefix=f"{self._file.name}.")
        except OSError:
            raise UpstreamAuth(
                f"The login was not renewed: {folder} cannot be written (STATE_FILE). {DOCTOR}"
            ) from None
        os.close(number)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _keep(self, place: Path, state: Mapping[str, Any]) -> bool:
        """Write the state file anew, all of it at once by way of `place`, and tell whether that
        could be done."""
        try:
            with place.open("w") as file:
                file.write(json.dumps(state))
                file.flush()
                os.fsync(file.fileno())
            place.replace(self._file)
        except OSError as wrong:
            log.error("the new login is in memory alone (STATE_FILE): %s", wrong.strerror)
            return False
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; waits without blocking, as a gevent worker has one thread."""
        until = time.monotonic() + LOCK_TIME
        try:
            lock = Path(f"{self._file}.lock").open("w")  # noqa: SIM115 - closed below
        except OSError as wrong:
            text = f"{self._file}.lock cannot be written (STATE_FILE). {DOCTOR}"
            raise UpstreamAuth(text) from wrong
        with lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise UpstreamAuth(
                            "Another process renews the login for too long."
                        ) from None
                    time.sleep(0.05)
            yield
