"""langchain-anthropic: invoke, stream, thinking, tools, structured output, usage, errors."""

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
from cases import (
    BASE_URL,
    CITY,
    FINAL,
    HELLO,
    KEY,
    PARIS,
    WEATHER,
    assert_hung_up,
    case,
    run,
    thrown,
)
from langchain_anthropic import ChatAnthropic  # type: ignore[import-not-found]
from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]

STATUSES = {"error 429": 429, "error 402": 402, "error 401": 424, "error 400": 400,
            "error 500": 502, "empty": 502}  # fmt: skip
RUNNER = asyncio.Runner()  # one loop for all, since all models share their connections


def llm(**options: Any) -> Any:
    given = {"model": "gpt-4.1", "base_url": BASE_URL.removesuffix("/v1"), "api_key": KEY}
    limits = {"max_tokens": 20_000, "timeout": 20, "max_retries": 0}
    return ChatAnthropic(**{**given, **limits, **options})


def streamed(model: Any, asked: Any) -> Any:
    whole = None
    for chunk in model.stream(asked):
        whole = chunk if whole is None else whole + chunk
    return whole


def astreamed(model: Any, asked: Any) -> Any:
    async def work() -> Any:
        whole = None
        async for chunk in model.astream(asked):
            whole = chunk if whole is None else whole + chunk
        return whole

    return RUNNER.run(work())


WAYS: dict[str, Callable[..., Any]] = {
    "invoke": lambda model, asked: model.invoke(asked),
    "stream": streamed,
    "astream": astreamed,
}


def cases_of(way: str, ask: Callable[..., Any]) -> None:
    @case(f"{way}: text and usage")
    def _() -> None:
        answer = ask(llm(), "hello")
        assert answer.text == HELLO, answer
        assert answer.response_metadata["stop_reason"] == "end_turn"
        usage = answer.usage_metadata
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
        assert 0 < usage["output_tokens"] < 40

    @case(f"{way}: thinking, there and back")
    def _() -> None:
        model = llm(thinking={"type": "enabled", "budget_tokens": 1024})
        answer = ask(model, "reason")
        thought, said = answer.content
        assert (thought["thinking"], said["text"]) == ("One and one.", "Two.")
        assert ask(model, [HumanMessage("reason"), answer, HumanMessage("hello")]).text == HELLO

    @case(f"{way}: tool round trip")
    def _() -> None:
        model = llm().bind_tools([WEATHER])
        first = ask(model, "tool please")
        (call,) = first.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
        result = ToolMessage("18 degrees", tool_call_id=call["id"])
        assert ask(model, [HumanMessage("tool please"), first, result]).text == FINAL

    @case(f"{way}: two tools after words")
    def _() -> None:
        answer = ask(llm().bind_tools([WEATHER]), "two tools please")
        assert answer.text == "I shall look."
        assert [call["args"]["city"] for call in answer.tool_calls] == ["Paris", "Rome"]

    for choice in ("any", "weather"):

        @case(f"{way}: tool choice {choice}")
        def _(choice: str = choice) -> None:
            model = llm().bind_tools([WEATHER], tool_choice=choice)
            (call,) = ask(model, "tool at the second try").tool_calls
            assert call["name"] == "weather"

    @case(f"{way}: silence")
    def _() -> None:
        assert ask(llm(), "silence").text == "late, but here"

    @case(f"{way}: long")
    def _() -> None:
        assert len(ask(llm(), "long").text.split()) == 5001

    for words, status in STATUSES.items():

        @case(f"{way}: {words}")
        def _(words: str = words, status: int = status) -> None:
            wrong = thrown(lambda: ask(llm(), f"{words} for langchain-anthropic {way}"))
            assert isinstance(wrong, anthropic.APIStatusError), repr(wrong)
            assert wrong.status_code == status

    @case(f"{way}: cut")
    def _() -> None:
        wrong = thrown(lambda: ask(llm(), "cut"))
        assert isinstance(wrong, anthropic.APIError), repr(wrong)


for each in WAYS.items():
    cases_of(*each)

for method in ("json_schema", "function_calling"):

    @case(f"with_structured_output, {method}")
    def _(method: str = method) -> None:
        schema = {**CITY, "title": "weather"} if method == "function_calling" else CITY
        words = "city call please" if method == "function_calling" else "json please"
        assert llm().with_structured_output(schema, method=method).invoke(words) == PARIS


@case("tokens are counted")
def _() -> None:
    assert llm().get_num_tokens_from_messages([HumanMessage("hello")]) > 0


@case("leaving a stream ends the call to Flowith")
def _() -> None:
    words = "silence until langchain-anthropic leaves"
    stream = llm().stream(words)
    next(stream)
    stream.close()
    assert_hung_up(words)


run()
