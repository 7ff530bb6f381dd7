"""What one call is tried with, and what after a failure: the token in its other form, another
account, another model, or nothing more.

Sends nothing itself, and looks at no answer.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import errors
from chat_request import Prompt, text_of
from errors import UpstreamAuth, UpstreamError, UpstreamNotFound
from flowith.accounts import Account, Accounts
from flowith.dialects import Dialect
from flowith.image_dialects import costs_nothing
from flowith.order import Order
from flowith.refusal import quote
from settings import Api, Model, Settings

TRIES_PER_MODEL = 2  # before the row's next fallback gets its turn
FIRST_DELAY, LONGEST_DELAY = 0.25, 4.0  # seconds between tries, doubled each time
MOVE_ON = (UpstreamAuth, errors.OutOfCredits, errors.RateLimited)  # the account's fault
log = logging.getLogger("flowith")


@dataclass(slots=True)
class Retries:
    """The tries of one call, one after the other.

    `label` names the call in the log. `attempts` holds account and API of each try, `failures`
    account and code of each that failed; all forms of an account's token are one try.
    """

    accounts: Accounts
    settings: Settings
    dialect_for: Callable[[Model, Account], Dialect]
    prompt: Prompt
    model: Model
    label: str
    attempts: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    _failed: list[Account] = field(default_factory=list)
    _forms: list[Order] = field(default_factory=list)  # left to be tried on the same account
    _upstream: tuple[str, ...] = ()  # model ids left to be tried

    def __post_init__(self) -> None:
        self._upstream = self.model.upstream

    def next(self) -> Order:
        """What to send now; `close` has to follow. Raises Overloaded and RateLimited where no
        account may be asked."""
        if self._forms:
            order = self._forms.pop(0)
            self.accounts.take_again(order.account)
            return order
        account = self.accounts.take(self._api(), self._upstream[0], self._failed)
        dialect = self.dialect_for(self.model, account)
        self.attempts.append((account.name, dialect.name))
        order = Order(
            account=account,
            dialect=dialect,
            prompt=self.prompt,
            model=self.model,
            upstream=self._upstream,
            bearer=account.bearer.get(dialect.name, dialect.bearer),
            renew=False,
            label=self.label,
        )
        renewed = [replace(order, renew=True)] if account.login else []
        self._forms = [*renewed, replace(order, bearer=not order.bearer)]
        return order

    def close(self, order: Order) -> None:
        """Say that a try is over, however it ended."""
        self.accounts.give_back(order.account)

    def succeeded(self, order: Order) -> None:
        """Take note of an answer that came to its end."""
        self.accounts.settle(order.account, order.upstream[0], None)

    def delay(
        self, order: Order, refusal: UpstreamError, begun: bool, until: float
    ) -> float | None:
        """Take note of a failure. Seconds until the next try, which has to begin before `until`
        (monotonic seconds); None when there is to be none, as when the answer had `begun`."""
        refused = isinstance(refusal, UpstreamAuth) and refusal.upstream_status is not None
        if refused and self._forms and not begun:
            return 0.0
        self._forms = []
        self._failed.append(order.account)
        self.accounts.settle(order.account, order.upstream[0], refusal)
        delay = None if begun else self._delay(refusal, until)
        self._note(order.account, refusal)
        return delay

    def _delay(self, refusal: UpstreamError, until: float) -> float | None:
        tries = len(self._failed)
        if tries >= self.settings.retry_attempts or not refusal.retryable:
            return None
        if self.model.kind == "image" and not costs_nothing(refusal):
            return None
        if isinstance(refusal, MOVE_ON):
            others = self.accounts.others(self._api(), self._upstream[0], self._failed)
            return 0.0 if others else None
        gone = isinstance(refusal, UpstreamNotFound)
        if gone and len(self._upstream) < 2:
            return None
        if (gone or tries >= TRIES_PER_MODEL) and len(self._upstream) > 1:
            self._upstream = self._upstream[1:]
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311
        return delay if time.monotonic() + delay < until else None

    def _note(self, account: Account, refusal: UpstreamError) -> None:
        self.failures.append((account.name, refusal.ending))
        status = refusal.upstream_status or "-"
        log.warning("%s account=%s failed=%s status=%s", self.label, *self.failures[-1], status)
        current = (a.token for a in self.accounts.all)  # a login's is not in the settings
        said = (text_of(message["content"]) for message in self.prompt.messages)
        quote(refusal, (*self.settings.flowith_auth_token, *current), said)

    def _api(self) -> Api | None:
        return self.model.api or self.settings.chosen_api
