"""What stands before the arguments of a call, as far as it is tags and tokens: what each says.

`call_heads` goes through a whole head, and has the steps over words and brackets.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum, auto

from bridge import call_words
from bridge.call_bodies import WHOLE, Body
from bridge.call_names import Names
from bridge.call_tags import (
    ARGUMENT_WORDS,
    CDATA,
    FIRM_WORDS,
    ROLES,
    TAG,
    Role,
    arguments_in,
    given_in,
    is_closing,
    may_be_tag,
    name_in,
    plain,
    role_of,
)
from bridge.call_xml import XmlBody
from bridge.tool_schemas import properties, required
from chat_request import Tool


class Verdict(Enum):
    """What came of a look at a head, or at one step of it."""

    ON = auto()
    MORE = auto()  # it may become a head when more comes
    NO = auto()
    BODY = auto()


def wait_if(growing: object) -> Verdict:
    """The verdict on a form that is not there: more has to come where it is begun."""
    return Verdict.MORE if growing else Verdict.NO


@dataclass(slots=True)
class Head:
    """What a head says. It is read up to `at`, where its `body` begins.

    `line`: it stands where a form without any mark may stand. `vouched`: a tag or token says that
    it is a call; `firm`: one that says nothing else; `taught`: the one of our instructions.
    `called`: a word says that this names a tool (`Action: f`, `functions.f`), `labelled`: that
    the arguments come; `recipient`: it is whom the message goes to; `name_tag`: a tag is called as
    the tool is. `closers` are the words that close the call, `given` are arguments among a tag's
    attributes. `cdata`: the body stands in such a section, `fences`: behind so many.
    """

    line: bool
    body: Body = WHOLE
    at: int = 0
    vouched: bool = False
    firm: bool = False
    taught: bool = False
    tool: Tool | None = None
    closers: set[str] = field(default_factory=set)
    given: dict[str, str] = field(default_factory=dict)
    called: bool = False
    labelled: bool = False
    recipient: bool = False
    name_tag: bool = False
    cdata: bool = False
    fences: int = 0


class TagSteps:
    """The way through a head: `at` is how far it is read, each step says how it goes on."""

    def __init__(self, text: str, names: Names, *, line: bool) -> None:
        self.text, self.names = text, names
        self.head = Head(line)
        self.at = 0

    def _on(self, match: re.Match[str]) -> Verdict:
        self.at = match.end()
        return Verdict.ON

    def _over(self, pattern: re.Pattern[str], begun: re.Pattern[str]) -> Verdict:
        """Over what a pattern matches, or may match when more comes."""
        if found := pattern.match(self.text, self.at):
            return self._on(found)
        return wait_if(begun.match(self.text, self.at))

    def _body(self, body: Body) -> Verdict:
        self.head.body, self.head.at = body, self.at
        return Verdict.BODY

    def _arguments(self) -> Verdict:
        """Arguments in tags."""
        tool = self.head.tool
        return self._body(XmlBody(self.head.closers, properties(tool), required(tool)))

    def _tag(self) -> Verdict:
        head = self.head
        tag = TAG.match(self.text, self.at)
        if not tag:
            return self._no_tag()
        role = role_of(tag)
        if is_closing(tag) or role is Role.END:
            whole = head.tool and (head.closers or head.recipient)
            return self._arguments() if whole else Verdict.NO
        if role is Role.RESULT:
            return Verdict.NO
        if head.tool:
            return self._inner_tag(tag, head.tool)
        if plain(tag["word"]) in ("function", "tool") or (head.vouched and role is Role.NAME):
            return self._name_child(tag)
        if role in (Role.OPEN, Role.WRAP, Role.JOIN):
            return self._opening_tag(tag)
        return self._tool_tag(tag)

    def _no_tag(self) -> Verdict:
        """A `<` that begins no tag, or none yet."""
        if opened := call_words.OPEN_TAG.match(self.text, self.at):
            return self._open_tag(opened)
        begun = self.at + len(CDATA)
        if self.head.tool and CDATA.startswith(self.text[self.at : begun]):
            self.head.cdata, self.at = True, begun
            return Verdict.ON
        names = None if self.head.tool or self.head.vouched else self.names
        running = call_words.OPEN_TAG_PART.match(self.text, self.at)
        return wait_if(running or may_be_tag(self.text, self.at, names))

    def _open_tag(self, opened: re.Match[str]) -> Verdict:
        """A tag that begins a call and runs on without its end: `<function=f{"a": 1}`. Without a
        name most words may begin other markup (`<Action {...}>`)."""
        head, word = self.head, plain(opened["word"])
        if head.tool or ROLES.get(word) is not Role.OPEN:
            return Verdict.NO
        if not (opened["name"] or word in FIRM_WORDS):
            return Verdict.NO
        head.tool = self.names.find(opened["name"] or "")
        if opened["name"] and not head.tool:
            return Verdict.NO
        head.vouched = True
        head.firm = word in FIRM_WORDS
        head.closers.add(word)
        return self._on(opened)

    def _opening_tag(self, tag: re.Match[str]) -> Verdict:
        """A tag that announces calls, or begins one and may bear its name."""
        head, word = self.head, plain(tag["word"])
        head.vouched = True
        head.firm = head.firm or word in FIRM_WORDS
        head.closers.add(word)
        if role_of(tag) is not Role.OPEN:
            return self._on(tag)
        head.taught = tag[0] == "<tool_call>"
        if written := name_in(tag):
            head.tool = self.names.find(written)
            if not head.tool:
                return Verdict.NO
            head.closers.add(plain(head.tool.name))
            head.given = arguments_in(tag, properties(head.tool))
        self.at = tag.end() + self.text.startswith(":", tag.end())  # Gemma's slip
        if not tag["alone"]:
            return Verdict.ON
        return self._body(WHOLE) if head.tool else Verdict.NO

    def _tool_tag(self, tag: re.Match[str]) -> Verdict:
        """A tag that is called as a tool is. In a line of words an argument's tag has to follow."""
        head, tool = self.head, self.names.find(tag["word"])
        if not tool:
            return self._beside_name()
        if not (head.line or head.vouched):
            verdict = self._tag_behind(tag.end(), properties(tool))
            if verdict is not Verdict.ON:
                return verdict
        head.tool, head.name_tag, head.given = tool, True, given_in(tag)
        head.closers.add(plain(tag["word"]))
        self.at = tag.end()
        return self._body(WHOLE) if tag["alone"] else Verdict.ON

    def _inner_tag(self, tag: re.Match[str], tool: Tool) -> Verdict:
        """A tag behind the name: something that joins, the first argument, or the next call."""
        head, role = self.head, role_of(tag)
        another = self.names.find(name_in(tag)) if role is Role.OPEN else None
        if another and another is not tool:
            return self._body(WHOLE)
        if tag["word"] in properties(tool) or role is Role.PARAMETER:
            return self._arguments()
        if role in (Role.OPEN, Role.WRAP, Role.ARGUMENTS):
            head.closers.add(plain(tag["word"]))
            return self._on(tag)
        if role is Role.JOIN:
            head.vouched = True
            return self._on(tag)
        loose = head.vouched and not head.name_tag
        return self._arguments() if loose or not properties(tool) else Verdict.NO

    def _name_child(self, tag: re.Match[str]) -> Verdict:
        """A tag in which the name of the tool stands as text."""
        head = self.head
        child = call_words.NAME_CHILD.match(self.text, self.at)
        if child and head.vouched:
            head.tool = self.names.find(child[1])
            return self._on(child) if head.tool else Verdict.NO
        if child:
            return self._lone_name(child)
        if call_words.NAME_CHILD_PART.match(self.text, self.at):
            return Verdict.MORE
        return self._opening_tag(tag) if role_of(tag) is Role.OPEN else Verdict.NO

    def _lone_name(self, child: re.Match[str]) -> Verdict:
        """A name that no tag around it vouches for: arguments have to follow."""
        head, tool = self.head, self.names.find(child[1])
        if not (tool and head.line):
            return Verdict.NO
        verdict = self._tag_behind(child.end(), ARGUMENT_WORDS)
        if verdict is Verdict.ON:
            head.called, head.tool = True, tool
            return self._on(child)
        return verdict

    def _tag_behind(self, at: int, words: Container[str]) -> Verdict:
        """Whether the tag that comes there opens and is called by one of the words."""
        rest = self.text[at:].lstrip()
        tag = TAG.match(rest)
        if not tag:
            return wait_if(not rest or may_be_tag(rest, 0, None))
        known = tag["word"] in words or plain(tag["word"]) in words
        return Verdict.ON if known and not is_closing(tag) else Verdict.NO

    def _beside_name(self) -> Verdict:
        """An element before the name which says something else, such as an id or a thought. In tags
        that may speak of tools otherwise (`<tools>`) it is a list of them that has such."""
        if not self.head.firm:
            return Verdict.NO
        return self._over(call_words.ELEMENT, call_words.ELEMENT_PART)
