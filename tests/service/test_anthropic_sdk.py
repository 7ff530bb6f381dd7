"""Anthropic's own Python package against the service as it runs."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, beta_tool
from conftest import HELLO, KEY, Server
from fake_flowith import CUT, HANG, FakeFlowith, Wait, error, web

TOOL: Any = {"name": "weather", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ASK: Any = {"model": "gpt-4.1", "max_tokens": 1000, "messages": HELLO}


@pytest.fixture(scope="module")
def server(flowith: FakeFlowith, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    given = {"FLOWITH_API_URL": flowith.url, "HOLD": "0.3", "HEARTBEAT": "0.2"}
    started = Server(tmp_path_factory.mktemp("service") / "log", {**given, "RETRY_ATTEMPTS": "1"})
    yield started
    started.stop()


@pytest.fixture
def client(server: Server, flowith: FakeFlowith) -> Iterator[Anthropic]:
    flowith.reset()
    with Anthropic(base_url=server.url, api_key=KEY, timeout=20) as made:
        yield made


def test_a_stream_with_words_and_a_call(client: Anthropic, flowith: FakeFlowith) -> None:
    waits = [Wait(), Wait(), Wait()]
    flowith.reply(web("I ", waits[0], "shall ", waits[1], "look.\n", waits[2], CALL))
    said: list[str] = []
    with client.messages.stream(**ASK, tools=[TOOL]) as stream:
        for event in stream:
            if event.type == "text":
                waits[len(said)].go()
                said.append(event.text)
        message = stream.get_final_message()
    assert [text.strip() for text in said] == ["I", "shall", "look."]
    text, call = message.content
    assert text.type == "text"
    assert text.text == "I shall look."
    assert call.type == "tool_use"
    assert call.input == {"city": "Paris"}
    assert message.stop_reason == "tool_use"
    assert message.usage.input_tokens > 0 < message.usage.output_tokens


def test_the_tool_runner_asks_with_the_whole_conversation(
    client: Anthropic, flowith: FakeFlowith
) -> None:
    """It sends what is new alone, as long as nothing tells it that nothing is kept here."""

    @beta_tool
    def weather(city: str) -> str:
        """Tells it."""
        return f"18 degrees in {city}"

    flowith.reply(web(CALL), web("Sunny."))
    answer = client.beta.messages.tool_runner(**ASK, tools=[weather]).until_done()
    assert [block.type for block in answer.content] == ["text"]
    tools, question, call, result = flowith.requests[1].json["messages"]
    assert "# Tools" in tools["content"]
    assert question == HELLO[0]
    assert "weather" in call["content"]
    assert "18 degrees in Paris" in result["content"]
    assert len(flowith.requests) == 2


def test_each_turn_of_a_thread_has_those_before_it(client: Anthropic, flowith: FakeFlowith) -> None:
    flowith.reply(web("Hello!"), web("One."), web("Two."))
    thread = client.beta.messages.thread(**ASK, system="Be brief.")
    thread.send()
    thread.send({"role": "user", "content": "And one?"})
    thread.send({"role": "user", "content": "And two?"})
    told = [message["content"] for message in flowith.requests[2].json["messages"]]
    assert told == ["Be brief.", "Hello", "Hello!", "And one?", "One.", "And two?"]
    assert len(flowith.requests) == 3


def test_a_silent_stream_begins_and_pings(client: Anthropic, flowith: FakeFlowith) -> None:
    flowith.reply(web(1.0, "late"))
    with client.messages.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line for line in response.iter_lines() if line.startswith("event: ")]
    assert lines[:2] == ["event: message_start", "event: ping"]
    assert lines[-1] == "event: message_stop"


def test_a_cut_stream_is_an_error_and_not_a_short_answer(
    client: Anthropic, flowith: FakeFlowith
) -> None:
    flowith.reply(web("half an ", 0.1, CUT))
    with client.messages.stream(**ASK) as stream, pytest.raises(anthropic.APIStatusError) as caught:
        stream.until_done()
    assert "broke off" in caught.value.message


def test_who_leaves_ends_the_call(client: Anthropic, flowith: FakeFlowith) -> None:
    flowith.reply(web("not ", HANG))
    with client.messages.create(**ASK, stream=True) as stream:
        next(iter(stream))
    assert flowith.wait_for(1)[0].wait_hung_up()


def test_a_refusal_has_its_class_and_is_not_tried_again(
    client: Anthropic, flowith: FakeFlowith
) -> None:
    flowith.reply(error(402))
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**ASK)
    assert caught.value.status_code == 402
    assert caught.value.type == "billing_error"
    assert caught.value.request_id
    assert len(flowith.requests) == 1


def test_a_limit_that_says_when_it_ends_is_waited_for(
    client: Anthropic, flowith: FakeFlowith
) -> None:
    flowith.reply(error(429, headers={"Retry-After": "1"}), web("At last."))
    (block,) = client.messages.create(**ASK).content
    assert block.type == "text"
    assert block.text == "At last."
    assert len(flowith.requests) == 2
