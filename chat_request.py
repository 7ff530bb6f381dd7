"""The vocabulary going up: a checked request, and what of it is sent to a model.

A format makes a `ChatRequest` of what a caller sent, `translate` makes `Prompt`s of it, `flowith`
sends those. Nothing of HTTP, of callers' JSON or of Flowith's payloads.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from events import ToolCall
from jsontools.budget import Budget

Choice = Literal["auto", "none", "required"]
IMAGE_TOKENS = 765  # one image in high detail, by OpenAI's pricing page
Content = str | list[dict[str, Any]]  # text, or text and image_url parts where there are images


# Not frozen, though nobody changes one: to make 50,000 would take 60 ms more (measured).
@dataclass(slots=True)
class Message:
    """One message. `role` is system, user, assistant or tool; `calls` are the tool calls it made,
    `call_id` the call that it answers, `name` that call's tool or the speaker. `where` is the
    place of its content in the caller's JSON, for errors."""

    role: str
    content: Content
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool on offer; a `custom` one takes free text instead of JSON arguments.

    `parameters` is a JSON Schema, `format` the grammar of a custom tool. `name` is what the model
    is told, unique in a request; `namespace` is the group it belongs to where the caller's API has
    such groups.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False
    custom: bool = False
    format: dict[str, Any] | None = None
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request and what is asked of them.

    A named tool is `required` with that tool alone; `allowed_tools` leaves only those. `legacy`
    tells that they came as `functions`.
    """

    tools: tuple[Tool, ...]
    choice: Choice = "auto"
    parallel: bool = True
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The JSON that an answer has to be; `schema` None means any JSON of its kind."""

    kind: Literal["json_object", "json_schema"]
    name: str = ""
    description: str = ""
    schema: dict[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a picture is wanted: `size` is width and height in pixels, None where any will do;
    `inline` asks for the file itself besides its address."""

    size: tuple[int, int] | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request; nothing after its format checks it again.

    `model` is the name as the caller wrote it. Each of `conversations` wants an answer of its own;
    they came in `words_in`, which is what an error about their words names.
    `options` are sampling parameters that some of Flowith's APIs take, `ignored` names what has no
    effect. `include_usage`: a stream tells the tokens too; `early_usage`: it tells those of the
    prompt before the first word. `echo` is what the format has to say again in its answer, in that
    API's own form. `hides_thoughts`: the caller wants none to see, though the model may think.
    `thoughts_apart`: its answer has a place of its own for thoughts, so that they never go into the
    text. `budget` is the CPU time for all schemas of the request, those it brings and the values
    that are held against them later. `drawing` is there where pictures are all that is asked for.
    """

    model: str
    conversations: tuple[list[Message], ...]
    words_in: str = "messages"
    stream: bool = False
    include_usage: bool = False
    early_usage: bool = False
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinks: bool = True
    hides_thoughts: bool = False
    thoughts_apart: bool = False
    online: bool = False
    tools: ToolUse | None = None
    format: AnswerFormat | None = None
    options: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    echo: dict[str, Any] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget, compare=False, repr=False)
    drawing: Drawing | None = None


def text_of(content: Content) -> str:
    """What a content says in words, its images left out."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def images_of(content: Content) -> list[dict[str, Any]]:
    """The image_url parts of a content."""
    return [] if isinstance(content, str) else [p for p in content if p["type"] == "image_url"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One call to a model.

    `messages` are `{"role", "content"}` with the roles system, user and assistant, and a `Content`
    each. `options` are sampling parameters, and `tools` the members of OpenAI's that offer native
    tools, with which the assistant's `tool_calls` and the role tool appear as well. With a
    `drawing` the answer is a picture of what the last user message says.
    """

    messages: list[dict[str, Any]]
    thinking: bool = True
    online: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, Any] = field(default_factory=dict)
    drawing: Drawing | None = None
