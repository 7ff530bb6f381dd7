"""The answer of OpenAI's images: pictures as one object, or one event for each as it is made.

Pure: what all of an answer shares is an `Envelope`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chat_request import IMAGE_TOKENS
from errors import ProxyError
from events import Event, Picture, PromptSize, Silence, Tally, Usage, Working
from formats.chat_answer import error
from formats.sse import PING, dumps

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all of one answer shares. `event` is image_generation or image_edit, `inline` whether
    the files themselves go into it, `images` how many images went up."""

    request_id: str
    created: int
    event: str
    inline: bool
    quality: str
    images: int = 0


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """A `completed` event for each picture; the partial ones that OpenAI may send do not exist."""
    begun, prompt = False, 0
    try:
        for event in events:
            match event:
                case Picture():
                    block = _completed(event, envelope, prompt)
                case Silence() | Working():
                    block = PING
                    tally.heartbeats += 1
                case Usage():
                    tally.add(event)
                    continue
                case PromptSize(tokens=tokens):
                    prompt = tokens
                    continue
                case _:
                    continue
            begun = True
            yield block
    except ProxyError as wrong:
        if begun:
            yield b"event: error\ndata: " + error(wrong, envelope.request_id).body + b"\n\n"
        raise


def _completed(picture: Picture, envelope: Envelope, prompt: int) -> bytes:
    """One event, with all members that OpenAI's document requires. What is not known is AUTO."""
    name = f"{envelope.event}.completed"
    told = {"type": name, "created_at": envelope.created, "background": AUTO, "size": AUTO}
    told |= {"quality": envelope.quality, "output_format": picture.kind or "png"}
    head = dumps({**told, "usage": to_usage(prompt, envelope.images)})[:-1]
    return b"".join([f"event: {name}\ndata: {head},".encode(), _file(picture, envelope), b"}\n\n"])


def _file(picture: Picture, envelope: Envelope) -> bytes:
    """The member that holds the picture. Base64 needs no escapes, and may be 64 MB."""
    if envelope.inline:
        return b'"b64_json":"' + picture.data + b'"'
    return f'"url":{dumps(picture.url)}'.encode()


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """All pictures as one object."""
    pictures = []
    for event in events:
        if isinstance(event, Picture):
            pictures.append(event)
        elif isinstance(event, Usage):
            tally.add(event)
    told: dict[str, Any] = {"created": envelope.created}
    if envelope.quality != AUTO:  # which OpenAI's type of a whole answer does not know
        told["quality"] = envelope.quality
    if pictures and pictures[0].kind:
        told["output_format"] = pictures[0].kind
    told["usage"] = to_usage(tally.usage.prompt if tally.usage else 0, envelope.images)
    parts = [dumps(told)[:-1].encode(), b',"data":[']
    for i, picture in enumerate(pictures):
        parts += [b",{" if i else b"{", _file(picture, envelope), b"}"]
    return b"".join([*parts, b"]}"])


def to_usage(prompt: int, images: int) -> dict[str, Any]:
    """OpenAI's usage of pictures: the prompt's tokens, estimated; nobody tells those of a
    picture."""
    told = {"input_tokens": prompt, "output_tokens": 0, "total_tokens": prompt}
    seen = images * IMAGE_TOKENS
    return {**told, "input_tokens_details": {"text_tokens": prompt - seen, "image_tokens": seen}}
