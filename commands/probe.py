"""One tiny request to one address of Flowith, and what came of it in plain words.

Holds every address that Flowith's APIs have had. Knows nothing of reports or of Flask.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import orjson
import requests

import errors
from chat_request import Prompt
from commands.reach import PATIENCE, Said, to_host, to_said
from errors import UpstreamError
from events import Done, Event, Reasoning, Text, ToolCall
from flowith.accounts import Account
from flowith.connection import Exchange
from flowith.dialects import DIALECTS, Dialect, moved
from flowith.line_decoder import is_error, to_object
from flowith.refusal import quote, to_refusal
from flowith.transport import FOREIGN, asked_alone, read_refusal
from settings import Api, Model, Settings

# From public clients of Flowith and its documentation, the newest first. Beside each: the year
# in which it was last seen to answer. Tokens go to no host but these and the operator's own.
KNOWN: Mapping[Api, tuple[str, ...]] = {
    "web": (
        DIALECTS["web"].url,  # 2026
        "https://edge.flo.ing/completion?mode=general",  # 2025
        "https://edge.flowith.net/ai/chat?mode=general",  # 2025
    ),
    "llm": (
        DIALECTS["llm"].url,  # 2026
        "https://edge.flowith.net/external/use/llm",  # 2025, by its host's other paths
    ),
    "knowledge": (
        DIALECTS["knowledge"].url,  # 2026
        "https://edge.flowith.io/external/use/knowledge-base/seek",  # by its host's other paths
        "https://edge.flowith.net/external/use/seek-knowledge",  # 2025
        "https://edge.flowith.net/external/use/seek-knowledge/seek",  # documented only
    ),
}
FIRST_WORDS = 20.0  # seconds
ASKED = Prompt([{"role": "user", "content": "Say OK."}], thinking=False, options={"max_tokens": 16})
LONGEST = 1_048_576  # bytes without a word
FRAMES: Mapping[str, bytes] = {"web": b"", "llm": b'"choices"', "knowledge": b'"tag"'}
ALIVE = {"worked", "empty", "no_credits", "rate_limited"}  # address, API and token are right
WORDS = {
    "worked": "worked",
    "empty": "answered without a word, which Flowith does at times; ask again",
    "no_credits": "no credits: the address and the token are right",
    "rate_limited": "rate limit reached, so it lives: the address and the token are right",
    "refused": "refused the token",
    "not_found": "not found: the address has moved, or the model is unknown there",
    "unknown_model": "does not know this model, but does know another: the address is right",
    "rejected": "rejected the request",
    "redirect": "redirects, which is not followed: a captive portal, or the address has moved",
    "web_page": "a web page came in place of an answer: a captive portal or a firewall",
    "other_api": "answered, but not as this API does: another API is at this address",
    "failed": "failed",
    "timeout": "gave no answer in time",
}
OUTCOMES: dict[type[UpstreamError], str] = {
    errors.UpstreamAuth: "refused",
    errors.OutOfCredits: "no_credits",
    errors.RateLimited: "rate_limited",
    errors.UpstreamNotFound: "not_found",
    errors.UpstreamRejected: "rejected",
    errors.ContextTooLong: "rejected",
    errors.UpstreamTimeout: "timeout",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One account asked at one address, in one form of its token."""

    account: Account
    api: Api
    url: str
    bearer: bool
    model: Model
    said: Said


def addresses(api: Api, given: str) -> list[str]:
    """Where an API may be, best first: by the operator's FLOWITH_API_URL with each path known,
    then where it has been."""
    known = KNOWN[api]
    return list(dict.fromkeys([*(moved(url, given) for url in known), *known]))


def rows_for(models: Iterable[Model], api: Api, asked: Model | None) -> list[Model]:
    """Up to two rows with different models that fit an API, `asked` first, then those made for it.

    The second one tells an unknown model from an address that has moved; it is from the middle of
    the file, since neighbours are often of one family and retire together.
    """
    rows = [*([asked] if asked else ()), *models]
    chats = [row for row in rows if row.kind == "chat"]  # a picture is dear
    fit = [row for row in chats if row.api in (None, api) and "*" not in row.upstream]
    fit.sort(key=lambda row: (row is not asked, row.api is None))
    others = [row for row in fit if row.upstream[0] != fit[0].upstream[0]]
    return [*fit[:1], *others[len(others) // 2 :][:1]]


@dataclass(frozen=True, slots=True)
class Asking:
    """How accounts are asked: by these settings, and with what else is known.

    `down` holds the hosts that cannot be reached, which get no request; `model` is the row that the
    operator named; `everything` goes on after an address that works.
    """

    settings: Settings
    agent: str
    down: Mapping[str, Said]
    model: Model | None
    everything: bool

    def at_most(self, api: Api) -> int:
        """Requests for one account: two forms of its token and another model, at each address."""
        up = [url for url in self._urls(api) if to_host(url) not in self.down]
        rows = rows_for(self.settings.models.values(), api, self.model)
        return len(up) * (1 + len(rows)) * bool(rows)

    def ask(self, account: Account, token: str, api: Api) -> list[Probe]:
        """Ask at one address after the other, until one is alive."""
        rows = rows_for(self.settings.models.values(), api, self.model)
        found: list[Probe] = []
        for url in self._urls(api) if rows else ():
            found += self._ask_at(url, account, token, api, rows)
            if found[-1].said.outcome in ALIVE and not self.everything:
                break
        return found

    def _urls(self, api: Api) -> list[str]:
        """The service's own address, whatever its state, and the others that can be reached."""
        own, *others = addresses(api, self.settings.flowith_api_url)
        return [own, *(url for url in others if to_host(url) not in self.down)]

    def _ask_at(
        self, url: str, account: Account, token: str, api: Api, rows: list[Model]
    ) -> list[Probe]:
        found: list[Probe] = []

        def send(bearer: bool, model: Model) -> str:
            said = self.down.get(to_host(url)) or self._send(
                url, DIALECTS[api], token, bearer, model
            )
            found.append(Probe(account, api, url, bearer, model, said))
            return said.outcome

        bearer = DIALECTS[api].bearer
        outcome = send(bearer, rows[0])
        if outcome == "refused":
            bearer = not bearer
            outcome = send(bearer, rows[0])
        if outcome in ("not_found", "rejected") and rows[1:] and send(bearer, rows[1]) in ALIVE:
            status = found[-2].said.status
            unknown = Said("unknown_model", f"{WORDS['unknown_model']} ({status})", status)
            found[-2] = replace(found[-2], said=unknown)
        return found

    def _send(self, url: str, dialect: Dialect, token: str, bearer: bool, model: Model) -> Said:
        """Send one tiny request, wait for the first words and hang up."""
        headers = {**dialect.headers_for(token, bearer), "User-Agent": self.agent}
        body = orjson.dumps(dialect.payload(ASKED, model, model.upstream[:1]))
        patience = min(self.settings.first_token_timeout, FIRST_WORDS)
        connect = min(self.settings.connect_timeout, PATIENCE)
        try:
            with asked_alone("POST", url, headers, body, connect, patience) as (answer, exchange):
                return _read(dialect, answer, exchange, time.monotonic() + patience)
        except UpstreamError as refusal:
            return _refused(refusal, (token, *self.settings.flowith_auth_token))
        except FOREIGN as wrong:
            return to_said(wrong)


def _read(dialect: Dialect, answer: requests.Response, exchange: Exchange, until: float) -> Said:
    """Raises UpstreamError. `until` is monotonic seconds."""
    status = answer.status_code
    if 300 <= status < 400:
        to = re.match(r"https?://([\w.-]+)", answer.headers.get("Location", ""), re.ASCII)
        return Said("redirect", WORDS["redirect"] + (f" (to {to[1]})" if to else ""), status)
    if not 200 <= status < 300:
        said = read_refusal(exchange)
        if status in (401, 403) and _is_page(said):
            return Said("web_page", f"{WORDS['web_page']} ({status})", status)
        raise to_refusal(status, said, answer.headers)
    decoder, received = dialect.decoder(""), b""
    read = exchange.reader()
    while block := read():
        if _is_page(block):
            return Said("web_page", WORDS["web_page"], status)
        if dialect.name == "web" and re.match(rb"\s*(data:|\{)", block):
            told = to_object(block)
            if is_error(told):
                raise to_refusal(None, told)
            return Said("other_api", WORDS["other_api"], status)
        received += block
        try:
            spoken = any(map(_says_something, decoder.decode(block)))
        except UpstreamError as wrong:
            return _unread(wrong, dialect, received, status)
        if spoken:
            return Said("worked", WORDS["worked"], status)
        if time.monotonic() > until or len(received) > LONGEST:
            return Said("timeout", WORDS["timeout"], status)
    try:
        spoken = any(map(_says_something, decoder.flush()))
    except UpstreamError as wrong:
        return _unread(wrong, dialect, received, status)
    if received and FRAMES[dialect.name] not in received:
        return Said("other_api", WORDS["other_api"], status)
    outcome = "worked" if spoken else "empty"
    return Said(outcome, WORDS[outcome], status)


def _unread(wrong: UpstreamError, dialect: Dialect, received: bytes, status: int) -> Said:
    """What an answer is that could not be read: another API's. Raises the error that it tells."""
    own = not received or FRAMES[dialect.name] in received or b'"error"' in received
    if own or type(wrong) in OUTCOMES:
        raise wrong
    return Said("other_api", WORDS["other_api"], status)


def _is_page(block: bytes) -> bool:
    return bool(re.match(rb"\s*<(!doctype|html)", block, re.I))


def _says_something(event: Event) -> bool:
    """Cut short by max_tokens, a model may have spent them all on thoughts that nobody sees."""
    match event:
        case Text(text) | Reasoning(text):
            return not text.isspace()
        case ToolCall() | Done("length"):
            return True
    return False


def _refused(refusal: UpstreamError, secrets: Collection[str]) -> Said:
    outcome = OUTCOMES.get(type(refusal), "failed")
    status = f" ({refusal.upstream_status})" if refusal.upstream_status else ""
    refusal.message = f"{WORDS[outcome]}{status};"
    quote(refusal, secrets, [str(m["content"]) for m in ASKED.messages])
    return Said(outcome, refusal.message.rstrip(";"), refusal.upstream_status)
