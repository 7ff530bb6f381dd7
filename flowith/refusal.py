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

WORDS = 300  # characters of Flowith's own message that a caller gets to see
QUOTE = 16  # characters in a row that count as a quotation of the prompt
COMPARED = 200_000  # characters of a prompt that are looked through for one; a fraction of a second
BY_STATUS: dict[int, type[UpstreamError]] = {
    400: errors.UpstreamRejected,
    401: errors.UpstreamAuth,
    402: errors.OutOfCredits,
    403: errors.UpstreamAuth,
    404: errors.UpstreamNotFound,
    408: errors.UpstreamTimeout,
    413: errors.ContextTooLong,
    422: errors.UpstreamRejected,
    429: errors.RateLimited,
    504: errors.UpstreamTimeout,
}
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
PAGES = ("text/html", "application/xhtml")  # content types
CONTEXT = re.compile(r"(maximum )?context (length|window|size)|too many tokens|prompt is too long"
                     r"|context_length_exceeded", re.I)  # fmt: skip


def to_refusal(
    status: int | None, body: Any, headers: Mapping[str, str] | None = None
) -> UpstreamError:
    """The error for an HTTP status and its body (bytes), or for an `error` member (status None)."""
    headers = headers or {}
    page = headers.get("Content-Type", "").strip().lower().startswith(PAGES)
    if isinstance(body, bytes):
        body = _from_bytes(body)
    words = _words(body)
    if status is None and isinstance(body, dict):
        code = _number(body.get("code")) or _number(body.get("status"))
    else:
        code = status or 0
    kind = BY_STATUS.get(code, UpstreamError)
    if CONTEXT.search(words) and (status is None or status in (400, 413, 422)):
        kind = errors.ContextTooLong
    elif status == 403 and page:
        kind = errors.WordsRefused
    elif 300 <= code < 400:
        kind = errors.UpstreamNotFound
    refusal = kind(MEANING[kind], param="messages" if kind in OF_THE_MESSAGES else None)
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
        text = body[:4096].decode("utf-8", "replace")
        return "" if "<" in text else text


def _words(body: Any) -> str:
    for _ in range(4):
        if isinstance(body, str):
            return body[:4096]
        if not isinstance(body, dict):
            return ""
        body = next((body[k] for k in ("error", "message", "detail") if body.get(k)), None)
    return ""


def _number(value: Any) -> int:
    """An HTTP status, as a number or in digits; 0 for anything else."""
    if isinstance(value, int):
        return value if 100 <= value < 600 else 0
    text = value if isinstance(value, str) else ""
    return int(text) if re.fullmatch("[1-5][0-9]{2}", text, re.ASCII) else 0


def _retry_after(value: str) -> float | None:
    """Seconds, from either form that HTTP allows (RFC 9110, 10.2.3); at most an hour."""
    try:
        seconds = (
            float(value[:9])
            if value.isdecimal()
            else parsedate_to_datetime(value).timestamp() - time()
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 1.0), 3600.0)
