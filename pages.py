"""What is here for people and probes, without a key: the page at `/` and the state of the service.

Knows nothing of chat completions.
"""

from typing import Any

from flask import Blueprint, Response, current_app, jsonify, render_template, request

VERSION = "1.0.0"
site = Blueprint("site", __name__)


@site.get("/")
def index() -> Response | str:
    """The page for people, a few facts for programs."""
    facts = _facts()
    if "text/html" not in request.headers.get("Accept", ""):
        return jsonify(facts)
    return render_template("index.html", facts=facts, base=_base_url())


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
        "models": len(settings.models),
        "running": flowith.running,
        "warnings": settings.warnings(),
    }


def _base_url() -> str:
    """The base URL as the visitor's browser sees it, behind proxies too."""
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme).split(",")[0].strip()
    host = request.headers.get("X-Forwarded-Host", request.host).split(",")[0].strip()
    return f"{'https' if scheme == 'https' else 'http'}://{host}/v1"
