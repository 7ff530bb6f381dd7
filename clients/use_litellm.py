"""litellm: completion whole and streamed, tools, structured output, its classes of errors."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import litellm  # type: ignore[import-not-found]
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

litellm.suppress_debug_info = True
Ask = Callable[..., Any]


def given(words: str, options: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": words}]
    known = {"model": "openai/gpt-4.1", "api_base": BASE_URL, "api_key": KEY, "timeout": 20}
    return {**known, "messages": messages, **options}


def whole(words: str, **options: Any) -> Any:
    return litellm.completion(**given(words, options))


def streamed(words: str, **options: Any) -> Any:
    chunks = list(litellm.completion(**given(words, options), stream=True))
    return litellm.stream_chunk_builder(chunks)


def astreamed(words: str, **options: Any) -> Any:
    async def work() -> Any:
        stream = await litellm.acompletion(**given(words, options), stream=True)
        return litellm.stream_chunk_builder([chunk async for chunk in stream])

    return RUNNER.run(work())


RUNNER = asyncio.Runner()
# litellm goes by the type of an error, which is `invalid_request_error` with 424
CLASSES = {400: litellm.BadRequestError, 402: litellm.APIError, 424: litellm.BadRequestError,
           429: litellm.RateLimitError,
           502: litellm.BadGatewayError, 503: litellm.ServiceUnavailableError}  # fmt: skip


def cases_of(way: str, ask: Ask) -> None:
    @case(f"{way}: text and usage")
    def _() -> None:
        options = {} if ask is whole else {"stream_options": {"include_usage": True}}
        answer = ask("hello", **options)
        assert answer.choices[0].message.content == HELLO, answer
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens > answer.usage.completion_tokens > 0

    @case(f"{way}: reasoning")
    def _() -> None:
        message = ask("reason").choices[0].message
        assert (message.content, message.reasoning_content) == ("Two.", "One and one.")

    @case(f"{way}: tool round trip")
    def _() -> None:
        choice = ask("tool please", tools=[WEATHER]).choices[0]
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls"
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
        history = [{"role": "user", "content": "tool please"}, choice.message.model_dump(), result]
        answer = ask("", tools=[WEATHER], messages=history)
        assert answer.choices[0].message.content == FINAL

    @case(f"{way}: two tools after words")
    def _() -> None:
        message = ask("two tools please", tools=[WEATHER]).choices[0].message
        cities = [json.loads(call.function.arguments)["city"] for call in message.tool_calls]
        assert (message.content, cities) == ("I shall look.", ["Paris", "Rome"])

    @case(f"{way}: native tools")
    def _() -> None:
        answer = ask("two tools please", model="openai/native", tools=[WEATHER])
        assert len(answer.choices[0].message.tool_calls) == 2

    @case(f"{way}: required tool")
    def _() -> None:
        answer = ask("tool at the second try", tools=[WEATHER], tool_choice="required")
        assert answer.choices[0].message.tool_calls[0].function.name == "weather"

    for kind in ("json_object", "json_schema"):

        @case(f"{way}: {kind}")
        def _(kind: str = kind) -> None:
            named = {"name": "city", "schema": CITY, "strict": True}
            schema = {"json_schema": named} if kind == "json_schema" else {}
            answer = ask("json please", response_format={"type": kind, **schema})
            assert json.loads(answer.choices[0].message.content) == PARIS

    @case(f"{way}: silence")
    def _() -> None:
        assert ask("silence").choices[0].message.content == "late, but here"

    @case(f"{way}: length")
    def _() -> None:
        assert ask("long", max_tokens=5).choices[0].finish_reason == "length"

    for words, status in REFUSALS.items():

        @case(f"{way}: {words}")
        def _(words: str = words, status: int = status) -> None:
            text = f"{words} for litellm {way}"
            wrong = thrown(lambda: ask(text))
            assert isinstance(wrong, CLASSES[status]), repr(wrong)
            assert wrong.status_code == status, wrong.status_code
            assert upstream(text)["calls"] == (2 if words == "error 401" else 1)

    @case(f"{way}: wrong key")
    def _() -> None:
        wrong = thrown(lambda: ask("hello", api_key="wrong"))
        assert isinstance(wrong, litellm.AuthenticationError), repr(wrong)

    @case(f"{way}: unknown model")
    def _() -> None:
        wrong = thrown(lambda: ask("hello", model="openai/no"))
        assert isinstance(wrong, litellm.NotFoundError), repr(wrong)

    @case(f"{way}: cut")
    def _() -> None:
        wrong = thrown(lambda: ask("cut"))
        assert "broke off" in str(wrong) or "cut" in str(wrong), repr(wrong)


for each in {"completion": whole, "stream": streamed, "async stream": astreamed}.items():
    cases_of(*each)


@case("pieces come one by one")
def _() -> None:
    stream = litellm.completion(**given("hello", {}), stream=True)
    assert len([chunk for chunk in stream if chunk.choices[0].delta.content]) >= 3


@case("n")
def _() -> None:
    assert [c.message.content for c in whole("hello", n=3).choices] == [HELLO] * 3


@case("image")
def _() -> None:
    parts = [{"type": "text", "text": "image"}, IMAGE]
    answer = whole("", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content.startswith("https://files.example/f/")


@case("timeout stops Flowith")
def _() -> None:
    words = "wait for timeout of litellm"
    wrong = thrown(lambda: whole(words, timeout=0.5, max_retries=0))
    assert isinstance(wrong, litellm.Timeout), repr(wrong)
    assert_hung_up(words)


@case("legacy completions")
def _() -> None:
    options = {"model": "text-completion-openai/gpt-4.1", "prompt": "hello"}
    answer = litellm.text_completion(**options, api_base=BASE_URL, api_key=KEY)
    assert answer.choices[0].text == HELLO


run()
