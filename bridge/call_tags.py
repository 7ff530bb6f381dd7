"""Tags and tokens, and what each word in them says of a call: the table of the grammar.

A new family of models is a word in one of the lists of `_ROLES`, each word in one place. Marks that
some families put into their tags (bars, `DSML` and the like, a namespace, their maker's name) are
passed over.
"""

import re
from collections.abc import Collection
from enum import Enum, auto

from bridge.call_names import Names


def words(*lists: str) -> frozenset[str]:
    """The words of some lines, for a table."""
    return frozenset(word for line in lists for word in line.split())


class Role(Enum):
    """What a word in a tag says."""

    OPEN = auto()  # a call begins
    WRAP = auto()  # calls follow
    JOIN = auto()  # between the parts of a head; a token, with bars
    END = auto()  # a call is over
    RESULT = auto()  # what a tool has returned
    ARGUMENTS = auto()  # all arguments follow
    PARAMETER = auto()  # one argument, or its name
    NAME = auto()  # the name of the tool


# Words that mean calls and nothing else: behind them a bare name is enough.
_FIRM_OPEN = words(
    "tool_call toolcall tool_use function_call functioncall tool_code tool_request",
    "tool_call_begin tool_call_start python_tag python_start start_action action_start",
    "start_function_call ctrl42 functioncallbegin tool_usage_card tool_invocation",
    "call_tool use_tool invoke_tool execute_tool use_mcp_tool mcp_tool_call begin_tool_request",
    "content_invoke_tool_json",
)
_FIRM_JOIN = words("tool_sep tool_call_argument_begin")
FIRM_WORDS = _FIRM_OPEN | _FIRM_JOIN
# For all arguments of a call, as keys of JSON too: there the first of them counts.
ARGUMENT_WORDS = (
    "arguments", "parameters", "input", "args", "action_input", "tool_input", "toolInput",
    "params", "kwargs", "tool_args", "tool_arguments", "tool_parameters", "tool_call_arguments",
    "function_args", "function_arguments", "function_parameters",
)  # fmt: skip
# Without bars these say nothing.
_JOIN_TOKENS = words(
    "begin channel constrain message msg start plugin message_model message_sep role_sep",
    "start_header_id end_header_id",
)
_END_TOKENS = words("end return eom turn tag flush end_message end_of_msg")
_TURN_TOKENS = words("im_start user")  # a turn that is not the model's to write
_ONLY_TOKENS = _JOIN_TOKENS | _END_TOKENS | _TURN_TOKENS
_ROLES = {
    Role.OPEN: _FIRM_OPEN | words("invoke court function tool call_record action call"),
    Role.WRAP: words(
        "tool_calls function_calls tool_uses calls tools functions",
        "tool_calls_begin tool_calls_section_begin tool_call_section_begin tools_prefix",
        "call_records invokes toolcalls functioncalls functions_calls begin_tool_requests",
    ),
    Role.JOIN: _FIRM_JOIN | _JOIN_TOKENS,
    Role.END: _END_TOKENS
    | words(
        "tool_call_end tool_calls_end tool_calls_section_end tool_call_section_end tools_suffix",
        "python_end end_action action_end end_function_call ctrl43 eom_id eot_id eot",
        "im_end endoftext end_of_text end_of_sentence end_of_turn end_of_turn_token",
        "role_end assistant_end functioncallend end_code content_model_end_sampling",
        "end_tool_arguments end_tool_request end_tool_requests",
    ),
    Role.RESULT: _TURN_TOKENS
    | words(
        "tool_result tool_results tool_response tool_output tool_outputs tool_outputs_begin",
        "tool_output_begin function_result function_results function_response observation",
        "start_function_response functionresultbegin",
    ),
    Role.ARGUMENTS: words("begin_tool_arguments") | {*map(str.lower, ARGUMENT_WORDS)},
    Role.PARAMETER: words("parameter param arg argument arg_key arg_value"),
    Role.NAME: words("name tool_name toolname function_name tool_call_name begin_tool_name"),
}
ROLES = {word: role for role, known in _ROLES.items() for word in known}
# A maker's name before a word that means calls and nothing else, and what one puts behind words.
_MAKER = re.compile(r"[a-z0-9]{2,24}_(?=(?:tool|function)_call|arg_(?:key|value)$)|:\w+\Z")
# Solar's pairs: a key ends where its value begins.
_PAIRS = {"tool_arg:start": "arg_key", "tool_arg:value": "arg_value", "tool_arg:end": "arg_value"}
_GAPS = str.maketrans("▁- ", "___", "\\")  # `tool\_call` is as Markdown would have it
_BAR = "|｜‖"
_BARS = f"[{_BAR}]{{1,2}}"
_MARKS = rf"(?:[ \t]?{_BARS}[ \t]?)?(?:[A-Z]{{2}}ML[ \t]?{_BARS}[ \t]?)?"
_NAMESPACE = r"(?:(?!tool_|arg_)[\w-]{1,24}[:|])?"
# DeepSeek's tokens where their `▁` has become a space.
_LOOSE_TOKEN = r"(?:tool|end)(?: [a-z]{2,8}){1,2}(?=\s?[|｜])"
# Kimi K3's brackets: `<|open|>call tool="f"<|sep|>`, `<|close|>call<|sep|>`.
_BRACKET = r"(?:open|close)\|"
_WORD_CHARS = rf"(?:{_LOOSE_TOKEN}|(?!{_BRACKET})[A-Za-z][\w.▁\\-]{{0,99}}(?::\w{{1,24}})?)"
_ATTRIBUTE = (
    r"\s{1,50}[\w:.-]{1,60}\s?=\s?(?:\"[^\"]{0,900}\"|'[^']{0,900}'|[^\s\"'<>]{1,200}[\"']?)"
)
_SHORT = r"=\s?[\"']?[\w.:-]{1,100}[\"']?"
TAG = re.compile(
    rf"(?i)<(?:\|open\|>|(?P<end>\|close\|>|/?)){_MARKS}(?P<end2>/?){_NAMESPACE}"
    rf"(?P<word>{_WORD_CHARS})(?P<given>(?:\s?{_SHORT})?(?:{_ATTRIBUTE}){{0,20}})"
    rf"(?:\s{{0,50}}{_MARKS}(?P<alone>/?)>|<\|sep\|>)"
)
# A tag whose end has not come yet, with or without a whole word.
_TAG_PART = re.compile(
    rf"(?i)<(?:\|{_BRACKET}>?)?(?:/?(?:[ \t]?[{_BAR}]{{0,2}}[ \t]?"
    rf"(?:[A-Z]{{2}}ML[ \t{_BAR}]{{0,4}})?)/?{_NAMESPACE}[\w:.▁\\-]{{0,125}}|"
    rf"/?{_MARKS}/?{_NAMESPACE}(?P<word>{_WORD_CHARS})"
    rf"(?:\s?=?\s?[\"']?[\w.:-]*[\"']?(?:{_ATTRIBUTE}){{0,20}}"
    rf"(?:\s{{1,50}}[\w:.-]{{0,60}}\s?(?:=\s?(?:\"[^\"]*|'[^']*|[^\s\"'<>]*)?)?)?)"
    rf"[\s|｜‖]{{0,4}}/?)(?:<(?:\|s?e?p?\|?)?)?\Z"
)
_TAG_WORD = re.compile(rf"(?i)<{_MARKS}{_NAMESPACE}({_WORD_CHARS})")
_HAS_BAR = re.compile(f"[{_BAR}]")
_GIVEN = re.compile(r"([\w:.-]{1,60})\s?=\s?(?:\"([^\"]*)\"|'([^']*)'|[\"']?([^\s\"'<>]+)[\"']?)")
_SHORT_NAME = re.compile(r"\s?=\s?[\"']?([\w.:-]+)")
# XML's section of plain text, in which a model may put what it is given to pass on.
CDATA, CDATA_END = "<![CDATA[", "]]>"
# What announces a result without a tag that has that role.
_RESULTS = (
    "Observation:", "**Observation", "[TOOL_RESULTS]", "```tool_output", "<|start|>functions.",
)  # fmt: skip
LOOK_AHEAD = 400  # a tag and the white space before it are never longer
# MiniMax M3 puts this before each of its tags, which otherwise are as in XML.
FILLER = "]<]minimax[>["
FILL = re.compile(rf"(?:\s|{re.escape(FILLER)}){{0,{LOOK_AHEAD}}}")
_NAME_ATTRIBUTES = ("name", "tool", "function", "tool_name", "function_name")
# They speak of the call, not of its arguments.
_OWN_ATTRIBUTES = (*_NAME_ATTRIBUTES, "id", "type", "index")


def plain(word: str) -> str:
    """A tag's word as the tables have it, without what families differ in."""
    known = word.lower().translate(_GAPS)
    return known if known in ROLES else _PAIRS.get(known) or _MAKER.sub("", known)


def role_of(tag: re.Match[str]) -> Role | None:
    """What a tag or token says by its word."""
    word = plain(tag["word"])
    barred = bool(_HAS_BAR.search(tag[0]))
    if word in _ONLY_TOKENS and not barred:
        return None
    if word == "call" and barred and not tag["given"]:
        return Role.END
    return ROLES.get(word)


def is_closing(tag: re.Match[str]) -> bool:
    """Whether a tag closes; one of Gemma's that does has its bar at the end alone."""
    closed = tag["end"] or tag["end2"] or tag["word"].endswith(":end")
    return bool(closed or (tag[0].endswith("|>") and tag[0][1] not in _BAR))


def given_in(tag: re.Match[str]) -> dict[str, str]:
    """The attributes of a tag."""
    return {key: one or two or bare for key, one, two, bare in _GIVEN.findall(tag["given"])}


def arguments_in(tag: re.Match[str], known: Collection[str]) -> dict[str, str]:
    """Those attributes of a tag that bears a name which are arguments, of the `known` ones or all
    in one."""
    given = given_in(tag)
    return {
        key: given[key]
        for key in given
        if key in ARGUMENT_WORDS or (key in known and key not in _OWN_ATTRIBUTES)
    }


def name_in(tag: re.Match[str]) -> str:
    """The name that a tag bears: `name="x"`, or `=x` right behind its word."""
    if short := _SHORT_NAME.match(tag["given"]):
        return short[1]
    given = given_in(tag)
    return next((given[key] for key in _NAME_ATTRIBUTES if key in given), "")


def may_open(text: str, at: int, names: Names) -> bool:
    """A quick look at the word behind a `<`: whether it is not whole, or known."""
    word = _TAG_WORD.match(text, at)
    if not word or text[word.end() : word.end() + 1] in ("", ":", *_BAR):
        return not text.startswith("</", at)
    known = plain(word[1])
    return known == "dsml" or known in ROLES or names.find(word[1]) is not None


def may_be_tag(text: str, at: int, names: Names | None) -> bool:
    """Whether the end of `text`, from the `<` at `at` on, may become a tag that says something,
    or without `names` any tag."""
    part = _TAG_PART.match(text, at)
    if not part or part["word"] is None or names is None:
        return bool(part)
    return plain(part["word"]) in ROLES or names.find(part["word"]) is not None


def tag_at(text: str, at: int) -> re.Match[str] | None:
    """The tag that begins there, however much of the text has come."""
    return TAG.match(text, at, at + LOOK_AHEAD)


def may_grow(text: str, at: int) -> bool:
    """Whether what begins with the `<` at `at` may still become a tag, or begin CDATA."""
    rest = text[at : at + LOOK_AHEAD]
    return len(rest) < LOOK_AHEAD and (CDATA.startswith(rest) or may_be_tag(rest, 0, None))


def is_result(text: str) -> bool:
    """Whether a text begins as if a tool had answered."""
    tag = TAG.match(text)
    tagged = tag and role_of(tag) is Role.RESULT and not is_closing(tag)
    return bool(tagged or text.startswith(_RESULTS))


def may_be_result(text: str) -> bool:
    """Whether more letters may make of this the words of a result."""
    return any(result.startswith(text) for result in _RESULTS)
