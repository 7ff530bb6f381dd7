"""What stands before the body of a tool call, in whatever form a model writes calls.

A head is made of tags or tokens, of noise words, of a recipient or name, and of fences. It says
what kind of body follows.
"""

import re

from bridge import call_words
from bridge.call_bodies import WHOLE, Body, JsonBody, PythonBody, ThoughtBody
from bridge.call_facts import Head, Verdict
from bridge.call_markup import XmlBody
from bridge.call_names import Names, is_prefixed
from bridge.call_tags import (
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
from bridge.tool_schemas import properties, required
from chat_request import Tool

HEAD_CHARS = 1000  # no real head comes near it
_STEPS = 12  # tags, words and fences of one head
_SPACES = re.compile(r"\s{0,200}")


def read_head(text: str, names: Names, *, line: bool) -> tuple[Verdict, Head]:
    """Step over what stands before a body, from the first character of `text` on."""
    steps = _Steps(text, names, line=line)
    return steps.take(), steps.head


class _Steps:
    """The way through a head: `at` is how far it is read, each step says how it goes on."""

    def __init__(self, text: str, names: Names, *, line: bool) -> None:
        self.text, self.names = text, names
        self.head = Head(line)
        self.at = 0

    def take(self) -> Verdict:
        """Take one step after the other, until it is known what came of them."""
        if thought := call_words.THOUGHT.match(self.text):
            self.at = thought.end()
            return self._body(ThoughtBody())
        for _ in range(_STEPS):
            verdict = self._step()
            if verdict is Verdict.MORE and len(self.text) > HEAD_CHARS:
                return Verdict.NO
            if verdict is not Verdict.ON:
                return verdict
        return Verdict.NO

    def _step(self) -> Verdict:
        head, start = self.head, self.at
        self.at = _SPACES.match(self.text, start).end()  # type: ignore[union-attr]
        if self.at == len(self.text):
            return Verdict.MORE
        first = self.text[self.at]
        if head.tool and head.tool.custom and head.closers and first not in "<{`":
            self.at = start  # free text, its first line end included
            return self._arguments()
        if first == "<":
            return self._tag()
        if first == "(":
            return self._parenthesis()
        if first in "[{":
            return self._bracket()
        if first == "`":
            return self._fence()
        return self._word()

    def _on(self, match: re.Match[str]) -> Verdict:
        self.at = match.end()
        return Verdict.ON

    def _body(self, body: Body) -> Verdict:
        self.head.body, self.head.at = body, self.at
        return Verdict.BODY

    def _arguments(self) -> Verdict:
        """Arguments in tags."""
        tool = self.head.tool
        return self._body(XmlBody(self.head.closers, properties(tool), required(tool)))

    def _parenthesis(self) -> Verdict:
        head = self.head
        if head.vouched and not head.tool:
            self.at += 1
            return Verdict.ON
        if head.recipient:
            return self._junk()
        touching = self.at > 0 and not self.text[self.at - 1].isspace()
        return self._body(PythonBody()) if head.tool and touching else Verdict.NO

    def _fence(self) -> Verdict:
        head = self.head
        fence = call_words.FENCE.match(self.text, self.at)
        if fence and (head.vouched or head.called):
            head.fences += 1
            return self._on(fence)
        growing = call_words.FENCE_PART.match(self.text, self.at)
        return Verdict.MORE if growing else Verdict.NO

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
        if role is Role.NAME or plain(tag["word"]) in ("function", "tool"):
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
            return Verdict.ON if begun <= len(self.text) else Verdict.MORE
        names = None if self.head.tool or self.head.vouched else self.names
        running = call_words.OPEN_TAG_PART.match(self.text, self.at)
        growing = running or may_be_tag(self.text, self.at, names)
        return Verdict.MORE if growing else Verdict.NO

    def _open_tag(self, opened: re.Match[str]) -> Verdict:
        """A tag that begins a call and runs into its JSON: `<function=f{"a": 1}`."""
        head, word = self.head, plain(opened["word"])
        if head.tool or ROLES.get(word) is not Role.OPEN:
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
        self.at = tag.end()
        if not tag["alone"]:
            return Verdict.ON
        return self._body(WHOLE) if head.tool else Verdict.NO

    def _tool_tag(self, tag: re.Match[str]) -> Verdict:
        """A tag that is called as a tool is. In a line of words an argument's tag has to follow."""
        head, tool = self.head, self.names.find(tag["word"])
        if not tool:
            return self._beside_name()
        if not (head.line or head.vouched):
            rest = self.text[tag.end() :].lstrip()
            child = TAG.match(rest)
            if not child:
                growing = not rest or may_be_tag(rest, 0, None)
                return Verdict.MORE if growing else Verdict.NO
            if child["word"] not in properties(tool) or is_closing(child):
                return Verdict.NO
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
        if child := call_words.NAME_CHILD.match(self.text, self.at):
            tool = self.names.find(child[1])
            verdict = Verdict.ON if head.vouched else self._before_arguments(child.end())
            if tool and verdict is Verdict.ON:
                head.tool, head.vouched = tool, True
                return self._on(child)
            return verdict if tool and verdict is Verdict.MORE else Verdict.NO
        if call_words.NAME_CHILD_PART.match(self.text, self.at):
            return Verdict.MORE
        return self._opening_tag(tag) if role_of(tag) is Role.OPEN else Verdict.NO

    def _before_arguments(self, at: int) -> Verdict:
        """Whether arguments begin behind a name that no tag around it vouches for."""
        rest = self.text[at:].lstrip()
        tag = TAG.match(rest)
        if tag:
            begins = role_of(tag) is Role.ARGUMENTS and not is_closing(tag)
            return Verdict.ON if begins else Verdict.NO
        growing = not rest or may_be_tag(rest, 0, self.names)
        return Verdict.MORE if growing else Verdict.NO

    def _beside_name(self) -> Verdict:
        """An element before the name which says something else, such as an id or a thought."""
        if not self.head.vouched:
            return Verdict.NO
        if aside := call_words.ELEMENT.match(self.text, self.at):
            return self._on(aside)
        growing = call_words.ELEMENT_PART.match(self.text, self.at)
        return Verdict.MORE if growing else Verdict.NO

    def _bracket(self) -> Verdict:
        head, text, at = self.head, self.text, self.at
        if not (at or head.line or text.startswith("[TOOL_"[: len(text)])):
            return Verdict.NO
        called = call_words.CALLED.match(text) if head.line and not at else None
        if called:
            head.called, head.tool = True, self.names.find(called[1])
            return self._on(called) if head.tool else Verdict.NO
        if marker := (call_words.MARKER if at else call_words.FIRST_MARKER).match(text, at):
            head.vouched = head.firm = True
            return self._on(marker)
        if call_words.MARKER_PART.match(text, at) and (at or "[tool_".startswith(text[:6].lower())):
            return Verdict.MORE
        if head.tool:
            return self._braces()
        if not (head.line or head.vouched):
            return Verdict.NO
        return self._json() if at else self._first_bracket()

    def _braces(self) -> Verdict:
        """The arguments as JSON. Where no mark vouches for the call they are an object."""
        head = self.head
        sure = head.vouched or head.called or head.name_tag
        if not sure and call_words.OBJECT_PART.match(self.text, self.at):
            return Verdict.MORE
        return self._body(JsonBody()) if sure or self.text[self.at] == "{" else Verdict.NO

    def _first_bracket(self) -> Verdict:
        growing = any(word.startswith(self.text.lower()) for word in call_words.CALLED_WORDS)
        if growing or call_words.CALLED_PART.match(self.text):
            return Verdict.MORE
        return self._json()

    def _json(self) -> Verdict:
        """JSON in which the name of the tool stands, or a list of calls as Python has them."""
        head = self.head
        if opened := call_words.LIST_CALL.match(self.text, self.at):
            return self._on(opened)
        if key := call_words.FIRST_KEY.match(self.text, self.at):
            known = key["key"] in call_words.KEYS or self.names.find(key["key"])
            return self._body(JsonBody()) if known or head.vouched else Verdict.NO
        if call_words.FIRST_KEY_PART.match(self.text, self.at):
            return Verdict.MORE
        return self._body(JsonBody()) if head.vouched else Verdict.NO

    def _word(self) -> Verdict:
        head, text, at = self.head, self.text, self.at
        if to := call_words.TO.match(text, at):
            return self._recipient(to)
        if call_words.TO_PART.match(text, at):
            return Verdict.MORE
        if not (at or head.line):
            return Verdict.NO
        if action := call_words.ACTION.match(text, at):
            head.called = True
            return self._on(action) if head.line else Verdict.NO
        if passed := call_words.STRAY.match(text, at) or call_words.PRINT.match(text, at):
            return self._on(passed)
        key = self._key_behind_name() if head.tool and head.taught else None
        if key:
            return key
        found = call_words.WORD.match(text, at)
        known = found[0].lower() if found else ""
        labels = call_words.LABELS if head.called or head.vouched else frozenset[str]()
        rest = text[at:].lower()
        phrase = len(rest) < 24 and any(p.startswith(rest) for p in (*call_words.PHRASES, *labels))
        growing = found and found.end() == len(text) and not head.tool
        if phrase or (found and growing and self.names.may_begin(found[0])):
            return Verdict.MORE
        if found and (known in call_words.NOISE or known in labels):
            if known in call_words.VOUCHING:
                head.vouched = head.firm = True
            return self._on(found)
        if head.recipient:
            return self._junk()
        return self._named(found) if found and not head.tool else Verdict.NO

    def _recipient(self, to: re.Match[str]) -> Verdict:
        head = self.head
        head.tool = self.names.find(to[1]) or self.names.find(call_words.GLUED.sub("", to[1]))
        head.vouched = head.firm = head.recipient = True
        together = to[1].lower() == call_words.TOGETHER
        return self._on(to) if head.tool or together else Verdict.NO

    def _junk(self) -> Verdict:
        """What GPT puts in place of control tokens, between the recipient and its JSON."""
        if junk := call_words.JUNK.match(self.text, self.at):
            return self._on(junk)
        growing = call_words.JUNK_PART.match(self.text, self.at)
        return Verdict.MORE if growing else Verdict.NO

    def _named(self, word: re.Match[str]) -> Verdict:
        """The name of a tool as a word. Where no mark vouches for it, a bracket has to touch it."""
        head, end = self.head, word.end()
        head.tool = self.names.find(word[0])
        head.called = head.called or is_prefixed(word[0])
        if not head.tool:
            return self._glued_key(word) if head.taught else Verdict.NO
        braced = head.vouched and self.text.startswith("{", end)
        sure = head.firm or head.called or braced
        free = head.line or head.vouched
        if sure or (free and call_words.TOUCHING.match(self.text, end)):
            head.closers.add(plain(head.tool.name))
            return self._on(word)
        return Verdict.NO

    def _glued_key(self, word: re.Match[str]) -> Verdict:
        """A name that runs into the first key, whose opening tag is missing: `fpath</arg_key>`."""
        tool = self.names.longest_in(word[0])
        if not tool:
            return Verdict.NO
        self.head.tool, self.at = tool, word.start() + len(tool.name)
        return self._key_behind_name() or Verdict.NO

    def _key_behind_name(self) -> Verdict | None:
        """GLM's first key, where the tag is missing that opens it; None: something else comes."""
        key = call_words.KEY.match(self.text, self.at)
        if key and key[1] in properties(self.head.tool):
            return self._arguments()
        return Verdict.MORE if call_words.KEY_PART.match(self.text, self.at) else None
