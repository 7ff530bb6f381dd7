"""The HTTP face: app factory, one blueprint behind one auth hook, the routes, the error handler.

Knows nothing of Flowith's wire; each request is one walk from a format's `parse` to a `Response`.
"""

import json
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Blueprint, Flask, Request, Response, g, request

from errors import NotStored, UpgradeRefused
from flowith.client import Flowith
from formats import (
    Format,
    anthropic,
    chat,
    images,
    legacy_completions,
    responses,
    responses_compaction,
)
from formats.model_list import to_anthropic_list, to_anthropic_listing, to_listing
from server.error_responses import render_error
from server.headers import add_headers, to_id
from server.keys import require_api_key, require_known_origin
from server.log import Record, set_up_logging
from server.metrics import attach, monitoring
from server.mistyped_paths import mending_paths
from server.pages import VERSION, site
from server.shutdown import Drain
from server.status_then_body import count, deliver, find_model, flowith
from settings import Settings

FORMATS: dict[str, Format] = {  # what is spoken at a path, in refusals too
    "/v1/chat/completions": chat,
    "/v1/completions": legacy_completions,
    "/v1/images/edits": images.EDITS,
    "/v1/images/generations": images.GENERATIONS,
    "/v1/messages": anthropic,
    "/v1/responses": responses,
    "/v1/responses/compact": responses_compaction,
}

api = Blueprint("api", __name__, url_prefix="/v1")
api.before_request(require_api_key)


class Service(Flask):
    """Flask without its look at each of four functions per request, which takes six more."""

    def ensure_sync(self, func: Any) -> Any:
        """The function itself: none here is asynchronous."""
        return func


def create_app(settings: Settings) -> Flask:
    """The WSGI application; its settings have been read and checked."""
    set_up_logging(settings)
    app = Service(__name__, static_folder=None)  # the site has its own
    app.extensions["settings"] = settings
    app.extensions["flowith"] = upstream = Flowith(settings, f"flowith-openai-proxy/{VERSION}")
    app.extensions["drain"] = drain = Drain()
    upstream.drains = drain.is_due
    attach(app)
    app.before_request(begin)
    app.after_request(partial(finish, app))
    app.register_error_handler(Exception, lambda wrong: render_error(wrong, format_of(g.record)))
    app.register_blueprint(api)
    app.register_blueprint(site)
    app.register_blueprint(monitoring)
    app.wsgi_app = mending_paths(app.wsgi_app)  # type: ignore[assignment,method-assign]
    return app


def format_of(record: Record) -> Format:
    """The format that a request is answered in, errors before routing included.

    Both sides have lists of models, which only a header tells apart.
    """
    path = record.path
    if path in FORMATS:
        return FORMATS[path]
    lists_models = path.startswith("/v1/models") and "anthropic-version" in request.headers
    return anthropic if lists_models or path.startswith("/v1/messages/") else chat


def begin() -> Response | None:
    """Give the request an id; answer preflights, which come without a key, on any path."""
    # itself, once: each look at an attribute of what Flask has in its place takes three functions
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]
    g.record = record = Record(to_id(asked.headers), asked.method, asked.path)
    if record.method == "POST" and record.path in FORMATS:
        record.format = FORMATS[record.path].NAME
    if record.method != "OPTIONS":
        return None
    require_known_origin()
    return Response(status=204)


def finish(app: Flask, response: Response) -> Response:
    """Headers that every response carries, and its access-log line."""
    record: Record = g.record
    add_headers(response, record, format_of(record).ID_HEADERS, app.extensions["settings"])
    record.status = response.status_code
    response.call_on_close(partial(app.extensions["metrics"].count, record))
    response.call_on_close(record.write)
    return response


def to_json(body: object) -> Response:
    """A response that holds one JSON value."""
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return Response(text, content_type="application/json")


# At addresses with /deployments, which clients of Azure use, the address names the model.
@api.post("/chat/completions")
@api.post("/deployments/<model>/chat/completions")
def chat_completions(model: str = "") -> Response:
    """OpenAI's chat completions, streamed or not."""
    return deliver(chat, default_model=model)


@api.post("/completions")
@api.post("/deployments/<model>/completions")
def completions(model: str = "") -> Response:
    """OpenAI's legacy completions."""
    return deliver(legacy_completions, default_model=model)


@api.post("/images/generations")
@api.post("/deployments/<model>/images/generations")
def image_generations(model: str = "") -> Response:
    """OpenAI's images, made from words."""
    return deliver(images.GENERATIONS, default_model=model)


@api.post("/images/edits")
@api.post("/deployments/<model>/images/edits")
def image_edits(model: str = "") -> Response:
    """OpenAI's images, made from words and other images."""
    return deliver(images.EDITS, default_model=model)


@api.post("/messages")
def messages() -> Response:
    """Anthropic's Messages, streamed or not."""
    return deliver(anthropic)


@api.post("/messages/count_tokens")
def count_tokens() -> Response:
    """How many tokens a request to Anthropic's Messages would take in."""
    return to_json({"input_tokens": count(anthropic)})


@api.post("/responses")
def create_response() -> Response:
    """OpenAI's Responses, streamed or not."""
    return deliver(responses)


@api.post("/responses/compact")
def compact_response() -> Response:
    """A conversation made short, to go on with."""
    return deliver(responses_compaction)


@api.post("/responses/input_tokens")
def count_input_tokens() -> Response:
    """About how many tokens a request for a response would send."""
    tokens = count(responses)
    return to_json({"object": "response.input_tokens", "input_tokens": tokens})


@api.get("/responses", websocket=True)
def refuse_socket() -> Response:
    """Codex asks for a WebSocket first, and goes on over HTTP at once where it hears 426."""
    raise UpgradeRefused("WebSockets are not spoken here: POST /v1/responses over HTTP.")


@api.route("/responses/<path:name>", methods=["GET", "DELETE", "POST"])
def find_response(name: str) -> Response:
    """Look a response up, delete or cancel it, list its input: for all of it there is no store."""
    text = "No response is kept here: send the whole conversation as 'input' each time."
    raise NotStored(text)


@api.get("/models")
def list_models() -> Response:
    """The models of models.json, in its order."""
    upstream = flowith()
    models = upstream.settings.listed
    if format_of(g.record) is anthropic:
        return to_json(to_anthropic_list(models))
    data = [to_listing(model, upstream.apis_for(model)) for model in models]
    return to_json({"object": "list", "data": data})


@api.get("/models/<path:name>")
def show_model(name: str) -> Response:
    """One model; ids may hold slashes."""
    upstream = flowith()
    model = replace(find_model(upstream.settings, name), id=name)
    if format_of(g.record) is anthropic:
        return to_json(to_anthropic_listing(model))
    return to_json(to_listing(model, upstream.apis_for(model)))
