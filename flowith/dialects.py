"""Flowith's three HTTP APIs: where each is, what it wants, and which decoder reads what it says.

Nothing here does I/O or knows of OpenAI.
"""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from chat_request import Prompt
from errors import DOCTOR, UpstreamError
from events import Event
from flowith.knowledge_decoder import KnowledgeDecoder
from flowith.llm_decoder import LlmDecoder
from flowith.refusal import to_refusal
from flowith.web_decoder import WebDecoder
from settings import Model

# identity: a compressed stream comes when the compressor likes, not when the model speaks
HEADERS = {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"}
CONTENT_TYPES = {
    "", "text/plain", "text/event-stream", "text/markdown", "application/json",
    "application/x-ndjson", "application/jsonl", "application/octet-stream",
}  # fmt: skip
Body = Callable[[Prompt, Model, tuple[str, ...]], dict[str, Any]]
PAGE = (
    "A web page came in place of an answer: a captive portal or a firewall is in the way, or"
    f" Flowith's address has moved. {DOCTOR}"
)


class Decoder(Protocol):
    """Makes events of the bytes of one answer. It knows what the proper end of one looks like; what
    it does not know is an error."""

    def decode(self, block: bytes) -> list[Event]:
        """Raises UpstreamError for what is no answer."""

    def flush(self) -> list[Event]:
        """The body has ended. Raises UpstreamError where the answer had not."""


def to_content_type(value: str) -> str:
    """A Content-Type header without its parameters. Raises UpstreamError where no answer of these
    APIs has it."""
    name = value.partition(";")[0].strip().lower()
    if name in ("text/html", "application/xhtml+xml"):
        raise UpstreamError(PAGE)
    if name not in CONTENT_TYPES:
        raise UpstreamError("Flowith's answer is of a kind that is not known here.")
    return name


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of Flowith's APIs. `decoder` makes what an answer of a content type is read with, `body`
    what a request has besides its messages; `bearer`: which form of the token is tried first."""

    name: str
    url: str
    decoder: Callable[[str], Decoder]
    body: Body
    headers: Mapping[str, str]
    bearer: bool = True
    takes_system: bool = True

    def headers_for(self, token: str, bearer: bool) -> dict[str, str]:
        """The headers of a request with this token in one of its two forms."""
        return {**self.headers, "Authorization": f"Bearer {token}" if bearer else token}

    def to_refusal(self, status: int, body: bytes, headers: Mapping[str, str]) -> UpstreamError:
        """The error for a status that is none of success."""
        return to_refusal(status, body, headers)

    def payload(self, prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
        """The JSON body for `upstream`, the model ids still to be tried, best first."""
        messages = prompt.messages
        if not (self.takes_system and model.system_role):
            messages = _fold_system(messages)
        return {"messages": messages, "stream": True} | self.body(prompt, model, upstream)


def _web_body(prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
    body = {"model": upstream[0], **new_ids(), "target_feature": "text_completion"}
    return body | ({"websearch": True} if prompt.online else {})


def _llm_body(prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
    body = {"models": list(upstream), "thinking": prompt.thinking, "online": prompt.online}
    return body | prompt.options | prompt.tools


def _knowledge_body(prompt: Prompt, model: Model, upstream: tuple[str, ...]) -> dict[str, Any]:
    return {"model": upstream[0]} | ({"kb_list": list(model.kb_list)} if model.kb_list else {})


DIALECTS: dict[str, Dialect] = {
    "web": Dialect(
        "web",
        "https://edge.flowith.io/completion",
        WebDecoder,
        _web_body,
        {**HEADERS, "Origin": "https://flowith.io", "Referer": "https://flowith.io/"},
        bearer=False,
    ),
    "llm": Dialect(
        "llm", "https://edge.flowith.io/external/use/llm", LlmDecoder, _llm_body, HEADERS
    ),
    "knowledge": Dialect(
        "knowledge",
        "https://edge.flowith.net/external/use/knowledge-base/seek",
        KnowledgeDecoder,
        _knowledge_body,
        HEADERS,
        takes_system=False,
    ),
}


def dialects_at(given: str, agent: str) -> dict[str, Dialect]:
    """All three, where the operator's FLOWITH_API_URL says that they are, asked as `agent`."""

    def here(one: Dialect) -> Dialect:
        return replace(one, url=moved(one.url, given), headers={**one.headers, "User-Agent": agent})

    return {api: here(one) for api, one in DIALECTS.items()}


def moved(url: str, given: str) -> str:
    """Where `url` is by the operator's FLOWITH_API_URL; without a path that changes the host."""
    given = re.sub("//[^/]*@", "//", given)  # nobody would send a password, but it would be shown
    if not given or given.count("/") > 2:
        return given or url
    return f"{given}/{url.split('/', 3)[3]}"


def new_ids() -> dict[str, str]:
    """The web API's ids of a canvas and of what is on it: new ones, which nothing there has."""
    return {"nodeId": _new_id(), "convId": _new_id()}


def _new_id() -> str:
    """Without a system call, as `uuid4` makes one: it has to be new, not unguessable."""
    return str(UUID(int=random.getrandbits(128), version=4))


def _fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what the system messages say in front of the first user message; nothing is dropped."""
    said = [str(m["content"]) for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not said:
        return rest
    for i, message in enumerate(rest):
        if message["role"] == "user":
            content = message["content"]
            if isinstance(content, str):
                content = "\n\n".join([*said, content])
            else:
                content = [{"type": "text", "text": "\n\n".join(said)}, *content]
            return [*rest[:i], {"role": "user", "content": content}, *rest[i + 1 :]]
    return [{"role": "user", "content": "\n\n".join(said)}, *rest]
