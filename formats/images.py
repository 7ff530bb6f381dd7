"""OpenAI's images: a request for new pictures or for changed ones, checked.

Comes as JSON or as a form, whichever the path. Ranges, codes and names are those of OpenAI's API
reference, with what its clients send besides.
"""

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

from chat_request import ChatRequest, Drawing, Message
from formats.attachments import IMAGE_BYTES, image_type, parse_data_url
from formats.chat_answer import error
from formats.fields import (
    bad_value,
    boolean,
    integer,
    missing,
    one_of,
    parse_json,
    parse_model,
    require,
    string,
    unsupported,
)
from formats.images_answer import Envelope, stream, whole
from formats.model_names import find_model, spellings
from formats.multipart import boundary_of, parse_form
from settings import Model, Settings

MOST = 10  # pictures of one request, as at OpenAI
MOST_IMAGES = 16
SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
IMAGE_FIELD = re.compile(r"image(\[\d{0,3}\])?|images")
TYPES = ("image/png", "image/jpeg", "image/webp")
EFFECTIVE = {"prompt", "model", "n", "size", "response_format", "quality", "stream", "image",
             "images"}  # fmt: skip
HIGH = ("high", "hd")  # the names of the quality that Flowith knows


@dataclass(frozen=True, slots=True)
class Images:
    """One of the two paths; a `Format`. `NAME` also begins the names of its stream's events."""

    NAME: Literal["image_generation", "image_edit"]
    ID_HEADERS: tuple[str, ...] = ("X-Request-ID",)

    def parse(self, raw: bytes, settings: Settings) -> ChatRequest:
        """Check a request. Raises InvalidRequest that names the field."""
        body, files = _from_form(raw) if boundary_of(raw) else (parse_json(raw), [])
        if "mask" in body or any(name == "mask" for name, _ in files):
            raise unsupported("mask", "Say in the prompt which part is to change.")
        given = chain(_uploaded(files), _linked(body))
        images = list(islice(given, MOST_IMAGES + 1))
        if len(images) > MOST_IMAGES:
            raise bad_value("image", f"at most {MOST_IMAGES} images", "array_above_max_length")
        if self.NAME == "image_edit" and not images:
            raise missing("image")
        return _to_request(body, images, settings)

    def to_envelope(self, chat: ChatRequest, settings: Settings, request_id: str) -> Envelope:
        content = chat.conversations[0][0].content
        return Envelope(
            request_id=request_id,
            created=int(time.time()),
            event=self.NAME,
            inline=chat.drawing is not None and chat.drawing.inline,
            quality=chat.options.get("quality", "auto"),
            pictures=len(chat.conversations),
            images=0 if isinstance(content, str) else len(content) - 1,
        )

    stream = staticmethod(stream)
    whole = staticmethod(whole)
    error = staticmethod(error)


GENERATIONS, EDITS = Images("image_generation"), Images("image_edit")


def _from_form(raw: bytes) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """The fields of a form with JSON's types, and its files."""
    form = parse_form(raw)
    body: dict[str, Any] = {}
    for name, text in form.texts:
        if IMAGE_FIELD.fullmatch(name):
            body.setdefault("image", []).append(text)
        elif text:
            body[name] = text
    if re.fullmatch(r"\d{1,9}", str(body.get("n", ""))):
        body["n"] = int(body["n"])
    if (stream := str(body.get("stream")).lower()) in ("true", "false"):  # Python writes True
        body["stream"] = stream == "true"
    return body, form.files


def _uploaded(files: list[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
    for name, content in files:
        if IMAGE_FIELD.fullmatch(name):
            yield _to_part(content)


def _linked(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The images of JSON: addresses or data: URLs, bare or as `{"image_url": ...}`."""
    for field in ("image", "images"):
        given = body.get(field, [])
        for one in given if isinstance(given, list) else [given]:
            url = one.get("image_url") if isinstance(one, dict) else one
            url = url.get("url") if isinstance(url, dict) else url
            if url is None:  # OpenAI takes the id of a file as well
                raise missing(
                    field, "Send the image itself or its address: nothing is stored here."
                )
            url = require(field, url, str).strip()
            if re.match(r"https://[^\s/]", url, re.IGNORECASE):
                yield {"type": "image_url", "image_url": {"url": url}}
                continue
            if url[:5].lower() != "data:":
                wanted = "expected a file, an https: URL or a base64 data: URL"
                raise bad_value(field, wanted, "invalid_image_url")
            _, content = parse_data_url(field, url)
            yield _to_part(content)


def _to_part(content: bytes) -> dict[str, Any]:
    """A file as the part of a message. Raises InvalidRequest for what models do not read."""
    kind = image_type(content)
    if kind not in TYPES:
        raise bad_value("image", "expected a PNG, JPEG or WebP file", "invalid_image_format")
    if len(content) > IMAGE_BYTES:
        limit = IMAGE_BYTES // 1_048_576
        raise bad_value("image", f"expected at most {limit} MB for one image", "invalid_size")
    url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _to_request(
    body: dict[str, Any], images: list[dict[str, Any]], settings: Settings
) -> ChatRequest:
    """The checked request: each picture is a conversation of its own. Raises InvalidRequest."""
    prompt = require("prompt", body.get("prompt"), str)
    if not prompt.strip():
        raise bad_value("prompt", "expected words that say what to draw", "empty_string")
    n = body.get("n", 1)
    integer("n", n, low=1, high=min(MOST, settings.max_choices))
    boolean("stream", body.get("stream", False))
    quality = body.get("quality", "auto")
    string("quality", quality)
    asked, row = _find_row(body, settings)
    size = _parse_size(body.get("size", "auto"))
    ignored = [name for name in body if name not in EFFECTIVE]
    if size and row and row.shape == "none":
        ignored.append("size")
    if quality not in (*HIGH, "auto"):
        ignored.append("quality")
    content: Any = [{"type": "text", "text": prompt}, *images] if images else prompt
    return ChatRequest(
        model=asked,
        conversations=tuple([Message("user", content)] for _ in range(int(n))),
        words_in="prompt",
        stream=body.get("stream", False),
        include_usage=True,
        early_usage=True,
        options={"quality": "high"} if quality in HIGH else {},
        ignored=tuple(ignored),
        drawing=Drawing(size, inline=_is_inline(body, asked, edit=bool(images))),
    )


def _find_row(body: dict[str, Any], settings: Settings) -> tuple[str, Model | None]:
    """The name to look up, and its row where there is one: without a name the first row that draws.
    Raises InvalidRequest for a row that does not."""
    first = next((row.id for row in settings.models.values() if row.kind == "image"), "")
    asked = parse_model(body, settings.default_model or first)
    row = find_model(settings, asked)
    if row is not None and row.kind != "image":
        wanted = "it makes no pictures. GET /v1/models tells those that do, by output_modalities;"
        wanted += ' in models.json they have "kind": "image"'
        raise bad_value("model", wanted, "unsupported_value")
    return asked, row


def _parse_size(size: Any) -> tuple[int, int] | None:
    string("size", size)
    if size == "auto":
        return None
    found = SIZE.fullmatch(size)
    if not found:
        raise bad_value("size", "expected WIDTHxHEIGHT in pixels, or 'auto'")
    return int(found[1]), int(found[2])


def _is_inline(body: dict[str, Any], asked: str, *, edit: bool) -> bool:
    """Whether the file itself is wanted; which is what OpenAI does for all models but the old, of
    which dall-e-2 alone can edit there. Clients that edit with another read files only."""
    form = body.get("response_format")
    if form is not None:
        one_of("response_format", form, ("url", "b64_json"))
        return bool(form == "b64_json")
    old = "dall-e-2" if edit else "dall-e-"
    *_, name = spellings(asked)
    return not name.lower().startswith(old) or bool(body.get("stream"))
