"""An answer of Anthropic's API as its content blocks, one open at a time, for streams and objects.

Pure: an answer's events in; beginnings, deltas and ends of blocks out. A block begins with its
first words only: programs keep an empty one, and Anthropic refuses the conversation that holds it
later.
"""

import re
from typing import Any

from errors import Unmet
from events import Citation, Event, Reasoning, Text, ToolCall
from formats.sse import dumps, slices
from jsontools.text import read_json

# Clients want one and send it back, none looks into it; an empty one is refused at Anthropic.
SIGNATURE = "Zmxvd2l0aA=="
MOST_LINKS = 50
LINK = re.compile(
    r"(?:\[([^\[\]\n]{1,300})\]\()?(https?://[^\s<>()\[\]\"'`|]{1,2000})", re.IGNORECASE
)


Step = dict[str, Any]  # an event of a stream: a block begins, grows or ends


class Blocks:
    """The content of one answer as it grows.

    `query` is what was searched for, None where the request has no tool that searches: then
    sources are only cited. `id` makes the ids of calls that came without a usable one unique.
    `index` is the number of the last block, `open` its type where it can grow.
    """

    def __init__(self, id: str, query: str | None) -> None:
        self.index = -1
        self.open = ""
        self.searches = 0
        self.called = False
        self._id, self._query = id, query
        self._spaces: list[str] = []
        self._found: list[Citation] = []
        self._uncited: list[Citation] = []
        self._passages = 0
        self._said: list[str] = []
        self._ids: set[str] = set()

    def take(self, event: Event) -> list[Step]:
        """What an event adds to the content."""
        match event:
            case Text(text=text):
                return self._say(text)
            case Reasoning(text=text):
                return self._think(text)
            case ToolCall():
                return [*self.end(), *self._call(event)]
            case Citation():
                return self._note(event)
        return []

    def finish(self) -> list[Step]:
        """The end of the answer. Where it had to search and Flowith named no source, the pages that
        its words link to are what was found. Sources that came behind the last words are cited by
        a text that names them: a block that is closed takes no more, and none may be empty."""
        steps = self.end()
        if not self.searches:  # `_said` is empty where nothing was to be searched for
            self._found = _links("".join(self._said))
            steps += self.end()
        untold = (one.words for one in self._uncited if self._query is None or not one.url)
        words = "\n".join(untold)
        steps += self._say(f"\n\n{words}")  # clients join texts without anything between
        return steps + self.end()

    def end(self) -> list[Step]:
        """Close what is open."""
        steps: list[Step] = []
        if self.open == "thinking":
            steps.append(self._delta("signature_delta", signature=SIGNATURE))
        if self.open:
            steps.append(self._stop())
        self.open = ""
        self._spaces.clear()
        if self._found:
            steps += self._search()
        return steps

    def _start(self, block: dict[str, Any]) -> Step:
        self.index += 1
        return {"type": "content_block_start", "index": self.index, "content_block": block}

    def _delta(self, kind: str, **added: Any) -> Step:
        delta = {"type": kind, **added}
        return {"type": "content_block_delta", "index": self.index, "delta": delta}

    def _stop(self) -> Step:
        return {"type": "content_block_stop", "index": self.index}

    def _say(self, text: str) -> list[Step]:
        steps: list[Step] = []
        if self._query is not None:
            self._said.append(text)
        if self.open != "text" or self._uncited:
            if not text.strip():
                self._spaces.append(text)
                return steps
            text = "".join([*self._spaces, text])
            steps += self.end()
            block: dict[str, Any] = {"type": "text", "text": ""}
            if self._uncited:
                block["citations"] = []
            steps.append(self._start(block))
            self.open = "text"
            steps += self._cite()
        return steps + [self._delta("text_delta", text=piece) for piece in slices(text)]

    def _think(self, text: str) -> list[Step]:
        steps: list[Step] = []
        if self.open != "thinking":
            if not text.strip():
                return steps
            steps += self.end()
            steps.append(self._start({"type": "thinking", "thinking": "", "signature": ""}))
            self.open = "thinking"
        return steps + [self._delta("thinking_delta", thinking=piece) for piece in slices(text)]

    def _call(self, call: ToolCall) -> list[Step]:
        try:
            if not isinstance(read_json(call.arguments or "{}"), dict):
                raise ValueError("not an object")
        except ValueError:
            words = f"The model called {call.name} with an input that is not a JSON object."
            raise Unmet(words, said="") from None
        self.called = True
        head = {"type": "tool_use", "id": self._to_id(call.id), "name": call.name, "input": {}}
        return self._used(head, call.arguments or "{}")

    def _used(self, head: dict[str, Any], arguments: str) -> list[Step]:
        """The block of a tool that is used, its input in pieces that no reader chokes on."""
        start = self._start(head)
        pieces = [self._delta("input_json_delta", partial_json=one) for one in slices(arguments)]
        return [start, *pieces, self._stop()]

    def _to_id(self, given: str) -> str:
        """An id that Anthropic's API would take back, unlike all others in this answer."""
        bare = given.removeprefix("call_").removeprefix("toolu_")
        bare = re.sub(r"[^A-Za-z0-9_-]", "", bare)
        if not bare or bare in self._ids:
            bare = f"{self._id}_{len(self._ids)}"
        self._ids.add(bare)
        return f"toolu_{bare}"

    def _note(self, source: Citation) -> list[Step]:
        self._uncited.append(source)
        if self._query is not None:
            if source.url:
                self._found.append(source)
            return []
        return self._cite() if self.open == "text" else []

    def _search(self) -> list[Step]:
        """A search by the server, and what it found; the next text cites that."""
        found, self._found = self._found, []
        self.searches += 1
        use_id = f"srvtoolu_{self._id}_{self.searches}"
        use = {"type": "server_tool_use", "id": use_id, "name": "web_search", "input": {}}
        results = [
            {
                "type": "web_search_result",
                "url": source.url,
                "title": source.title or source.url,
                "encrypted_content": "",
                "page_age": None,
            }
            for source in found
        ]
        result = {"type": "web_search_tool_result", "tool_use_id": use_id, "content": results}
        asked = self._used(use, dumps({"query": self._query}))
        return [*asked, self._start(result), self._stop()]

    def _cite(self) -> list[Step]:
        """The sources that wait, as citations of the open text."""
        sources, self._uncited = self._uncited, []
        return [self._delta("citations_delta", citation=self._cited(one)) for one in sources]

    def _cited(self, source: Citation) -> dict[str, Any]:
        """A citation of a kind that the AI SDK 6 takes: it refuses an answer that has others. A
        passage without an address is one of a document."""
        if source.url:
            kind = {"type": "web_search_result_location", "encrypted_index": ""}
            title = source.title or source.url
            return {**kind, "url": source.url, "title": title, "cited_text": source.text}
        number, self._passages = self._passages, self._passages + 1
        return {
            "type": "char_location",
            "cited_text": source.text,
            "document_index": number,
            "document_title": source.title or None,
            "file_id": source.source_id or None,
            "start_char_index": 0,
            "end_char_index": len(source.text),
        }


def _links(text: str) -> list[Citation]:
    """The pages that a text links to, each once, with the words of its link."""
    found: dict[str, Citation] = {}
    for link in LINK.finditer(text):
        url = link[2].rstrip(".,;:!?*_")
        found.setdefault(url, Citation(link[1] or "", url))
        if len(found) == MOST_LINKS:
            break
    return list(found.values())
