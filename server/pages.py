"""What is here for people and probes, without a key: the page at `/` and the state of the service.

Knows nothing of chat completions: the page's playground is a caller like any other.
"""

import re
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request

from settings import DEFAULT_KEY, Settings

VERSION = "1.0.0"
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+){1,8}")
SECURITY = {
    # frame-ancestors: a Space's page shows `/` in a frame. form-action: without its script the
    # playground's form must not put a key into an address.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
site = Blueprint(
    "site", __name__, static_folder="static", static_url_path="/static", template_folder="templates"
)


@site.after_request
def secure(response: Response) -> Response:
    """Headers for what browsers show."""
    response.headers.update(SECURITY)
    return response


@site.get("/")
def index() -> Response:
    """The page for people, a few facts for programs."""
    if "text/html" in request.headers.get("Accept", ""):
        response = make_response(render_template("index.html", facts=_facts(), **_connection()))
    else:
        response = jsonify(_facts())
    response.vary.add("Accept")
    response.headers["Cache-Control"] = "no-store"  # it holds the state, and what the visitor sent
    return response


@site.get("/v1")
@site.get("/health")
@site.get("/healthz")
@site.get("/health/live")
def health() -> Response:
    """Alive, which is all that a restart could mend; the state stands in the body."""
    return jsonify(_facts())


@site.get("/health/ready")
def ready() -> tuple[Response, int]:
    """200 while calls are welcome and have an account to go to, else 503."""
    facts = _facts()
    return jsonify(facts), 200 if facts["status"] == "ready" else 503


def _facts() -> dict[str, Any]:
    extensions = current_app.extensions
    flowith, settings = extensions["flowith"], extensions["settings"]
    accounts = {"healthy": flowith.accounts.healthy(), "total": len(flowith.accounts.all)}
    status = "ready" if accounts["healthy"] else "degraded"
    if extensions["drain"].closing():
        status = "draining"
    return {
        "status": status,
        "service": "OpenAI to Flowith Converter",
        "version": VERSION,
        "demo": settings.demo,
        "accounts": accounts,
        "models": len(settings.listed),
        "running": flowith.running,
        "warnings": settings.warnings(),
    }


def _connection() -> dict[str, Any]:
    """What a visitor needs to connect. `key` is told only where it is the one everybody knows."""
    settings: Settings = current_app.extensions["settings"]
    names = [model.id for model in settings.listed]
    origin, prefix = _seen_from_outside()
    return {
        "base": f"{origin}{prefix}/v1",
        "bare": f"{origin}{prefix}",  # for clients that add /v1 themselves
        "root": f"{prefix}/" if prefix else "",  # else relative: a proxy may hide its prefix
        "key": DEFAULT_KEY if DEFAULT_KEY in settings.api_key else "YOUR_KEY",
        "models": settings.listed,
        "example": "gpt-4.1" if "gpt-4.1" in names or not names else names[0],
        "any_model": "*" in settings.models,
    }


def _seen_from_outside() -> tuple[str, str]:
    """Origin and path prefix as the visitor's browser sees them, behind proxies too.

    Anybody can send these headers, but only to themselves: the page is never stored. What does not
    look like a host or a path is not shown.
    """

    def forwarded(name: str) -> str:
        return request.headers.get(f"X-Forwarded-{name}", "").split(",")[0].strip()

    scheme = "https" if (forwarded("Proto") or request.scheme) == "https" else "http"
    hosts = (forwarded("Host"), request.host)
    host = next((host for host in hosts if HOST.fullmatch(host)), "localhost")
    prefix = forwarded("Prefix").rstrip("/")
    return f"{scheme}://{host}", prefix if PREFIX.fullmatch(prefix) else ""
