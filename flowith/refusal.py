"""What Flowith's no means: status and error body to one of our errors.

The status is a fact and decides; words are looked at only where no status tells (a context that
is too long, an error inside a 200). Flowith's words go to the caller who caused them, never to
the log, and not at all when they may hold a token or quote the prompt.
"""

import json
import re
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import errors
from errors import DOCTOR, UpstreamError

READ = 4_096  # bytes or characters of an error that are looked at
LEVELS = 5  # of an error, in which its words are looked for
WORDS = 300  # characters of Flowith's own message that a caller gets to see
LONGEST_WAIT = 3_600.0  # seconds; whatever Flowith says, it is asked again after an hour
QUOTE = 16  # characters in a row that count as a quotation of the prompt
COMPARED = 200_000  # characters of a prompt that are looked through for one; a fraction of a second
BY_STATUS: dict[int, type[UpstreamError]] = {
    400: errors.UpstreamRejected,
    401: errors.UpstreamAuth,
    402: errors.OutOfCredits,
    403: errors.UpstreamAuth,
    404: errors.UpstreamNotFound,
    405: errors.UpstreamNotFound,
    408: errors.UpstreamTimeout,
    410: errors.UpstreamNotFound,
    413: errors.ContextTooLong,
    422: errors.UpstreamRejected,
    429: errors.RateLimited,
    504: errors.UpstreamTimeout,
}
# The names that errors go by where they tell no status, and the status that each means: OpenAI's,
# Anthropic's, Google's and Flowith's own.
BY_NAME: dict[str, int] = {
    name: status
    for status, names in {
        400: "invalid_request_error invalid_request invalid_argument invalid_input bad_request",
        401: "invalid_api_key authentication_error unauthorized unauthenticated invalid_token"
        " token_expired jwt_expired login_expired",
        402: "insufficient_quota insufficient_credits insufficient_balance payment_required"
        " billing_error out_of_credits",
        403: "permission_error permission_denied forbidden",
        404: "model_not_found not_found not_found_error",
        413: "context_length_exceeded request_too_large",
        429: "rate_limit_exceeded rate_limit rate_limited rate_limit_error too_many_requests"
        " resource_exhausted",
        503: "overloaded overloaded_error unavailable service_unavailable",
        504: "timeout timeout_error gateway_timeout deadline_exceeded",
    }.items()
    for name in names.split()
}
POLICY = ("content_policy_violation", "content_policy", "content_filter", "moderation_blocked")
MEANING: dict[type[UpstreamError], str] = {
    errors.UpstreamRejected: "Flowith rejected the request.",
    errors.WordsRefused: "A firewall in front of Flowith refused the words of this conversation;"
    " others go through. Rephrase the messages, or leave out what looks like an attack.",
    errors.ContextTooLong: "The conversation is too long: this model's maximum context length is"
    " exceeded. Shorten the messages.",
    errors.UpstreamAuth: f"Flowith refused the proxy's token: it is wrong or has expired. {DOCTOR}",
    errors.OutOfCredits: "The proxy's Flowith account is out of credits.",
    errors.RateLimited: "Flowith's rate limit is reached; try again later.",
    errors.UpstreamNotFound: "Flowith does not know this model, or its address has moved."
    f" {DOCTOR}",
    errors.UpstreamTimeout: "Flowith took too long.",
    UpstreamError: "Flowith failed to answer.",
}
OF_THE_MESSAGES = (errors.ContextTooLong, errors.WordsRefused)
SAID = ("error", "message", "msg", "detail", "errors")  # members that hold an error's words
CALLED = ("code", "status", "statusCode", "status_code", "type", "error_type", "error")
PAGES = ("text/html", "application/xhtml")  # content types
AGAINST_POLICY = (
    "Flowith refused the words of this conversation: they are against a content policy."
)
LOGIN = re.compile(r"\b(log|sign)[-_]?in\b", re.IGNORECASE)  # in an address
CREDITS = re.compile(r"insufficient.?(credits|balance|quota)|out of credits", re.IGNORECASE)
RATE = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
CONTEXT = re.compile(r"(maximum )?context (length|window|size)|too many tokens|prompt is too long"
                     r"|context_length_exceeded", re.I)  # fmt: skip

MOST = re.compile(r"context (?:length|window|size) (?:is|of) ([\d,]{2,12})(?!\d)", re.IGNORECASE)


def to_refusal(
    status: int | None, body: Any, headers: Mapping[str, str] | None = None
) -> UpstreamError:
    """The error for an HTTP status and its body (bytes), or for an `error` member (status None)."""
    headers = headers or {}
    page = headers.get("Content-Type", "").strip().lower().startswith(PAGES)
    if isinstance(body, bytes):
        body = _from_bytes(body)
    words, names = _words(body), _names(body)
    code = _to_status(words, names) if status is None else status
    kind = BY_STATUS.get(code, UpstreamError)
    of_the_request = status is None or status in (400, 422)
    against_policy = (of_the_request or status == 403) and any(name in POLICY for name in names)
    if of_the_request and (CONTEXT.search(words) or "context_length_exceeded" in names):
        kind = errors.ContextTooLong
    elif against_policy or (status == 403 and page):
        kind = errors.WordsRefused
    elif status in (400, 403, 429) and any(BY_NAME.get(name) == 402 for name in names):
        kind = errors.OutOfCredits  # OpenAI and others have no status of its own for it
    elif 300 <= code < 400:
        to_login = LOGIN.search(headers.get("Location", ""))
        kind = errors.UpstreamAuth if to_login else errors.UpstreamNotFound
    message = AGAINST_POLICY if against_policy else MEANING[kind]
    refusal = kind(message, param="messages" if kind in OF_THE_MESSAGES else None)
    if isinstance(refusal, errors.ContextTooLong) and (named := MOST.search(words)):
        refusal.most = int(named[1].replace(",", ""))
    refusal.said = words
    refusal.upstream_status = code or None
    refusal.retry_after = _retry_after(headers.get("Retry-After", ""))
    return refusal


def quote(refusal: UpstreamError, secrets: Iterable[str], prompt: Iterable[str]) -> None:
    """Add Flowith's words to the message, unless they hold a secret, HTML or part of the prompt, or
    the prompt is too long to be sure."""
    words, refusal.said = " ".join(refusal.said.split())[:WORDS], ""
    words = "".join(c for c in words if c.isprintable())
    texts = list(prompt)
    if sum(map(len, texts)) > COMPARED:
        return
    if not words or "<" in words or any(secret and secret in words for secret in secrets):
        return
    if re.search(r"flo_\w{8}|eyJ\w{8}|sk-\w{8}|Bearer ", words):
        return
    pieces = [words[i : i + QUOTE] for i in range(max(1, len(words) - QUOTE + 1))]
    for text in texts:
        flat = " ".join(text.split())
        if any(piece in flat for piece in pieces) or (len(flat) > 3 and flat in words):
            return
    refusal.message = f"{refusal.message} Flowith said: {words}"


def _from_bytes(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        text = body[:READ].decode("utf-8", "replace")
        return "" if "<" in text else text


def _words(body: Any) -> str:
    for _ in range(LEVELS):
        if isinstance(body, str):
            return body[:READ]
        if isinstance(body, list):
            body = body[0] if body else None
        elif isinstance(body, dict):
            told = (body.get(name) for name in SAID)
            body = next((one for one in told if one and isinstance(one, str | dict | list)), None)
    return ""


def _names(body: Any) -> list[str]:
    """What an error calls itself, in numbers and words; the innermost first."""
    outer = body if isinstance(body, dict) else {}
    inner = outer.get("error")
    levels = [inner, outer] if isinstance(inner, dict) else [outer]
    told = [level.get(name) for level in levels for name in CALLED]
    whole = [str(one) for one in told if isinstance(one, str | int) and not isinstance(one, bool)]
    return [name.strip().lower().replace("-", "_").replace(" ", "_") for name in whole]


def _to_status(words: str, names: Iterable[str]) -> int:
    """The HTTP status that an error means which came without one; 0 where nothing tells."""
    found = (_number(name) or BY_NAME.get(name, 0) for name in names)
    if status := next((one for one in found if one), 0):
        return status
    if CREDITS.search(words):
        return 402
    return 429 if RATE.search(words) else 0


def status_in(said: dict[str, Any]) -> int:
    """The HTTP status that an object tells as a number; 0 where it tells none."""
    told = (said.get(name) for name in ("code", "status", "statusCode"))
    return next((int(one) for one in map(str, told) if _number(one)), 0)


def _number(name: str) -> int:
    """An HTTP status in digits; 0 for anything else."""
    return int(name) if re.fullmatch("[1-5][0-9]{2}", name, re.ASCII) else 0


def _retry_after(value: str) -> float | None:
    """Seconds, from either form that HTTP allows (RFC 9110, 10.2.3); a second at least, and
    LONGEST_WAIT at most."""
    if value.isdecimal():
        seconds = float(value[:9])  # whatever is longer is more than an hour, too
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 1.0), LONGEST_WAIT)
