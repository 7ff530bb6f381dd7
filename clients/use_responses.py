"""openai's own package and the Responses API: raw calls, the stream helper, parse."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
from cases import (
    BASE_URL,
    CITY,
    FINAL,
    HELLO,
    KEY,
    PARAMETERS,
    PARIS,
    assert_hung_up,
    case,
    run,
    thrown,
    upstream,
)
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

CLIENT = OpenAI(base_url=BASE_URL, api_key=KEY, timeout=20)
WEATHER: Any = {
    "type": "function", "name": "weather", "description": "Tells it.", "parameters": PARAMETERS,
    "strict": False,
}  # fmt: skip
IMAGE = "data:image/png;base64,YSBwaWN0dXJl"
RUNNER = asyncio.Runner()


class City(BaseModel):
    name: str
    people: int


def whole(words: Any, **options: Any) -> Any:
    return CLIENT.responses.create(**{"model": "gpt-4.1", "input": words, **options})


def streamed(words: Any, **options: Any) -> Any:
    """The last response of a raw stream."""
    *_, last = CLIENT.responses.create(
        **{"model": "gpt-4.1", "input": words, "stream": True, **options}
    )
    return last.response


def helped(words: Any, **options: Any) -> Any:
    with CLIENT.responses.stream(**{"model": "gpt-4.1", "input": words, **options}) as stream:
        return stream.get_final_response()


def asynchronous(words: Any, **options: Any) -> Any:
    async def work() -> Any:
        async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY) as client:
            asked = {"model": "gpt-4.1", "input": words, **options}
            async with client.responses.stream(**asked) as stream:
                return await stream.get_final_response()

    return RUNNER.run(work())


def cases_of(way: str, ask: Callable[..., Any]) -> None:
    @case(f"{way}: text and usage")
    def _() -> None:
        answer = ask("hello")
        assert answer.output_text == HELLO, answer
        assert answer.status == "completed"
        usage = answer.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0

    @case(f"{way}: thoughts")
    def _() -> None:
        thought, message = ask("reason").output
        assert (thought.type, thought.summary[0].text) == ("reasoning", "One and one.")
        assert message.content[0].text == "Two."

    @case(f"{way}: tool round trip")
    def _() -> None:
        first = ask("tool please", tools=[WEATHER])
        (call,) = first.output
        assert (call.name, call.arguments) == ("weather", '{"city":"Paris"}'), call
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "18"}
        asked = [{"role": "user", "content": "tool please"}, *first.output, result]
        assert ask(asked, tools=[WEATHER]).output_text == FINAL

    @case(f"{way}: two calls after words")
    def _() -> None:
        message, one, two = ask("two tools please", tools=[WEATHER]).output
        assert message.content[0].text == "I shall look."
        assert one.call_id != two.call_id

    @case(f"{way}: structured output")
    def _() -> None:
        wanted = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
        answer = ask("json please", text={"format": wanted})
        assert City.model_validate_json(answer.output_text).model_dump() == PARIS

    @case(f"{way}: image, and a second turn")
    def _() -> None:
        parts = [{"type": "input_text", "text": "image"},
                 {"type": "input_image", "image_url": IMAGE}]  # fmt: skip
        user = {"role": "user", "content": parts}
        answer = ask([user])
        assert answer.output_text.startswith("https://files.example/f/")
        assert ask([user, *answer.output, {"role": "user", "content": "hello"}]).output_text

    @case(f"{way}: silence and length")
    def _() -> None:
        assert ask("silence").output_text == "late, but here"

    @case(f"{way}: refusals")
    def _() -> None:
        for words, kind in (("error 400", openai.BadRequestError), ("empty", openai.APIError)):
            text = f"{words} {way} of openai's responses"
            wrong = thrown(partial(ask, text))
            assert isinstance(wrong, kind), repr(wrong)
            assert upstream(text)["calls"] == 1


for each in {"create": whole, "raw stream": streamed, "stream()": helped,
             "async stream()": asynchronous}.items():  # fmt: skip
    cases_of(*each)


@case("parse")
def _() -> None:
    answer = CLIENT.responses.parse(model="gpt-4.1", input="json please", text_format=City)
    assert answer.output_parsed is not None
    assert answer.output_parsed.model_dump() == PARIS


@case("incomplete")
def _() -> None:
    for ask in (whole, streamed):
        answer = ask("long", max_output_tokens=20)
        assert answer.status == "incomplete"
        assert answer.incomplete_details.reason == "max_output_tokens"


@case("a cut stream is an error")
def _() -> None:
    for ask in (streamed, helped):
        wrong = thrown(partial(ask, "cut"))
        assert (type(wrong), wrong.code) == (openai.APIError, "server_error")
        assert "broke off" in wrong.message


@case("nothing is stored")
def _() -> None:
    asked = {"previous_response_id": "resp_1"}
    wrong = thrown(lambda: whole("hello", **asked))
    assert (type(wrong), wrong.code) == (openai.BadRequestError, "previous_response_not_found")
    for gone in (CLIENT.responses.retrieve, CLIENT.responses.cancel):
        assert isinstance(thrown(partial(gone, "resp_1")), openai.NotFoundError)


@case("tokens counted, a conversation made short")
def _() -> None:
    count = CLIENT.responses.input_tokens.count(model="gpt-4.1", input="hello")
    assert count.input_tokens > 0
    short = CLIENT.responses.compact(model="gpt-4.1", input="hello")
    assert [item.type for item in short.output] == ["compaction"]
    assert whole([*short.output, {"role": "user", "content": "hello"}]).output_text == HELLO


@case("leaving a stream stops Flowith")
def _() -> None:
    words = "wait for the end of openai's stream"
    stream = CLIENT.responses.create(model="gpt-4.1", input=words, stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    assert_hung_up(words)


run()
