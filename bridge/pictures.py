"""Pictures in a conversation: what is to be drawn, and a link to what was drawn.

Knows nothing of HTTP or of Flowith's wire.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from chat_request import Message, text_of
from errors import InvalidRequest
from events import Event, Picture, Text

# As `show_pictures` writes it. No title and no blanks, so that one look along the text is enough.
LINK = re.compile(r"!\[[^\[\]\n]{0,200}\]\((https?://[^\s()<>\"]{1,2048})\)")


def show_pictures(events: Iterator[Event]) -> Iterator[Event]:
    """Let a link in Markdown follow each picture, which every chat UI shows."""
    for event in events:
        yield event
        if isinstance(event, Picture):
            address = event.url.replace("(", "%28").replace(")", "%29")
            yield Text(f"![image]({address})")


def with_picture(messages: list[Message]) -> list[Message]:
    """The conversation for a model that draws what the last user message says; where that has no
    image the last picture that was drawn goes with it, so that "make it red" works.

    Raises InvalidRequest where there is nothing to draw.
    """
    last = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), None)
    words = "" if last is None else text_of(messages[last].content)
    if last is None or not words.strip():
        text = "An image model draws what the last user message says, and it says nothing."
        where = "" if last is None else messages[last].where
        raise InvalidRequest(text, param=where or None, code="invalid_value")
    content = messages[last].content
    drawn = _last_drawn(messages[:last])
    if isinstance(content, str) and drawn:
        picture = {"type": "image_url", "image_url": {"url": drawn}}
        content = [{"type": "text", "text": content}, picture]
    return [*messages[:last], replace(messages[last], content=content)]


def _last_drawn(messages: list[Message]) -> str:
    """The address of the last picture that an assistant message shows."""
    for message in reversed(messages):
        if message.role == "assistant" and (found := LINK.findall(text_of(message.content))):
            return str(found[-1])
    return ""
