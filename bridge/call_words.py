"""What stands in a call apart from its tags: the words of its head, and the keys of its JSON.

Patterns and tables only; `_PART` is the beginning of a pattern, at the end of what has come. Knows
nothing of heads or of values.
"""

import re

from bridge.call_tags import ARGUMENT_WORDS, words

NAME_CHILD = re.compile(r"(?i)<[\w:|｜‖]{0,40}>\s{0,50}([\w.:-]{1,100})\s{0,50}<[/|][^<>]{1,60}>")
NAME_CHILD_PART = re.compile(r"<[\w:|｜‖]{0,40}>\s{0,50}[\w.:-]{0,100}\s{0,50}(?:<[^<>]{0,60})?\Z")
# An element of plain text.
ELEMENT = re.compile(r"<([\w:.-]{1,60})>[^<>]{0,500}</\1>")
ELEMENT_PART = re.compile(r"<[\w:.-]{1,60}>[^<>]{0,500}(?:<(?:/[\w:.-]{0,60})?)?\Z")
# A tag that lacks its end and runs into JSON or into its first parameter.
OPEN_TAG = re.compile(
    r"<(?P<word>[A-Za-z_]{4,30})(?:\s?[=(]\s?(?P<name>[\w.:-]{1,100})\)?)?"
    r"[\s=,(\[\]]{0,6}>?\s{0,20}(?=\{|<p)"
)
OPEN_TAG_PART = re.compile(
    r"<[A-Za-z_]{4,30}(?:\s?[=(]\s?[\w.:-]{0,100}\)?)?[\s=,(\[\]]{0,6}>?\s{0,20}\Z"
)
QUOTED_NAME = re.compile(r"([\"'`])([\w.:-]{1,120})\1")
QUOTED_NAME_PART = re.compile(r"[\"'`][\w.:-]{0,120}\Z")
# GLM, where the tag is missing that opens its first key.
KEY = re.compile(r"([\w.-]{1,64})\s{0,9}</(?:\w{1,24}_)?arg_key>")
# YAML's pairs, of which each has its line.
PAIR = re.compile(r"([\w-]{1,64}):(?:\s|\Z)")
KEY_PART = re.compile(r"[\w.-]{1,64}\s{0,9}(?:<(?:/\w{0,32})?)?\Z")
MARKER = re.compile(r"(?i)\[(?:TOOL_CALLS?|ARGS|CALL_ID\][\w-]{1,60}(?=[\[{])|TOOL_REQUEST)\]?")
MARKER_PART = re.compile(r"(?i)\[[A-Z_]{0,12}(?:\][\w-]{0,60})?\Z")
FIRST_MARKER = re.compile(r"(?i)\[TOOL_(?:CALLS?|REQUEST)\]?(?!:)")
FENCE = re.compile(r"`{3,9}[\w-]{0,30}(?=\s)")
FENCE_PART = re.compile(r"`{1,9}[\w-]{0,30}\Z")
FIRST_KEY = re.compile(r"(?:\[\s{0,50})?\{\s{0,50}[\"'“”]?(?P<key>[\w-]{1,64})[\"'“”]?\s{0,50}:")
FIRST_KEY_PART = re.compile(
    r"(?:\[\s{0,50})?(?:\{\s{0,50}(?:[\"'“”]?[\w-]{0,64}[\"'“”]?\s{0,50})?)?\Z"
)
LIST_CALL = re.compile(r"\[\s{0,50}(?=[A-Za-z_])")
# Gemini: `[Called function "f" with args: {...}]`
CALLED = re.compile(
    r"(?i)\[(?:call(?:ed|ing)?|(?:tool|function)(?:[ _](?:call|use))?)(?: (?:tool|function))?"
    r"[: ] ?[\"'`]?([\w.:-]{1,120})[\"'`]?,?(?: with)?"
    r"(?: (?:args|arguments|parameters|input))?:? ?(?:(?=[({])|\](?!\())"
)
CALLED_PART = re.compile(r"(?i)\[(?:call|tool|function)[^\](){}\n]{0,200}\Z")
TO = re.compile(r"(?a)to=([\w.:-]{1,120})(?=[^\w.:-])")
TO_PART = re.compile(r"(?a)t(?:o(?:=[\w.:-]{0,120})?)?\Z")
# Claude, in place of the tag that opens its calls.
STRAY_WORDS = words("court count course call")
STRAY = re.compile(rf"(?:{'|'.join(sorted(STRAY_WORDS))})\s{{1,9}}(?=<|\Z)")
_ACTIONS = (
    "action", "action input", "tool call", "tool calls", "function call", "function calls",
    "calling tool", "calling function",
)  # fmt: skip
_BOLD_ACTION = r"\*\*action(?:[ _]input)?\s?(?::\*\*|\*\*\s?:)"
_ANY_ACTION = "|".join(_ACTIONS).replace(" ", "[ _]")
ACTION = re.compile(rf"(?i)(?:{_ANY_ACTION})\s?(?::|(?=<\|role_sep))|{_BOLD_ACTION}")
ACTIONS = {f"{label}:".replace(" ", gap) for label in _ACTIONS for gap in " _"}
ACTIONS |= {"function call<|role_sep"}  # GigaChat
ACTIONS |= {f"**{label}{end}" for label in _ACTIONS[:2] for end in (":**", "**:")}
BOLD = re.compile(r"(?i)\*(?:\Z|\*(?:\Z|a))")  # such a label in bold letters, or its beginning
# Such a label before a block in a programming language, or one that is indented, tells of code.
CODE_BEHIND = re.compile(
    r"(?i)(?:tool|function|calling)[ _]\w{4,8}\s?:\s{0,20}"
    r"(?:\n[ \t]{0,20}\n(?: {4}|\t)|"
    r"`{3,9}(?!(?:json|xml|te?xt|tool_call|tool_code)\s)[\w-]{1,30}\s)"
)
GLUED = re.compile(r"(?:json|code)\Z")  # where the token is lost that parts it from the recipient
WORD = re.compile(r"[A-Za-z0-9_][\w.:-]{0,150}")
# What makes a call of a name that nothing vouches for.
TOUCHING = re.compile(r"(?i)\(|\[A|<(?:[|｜]|\Z)|\{\s{0,9}(?:[\"}]|\Z)|\[?\Z")
OBJECT_PART = re.compile(r"\{\s{0,9}\Z")
NAME_TOKEN = "<|tool_call:name"  # Solar Open
PRINT = re.compile(r"print\s?\(")
TOGETHER = "multi_tool_use.parallel"
VOUCHING = frozenset(("tool_code", TOGETHER))  # words that stand before calls and nothing else
NOISE = VOUCHING | words(
    "json commentary analysis final assistant code function xml python tool_call functools",
    "assistantcommentary assistantanalysis numerusform",
)
# Behind a tag or "Action:".
LABELS = words("name: tool_name: tool: function: input: arguments: parameters: args:")
PHRASES = (*NOISE, *STRAY_WORDS, *ACTIONS, "print(")
FIRST_WORDS = NOISE | STRAY_WORDS | {phrase.partition(" ")[0] for phrase in ACTIONS}
FIRST_WORDS |= words("print to action")
FIRST_PARTS = {word[:size] for word in FIRST_WORDS for size in range(1, len(word) + 1)}
# GPT, where tokens of its channels are lost: in their place, and between a recipient and its JSON.
HASHES = re.compile(r"\+#\+#\+[#+]{0,60}\s{0,3}(?=[a-z])")
HASHES_PART = re.compile(r"(?:\+#){0,2}\+?\Z|\+#\+#\+[#+]{0,60}\s{0,3}\Z")
JUNK = re.compile(r"([^{}<>\"`\n]{0,160})\n?\s{0,20}(?=\{|<[|｜])")
JUNK_PART = re.compile(r"([^{}<>\"`\n]{0,160})(?:\n\s{0,20})?<?\Z")
_LATIN_WORD = re.compile(r"(?<!\w)[A-Za-z]\w*")
_LAST_WORD = re.compile(r"[A-Za-z]\w*\Z")
_CHANNEL_WORDS = NOISE | words("in to")


def is_junk(text: str, *, grows: bool) -> bool:
    """Whether what stands there says nothing; a sentence has more words than one, apart from
    those of channels. While it `grows`, what its last word is stays open."""
    if grows:
        text = _LAST_WORD.sub("", text)
    said = {word.lower() for word in _LATIN_WORD.findall(text) if word.isascii()}
    return len(said - _CHANNEL_WORDS) < 2


# The keys in which models say the name of a tool, or that calls follow, in the order in which they
# are looked for.
NAME_KEYS = (
    "name", "tool", "tool_name", "toolName", "function", "function_name", "recipient_name",
    "action", "tool_code", "call",
)  # fmt: skip
NAME_ALONE = re.compile(
    rf"\{{\s{{0,50}}\"(?:{'|'.join(NAME_KEYS)})\"\s?:\s?\"([\w.:-]{{1,120}})\"\s{{0,50}}\}}"
)
NESTED_KEYS = (
    "tool_calls", "tool_uses", "toolCalls", "toolUse", "function_call", "functionCall",
    "function_calls", "functionCalls", "tool_call", "toolCall", "tool_use", "function", "calls",
    "tool", "action", "parts",
)  # fmt: skip
# Of these, the ones that say that what they hold are calls and nothing else.
LISTING_KEYS = words("tool_calls tool_uses toolCalls function_calls functionCalls")
# What else may stand beside them; JSON with other keys is no call.
_OTHER_KEYS = words("id type role content refusal tool_call_id call_id index finish_reason status")
KEYS = frozenset((*NAME_KEYS, *ARGUMENT_WORDS, *NESTED_KEYS, *_OTHER_KEYS))
