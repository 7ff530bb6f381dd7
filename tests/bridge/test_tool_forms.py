"""The forms in which models write calls out of habit, a row each, and what only looks like one."""

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.call_names import Names
from bridge.tool_calls import find_calls
from chat_request import Tool, ToolUse
from errors import Unmet
from events import Done, Event, Text, ToolCall

TEXT = {"type": "string"}
LEVEL = {"type": "integer", "enum": [1, 2, 3]}
READ = Tool("read_file", parameters={"properties": {"path": TEXT}, "required": ["path"]})
WRITE = Tool(
    "write_file",
    parameters={"properties": {"path": TEXT, "content": TEXT}, "required": ["path", "content"]},
)
SET_RULES = {
    "properties": {
        "level": {"$ref": "#/$defs/Level"},
        "on": {"oneOf": [{"type": "boolean"}, {"type": "null"}]},
        "size": {"allOf": [{"$ref": "#/$defs/Level"}]},
        "pick": {"enum": [1, 2]},
        "note": {"anyOf": [{"type": "null"}, TEXT]},
        "where": {"type": "object"},
        "tags": {"type": ["array", "null"]},
        "part": {"type": "number"},
    },
    "$defs": {"Level": LEVEL},
}
SET = Tool("set-state", parameters=SET_RULES)
NOW = Tool("now", parameters={"type": "object", "properties": {}})
PATCH = Tool("patch", custom=True)
MAIL = Tool("send", parameters={"properties": {"to": TEXT}}, namespace="mail")
USE = ToolUse((READ, WRITE, SET, NOW, PATCH, MAIL))

A: list[Any] = ["read_file", {"path": "a.txt"}]
NOTHING: list[Any] = ["now", {}]
SENT: list[Any] = ["send", {}]
JSON = '{"name": "read_file", "arguments": {"path": "a.txt"}}'
CALL = f"<tool_call>{JSON}</tool_call>"
PLAIN = '{"path": "a.txt"}'
ARG = '<parameter name="path">a.txt</parameter>'
INVOKE = f'<invoke name="read_file">\n{ARG}\n</invoke>'
DSML = (
    "<{0}function_calls>\n<{0}invoke name='read_file'>\n"
    '<{0}parameter name="path" string="true">a.txt</{0}parameter>\n'
    "</{0}invoke>\n</{0}function_calls>"
)
V31 = f"<｜tool▁call▁begin｜>read_file<｜tool▁sep｜>{PLAIN}<｜tool▁call▁end｜>"
R1 = f"function<｜tool▁sep｜>read_file\n```json\n{PLAIN}\n```"
V3 = f"<｜tool▁call▁begin｜>{R1}<｜tool▁call▁end｜>"
KIMI = "<|tool_call_begin|>functions.read_file:0<|tool_call_argument_begin|>" + PLAIN
GLM = "<tool_call>read_file\n<arg_key>path</arg_key>\n<arg_value>a.txt</arg_value>\n"
HARMONY = "<|channel|>commentary to=functions.read_file <|constrain|>json<|message|>"
# What is written, the calls in it, and the words that are left of it.
FORMS: dict[str, tuple[str, list[list[Any]], str]] = {
    "upper case": (CALL.replace("tool_call", "TOOL_CALL"), [A], ""),
    "a token as tag": (f"<|tool_call|>{JSON}<|/tool_call|>", [A], ""),
    "a dash in the tag": (CALL.replace("tool_call", "tool-call"), [A], ""),
    "brackets as tag": (f"[TOOL_CALL]{JSON}[/TOOL_CALL]", [A], ""),
    "brackets with other end": (f"[TOOL_REQUEST]{JSON}[END_TOOL_REQUEST]", [A], ""),
    "two in one tag": (f"<tool_call>\n{JSON}\n{JSON}\n</tool_call>", [A, A], ""),
    "name in the tag and in the JSON": (
        f'<tool_call name="read_file">{JSON}</tool_call>',
        [A],
        "",
    ),
    "an attribute with a bracket": (
        INVOKE.replace("read", "write").replace(
            "</invoke>", '<parameter name="content" if="a > b">x</parameter>\n</invoke>'
        ),
        [["write_file", {"path": "a.txt", "content": "x"}]],
        "",
    ),
    "an action without a space": (f"Action:read_file{PLAIN}", [A], ""),
    "name before JSON": (f"<tool_call>read_file\n{PLAIN}</tool_call>", [A], ""),
    "name before bracket": (f"<tool_call>read_file({PLAIN})</tool_call>", [A], ""),
    "name alone": ("<tool_call>now</tool_call>", [NOTHING], ""),
    "arguments beside the name": (
        CALL.replace('"arguments": {"path": "a.txt"}', PLAIN[1:-1]),
        [A],
        "",
    ),
    "arguments as text": (CALL.replace(PLAIN, json.dumps(PLAIN)), [A], ""),
    "opened twice": (f"<tool_call>\n{JSON}\n<tool_call>", [A], ""),
    "tag closed as another": (f"<tool_call>{JSON}</function_call>", [A], ""),
    "in a list": (f"1. {CALL}\n2. {CALL}", [A, A], "1.\n2."),
    "raw quotes and tags": (
        '<tool_call>{"name": "write_file", "arguments": '
        '{"path": "a", "content": "say "<b>hi</b>" ok"}}</tool_call>',
        [["write_file", {"path": "a", "content": 'say "<b>hi</b>" ok'}]],
        "",
    ),
    "a Windows path": (
        r'<tool_call>{"name": "read_file", "arguments": {"path": "C:\new\Temp"}}</tool_call>',
        [["read_file", {"path": r"C:\new\Temp"}]],
        "",
    ),
    "backslashes that escape nothing": (
        r'<tool_call>{"name": "read_file", "arguments": {"path": "\d+\.<\/b>"}}</tool_call>',
        [["read_file", {"path": r"\d+\.</b>"}]],
        "",
    ),
    "Python's literals": (
        "<tool_call>{'name': 'now', 'arguments': None,}</tool_call>",
        [NOTHING],
        "",
    ),
    "JSON in a fence": (f"```json\n{JSON}\n```\n\nI wait.", [A], "I wait."),
    "behind a fence": (f"```sh\nls\n```\n\n{CALL}", [A], "```sh\nls\n```"),
    "behind a fence of tildes": (f"~~~\nls\n~~~\n{CALL}", [A], "~~~\nls\n~~~"),
    "behind a fence in a fence": (
        f"````md\n```\nls\n```\n````\n\n{CALL}",
        [A],
        "````md\n```\nls\n```\n````",
    ),
    "JSON in tildes": (f"~~~\n{JSON}\n~~~", [A], ""),
    "JSON on a line": (f"I'll look.\n\n{JSON}\n\nThen more.", [A], "I'll look.\n\nThen more."),
    "JSON in a row": (f"{JSON}; {JSON}", [A, A], ""),
    "Gemini's JSON": (
        '{"functionCall": {"name": "read_file", "args": {"path": "a.txt"}}}',
        [A],
        "",
    ),
    "LangChain's JSON": ('{"action": "read_file", "action_input": {"path": "a.txt"}}', [A], ""),
    "Anthropic's JSON": (
        '{"type": "tool_use", "id": "t1", "name": "read_file", "input": {"path": "a.txt"}}',
        [A],
        "",
    ),
    "a whole message": (
        f'{{"role": "assistant", "content": null, "tool_calls": [{JSON}]}}',
        [A],
        "",
    ),
    "name as the only key": ('```json\n{"read_file": {"path": "a.txt"}}\n```', [A], ""),
    "Claude's": (f"I look.\n\n<x:function_calls>\n{INVOKE}\n</x:function_calls>", [A], "I look."),
    "Claude's, closed by itself": ('<invoke name="now" />', [NOTHING], ""),
    "Claude's, unclosed": (f'<function_calls>\n<invoke name="read_file">\n{ARG}\n', [A], ""),
    "Claude's, old": (
        "<invoke>\n<tool_name>read_file</tool_name>\n<parameters>\n<path>a.txt</path>\n</parameters>\n"
        "</invoke>",
        [A],
        "",
    ),
    "Claude's, one for all": (INVOKE.replace("path", "arguments").replace("a.txt", PLAIN), [A], ""),
    "Harmony": (f"{HARMONY}{PLAIN}<|call|>", [A], ""),
    "Harmony, recipient first": (
        f"<|start|>assistant to=functions.read_file<|channel|>commentary json<|message|>{PLAIN}",
        [A],
        "",
    ),
    "Harmony without tokens": (f" to=functions.read_file  json\n{PLAIN}", [A], ""),
    "Harmony with junk": (f"to=functions.read_file 天天json\n{PLAIN}", [A], ""),
    "Harmony behind words": (f"I'll read. to=functions.read_file json\n{PLAIN}", [A], "I'll read."),
    "Harmony, several": (
        'to=multi_tool_use.parallel json\n{"tool_uses": [{"recipient_name": "functions.read_file", '
        f'"parameters": {PLAIN}}}, {{"recipient_name": "functions.now", "parameters": {{}}}}]}}',
        [A, NOTHING],
        "",
    ),
    "as JavaScript": ('functions.read_file({path: "a.txt"})', [A], ""),
    "as JavaScript, plain": (f"I'll read it.\n\nread_file({PLAIN})", [A], "I'll read it."),
    "tool code": ("```tool_code\nprint(default_api.read_file(path='a.txt'))\n```", [A], ""),
    "tool code, positional": ('```tool_code\nread_file("a.txt")\nnow()\n```', [A, NOTHING], ""),
    "tool code as Python": ('```python\nprint(default_api.read_file(path="a.txt"))\n```', [A], ""),
    "tool code in tags": (
        '<tool_code>\ndefault_api.read_file(path="a.txt")\n</tool_code>',
        [A],
        "",
    ),
    "tool code without a fence": ('tool_code\nprint(default_api.read_file(path="a.txt"))', [A], ""),
    "triple quotes": (
        '```tool_code\nwrite_file(path="a", content="""x\n"y" (1)\n""")\n```',
        [["write_file", {"path": "a", "content": 'x\n"y" (1)\n'}]],
        "",
    ),
    "nested objects": (
        "default_api.set_state(where=default_api.Where(x=-1.5), tags=('a', true), on=None)",
        [["set-state", {"where": {"x": -1.5}, "tags": ["a", True], "on": None}]],
        "",
    ),
    "call record": (f'<call_record tool="read_file">{ARG}</call_record>', [A], ""),
    "Gemini's braces": ('call:default_api:read_file{path: "a.txt"}', [A], ""),
    "DSML": (DSML.format("｜DSML｜"), [A], ""),
    "DSML, double bars": (DSML.format("｜｜DSML｜｜"), [A], ""),
    "DSML, spaced": (DSML.format(" | DSML | "), [A], ""),
    "DSML, other bars": (DSML.format("‖DSML‖"), [A], ""),
    "V3.1": (f"Text.<｜tool▁calls▁begin｜>{V31}{V31}<｜tool▁calls▁end｜>", [A, A], "Text."),
    "V3": (f"<｜tool▁calls▁begin｜>{V3}\n{V3}<｜tool▁calls▁end｜>", [A, A], ""),
    "R1 without tokens": (R1, [A], ""),
    "Kimi": (f"Hm. <|tool_calls_section_begin|>{KIMI}<|tool_call_end|>", [A], "Hm."),
    "GLM": (f"{GLM}</tool_call>{GLM}</tool_call>", [A, A], ""),
    "GLM, unclosed": (GLM, [A], ""),
    "Qwen, an end missing": (
        "<tool_call>\n<function=write_file>\n<parameter=path>\na\n<parameter=content>\nb\n</parameter>\n"
        "</function>\n</tool_call>",
        [["write_file", {"path": "a", "content": "b"}]],
        "",
    ),
    "MiniMax": (f"<minimax:tool_call>{INVOKE}{INVOKE}</minimax:tool_call>", [A, A], ""),
    "Grok, an end missing": (
        '<xai:function_call name="read_file">\n<parameter name="path">a.txt\n</xai:function_call>',
        [A],
        "",
    ),
    "Llama": (f'<|python_tag|>{{"name": "read_file", "parameters": {PLAIN}}}<|eom_id|>', [A], ""),
    "Llama's built-in form": ('<|python_tag|>read_file.call(path="a.txt")', [A], ""),
    "Mistral": (f"Hi[TOOL_CALLS][{JSON}]", [A], "Hi"),
    "Mistral with ids": (f"[TOOL_CALLS]read_file[CALL_ID]ab12[ARGS]{PLAIN}", [A], ""),
    "ReAct": (
        f"Thought: so.\nAction: read_file\nAction Input: {PLAIN}\nObservation: x",
        [A],
        "Thought: so.",
    ),
    "ReAct in JSON": (f"Action:\n```json\n[{JSON}]\n```", [A], ""),
    "Pythonic": ("[read_file(path='a.txt'), now()]", [A, NOTHING], ""),
    "Pythonic lines": ('read_file(path="a.txt")\nnow()', [A, NOTHING], ""),
    "a tag with the name": (
        "<read_file>\n<path>a.txt</path>\n</read_file>\n<now/>",
        [A, NOTHING],
        "",
    ),
    "a tag with JSON": (f"<Read_File>{PLAIN}</Read_File>", [A], ""),
    "attributes": ('<read_file path="a.txt"/>', [A], ""),
    "JSON in an attribute": (f"<function name='read_file' arguments='{PLAIN}'/>", [A], ""),
    "a namespace": ('<tool_call>{"name": "mail.send", "arguments": {}}</tool_call>', [SENT], ""),
    "a joined namespace": ('<mail__send to="x"/>', [["send", {"to": "x"}]], ""),
    "words around": (
        f"Hello world.\n\n{CALL}\n\nThen I run it",
        [A],
        "Hello world.\n\nThen I run it",
    ),
    # What models leave on a name, call its keys, or put around its JSON.
    "a name in another case": (JSON.replace("read_file", "readFile"), [A], ""),
    "a name as a path": (CALL.replace("read_file", "functions/read_file"), [A], ""),
    "a name with brackets": (CALL.replace("read_file", "read_file()"), [A], ""),
    "a token on a name": (CALL.replace("read_file", "read_file<|channel|>commentary"), [A], ""),
    "a prefix before a bracket": (f"tools.read_file({PLAIN})", [A], ""),
    "other words for arguments": (JSON.replace("arguments", "tool_args"), [A], ""),
    "a key above": (f'{{"toolCall": {JSON}}}', [A], ""),
    "a status": (JSON[:-1] + ', "status": "completed"}', [A], ""),
    "arguments in a list": (CALL.replace(PLAIN, f"[{PLAIN}]"), [A], ""),
    "labels in a tag": (f"<tool_call>\nname: read_file\narguments: {PLAIN}\n</tool_call>", [A], ""),
    "a colon behind the name": (f"<tool_call>read_file: {PLAIN}</tool_call>", [A], ""),
    "CDATA around JSON": (
        f"<tool_call><name>read_file</name><arguments><![CDATA[{PLAIN}]]></arguments></tool_call>",
        [A],
        "",
    ),
    "CDATA in two": (
        "<tool_call><name>read_file</name><parameters>\n"
        '<![CDATA[{"path": "]]]]><![CDATA[>"}]]>\n</parameters></tool_call>',
        [["read_file", {"path": "]]>"}]],
        "",
    ),
    "brackets in small letters": (f"[tool_call]{JSON}[/tool_call]", [A], ""),
    "tokens of the end": (f"{CALL}<|im_end|>", [A], ""),
    "other tokens of the end": (f"{JSON}<｜end▁of▁sentence｜>", [A], ""),
    "words between calls": (f"First:\n{JSON}\nThen:\n{JSON}", [A, A], "First:\nThen:"),
    # Wrong ends of tags, and what stands beside the arguments.
    "closed by the wrapper": (f'<invoke name="read_file">\n{ARG}\n</function_calls>', [A], ""),
    "closed as something else": (INVOKE.replace("</invoke>", "</tool_use>"), [A], ""),
    "closed by its name": (INVOKE.replace("</invoke>", "</read_file>"), [A], ""),
    "a value closed wrong": (INVOKE.replace("</parameter>", "</param>"), [A], ""),
    "a value closed by its name": (INVOKE.replace("</parameter>", "</path>"), [A], ""),
    "a value's end cut": (INVOKE.replace("</parameter>", "</parameter"), [A], ""),
    "a call that was not closed": (
        f"<function_calls>\n<invoke name='now'>\n{INVOKE}",
        [NOTHING, A],
        "",
    ),
    "an argument that is not known": (
        "<read_file>\n<path>a.txt</path>\n<note>x</note>\n</read_file>",
        [["read_file", {"path": "a.txt", "note": "x"}]],
        "",
    ),
    "an attribute in an open tag": ('<read_file path="a.txt"></read_file>', [A], ""),
    "JSON in an open tag": (
        f"<function_call name='read_file' arguments='{PLAIN}'></function_call>",
        [A],
        "",
    ),
    "an item in each tag": (
        '<invoke name="set-state">\n<parameter name="tags">x</parameter>\n'
        '<parameter key="tags">y</parameter>\n</invoke>',
        [["set-state", {"tags": ["x", "y"]}]],
        "",
    ),
    "free text in brackets": ('patch("""a\n"b"\n""")', [["patch", 'a\n"b"\n']], ""),
    "JSON with entities": (
        '<tool_call name="read_file" arguments="{&quot;path&quot;: &quot;a.txt&quot;}"/>',
        [A],
        "",
    ),
    "a tag with the name in a line": (
        "I'll read it. <read_file><path>a.txt</path></read_file>",
        [A],
        "I'll read it.",
    ),
    "the last line end of broken JSON": (
        '<tool_call>{name: "write_file", arguments: {path: "a", content: "x\\n"}}</tool_call>',
        [["write_file", {"path": "a", "content": "x\n"}]],
        "",
    ),
    "a quote that needed no backslash": (
        CALL.replace("a.txt", "it\\'s"),
        [["read_file", {"path": "it's"}]],
        "",
    ),
    # GPT, Gemini and others.
    "Harmony with a bracket": (f" to=functions.read_file  (json 恒一\n{PLAIN}", [A], ""),
    "Harmony with glued junk": (f"to=functions.read_file天天_json\n{PLAIN}", [A], ""),
    "Harmony without arguments": (
        "<|channel|>commentary to=functions.now <|constrain|>json<|message|><|call|>",
        [NOTHING],
        "",
    ),
    "Harmony with the name again": (
        f"<|channel|>commentary to=functions.read_file<|constrain|>read_file<|message|>{PLAIN}",
        [A],
        "",
    ),
    "several in brackets": (
        'multi_tool_use.parallel({"tool_uses": [{"recipient_name": "functions.read_file", '
        f'"parameters": {PLAIN}}}]}})',
        [A],
        "",
    ),
    "with a colon": ('read_file(path: "a.txt")', [A], ""),
    "JavaScript's back-quotes": (
        "functions.write_file({ path: 'a', content: `x\n` })",
        [["write_file", {"path": "a", "content": "x\n"}]],
        "",
    ),
    "tool code, written out": (
        "```tool_code\nimport default_api\n# The file.\n"
        "x = default_api.read_file(path='a.txt')  # a\nprint(x)\nnow()\n```",
        [A, NOTHING],
        "",
    ),
    "tool code with an answer": (
        "```tool_code\nnow()\n```\n```tool_output\n12\n```\nIt is 12.",
        [NOTHING],
        "",
    ),
    "raw and joined strings": (
        "```tool_code\nwrite_file(path='a' + '.txt', content=r'\\d')\n```",
        [["write_file", {"path": "a.txt", "content": "\\d"}]],
        "",
    ),
    "a fence with another name": (f"```tool-call\n{JSON}\n```", [A], ""),
    "as it is told": (f'[Called function "read_file" with args: {PLAIN}]', [A], ""),
    "as it is told, with brackets": ('[Tool call: read_file(path="a.txt")]', [A], ""),
    "Gemma": ('<|tool_call>call:read_file{path:<|"|>a.txt<|"|>}<tool_call|>', [A], ""),
    "Gemma, small": (
        "<start_function_call>call:read_file{path:<escape>a.txt<escape>}<end_function_call>",
        [A],
        "",
    ),
    "LFM": (
        "<|tool_call_start|>[read_file(path='a.txt'), now()]<|tool_call_end|>",
        [A, NOTHING],
        "",
    ),
    "Llama 4": ("<|python_start|>[read_file(path='a.txt')]<|python_end|>", [A], ""),
    "Phi": (f"functools[{JSON}]", [A], ""),
    "InternLM": (f"<|action_start|><|plugin|>\n{JSON}<|action_end|>", [A], ""),
    "Mistral without its first token": (f"read_file[ARGS]{PLAIN}", [A], ""),
    "V3.1 without its first tokens": (
        f"read_file<｜tool▁sep｜>{PLAIN}<｜tool▁call▁end｜>",
        [A],
        "",
    ),
    "ReAct with other labels": (f"Action: read_file\nParameters: {PLAIN}", [A], ""),
    "an observation in tags": (f"{CALL}\n<observation>x</observation>\nIt is x.", [A], ""),
    "results in brackets": (f"[TOOL_CALLS][{JSON}][TOOL_RESULTS]x[/TOOL_RESULTS]", [A], ""),
    "a result of Harmony": (f"{HARMONY}{PLAIN}<|call|><|start|>functions.read_file to=", [A], ""),
    "a stray mark": (f"Press ` first.\n{CALL}", [A], "Press ` first."),
}


def find(pieces: list[str], use: ToolUse = USE) -> tuple[str, list[list[Any]], str]:
    """The text, the calls and the ending of the first try of an answer."""
    said, calls, ending = "", [], ""
    events: list[Event] = [*map(Text, pieces), Done()]
    for event in find_calls(iter(events), use, last_try=False):
        match event:
            case Text(text):
                said += text
            case ToolCall(_, name, arguments, custom):
                calls.append([name, arguments if custom else json.loads(arguments)])
            case Done(ending):
                pass
    return said, calls, ending


def cuts(wire: str) -> list[list[str]]:
    """The text whole, in letters, and in pieces of some sizes."""
    return [[wire[i : i + n] for i in range(0, len(wire), n)] for n in (len(wire), 1, 2, 7)]


@pytest.mark.parametrize("form", FORMS)
def test_a_habit_is_understood_however_it_is_cut(form: str) -> None:
    wire, calls, said = FORMS[form]
    for pieces in cuts(wire):
        assert find(pieces) == (said, calls, "tool_calls")


def test_a_mark_may_be_cut_behind_its_space() -> None:
    wire = DSML.format(" | DSML | ")
    for spot in range(len(wire)):
        assert find([wire[:spot], wire[spot:]]) == ("", [A], "tool_calls")


def test_the_fence_of_a_call_that_breaks_its_schema_is_no_text_either() -> None:
    """Its arguments were mended and lack one, but words have left: it is not asked for again."""
    broken = V3.replace("read_file", "write_file").replace("a.txt", 'a "b" c')
    for pieces in cuts(f"Text.\n{broken}"):
        assert find(pieces) == ("Text.", [["write_file", {"path": 'a "b" c'}]], "tool_calls")


def test_a_call_behind_an_open_bracket_is_found_wherever_it_is_cut() -> None:
    wire = f"[a note {CALL}"
    for spot in range(len(wire)):
        assert find([wire[:spot], wire[spot:]]) == ("[a note", [A], "tool_calls")


RM = '{"name": "read_file", "arguments": {"path": "build"}}'
QUOTED = {
    "documentation": f"# Cleaning\n\nCall `read_file`:\n\n```json\n{RM}\n```\n\nThis deletes it.",
    "documentation that ends so": f"# Docs\n\n```\n<tool_call>\n{RM}\n</tool_call>\n```\n",
    "an example": f"For example, you would write:\n\n```json\n{RM}\n```\n",
    "an example without a fence": f"For example:\n\n{RM}\n",
    "words behind": f"To remove it:\n\n```\n{RM}\n```\n\nNothing is left then.",
    "a test's source": f"```python\ndef test():\n    text = '<tool_call>{RM}</tool_call>'\n```",
    "real Python": "```python\nprint('hi')\nx = read_file(path='a')\n```",
    "Python of one line": "```python\nread_file(path='a')\n```",
    "JavaScript": f"```js\nconst s = `<tool_call>{RM}</tool_call>`;\n```",
    "a script": f"cat <<EOF > a.json\n{RM}\nEOF",
    "a diff": f"```diff\n-<tool_call>\n+{RM}\n```",
    "a diff without a fence": f"+<tool_call>{RM}</tool_call>\n-<tool_call>{RM}</tool_call>",
    "a fence in a fence": f"````markdown\n# T\n```json\n{RM}\n```\n````\n",
    "inline": f"So `<tool_call>{RM}</tool_call>` it is, or ``{CALL}``.",
    "inline over lines": f"`<tool_call>\n{RM}\n</tool_call>`",
    "quotation marks": f'It says "<tool_call>{RM}</tool_call>" there.',
    "a quotation": f"> <tool_call>{RM}</tool_call>\n> {RM}",
    "a table": f"| a | <tool_call>{RM}</tool_call> |",
    "indented code": f"    {RM}",
    "data": f'{{"users": [\n{RM},\n{RM}\n]}}',
    "more keys": RM[:-1] + ', "comment": "an example"}',
    "a definition": '{"name": "read_file", "description": "x", "parameters": {"properties": {}}}',
    "a definition without a word": '{"name": "read_file", "parameters": {"properties": {}}}',
    "definitions in tags": '<tools>{"type": "function", "function": {"name": "read_file", '
    '"description": "d", "parameters": {"properties": {"path": {}}}}}</tools>',
    "a placeholder": '<tool_call>{"name": "read_file", "arguments": {...}}</tool_call>',
    "a placeholder in quotes": CALL.replace("a.txt", "..."),
    "a placeholder in tags": INVOKE.replace("a.txt", "..."),
    "a placeholder in brackets": "read_file(path=...)",
    "a placeholder in angles": CALL.replace('"a.txt"', "<path>"),
    "a call in a sentence": 'read_file(path="a") reads it, and read_file(path="b") too.',
    "tags of names": "<message>now</message> <tool>now</tool> <function>read_file</function>",
    "markup": '<Tool name="read_file"><p>{x}</p></Tool>',
    "comparisons": "if a <read_file and b> c < now > d",
    "a link": "[read_file](https://x) and [now]. Also [TOOL_CALLS] and <|python_tag|>.",
    "words of a form": "Action: none.\ntool_code is a word, call: me, to=functions.name, now\n",
    "an open tag": "It begins with <tool_call>",
    "a call of nobody's": "<function_calls>\n<invoke name='x'>\n</invoke>\n</function_calls>",
    "inline over lines, with tags in it": f"So `<function_calls>\n{INVOKE}\n</function_calls>` is.",
    "a recipient in a sentence": f"The header to=functions.now and then the JSON {PLAIN} come.",
    "a recipient in quotation marks": f'Here " to=functions.read_file json" precedes {PLAIN}.',
    "a list of tools": '<tools>\n<tool name="read_file" description="Reads"/>\n</tools>',
    "a template": '<tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call>',
    "advice": "To read a file, use:\n\n```\nread_file(path='a')\n```\n",
    "first, an example": f"First, an example:\n{RM}",
    "the form as follows": f"It looks as follows:\n\n{RM}\n",
    "told of in a report": 'I did:\n[Called function "now" with args: {}]\nand it went.',
    "links that begin so": "[Called it](http://x), [tool](y), [function]: z, [called] once",
    "a tag with the name in a sentence": "Use <read_file><path>x</path></read_file> to read it.",
    "a wrapper's name": "multi_tool_use.parallel(x) wraps them.",
    "a schema's answer": '{"read_file": {"path": "a"}, "other": 1}',
}


@pytest.mark.parametrize("form", QUOTED)
def test_what_is_quoted_or_only_looks_so_is_text(form: str) -> None:
    wire = QUOTED[form]
    for pieces in cuts(wire):
        assert find(pieces) == (wire, [], "stop")


NAMED_TAG = '<parameter name="content">{}</parameter>'
VALUES = {
    "a last line end": ("x\n", "x\n"),
    "layout": ("\nx\n", "x"),
    "layout, and a line end": ("\nx\n\n", "x\n"),
    "indented layout": ("\nx\n  ", "x"),
    "empty lines": ("\n\n", ""),
    "space": (" x ", " x "),
    "entities": ("&amp;&lt;", "&amp;&lt;"),
    "CDATA in two": ("<![CDATA[a]]]]><![CDATA[>b]]>", "a]]>b"),
    "CDATA": ("<![CDATA[a</parameter>\n</invoke>]]>", "a</parameter>\n</invoke>"),
    "the end of a call": (
        "a </invoke> and </function_calls> b",
        "a </invoke> and </function_calls> b",
    ),
    "its own end": ("a </parameter> b", "a </parameter> b"),
    "its own pair": (
        'a <parameter name="x">1</parameter> b',
        'a <parameter name="x">1</parameter> b',
    ),
    "a pair at its end": ("<parameter name='x'>1</parameter>", "<parameter name='x'>1</parameter>"),
    "a call": (f"{CALL}\n```\n<think>", f"{CALL}\n```\n<think>"),
    "brackets": ("{[(\"'", "{[(\"'"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize(
    "tag", ['<parameter name="content">{}</parameter>', "<content>{}</content>"]
)
def test_a_value_in_tags_arrives_as_it_was_meant(case: str, tag: str) -> None:
    written, meant = VALUES[case]
    if "content" in tag[:9]:
        written, meant = (text.replace("parameter", "content") for text in (written, meant))
    body = f'<parameter name="path">a</parameter>\n{tag.format(written)}'
    wire = f'<invoke name="write_file">\n{body}\n</invoke>'
    for pieces in cuts(wire):
        assert find(pieces)[1] == [["write_file", {"path": "a", "content": meant}]]


TYPED = {
    "level": ("2", 2),
    "on": (" True ", True),
    "size": ("3", 3),
    "pick": ("1", 1),
    "note": ("5", "5"),
    "where": ("{'a': None}", {"a": None}),
    "tags": ('["x"]', ["x"]),
    "part": ("1e3", 1000.0),
}


@pytest.mark.parametrize("key", TYPED)
def test_the_schema_says_what_a_value_in_tags_is(key: str) -> None:
    written, meant = TYPED[key]
    wire = f"<function=set_state>\n<parameter={key}>\n{written}\n</parameter>\n</function>"
    assert find([wire])[1] == [["set-state", {key: meant}]]


def test_a_tag_may_say_itself_what_its_value_is() -> None:
    pair = '<parameter name="note" string="{}">5</parameter>'
    wire = f'<invoke name="set-state">{pair.format("false")}</invoke>'
    assert find([wire])[1] == [["set-state", {"note": 5}]]


def test_names_without_values_are_no_arguments() -> None:
    wire = "<tool_call>read_file\n<arg_key>path</arg_key>\n<arg_key>note</arg_key>\n</tool_call>"
    assert outcome([wire]) == "The model wrote a tool call that cannot be read."


def test_free_text_keeps_its_line_ends() -> None:
    wire = '<invoke name="patch"><parameter name="input">*** a\n<b>\n</parameter></invoke>'
    assert find([wire])[1] == [["patch", "*** a\n<b>\n"]]
    assert find([wire.replace('<parameter name="input">', "\n").replace("</parameter>", "")])[
        1
    ] == [["patch", "*** a\n<b>"]]


def test_names_are_found_exactly_first() -> None:
    names = Names((Tool("read-file"), Tool("read_file"), Tool("READ_FILE")))
    assert [names.find(n).name for n in ("read_file", "read-file", "READ_FILE")] == [  # type: ignore[union-attr]
        "read_file",
        "read-file",
        "READ_FILE",
    ]
    assert names.find("functions.Read_File:3") is not None
    assert names.find("read") is None


MARKUP = [
    "<",
    "</",
    ">",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    '"',
    "'",
    "`",
    "```",
    "```json\n",
    "~~~\n",
    "\n",
    "\n\n",
    " ",
    "    ",
    "> ",
    "+",
    "| ",
    "# T\n",
    "\\",
    "...",
    "{...}",
    "to",
    "t",
    "o=",
    "é😀",
    "[ARGS]",
    "null",
    "<tool_call>",
    "</tool_call>",
    "<invoke>",
    "</invoke>",
    "<function_calls>",
    "<parameter name='path'>",
    "</parameter>",
    "<｜DSML｜invoke name=",
    "<｜tool▁sep｜>",
    "+#+#+",
    "<arg_key>",
    "</arg_key>",
    "</arg_value>",
    "<id>",
    "</id>",
    "<tool>",
    "Tool call: ",
    "<|channel|>",
    "analysis",
    "<|message|>",
    "<|call|>",
    "[TOOL_CALLS]",
    "Action: ",
    "Action Input: ",
    "Observation:",
    "<tool_result>",
    "print(",
    "to=functions.",
    "tool_code\n",
    "<![CDATA[",
    "]]>",
    "For example:",
    "First:\n",
    "[Called function ",
    "]]",
    "```tool_code\n",
    "# why\n",
    "x = ",
    "<note>",
    "</note>",
    "multi_tool_use.parallel",
    "<|im_end|>",
    "<|call|>",
    "< | DSML | ",
    "[TOOL_RESULTS]",
    "“",
    "”",
    "</s>",
    "court\n",
    "call ",
    "<some_tool_call>",
    "<ab|",
    "**Tool Call:**\n",
    "**Action:** ",
    "**Action Input:** ",
    "\n~~~\n",
    '{"name": "now"}',
    "<｜tool calls begin｜>",
    "<|im_start|>user",
    "path: a.txt\n",
    "Thought: ",
    "<!",
    ' a="<>"',
    "]<]minimax[>[",
    "<|open|>",
    "<|close|>",
    "<|sep|>",
    "<tool_call:x>",
    "<|message_sep|>",
    "function call<|role_sep|>",
    "[|endofturn|]",
    "</answer>",
]
NAMED = [
    JSON,
    JSON[:30],
    CALL,
    PLAIN,
    ARG,
    INVOKE,
    "read_file",
    "read_file(",
    'path="a.txt")',
    "now()",
    "<now/>",
    "functions.read_file",
    "to=functions.read_file",
    "default_api.now()",
    "<read_file>",
    "<path>",
    "</path>",
    "</read_file>",
    '<invoke name="read_file">',
    '<invoke name="patch">',
    "<function=now>",
    "<function=now",
    "<tool>now</tool>",
    "<tool_call>nowpath",
    "call:x:now",
    "[Tool call: now]",
    " in commentary 天 json",
    "call:default_api:now{}",
    CALL.replace("read_", "xx"),
    "I'll look. ",
    "tools.now()",
    "read_file[ARGS]",
    "read_file<｜tool▁sep｜>",
    '<|"|>',
    "`x`",
    "read_file{",
    "declaration:now{}",
    '<|open|>call tool="now"<|sep|>',
    "<|tool_call:start|>now",
]


@given(st.lists(st.sampled_from(MARKUP + NAMED), max_size=14).map("".join), st.data())
def test_any_cut_of_any_markup_gives_the_same_calls_and_text(
    wire: str, data: st.DataObject
) -> None:
    spots = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20)))
    pieces = [wire[a:b] for a, b in zip([0, *spots], [*spots, len(wire)], strict=True)]
    found = outcome([wire])
    assert outcome(pieces) == found == outcome(list(wire))
    if isinstance(found, tuple) and not found[1] and found[2] == "stop":
        assert found[0] == wire


def outcome(pieces: list[str]) -> Any:
    try:
        return find(pieces)
    except Unmet as unmet:
        return unmet.message


@given(st.lists(st.sampled_from(MARKUP) | st.text(max_size=5), max_size=30).map("".join))
def test_text_without_an_offered_name_comes_out_character_for_character(wire: str) -> None:
    use = ToolUse((Tool("offered_here"),))
    pieces = re.findall(r"(?s).{1,3}", wire)
    said, calls = "", 0
    events: list[Event] = [*map(Text, pieces), Done()]
    for event in find_calls(iter(events), use, last_try=True):
        said += event.text if isinstance(event, Text) else ""
        calls += isinstance(event, ToolCall)
    assert (said, calls) == (wire, 0)


def calls_of_functions(work: Any) -> int:
    """How many functions were entered meanwhile, Python's own and those written in C."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


ENDLESS = {
    "tags": "<invoke ",
    "names of tags": "<read_file ",
    "calls": CALL,
    "unclosed": '<invoke name="read_file"><parameter name="path">x',
    "values": "<parameter name=path>x</parameter>",
    "brackets": "read_file(",
    "back-quotes": "` `` ",
    "fences": "```\nnow(\n",
    "lines": "\nnow ",
    "data": '\n{"name": "x", ',
    "recipients": " to=functions.now",
    "junk": " to=functions.now 天 a 天",
    "asides": "```tool_code\n# x\nx = ",
    "told": "\n[Called function now with ",
    "closing tags": '<invoke name="read_file"></x></parameter>',
    "unknown arguments": "<read_file>\n<path>x</path>\n<note>",
    "tokens as quotes": '{"name": <|"|>now<escape>',
    "attributes": '<invoke name="read_file" a="1" ',
    "citations": ' "<b',
    "nested tags": '<invoke name="set-state"><parameter name="where"><a>',
    "keys without quotes": "functions.now({a: 'b', c: ",
    "stray words": "\ncourt <b",
    "signs": " +#+#+#+ ",
    "keys": "<tool_call>read_file path</arg_key>",
    "keys that begin": "<tool_call>read_file<arg_key>a<arg_value>",
    "elements before a name": "<tool_call><id>x</id>",
    "names in tags": "\n<tool>now</tool>",
    "labels": "\nTool call: now",
    "tags without end": "<function=now {",
    "fillers": "]<]minimax[>[ ",
    "brackets of tokens": '<|open|>call tool="now"<|sep|>',
    "tokens as quotes, open": 'call:now{a:<|"|>',
    "quotes out of step": '<tool_call>{"name": "now", "arguments": {"a": "b}}</tool_call>',
}


@pytest.mark.parametrize("case", ENDLESS)
def test_the_work_grows_no_faster_than_the_text(case: str) -> None:
    def read(times: int) -> int:
        wire = ENDLESS[case] * times
        pieces = [wire[i : i + 50] for i in range(0, len(wire), 50)]
        return calls_of_functions(lambda: outcome(pieces))

    few, many = read(150), read(600)
    assert many < 6 * few + 2000
