"""pydantic-ai with its Responses model."""

import asyncio
from functools import partial
from typing import Any

from cases import BASE_URL, FINAL, HELLO, KEY, PARIS, case, run, thrown
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput  # type: ignore[import-not-found]
from pydantic_ai.models.openai import OpenAIResponsesModel  # type: ignore[import-not-found]
from pydantic_ai.providers.openai import OpenAIProvider  # type: ignore[import-not-found]

LOOP = asyncio.Runner()
MODEL = OpenAIResponsesModel("gpt-4.1", provider=OpenAIProvider(base_url=BASE_URL, api_key=KEY))


class City(BaseModel):
    name: str
    people: int


def weather(city: str) -> str:
    """Tells the weather."""
    return f"18 degrees in {city}"


def whole(agent: Any, words: str, **options: Any) -> Any:
    return LOOP.run(agent.run(words, **options))


def streamed(agent: Any, words: str, **options: Any) -> Any:
    async def work() -> Any:
        async with agent.run_stream(words, **options) as running:
            await running.get_output()
            return running

    return LOOP.run(work())


def output(result: Any) -> Any:
    """What a run gave; a streamed one has it as a coroutine."""
    return LOOP.run(result.get_output()) if hasattr(result, "get_output") else result.output


def cases_of(way: str, ask: Any) -> None:
    @case(f"{way}: text, and a second turn")
    def _() -> None:
        agent = Agent(MODEL, instructions="Be brief.")
        first = ask(agent, "reason")
        assert output(first) == "Two."
        again = ask(agent, "hello", message_history=first.all_messages())
        assert output(again) == HELLO

    @case(f"{way}: tools")
    def _() -> None:
        assert output(ask(Agent(MODEL, tools=[weather]), "tool please")) == FINAL

    @case(f"{way}: output of a type")
    def _() -> None:
        agent = Agent(MODEL, output_type=NativeOutput(City))
        assert output(ask(agent, "json please")).model_dump() == PARIS

    @case(f"{way}: errors")
    def _() -> None:
        for words in ("error 400 of pydantic-ai", "cut"):
            assert thrown(partial(ask, Agent(MODEL), words))


for each in {"run": whole, "run_stream": streamed}.items():
    cases_of(*each)

run()
