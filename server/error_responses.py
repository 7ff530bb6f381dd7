"""What becomes of an error before the first byte of an answer: ours, Flask's and Werkzeug's, and
bugs.

Knows nothing of how an API puts an error; its format does.
"""

from flask import Response, g, request
from werkzeug.exceptions import HTTPException

from errors import Bug, CallerLeft, InvalidRequest, ProxyError
from formats import Format
from formats.unsupported_paths import advice
from server.log import CALLER_LEFT, Record, log_bug

LEFT = (
    "The connection was closed for sending before the answer was there, which counts as having"
    " left. Keep it open until then."
)


def render_error(wrong: Exception, format: Format) -> Response:
    """Any error as this format has it: ours, Flask's and Werkzeug's, and bugs."""
    record: Record = g.record
    if isinstance(wrong, CallerLeft):
        reply = format.error(InvalidRequest(LEFT, code="caller_left"), record.id)
        record.ending = CALLER_LEFT
        return Response(reply.body, 499, content_type="application/json")
    if isinstance(wrong, HTTPException):
        wrong = _from_http(wrong)
    elif not isinstance(wrong, ProxyError):
        log_bug(wrong, record.id)
        wrong = Bug()
    record.ending = wrong.ending
    reply = format.error(wrong, record.id)
    response = Response(reply.body, reply.status, content_type="application/json")
    response.headers.update(wrong.reply_headers())
    return response


def _from_http(wrong: HTTPException) -> ProxyError:
    status = wrong.code or 500
    text = {
        404: f"Invalid URL ({request.method} {request.path[:200]})",
        405: f"Method {request.method} is not allowed for {request.path[:200]}.",
        413: "The request is too large.",
    }.get(status, f"{wrong.name}.")
    if status == 404 and (words := advice(request.path)):
        text = f"{text}. {words}."
    code = {404: "unknown_url", 405: "method_not_supported", 413: "request_too_large"}
    error = InvalidRequest(text, code=code.get(status))
    error.status = status
    if allowed := getattr(wrong, "valid_methods", None):
        error.headers["Allow"] = ", ".join(sorted(allowed))
    return error
