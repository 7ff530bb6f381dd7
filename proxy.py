"""The HTTP face: app factory, one blueprint behind one auth hook, the routes, the error handler.

Knows nothing of Flowith's wire; each request is one walk from `parse_request` to a `Response`.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from call import Call, merged
from caller import Caller
from catalogue import PASSED_ON, to_listing
from chat import ChatRequest, parse_completion, parse_request
from completion import (
    Envelope,
    Shape,
    to_choice,
    to_chunks,
    to_completion,
    to_error,
    to_role,
    to_tail,
)
from errors import CallerLeft, InvalidRequest, ModelNotFound, ProxyError
from flowith.client import Flowith
from keys import require_api_key
from messages import Message
from metrics import Metrics, attach, monitoring
from neighbours import advice
from pages import VERSION, site
from record import Record, log_bug, set_up_logging
from settings import Settings

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
EXPOSED = (
    "x-request-id, x-ignored-params, retry-after, retry-after-ms, x-should-retry,"
    " openai-processing-ms"
)
BUG = "The proxy failed; its log says where."
METHODS = "GET, POST, OPTIONS, HEAD, DELETE"
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx and its kin hold a stream back without it
}
API_PATHS = "chat/completions|completions|models"
MISPLACED = re.compile(rf"(?:/(?:v1|api|openai))*/((?:{API_PATHS})(?:/.*)?)$")

api = Blueprint("api", __name__, url_prefix="/v1")
api.before_request(require_api_key)


class Drain:
    """Whether this worker has been told to stop, and when its streams have to end.

    gunicorn kills a worker after `graceful_timeout` without a word to anybody (measured), so the
    streams end themselves a little earlier. `worker` is set by gunicorn.conf.py.
    """

    MARGIN = 2.5  # seconds

    def __init__(self) -> None:
        self.worker: Any = None
        self._due: float | None = None

    def closing(self) -> bool:
        return self.worker is not None and not self.worker.alive

    def is_due(self, now: float) -> bool:
        if self.worker is None or self.worker.alive:
            return False
        if self._due is None:
            self._due = now + self.worker.cfg.graceful_timeout - self.MARGIN
        return now >= self._due


def create_app(settings: Settings) -> Flask:
    """The WSGI application; its settings have been read and checked."""
    set_up_logging(settings)
    app = Flask(__name__, static_folder=None)  # the site has its own
    app.extensions["settings"] = settings
    app.extensions["flowith"] = flowith = Flowith(settings, f"flowith-openai-proxy/{VERSION}")
    app.extensions["drain"] = drain = Drain()
    flowith.drains = drain.is_due
    attach(app)
    app.before_request(begin)
    app.after_request(finish)
    app.register_error_handler(Exception, render_error)
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


def _settings() -> Settings:
    return current_app.extensions["settings"]  # type: ignore[no-any-return]


def _flowith() -> Flowith:
    return current_app.extensions["flowith"]  # type: ignore[no-any-return]


def begin() -> Response | None:
    """Give the request an id; answer preflights, which come without a key, on any path."""
    given = request.headers.get("X-Request-ID", "")
    request_id = given if SANE_ID.fullmatch(given) else f"req_{random.getrandbits(96):024x}"
    g.record = Record(request_id, request.method, request.path)
    return Response(status=204) if request.method == "OPTIONS" else None


def finish(response: Response) -> Response:
    """Headers that every response carries, and its access-log line."""
    record: Record = g.record
    headers = response.headers
    headers["X-Request-ID"] = record.id
    headers["Access-Control-Allow-Origin"] = "*"
    headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS":
        asked = request.headers.get("Access-Control-Request-Headers", "*")
        headers["Access-Control-Allow-Methods"] = METHODS
        headers["Access-Control-Allow-Headers"] = asked if asked.isprintable() else "*"
        headers["Access-Control-Max-Age"] = "86400"
        headers["Vary"] = "Origin, Access-Control-Request-Headers"
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            headers["Access-Control-Allow-Private-Network"] = "true"
    record.status = response.status_code
    response.call_on_close(partial(end, record, current_app.extensions["metrics"]))
    return response


def end(record: Record, metrics: Metrics) -> None:
    """Count and log a request that is over."""
    metrics.count(record)
    record.write()


def render_error(wrong: Exception) -> Response:
    """Any error as OpenAI's error object: ours, Flask's and Werkzeug's, and bugs."""
    if isinstance(wrong, HTTPException):
        wrong = _from_http(wrong)
    elif isinstance(wrong, CallerLeft):
        g.record.ending = "caller left"
        return Response(status=499)
    elif not isinstance(wrong, ProxyError):
        log_bug(wrong, g.record.id)
        wrong = ProxyError(BUG)
    g.record.ending = g.record.ending or wrong.code or wrong.type
    response = _json(wrong.body(g.record.id), wrong.status)
    response.headers.update(wrong.reply_headers())
    return response


def _from_http(wrong: HTTPException) -> ProxyError:
    status = wrong.code or 500
    text = {
        404: f"Invalid URL ({request.method} {request.path[:200]})",
        405: f"Method {request.method} is not allowed for {request.path[:200]}.",
        413: "The request is too large.",
    }.get(status, f"{wrong.name}.")
    if status == 404 and (words := advice(request.path)):
        text = f"{text}. {words}."
    code = {404: "unknown_url", 405: "method_not_supported", 413: "request_too_large"}
    error = InvalidRequest(text, code=code.get(status))
    error.status = status
    if allowed := getattr(wrong, "valid_methods", None):
        error.headers["Allow"] = ", ".join(allowed)
    return error


def _json(body: Any, status: int = 200) -> Response:
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return Response(text, status, content_type="application/json")


@api.post("/chat/completions")
def chat_completions() -> Response:
    """OpenAI's chat completions, streamed or not."""
    caller = Caller(request.environ)
    chat = parse_request(_body(caller), _settings().max_choices)
    return _answer(chat, [chat.messages] * chat.n, "chat", caller)


@api.post("/completions")
def completions() -> Response:
    """OpenAI's legacy completions: each prompt becomes a conversation of its own."""
    caller = Caller(request.environ)
    chat, prompts = parse_completion(_body(caller), _settings().max_choices)
    return _answer(chat, [one for one in prompts for _ in range(chat.n)], "text", caller)


def _body(caller: Caller) -> bytes:
    settings = _settings()
    limit = int(settings.max_body_mb * 1_048_576)
    return caller.read_body(request, limit, settings.body_timeout, _flowith().clock)


def _answer(
    chat: ChatRequest, conversations: list[list[Message]], shape: Shape, caller: Caller
) -> Response:
    """Ask Flowith for each conversation; the status waits for its first word or its refusal."""
    settings, record = _settings(), g.record
    record.model = chat.model
    model = settings.find_model(chat.model)
    if model is None:
        raise ModelNotFound(
            f"The model '{chat.model[:100]}' does not exist here. GET /v1/models lists those that"
            " do; models.json maps them to Flowith's.",
            param="model",
        )
    call = Call(_flowith(), record, caller)
    envelope = Envelope.new(chat, settings.reasoning_format, shape)
    alone = len(conversations) == 1
    render = partial(to_chunks, alone=alone) if chat.stream else to_choice
    sources = [
        render(call.converse(chat, one, model), envelope.at(i), call.tally)
        for i, one in enumerate(conversations)
    ]
    items: Iterator[Any] = merged(sources)
    try:
        if chat.stream:
            tail = None if alone else partial(to_tail, envelope, call.tally)
            ours = () if alone else range(len(conversations))
            roles = b"".join(to_role(envelope.at(i)) for i in ours)
            body = _stream(roles + next(items), items, call, tail)
            response = Response(body, headers=STREAM_HEADERS)
        else:
            response = _whole(items, call, envelope)
    except BaseException:
        call.close()
        raise
    response.call_on_close(call.close)
    record.dialect = call.dialect()
    wanted = (*chat.options, *(("web_search_options",) if chat.online else ()))
    unused = [name for name in wanted if record.dialect not in PASSED_ON[name]]
    if ignored := [name for name in (*chat.ignored, *unused) if PARAMETER.fullmatch(name)]:
        response.headers["X-Ignored-Params"] = ", ".join(ignored[:32])
    return response


def _stream(
    first: bytes, items: Iterator[bytes], call: Call, tail: Callable[[], bytes] | None
) -> Iterator[bytes]:
    """The body of a stream. From here on an error can only be told inside it."""
    record = call.record
    record.ending = "caller left"  # unless we get to the end
    try:
        yield first
        yield from items
        if tail:
            yield tail()
        record.ending = "done"
    except ProxyError as wrong:
        record.ending = wrong.code or wrong.type
        yield to_error(wrong, record.id)
    except CallerLeft:
        return
    except Exception as wrong:  # noqa: BLE001 - the status is out: this is the last resort
        log_bug(wrong, record.id)
        record.ending = "internal_error"
        yield to_error(ProxyError(BUG), record.id)


def _whole(items: Iterator[dict[str, Any]], call: Call, envelope: Envelope) -> Response:
    """An answer in one piece; one that takes very long is kept alive with leading white space."""
    after = _settings().keep_alive_after
    late_at = call.record.started + after if after else float("inf")
    choices: list[dict[str, Any]] = []
    for item in items:
        if item:
            choices.append(item)
        elif time.monotonic() >= late_at:
            call.tally.heartbeats += 1
            body = _late(items, choices, call, envelope)
            headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
            return Response(body, headers=headers, content_type="application/json")
    whole = to_completion(choices, envelope, call.tally)
    return Response(whole, content_type="application/json")


def _late(
    items: Iterator[dict[str, Any]],
    choices: list[dict[str, Any]],
    call: Call,
    envelope: Envelope,
) -> Iterator[bytes]:
    """White space before JSON, because hosts cut a silent request after a minute. The status is
    out with it, so a failure breaks the connection off: a 200 must not hold an error."""
    record = call.record
    record.ending = "caller left"
    try:
        yield b" "
        for item in items:
            if item:
                choices.append(item)
            else:
                call.tally.heartbeats += 1
                yield b" "
        yield to_completion(choices, envelope, call.tally)
        record.ending = "done"
    except CallerLeft:
        return
    except Exception as wrong:  # noqa: BLE001 - whatever it is, the caller must not take it for done
        if not isinstance(wrong, ProxyError):
            log_bug(wrong, record.id)
        code = wrong.code or wrong.type if isinstance(wrong, ProxyError) else "internal_error"
        record.ending = f"broken off: {code}"
        call.close()
        call.caller.break_off()


@api.get("/models")
def list_models() -> Response:
    """The models of models.json, in its order."""
    apis = _flowith().apis_for
    rows = [to_listing(m, apis(m)) for name, m in _settings().models.items() if name != "*"]
    return _json({"object": "list", "data": rows})


@api.get("/models/<path:name>")
def show_model(name: str) -> Response:
    """One model; ids may hold slashes."""
    model = _settings().find_model(name)
    if model is None:
        raise ModelNotFound(f"The model '{name[:100]}' does not exist here.", param="model")
    return _json(to_listing(model, _flowith().apis_for(model)))
