"""OpenAI's Agents SDK with its default model, which speaks the Responses API."""

import asyncio
from functools import partial
from typing import Any

from agents import (  # type: ignore[import-not-found]
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from cases import BASE_URL, FINAL, HELLO, KEY, PARIS, assert_hung_up, case, run, thrown
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
LOOP = asyncio.Runner()
CLIENT = AsyncOpenAI(base_url=BASE_URL, api_key=KEY)


class City(BaseModel):
    name: str
    people: int


@function_tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """Tells the weather."""
    return f"18 degrees in {city}"


def agent(**options: Any) -> Any:
    model = OpenAIResponsesModel(model="gpt-4.1", openai_client=CLIENT)
    return Agent(**{"name": "Asker", "instructions": "Be brief.", "model": model, **options})


def whole(who: Any, words: Any) -> Any:
    return LOOP.run(Runner.run(who, words))


def streamed(who: Any, words: Any) -> Any:
    async def work() -> Any:
        running = Runner.run_streamed(who, words)
        async for _event in running.stream_events():
            pass
        return running

    return LOOP.run(work())


def cases_of(way: str, ask: Any) -> None:
    @case(f"{way}: text, and a second turn")
    def _() -> None:
        first = ask(agent(), "hello")
        assert first.final_output == HELLO
        again = [*first.to_input_list(), {"role": "user", "content": "reason"}]
        second = ask(agent(), again)
        assert second.final_output == "Two."
        more = [*second.to_input_list(), {"role": "user", "content": "hello"}]
        assert ask(agent(), more).final_output == HELLO

    @case(f"{way}: tools")
    def _() -> None:
        for words in ("tool please", "two tools please"):
            assert ask(agent(tools=[weather]), words).final_output == FINAL

    @case(f"{way}: output of a type")
    def _() -> None:
        answer = ask(agent(output_type=City), "json please").final_output
        assert answer.model_dump() == PARIS

    @case(f"{way}: a hand-off is a tool")
    def _() -> None:
        other = agent(name="Other", tools=[weather])
        assert ask(agent(handoffs=[other], tools=[weather]), "tool please").final_output == FINAL

    @case(f"{way}: encrypted thoughts")
    def _() -> None:
        settings = ModelSettings(response_include=["reasoning.encrypted_content"])
        first = ask(agent(model_settings=settings), "reason")
        more = [*first.to_input_list(), {"role": "user", "content": "hello"}]
        assert ask(agent(model_settings=settings), more).final_output == HELLO

    @case(f"{way}: errors")
    def _() -> None:
        for words in ("error 400 of the Agents SDK", "cut"):
            assert thrown(partial(ask, agent(), words))


for each in {"run": whole, "run_streamed": streamed}.items():
    cases_of(*each)


@case("cancel stops Flowith")
def _() -> None:
    words = "wait for cancel of the Agents SDK"

    async def work() -> None:
        running = Runner.run_streamed(agent(), words)
        async for event in running.stream_events():
            raw = getattr(event, "data", None)
            if getattr(raw, "type", "") == "response.output_text.delta":
                running.cancel()
                break
        await asyncio.sleep(0.5)  # what is cancelled needs the loop to end

    LOOP.run(work())
    assert_hung_up(words)


run()
