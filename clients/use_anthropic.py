"""anthropic: create, raw streams, `.stream()`, the tool runner, structured output, counting."""

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from cases import (
    BASE_URL,
    CITY,
    FINAL,
    HELLO,
    KEY,
    PARAMETERS,
    PARIS,
    PNG,
    assert_hung_up,
    case,
    run,
    thrown,
    upstream,
)
from pydantic import BaseModel

ROOT = BASE_URL.removesuffix("/v1")
OPTIONS: dict[str, Any] = {"base_url": ROOT, "api_key": KEY, "timeout": 20, "max_retries": 0}
TOOL = {"name": "weather", "description": "Tells it.", "input_schema": PARAMETERS}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
REFUSALS = {
    "error 429": anthropic.RateLimitError,
    "error 402": anthropic.APIStatusError,
    "error 401": anthropic.APIStatusError,
    "error 400": anthropic.BadRequestError,
    "error 500": anthropic.InternalServerError,
    "empty": anthropic.InternalServerError,
}
STATUSES = {"error 429": 429, "error 402": 402, "error 401": 424, "error 400": 400,
            "error 500": 502, "empty": 502}  # fmt: skip
client = Anthropic(**OPTIONS)
RUNNER = asyncio.Runner()


class City(BaseModel):
    """What the model is asked for."""

    name: str
    people: int


def asked(words: Any, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": words}] if not isinstance(words, list) else words
    return {"model": "gpt-4.1", "max_tokens": 20_000, "messages": messages, **fields}


def create(words: Any, *, client: Anthropic = client, **fields: Any) -> Any:
    return client.messages.create(**asked(words, **fields))


def streamed(words: Any, *, client: Anthropic = client, **fields: Any) -> Any:
    with client.messages.stream(**asked(words, **fields)) as stream:
        return stream.get_final_message()


def astreamed(words: Any, *, client: Anthropic = client, **fields: Any) -> Any:
    async def work() -> Any:
        other = AsyncAnthropic(**{**OPTIONS, "api_key": client.api_key})
        async with other, other.messages.stream(**asked(words, **fields)) as stream:
            return await stream.get_final_message()

    return RUNNER.run(work())


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


WAYS: dict[str, Callable[..., Any]] = {"create": create, "stream": streamed, "async": astreamed}


def cases_of(way: str, ask: Callable[..., Any]) -> None:
    @case(f"{way}: text, usage, reason")
    def _() -> None:
        answer = ask("hello")
        assert text(answer) == HELLO
        assert answer.model == "gpt-4.1"
        assert answer.stop_reason == "end_turn"
        assert answer.usage.input_tokens > 0
        assert 0 < answer.usage.output_tokens < 40

    @case(f"{way}: thoughts only where they are wanted")
    def _() -> None:
        assert [block.type for block in ask("reason").content] == ["text"]
        answer = ask("reason", thinking={"type": "enabled", "budget_tokens": 1024})
        thought, said = answer.content
        assert (thought.thinking, said.text) == ("One and one.", "Two.")
        assert thought.signature
        history = [*asked("reason")["messages"], {"role": "assistant", "content": answer.content}]
        assert ask([*history, {"role": "user", "content": "hello"}]).content[0].text == HELLO

    @case(f"{way}: tool round trip")
    def _() -> None:
        first = ask("tool please", tools=[TOOL])
        assert first.stop_reason == "tool_use"
        (call,) = first.content
        assert (call.name, call.input) == ("weather", {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees"}
        history = [
            *asked("tool please")["messages"],
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        assert text(ask(history, tools=[TOOL])) == FINAL

    @case(f"{way}: two tools after words")
    def _() -> None:
        answer = ask("two tools please", tools=[TOOL])
        assert text(answer) == "I shall look."
        calls = [block.input["city"] for block in answer.content if block.type == "tool_use"]
        assert calls == ["Paris", "Rome"]
        assert len({block.id for block in answer.content if block.type == "tool_use"}) == 2

    @case(f"{way}: native tools")
    def _() -> None:
        answer = ask("two tools please", tools=[TOOL], model="native")
        assert [block.input["city"] for block in answer.content] == ["Paris", "Rome"]

    choices: list[dict[str, Any]] = [{"type": "any"}, {"type": "tool", "name": "weather"}]
    for choice in choices:

        @case(f"{way}: tool choice {choice['type']}")
        def _(choice: Any = choice) -> None:
            answer = ask("tool at the second try", tools=[TOOL], tool_choice=choice)
            assert answer.content[0].name == "weather"

    @case(f"{way}: a search tells its pages")
    def _() -> None:
        answer = ask("search", tools=[SEARCH], model="library")
        assert [b.type for b in answer.content] == [
            "server_tool_use", "web_search_tool_result", "text",
        ]  # fmt: skip
        assert answer.content[1].content[0].url == "https://cats.example/all"
        assert answer.content[2].citations[0].url == "https://cats.example/all"
        assert answer.usage.server_tool_use.web_search_requests == 1

    @case(f"{way}: json")
    def _() -> None:
        wanted = {"format": {"type": "json_schema", "schema": CITY}}
        assert City.model_validate_json(
            text(ask("json please", output_config=wanted))
        ) == City.model_validate(PARIS)

    @case(f"{way}: image")
    def _() -> None:
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        answer = ask([{"role": "user", "content": [{"type": "image", "source": source}]}])
        assert text(answer).startswith("https://files.example/f/")

    @case(f"{way}: stop sequence")
    def _() -> None:
        answer = ask("long", stop_sequences=["end"])
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "end")

    @case(f"{way}: length")
    def _() -> None:
        answer = ask("long", max_tokens=5)
        assert answer.stop_reason == "max_tokens"

    @case(f"{way}: long")
    def _() -> None:
        assert len(text(ask("long")).split()) == 5001

    @case(f"{way}: silence")
    def _() -> None:
        assert text(ask("silence")) == "late, but here"

    for words, kind in REFUSALS.items():

        @case(f"{way}: {words}")
        def _(words: str = words, kind: Any = kind) -> None:
            wrong = thrown(lambda: ask(f"{words} for anthropic {way}"))
            assert isinstance(wrong, kind), repr(wrong)
            assert wrong.status_code == STATUSES[words]
            assert wrong.request_id
            assert wrong.body["type"] == "error"

    @case(f"{way}: wrong key")
    def _() -> None:
        other = Anthropic(**{**OPTIONS, "api_key": "wrong"})
        wrong = thrown(lambda: ask("hello", client=other))
        assert isinstance(wrong, anthropic.AuthenticationError), repr(wrong)

    @case(f"{way}: unknown model")
    def _() -> None:
        assert isinstance(thrown(lambda: ask("hello", model="no")), anthropic.NotFoundError)

    @case(f"{way}: cut")
    def _() -> None:
        wrong = thrown(lambda: ask("cut"))
        assert isinstance(wrong, anthropic.APIStatusError), repr(wrong)
        body: Any = wrong.body
        assert body["error"]["type"] == "api_error"


for each in WAYS.items():
    cases_of(*each)


@case("a raw stream gives each piece as it comes")
def _() -> None:
    with client.messages.create(**asked("hello"), stream=True) as events:
        kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_delta") >= 3


@case("the count is the usage")
def _() -> None:
    fields = asked("hello", tools=[TOOL], system="Be brief.")
    del fields["max_tokens"]
    counted = client.messages.count_tokens(**fields).input_tokens
    assert counted == create("hello", tools=[TOOL], system="Be brief.").usage.input_tokens


@case("models")
def _() -> None:
    names = [model.id for model in client.models.list()]
    assert "gpt-4.1" in names
    assert client.models.retrieve("gpt-4.1").type == "model"
    assert isinstance(thrown(lambda: client.models.retrieve("no")), anthropic.NotFoundError)


@case("parse gives the object")
def _() -> None:
    parsed = client.messages.parse(**asked("json please"), output_format=City)
    assert parsed.parsed_output == City.model_validate(PARIS)


@case("the tool runner runs the tool and ends")
def _() -> None:
    @beta_tool
    def weather(city: str) -> str:
        """Tells it.

        Args:
            city: where
        """
        return f"18 degrees in {city}"

    runner = client.beta.messages.tool_runner(**asked("tool please"), tools=[weather])
    assert text(runner.until_done()) == FINAL


@case("the package tries again by itself, and no more than it has to")
def _() -> None:
    words = "error 500 for anthropic's retries"
    thrown(lambda: create(words, client=Anthropic(**{**OPTIONS, "max_retries": 2})))
    assert upstream(words)["calls"] == 1


@case("leaving a stream ends the call to Flowith")
def _() -> None:
    words = "silence until anthropic leaves"
    with client.messages.create(**asked(words), stream=True) as events:
        next(iter(events))
    assert_hung_up(words)


run()
