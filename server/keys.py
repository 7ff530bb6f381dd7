"""Who may ask: the key that a caller sends, and the web page that a browser sends it for.

Knows nothing of what is asked for.
"""

import hmac
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import current_app, request

from errors import Forbidden, Unauthorized
from settings import DEFAULT_KEY, Settings

KEY_HEADERS = ("X-Api-Key", "Api-Key", "X-Goog-Api-Key")


def require_api_key() -> None:
    """Compare the caller's key in constant time, on bytes, before the body is read.

    Raises Unauthorized, or Forbidden for a web page that is not welcome.
    """
    settings = require_known_origin()
    keys = [key.encode() for key in settings.api_key]
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
    headers = request.headers
    scheme, _, key = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield key
    for name in KEY_HEADERS:
        yield headers.get(name, "")


def require_known_origin() -> Settings:
    """The app's settings. Raises Forbidden where a web page asks that may know the key but not be
    let in."""
    settings: Settings = current_app.extensions["settings"]
    if not lets_in(settings):
        raise Forbidden(
            f"Web pages of other hosts are not let in while the default key {DEFAULT_KEY} is in"
            " use, because any page in your browser knows it. Set API_KEY to your own and restart,"
            " or open the page from localhost.",
            code="origin_not_allowed",
        )
    return settings


def depends_on_page(settings: Settings) -> bool:
    """Whether it depends on the web page that asks if it is let in.

    A key of the operator's own says enough; the default one is known to every page on the web. On
    a Hugging Face Space whoever finds it can use the default key anyhow.
    """
    return DEFAULT_KEY in settings.api_key and not settings.on_space


def lets_in(settings: Settings) -> bool:
    """Whether a browser may send the request in hand, and read the answer, for the page that it
    says is asking.

    With the default key only those may that no stranger can be behind: programs (no Origin),
    extensions and desktop apps (their own schemes), and pages from this machine.
    """
    if not depends_on_page(settings):
        return True
    origin = request.headers.get("Origin")
    return origin is None or _is_near(origin, request.host)


def _is_near(origin: str, host: str) -> bool:
    """Whether a page of this origin is no stranger's.

    A name proves nothing but `localhost`: its owner can point it to this machine at any moment
    (DNS rebinding), even after the page was loaded. `null` is what a sandboxed frame sends, and a
    page can make one.
    """
    try:
        parts = urlsplit(origin.strip().lower())
        name, own = parts.hostname or "", urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return "://" in origin
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or name == own
