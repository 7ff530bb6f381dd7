"""Everything that can go wrong, as exceptions that know their HTTP status and OpenAI error body.

Knows nothing of Flask, of requests or of Flowith's wire. Messages name the field, the model or
the setting and say what to do next; they never hold a token, a prompt or an answer.

    ProxyError                      500 server_error / internal_error
    ├── InvalidRequest              400, names the field in `param`
    ├── Unauthorized                401
    ├── ModelNotFound               404 model_not_found
    ├── TooLarge                    413
    ├── Overloaded                  503, this service has no room or is closing down
    └── UpstreamError               502 upstream_error, Flowith did not do its part
        ├── UpstreamAuth            503 upstream_auth_error, Flowith refused our token
        ├── OutOfCredits            429 insufficient_quota
        ├── RateLimited             429 rate_limit_exceeded
        ├── UpstreamNotFound        502 upstream_not_found, the model or the address is gone
        ├── UpstreamRejected        400, Flowith calls the request itself bad
        │   └── ContextTooLong      400 context_length_exceeded
        ├── UpstreamTimeout         504 timeout
        ├── UpstreamUnreachable     502 upstream_unreachable, no connection was made
        ├── UpstreamCut             502 upstream_cut, the answer broke off
        ├── EmptyAnswer             502 empty_response
        └── Unmet                   502, the model did not do what the request demands of it

CallerLeft is no error: it unwinds the work for a caller who has gone.
"""

import math
from typing import Any, ClassVar

DOCTOR = "The operator should run `flask doctor`."  # where the account or the address is at fault


class ProxyError(Exception):
    """Base of all errors that a caller sees."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = "internal_error"

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

    def reply_headers(self) -> dict[str, str]:
        """Response headers that go with the error."""
        return self.headers

    def body(self) -> dict[str, Any]:
        """OpenAI's error object with all four keys, as its OpenAPI document requires."""
        detail = {"message": self.message, "type": self.type, "param": self.param}
        return {"error": {**detail, "code": self.code}}


class InvalidRequest(ProxyError):
    status = 400
    type = "invalid_request_error"
    default_code = None


class Unauthorized(ProxyError):
    status = 401
    type = "invalid_request_error"
    default_code = None


class ModelNotFound(ProxyError):
    status = 404
    type = "invalid_request_error"
    default_code = "model_not_found"


class TooLarge(ProxyError):
    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class Overloaded(ProxyError):
    status = 503
    default_code = "overloaded"


class UpstreamError(ProxyError):
    """Flowith failed. `retryable`: the same call may well succeed a moment later or elsewhere.

    `retry_after` (seconds) and `upstream_status` are what Flowith sent; `said` is its own message,
    which may quote anything and is never logged.
    """

    status = 502
    default_code: ClassVar[str | None] = "upstream_error"
    retryable: ClassVar[bool] = True
    retry_after: float | None = None
    upstream_status: int | None = None
    said: str = ""

    def reply_headers(self) -> dict[str, str]:
        """Our own tries are spent: a client that repeats them would multiply them."""
        known = {"x-should-retry": "false"}
        if self.retry_after is not None:
            known["Retry-After"] = str(math.ceil(self.retry_after))
        return known | self.headers


class UpstreamAuth(UpstreamError):
    status = 503
    default_code = "upstream_auth_error"


class OutOfCredits(UpstreamError):
    status = 429
    type = "insufficient_quota"
    default_code = "insufficient_quota"


class RateLimited(UpstreamError):
    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"


class UpstreamNotFound(UpstreamError):
    default_code = "upstream_not_found"


class UpstreamRejected(UpstreamError):
    status = 400
    type = "invalid_request_error"
    default_code: ClassVar[str | None] = None
    retryable = False


class ContextTooLong(UpstreamRejected):
    default_code = "context_length_exceeded"


class UpstreamTimeout(UpstreamError):
    status = 504
    default_code = "timeout"


class UpstreamUnreachable(UpstreamError):
    default_code = "upstream_unreachable"


class UpstreamCut(UpstreamError):
    default_code = "upstream_cut"


class EmptyAnswer(UpstreamError):
    default_code = "empty_response"


class Unmet(UpstreamError):
    """The model's words do not meet the request; `said` is what it wrote (never logged)."""

    default_code = "unmet_requirement"
    retryable = False

    def __init__(self, message: str, *, said: str, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.said = said


class CallerLeft(Exception):
    """The caller closed the connection; nobody is left to answer."""


JSON_TYPES = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
JSON_TYPES |= {list: "an array", dict: "an object", type(None): "null"}


def wrong_type(param: str, wanted: str, value: object) -> InvalidRequest:
    """The error for a value of the wrong JSON type."""
    got = JSON_TYPES.get(type(value), "something else")
    message = f"Invalid type for '{param}': expected {wanted}, but got {got} instead."
    return InvalidRequest(message, param=param, code="invalid_type")


def missing(param: str) -> InvalidRequest:
    """The error for a required parameter that is not there."""
    message = f"Missing required parameter: '{param}'."
    return InvalidRequest(message, param=param, code="missing_required_parameter")


def bad_value(param: str, wanted: str, code: str = "invalid_value") -> InvalidRequest:
    """The error for a value that is none of those allowed."""
    return InvalidRequest(f"Invalid value for '{param}': {wanted}.", param=param, code=code)
