"""Who may ask: the key that a caller sends, compared with API_KEY.

Knows nothing of what is asked for.
"""

import hmac

from flask import current_app, request

from errors import Unauthorized

KEY_HEADERS = ("X-Api-Key", "Api-Key", "X-Goog-Api-Key")


def require_api_key() -> None:
    """Compare the caller's key in constant time, on bytes, before the body is read.

    Raises Unauthorized.
    """
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    given = [key if scheme.lower() == "bearer" else ""]
    given += [request.headers.get(name, "") for name in KEY_HEADERS]
    sent = [one.strip().encode("latin-1", "replace") for one in given if one.strip()]
    challenge = {"WWW-Authenticate": "Bearer"}
    if not sent:
        text = "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'."
        raise Unauthorized(text, headers=challenge)
    keys = [key.encode() for key in current_app.extensions["settings"].api_key]
    if not any([hmac.compare_digest(one, key) for one in sent for key in keys]):
        text = "Incorrect API key provided: it is not the API_KEY of this service."
        raise Unauthorized(text, code="invalid_api_key", headers=challenge)
