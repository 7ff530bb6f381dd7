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
from flowith.refusal import MEANING
from settings import NO_TOKEN, Api, mask

RESTS: dict[type[UpstreamError], float] = {
    errors.UpstreamAuth: 300.0,
    errors.OutOfCredits: 300.0,
    errors.RateLimited: 20.0,
}  # seconds; a Retry-After from Flowith wins
ALL = ""  # in the place of a model: all of them


@dataclass(frozen=True, slots=True)
class Rest:
    """That an account is passed over while another can take its place.

    `until` is in monotonic seconds. `holds`: Flowith itself said for how long, so that nothing is
    sent before, not even where no other account is left.
    """

    kind: type[UpstreamError]
    until: float
    holds: bool


@dataclass(eq=False, slots=True)
class Account:
    """One Flowith token. `name` is for logs and metrics, and stays when `login` renews the token
    (where the operator gave a refresh token); `bearer` maps a dialect to the form of the token
    that it accepted, `rests` a Flowith model, or ALL, to why it is passed over."""

    number: int
    token: str = field(repr=False)
    name: str = field(init=False)
    running: int = 0
    rests: dict[str, Rest] = field(default_factory=dict)
    bearer: dict[str, bool] = field(default_factory=dict)
    login: Login | None = None

    def __post_init__(self) -> None:
        self.name = f"{self.number}:{mask(self.token)}"

    @property
    def kind(self) -> Api:
        """`flo_` keys belong to the APIs for programs, everything else is a web login."""
        return "llm" if self.token.startswith("flo_") else "web"

    def rest_for(self, model: str, now: float) -> Rest | None:
        """Why a Flowith model is not asked for here, whichever reason lasts longest."""
        known = [self.rests.get(model), self.rests.get(ALL)]
        running = [rest for rest in known if rest is not None and rest.until > now]
        return max(running, key=lambda rest: (rest.holds, rest.until), default=None)

    def healthy(self, now: float) -> bool:
        """Whether it can be asked for some model: a rest for one model is not the account's."""
        rest = self.rests.get(ALL)
        return rest is None or rest.until <= now


class Accounts:
    """Chooses accounts; all methods may be called from any thread.

    An account rests only so that another can take its place: for one Flowith model after 429, 402
    and 403, for all after 401, and after a 402 or 403 for a second model. Where none is left, calls
    go through all the same, and Flowith's own refusal is told.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.all = [Account(i, token) for i, token in enumerate(tokens, 1)]
        self._lock = threading.Lock()

    def healthy(self) -> int:
        """How many accounts do not rest for all models."""
        now = time.monotonic()
        return sum(account.healthy(now) for account in self.all)

    def take(self, api: Api | None, model: str, avoid: Collection[Account] = ()) -> Account:
        """The account that does not rest for this Flowith model and has the fewest running calls,
        one outside `avoid` if there is one.

        Where `api` is given, accounts of its kind are preferred; the prefix is a habit and no
        rule, so others do where there is none. When all rest, the one whose rest ends first is
        taken; where Flowith said how long, RateLimited with that time is raised instead. Give the
        account back with `give_back`.
        """
        if not self.all:
            raise Overloaded(
                f"{NO_TOKEN} {DOCTOR}", code="no_account", headers={"x-should-retry": "false"}
            )
        with self._lock:
            now = time.monotonic()
            rests = {a: a.rest_for(model, now) for a in self.usable(api)}
            open_to = [a for a, rest in rests.items() if rest is None or not rest.holds]
            if not open_to:
                ends = min(rest.until for rest in rests.values() if rest is not None)
                raise _limited(ends - now)

            def order(account: Account) -> tuple[float, bool, int, int]:
                rest = rests[account]
                until = 0.0 if rest is None else rest.until
                return until, account in avoid, account.running, account.number

            best = min(open_to, key=order)
            best.running += 1
            return best

    def others(self, api: Api | None, model: str, avoid: Collection[Account]) -> bool:
        """Whether an account outside `avoid` that does not rest is left."""
        now = time.monotonic()
        usable = [a for a in self.usable(api) if a not in avoid]
        return any(a.rest_for(model, now) is None for a in usable)

    def take_again(self, account: Account) -> None:
        """The same account for another try."""
        with self._lock:
            account.running += 1

    def give_back(self, account: Account) -> None:
        """Say that a call is over."""
        with self._lock:
            account.running -= 1

    def settle(self, account: Account, model: str, refusal: UpstreamError | None) -> None:
        """Take note of how a call for a Flowith model ended (None: well)."""
        with self._lock:
            now = time.monotonic()
            rests = {name: rest for name, rest in account.rests.items() if rest.until > now}
            if refusal is None:
                rests.pop(model, None)
                rests.pop(ALL, None)
            elif (kind := type(refusal)) in RESTS:
                seconds = refusal.retry_after or RESTS[kind]
                holds = kind is errors.RateLimited and refusal.retry_after is not None
                name = ALL if _is_the_accounts(refusal, model, rests) else model
                rests[name] = Rest(kind, now + seconds, holds)
            account.rests = rests

    def usable(self, api: Api | None) -> list[Account]:
        """The accounts that calls to `api` (None: to any) are spread over."""
        kind = "web" if api == "web" else "llm"
        return [a for a in self.all if api is None or a.kind == kind] or self.all


def _is_the_accounts(refusal: UpstreamError, model: str, rests: dict[str, Rest]) -> bool:
    """Whether a refusal is for all models: of the token itself, or for a second model."""
    if isinstance(refusal, errors.RateLimited):
        return False
    if isinstance(refusal, errors.UpstreamAuth) and refusal.upstream_status != 403:
        return True
    others = [rest.kind for name, rest in rests.items() if name != model]
    return any(kind is not errors.RateLimited for kind in others)


def _limited(seconds: float) -> errors.RateLimited:
    why = errors.RateLimited(MEANING[errors.RateLimited])
    why.retry_after = max(1.0, seconds)
    return why
