"""Paths as users mistype them in base URLs, mended before routing.

Knows nothing of what lives at a path.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]

API_PATHS = "chat/completions|completions|deployments|images|messages|models|responses"
# What may stand before a path by mistake: a part of the base URL twice, or a whole endpoint.
BEFORE = "v1|api|openai|anthropic|chat/completions|completions|messages|responses"
SLASHES = re.compile("/+")
MISPLACED = re.compile(rf"(?:/(?:{BEFORE}))*/((?:{API_PATHS})(?:/.*)?)$")


def mending_paths(app: WsgiApp) -> WsgiApp:
    """The app, for which base URLs with or without /v1, doubled and trailing slashes, with an API's
    name or with the whole endpoint in them are all the same.

    Done before routing, because a redirect breaks browsers' preflights and a curl that POSTs.
    """

    def mended(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = SLASHES.sub("/", environ.get("PATH_INFO", "")).rstrip("/") or "/"
        found = MISPLACED.fullmatch(path)
        environ["PATH_INFO"] = f"/v1/{found[1]}" if found else path
        return app(environ, start_response)

    return mended
