"""Keep a web login alive: its token dies after about an hour, the refresh token makes a new one.

A refresh token is good once, so one process at a time refreshes (a lock file) and the new one is
on disk before anybody uses what came with it. Knows Flowith's login service and nothing else.
"""

import base64
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from errors import DOCTOR, UpstreamAuth
from flowith.connection import Exchange
from flowith.transport import FOREIGN, Transport
from settings import Settings

EARLY = 90.0  # seconds before its end at which a token is renewed
LOCK_TIME = 30.0  # seconds to wait for another process that refreshes
AGAIN = (
    "Flowith's login has ended and could not be renewed. The operator should sign in again and set"
    f" FLOWITH_AUTH_TOKEN and FLOWITH_REFRESH_TOKEN. {DOCTOR}"
)


def expiry(token: str) -> float | None:
    """When a JWT ends (Unix seconds), None for what is no JWT or has no `exp`. Not verified."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


class Login:
    """The renewable login of one account. `token` is current after `renew`."""

    def __init__(self, settings: Settings, token: str, transport: Transport) -> None:
        self.token = token
        self._settings, self._transport = settings, transport
        self._file = Path(settings.state_file)
        self._first = settings.flowith_refresh_token
        self._checked = 0.0

    def renew(self, exchange: Exchange, refused: str = "") -> str:
        """A token that lasts; refreshed when this one ends soon or was `refused`.

        Raises UpstreamAuth when the login cannot be renewed.
        """
        if not self._is_stale(refused):
            return self.token
        with self._locked():
            state = self._read()
            self.token = state.get("access_token") or self.token
            if self._is_stale(refused):
                self._refresh(state.get("refresh_token") or self._first, exchange)
        return self.token

    def stored(self) -> str:
        """The token that the last refresh left, else the one that was set; spends nothing."""
        return str(self._read().get("access_token") or self.token)

    def _is_stale(self, refused: str) -> bool:
        ends = expiry(self.token)
        return (
            not self.token
            or self.token == refused
            or (ends is not None and ends - time.time() < EARLY)
        )

    def _refresh(self, refresh_token: str, exchange: Exchange) -> None:
        settings = self._settings
        url = f"{settings.flowith_identity_url}/auth/v1/token?grant_type=refresh_token"
        headers = {"apikey": settings.flowith_identity_key, "Content-Type": "application/json"}
        body = json.dumps({"refresh_token": refresh_token}).encode()
        # opened before the token is spent: a full or read-only disk shows while nothing is lost
        with self._replacing() as file:
            try:
                response = self._transport.post(url, headers, body, exchange)
                given = json.loads(response.raw.read(65_536, decode_content=True))
                fresh = {name: given[name] for name in ("access_token", "refresh_token")}
            except (*FOREIGN, ValueError, KeyError, TypeError) as wrong:
                raise UpstreamAuth(AGAIN) from wrong
            file.write(json.dumps({"first": self._fingerprint(), **fresh}))
        self.token = str(fresh["access_token"])

    def _read(self) -> dict[str, Any]:
        """What an earlier refresh left, unless the operator has set another token since."""
        try:
            state = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        ours = isinstance(state, dict) and state.get("first") == self._fingerprint()
        return state if ours else {}

    def _fingerprint(self) -> str:
        return hashlib.sha256(self._first.encode()).hexdigest()[:16]

    @contextmanager
    def _replacing(self) -> Iterator[Any]:
        """Write the state file anew, atomically, readable by its owner alone."""
        folder = self._file.resolve().parent
        try:
            number, name = tempfile.mkstemp(dir=folder, prefix=f"{self._file.name}.")
        except OSError as wrong:
            raise UpstreamAuth(
                f"The login was not renewed: {folder} cannot be written (STATE_FILE). {DOCTOR}"
            ) from wrong
        try:
            with os.fdopen(number, "w") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

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
