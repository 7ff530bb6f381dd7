"""Who may ask: the key that a caller sends, compared with API_KEY.

Knows nothing of what is asked for.
"""

import hmac
from collections.abc import Iterator

from flask import current_app, request

from errors import Unauthorized

KEY_HEADERS = ("X-Api-Key", "Api-Key", "X-Goog-Api-Key")


def require_api_key() -> None:
    """Compare the caller's key in constant time, on bytes, before the body is read.

    Raises Unauthorized.
    """
    keys = [key.encode() for key in current_app.extensions["settings"].api_key]
    sent = False
    for text in _sent_keys():
        if given := text.strip().encode("latin-1", "replace"):
            sent = True
            if any([hmac.compare_digest(given, key) for key in keys]):
                return
    challenge = {"WWW-Authenticate": "Bearer"}
    if not sent:
        text = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
        raise Unauthorized(text, headers=challenge)
    text = "Incorrect API key provided: it is not the API_KEY of this service."
    raise Unauthorized(text, code="invalid_api_key", headers=challenge)


def _sent_keys() -> Iterator[str]:
    """OpenAI's way to send a key, then Anthropic's, Azure's and Google's."""
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield key
    for name in KEY_HEADERS:
        yield request.headers.get(name, "")
