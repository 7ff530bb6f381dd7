"""langchain-openai with its Responses switch."""

from functools import partial
from typing import Any

from cases import BASE_URL, CITY, FINAL, HELLO, KEY, PARIS, WEATHER, case, run, thrown
from langchain_core.messages import HumanMessage, ToolMessage  # type: ignore[import-not-found]
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]


def llm(**options: Any) -> Any:
    given = {"model": "gpt-4.1", "base_url": BASE_URL, "api_key": KEY, "timeout": 20}
    return ChatOpenAI(**{**given, "use_responses_api": True, **options})


def whole(model: Any, asked: Any) -> Any:
    return model.invoke(asked)


def streamed(model: Any, asked: Any) -> Any:
    answer = None
    for chunk in model.stream(asked):
        answer = chunk if answer is None else answer + chunk
    return answer


def cases_of(way: str, ask: Any) -> None:
    @case(f"{way}: text and usage")
    def _() -> None:
        answer = ask(llm(), "hello")
        assert answer.text == HELLO, answer
        assert answer.usage_metadata["total_tokens"] > 0

    @case(f"{way}: thoughts, and a second turn")
    def _() -> None:
        model = llm(reasoning={"effort": "low", "summary": "auto"})
        answer = ask(model, "reason")
        assert answer.text == "Two."
        assert any(block["type"] == "reasoning" for block in answer.content)
        asked = [HumanMessage("reason"), answer, HumanMessage("hello")]
        assert ask(model, asked).text == HELLO

    @case(f"{way}: tool round trip")
    def _() -> None:
        model = llm().bind_tools([WEATHER])
        first = ask(model, "tool please")
        (call,) = first.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
        result = ToolMessage("18 degrees", tool_call_id=call["id"])
        assert ask(model, [HumanMessage("tool please"), first, result]).text == FINAL

    @case(f"{way}: structured output")
    def _() -> None:
        model = llm().with_structured_output(CITY, method="json_schema")
        assert ask(model, "json please") == PARIS

    @case(f"{way}: errors")
    def _() -> None:
        for words in ("error 400 of langchain's Responses", "cut"):
            assert thrown(partial(ask, llm(), words))


for each in {"invoke": whole, "stream": streamed}.items():
    cases_of(*each)

run()
