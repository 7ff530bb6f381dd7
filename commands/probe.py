"""One tiny request to one address of Flowith, and what came of it in plain words.

Holds every address that Flowith's APIs have had. Knows nothing of reports or of Flask.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import orjson
import requests

import errors
from chat_request import Prompt
from commands.outcomes import OUTCOMES, Said
from commands.reach import PATIENCE, to_said
from errors import UpstreamError
from events import Done, Event, Reasoning, Text, ToolCall
from flowith.accounts import Account
from flowith.connection import Exchange
from flowith.dialects import DIALECTS, Dialect, moved
from flowith.file_address import origin_of
from flowith.line_decoder import is_error, to_object
from flowith.refusal import quote, to_refusal
from flowith.transport import FOREIGN, asked_alone, read_refusal, to_trouble
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
REST = 3.0  # seconds for what comes behind the first words
ASKED = Prompt([{"role": "user", "content": "Say OK."}], thinking=False, options={"max_tokens": 16})
LONGEST = 1_048_576  # bytes without a word
PAGE = re.compile(rb"\s*<(!doctype|html)", re.I)
OWN = {  # what is in an answer of this API, or not at its beginning
    "web": re.compile(rb"\A\s*+(?!data:|\{)"),
    "llm": re.compile(rb'"choices"'),
    "knowledge": re.compile(rb'"tag"'),
}
REFUSALS: dict[type[UpstreamError], str] = {
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
    token: str = field(repr=False)
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
        up = [url for url in self._urls(api) if origin_of(url) not in self.down]
        rows = rows_for(self.settings.models.values(), api, self.model)
        return len(up) * (1 + len(rows)) * bool(rows)

    def ask(self, account: Account, token: str, api: Api) -> list[Probe]:
        """Ask at one address after the other, until one is alive."""
        rows = rows_for(self.settings.models.values(), api, self.model)
        found: list[Probe] = []
        for url in self._urls(api) if rows else ():
            found += self._ask_at(url, account, token, api, rows)
            if found[-1].said.alive and not self.everything:
                break
        return found

    def _urls(self, api: Api) -> list[str]:
        """The service's own address, whatever its state, and the others that can be reached."""
        own, *others = addresses(api, self.settings.flowith_api_url)
        return [own, *(url for url in others if origin_of(url) not in self.down)]

    def _ask_at(
        self, url: str, account: Account, token: str, api: Api, rows: list[Model]
    ) -> list[Probe]:
        """The token in its usual form, in its other one if that is refused, another model if the
        first may be unknown."""

        def probe(bearer: bool, model: Model) -> Probe:
            said = self.down.get(origin_of(url)) or self._send(url, api, token, bearer, model)
            return Probe(account, token, api, url, bearer, model, said)

        found = [probe(DIALECTS[api].bearer, rows[0])]
        if found[-1].said.outcome == "refused":
            found.append(probe(not found[-1].bearer, rows[0]))
        last = found[-1]
        if last.said.outcome in ("not_found", "rejected") and rows[1:]:
            other = probe(last.bearer, rows[1])
            if other.said.alive:
                status = last.said.status
                found[-1] = replace(last, said=Said.of("unknown_model", status, f" ({status})"))
            found.append(other)
        return found

    def _send(self, url: str, api: Api, token: str, bearer: bool, model: Model) -> Said:
        """Send one tiny request, hear whether its short answer comes to its end, and hang up."""
        dialect = DIALECTS[api]
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
    """Raises UpstreamError, and what FOREIGN holds. `until` is monotonic seconds."""
    status = answer.status_code
    if 300 <= status < 400:
        to = re.match(r"https?://([\w.-]+)", answer.headers.get("Location", ""), re.ASCII)
        return Said.of("redirect", status, f" (to {to[1]})" if to else "")
    if not 200 <= status < 300:
        body = read_refusal(exchange)
        if status in (401, 403) and PAGE.match(body):
            return Said.of("web_page", status, f" ({status})")
        raise to_refusal(status, body, answer.headers)
    read = exchange.reader()
    said = _listen(dialect, status, read, until)
    if said.outcome == "worked" and not exchange.has_arrived():
        exchange.wait_at_most(REST)
        if _breaks_off(read, time.monotonic() + REST):
            return Said.of("broken_off", status)
    return said


def _breaks_off(read: Callable[[], bytes], until: float) -> bool:
    """Whether an answer that has begun ends before it is whole. Nobody waits for a long one."""
    try:
        while time.monotonic() < until:
            if not read():
                return False
    except FOREIGN as wrong:
        return to_trouble(wrong) != "timeout"
    return False


def _listen(dialect: Dialect, status: int, read: Callable[[], bytes], until: float) -> Said:
    """The first words of an answer, or what else it is. Raises as `_read`."""
    decoder, received, outcome = dialect.decoder(""), b"", ""
    refusal: UpstreamError | None = None
    try:
        while not outcome:
            block = read()
            received += block
            events = decoder.decode(block) if block else decoder.flush()
            if any(map(_says_something, events)):
                outcome = "worked"
            elif not block:
                outcome = "empty"
            elif time.monotonic() > until or len(received) > LONGEST:
                return Said.of("timeout", status)
    except UpstreamError as wrong:
        refusal = wrong
    if PAGE.match(received):
        return Said.of("web_page", status)
    said = to_object(received)
    if dialect.name == "web" and is_error(said):
        raise to_refusal(None, said)
    told = refusal and (type(refusal) in REFUSALS or b'"error"' in received)
    if received and not told and not OWN[dialect.name].search(received):
        return Said.of("other_api", status)
    if refusal:
        raise refusal
    return Said.of(outcome, status)


def _says_something(event: Event) -> bool:
    """Cut short by max_tokens, a model may have spent them all on thoughts that nobody sees."""
    match event:
        case Text(text) | Reasoning(text):
            return not text.isspace()
        case ToolCall() | Done("length"):
            return True
    return False


def _refused(refusal: UpstreamError, secrets: Collection[str]) -> Said:
    outcome = REFUSALS.get(type(refusal), "failed")
    status = f" ({refusal.upstream_status})" if refusal.upstream_status else ""
    refusal.message = f"{OUTCOMES[outcome].words}{status};"
    quote(refusal, secrets, [str(m["content"]) for m in ASKED.messages])
    return Said(outcome, refusal.message.rstrip(";"), refusal.upstream_status)
