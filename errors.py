"""Everything that can go wrong, as exceptions that know their HTTP status, type and code.

Knows nothing of Flask, of requests or of Flowith's wire. Messages name the field, the model or
the setting and say what to do next; they never hold a token, a prompt or an answer.

    ProxyError                      500 server_error / internal_error
    ├── Bug                         the same, for what should not have happened
    ├── InvalidRequest              400, names the field in `param`
    │   ├── Unauthorized            401
    │   ├── Forbidden               403 origin_not_allowed, a web page that is not let in
    │   ├── ModelNotFound           404 model_not_found
    │   ├── NotStored               404 response_not_found, nothing is kept here
    │   │   └── ThreadNotStored     404 thread_not_found, nor any conversation
    │   ├── UpgradeRefused          426, the caller wants a WebSocket
    │   ├── Encoded                 415 unsupported_encoding, the body is compressed otherwise
    │   └── TooLarge                413 request_too_large
    ├── Overloaded                  503, this service has no room or is closing down
    └── UpstreamError               502 upstream_error, Flowith did not do its part
        ├── UpstreamAuth            424 upstream_auth_error, Flowith refused our token
        ├── OutOfCredits            402 insufficient_quota
        ├── RateLimited             429 rate_limit_exceeded
        ├── UpstreamNotFound        424 upstream_not_found, the model or the address is gone
        ├── UpstreamRejected        400, Flowith calls the request itself bad
        │   ├── ContextTooLong      400 context_length_exceeded
        │   └── WordsRefused        400 content_policy_violation, the words were refused
        ├── UpstreamTimeout         504 timeout
        ├── UpstreamUnreachable     502 upstream_unreachable, no connection was made
        ├── UpstreamCut             502 upstream_cut, the answer broke off
        ├── EmptyAnswer             502 empty_response
        │   └── ThoughtsOnly        the same, where the model has thought
        └── Unmet                   502 unmet_requirement, the model did not do what was demanded

The status says whether to try again: what no repeating heals is a 4xx (402 and 424 are the
operator's to mend, and clients that repeat every 5xx and 429 stop at them), what may heal is a
5xx, or 429 with Retry-After. The type follows the status: opencode 1.18 and Continue's command line
1.5 repeat whatever is called a `server_error`, for a minute and more.

CallerLeft is no error: it unwinds the work for a caller who has gone.
"""

import math
import traceback

OPERATORS = (402, 424)  # statuses of what the operator alone can mend
DOCTOR = "The operator should run `flask doctor`."  # where the account or the address is at fault
LONGEST_WAIT = 60  # seconds; for a longer Retry-After OpenAI's and Anthropic's packages do not wait


class ProxyError(Exception):
    """Base of all errors that a caller sees; a class names only what differs from its parent."""

    status = 500
    type = "server_error"
    default_code: str | None = "internal_error"

    def __init_subclass__(cls, *, status: int = 0, type: str = "", code: str | None = "") -> None:
        cls.status = status or cls.status
        cls.type = type or cls.type
        cls.default_code = cls.default_code if code == "" else code

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.headers = headers or {}

    @property
    def ending(self) -> str:
        """What the log and the metrics call it."""
        return self.code or self.type

    def reply_headers(self) -> dict[str, str]:
        """Response headers that go with the error."""
        return self.headers

    def told(self, request_id: str) -> str:
        """The message for the caller. A failure names the request, so that what a chat UI shows
        leads to the log's line."""
        named = self.status >= 500 or self.status in OPERATORS
        return f"{self.message} (request {request_id})" if named else self.message


class Bug(ProxyError):
    """What went wrong is our own doing; it has been logged."""

    def __init__(self) -> None:
        super().__init__("The proxy failed; its log says where.")


def bug_place(wrong: BaseException) -> str:
    """What may be told of a bug: its type, and where it struck. Its message may quote anything."""
    frames = traceback.extract_tb(wrong.__traceback__)[-6:]
    where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(frames))
    return f"{type(wrong).__name__} at {where}"


class InvalidRequest(ProxyError, status=400, type="invalid_request_error", code=None): ...


class Unauthorized(InvalidRequest, status=401): ...


class Forbidden(InvalidRequest, status=403): ...


class ModelNotFound(InvalidRequest, status=404, code="model_not_found"): ...


class NotStored(InvalidRequest, status=404, code="response_not_found"): ...


class ThreadNotStored(NotStored, code="thread_not_found"): ...


class UpgradeRefused(InvalidRequest, status=426, code="websocket_not_supported"): ...


class Encoded(InvalidRequest, status=415, code="unsupported_encoding"): ...


class TooLarge(InvalidRequest, status=413, code="request_too_large"): ...


class Overloaded(ProxyError, status=503, code="overloaded"):
    def reply_headers(self) -> dict[str, str]:
        """There will be room in a moment, here or at another copy, unless it is said otherwise."""
        soon = {} if "x-should-retry" in self.headers else {"Retry-After": "1"}
        return soon | self.headers


class UpstreamError(ProxyError, status=502, code="upstream_error"):
    """Flowith failed. `retryable`: the same call may well succeed a moment later or elsewhere.

    `retry_after` (seconds) and `upstream_status` are what Flowith sent; `said` is its own message,
    which may quote anything and is never logged.
    """

    retryable = True
    retry_after: float | None = None
    upstream_status: int | None = None
    said = ""

    def reply_headers(self) -> dict[str, str]:
        """Our own tries are spent: a client that repeats them would multiply them. But for a limit
        that ends soon, by Flowith's word: nothing is sent before, so whoever waits costs nothing.

        When to come back is told only where that may help: Codex waits for it, however long.
        """
        told = {"x-should-retry": "false"}
        if self.retry_after is not None and (self.status == 429 or self.status >= 500):
            told["Retry-After"] = str(math.ceil(self.retry_after))
            if self.status == 429 and self.retry_after <= LONGEST_WAIT:
                del told["x-should-retry"]
        return told | self.headers


class UpstreamAuth(
    UpstreamError, status=424, type="invalid_request_error", code="upstream_auth_error"
): ...


class OutOfCredits(
    UpstreamError, status=402, type="insufficient_quota", code="insufficient_quota"
): ...


class RateLimited(UpstreamError, status=429, type="requests", code="rate_limit_exceeded"): ...


class UpstreamNotFound(
    UpstreamError, status=424, type="invalid_request_error", code="upstream_not_found"
): ...


class UpstreamRejected(UpstreamError, status=400, type="invalid_request_error", code=None):
    retryable = False


class ContextTooLong(UpstreamRejected, code="context_length_exceeded"):
    """More than the model takes. `tokens`: the prompt's, estimated, where they are known; `most`:
    what the model takes at most."""

    tokens: int | None = None
    most: int | None = None  # told by Flowith, until `count`

    def count(self, estimate: int, limit: int | None) -> None:
        """Note how long the prompt is by an `estimate`, and the model's `limit` where Flowith named
        none. It was more than the limit, whatever was estimated or written down."""
        if self.most is None:
            self.most = min(limit or estimate, estimate - 1)
        self.tokens = max(estimate, self.most + 1)

    def told(self, request_id: str) -> str:
        """In OpenAI's words, numbers and all: upon these, agents shorten a conversation."""
        message = super().told(request_id)
        if self.tokens is None:
            return message
        return (
            f"This model's maximum context length is {self.most} tokens. However, your messages"
            f" resulted in {self.tokens} tokens. Please reduce the length of the messages:"
            f" your input exceeds the context window of this model. {message}"
        )


class WordsRefused(UpstreamRejected, code="content_policy_violation"): ...


class UpstreamTimeout(UpstreamError, status=504, code="timeout"): ...


class UpstreamUnreachable(UpstreamError, code="upstream_unreachable"): ...


class UpstreamCut(UpstreamError, code="upstream_cut"): ...


class EmptyAnswer(UpstreamError, code="empty_response"): ...


class ThoughtsOnly(EmptyAnswer):
    """The model thought, and ended its answer without a word."""

    def __init__(self) -> None:
        super().__init__("The model thought, but gave no answer.")


class Unmet(UpstreamError, code="unmet_requirement"):
    """The model's words do not meet the request; `said` is what it wrote (never logged), `form`
    what the model is told again of the form that was asked for."""

    retryable = False

    def __init__(self, message: str, *, said: str, form: str = "") -> None:
        super().__init__(message)
        self.said, self.form = said, form


class CallerLeft(Exception):
    """The caller closed the connection; nobody is left to answer."""
