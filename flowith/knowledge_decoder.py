"""What the bytes of Flowith's knowledge API mean. Does no I/O."""

from typing import Any

from events import Citation, Event, Reasoning, Silence, Text
from flowith.line_decoder import LineDecoder, check_parts, flat, unknown
from flowith.refusal import to_refusal

STEPS = ("searching", "seeds")  # tags before the answer
PASSAGE_CHARS = 2_000  # of a passage that an answer rests on, as its reader gets each in one line


class KnowledgeDecoder(LineDecoder):
    """`{"tag","content"}` frames; `final` is a delta."""

    _finish = "stop"  # nothing but the end of the body tells the end of the answer for certain

    def _read_frame(self, frame: dict[str, Any], events: list[Event]) -> None:
        tag, content = frame.get("tag") or frame.get("type"), frame.get("content")
        if tag == "final" and content == "[DONE]":
            self._end(events)
        elif tag == "final":
            self._say(Text, content, events)
        elif tag == "thinking":
            self._say(Reasoning, flat(content), events)
        elif tag == "seeds" and isinstance(content, list):
            check_parts(content)
            events.extend(_to_citation(seed) for seed in content if isinstance(seed, dict))
        elif tag == "error":
            raise to_refusal(None, content)
        elif tag in STEPS:
            events.append(Silence())
        else:
            raise unknown("frame")


def _to_citation(seed: dict[str, Any]) -> Citation:
    def text(*keys: str) -> str:
        return next((v for k in keys if isinstance(v := seed.get(k), str) and v), "")

    title = text("source_title", "title")
    url = text("url", "source_url", "link")
    url = url or (title if title.startswith(("http://", "https://")) else "")
    return Citation(title, url, text("content")[:PASSAGE_CHARS], text("source_id", "id"))
