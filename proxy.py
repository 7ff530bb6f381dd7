"""The HTTP face: app factory, one blueprint behind one auth hook, the routes, the error handler.

Knows nothing of Flowith's wire; each request is one walk from a format's `parse` to a `Response`.
"""

import json
import re
from functools import partial
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, request

from flowith.client import Flowith
from formats import Format, chat, images, legacy_completions
from formats.model_list import to_listing
from server.delivery import deliver, find_model, flowith, render_error, settings
from server.headers import add_headers, to_id
from server.keys import require_api_key
from server.log import Record, set_up_logging
from server.metrics import Metrics, attach, monitoring
from server.pages import VERSION, site
from server.shutdown import Drain
from settings import Settings

API_PATHS = "chat/completions|completions|models|images/generations|images/edits"
MISPLACED = re.compile(rf"(?:/(?:v1|api|openai))*/((?:{API_PATHS})(?:/.*)?)$")

api = Blueprint("api", __name__, url_prefix="/v1")
api.before_request(require_api_key)


def create_app(settings: Settings) -> Flask:
    """The WSGI application; its settings have been read and checked."""
    set_up_logging(settings)
    app = Flask(__name__, static_folder=None)  # the site has its own
    app.extensions["settings"] = settings
    app.extensions["flowith"] = upstream = Flowith(settings, f"flowith-openai-proxy/{VERSION}")
    app.extensions["drain"] = drain = Drain()
    upstream.drains = drain.is_due
    attach(app)
    app.before_request(begin)
    app.after_request(finish)
    app.register_error_handler(Exception, lambda wrong: render_error(wrong, format_of()))
    app.register_blueprint(api)
    app.register_blueprint(site)
    app.register_blueprint(monitoring)
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start_response: inner(  # type: ignore[method-assign]
        normalised(environ), start_response
    )
    return app


def normalised(environ: dict[str, Any]) -> dict[str, Any]:
    """Forgive base URLs with or without /v1, doubled and trailing slashes, /api and /openai.

    Done before routing, because a redirect breaks browsers' preflights and a curl that POSTs.
    """
    path = environ.get("PATH_INFO") or "/"
    if path != "/v1/chat/completions":
        path = re.sub("/+", "/", path).rstrip("/") or "/"
        found = MISPLACED.fullmatch(path)
        environ["PATH_INFO"] = f"/v1/{found[1]}" if found else path
    return environ


def format_of() -> Format:
    """The format that the request in hand is answered in, errors before routing included."""
    return chat


def begin() -> Response | None:
    """Give the request an id; answer preflights, which come without a key, on any path."""
    g.record = Record(to_id(request), request.method, request.path)
    return Response(status=204) if request.method == "OPTIONS" else None


def finish(response: Response) -> Response:
    """Headers that every response carries, and its access-log line."""
    record: Record = g.record
    add_headers(response, request, record.id, format_of().ID_HEADERS)
    record.status = response.status_code
    response.call_on_close(partial(end, record, current_app.extensions["metrics"]))
    return response


def end(record: Record, metrics: Metrics) -> None:
    """Count and log a request that is over."""
    metrics.count(record)
    record.write()


@api.post("/chat/completions")
def chat_completions() -> Response:
    """OpenAI's chat completions, streamed or not."""
    return deliver(chat)


@api.post("/completions")
def completions() -> Response:
    """OpenAI's legacy completions."""
    return deliver(legacy_completions)


@api.post("/images/generations")
def image_generations() -> Response:
    """OpenAI's images, made from words."""
    return deliver(images.GENERATIONS)


@api.post("/images/edits")
def image_edits() -> Response:
    """OpenAI's images, made from words and other images."""
    return deliver(images.EDITS)


@api.get("/models")
def list_models() -> Response:
    """The models of models.json, in its order."""
    apis = flowith().apis_for
    rows = [to_listing(m, apis(m)) for name, m in settings().models.items() if name != "*"]
    return _json({"object": "list", "data": rows})


@api.get("/models/<path:name>")
def show_model(name: str) -> Response:
    """One model; ids may hold slashes."""
    model = find_model(name)
    return _json(to_listing(model, flowith().apis_for(model)))


def _json(body: Any) -> Response:
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return Response(text, content_type="application/json")
