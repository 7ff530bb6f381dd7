"""What may come of a look at Flowith: each outcome in plain words, and what is to be done then.

A new one is a row here and in docs/troubleshooting.md. Knows nothing of how it is found out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

NO_WAY = (
    "This machine does not reach Flowith: see to its network, a firewall, HTTPS_PROXY, or the"
    " address in FLOWITH_API_URL."
)
PORTAL = (
    "Something between here and Flowith answers in its place: on a network that asks for a sign-in"
    " open any page in a browser; else the firewall has to let this machine through, or the"
    " address in FLOWITH_API_URL is wrong."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`alive`: address, API and token are right. Without `sent` no request has left."""

    words: str
    remedy: str = ""
    alive: bool = False
    sent: bool = True


OUTCOMES: Mapping[str, Outcome] = {
    "worked": Outcome("worked", alive=True),
    "no_credits": Outcome(
        "no credits: the address and the token are right",
        "The account has no credits: top it up at Flowith, or set another token.",
        alive=True,
    ),
    "rate_limited": Outcome(
        "rate limit reached, so it lives: the address and the token are right",
        "Flowith's rate limit is reached: wait a minute.",
        alive=True,
    ),
    "empty": Outcome(
        "answered without a word, which Flowith does at times; ask again",
        "Flowith answers without a word, which comes and goes: wait a minute.",
        alive=True,
    ),
    "broken_off": Outcome(
        "began an answer and broke it off: the address and the token are right",
        "Answers end in the middle: look for a proxy or a firewall that ends what takes long or"
        " comes in pieces, and try another network; else Flowith has trouble of its own.",
        alive=True,
    ),
    "refused": Outcome(
        "refused the token",
        "The token is wrong, revoked or has expired: sign in at Flowith again and set"
        " FLOWITH_AUTH_TOKEN.",
    ),
    "not_found": Outcome(
        "not found: the address has moved, or the model is unknown there",
        "Flowith has moved, or none of the models asked for exists any more: try another"
        " row (--model NAME); else take the address that the web app calls (a browser's developer"
        " tools show it) or a newer version of this service, and set FLOWITH_API_URL.",
    ),
    "unknown_model": Outcome(
        "does not know this model, but does know another: the address is right",
        "Give that row of models.json another model.",
    ),
    "rejected": Outcome(
        "rejected the request",
        "Flowith wants the request otherwise, see its words above: try another row (--model NAME).",
    ),
    "redirect": Outcome(
        "redirects, which is not followed: a captive portal, or the address has moved", PORTAL
    ),
    "web_page": Outcome(
        "a web page came in place of an answer: a captive portal or a firewall", PORTAL
    ),
    "other_api": Outcome(
        "answered, but not as this API does: another API is at this address",
        "The address belongs to another of Flowith's APIs: empty FLOWITH_API_URL, or set"
        " FLOWITH_API to fit it.",
    ),
    "failed": Outcome("failed", "Flowith has trouble of its own: wait, and run this again."),
    "timeout": Outcome(
        "gave no answer in time",
        "Flowith is slow or overloaded: wait, and run this again, perhaps with the row of a"
        " small model (--model NAME).",
    ),
    "no_dns": Outcome(
        "has no address: the name is wrong, or there is no DNS here", NO_WAY, sent=False
    ),
    "no_connection": Outcome(
        "cannot be reached: nothing listens there, or no network", NO_WAY, sent=False
    ),
    "proxy": Outcome(
        "is not let through by the HTTP proxy, or that cannot be reached",
        "The proxy in HTTPS_PROXY is wrong (it has to be http:// or https://) or does not let this"
        " machine through; hosts that need none belong into NO_PROXY.",
        sent=False,
    ),
    "tls": Outcome(
        "does not speak TLS there, or is disturbed",
        "No secure connection to Flowith: the line of its host above says why.",
        sent=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What was found out: an outcome, its words with all that is known; HTTP's status, if any."""

    outcome: str
    words: str
    status: int | None = None

    @classmethod
    def of(cls, outcome: str, status: int | None = None, more: str = "") -> Self:
        """An outcome in its own words, and perhaps `more` behind them."""
        return cls(outcome, OUTCOMES[outcome].words + more, status)

    @property
    def alive(self) -> bool:
        return OUTCOMES[self.outcome].alive

    @property
    def sent(self) -> bool:
        return OUTCOMES[self.outcome].sent
