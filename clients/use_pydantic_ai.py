"""pydantic-ai's AnthropicModel: agents with tools, typed output, thinking, errors."""

import asyncio
from typing import Any

from cases import BASE_URL, FINAL, HELLO, KEY, PARIS, case, run, thrown
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ToolOutput  # type: ignore[import-not-found]
from pydantic_ai.exceptions import ModelHTTPError  # type: ignore[import-not-found]
from pydantic_ai.models.anthropic import AnthropicModel  # type: ignore[import-not-found]
from pydantic_ai.providers.anthropic import AnthropicProvider  # type: ignore[import-not-found]

STATUSES = {"error 429": 429, "error 402": 402, "error 401": 424, "error 400": 400,
            "error 500": 502, "empty": 502}  # fmt: skip
RUNNER = asyncio.Runner()


class City(BaseModel):
    """What the model is asked for."""

    name: str
    people: int


def agent(key: str = KEY, **options: Any) -> Any:
    provider = AnthropicProvider(base_url=BASE_URL.removesuffix("/v1"), api_key=key)
    provider.client.max_retries = 0
    settings = {"max_tokens": 20_000, "timeout": 20}
    model = AnthropicModel("gpt-4.1", provider=provider)
    return Agent(model, **{"model_settings": settings, **options})


def weather(city: str) -> str:
    """Tells it."""
    return f"18 degrees in {city}"


def whole(who: Any, words: Any) -> Any:
    return RUNNER.run(who.run(words))


def streamed(who: Any, words: Any) -> Any:
    async def work() -> Any:
        async with who.run_stream(words) as result:
            await result.get_output()
            return result

    return RUNNER.run(work())


def output(result: Any) -> Any:
    if hasattr(result, "output"):
        return result.output
    return RUNNER.run(result.get_output())


for way, ask in {"run": whole, "run_stream": streamed}.items():

    @case(f"{way}: text and usage")
    def _(ask: Any = ask) -> None:
        result = ask(agent(), "hello")
        assert output(result) == HELLO
        usage = result.usage() if callable(result.usage) else result.usage
        assert usage.input_tokens > 0
        assert usage.output_tokens > 0

    @case(f"{way}: thinking")
    def _(ask: Any = ask) -> None:
        settings = {"max_tokens": 20_000, "anthropic_thinking": {"type": "adaptive"}}
        result = ask(agent(model_settings=settings), "reason")
        assert output(result) == "Two."
        parts = result.all_messages()[-1].parts
        assert [part.content for part in parts] == ["One and one.", "Two."]

    @case(f"{way}: a tool is run")
    def _(ask: Any = ask) -> None:
        assert output(ask(agent(tools=[weather]), "tool please")) == FINAL

    @case(f"{way}: typed output")
    def _(ask: Any = ask) -> None:
        typed = agent(output_type=ToolOutput(City, name="weather"))
        assert output(ask(typed, "city call please")) == City.model_validate(PARIS)

    @case(f"{way}: image")
    def _(ask: Any = ask) -> None:
        picture = BinaryContent(b"a picture", media_type="image/png")
        assert output(ask(agent(), ["look", picture])).startswith("https://files.example/f/")

    @case(f"{way}: silence")
    def _(ask: Any = ask) -> None:
        assert output(ask(agent(), "silence")) == "late, but here"

    for words, status in STATUSES.items():

        @case(f"{way}: {words}")
        def _(ask: Any = ask, way: str = way, words: str = words, status: int = status) -> None:
            wrong = thrown(lambda: ask(agent(), f"{words} for pydantic-ai {way}"))
            assert isinstance(wrong, ModelHTTPError), repr(wrong)
            assert wrong.status_code == status

    @case(f"{way}: wrong key")
    def _(ask: Any = ask) -> None:
        wrong = thrown(lambda: ask(agent(key="wrong"), "hello"))
        assert isinstance(wrong, ModelHTTPError), repr(wrong)
        assert wrong.status_code == 401

    @case(f"{way}: cut")
    def _(ask: Any = ask) -> None:
        wrong = thrown(lambda: ask(agent(), "cut"))
        assert isinstance(wrong, ModelHTTPError), repr(wrong)
        assert "broke off" in str(wrong)


run()
