"""Calls as families of models write them that nobody taught us: a row each, however it is cut."""

from functools import partial
from typing import Any

import pytest
from found_calls import cuts, found

from chat_request import Tool, ToolUse

TEXT = {"type": "string"}
SHOW = Tool("show_map", parameters={"properties": {"place": TEXT}, "required": ["place"]})
PING = Tool("ping", parameters={"type": "object", "properties": {}})
KEEP = Tool(
    "keep",
    parameters={
        "properties": {
            "note": TEXT,
            "count": {"type": "integer"},
            "index": {"type": "integer"},
            "share": {"type": "number"},
            "box": {"$ref": "#/$defs/Box"},
            "rows": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Box"}}]},
            "tags": {"type": "array", "items": TEXT},
            "either": {"oneOf": [{"type": "boolean"}, {"type": "object"}]},
            "any": {},
        },
        "$defs": {
            "Box": {"type": "object", "properties": {"name": TEXT, "size": {"type": "integer"}}}
        },
    },
)
USE = ToolUse((SHOW, PING, KEEP))

OSLO: list[Any] = ["show_map", {"place": "Oslo"}]
PONG: list[Any] = ["ping", {}]
JSON = '{"name": "show_map", "arguments": {"place": "Oslo"}}'
PLAIN = '{"place": "Oslo"}'
ARG = '<parameter name="place">Oslo</parameter>'
INVOKE = f'<invoke name="show_map">\n{ARG}\n</invoke>'
PAIR = "<{0}arg_key>place</{0}arg_key><{0}arg_value>Oslo</{0}arg_value>"
ATEM = (
    "<|start|>assistant to={0}<|message|><atem:function_calls>\n"
    '<atem:invoke name="{0}">\n{1}</atem:invoke>\n</atem:function_calls>'
)
GCML = (
    '<｜GCML｜tool_calls><｜GCML｜invoke name="show_map"><｜GCML｜parameter name="place" '
    'string="true">Oslo</｜GCML｜parameter></｜GCML｜invoke></｜GCML｜tool_calls>'
)
ANNOUNCED = f"**Tool Call:**\n```json\n{JSON}\n```"
OPEN_TOOLS = "<|open|>tools<|sep|>"
PLACE = '<|open|>argument key="place" type="string"<|sep|>Oslo<|close|>argument<|sep|>'
BRACKETS = '<|open|>call tool="{}" index="1"<|sep|>{}<|close|>call<|sep|>'
CLOSE_TOOLS = "<|close|>tools<|sep|><|close|>message<|sep|>"
FILL = "]<]minimax[>["
ROW = f"{FILL}<item>{FILL}<name>R&D{FILL}</name>{FILL}<size>2{FILL}</size>{FILL}</item>"
MARKED = PAIR.replace("key>", "key:x1>").replace("value>", "value:x1>").format("")
REQUEST = (
    "<|plamo:begin_tool_request:plamo|><|plamo:begin_tool_name:plamo|>{}"
    "<|plamo:end_tool_name:plamo|><|plamo:begin_tool_arguments:plamo|><|plamo:constrain|>json"
    "<|plamo:msg|>{}<|plamo:end_tool_arguments:plamo|><|plamo:end_tool_request:plamo|>"
)
SOLAR = "<|tool_call:begin|>{}<|tool_call:name|>{}<|tool_call:args|>{}<|tool_call:end|>"
# What is written, the calls in it, and the words that are left of it.
FAMILIES: dict[str, tuple[str, list[list[Any]], str]] = {
    "a maker's name": (
        f"ok<some_function_call>{INVOKE}<invoke name='ping'/></some_function_call>",
        [OSLO, PONG],
        "ok",
    ),
    "a maker's name, with pairs": (
        f"<x9_tool_call>show_map{PAIR.format('')}</x9_tool_call>"
        "<x9_tool_calls><x9_tool_call>ping</x9_tool_call></x9_tool_calls>",
        [OSLO, PONG],
        "",
    ),
    "a namespace before a bar": (
        f"Hm <ab|tool_calls><ab|tool_call>show_map{PAIR.format('ab|')}</ab|tool_call>\n"
        "<ab|tool_call>ping</ab|tool_call></ab|tool_calls>\nSo.",
        [OSLO, PONG],
        "Hm\nSo.",
    ),
    "another maker's markup": (f"I look.{GCML}", [OSLO], "I look."),
    "a recipient before tags": (
        ATEM.format("show_map", ARG.replace("parameter", "atem:parameter")) + "<|eom|>"
        f"{ATEM.format('ping', '')}<|eot|>",
        [OSLO, PONG],
        "",
    ),
    "a stray word of Claude's": (f"I look.\n\ncourt\n{INVOKE}", [OSLO], "I look."),
    "another stray word": (f"call {INVOKE}\n</function_calls>", [OSLO], ""),
    "a declaration of Gemini's": ('declaration:default_api:show_map{place:"Oslo"}', [OSLO], ""),
    "a tag that calls": ("<call>show_map{place: 'Oslo'}", [OSLO], ""),
    "a name that touches its JSON": (
        f"I look.\nshow_map{PLAIN}\nping{{}}",
        [OSLO, PONG],
        "I look.",
    ),
    "announced again and again": (
        f"{ANNOUNCED}\n{ANNOUNCED}",
        [OSLO, OSLO],
        "**Tool Call:**\n**Tool Call:**",
    ),
    "a thought with spaces": (
        "<|channel|> analysis<|message|> I need it.<|end|><|start|> assistant"
        f"<|channel|> commentary to=functions.show_map <|constrain|> json<|message|> {PLAIN}",
        [OSLO],
        "",
    ),
    "a set": (
        "```tool_code\nkeep(tags={'a', 'b'})\n```",
        [["keep", {"tags": ["a", "b"]}]],
        "",
    ),
    "brackets of tokens": (
        f"I look.{OPEN_TOOLS}{BRACKETS.format('show_map', PLACE)}{BRACKETS.format('ping', '')}"
        f"{CLOSE_TOOLS}",
        [OSLO, PONG],
        "I look.",
    ),
    "the number of a call": (
        OPEN_TOOLS + BRACKETS.format("keep", PLACE.replace("place", "note")) + CLOSE_TOOLS,
        [["keep", {"note": "Oslo"}]],
        "",
    ),
    "a filler before each tag": (
        f"I look.{FILL}<tool_call>\n{FILL}<invoke name='show_map'>{FILL}<place>Oslo{FILL}</place>"
        f"{FILL}</invoke>\n{FILL}<invoke name='ping'>{FILL}</invoke>\n{FILL}</tool_call>",
        [OSLO, PONG],
        "I look.",
    ),
    "fillers in a value": (
        f"{FILL}\n<tool_call>{FILL}\n<invoke name='keep'>{FILL}\n<rows>{ROW}{ROW}{FILL}\n</rows>"
        f"{FILL}\n<count>3{FILL}\n</count>{FILL}\n</invoke>{FILL}\n</tool_call>",
        [["keep", {"rows": [{"name": "R&D", "size": 2}] * 2, "count": 3}]],
        "",
    ),
    "a mark behind each word": (
        f"<tool_calls:x1>\n<tool_call:x1>show_map<tool_sep:x1>{MARKED}</tool_call:x1>\n"
        "<tool_call:x1>ping<tool_sep:x1></tool_call:x1>\n</tool_calls:x1>",
        [OSLO, PONG],
        "",
    ),
    "pairs of tokens": (
        "<|tool_call:start|>show_map\n<|tool_arg:start|>place<|tool_arg:value|>Oslo<|tool_arg:end|>\n"
        "<|tool_call:end|>\n<|tool_call:start|>ping\n<|tool_call:end|>",
        [OSLO, PONG],
        "",
    ),
    "a maker's name around each word": (
        f"<|plamo:begin_tool_requests:plamo|>{REQUEST.format('show_map', PLAIN)}"
        f"{REQUEST.format('ping', '{}')}<|plamo:end_tool_requests:plamo|><|plamo:tag|>",
        [OSLO, PONG],
        "",
    ),
    "a space in each tag": (
        '<｜DSML｜ calls>\n<｜DSML｜ invoke name="show_map">\n<｜DSML｜ parameter name="place" '
        'string="true">Oslo</｜DSML｜ parameter>\n</｜DSML｜ invoke>\n</｜DSML｜ calls>',
        [OSLO],
        "",
    ),
    "a message that invokes": (
        "<|message_model|><|content_thinking|>I need it.<|end_message|><|message_model|>show_map"
        f"<|content_invoke_tool_json|>{JSON.replace('arguments', 'args')}<|end_message|>"
        "<|content_model_end_sampling|>",
        [OSLO],
        "",
    ),
    "a message of another role": (
        f"I look.<|message_sep|>\n\nfunction call<|role_sep|>\n{JSON}<|message_sep|>\n\n",
        [OSLO],
        "I look.",
    ),
    "a role in a line": (
        f"function call<|role_sep|>\n{JSON}\nfunction call<|role_sep|>\n{JSON}",
        [OSLO, OSLO],
        "",
    ),
    "the head of a turn": (
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{JSON}<|eot_id|>",
        [OSLO],
        "",
    ),
    "a thought in tokens": (
        f"<|START_THINKING|>I need it.<|END_THINKING|><|START_ACTION|>[{JSON}]<|END_ACTION|>",
        [OSLO],
        "",
    ),
    "a thought in a channel": (
        '<|channel>thought\nI need it.\n<channel|>call:show_map{place:<|"|>Oslo<|"|>}<turn|>',
        [OSLO],
        "",
    ),
    "a thought": (
        "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.show_map <|constrain|>json<|message|>{PLAIN}<|call|>",
        [OSLO],
        "",
    ),
    "the end of thoughts alone": (f"</think>\n\n<tool_call>{JSON}</tool_call>", [OSLO], ""),
    "a stray colon": ('<|tool_call>:call:show_map{place:<|"|>Oslo<|"|>}<tool_call|>', [OSLO], ""),
    "a name as its own namespace": (
        ATEM.format("show_map.show_map", ARG.replace("parameter", "atem:parameter")) + "<|eom|>",
        [OSLO],
        "",
    ),
    "several in a fence in a tag": (
        "<|tool_call_start|>\n```python\nshow_map(place='Oslo')\nping()\n```\n<|tool_call_end|>\n"
        "See:\n```\nls\n```",
        [OSLO, PONG],
        "See:\n```\nls\n```",
    ),
    "a fence that is not closed": (
        f"<tool_call>\n```json\n{JSON}\n</tool_call>\nSo.\n<tool_call>{JSON}</tool_call>\n"
        "```\nls\n```",
        [OSLO, OSLO],
        "So.\n```\nls\n```",
    ),
    "a bracket and a tag": (f'a["b"]<tool_call>{JSON}</tool_call>', [OSLO], 'a["b"]'),
    "Python's own words as names": (
        "<|tool_call_start|>[keep(from='x =', class='is=', box=Box(in=1))]<|tool_call_end|>",
        [["keep", {"from": "x =", "class": "is=", "box": {"in": 1}}]],
        "",
    ),
    "zeros in Python": (
        "keep(count=07, share=-1.05, tags=['007', 10, 0])",
        [["keep", {"count": 7, "share": -1.05, "tags": ["007", 10, 0]}]],
        "",
    ),
    "an id before the name": (
        "<|think|>I look.<|end|><|begin|>assistant<|tool_calls|>"
        f"{SOLAR.format('a1b2c3', 'show_map', PLAIN)}{SOLAR.format('0', 'ping', '{}')}<|flush|>",
        [OSLO, PONG],
        "",
    ),
    "underscores as in Markdown": (
        f"I look.\n<tool\\_call>\n{JSON.replace('_', chr(92) + '_')}\n</tool\\_call>",
        [OSLO],
        "I look.",
    ),
    "a number below zero": (
        'call:keep{note:"a,b:c",count:-7,share:-1.5e-3}',
        [["keep", {"note": "a,b:c", "count": -7, "share": -0.0015}]],
        "",
    ),
    "keys without quotes": (
        "functions.keep({note: 'a: -1, b', box: {name: \"x\", size: -2}, tags: [],})",
        [["keep", {"note": "a: -1, b", "box": {"name": "x", "size": -2}, "tags": []}]],
        "",
    ),
}
ENDS = (
    "</s>", "<turn|>", "<|eom|>", "<|role_end|>", "<|assistant_end|>", "[|endofturn|]",
    "</assistant>", "\n</answer>", "<|message_sep|>",
)  # fmt: skip
FAMILIES |= {f"the end {end}": (f"I look.\n{JSON}{end}", [OSLO], "I look.") for end in ENDS}


find = partial(found, use=USE)


def all_cuts(wire: str) -> list[list[str]]:
    """The same, and cut in two everywhere."""
    return [*cuts(wire), *([wire[:at], wire[at:]] for at in range(1, len(wire)))]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_understood_however_it_is_cut(family: str) -> None:
    wire, calls, said = FAMILIES[family]
    for pieces in cuts(wire):
        assert find(pieces) == (said, calls, "tool_calls"), pieces


def test_calls_with_fillers_are_made_while_the_answer_goes_on() -> None:
    wire, calls, said = FAMILIES["a filler before each tag"]
    for pieces in cuts(f"{wire}\nSo"):
        assert find(pieces, done="length") == (f"{said}\nSo", calls, "length")


QUOTED = {
    "a citation": f'It says "<tool_calls><tool_call>{JSON}</tool_call></tool_calls>" there.',
    "a citation in typographic marks": f"Sie schrieb „<function_calls>{INVOKE[:22]}</invoke>“.",
    "a citation of tokens": "So '<|tool_call_begin|>ping<|tool_call_argument_begin|>{}' is one.",
    "a citation that is not closed": '"<tool_call><function=ping></function></tool_call> he wrote.',
    "stray words": "call\nme, the court\nis <b>here</b>.\ncount <3",
    "a call in an order": 'Call ping() and show_map(place="Oslo").\ncall ping()\n',
    "declarations": "declaration: none\ndeclaration:ping of the kind\n",
    "brackets of tokens": "It opens <|open|>call and ends in <|sep|>, not in <|close|>.",
    "fillers": f"It puts {FILL} before each tag, as in {FILL}<b> or {FILL}.",
    "a citation with fillers": f"So \"{FILL}<invoke name='ping'>{FILL}</invoke>\" calls.",
    "a list that ends": "a[0]\nb = [[1], [2]]\n<b>x[1]</b> [2]<i>",
    "elements of an answer": "<answer>ping()</answer> <response>x</response></assistant>",
    "a struct": "ping{color: red}\nping{x}\n",
    "markup that is shown and left open": (
        "It looks like this:\n\n```\n<function_calls>\n"
        f'<invoke name="show_map">\n{ARG}\n```\n\nThe end is missing.'
    ),
    "an exchange that is shown": (
        f"An exchange looks like this:\n\nTool call:\n```json\n{JSON}\n```\n\nResult: a map."
    ),
    "a made-up maker": "<some_tool_calling>ping</some_tool_calling> <ab|b>ping</ab|b>",
    "Python that indexes": 'show_map["place"] = 1\n',
}


@pytest.mark.parametrize("kind", QUOTED)
def test_what_only_cites_or_looks_so_is_text(kind: str) -> None:
    wire = QUOTED[kind]
    for pieces in all_cuts(wire):
        assert find(pieces) == (wire, [], "stop"), pieces


def test_a_citation_ends_with_its_mark_or_its_line() -> None:
    block = f"<tool_call>{JSON}</tool_call>"
    for said in ('The "<b>" and', '"<b>\nSo', 'The sign "< 5" is no tag:'):
        wire = f"{said} {block}"
        for pieces in all_cuts(wire):
            assert find(pieces) == (said, [OSLO], "tool_calls"), pieces


ROWS = (
    "\n<row>\n  <name>a</name>\n  <size>1</size>\n</row>\n"
    "<row><name>R&D</name><size>2</size></row>\n"
)
VALUES: dict[str, tuple[str, str, Any]] = {
    "an object in tags": ("box", "<name>a</name><size>1</size>", {"name": "a", "size": 1}),
    "a list in tags": ("rows", ROWS, [{"name": "a", "size": 1}, {"name": "R&D", "size": 2}]),
    "a list of one": ("rows", "<name>a</name><size>1</size>", [{"name": "a", "size": 1}]),
    "a list of texts": ("tags", "<tag>a b</tag><tag>7</tag>", ["a b", "7"]),
    "a part in several tags": (
        "box",
        "<name>a</name><x>1</x><x>2</x>",
        {"name": "a", "x": ["1", "2"]},
    ),
    "markup where text is wanted": ("note", "<b>x</b>", "<b>x</b>"),
    "markup and text": ("box", "so <b>x</b>", "so <b>x</b>"),
    "text between tags": ("box", "<b>x</b> so <b>y</b>", "<b>x</b> so <b>y</b>"),
    "a comment": ("box", "<!-- c --><name>a</name>", "<!-- c --><name>a</name>"),
    "attributes": ("box", '<name a="1">a</name>', '<name a="1">a</name>'),
    "different things in a list": ("tags", "<a>1</a><b>2</b>", "<a>1</a><b>2</b>"),
    "open tags": ("box", "<name>a", "<name>a"),
    "zeros in front": ("count", "007", 7),
    "zeros in front, below zero": ("share", "-08", -8),
    "zeros in a text": ("note", "007", "007"),
    "an object beside a truth value": ("either", '{"Key": "Value"}', {"Key": "Value"}),
    "a truth value in capitals": ("either", "TRUE", True),
    "escaped JSON": ("rows", r"[{\"name\": \"a\\\"b\"}]", [{"name": 'a"b'}]),
    "escaped JSON that broke": ("rows", r'[{\"name\": "a\"}]', r'[{\"name\": "a\"}]'),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_in_tags_becomes_what_its_schema_has(case: str) -> None:
    key, written, meant = VALUES[case]
    wire = f'<invoke name="keep"><parameter name="{key}">{written}</parameter></invoke>'
    assert find([wire])[1] == find(list(wire))[1] == [["keep", {key: meant}]]


@pytest.mark.parametrize(
    ("key", "written", "meant"),
    [("count", "5", 5), ("note", "5", "5"), ("any", "[5]", "[5]")],
)
def test_the_schema_outdoes_a_tag_that_says_text(key: str, written: str, meant: Any) -> None:
    wire = (
        f'<｜DSML｜invoke name="keep"><｜DSML｜parameter name="{key}" string="true">{written}'
        "</｜DSML｜parameter></｜DSML｜invoke>"
    )
    assert find([wire])[1] == [["keep", {key: meant}]]


def test_an_unknown_tag_behind_a_name_is_waited_for() -> None:
    wire = f"<tool_call>show_map<｜DSML｜unheard_of_thing｜>{ARG}</tool_call>"
    wanted = find([wire])
    for pieces in all_cuts(wire):
        assert find(pieces) == wanted
