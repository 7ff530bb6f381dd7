"""The answer of OpenAI's images: pictures as one object, or one event for each as it is made.

Pure: what all of an answer shares is an `Envelope`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chat_request import IMAGE_TOKENS
from errors import ProxyError
from events import Event, Picture, PromptSize, Tally, Usage, joined
from formats.chat_answer import error
from formats.sse import Writer, dumps, written

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all of one answer shares. `event` is image_generation or image_edit, `inline` whether
    the files themselves go into it, `pictures` how many are to be made, `images` how many images
    went up."""

    request_id: str
    created: int
    event: str
    inline: bool
    quality: str
    pictures: int = 1
    images: int = 0


class _PictureWriter(Writer):
    """A `completed` event for each picture; the partial ones that OpenAI may send do not exist."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.answers = envelope.pictures
        self.prompt = 0

    def take(self, event: Event) -> bytes:
        match event:
            case PromptSize(tokens=tokens):
                self.prompt = tokens
            case Picture():
                return self._completed(event)
        return b""

    def _completed(self, picture: Picture) -> bytes:
        """One event, with all members that OpenAI's document requires. What is not known is
        AUTO."""
        envelope = self.envelope
        name = f"{envelope.event}.completed"
        told = {"type": name, "created_at": envelope.created, "background": AUTO, "size": AUTO}
        told |= {"quality": envelope.quality, "output_format": picture.kind or "png"}
        head = dumps({**told, "usage": to_usage(self.prompt, envelope.images)})[:-1]
        begin = f"event: {name}\ndata: {head},".encode()
        return b"".join([begin, _file(picture, envelope), b"}\n\n"])

    def failed(self, wrong: ProxyError, usage: Usage | None) -> bytes:
        body = error(wrong, self.envelope.request_id).body
        return b"event: error\ndata: " + body + b"\n\n"


def stream(events: Iterator[Event], envelope: Envelope, tally: Tally) -> Iterator[bytes]:
    """Events as bytes of whole server-sent events."""
    return written(events, _PictureWriter(envelope), tally)


def _file(picture: Picture, envelope: Envelope) -> bytes:
    """The member that holds the picture. Base64 needs no escapes, and may be 64 MB."""
    if envelope.inline:
        return b'"b64_json":"' + picture.data + b'"'
    return f'"url":{dumps(picture.url)}'.encode()


def whole(events: Iterable[Event], envelope: Envelope, tally: Tally) -> bytes:
    """All pictures as one object."""
    pictures = [event for event in joined(events, tally) if isinstance(event, Picture)]
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
