"""Flowith's two APIs that make pictures: where each is, what it wants, and what its bytes mean.

The web app's takes messages and answers in lines of JSON, the one for keys takes a prompt and
answers with one object. Both tell where the file is. Nothing here does I/O or knows of OpenAI.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import errors
from chat_request import Prompt, images_of, text_of
from errors import DOCTOR, EmptyAnswer, UpstreamError
from events import Done, Event, Picture
from flowith.dialects import DIALECTS, Dialect, new_ids
from flowith.file_address import Forbidden, origin_of, to_address
from flowith.line_decoder import LineDecoder, to_object
from flowith.refusal import CREDITS, RATE, status_in, to_refusal
from flowith.refusal import MEANING as USUAL
from settings import Model

HOST = "https://edge.flowith.io"
ADDRESSES = ("url", "resultUrl", "imageUrl", "result")  # of a line that names its file plainly
RATIOS = ("1:1", "3:2", "2:3", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
KEY_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4")
PIXELS = ((1024, 1024), (1536, 1024), (1024, 1536), (2048, 2048), (3840, 2160), (2160, 3840),
          (2880, 2880))  # fmt: skip
RESOLUTIONS = (("512", 400_000), ("1k", 1_900_000), ("2k", 5_000_000), ("4k", math.inf))  # pixels
FAILED = "GENERATION_FAILED"  # the code of work that was begun
GATEWAYS = (408, 504, 520, 521, 522, 523, 524)  # statuses that leave open what became of the work
POLICY = re.compile("content.?policy|policy|moderation|flagged", re.IGNORECASE)
KINDS = (  # what words of Flowith's mean, where they are known to mean something
    (CREDITS, errors.OutOfCredits),
    (RATE, errors.RateLimited),
    (POLICY, errors.WordsRefused),
    (re.compile("invalid.?input", re.IGNORECASE), errors.UpstreamRejected),
)
MEANING: dict[type[UpstreamError], str] = {
    errors.WordsRefused: "Flowith refused to make this picture: it is against a content policy.",
    errors.OutOfCredits: USUAL[errors.OutOfCredits],
    errors.RateLimited: USUAL[errors.RateLimited],
    errors.UpstreamRejected: "Flowith rejected the request for a picture.",
    UpstreamError: "Flowith failed to make the picture.",
}
WEB_GONE = (
    "Flowith's web API for pictures was not found there, or it does not know this model. Try"
    " another row of models.json, a flo_... key, or another FLOWITH_API_URL; the web app's newer"
    f" form, /image_gen/async, is not spoken here. {DOCTOR}"
)
KEY_GONE = (
    "Flowith's API for pictures by key was not found there, or it does not know this model. Try"
    " another row of models.json, a web login in place of the key, or another FLOWITH_API_URL."
    f" {DOCTOR}"
)


class FileLines(LineDecoder):
    """Lines of JSON, of which most only tell what goes on. What is no JSON says nothing."""

    def __init__(self, origin: str, content_type: str = "") -> None:
        super().__init__(content_type)
        self._origin = origin
        self._file = self._hint = ""

    def flush(self) -> list[Event]:
        self.decode(b"\n")
        address = self._file or self._hint
        if not address:
            raise EmptyAnswer("Flowith ended its answer without a picture.")
        return [Picture(address), Done()]

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        frame = to_object(line.removeprefix(b"data:"))
        refuse(frame)
        if url := self._url_in(frame):
            self._file = to_address(url, self._origin)
        else:
            self._hint = _named(frame, self._origin) or self._hint

    def _url_in(self, frame: dict[str, Any]) -> object:
        """The address of the file where it stands in its place."""
        file = frame.get("generatedFile")
        if frame.get("type") != "generated_file" or not isinstance(file, dict):
            return None
        return file.get("url") if file.get("status") == "ready" else None


class FileReply(FileLines):
    """One JSON object, on however many lines, once the picture is made."""

    def flush(self) -> list[Event]:
        self.decode(b"\n")
        super()._read_line(b"\n".join(self._held), [])
        return super().flush()

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        self._hold(line)

    def _url_in(self, frame: dict[str, Any]) -> object:
        data = frame.get("data")
        if isinstance(data, list):
            data = data[0] if data else None
        return data.get("url") if isinstance(data, dict) else None


def _named(frame: dict[str, Any], origin: str) -> str:
    """The address that a line of an unknown kind names, empty where it names none."""
    for name in ADDRESSES:
        try:
            return to_address(frame.get(name), origin)
        except Forbidden:
            continue
    return ""


def refuse(frame: dict[str, Any]) -> None:
    """Raises the UpstreamError that a line or a reply is, or that it tells of its file, where it is
    one.

    It is never UpstreamAuth, which would be tried again with the other form of the token: the
    work had begun.
    """
    if isinstance(file := frame.get("generatedFile"), dict):
        refuse(file)
    failed = frame.get("success") is False or frame.get("status") in ("failed", "error")
    named = frame.get("error") or frame.get("error_type") or frame.get("type") == "error"
    if not (failed or named or status_in(frame) >= 400):
        return
    refusal = to_refusal(None, frame)
    told = json.dumps([frame.get(key) for key in ("error", "error_type", "code", "message")])
    kind = next((kind for words, kind in KINDS if words.search(told)), type(refusal))
    raise _with_meaning(kind if kind in MEANING else UpstreamError, refusal.said)


def _with_meaning(kind: type[UpstreamError], said: str) -> UpstreamError:
    refusal = kind(MEANING[kind])
    refusal.said = said
    return refusal


def costs_nothing(refusal: UpstreamError) -> bool:
    """Whether a call that failed so surely made no picture, so that it may be repeated: it never
    got there, or was refused by its status."""
    if isinstance(refusal, errors.UpstreamUnreachable):
        return True
    return refusal.upstream_status is not None and refusal.upstream_status not in GATEWAYS


def to_ratio(size: tuple[int, int], allowed: tuple[str, ...]) -> str:
    """The allowed ratio that is nearest to a size."""
    wanted = math.log(size[0] / size[1])

    def distance(ratio: str) -> float:
        width, height = map(int, ratio.split(":"))
        return abs(wanted - math.log(width / height))

    return min(allowed, key=distance)


def to_pixels(size: tuple[int, int]) -> str:
    """The known size in pixels that is nearest to the one asked for, which may be that itself."""

    def distance(known: tuple[int, int]) -> float:
        return sum(math.log(a / b) ** 2 for a, b in zip(size, known, strict=True))

    width, height = min(PIXELS, key=distance)
    return f"{width}x{height}"


def to_resolution(size: tuple[int, int], known: tuple[str, ...]) -> str:
    """Flowith's name for about so many pixels; empty where the model does not know it."""
    pixels = size[0] * size[1]
    name = next(name for name, most in RESOLUTIONS if pixels <= most)
    return name if name in known else ""


@dataclass(frozen=True, slots=True)
class ImageDialect(Dialect):
    """One of the two APIs. Its answers are read alike, whatever type they claim to be."""

    ratios: tuple[str, ...] = RATIOS
    gone: str = WEB_GONE  # what is said where nothing is found

    def payload(self, prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
        """The JSON body for the first of `upstream`, the model ids still to be tried."""
        shape = self._shape(prompt, model)
        return {"model": upstream[0]} | shape | self.body(prompt, model, upstream)

    def _shape(self, prompt: Prompt, model: Model) -> dict[str, str]:
        size = prompt.drawing.size if prompt.drawing else None
        if size is None or model.shape == "none":
            return {}
        if model.shape == "pixels":
            return {"aspect_ratio": to_pixels(size)}
        shape = {"aspect_ratio": to_ratio(size, self.ratios)}
        resolution = to_resolution(size, model.sizes)
        return shape | ({"image_size": resolution} if resolution else {})

    def to_refusal(self, status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamError:
        """The error for a status that is none of success."""
        refusal = to_refusal(status, body, headers)
        code = str(to_object(body).get("code", ""))
        refusal.retryable = refusal.retryable and code != FAILED
        if isinstance(refusal, errors.UpstreamNotFound):
            refusal.message = self.gone
        elif CREDITS.search(refusal.said + code):
            refusal = _with_meaning(errors.OutOfCredits, refusal.said)
        elif isinstance(refusal, errors.UpstreamRejected) and POLICY.search(refusal.said + code):
            refusal = _with_meaning(errors.WordsRefused, refusal.said)
        refusal.upstream_status = status
        return refusal


def _web_body(prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
    body = {"target_feature": "image_generation", "messages": prompt.messages, "stream": True}
    if quality := prompt.options.get("quality"):
        body["quality"] = quality
    return body | new_ids() | ({"websearch": True} if prompt.online else {})


def _key_body(prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
    """The text of the last user message, and the addresses of its images."""
    content = next(m["content"] for m in reversed(prompt.messages) if m["role"] == "user")
    images = [part["image_url"]["url"] for part in images_of(content)]
    return {"prompt": text_of(content)} | ({"image_urls": images} if images else {})


def image_dialects(given: str, chats: Mapping[str, Dialect] = DIALECTS) -> dict[str, ImageDialect]:
    """The dialect for pictures by that for chat, among `chats`; `given` is FLOWITH_API_URL, whose
    host counts."""
    origin = origin_of(given)
    web = ImageDialect(
        "web_images",
        f"{origin or HOST}/image_gen",
        partial(FileLines, origin),
        _web_body,
        chats["web"].headers,
    )
    key = ImageDialect(
        "key_images",
        f"{origin or HOST}/external/use/image/generate",
        partial(FileReply, origin),
        _key_body,
        chats["llm"].headers,
        ratios=KEY_RATIOS,
        gone=KEY_GONE,
    )
    return {"web": web, "llm": key, "knowledge": key}
