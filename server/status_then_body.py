"""Any format's answer, from the open call to the last byte: wait with the status, stream, keep
alive, close.

Knows nothing of what the bytes say. An error before the first byte is raised, for
`server/error_responses.py`.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from flask import Response, current_app, g, request

from chat_request import ChatRequest
from clock import let_others
from errors import CallerLeft, ModelNotFound, ProxyError
from events import Event, Silence, Working
from flowith.client import Flowith
from formats import Format, model_names
from formats.model_list import DRAWS, PASSED_ON
from server.call import Call
from server.caller import Caller
from server.log import CALLER_LEFT, Record, log_bug
from settings import Model, Settings
from translate import count_prompt, to_prompt

MOST_TOLD = 32  # names of parameters in one header
PARAMETER = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
UNBUFFERED = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx and its kin hold a stream back without it
}
SPACE = b" "  # before JSON it means nothing
JSON = {"Content-Type": "application/json"}
STREAM_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", **UNBUFFERED}


def flowith() -> Flowith:
    """The upstream side of the app that serves this request."""
    return current_app.extensions["flowith"]  # type: ignore[no-any-return]


def deliver(format: Format, default_model: str = "") -> Response:
    """Answer the request in hand, whose body is of this format; one that names no model is for
    `default_model`.

    The status waits for the answer's first event or for its error. Raises ProxyError, CallerLeft.
    """
    record: Record = g.record
    upstream, caller = flowith(), Caller(request.environ)
    chat, model = _checked(format, record, upstream, caller, default_model)
    call = Call(upstream, record, caller)
    try:
        events = call.events(chat, model)
        envelope = format.to_envelope(chat, upstream.settings, record.id)
        render = _streamed if chat.stream else _whole
        response = render(format, events, envelope, call)
    except BaseException:
        call.close()
        raise
    response.call_on_close(call.close)
    record.dialect = call.dialect()
    if ignored := _without_effect(chat, record.dialect):
        response.headers["X-Ignored-Params"] = ", ".join(ignored)
    return response


def count(format: Format) -> int:
    """Estimated tokens of the prompt that the request in hand makes, tools and all; nothing is
    sent. Raises ProxyError."""
    chat, model = _checked(format, g.record, flowith(), Caller(request.environ))
    return sum(count_prompt(to_prompt(chat, one, model)) for one in chat.conversations)


def _checked(
    format: Format, record: Record, upstream: Flowith, caller: Caller, default_model: str = ""
) -> tuple[ChatRequest, Model]:
    """The request in hand and the model that it asks for. Raises InvalidRequest."""
    record.format = format.NAME
    ours = upstream.settings
    given = replace(ours, default_model=default_model) if default_model else ours
    limit = int(ours.max_body_mb * 1_048_576)
    body = caller.read_body(limit, ours.body_timeout, upstream.clock)
    began = time.monotonic()
    chat = format.parse(body, given)
    del body  # it may be large
    let_others(began)
    record.model = chat.model
    model = find_model(ours, chat.model)
    record.model = model.id
    return chat, model


def find_model(settings: Settings, name: str) -> Model:
    """The row of models.json for a name that a caller asks for. Raises ModelNotFound."""
    model = model_names.find_model(settings, name)
    if model is None:
        raise ModelNotFound(
            f"The model '{name[:100]}' does not exist here. GET /v1/models lists those that"
            " do; models.json maps them to Flowith's.",
            param="model",
        )
    return model


def _without_effect(chat: ChatRequest, dialect: str) -> list[str]:
    """The parameters that change nothing, for the caller to see."""
    wanted = [*chat.options, *(["web_search_options"] if chat.online else [])]
    unused = [name for name in wanted if dialect not in PASSED_ON[name]]
    if dialect in DRAWS:
        given: dict[str, Any] = {"tools": chat.tools, "response_format": chat.format}
        given |= {"stop": chat.stop, "max_tokens": chat.max_tokens}
        unused += [name for name, value in given.items() if value]
    told = (name for name in (*chat.ignored, *unused) if PARAMETER.fullmatch(name))
    return list(islice(told, MOST_TOLD))


class _Answer(Response):
    """A response to a POST that goes out as it was made: its body is bytes, its headers are whole.

    Werkzeug's own copies each header once more, and takes each token through an encoder and an
    iterator.
    """

    def __call__(self, environ: Any, start_response: Any) -> "_Answer":
        start_response(self.status, self.headers.to_wsgi_list())
        return self

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.response)  # type: ignore[arg-type]  # it was made of bytes


def _streamed(format: Format, events: Iterator[Event], envelope: Any, call: Call) -> Response:
    blocks = format.stream(events, envelope, call.tally)
    body = _sent(next(blocks), blocks, call, told=True)
    return _Answer(body, headers=STREAM_HEADERS)


def _whole(format: Format, events: Iterator[Event], envelope: Any, call: Call) -> Response:
    """An answer in one piece; one that takes very long is kept alive with leading white space."""
    blocks = _in_one_piece(format, events, envelope, call)
    first = next(blocks)
    if first != SPACE:
        return _Answer([first], headers={**JSON, "Content-Length": str(len(first))})
    body = _sent(first, blocks, call, told=False)
    return _Answer(body, headers={**JSON, **UNBUFFERED})


def _in_one_piece(
    format: Format, events: Iterator[Event], envelope: Any, call: Call
) -> Iterator[bytes]:
    """White space while the answer is late, because hosts cut a silent request after a minute;
    then the answer."""
    after = call.flowith.settings.keep_alive_after
    late_at = call.record.started + after if after else float("inf")
    kept: list[Event] = []
    for event in events:
        if type(event) is not Silence and type(event) is not Working:
            kept.append(event)
        elif time.monotonic() >= late_at:
            call.tally.heartbeats += 1
            yield SPACE
    yield format.whole(kept, envelope, call.tally)


def _sent(first: bytes, blocks: Iterator[bytes], call: Call, *, told: bool) -> Iterator[bytes]:
    """A body whose status is out with its first block. An error that is not `told` inside it, by
    the format, breaks the connection off: a 200 must not hold one."""
    record = call.record
    record.ending = CALLER_LEFT  # unless we get to the end
    try:
        yield first
        yield from blocks
        record.ending = "done"
    except ProxyError as wrong:
        if told:
            record.ending = wrong.ending
        else:
            call.break_off(wrong.ending)
    except CallerLeft:
        call.caller.break_off()  # a caller who has closed for sending alone must see it, too
    except Exception as wrong:  # noqa: BLE001 - a bug in a format: nobody is left to tell it
        log_bug(wrong, record.id)
        call.break_off("internal_error")
