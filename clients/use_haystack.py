"""Haystack's generators for chat completions and for Responses, alone and in its Agent."""

from functools import partial
from typing import Any

from cases import BASE_URL, FINAL, HELLO, KEY, PARIS, PNG, REFUSALS, case, run, thrown
from haystack.components.agents import Agent  # type: ignore[import-not-found]
from haystack.components.generators.chat import (  # type: ignore[import-not-found]
    OpenAIChatGenerator,
    OpenAIResponsesChatGenerator,
)
from haystack.dataclasses import ChatMessage, ImageContent  # type: ignore[import-not-found]
from haystack.tools import tool  # type: ignore[import-not-found]
from haystack.utils import Secret  # type: ignore[import-not-found]
from pydantic import BaseModel


class City(BaseModel):
    name: str
    people: int


@tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """Tells it."""
    return f"18 degrees in {city}"


def ignore(_piece: Any) -> None:
    """A listener makes a generator stream."""


def answer(kind: Any, asked: Any, key: str = KEY, **options: Any) -> Any:
    """The reply to some words or to a message."""
    given = {"api_base_url": BASE_URL, "api_key": Secret.from_token(key), "max_retries": 0}
    said = ChatMessage.from_user(asked) if isinstance(asked, str) else asked
    made = kind(model="gpt-4.1", **given, **options).run([said])
    return made["replies"][0]


def agent(kind: Any, words: str, listener: Any) -> Any:
    """How an agent with a tool answers."""
    given = {"api_base_url": BASE_URL, "api_key": Secret.from_token(KEY)}
    model = kind(model="gpt-4.1", **given)
    made = Agent(chat_generator=model, tools=[weather], streaming_callback=listener)
    return made.run(messages=[ChatMessage.from_user(words)])["last_message"]


def cases_of(name: str, kind: Any, typed: str) -> None:
    @case(f"{name}: text and usage")
    def _() -> None:
        pieces: list[str] = []
        assert answer(kind, "hello").text == HELLO
        assert answer(kind, "hello").meta["usage"]["total_tokens"] > 0

        def listen(piece: Any) -> None:
            pieces.append(piece.content)

        assert answer(kind, "hello", streaming_callback=listen).text == HELLO
        assert "".join(pieces) == HELLO

    for words in ("tool please", "two tools"):

        @case(f"{name}: an agent, {words}")
        def _(words: str = words) -> None:
            for listener in (None, ignore):
                assert agent(kind, words, listener).text == FINAL

    @case(f"{name}: typed output")
    def _() -> None:
        told = answer(kind, "json please", generation_kwargs={typed: City}).text
        assert City.model_validate_json(told) == City.model_validate(PARIS)

    @case(f"{name}: image")
    def _() -> None:
        picture = ImageContent(base64_image=PNG, mime_type="image/png", validation=False)
        said = ChatMessage.from_user(content_parts=["look", picture])
        assert answer(kind, said).text.startswith("https://files.example/f/")

    @case(f"{name}: refusals")
    def _() -> None:
        for words, status in REFUSALS.items():
            wrong = thrown(partial(answer, kind, f"{words} for Haystack, {name}"))
            assert wrong.status_code == status, wrong
        assert thrown(lambda: answer(kind, "hello", key="wrong")).status_code == 401

    @case(f"{name}: a cut stream is not taken for a whole one")
    def _() -> None:
        wrong = thrown(lambda: answer(kind, "cut", streaming_callback=ignore))
        assert "broke off" in str(wrong)


cases_of("chat completions", OpenAIChatGenerator, "response_format")
cases_of("Responses", OpenAIResponsesChatGenerator, "text_format")
run()
