"""Calls as models write them when they slip: marks that are missing, doubled, lost or wrong, and
what is near to such a call and is none."""

from functools import partial
from typing import Any

import pytest
from found_calls import cuts, found

from bridge.tool_calls import find_calls
from chat_request import Tool, ToolUse
from events import Done, Text, ToolCall

TEXT = {"type": "string"}
COUNT = {"type": "integer"}
LOOK = Tool("look", parameters={"properties": {"at": TEXT, "deep": COUNT}, "required": ["at"]})
KEEP = Tool("keep", parameters={"properties": {"at": TEXT, "text": TEXT}, "required": ["at"]})
NOW = Tool("now", parameters={"type": "object", "properties": {}})
USE = ToolUse((LOOK, KEEP, NOW))

A: list[Any] = ["look", {"at": "a"}]
B: list[Any] = ["look", {"at": "b"}]
NOTHING: list[Any] = ["now", {}]
PLAIN = '{"at": "a"}'
JSON = f'{{"name": "look", "arguments": {PLAIN}}}'
ARG = '<parameter name="at">a</parameter>'
KEYED = "<arg_key>at</arg_key><arg_value>a</arg_value>"
CARD = (
    "<xai:tool_usage_card><xai:tool_usage_card_id>x</xai:tool_usage_card_id>"
    "<xai:tool_name>look</xai:tool_name><xai:tool_args><![CDATA[{0}]]></xai:tool_args>"
    "</xai:tool_usage_card>"
)
TOGETHER = f'{{"tool_uses": [{{"recipient_name": "functions.look", "parameters": {PLAIN}}}]}}'

# What is written, the calls in it, and the words that are left of it.
SLIPS: dict[str, tuple[str, list[list[Any]], str]] = {
    # GLM: tags of keys and values.
    "no tag before the first key": (
        f"<tool_call>look at{KEYED[11:]}</tool_call>",
        [A],
        "",
    ),
    "the name runs into the key": (f"<tool_call>lookat{KEYED[11:]}</tool_call>", [A], ""),
    "a call's tag in place of a key's": (
        f"I look.\n<tool_call>look<tool_call>at{KEYED[11:]}</tool_call>",
        [A],
        "I look.",
    ),
    "no tag before the value": (
        "<tool_call>look<arg_key>at</arg_key>a</arg_value></tool_call>",
        [A],
        "",
    ),
    "a key closed as a value": (
        "<tool_call>look<arg_key>at</arg_value><arg_value>a</arg_value></tool_call>"
        f"<tool_call>look{KEYED.replace('>a<', '>b<')}</tool_call>",
        [A, B],
        "",
    ),
    "a key that is not closed": (
        "<tool_call>look<arg_key>at\n<arg_value>a</arg_value></tool_call>",
        [A],
        "",
    ),
    "a key closed twice": (
        f"<tool_call>look{KEYED.replace('</arg_key>', '</arg_key></arg_key>')}</tool_call>",
        [A],
        "",
    ),
    "a key opened twice": (f"<tool_call>look<arg_key>{KEYED}</tool_call>", [A], ""),
    "no tag before a later key": (
        f"<tool_call>look{KEYED}deep</arg_key><arg_value>3</arg_value></tool_call>",
        [["look", {"at": "a", "deep": 3}]],
        "",
    ),
    "a value that is not closed": (
        f"<tool_call>keep{KEYED.removesuffix('</arg_value>')}"
        "<arg_key>text</arg_key><arg_value>x\n</arg_value></tool_call>",
        [["keep", {"at": "a", "text": "x\n"}]],
        "",
    ),
    "a value that shows such tags": (
        f"<tool_call>keep{KEYED}<arg_key>text</arg_key>"
        "<arg_value>x</arg_value>y</arg_key>z</arg_value></tool_call>",
        [["keep", {"at": "a", "text": "x</arg_value>y</arg_key>z"}]],
        "",
    ),
    "closed by the tool's name, too": (f"<tool_call>look{KEYED}</look></tool_call>", [A], ""),
    "an end where nothing began": ("<tool_call>now</arg_value></tool_call>", [NOTHING], ""),
    "the same, as the last thing": ("<tool_call>now</arg_value>", [NOTHING], ""),
    "a maker's name in keys": (
        f"<ab_tool_call>look{KEYED.replace('arg_', 'ab_arg_')}</ab_tool_call>",
        [A],
        "",
    ),
    # Tags that run into their JSON.
    "a name runs into its JSON": (f"<function=look{PLAIN}</function>", [A], ""),
    "the tag ends behind the JSON": (f"<function=look {PLAIN}></function>", [A], ""),
    "brackets in the tag": (f"<function=look({PLAIN})></function>", [A], ""),
    "the tag runs into its parameter": (f"<function=look\n{ARG}\n</function>", [A], ""),
    "an empty list in the tag": (f"<function=look[]{PLAIN}</function>", [A], ""),
    "a name in brackets": (f"<function(look)>{PLAIN}</function>", [A], ""),
    "the taught tag without its end": (f"<tool_call\n{JSON}\n</tool_call>", [A], ""),
    # JSON.
    "a brace too many": (f"{JSON}}}", [A], ""),
    "a quote that is not escaped": (
        '<tool_call>\n{"name": "keep", "arguments": {"at": "a", "text": "5" wide"}}\n</tool_call>\n'
        f"<tool_call>{JSON}</tool_call>",
        [["keep", {"at": "a", "text": '5" wide'}], A],
        "",
    ),
    "quotes in tokens": (
        'call:keep{at:<|"|>a<|"|>,text:<|"|>{"k": [1, "]"]}<|"|>}',
        [["keep", {"at": "a", "text": '{"k": [1, "]"]}'}]],
        "",
    ),
    "a list of calls by another name": (f'<tool_call>{{"calls": [{JSON}]}}</tool_call>', [A], ""),
    "a type that is the name": (
        '{"toolCalls": [{"id": "c1", "type": "look", "at": "a"}]}',
        [A],
        "",
    ),
    "an argument that is called as a name is": (
        '<tool_call>{"name": "look", "at": "a", "action": "x"}</tool_call>',
        [["look", {"at": "a", "action": "x"}]],
        "",
    ),
    "several under one name": (
        f'<tool_call>{{"name": "multi_tool_use.parallel", "arguments": {TOGETHER}}}</tool_call>',
        [A],
        "",
    ),
    "parts of Gemini's": (
        f'{{"parts": [{{"functionCall": {{"name": "look", "args": {PLAIN}}}}}]}}',
        [A],
        "",
    ),
    "a key of Gemini's": (f'```json\n{{"tool_code": "look", "parameters": {PLAIN}}}\n```', [A], ""),
    "Python in JSON": (
        """[{"tool_code": "print(default_api.look(at='a'))"}, {"tool_code": "now()"}]""",
        [A, NOTHING],
        "",
    ),
    # Words in tags, and what stands beside them.
    "Doubao": (f"ok<|FunctionCallBegin|>[{JSON}]<|FunctionCallEnd|>", [A], "ok"),
    "a card of Grok's": (f"I look.\n{CARD.replace('{0}', PLAIN)}", [A], "I look."),
    "a tag that calls a tool": (f'<use_tool name="look">{ARG}</use_tool>', [A], ""),
    "a tool of a server": (
        f"<use_mcp_tool>\n<server_name>s</server_name>\n<tool_name>look</tool_name>\n<arguments>\n"
        f"{PLAIN}\n</arguments>\n</use_mcp_tool>",
        [A],
        "",
    ),
    "a thought before the name": (
        f"<tool_call>\n<why>I must.</why>\n<name>look</name>\n<params>{PLAIN}</params></tool_call>",
        [A],
        "",
    ),
    "a name without a tag around it": (
        f"I look.\n<tool>look</tool>\n<tool_input>{PLAIN}</tool_input>",
        [A],
        "I look.",
    ),
    "a name in quotes": (f'<tool_call>\nname: "look"\narguments: {PLAIN}\n</tool_call>', [A], ""),
    "a plural too many": (
        f'<functions_calls>\n<invoke name="look">{ARG}</invoke>\n</functions_calls>',
        [A],
        "",
    ),
    "arguments among the attributes": (
        '<tool_call name="look" at="a" /><tool_call name="look" deep="2"><at>b</at></tool_call>',
        [A, ["look", {"at": "b", "deep": 2}]],
        "",
    ),
    "a call of Gemma's that nothing opened twice": (
        '<|tool_call>call:look{at:<|"|>a<|"|>}<tool_call|><|tool_response>',
        [A],
        "",
    ),
    "code in a tag that executes": (
        '<execute_tool>\nprint(default_api.look(at="a"))\n</execute_tool>',
        [A],
        "",
    ),
    "another stray word": (f'I look.\ncourse\n<invoke name="look">{ARG}</invoke>', [A], "I look."),
    "a namespace": ('call:custom:look{at: "a"}', [A], ""),
    # GPT, where the tokens of its channels are lost.
    "junk of many words": (
        "to=functions.look in commentary  彩神争霸可以json  大发快三qq走势图 code\n" + PLAIN,
        [A],
        "",
    ),
    "junk of which a word grows into another": (
        f"to=functions.look 天天 x commentary y天 json{PLAIN}",
        [A],
        "",
    ),
    "junk before the recipient": (
        f"I look. +#+#+#+#+#+ assistant to=functions.look 天天json\n{PLAIN}",
        [A],
        "I look.",
    ),
    "a sign before it": (f"+# to=functions.look {PLAIN}", [A], "+#"),
    "more junk before it": (f"I look.\n+#+#+#+#+#+ to=functions.look {PLAIN}", [A], "I look."),
    "a role that runs into a channel": (
        f"assistantcommentary to=functions.look json{PLAIN}",
        [A],
        "",
    ),
    "a recipient that runs into a token": (f"to=functions.lookjson{PLAIN}", [A], ""),
    "a word of another language": (f"numerusform to=functions.look {PLAIN}", [A], ""),
    # Told of in words.
    "a label": (f"I look.\n\nTool call: look\nArguments: {PLAIN}", [A], "I look."),
    "a label twice": (
        f"Two of them.\n\nTool call: {JSON}\n\nTool call: look\nArguments: {PLAIN}",
        [A, A],
        "Two of them.",
    ),
    "labels": (
        f"tool_call: {JSON}\nTool calls: [{JSON}]\nCalling tool: look({PLAIN})",
        [A, A, A],
        "",
    ),
    "a label in brackets": (f"[Tool Use: look]\nInput: {PLAIN}", [A], ""),
    "a label in brackets, then a list": (
        f"[Tool call: look]\n[{JSON}, {JSON}]\nTool call: look\n[{JSON}]",
        [A, A, A],
        "",
    ),
    "brackets around a call": ('[tool_call: look(at="a")]', [A], ""),
}


find = partial(found, use=USE)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_understood_however_it_is_cut(slip: str) -> None:
    wire, calls, said = SLIPS[slip]
    for pieces in cuts(wire):
        assert find(pieces) == (said, calls, "tool_calls"), pieces


UNREADABLE = {
    "values without keys": "<tool_call>look<arg_value>a</arg_value></tool_call>",
    "an argument without a name": '<invoke name="look"><parameter>a</parameter></invoke>',
    "a string without end": '<tool_call>{"name": "look", "arguments": {"at": "a}}</tool_call>',
    "a string that ends in the next call": (
        '<tool_call>{"name": "look", "arguments": {"at": "a}}</tool_call>\n' * 2
    ),
    "quotes that are escaped, and quotes that are not": (
        '<tool_call>{"name": "keep", "arguments": {"at": "x "y \\"z\\"" w"}}</tool_call>'
    ),
    "a value of which a repair loses a part": (
        '<tool_call>{"name": "keep", "arguments": {"at": "rm "x}}</tool_call>'
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_for_sure_is_asked_for_again_and_never_guessed(case: str) -> None:
    wire = UNREADABLE[case]
    for pieces in cuts(wire):
        assert find(pieces) == ("", [], "The model wrote a tool call that cannot be read.")
        assert find(pieces, last_try=True) == (wire, [], "stop")


NO_CALLS = {
    "what tools there are": (
        'I have two.\n\nTool: look\nParameters: {"at": "string"}\n\nTool: now\nParameters: {}\n'
    ),
    "a function that is told of": 'Function: look\nArguments: {"at": "a"}\n',
    "labels without calls": "Tool call: none.\nFunction call: look it up.\nCalling tool: no.\n",
    "an example with a label": f"For example:\n\nTool call: {JSON}\n\nThis looks.",
    "documentation with labels": (
        f"# Docs\n\nTool call: look\nArguments: {PLAIN}\n\nTool call: look\nArguments: {PLAIN}"
    ),
    "a call that was made": "[Tool call: look]\nIt went.\n[tool_call](x)\n[Tool call: now]()",
    "a bracket that ends with its line": "[Called function \ncall:now{}",
    "names in tags": "<tool>look</tool> and <tool>now</tool>\n<tool>now</tool>\n<b></b>\n",
    "settings": f"<name>look</name>\n<parameters>{PLAIN}</parameters>\n",
    "elements in a list of tools": "<tools><id>x</id><b>look</b></tools>",
    "code": "Array<call {x}> <action {y} />\n<Tool {...props} />\nif (a <function && b) { c }\n",
    "words of tags": "Tags: <use_tool>, <|FunctionCallBegin|>, <tool_usage_card>.\n<end_code>",
    "a template of a tag": '<tool_call {"name": ..., "arguments": ...}></tool_call>',
    "data": '{"parts": [{"text": "x"}]}\n{"calls": [{"name": "A"}]}\n{"type": "look", "args": {}}',
    "more data": '{"tool_calls": []}\n{"tool_code": "x", "call": "y"}\n',
    "other Python in JSON": (
        """{"tool_code": "print('now()')"}\n{"tool_code": "x=now()"}\n{"tool_code": "look(at=a)"}"""
    ),
    "names of functions": """[{"name": "now()"}, {"function": "look(at='a')"}]\n""",
    "code behind a label": 'Function call:\n\n```python\nlook("a")\n```\n',
    "indented code behind a label": 'Function call:\n\n    look("a")\n',
    "a tool in a list of tools": "<tools>\n<about>x</about>\n<name>now</name>\n</tools>\n",
    "an open tag that is none": f"const calls: Array<Function {JSON}>\n",
    "two colons": 'call:custom::look{at: "a"}',
    "signs": f"a + b +#+ c +#+#+ d\n+#+#+ look({PLAIN})\n/*  +#+#+#+#+  +#+  */\n+ item\n+",
    "a recipient in a sentence": f"The header to=functions.look in json says that {PLAIN} comes.",
    "a keyword": "course\n<p>x</p>\nof course\ncall:me at 5\ncall:a:b c\nfunction look(at) {\n}\n",
    "an open tag of a tool without arguments": 'It begins with <invoke name="now">',
    "keys in a sentence": "look at</arg_key> is odd, <tool_call>look at</tool_call> too.",
}


@pytest.mark.parametrize("case", NO_CALLS)
def test_what_is_near_to_a_slip_is_text_however_it_is_cut(case: str) -> None:
    wire = NO_CALLS[case]
    for pieces in cuts(wire):
        assert find(pieces) == (wire, [], "stop"), pieces


def test_a_shown_call_whose_quotes_hide_the_end_of_its_element_is_not_made() -> None:
    broken = '<tool_call>{"name": "keep", "arguments": {"at": "5" wide"}}</tool_call>'
    for opener, closer in (("<pre>\n", "\n</pre>"), ("<!-- ", " -->")):
        shown = f"So:\n{opener}{broken}{closer}\n"
        for pieces in cuts(f"{shown}<tool_call>{JSON}</tool_call>"):
            assert find(pieces) == (shown.rstrip(), [A], "tool_calls"), pieces


def test_the_name_of_a_call_is_no_argument_of_it() -> None:
    use = ToolUse((Tool("sign", parameters={"properties": {"name": TEXT, "id": TEXT}}),))
    wire = '<tool_call id="c1" name="sign" type="function"></tool_call>'
    calls = [e for e in find_calls(iter([Text(wire), Done()]), use, last_try=False)][:-1]
    assert [(e.name, e.arguments) for e in calls if isinstance(e, ToolCall)] == [("sign", "{}")]


def test_a_string_between_tokens_that_broke_off_makes_no_call() -> None:
    for pieces in cuts('call:keep{at:<|"|>a}'):
        assert find(pieces) == ("", [], "length")


@pytest.mark.parametrize("pieces", [["json\n<b>some", " words"], ["<tool>now</tool>\n<b>x", "y"]])
def test_an_element_that_says_nothing_of_a_call_is_passed_on_while_it_comes(
    pieces: list[str],
) -> None:
    said = ""
    for event in find_calls(iter([*map(Text, pieces), Done()]), USE, last_try=False):
        if isinstance(event, Text):
            said += event.text
            break
    assert said == "".join(pieces[:-1])
