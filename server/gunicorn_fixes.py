"""What gunicorn does otherwise than this service needs, and has no setting for.

All of it is put in at one place, `fix_gunicorn`, when a worker has loaded the service. Knows
nothing of formats: gunicorn's own errors come before anybody knows which API is spoken.
"""

import json
import logging
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn import util  # type: ignore[import-untyped]

from server.headers import new_id

# gunicorn's words quote the request, and a key may be in it
MEANINGS = {
    400: "This is not a request in HTTP/1.1 as it has to be.",
    403: "This connection is not let in.",
    414: "The address (path and query) is too long.",
    417: "The header 'Expect' asks for what this service does not do.",
    431: "The request's headers are too many or too long.",
    501: "This Transfer-Encoding is not supported: send 'chunked', or a Content-Length.",
}
LINGER = 1.0  # seconds
log = logging.getLogger("proxy")


def fix_gunicorn(worker: Any) -> None:
    """Put all of it in. Else gunicorn computes settings 36 times per request, and its errors are
    web pages where callers read JSON."""
    for name, setting in worker.cfg.settings.items():
        vars(worker.cfg).setdefault(name, setting.get())
    util.write_error = write_error


def write_error(client: Any, status: int, reason: str, _quotes_the_request: str) -> None:
    """What gunicorn refuses or fails at by itself, as an error of OpenAI's and Anthropic's shape at
    the same time, with an id that the log tells too."""
    request_id = new_id()
    log.warning("%s refused before it was read: status %d", request_id, status)
    kind = "invalid_request_error" if status in MEANINGS else "api_error"
    text = MEANINGS.get(status, "The proxy failed; its log says where.")
    error = {"message": text, "type": kind, "param": None, "code": None}
    body = json.dumps({"type": "error", "error": error, "request_id": request_id}).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
        f"X-Request-ID: {request_id}\r\nRequest-ID: {request_id}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(client, head.encode("latin-1") + body)
    _let_it_be_read(client)


def _let_it_be_read(client: Any) -> None:
    """gunicorn closes now; with bytes unread the kernel would reset the connection, and an answer
    that is on its way would be lost."""
    until = time.monotonic() + LINGER
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        client.settimeout(LINGER)
        while client.recv(65_536) and time.monotonic() < until:
            pass
