"""The answer of the Responses API: events as its stream and as one response, held against the
types of OpenAI's own package."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.responses import CompactedResponse, Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from errors import (
    ContextTooLong,
    EmptyAnswer,
    InvalidRequest,
    OutOfCredits,
    ProxyError,
    RateLimited,
    UpstreamCut,
    UpstreamRejected,
    UpstreamTimeout,
)
from events import (
    Citation,
    Done,
    Event,
    PromptSize,
    Reasoning,
    Silence,
    Tally,
    Text,
    ToolCall,
    Usage,
    Working,
)
from formats import responses, responses_compaction
from formats.responses_answer import Envelope
from formats.responses_items import to_messages
from formats.responses_tools import Offer
from settings import Settings

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
UNTYPED = {"store", "name"}  # OpenAI sends these where the types of this version lack them
TOOLS = [
    {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True},
    {"type": "custom", "name": "apply_patch", "format": {"type": "text"}},
    {
        "type": "namespace",
        "name": "mcp__maps",
        "description": "Maps.",
        "tools": [{"type": "function", "name": "weather"}],
    },
]


def envelope(**body: Any) -> Envelope:
    asked = {"model": "gpt-4.1", "input": "Hi", "tools": TOOLS, **body}
    chat = responses.parse(json.dumps(asked).encode(), Settings())
    return responses.to_envelope(chat, Settings(), "req_1")


def checked(value: Any, kind: Any = Response) -> None:
    """Hold `value` against a type of the package, whose fields it must have exactly."""
    check_fields(kind.validate_python(value) if kind is EVENT else kind.model_validate(value))


def check_fields(model: Any) -> None:
    """No field is missing, and none is there that the types do not name."""
    if isinstance(model, list):
        for one in model:
            check_fields(one)
    if not isinstance(model, BaseModel):
        return
    assert set(model.model_extra or ()) <= UNTYPED, model
    for name in type(model).model_fields:
        check_fields(getattr(model, name))


def events_in(body: bytes) -> list[dict[str, Any]]:
    """The data of a stream's events, each of the type that its `event:` line names."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        told = re.fullmatch(r"event: (\S+)\ndata: (.*)", block)
        assert told, block
        data = json.loads(told[2])
        assert data["type"] == told[1]
        found.append(data)
    return found


def streamed(events: Sequence[Event], given: Envelope | None = None) -> list[dict[str, Any]]:
    body = b"".join(responses.stream(iter(events), given or envelope(), Tally()))
    found = events_in(body)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    for one in found:
        checked(one, EVENT)
    return found


def whole(events: Sequence[Event], given: Envelope | None = None) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(responses.whole(events, given or envelope(), Tally()))
    checked(made)
    return made


def types(found: list[dict[str, Any]]) -> list[str]:
    return [one["type"].removeprefix("response.") for one in found]


USAGE = Usage(10, 7, 3, 2)
END = (USAGE, Done())


def test_a_message_comes_in_the_order_of_events_that_openai_sends() -> None:
    found = streamed([Text("Hel"), Text("lo"), *END])
    assert types(found) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    ids = {one["item_id"] for one in found if "item_id" in one}
    assert ids == {found[2]["item"]["id"]} == {found[-1]["response"]["output"][0]["id"]}
    assert found[4]["delta"] + found[5]["delta"] == found[6]["text"] == "Hello"
    assert found[-1]["response"]["output"] == [found[-2]["item"]]
    assert found[-2]["item"]["status"] == "completed"


def test_thoughts_are_a_summary_of_their_own_item() -> None:
    found = streamed([Reasoning("One"), Reasoning("."), Text("Two"), *END])
    assert types(found)[2:9] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done",
        "reasoning_summary_part.done", "output_item.done",
    ]  # fmt: skip
    thought, message = found[-1]["response"]["output"]
    assert thought["summary"] == [{"type": "summary_text", "text": "One."}]
    assert message["content"][0]["text"] == "Two"
    assert [one["output_index"] for one in found if one["type"].endswith("item.done")] == [0, 1]
    assert "encrypted_content" not in thought


def test_who_asks_for_encrypted_thoughts_gets_something_to_send_back() -> None:
    given = envelope(include=["reasoning.encrypted_content"])
    (thought,) = whole([Reasoning("Hm"), *END], given)["output"]
    assert thought["encrypted_content"]


def test_a_call_has_its_name_at_the_start_and_its_arguments_at_the_end() -> None:
    call = ToolCall("call_1", "weather", '{"city":"Paris"}')
    found = streamed([Text("I look."), call, USAGE, Done("tool_calls")])
    assert types(found)[-5:] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    added, done = found[-5]["item"], found[-2]["item"]
    assert (added["status"], added["arguments"], added["name"]) == ("in_progress", "", "weather")
    assert done == {**added, "status": "completed", "arguments": '{"city":"Paris"}'}
    assert done["call_id"] == "call_1" != done["id"]
    assert "namespace" not in done
    assert found[-1]["response"]["status"] == "completed"


def test_beside_a_call_stands_no_empty_message() -> None:
    call = ToolCall("call_1", "weather", "{}")
    assert [i["type"] for i in whole([Text(""), call, *END])["output"]] == ["function_call"]


def test_a_custom_call_has_raw_text() -> None:
    call = ToolCall("call_1", "apply_patch", '*** Begin Patch\n"', custom=True)
    found = streamed([call, USAGE, Done("tool_calls")])
    assert types(found)[2:-1] == [
        "output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done",
        "output_item.done",
    ]  # fmt: skip
    (item,) = found[-1]["response"]["output"]
    assert (item["type"], item["input"]) == ("custom_tool_call", '*** Begin Patch\n"')


def test_a_call_goes_back_with_the_caller_s_own_name_and_namespace() -> None:
    given = envelope()
    call = ToolCall("call_1", "mcp__maps__weather", "{}")
    (item,) = whole([call, *END], given)["output"]
    assert (item["name"], item["namespace"]) == ("weather", "mcp__maps")


def test_sources_with_an_address_are_annotations_of_the_message() -> None:
    early, late = Citation("A", "https://a.example"), Citation("B", "https://b.example")
    events: list[Event] = [
        early,
        Citation("No address", source_id="7"),
        Text("See "),
        late,
        Text("it"),
        *END,
    ]
    found = streamed(events)
    noted = [one for one in found if one["type"].endswith("annotation.added")]
    assert [(one["annotation_index"], one["annotation"]["title"]) for one in noted] == [
        (0, "A"),
        (1, "B"),
    ]
    (message,) = found[-1]["response"]["output"]
    assert message["content"][0]["annotations"] == [one["annotation"] for one in noted]


LATE = Citation("Late", "https://late.example")
LOOK = ToolCall("call_1", "weather", "{}")


@pytest.mark.parametrize("between", [Reasoning("Hm."), LOOK], ids=["a thought", "a call"])
def test_a_source_behind_the_last_words_is_an_annotation_of_the_last_message(
    between: Event,
) -> None:
    """A message of its own would be the answer to clients that take the last one for it."""
    events = [Text("Cats."), between, Citation("Early", "https://early.example"), LATE, *END]
    message, _ = whole(events)["output"]
    found = streamed(events)
    noted = [one for one in found if one["type"].endswith("annotation.added")]
    assert [(one["item_id"], one["annotation_index"]) for one in noted] == [
        (found[2]["item"]["id"], 0), (found[2]["item"]["id"], 1),
    ]  # fmt: skip
    annotations = found[-1]["response"]["output"][0]["content"][0]["annotations"]
    assert annotations == message["content"][0]["annotations"]
    assert annotations == [one["annotation"] for one in noted]


def test_a_source_without_any_message_is_named_in_one() -> None:
    made = whole([LOOK, LATE, *END])
    call, message = made["output"]
    assert call["type"] == "function_call"
    assert message["content"][0]["text"] == "[Late](https://late.example)"
    assert [one["title"] for one in message["content"][0]["annotations"]] == ["Late"]


@pytest.mark.parametrize(
    ("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete_and_says_why(reason: str, why: str) -> None:
    found = streamed([Text("Half"), USAGE, Done(reason)])
    assert found[-1]["type"] == "response.incomplete"
    response = found[-1]["response"]
    assert response["incomplete_details"] == {"reason": why}
    assert response["output"][0]["status"] == "incomplete"
    assert response["completed_at"] is None


def test_usage_has_every_field_that_the_package_demands() -> None:
    assert whole([Text("Hi"), *END])["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
    }


def test_a_sign_of_life_is_a_slim_event_that_counts_on() -> None:
    given = envelope(instructions="x" * 5000)
    found = streamed([Silence(), Text("Hi"), Silence(), Working(), Working(), *END], given)
    assert types(found)[:5] == [
        "created", "in_progress", "in_progress", "output_item.added", "content_part.added",
    ]  # fmt: skip
    assert [one["delta"] for one in found if one["type"].endswith(".delta")] == ["Hi", "", ""]
    alive = next(one for one in found if one["type"] == "response.in_progress")
    assert len(json.dumps(alive)) < 500


def test_a_long_piece_makes_several_short_lines() -> None:
    text = "a\u2028\x85" * 10_000
    body = b"".join(responses.stream(iter([Text(text), *END]), envelope(), Tally()))
    found = events_in(body)
    pieces = [one["delta"] for one in found if one["type"].endswith("text.delta")]
    assert len(pieces) == 4
    assert "".join(pieces) == text


def failing(wrong: ProxyError, *events: Event) -> Any:
    def come() -> Any:
        yield from events
        raise wrong

    return come()


def in_seconds(wrong: RateLimited, seconds: float) -> RateLimited:
    wrong.retry_after = seconds
    return wrong


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (UpstreamCut("It broke off."), "server_error", "It broke off. (request req_1)"),
        (UpstreamTimeout("Late."), "server_error", "Late."),
        (ProxyError("A bug."), "server_error", "A bug."),
        (in_seconds(RateLimited("Slow down."), 4.2), "rate_limit_exceeded", "try again in 5s."),
        (OutOfCredits("No money."), "insufficient_quota", "No money."),
        (ContextTooLong("Too long."), "context_length_exceeded", "Too long."),
        (UpstreamRejected("Not this."), "invalid_prompt", "Not this."),
        (InvalidRequest("Not that."), "invalid_prompt", "Not that."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failure_after_the_first_event_says_whether_to_try_again(
    wrong: ProxyError, code: str, words: str
) -> None:
    body = b""

    def read() -> None:
        nonlocal body
        for block in responses.stream(failing(wrong, Text("Half")), envelope(), Tally()):
            body += block

    with pytest.raises(type(wrong)):
        read()
    *_, told, last = events_in(body)
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["id"] == events_in(body)[0]["response"]["id"]
    assert last["response"]["error"]["code"] == code
    assert words in last["response"]["error"]["message"]
    assert (told["type"], told["sequence_number"]) == ("error", last["sequence_number"] - 1)
    detail = {**last["response"]["error"], "param": wrong.param}
    assert told["error"] == {"type": wrong.type, **detail}
    assert {name: told[name] for name in detail} == detail


def test_before_the_first_event_a_failure_is_not_told_in_the_stream() -> None:
    with pytest.raises(UpstreamCut):
        next(responses.stream(failing(UpstreamCut("Cut.")), envelope(), Tally()))


SUMMARY_EVENTS: list[Event] = [Working(), Text("The user "), Silence(), Text("wants tea."), *END]


def test_a_summary_is_one_opaque_item_that_is_read_again() -> None:
    given = envelope(input=[{"role": "user", "content": "x"}, {"type": "compaction_trigger"}])
    found = streamed(SUMMARY_EVENTS, given)
    assert types(found) == [
        "created", "in_progress", "in_progress", "in_progress", "output_item.added",
        "output_item.done", "completed",
    ]  # fmt: skip
    (item,) = found[-1]["response"]["output"]
    assert item["type"] == "compaction"
    assert "tea" not in item["encrypted_content"]
    (system,), dropped = to_messages("", [item], Offer())
    assert (system.role, dropped) == ("system", [])
    assert "The user wants tea." in system.content


def test_the_compact_route_gives_the_same_item_as_one_object() -> None:
    raw = b'{"model": "gpt-4.1", "input": "Hi", "stream": true}'
    chat = responses_compaction.parse(raw, Settings())
    assert not chat.stream
    given = responses_compaction.to_envelope(chat, Settings(), "req_1")
    made = json.loads(responses_compaction.whole(SUMMARY_EVENTS, given, Tally()))
    checked(made, CompactedResponse)
    assert [item["type"] for item in made["output"]] == ["compaction"]


@pytest.mark.parametrize("said", [[], [Text(" \n")], [ToolCall("call_1", "look", "{}")]], ids=repr)
def test_a_summary_that_is_none_is_an_error(said: list[Event]) -> None:
    raw = b'{"model": "gpt-4.1", "input": "Hi"}'
    chat = responses_compaction.parse(raw, Settings())
    given = responses_compaction.to_envelope(chat, Settings(), "req_1")
    with pytest.raises(EmptyAnswer):
        responses_compaction.whole([*said, *END], given, Tally())
    blocks = responses.stream(iter([Silence(), *said, *END]), given, Tally())
    next(blocks)
    assert b'"type":"response.failed"' in next(blocks)
    with pytest.raises(EmptyAnswer):
        next(blocks)


def test_the_response_says_again_what_was_asked() -> None:
    asked: dict[str, Any] = {
        "instructions": "Be brief.", "max_output_tokens": 99, "metadata": {"a": "b"},
        "parallel_tool_calls": False, "prompt_cache_key": "k", "temperature": 0.5, "top_p": 0.9,
        "reasoning": {"effort": "low", "summary": "auto"}, "user": "u", "tool_choice": "required",
        "safety_identifier": "s",
    }  # fmt: skip
    given = envelope(**asked, store=True, service_tier="flex", text={"verbosity": "low"})
    made = whole([Text("Hi"), *END], given)
    assert {name: made[name] for name in asked} == asked
    assert (made["store"], made["service_tier"]) == (False, "default")
    assert made["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert [tool["name"] for tool in made["tools"]] == ["weather", "apply_patch", "mcp__maps"]


def test_tools_are_said_again_in_their_flat_form() -> None:
    nested = {"type": "function", "function": {"name": "time"}}
    search = {"type": "web_search"}
    made = whole([Text("Hi"), *END], envelope(tools=[{"name": "weather"}, nested, search]))
    flat = {"type": "function", "parameters": None, "strict": None}
    assert made["tools"] == [{**flat, "name": "weather"}, {**flat, "name": "time"}, search]
    assert made["text"]["verbosity"] == "medium"


def test_what_is_said_again_is_of_openais_types_whatever_was_asked() -> None:
    given = envelope(
        user={"id": 1}, safety_identifier=5, prompt_cache_key=["k"], max_output_tokens=99.0,
        reasoning={"effort": "low", "summary": "long", "generate_summary": 5}, truncation="x",
        metadata={"a": "b", "c": None},
    )  # fmt: skip
    made = whole([Text("Hi"), *END], given)
    Response.model_validate_json(json.dumps(made), strict=True)
    assert [made[name] for name in ("user", "safety_identifier", "prompt_cache_key")] == [None] * 3
    assert made["reasoning"] == {"effort": "low", "summary": None}
    assert made["metadata"] == {"a": "b"}
    streamed([Text("Hi"), *END], given)


WEATHER: dict[str, Any] = {"type": "function", "name": "weather"}
ALLOWED: dict[str, Any] = {"type": "allowed_tools", "mode": "auto", "tools": [WEATHER]}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"type": "auto"}, "auto"),
        ("any", "required"),
        ({"type": "function", "function": {"name": "weather"}}, WEATHER),
        (WEATHER, WEATHER),
        ({"type": "allowed_tools", "allowed_tools": {"tools": [WEATHER]}}, ALLOWED),
        (ALLOWED, ALLOWED),
        ({"type": "web_search_preview"}, {"type": "web_search_preview"}),
    ],
)
def test_a_choice_is_said_again_in_its_flat_form(asked: Any, shown: Any) -> None:
    made = whole([Text("Hi"), *END], envelope(tool_choice=asked))
    assert made["tool_choice"] == shown


PIECES = st.text(max_size=8)
CALLS = st.one_of(
    st.builds(ToolCall, st.just("call_a"), st.just("weather"), st.sampled_from(['{"a":1}', "{}"])),
    st.builds(ToolCall, st.just("call_b"), st.just("apply_patch"), PIECES, st.just(True)),
)
EVENTS = st.lists(
    st.one_of(
        st.builds(Text, PIECES),
        st.builds(Reasoning, PIECES),
        CALLS,
        st.builds(Citation, PIECES, st.sampled_from(["", "https://a.example"])),
        st.sampled_from([Silence(), Working(), PromptSize(3)]),
    ),
    max_size=12,
)
REASONS = st.sampled_from(["stop", "tool_calls", "length", "content_filter"])


def without_ids(value: Any) -> Any:
    """The same without what differs from answer to answer."""
    if isinstance(value, list):
        return [without_ids(one) for one in value]
    if isinstance(value, dict):
        return {k: without_ids(v) for k, v in value.items() if k not in ("id", "completed_at")}
    return value


@contextmanager
def client_told(body: bytes) -> Iterator[OpenAI]:
    """OpenAI's client, which gets this stream for an answer."""
    reply = httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})
    transport = httpx2.MockTransport(lambda _request: reply)
    with (
        httpx2.Client(transport=transport) as http,
        OpenAI(base_url="http://x", api_key="k", http_client=http) as client,
    ):
        yield client


def put_together(body: bytes) -> Any:
    """The last event that OpenAI's `.stream()` makes of a stream."""
    with (
        client_told(body) as client,
        client.responses.stream(model="gpt-4.1", input="Hi") as stream,
    ):
        *_, last = stream
    return last


def test_a_loop_over_the_events_cannot_take_a_failed_answer_for_a_whole_one() -> None:
    """LlamaIndex and Haystack look for words and for `response.completed`, and for nothing else."""
    blocks = responses.stream(failing(UpstreamCut("Cut."), Text("Half")), envelope(), Tally())
    body = next(blocks) + next(blocks)
    with client_told(body) as client, pytest.raises(APIError, match="Cut"):
        list(client.responses.create(model="gpt-4.1", input="Hi", stream=True))


@settings(max_examples=60)
@given(EVENTS, REASONS, st.booleans())
def test_any_events_make_a_stream_whose_end_is_the_whole_answer(
    events: list[Event], reason: str, compact: bool
) -> None:
    """OpenAI's `.stream()` takes it, and what that puts together is the whole answer."""
    events = [
        replace(event, id=f"call_{i}") if isinstance(event, ToolCall) else event
        for i, event in enumerate(events)
    ]
    if compact:
        events.append(Text("A summary."))
    events += [USAGE, Done(reason)]
    asked = replace(envelope(), compact=compact)
    body = b"".join(responses.stream(iter(events), asked, Tally()))
    found = events_in(body)
    for one in found:
        checked(one, EVENT)
    for i, one in enumerate(found):
        if one["type"] == "response.in_progress":  # openai-node 6 takes its output for all there is
            added = [e["item"]["id"] for e in found[:i] if e["type"].endswith("item.added")]
            assert [item["id"] for item in one["response"]["output"]] == added
    response = found[-1]["response"]
    expected = without_ids(whole(events, asked))
    assert without_ids(response) == expected
    sources = [event for event in events if isinstance(event, Citation) and event.url]
    noted = [one["annotation"] for one in found if one["type"].endswith("annotation.added")]
    assert [note["title"] for note in noted] == [one.title for one in sources if not compact]
    assert notes_in(response["output"]) == noted
    done = [one["item"] for one in found if one["type"] == "response.output_item.done"]
    assert without_notes(done) == without_notes(response["output"])
    last = put_together(body)
    assert last.type == found[-1]["type"]
    shown = json.loads(last.response.model_dump_json(exclude_unset=True))["output"]
    assert [without_parsed(item) for item in without_ids(shown)] == expected["output"]


def notes_in(items: list[dict[str, Any]]) -> list[Any]:
    messages = [item for item in items if item["type"] == "message"]
    return [note for item in messages for note in item["content"][0]["annotations"]]


def without_notes(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same without annotations, which may come after their item is done."""
    kept = json.loads(json.dumps(items))
    for item in kept:
        for part in item.get("content", ()):
            part["annotations"] = []
    return kept  # type: ignore[no-any-return]


def without_parsed(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what `.stream()` adds to it."""
    parts = item.get("content")
    item = {name: value for name, value in item.items() if name != "parsed_arguments"}
    if isinstance(parts, list):
        item["content"] = [{k: v for k, v in p.items() if k != "parsed"} for p in parts]
    return item
