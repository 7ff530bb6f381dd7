"""What every request and response has, whatever it is about: an id, and what browsers ask for.

Knows nothing of formats but the names of their headers.
"""

import os
import re
import string
from collections.abc import Iterable

from flask import Response, request
from werkzeug.datastructures import Headers

from server.keys import depends_on_page, lets_in
from server.log import Record
from settings import Settings

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
EXPOSED = (
    "x-request-id, request-id, x-ignored-params, retry-after, retry-after-ms, x-should-retry,"
    " openai-processing-ms"
)
# of any byte; that the alphabet's first letters come a tenth more often does no harm
TO_LETTERS = bytes(ord(string.ascii_lowercase[byte % 26]) for byte in range(256))
METHODS = "GET, POST, OPTIONS, HEAD, DELETE"


def to_id(headers: Headers) -> str:
    """The caller's id for its request where it is a sane one, else a new one."""
    given = headers.get("X-Request-ID", "")
    return given if SANE_ID.fullmatch(given) else new_id()


def new_id() -> str:
    """An id for a request, without digits: an error's message names it, and opencode takes a 429 or
    502 anywhere in an error for a reason to try again."""
    return "req_" + os.urandom(24).translate(TO_LETTERS).decode()


def add_headers(response: Response, record: Record, ids: Iterable[str], settings: Settings) -> None:
    """Put in the request's id under each name of `ids`, and let those web pages read the response
    that are let in."""
    headers = response.headers
    for name in ids:
        headers[name] = record.id
    if depends_on_page(settings):
        response.vary.add("Origin")
    if not lets_in(settings):
        return
    headers["Access-Control-Allow-Origin"] = "*"
    headers["Access-Control-Expose-Headers"] = EXPOSED
    if record.method == "OPTIONS":
        _allow(response)


def _allow(response: Response) -> None:
    """The answer to a browser's preflight: any header that it asks for may come."""
    headers = response.headers
    asked = request.headers.get("Access-Control-Request-Headers", "*")
    headers["Access-Control-Allow-Methods"] = METHODS
    headers["Access-Control-Allow-Headers"] = asked if asked.isprintable() else "*"
    headers["Access-Control-Max-Age"] = "86400"
    response.vary.add("Access-Control-Request-Headers")
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
