"""LlamaIndex's OpenAILike and OpenAIResponses: chat, streams, agents, structured output."""

import asyncio
from functools import partial
from typing import Any

from cases import (
    BASE_URL,
    FINAL,
    HELLO,
    KEY,
    PARIS,
    REFUSALS,
    case,
    run,
    thrown,
)
from llama_index.core.agent.workflow import FunctionAgent  # type: ignore[import-not-found]
from llama_index.core.llms import (  # type: ignore[import-not-found]
    ChatMessage,
    ImageBlock,
    TextBlock,
)
from llama_index.core.tools import FunctionTool  # type: ignore[import-not-found]
from llama_index.llms.openai import OpenAIResponses  # type: ignore[import-not-found]
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-not-found]
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    name: str
    people: int


def like(key: str = KEY) -> Any:
    return OpenAILike(
        model="gpt-4.1",
        api_base=BASE_URL,
        api_key=key,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        context_window=128_000,
        max_retries=0,
    )


def responses(key: str = KEY) -> Any:
    return OpenAIResponses(model="gpt-4.1", api_base=BASE_URL, api_key=key, max_retries=0)


def weather(city: str) -> str:
    """Tells it."""
    return f"18 degrees in {city}"


def asked(words: str) -> list[Any]:
    return [ChatMessage(role="user", content=words)]


def streamed(model: Any, words: str) -> str:
    return "".join(piece.delta or "" for piece in model.stream_chat(asked(words)))


def cases_of(kind: str, make: Any) -> None:
    @case(f"{kind}: text")
    def _() -> None:
        assert make().chat(asked("hello")).message.content == HELLO
        assert streamed(make(), "hello") == HELLO

    @case(f"{kind}: a long answer and a late one")
    def _() -> None:
        assert streamed(make(), "long").endswith("word end")
        assert streamed(make(), "silence") == "late, but here"

    for streaming in (True, False):
        for words, calls in {"tool please": 1, "two tools": 2}.items():

            @case(f"{kind}: an agent, {words}, {streaming=}")
            def _(words: str = words, calls: int = calls, streaming: bool = streaming) -> None:
                tools = [FunctionTool.from_defaults(weather)]
                agent = FunctionAgent(tools=tools, llm=make(), streaming=streaming)

                async def work() -> Any:
                    return await agent.run(words)

                answer = asyncio.run(work())
                assert str(answer) == FINAL
                assert len(answer.tool_calls) == calls

    @case(f"{kind}: structured output")
    def _() -> None:
        answer = make().as_structured_llm(City).chat(asked("json please"))
        assert answer.raw == City.model_validate(PARIS)

    @case(f"{kind}: image")
    def _() -> None:
        picture = ImageBlock(image=b"a picture", image_mimetype="image/png")
        said = ChatMessage(role="user", blocks=[TextBlock(text="look"), picture])
        assert make().chat([said]).message.content.startswith("https://files.example/f/")

    @case(f"{kind}: refusals")
    def _() -> None:
        for words, status in REFUSALS.items():
            said = asked(f"{words} for LlamaIndex, {kind}")
            wrong = thrown(partial(make().chat, said))
            assert wrong.status_code == status, wrong
        assert thrown(lambda: make("wrong").chat(asked("hello"))).status_code == 401

    @case(f"{kind}: a cut stream is not taken for a whole one")
    def _() -> None:
        assert "broke off" in str(thrown(lambda: streamed(make(), "cut")))


@case("OpenAILike: structured output that is streamed")
def _() -> None:
    *_, last = like().as_structured_llm(City).stream_chat(asked("json please"))
    assert last.raw == City.model_validate(PARIS)


cases_of("OpenAILike", like)
cases_of("OpenAIResponses", responses)
run()
