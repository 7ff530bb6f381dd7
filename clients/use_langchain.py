"""langchain-openai: invoke, stream, tools, structured output, usage."""

import asyncio
from collections.abc import Callable
from typing import Any

import openai
from cases import (
    BASE_URL,
    CITY,
    FINAL,
    HELLO,
    IMAGE,
    KEY,
    PARIS,
    REFUSALS,
    WEATHER,
    assert_hung_up,
    case,
    run,
    thrown,
    upstream,
)
from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI, OpenAI  # type: ignore[import-not-found]

Ask = Callable[..., Any]
CLASSES = {
    400: openai.BadRequestError, 401: openai.AuthenticationError, 402: openai.APIStatusError,
    404: openai.NotFoundError, 424: openai.APIStatusError, 429: openai.RateLimitError,
}  # fmt: skip


def llm(**options: Any) -> Any:
    given = {"model": "gpt-4.1", "base_url": BASE_URL, "api_key": KEY, "timeout": 20}
    return ChatOpenAI(**{**given, **options})


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


RUNNER = asyncio.Runner()  # one loop for all, since all models share their connections
WAYS: dict[str, Ask] = {
    "invoke": lambda model, asked: model.invoke(asked),
    "stream": streamed,
    "astream": astreamed,
}


def cases_of(way: str, ask: Ask) -> None:
    @case(f"{way}: text and usage")
    def _() -> None:
        answer = ask(llm(stream_usage=True), "hello")
        assert answer.content == HELLO, answer
        assert answer.response_metadata["finish_reason"] == "stop"
        usage = answer.usage_metadata
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
        assert 0 < usage["output_tokens"] < 40

    @case(f"{way}: reasoning")
    def _() -> None:
        assert ask(llm(), "reason").content == "Two."

    @case(f"{way}: tool round trip")
    def _() -> None:
        model = llm().bind_tools([WEATHER])
        first = ask(model, "tool please")
        (call,) = first.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
        assert not first.invalid_tool_calls
        result = ToolMessage("18 degrees", tool_call_id=call["id"])
        assert ask(model, [HumanMessage("tool please"), first, result]).content == FINAL

    @case(f"{way}: two tools after words")
    def _() -> None:
        answer = ask(llm().bind_tools([WEATHER]), "two tools please")
        assert answer.content == "I shall look."
        assert [call["args"]["city"] for call in answer.tool_calls] == ["Paris", "Rome"]

    @case(f"{way}: native tools")
    def _() -> None:
        answer = ask(llm(model="native").bind_tools([WEATHER]), "two tools please")
        assert [call["args"]["city"] for call in answer.tool_calls] == ["Paris", "Rome"]

    for choice in ("any", "weather"):

        @case(f"{way}: tool choice {choice}")
        def _(choice: str = choice) -> None:
            model = llm().bind_tools([WEATHER], tool_choice=choice)
            (call,) = ask(model, "tool at the second try").tool_calls
            assert call["name"] == "weather"

    @case(f"{way}: silence")
    def _() -> None:
        assert ask(llm(), "silence").content == "late, but here"

    @case(f"{way}: long")
    def _() -> None:
        assert len(ask(llm(), "long").content.split()) == 5001

    for words, status in REFUSALS.items():

        @case(f"{way}: {words}")
        def _(words: str = words, status: int = status) -> None:
            text = f"{words} for langchain {way}"
            wrong = thrown(lambda: ask(llm(), text))
            assert isinstance(wrong, CLASSES.get(status, openai.InternalServerError)), repr(wrong)
            assert wrong.status_code == status
            assert upstream(text)["calls"] == (2 if words == "error 401" else 1)

    @case(f"{way}: wrong key")
    def _() -> None:
        wrong = thrown(lambda: ask(llm(api_key="wrong"), "hello"))
        assert isinstance(wrong, openai.AuthenticationError)

    @case(f"{way}: unknown model")
    def _() -> None:
        wrong = thrown(lambda: ask(llm(model="no"), "hello"))
        assert isinstance(wrong, openai.NotFoundError)

    @case(f"{way}: cut")
    def _() -> None:
        wrong = thrown(lambda: ask(llm(), "cut"))
        assert isinstance(wrong, openai.APIError), repr(wrong)
        assert wrong.code == "upstream_cut"


for each in WAYS.items():
    cases_of(*each)

for method in ("json_schema", "function_calling", "json_mode"):

    @case(f"with_structured_output, {method}")
    def _(method: str = method) -> None:
        schema = {**CITY, "title": "weather"} if method == "function_calling" else CITY
        model = llm().with_structured_output(schema, method=method)
        words = "city call please" if method == "function_calling" else "json please"
        assert model.invoke(words) == PARIS
        *_, last = model.stream(words)
        assert last == PARIS


@case("with_structured_output at the second try")
def _() -> None:
    assert llm().with_structured_output(CITY).invoke("json at the second try") == PARIS


@case("pieces come one by one")
def _() -> None:
    assert len([chunk for chunk in llm().stream("hello") if chunk.content]) >= 3


@case("batch")
def _() -> None:
    answers = [answer.content for answer in llm().batch(["hello", "reason", "hello"])]
    assert answers == [HELLO, "Two.", HELLO]


@case("n")
def _() -> None:
    (found,) = llm(n=3).generate([[HumanMessage("hello")]]).generations
    assert [one.text for one in found] == [HELLO] * 3


@case("image")
def _() -> None:
    answer = llm().invoke([HumanMessage([{"type": "text", "text": "image"}, IMAGE])])
    assert answer.content.startswith("https://files.example/f/")


@case("stop and max_tokens")
def _() -> None:
    words = "wait for stop of langchain"
    assert llm(stop=["beg"]).invoke(words).content == "not "
    assert_hung_up(words)
    assert llm(max_tokens=5).invoke("long").response_metadata["finish_reason"] == "length"


@case("leaving the loop stops Flowith")
def _() -> None:
    words = "wait for break of langchain"
    stream = llm().stream(words)
    assert next(stream) is not None
    stream.close()
    assert_hung_up(words)


@case("legacy completions")
def _() -> None:
    model = OpenAI(model="gpt-4.1", base_url=BASE_URL, api_key=KEY)
    assert model.invoke("hello") == HELLO
    assert "".join(model.stream("hello")) == HELLO


run()
