"""The Flowith accounts of this process: which one a call goes to, and which ones rest.

Per process and in memory: another worker finds out for itself. Knows nothing of HTTP.
"""

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import errors
from errors import DOCTOR, Overloaded, UpstreamError
from flowith.login import Login
from settings import NO_TOKEN, Api, mask

RESTS: dict[type[UpstreamError], float] = {
    errors.UpstreamAuth: 300.0,
    errors.OutOfCredits: 300.0,
    errors.RateLimited: 20.0,
}  # seconds; a Retry-After from Flowith wins
PROBE = 10.0  # seconds between two looks at an account that rests, when no other is left


@dataclass(eq=False, slots=True)
class Account:
    """One Flowith token. `name` is for logs and metrics, and stays when `login` renews the token
    (where the operator gave a refresh token); `bearer` maps a dialect to the form of the token
    that it accepted."""

    number: int
    token: str = field(repr=False)
    name: str = field(init=False)
    running: int = 0
    rests_until: float = 0.0
    probe_at: float = 0.0
    refusal: UpstreamError | None = None
    bearer: dict[str, bool] = field(default_factory=dict)
    login: Login | None = None

    def __post_init__(self) -> None:
        self.name = f"{self.number}:{mask(self.token)}"

    @property
    def kind(self) -> Api:
        """`flo_` keys belong to the APIs for programs, everything else is a web login."""
        return "llm" if self.token.startswith("flo_") else "web"

    def healthy(self, now: float) -> bool:
        return now >= self.rests_until


class Accounts:
    """Chooses accounts; all methods may be called from any thread."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.all = [Account(i, token) for i, token in enumerate(tokens, 1)]
        self._lock = threading.Lock()

    def healthy(self) -> int:
        """How many accounts do not rest."""
        now = time.monotonic()
        return sum(account.healthy(now) for account in self.all)

    def take(self, api: Api | None, avoid: Collection[Account] = ()) -> Account:
        """The healthy account with the fewest running calls, one outside `avoid` if there is one.

        Where `api` is given, accounts of its kind are preferred; the prefix is a habit and no
        rule, so others do where there is none. When all rest, one of them is tried every `PROBE`
        seconds; else the reason why the first one rests is raised. Give the account back with
        `give_back`.
        """
        if not self.all:
            raise Overloaded(
                f"{NO_TOKEN} {DOCTOR}", code="no_account", headers={"x-should-retry": "false"}
            )
        usable = self.usable(api)
        with self._lock:
            now = time.monotonic()
            healthy = [a for a in usable if a.healthy(now)]
            if not healthy:
                healthy = [a for a in usable if now >= a.probe_at][:1]
            if not healthy:
                raise self._why(usable, now)
            best = min(healthy, key=lambda a: (a in avoid, a.running, a.number))
            best.probe_at = now + PROBE
            best.running += 1
            return best

    def others(self, api: Api | None, avoid: Collection[Account]) -> bool:
        """Whether a healthy account outside `avoid` is left."""
        now = time.monotonic()
        return any(a.healthy(now) and a not in avoid for a in self.usable(api))

    def give_back(self, account: Account) -> None:
        with self._lock:
            account.running -= 1

    def settle(self, account: Account, refusal: UpstreamError | None) -> None:
        """Take note of how a call ended: a refusal of the account itself makes it rest."""
        if refusal is None:
            account.rests_until, account.refusal = 0.0, None
            return
        rest = RESTS.get(type(refusal))
        if rest is None:
            return
        now = time.monotonic()
        rest = refusal.retry_after or rest
        with self._lock:
            account.refusal, account.rests_until = refusal, now + rest
            wait = rest if isinstance(refusal, errors.RateLimited) else min(rest, PROBE)
            account.probe_at = now + wait

    def usable(self, api: Api | None) -> list[Account]:
        """The accounts that calls to `api` (None: to any) are spread over."""
        kind = "web" if api == "web" else "llm"
        return [a for a in self.all if api is None or a.kind == kind] or self.all

    def _why(self, resting: list[Account], now: float) -> UpstreamError:
        first = min(resting, key=lambda a: a.rests_until)
        known = first.refusal or errors.RateLimited("All Flowith accounts rest.")
        why = type(known)(known.message)
        why.retry_after = max(1.0, first.rests_until - now)
        return why
