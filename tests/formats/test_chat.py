"""Every field of the request: what is taken, what is refused, and in which words."""

import base64
import json
from typing import Any

import pytest

from chat_request import Message
from errors import InvalidRequest
from events import ToolCall
from formats import chat, legacy_completions
from settings import Settings

USER = {"role": "user", "content": "Hi"}
PICTURE = "https://files.example/p.png"
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()


def parse(**body: Any) -> Any:
    raw = json.dumps({"model": "m", "messages": [USER], **body}).encode()
    return chat.parse(raw, Settings(max_choices=128))


def message(given: Any) -> Message:
    (parsed,) = parse(messages=[given]).conversations[0]
    assert isinstance(parsed, Message)
    return parsed


def parts_of(given: Any) -> list[dict[str, Any]]:
    content = message(given).content
    assert isinstance(content, list)
    return content


def refused(**body: Any) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as wrong:
        parse(**body)
    assert wrong.value.status == 400
    if wrong.value.param:
        assert wrong.value.param.split("[")[0].split(".")[0] in wrong.value.message
    return wrong.value.param, wrong.value.code


TYPE, VALUE = "invalid_type", "invalid_value"
ABOVE, BELOW = "integer_above_max_value", "integer_below_min_value"
DECIMAL_ABOVE, DECIMAL_BELOW = "decimal_above_max_value", "decimal_below_min_value"
BAD_FIELDS = [
    ("model", 1, TYPE),
    ("model", "", "missing_required_parameter"),
    ("stream", "yes", TYPE),
    ("stream", 1, TYPE),
    ("stream_options", True, TYPE),
    ("stream_options", {"include_usage": "yes"}, TYPE),
    ("stream_options", {"include_obfuscation": 0}, TYPE),
    ("function_call", 5, TYPE),
    ("temperature", "0.7", TYPE),
    ("temperature", True, TYPE),
    ("temperature", 2.1, DECIMAL_ABOVE),
    ("temperature", -0.1, DECIMAL_BELOW),
    ("top_p", 1.5, DECIMAL_ABOVE),
    ("frequency_penalty", 3, DECIMAL_ABOVE),
    ("presence_penalty", -3, DECIMAL_BELOW),
    ("max_tokens", 0, BELOW),
    ("max_tokens", 1.5, TYPE),
    ("max_completion_tokens", "9", TYPE),
    ("n", 0, BELOW),
    ("n", 129, ABOVE),
    ("stop", 1, TYPE),
    ("seed", "x", TYPE),
    ("seed", 2**70, ABOVE),
    ("logit_bias", [], TYPE),
    ("logit_bias", {"1": 101}, DECIMAL_ABOVE),
    ("logprobs", 3, TYPE),
    ("top_logprobs", 21, ABOVE),
    ("modalities", "text", TYPE),
    ("modalities", ["text", "audio"], "unsupported_value"),
    ("audio", {"voice": "x"}, "unsupported_parameter"),
    ("reasoning_effort", "much", VALUE),
    ("verbosity", "loud", VALUE),
    ("service_tier", "best", VALUE),
    ("web_search_options", True, TYPE),
    ("metadata", [], TYPE),
    ("store", "no", TYPE),
    ("messages", [], "empty_array"),
    ("messages", {}, TYPE),
    ("messages", "Hi", TYPE),
    ("tools", {}, TYPE),
    ("response_format", {"type": "xml"}, VALUE),
]


@pytest.mark.parametrize(("name", "value", "code"), BAD_FIELDS, ids=lambda v: str(v)[:20])
def test_a_bad_field_is_named_with_its_code(name: str, value: Any, code: str) -> None:
    param, got = refused(**{name: value})
    assert param is not None
    assert param.startswith(name)
    assert got == code


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (0, 2)), ("top_p", (0, 1)), ("presence_penalty", (-2, 2)),
        ("frequency_penalty", (-2, 2)), ("max_tokens", (1,)), ("n", (1, 128)),
        ("seed", (-(2**63), 2**63 - 1)), ("logit_bias", ({"1": -100}, {"1": 100})),
        ("top_logprobs", (0, 20)), ("verbosity", ("low", "medium", "high")),
        ("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    ],
)  # fmt: skip
def test_the_limits_themselves_are_allowed(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        assert parse(**{name: value}).model == "m"


def test_null_means_absent() -> None:
    fields = {name: None for name, _, _ in BAD_FIELDS if name not in ("model", "messages")}
    assert parse(**fields) == parse()
    assert parse(stream_options={"include_usage": None}) == parse()


def test_unknown_fields_pass_and_are_named() -> None:
    assert parse(top_k=1, provider={}).ignored == ("top_k", "provider")
    assert parse(stop=["a", "", "b", "c", "d", "e"]).stop == ("a", "b", "c", "d", "e")
    assert parse(stop="END").stop == ("END",)
    result = {"role": "tool", "tool_call_id": "c", "name": "f", "content": "x"}
    assert parse(messages=[USER, result]).ignored == ()
    assert parse(temperature=0, top_p=1).options == {"temperature": 0, "top_p": 1}


def test_the_newer_limit_wins() -> None:
    assert parse(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert parse(max_tokens=5.0).max_tokens == 5


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidRequest) as wrong:
        chat.parse(b'{"model": "m"}', Settings())
    assert (wrong.value.param, wrong.value.code) == ("messages", "missing_required_parameter")


def test_a_conversation_may_come_as_the_responses_api_has_it() -> None:
    # what Cursor's agent sends to this address, and reads the answer as chat's
    patch = {"type": "custom", "name": "ApplyPatch", "format": {"type": "text"}}
    raw = {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "custom_tool_call", "call_id": "c", "name": "ApplyPatch", "input": "*"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
            {"type": "web_search_call", "id": "w"},
        ],
        "tools": [patch, {"type": "function", "name": "f", "parameters": {}, "strict": None}],
    }
    request = chat.parse(json.dumps(raw).encode(), Settings())
    assert request.conversations[0] == [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "", (ToolCall("c", "ApplyPatch", "*", custom=True),)),
        Message("tool", "done", (), "c"),
    ]
    assert request.tools is not None
    assert [tool.name for tool in request.tools.tools] == ["ApplyPatch", "f"]
    assert (request.stream, request.max_tokens, request.words_in) == (True, 9, "input")
    assert request.ignored == ("input.web_search_call",)


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ([], "input", "empty_array"),
        ([{"role": "robot", "content": "Hi"}], "input[0].role", "invalid_value"),
        (5, "input", "invalid_type"),
    ],
)
def test_such_a_conversation_is_checked_too(given: Any, param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        chat.parse(json.dumps({"model": "m", "input": given}).encode(), Settings())
    assert (wrong.value.param, wrong.value.code) == (param, code)


BIG = "data:image/png;base64," + "A" * 28_000_000
BAD_MESSAGES = [
    ({"role": "user", "content": [{"type": "image_url", "image_url": BIG}]},
     "messages[0].content[0].image_url", "invalid_size"),
    ("Hi", "messages[0]", TYPE),
    ({"content": "x"}, "messages[0].role", "missing_required_parameter"),
    ({"role": 1, "content": "x"}, "messages[0].role", TYPE),
    ({"role": "wizard", "content": "x"}, "messages[0].role", VALUE),
    ({"role": "user", "content": 1}, "messages[0].content", TYPE),
    ({"role": "user", "content": {"type": "text"}}, "messages[0].content", TYPE),
    ({"role": "user", "content": [1]}, "messages[0].content[0]", TYPE),
    ({"role": "user", "content": [{"text": "x"}]}, "messages[0].content[0].type",
     "missing_required_parameter"),
    ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text",
     "missing_required_parameter"),
    ({"role": "user", "content": [{"type": "video"}]}, "messages[0].content[0].type", VALUE),
    ({"role": "system", "content": [{"type": "image_url", "image_url": PIXEL}]},
     "messages[0].content[0].type", VALUE),
    ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
     "messages[0].content[0]", "unsupported_value"),
    ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].image_url",
     "missing_required_parameter"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/x"}}]},
     "messages[0].content[0].image_url.url", "invalid_image_url"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": "ftp://a.b/x"}]},
     "messages[0].content[0].image_url", "invalid_image_url"),
    ({"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]},
     "messages[0].content[0].source.type", VALUE),
    ({"role": "user", "content": [{"type": "tool_result", "content": [{"type": "video"}]}]},
     "messages[0].content[0].content[0].type", VALUE),
    ({"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]},
     "messages[0].content[0].name", "missing_required_parameter"),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": "data:application/octet-stream;base64,JVBERi0="}}]},
     "messages[0].content[0].file.file_data", "unsupported_value"),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": "data:application/octet-stream;base64,AAEC"}}]},
     "messages[0].content[0].file.file_data", "unsupported_value"),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": "data:application/octet-stream;base64,//79"}}]},
     "messages[0].content[0].file.file_data", "unsupported_value"),
    ({"role": "user", "content": [{"type": "file"}]}, "messages[0].content[0].file",
     "missing_required_parameter"),
    *(({"role": role, **content}, "messages[0].content", "missing_required_parameter")
      for role in ("user", "system", "developer", "tool")
      for content in ({}, {"content": None})),
    ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,%"}]},
     "messages[0].content[0].image_url", "invalid_base64"),
    ({"role": "user",
      "content": [{"type": "image_url", "image_url": "data:text/html;base64,QQ=="}]},
     "messages[0].content[0].image_url", "unsupported_value"),
    ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
     "messages[0].content[0].file", "unsupported_value"),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": "data:application/pdf;base64,JVBERi0="}}]},
     "messages[0].content[0].file.file_data", "unsupported_value"),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": "data:audio/mpeg;base64,//tA"}}]},
     "messages[0].content[0].file.file_data", "unsupported_value"),
    ({"role": "assistant", "tool_calls": {}}, "messages[0].tool_calls", TYPE),
    ({"role": "assistant", "tool_calls": [{"id": "x"}]}, "messages[0].tool_calls[0].function",
     "missing_required_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "param", "code"), BAD_MESSAGES, ids=lambda v: str(v)[:40])
def test_a_bad_message_is_named_with_its_place(given: Any, param: str, code: str) -> None:
    assert refused(messages=[given]) == (param, code)


GOOD_MESSAGES = [
    (USER, Message("user", "Hi")),
    ({"role": "developer", "content": "Be brief"}, Message("system", "Be brief")),
    ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
     Message("user", "a\nb")),
    ({"role": "user", "content": []}, Message("user", "")),
    ({"role": "user", "content": ["a", "b"]}, Message("user", "a\nb")),
    ({"role": "user", "content": "", "name": "Ann"}, Message("user", "", name="Ann")),
    ({"role": "assistant", "content": None, "refusal": "No."}, Message("assistant", "No.")),
    ({"role": "assistant", "content": "<think>x\ny</think>\n\nHi", "reasoning_content": "z"},
     Message("assistant", "Hi")),
    ({"role": "assistant", "content": "", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
     Message("assistant", "", (ToolCall("c1", "f", "{}"),))),
    ({"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "custom", "custom": {"name": "f", "input": "raw"}}]},
     Message("assistant", "", (ToolCall("c1", "f", "raw", custom=True),))),
    ({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
     Message("assistant", "", (ToolCall("f", "f", "{}"),))),
    ({"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
     Message("tool", "42", (), "c1")),
    ({"role": "function", "name": "f", "content": None}, Message("tool", "", (), "f", "f")),
    ({"role": "function", "name": "f"}, Message("tool", "", (), "f", "f")),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}]},
     Message("user", [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}])),
    ({"role": "user", "content": [{"type": "input_image", "image_url": PIXEL}]},
     Message("user", [{"type": "image_url", "image_url": {"url": PIXEL}}])),
    ({"role": "user", "content": [{"type": "file", "file": {
        "filename": "a.txt", "file_data": "data:text/plain;base64,w6Q="}}]},
     Message("user", "[File a.txt]\nä")),
    ({"role": "user", "content": [{"type": "file", "file": {
        "filename": "a.rs", "file_data": "data:application/octet-stream;base64,Zm4="}}]},
     Message("user", "[File a.rs]\nfn")),
    ({"role": "user", "content": [{"type": "file", "file": {
        "filename": "latin.csv", "file_data": "data:text/csv;base64,YenpYg=="}}]},
     Message("user", "[File latin.csv]\na\ufffd\ufffdb")),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": "data:;base64,Zm4="}}]}, Message("user", "[File file]\nfn")),
    *(({"role": "user", "content": [{"type": "file", "file": {
        "filename": name, "file_data": f"data:{kind};base64,w6Q="}}]},
       Message("user", f"[File {name}]\nä"))
      for name, kind in (("a.ts", "video/mp2t"), ("a.ipynb", "application/x-ipynb+json"),
                         ("a.csv", "application/vnd.ms-excel"), ("a.svg", "image/svg+xml"))),
    ({"role": "user", "content": [{"type": "file", "file": {
        "file_data": PIXEL.replace("image/png", "application/octet-stream")}}]},
     Message("user", [{"type": "image_url", "image_url": {"url": PIXEL}}])),
    ({"role": "assistant", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"ä": 1}}}]},
     Message("assistant", "", (ToolCall("c1", "f", '{"ä": 1}'),))),
    ({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f"}]},
     Message("assistant", "", (ToolCall("t", "f", "{}"),))),
    ({"role": "assistant", "content": [
        {"type": "thinking", "thinking": "x"}, {"type": "redacted_thinking", "data": "x"},
        {"type": "reasoning", "text": "x"}, {"type": "reasoning_content", "text": "x"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
     Message("assistant", "a", (ToolCall("t", "f", '{"a": 1}'),))),
    ({"role": "assistant", "content": [
        {"type": "text", "text": f"![image]({PICTURE})"}, {"type": "image", "url": PICTURE}]},
     Message("assistant", f"![image]({PICTURE})")),
    ({"role": "assistant", "content": [
        {"type": "image_url", "image_url": {"url": PICTURE}}, {"type": "text", "text": "Here:"}]},
     Message("assistant", f"Here:\n\n![image]({PICTURE})")),
    ({"role": "assistant", "content": f"See {PICTURE}/2", "images": [
        {"type": "image_url", "image_url": PICTURE}]},
     Message("assistant", f"See {PICTURE}/2\n\n![image]({PICTURE})")),
    ({"role": "assistant", "content": "", "images": [
        {"type": "image_url", "image_url": {"url": PICTURE}}]},
     Message("assistant", f"![image]({PICTURE})")),
    ({"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]},
     Message("assistant", "[a picture]")),
    ({"role": "assistant", "content": "<thought>\nx</thought>\nHi"}, Message("assistant", "Hi")),
    ({"role": "assistant", "content": "<think>x</think>\n<think>y</think>\n\nHi <think>z</think>"},
     Message("assistant", "Hi <think>z</think>")),
    ({"role": "assistant", "content": "<think>\nOkay,"}, Message("assistant", "<think>\nOkay,")),
    ({"role": "user", "content": [{"type": "image", "source": {
        "type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]}}]},
     Message("user", [{"type": "image_url", "image_url": {"url": PIXEL}}])),
    ({"role": "user", "content": [{"type": "image", "source": {
        "type": "url", "url": "https://x.y/z"}}]},
     Message("user", [{"type": "image_url", "image_url": {"url": "https://x.y/z"}}])),
]  # fmt: skip


@pytest.mark.parametrize(("given", "meant"), GOOD_MESSAGES, ids=lambda v: str(v)[:40])
def test_a_message_is_taken_as_it_is_meant(given: Any, meant: Message) -> None:
    assert message(given) == meant


BYTES = b"\x89PNG\r\n\x1a\n" + bytes(range(200, 256)) * 2
BASE64 = base64.b64encode(BYTES).decode()
PLAIN = f"data:image/png;base64,{BASE64}"
ODD_IMAGES = {
    "plain": PLAIN,
    "http": "http://x.y/z",
    "no type": f"data:;base64,{BASE64}",
    "a browser's word for anything": f"data:application/octet-stream;base64,{BASE64}",
    "another type": f"data:image/webp;base64,{BASE64}",
    "no image's type": f"data:image/svg+xml;base64,{BASE64}",
    "capitals": f"DATA:image/PNG;BASE64,{BASE64}",
    "in lines": f"data:image/png;base64,{BASE64[:76]}\r\n{BASE64[76:]}\n",
    "without padding": f"data:image/png;base64,{BASE64.rstrip('=')}",
    "url-safe": f"data:image/png;base64,{base64.urlsafe_b64encode(BYTES).decode()}",
    "with a charset": f"data:image/png;charset=utf-8;base64,{BASE64}",
}


@pytest.mark.parametrize("case", ODD_IMAGES)
def test_an_image_is_taken_however_it_is_written(case: str) -> None:
    url = ODD_IMAGES[case]
    part = {"type": "image_url", "image_url": {"url": url}}
    (told,) = parts_of({"role": "user", "content": [part]})
    assert told["image_url"]["url"] == (url if url.startswith("http:") else PLAIN)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [(b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF89a", "gif"), (b"RIFF\0\0\0\0WEBPVP8", "webp")],
)
def test_the_first_bytes_tell_the_type_of_an_image(begin: bytes, kind: str) -> None:
    url = f"data:image/png;base64,{base64.b64encode(begin).decode()}"
    part = {"type": "input_image", "image_url": url}
    (told,) = parts_of({"role": "user", "content": [part]})
    assert told["image_url"]["url"].startswith(f"data:image/{kind};base64,")


RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "42"}]}


def test_results_among_the_content_are_messages_of_their_own() -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "so?"}, RESULT]}
    alone = {"role": "user", "content": [{**RESULT, "content": "43"}]}
    assert parse(messages=[said, alone]).conversations[0] == [
        Message("tool", "42", (), "t"), Message("user", "so?"), Message("tool", "43", (), "t"),
    ]  # fmt: skip


def test_an_answer_in_which_nothing_was_said_is_left_out() -> None:
    thought = [{"type": "thinking", "thinking": "x"}]
    empties: list[dict[str, Any]] = [{}, {"content": ""}, {"content": thought}, {"tool_calls": []}]
    for empty in empties:
        assert parse(messages=[USER, {"role": "assistant", **empty}]).conversations == (
            [Message("user", "Hi")],
        )
    assert refused(messages=[{"role": "assistant"}]) == ("messages", "empty_array")


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("content", ["", []])
def test_an_empty_system_text_is_left_out(role: str, content: Any) -> None:
    assert parse(messages=[{"role": role, "content": content}, USER]).conversations == (
        [Message("user", "Hi")],
    )


def speakers(*names: str | None) -> tuple[list[str], tuple[str, ...]]:
    """What becomes of user messages with these names, and what is told to have no effect."""
    given = [{"role": "user", "content": "Hi", "name": name} for name in names]
    request = parse(messages=[*given, {"role": "assistant", "content": "Oh", "name": "Bot"}])
    return [m.content for m in request.conversations[0]], request.ignored


def test_names_are_told_where_several_speak_in_a_role() -> None:
    assert speakers("Ann", "Bob", None) == (
        ["Ann: Hi", "Bob: Hi", "Hi", "Oh"],
        ("messages[].name",),
    )
    assert speakers("Ann", "Ann") == (["Hi", "Hi", "Oh"], ("messages[].name",))
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    crowd = [{"role": "user", "content": [image], "name": name} for name in ("Ann", "Bob")]
    (first, _) = parse(messages=crowd).conversations[0]
    assert first.content == [{"type": "text", "text": "Ann:"}, image]


OFF: list[dict[str, Any]] = [
    {"reasoning_effort": "none"}, {"enable_thinking": False}, {"thinking": {"type": "disabled"}},
    {"thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}}, {"reasoning": {"effort": "none"}},
    {"reasoning": {"enabled": False}}, {"think": False},
]  # fmt: skip
ON: list[dict[str, Any]] = [
    {}, {"reasoning_effort": "low"}, {"enable_thinking": True}, {"thinking": {"type": "enabled"}},
    {"chat_template_kwargs": {}}, {"reasoning": {"effort": "high"}}, {"reasoning": 0},
    {"enable_thinking": 0}, {"thinking": {"type": ["disabled"]}}, {"reasoning": {"enabled": None}},
]  # fmt: skip


def test_thoughts_are_switched_off_in_any_clients_way() -> None:
    assert [parse(**switch).thinks for switch in OFF] == [False] * len(OFF)
    assert [parse(**switch).thinks for switch in ON] == [True] * len(ON)
    assert parse(enable_thinking=False, reasoning={}).ignored == ()


def test_thoughts_may_be_had_and_not_told() -> None:
    for hidden in ({"include_reasoning": False}, {"reasoning": {"exclude": True}}):
        request = parse(**hidden)
        assert (request.thinks, request.hides_thoughts, request.ignored) == (True, True, ())
    for shown in ({}, {"include_reasoning": True}, {"reasoning": {"exclude": False}}):
        assert not parse(**shown).hides_thoughts


def test_deprecated_functions_are_limited_as_tools_are() -> None:
    functions = [{"name": "f"}] * 2049
    assert refused(functions=functions) == ("functions", "array_above_max_length")


def test_what_is_just_not_too_much_is_taken() -> None:
    many = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(2048)]
    chosen = {"type": "function", "function": {"name": "f2047"}}
    asked = parse(tools=many, tool_choice=chosen, stop=["a" * 1024] * 64)
    assert [tool.name for tool in asked.tools.tools] == ["f2047"]


def test_forty_thousand_messages_are_no_trouble() -> None:
    assert len(parse(messages=[USER] * 40_000).conversations[0]) == 40_000


def test_a_legacy_prompt_may_be_one_or_many() -> None:
    body = b'{"model": "m", "prompt": ["a", "b"], "max_tokens": 3}'
    asked = legacy_completions.parse(body, Settings())
    assert asked.max_tokens == 3
    assert asked.conversations == ([Message("user", "a")], [Message("user", "b")])
