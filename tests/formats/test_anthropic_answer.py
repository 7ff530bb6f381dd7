"""Anthropic's answers, held against the types and the stream reader of its own Python package."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

import errors
from errors import ContextTooLong, ProxyError, UpstreamCut
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
from formats.anthropic_answer import PING, Envelope, error, stream, whole

PLAIN = Envelope("req_1", "msg_1", "a-model")
SEARCHING = Envelope("req_1", "msg_1", "a-model", query="cats")
CALL = ToolCall("call_1", "weather", '{"city":"Zürich"}')
PAGE = Citation("Cats", "https://cats.example", "All of them.")
PASSAGE = Citation("A book", "", "On cats.", "book-1")
USAGE = Usage(prompt=12, completion=7, reasoning=2, cached=5)
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def sent(events: list[Event], envelope: Envelope = PLAIN) -> list[dict[str, Any]]:
    """The data of a stream's events; each has its line `event:` with the same type."""
    return read(b"".join(stream(iter(events), envelope, Tally())))


def read(body: bytes) -> list[dict[str, Any]]:
    found = []
    *events, end = body.decode().split("\n\n")
    assert end == ""
    for event in events:
        kind, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    return found


def to_object(events: list[Event], envelope: Envelope = PLAIN) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(whole(events, envelope, Tally()))
    return made


def deltas(found: list[dict[str, Any]], field: str) -> list[str]:
    return [e["delta"][field] for e in found if field in e.get("delta", ())]


BODIES: list[bytes] = []  # what the package is answered; the last one counts
HTTP = httpx2.MockTransport(
    lambda _request: httpx2.Response(
        200, content=BODIES[-1], headers={"content-type": "text/event-stream"}
    )
)
CLIENT = Anthropic(
    api_key="a-key", base_url="http://service", http_client=httpx2.Client(transport=HTTP)
)


def through_the_package(body: bytes) -> Message:
    """What `.stream()` makes of a body."""
    BODIES[:] = [body]
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
    with CLIENT.messages.stream(**asked) as events:
        return Message.model_validate(events.get_final_message().to_dict())


def extras(value: Any) -> Iterator[str]:
    """The keys that the package's types do not know, at any depth."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        yield from extras([each for _, each in value if each is not None])
    elif isinstance(value, list):
        for each in value:
            yield from extras(each)


words = st.text(max_size=8) | st.sampled_from(
    ["", " ", "\n\n", "Hello", "x" * 9000, "[a](http://b)"]
)
calls = st.builds(
    ToolCall,
    st.sampled_from(["", "call_1", "toolu_2", "a b/ü", "call_1"]),
    st.just("weather"),
    st.dictionaries(words, words, max_size=2).map(json.dumps) | st.just(""),
)
between = (
    st.builds(Text, words)
    | st.builds(Reasoning, words)
    | calls
    | st.sampled_from([PAGE, PASSAGE, Silence(), Working()])
)
endings = st.builds(
    Done, st.sampled_from(["stop", "length", "tool_calls", "content_filter"]), st.just("")
) | st.just(Done("stop", "END"))


@given(st.lists(between, max_size=12), endings, st.sampled_from([PLAIN, SEARCHING]))
def test_any_answer_is_the_same_streamed_and_whole(
    middle: list[Event], ending: Done, envelope: Envelope
) -> None:
    events = [PromptSize(12), *middle, USAGE, ending]
    body = b"".join(stream(iter(events), envelope, Tally()))
    check_stream(read(body))
    made = Message.model_validate_json(whole(events, envelope, Tally()), strict=True)
    assert list(extras(made)) == []
    assert through_the_package(body) == made
    assert made.usage.input_tokens + (made.usage.cache_read_input_tokens or 0) == USAGE.prompt
    sources = Counter(event for event in middle if isinstance(event, Citation))
    assert told_sources(made) >= sources


def told_sources(made: Message) -> Counter[Citation]:
    """How often each source stands in an answer, cited or as what a search found."""
    cited = [c for b in made.content if b.type == "text" for c in b.citations or ()]
    found = [b.content for b in made.content if b.type == "web_search_tool_result"]
    pages = [c.type for c in cited].count("web_search_result_location")
    told = Counter({PASSAGE: len(cited) - pages})
    told[PAGE] = max(pages, sum(len(results) for results in found if isinstance(results, list)))
    return told


def check_stream(found: list[dict[str, Any]]) -> None:
    """Blocks stand one after the other, numbered without gaps, and none is empty."""
    found = [event for event in found if event["type"] != "ping"]
    for event in found:
        checked = EVENTS.validate_json(json.dumps(event), strict=True)
        assert list(extras(checked)) == []
    kinds = [event["type"] for event in found]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    count, is_open, said = 0, False, ""
    ids: set[Any] = set()
    for event in found[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == count
                block, is_open, said = event["content_block"], True, ""
                assert block.get("id") not in ids
                ids.add(block.get("id", len(ids)))
            case "content_block_delta":
                assert is_open
                assert event["index"] == count
                said += event["delta"].get("text", "") + event["delta"].get("thinking", "")
            case "content_block_stop":
                assert is_open
                assert said.strip() or block["type"] not in ("text", "thinking")
                count, is_open = count + 1, False
            case other:
                pytest.fail(other)
    assert not is_open


def test_a_stream_of_text() -> None:
    found = sent([PromptSize(12), Text("Hel"), Text("lo"), Usage(12, 2), Done()])
    usage = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    start: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "a-model",
    }
    start |= {"content": [], "stop_reason": None, "stop_sequence": None}
    start |= {"usage": {"input_tokens": 12, **usage, "output_tokens": 0}}
    assert found == [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 12, **usage, "output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


def test_nothing_leaves_before_there_is_something_to_say() -> None:
    """The status waits for the first bytes, and the size of the prompt is no reason for a 200."""
    blocks = stream(iter([PromptSize(12), Text(" "), Silence()]), PLAIN, Tally())
    start, ping = read(next(blocks))
    assert start["message"]["usage"]["input_tokens"] == 12
    assert ping == {"type": "ping"}


def test_signs_of_life_are_pings_and_counted() -> None:
    tally = Tally()
    events: list[Event] = [Silence(), Text("Hi"), Working(), Working(), Silence(), Done()]
    blocks = list(stream(iter(events), PLAIN, tally))
    assert blocks[0].endswith(PING)
    assert blocks.count(PING) == 2
    assert tally.heartbeats == 3


def test_thoughts_stand_in_signed_blocks_before_and_between() -> None:
    events: list[Event] = [Reasoning("A"), Text("B"), Reasoning("C"), Text("D"), Done()]
    content = to_object(events)["content"]
    assert [block["type"] for block in content] == ["thinking", "text", "thinking", "text"]
    assert all(block["signature"] for block in content[::2])


def test_a_call_comes_in_pieces() -> None:
    long = json.dumps({"text": "x" * 20_000})
    found = sent([ToolCall("call_1", "write", long), Done("tool_calls")])
    pieces = deltas(found, "partial_json")
    assert "".join(pieces) == long
    assert len(pieces) > 2
    assert found[1]["content_block"] == {
        "type": "tool_use", "id": "toolu_1", "name": "write", "input": {},
    }  # fmt: skip
    assert deltas(found, "stop_reason") == ["tool_use"]


@pytest.mark.parametrize("arguments", ["[]", "{", "nonsense"])
def test_a_call_that_is_no_object_is_an_error(arguments: str) -> None:
    events: list[Event] = [ToolCall("1", "write", arguments), Done("tool_calls")]
    with pytest.raises(errors.Unmet):
        to_object(events)
    with pytest.raises(errors.Unmet):
        sent(events)


@pytest.mark.parametrize(
    ("done", "reason", "stop"),
    [
        (Done("stop"), "end_turn", None),
        (Done("stop", "END"), "stop_sequence", "END"),
        (Done("length"), "max_tokens", None),
        (Done("content_filter"), "refusal", None),
    ],
)
def test_an_answer_says_why_it_ended(done: Done, reason: str, stop: str | None) -> None:
    made = to_object([Text("Hi"), done])
    assert (made["stop_reason"], made["stop_sequence"]) == (reason, stop)


def test_space_alone_opens_no_block_and_is_kept_before_words() -> None:
    made = to_object([Text("\n"), CALL, Text("\n"), Text(" Hi"), Done()])
    assert [block["type"] for block in made["content"]] == ["tool_use", "text"]
    assert made["content"][1]["text"] == "\n Hi"


def test_sources_are_cited_by_the_text() -> None:
    found = to_object([PAGE, PASSAGE, Text("Cats."), PASSAGE, Done()])["content"]
    (text,) = found
    page, *passages = text["citations"]
    assert (page["type"], page["url"]) == ("web_search_result_location", PAGE.url)
    assert [c["type"] for c in passages] == ["char_location", "char_location"]
    assert [c["document_index"] for c in passages] == [0, 1]
    assert passages[0]["document_title"] == PASSAGE.title
    assert passages[0]["cited_text"] == PASSAGE.text


def test_a_page_without_a_title_is_cited_by_its_address() -> None:
    """The AI SDK takes no citation whose title is null."""
    (text,) = to_object([Citation("", "https://cats.example"), Text("Cats."), Done()])["content"]
    assert text["citations"][0]["title"] == "https://cats.example"


def test_a_search_tells_what_it_found() -> None:
    made = to_object([PAGE, Text("Cats."), Usage(3, 1), Done()], SEARCHING)
    use, result, text = made["content"]
    assert use["name"] == "web_search"
    assert use["input"] == {"query": "cats"}
    assert result["tool_use_id"] == use["id"]
    assert [(page["url"], page["title"]) for page in result["content"]] == [(PAGE.url, "Cats")]
    assert text["citations"][0]["url"] == PAGE.url
    assert made["usage"]["server_tool_use"] == {"web_search_requests": 1, "web_fetch_requests": 0}


def test_links_are_no_second_search_where_sources_were_named() -> None:
    made = to_object([PAGE, Text("See https://dogs.example/b."), Done()], SEARCHING)
    assert made["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_what_was_found_late_is_told_too() -> None:
    made = to_object([Text("Cats."), PAGE, Done()], SEARCHING)
    kinds = [block["type"] for block in made["content"]]
    assert kinds == ["text", "server_tool_use", "web_search_tool_result"]


@pytest.mark.parametrize(
    ("said", "envelope"),
    [
        ([Text("Cats."), Reasoning("Hm."), PAGE, PASSAGE], PLAIN),
        ([Text("Cats."), CALL, PAGE, PASSAGE], PLAIN),
        ([CALL, PAGE, PASSAGE], PLAIN),
        ([PAGE, PASSAGE], PLAIN),
        ([Text("Cats."), PASSAGE], SEARCHING),
    ],
)
def test_sources_behind_the_last_words_are_cited_by_a_text_of_their_own(
    said: list[Event], envelope: Envelope
) -> None:
    text = to_object([*said, Done()], envelope)["content"][-1]
    late = [event for event in said if isinstance(event, Citation)]
    assert text["text"] == "\n\n" + "\n".join(source.words for source in late)
    titles = [c.get("title") or c["document_title"] for c in text["citations"]]
    assert titles == [source.title for source in late]


def test_a_search_without_sources_names_the_pages_that_the_text_links_to() -> None:
    said = "See [Cats](https://cats.example/a) and https://dogs.example/b. ([Cats](https://cats.example/a))"
    made = to_object([Text(said[:30]), Text(said[30:]), Done()], SEARCHING)
    assert [block["type"] for block in made["content"]] == [
        "text", "server_tool_use", "web_search_tool_result",
    ]  # fmt: skip
    assert [(page["url"], page["title"]) for page in made["content"][2]["content"]] == [
        ("https://cats.example/a", "Cats"), ("https://dogs.example/b", "https://dogs.example/b"),
    ]  # fmt: skip
    assert [block["type"] for block in to_object([Text(said), Done()])["content"]] == ["text"]


def broken(first: list[Event]) -> Iterator[Event]:
    yield from first
    raise UpstreamCut("It broke off.")


def test_a_stream_that_breaks_off_says_so_in_an_event() -> None:
    blocks = stream(broken([Text("Hal")]), PLAIN, Tally())
    found = read(next(blocks))
    found += read(next(blocks))
    with pytest.raises(UpstreamCut):
        next(blocks)
    assert found[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "It broke off. (request req_1)"},
        "request_id": "req_1",
    }
    assert not any(event["type"] == "message_stop" for event in found)


def test_before_the_first_byte_an_error_is_only_raised() -> None:
    with pytest.raises(UpstreamCut):
        next(stream(broken([PromptSize(3), Text("\n")]), PLAIN, Tally()))


@pytest.mark.parametrize(
    ("wrong", "status", "kind"),
    [
        (errors.InvalidRequest("No."), 400, "invalid_request_error"),
        (errors.Unauthorized("No."), 401, "authentication_error"),
        (errors.OutOfCredits("No."), 402, "billing_error"),
        (errors.ModelNotFound("No."), 404, "not_found_error"),
        (errors.TooLarge("No."), 413, "request_too_large"),
        (errors.RateLimited("No."), 429, "rate_limit_error"),
        (errors.Overloaded("No."), 529, "overloaded_error"),
        (errors.UpstreamTimeout("No."), 504, "timeout_error"),
        (errors.UpstreamAuth("No."), 424, "api_error"),
        (errors.UpstreamNotFound("No."), 424, "api_error"),
        (errors.UpstreamRejected("No."), 400, "invalid_request_error"),
        (errors.EmptyAnswer("No."), 502, "api_error"),
        (ProxyError("No."), 500, "api_error"),
    ],
)
def test_each_error_has_its_status_and_type(wrong: ProxyError, status: int, kind: str) -> None:
    reply = error(wrong, "req_1")
    body = json.loads(reply.body)
    assert (reply.status, body["error"]["type"]) == (status, kind)
    assert body["type"] == "error"
    assert body["request_id"] == "req_1"


def test_an_error_names_the_place_first() -> None:
    wrong = errors.InvalidRequest(
        "Invalid value for 'messages.1.role': no.", param="messages.1.role"
    )
    message = json.loads(error(wrong, "req_1").body)["error"]["message"]
    assert message == "messages.1.role: Invalid value: no."


def test_too_long_is_told_in_the_words_that_are_known() -> None:
    wrong = ContextTooLong("Too long.", param="messages")
    wrong.tokens, wrong.most = 300, 200
    message = json.loads(error(wrong, "req_1").body)["error"]["message"]
    assert message == "prompt is too long: 300 tokens > 200 maximum"
