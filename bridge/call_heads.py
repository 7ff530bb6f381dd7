"""What stands before the body of a tool call, in whatever form a model writes calls.

A head is made of tags or tokens, of noise words, of a recipient or name, and of fences. Knows
nothing of bodies.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, auto

from bridge import call_keys, call_words
from bridge.call_names import Names, is_prefixed
from bridge.call_tags import (
    ARGUMENT_WORDS,
    CDATA,
    FIRM_WORDS,
    TAG,
    Role,
    given_in,
    is_closing,
    may_be_tag,
    may_open,
    name_in,
    plain,
    role_of,
)
from bridge.tool_schemas import properties
from chat_request import Tool

HEAD_CHARS = 1000  # no real head comes near it
_STEPS = 12  # tags, words and fences of one head
_SPACES = re.compile(r"\s{0,200}")


class Verdict(Enum):
    """What came of a look at a head, or at one step of it."""

    ON = auto()
    MORE = auto()  # it may become a head when more comes
    NO = auto()
    BODY = auto()


class Kind(Enum):
    """Which scanner reads the body."""

    NONE = auto()
    JSON = auto()
    PYTHON = auto()
    XML = auto()
    THOUGHT = auto()


@dataclass(slots=True)
class Head:
    """What a head says.

    `line`: it stands where a form without any mark may stand. `vouched`: a tag or token says that
    it is a call; `firm`: one that says nothing else; `taught`: the one of our instructions.
    `prefixed`, `action`, `recipient`: by which words the tool was named. `closers` are the words
    that close the call, `given` are arguments among a tag's attributes. `name_tag`: the tag is
    called as the tool is. `cdata`: the body stands in such a section, `fences`: behind so many.
    """

    line: bool
    kind: Kind = Kind.NONE
    at: int = 0
    vouched: bool = False
    firm: bool = False
    taught: bool = False
    tool: Tool | None = None
    closers: set[str] = field(default_factory=set)
    given: dict[str, str] = field(default_factory=dict)
    prefixed: bool = False
    recipient: bool = False
    action: bool = False
    listed: bool = False
    name_tag: bool = False
    cdata: bool = False
    fences: int = 0


def may_begin(text: str, at: int, names: Names) -> bool:
    """Whether a head may begin at `at`: a quick look, since every line of prose begins with some
    word and every page has tags."""
    if text[at] == "<":
        return may_open(text, at, names)
    word = call_words.WORD.match(text, at)
    if not word:
        return True
    known = word[0].lower()
    if word.end() < len(text) and known not in call_words.FIRST_WORDS:
        return names.find(word[0]) is not None
    return any(p.startswith(known) for p in call_words.FIRST_WORDS) or names.may_begin(word[0])


def read_head(text: str, names: Names, *, line: bool) -> tuple[Verdict, Head]:
    """Step over what stands before a body, from the first character of `text` on."""
    head, at = Head(line), 0
    if thought := call_words.THOUGHT.match(text):
        head.kind, head.at = Kind.THOUGHT, thought.end()
        return Verdict.BODY, head
    for _ in range(_STEPS):
        start = at
        at = _SPACES.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            verdict = Verdict.MORE
        elif head.tool and head.tool.custom and head.closers and text[at] not in "<{`":
            verdict, at = _body(head, Kind.XML), start  # free text, its first line end included
        else:
            verdict, at = _step(text, at, head, names)
        if verdict is Verdict.MORE and len(text) > HEAD_CHARS:
            verdict = Verdict.NO
        if verdict is not Verdict.ON:
            head.at = at
            return verdict, head
    return Verdict.NO, head


def _step(text: str, at: int, head: Head, names: Names) -> tuple[Verdict, int]:
    first = text[at]
    if first == "<":
        return _tag(text, at, head, names)
    if first == "(" and head.vouched and not head.tool:
        return Verdict.ON, at + 1
    if first == "(" and not head.recipient:
        touching = at > 0 and not text[at - 1].isspace()
        return (_body(head, Kind.PYTHON) if head.tool and touching else Verdict.NO), at
    if first in "[{":
        return _bracket(text, at, head, names)
    if first == "`":
        return _inner_fence(text, at, head)
    return _word(text, at, head, names)


def _body(head: Head, kind: Kind) -> Verdict:
    head.kind = kind
    return Verdict.BODY


def _inner_fence(text: str, at: int, head: Head) -> tuple[Verdict, int]:
    fence = call_words.FENCE.match(text, at)
    if fence and (head.vouched or head.action or head.prefixed):
        head.fences += 1
        return Verdict.ON, fence.end()
    return (Verdict.MORE if call_words.FENCE_PART.match(text, at) else Verdict.NO), at


def _tag(text: str, at: int, head: Head, names: Names) -> tuple[Verdict, int]:
    tag = TAG.match(text, at)
    if not tag and head.tool and CDATA.startswith(text[at : at + len(CDATA)]):
        head.cdata = True
        begun = at + len(CDATA)
        return (Verdict.ON if begun <= len(text) else Verdict.MORE), begun
    if not tag:
        growing = may_be_tag(text, at, names, any_word=head.tool is not None)
        return (Verdict.MORE if growing else Verdict.NO), at
    word, closing = plain(tag["word"]), is_closing(tag)
    role = role_of(tag)
    if closing or role is Role.END:
        whole = head.tool is not None and (bool(head.closers) or head.recipient)
        return (_body(head, Kind.XML) if whole else Verdict.NO), at
    if role is Role.RESULT:
        return Verdict.NO, at
    if head.tool:
        return _inner_tag(tag, head, names)
    nested = word in ("function", "tool") and head.vouched and not tag["given"]
    if role is Role.NAME or nested:
        return _name_child(text, at, head, names, tag)
    if role in (Role.OPEN, Role.WRAP, Role.JOIN):
        return _opening_tag(tag, head, names)
    tool = names.find(tag["word"])
    if tool and not (head.line or head.vouched):
        verdict = _argument_follows(text, tag.end(), tool)
        if verdict is not Verdict.ON:
            return verdict, at
    if tool:
        head.tool, head.name_tag, head.given = tool, True, given_in(tag)
        head.closers.add(word)
        return (Verdict.BODY if tag["alone"] else Verdict.ON), tag.end()
    return Verdict.NO, at


def _argument_follows(text: str, at: int, tool: Tool) -> Verdict:
    """Whether a tag with the name of an argument stands at `at`; ON: it does."""
    rest = text[at:].lstrip()
    tag = TAG.match(rest)
    if tag:
        known = tag["word"] in properties(tool) and not is_closing(tag)
        return Verdict.ON if known else Verdict.NO
    return Verdict.MORE if not rest or call_words.CHILD_PART.match(rest) else Verdict.NO


def _opening_tag(tag: re.Match[str], head: Head, names: Names) -> tuple[Verdict, int]:
    """A tag that announces calls, or begins one and may bear its name."""
    word = plain(tag["word"])
    head.vouched = True
    head.firm = head.firm or word in FIRM_WORDS
    head.closers.add(word)
    if role_of(tag) is not Role.OPEN:
        return Verdict.ON, tag.end()
    head.taught = tag[0] == "<tool_call>"
    if written := name_in(tag):
        head.tool = names.find(written)
        if not head.tool:
            return Verdict.NO, tag.start()
        head.closers.add(plain(head.tool.name))
        given = given_in(tag)
        head.given = {key: given[key] for key in given if key in ARGUMENT_WORDS}
    if tag["alone"]:
        return (Verdict.BODY if head.tool else Verdict.NO), tag.end()
    return Verdict.ON, tag.end()


def _inner_tag(tag: re.Match[str], head: Head, names: Names) -> tuple[Verdict, int]:
    """A tag behind the name: something that joins, the first of the arguments, or the next call."""
    role = role_of(tag)
    known = tag["word"] in properties(head.tool)
    if not known and role is Role.ARGUMENTS and not tag["given"]:
        head.closers.add(plain(tag["word"]))
        return Verdict.ON, tag.end()
    another = names.find(name_in(tag)) if role is Role.OPEN else None
    if another and another is not head.tool:
        return _body(head, Kind.NONE), tag.start()
    if role in (Role.OPEN, Role.WRAP) and not known:
        head.closers.add(plain(tag["word"]))
        return Verdict.ON, tag.end()
    if role is Role.JOIN and not known:
        head.vouched = True
        return Verdict.ON, tag.end()
    loose = head.vouched and not head.name_tag
    if known or role is Role.PARAMETER or loose or not properties(head.tool):
        return _body(head, Kind.XML), tag.start()
    return Verdict.NO, tag.start()


def _name_child(
    text: str, at: int, head: Head, names: Names, tag: re.Match[str]
) -> tuple[Verdict, int]:
    """A tag in which the name of the tool stands as text."""
    if not head.vouched:
        return Verdict.NO, at
    if child := call_words.NAME_CHILD.match(text, at):
        head.tool = names.find(child[1])
        return (Verdict.ON if head.tool else Verdict.NO), child.end()
    if call_words.NAME_CHILD_PART.match(text, at):
        return Verdict.MORE, at
    return _opening_tag(tag, head, names) if role_of(tag) is Role.OPEN else (Verdict.NO, at)


def _bracket(text: str, at: int, head: Head, names: Names) -> tuple[Verdict, int]:
    if not (at or head.line or text.startswith("[TOOL_"[: len(text)])):
        return Verdict.NO, at
    if at == 0 and not call_words.FIRST_MARKER.match(text) and call_words.MARKER.match(text):
        return Verdict.NO, at
    if marker := call_words.MARKER.match(text, at):
        head.vouched = head.firm = True
        return Verdict.ON, marker.end()
    if call_words.MARKER_PART.match(text, at) and (at or "[tool_".startswith(text[:6].lower())):
        return Verdict.MORE, at
    if not (head.line or head.vouched or head.tool):
        return Verdict.NO, at
    if head.tool:
        sure = head.vouched or head.prefixed or head.action or head.name_tag
        if not sure and call_words.OBJECT_PART.match(text, at):
            return Verdict.MORE, at
        return (_body(head, Kind.JSON) if sure or text[at] == "{" else Verdict.NO), at
    if not at and (called := call_words.CALLED.match(text)):
        head.tool = names.find(called[1])
        head.action = True
        return (Verdict.ON if head.tool else Verdict.NO), called.end()
    growing = any(word.startswith(text.lower()) for word in call_words.CALLED_WORDS)
    if not at and (growing or call_words.CALLED_PART.match(text)):
        return Verdict.MORE, at
    opened = call_words.LIST_CALL.match(text, at)
    if opened and not head.listed:
        head.listed = True
        return Verdict.ON, opened.end()
    if key := call_words.FIRST_KEY.match(text, at):
        known = key["key"] in call_keys.ALL or names.find(key["key"])
        return (_body(head, Kind.JSON) if known or head.vouched else Verdict.NO), at
    if call_words.FIRST_KEY_PART.match(text, at):
        return Verdict.MORE, at
    return (_body(head, Kind.JSON) if head.vouched else Verdict.NO), at


def _word(text: str, at: int, head: Head, names: Names) -> tuple[Verdict, int]:
    if to := call_words.TO.match(text, at):
        return _recipient(to, head, names)
    if call_words.TO_PART.match(text, at):
        return Verdict.MORE, at
    if not (at or head.line):
        return Verdict.NO, at
    if stray := call_words.STRAY.match(text, at):
        return (Verdict.MORE if stray.end() == len(text) else Verdict.ON), stray.end()
    if action := call_words.ACTION.match(text, at):
        head.action = True
        return (Verdict.ON if head.line else Verdict.NO), action.end()
    if printed := call_words.PRINT.match(text, at):
        return Verdict.ON, printed.end()
    found = call_words.WORD.match(text, at)
    rest = text[at:].lower()
    growing = found and found.end() == len(text)
    labels = call_words.LABELS if head.action or head.vouched else frozenset[str]()
    phrase = len(rest) < 24 and any(p.startswith(rest) for p in (*call_words.PHRASES, *labels))
    if phrase or (growing and found and not head.tool and names.may_begin(found[0])):
        return Verdict.MORE, at
    if found and found[0].lower() in call_words.NOISE:
        head.vouched = head.vouched or found[0].lower() == "tool_code"
        head.firm = head.firm or head.vouched
        return Verdict.ON, found.end()
    if found and found[0].lower() in labels:
        return Verdict.ON, found.end()
    if head.recipient:
        return _junk(text, at)
    if found and found[0].lower() == call_words.TOGETHER:
        head.vouched = head.firm = True
        return Verdict.ON, found.end()
    if not found or head.tool:
        return Verdict.NO, at
    return _named(text, found, head, names)


def _recipient(to: re.Match[str], head: Head, names: Names) -> tuple[Verdict, int]:
    head.tool = names.find(to[1])
    head.vouched = head.firm = head.recipient = True
    together = to[1].lower() == call_words.TOGETHER
    return (Verdict.ON if head.tool or together else Verdict.NO), to.end()


def _junk(text: str, at: int) -> tuple[Verdict, int]:
    """What GPT puts in place of control tokens, between the recipient and its JSON."""
    if junk := call_words.JUNK.match(text, at):
        return Verdict.ON, junk.end()
    return (Verdict.MORE if call_words.JUNK_PART.match(text, at) else Verdict.NO), at


def _named(text: str, word: re.Match[str], head: Head, names: Names) -> tuple[Verdict, int]:
    """The name of a tool as a word. Where no mark vouches for it, a bracket has to touch it."""
    head.tool = names.find(word[0])
    head.prefixed = is_prefixed(word[0])
    if not head.tool:
        return Verdict.NO, word.start()
    braced = head.vouched and text.startswith("{", word.end())
    sure = head.firm or head.prefixed or head.action or braced
    free = head.line or head.vouched
    if sure or (free and call_words.TOUCHING.match(text, word.end())):
        return Verdict.ON, word.end()
    return Verdict.NO, word.start()
