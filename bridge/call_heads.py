"""What stands before the body of a tool call, in whatever form a model writes calls.

A head is made of tags or tokens, of noise words, of a recipient or name, and of fences. It says
what kind of body follows.
"""

import re

from bridge import call_words
from bridge.call_bodies import JsonBody, LineBody, PythonBody
from bridge.call_head_tags import Head, TagSteps, Verdict
from bridge.call_names import Names, is_prefixed
from bridge.call_tags import FILL, FILLER, plain
from bridge.tool_schemas import lone_text, properties

HEAD_CHARS = 1000  # no real head comes near it
_STEPS = 12  # tags, words and fences of one head


def read_head(text: str, names: Names, *, line: bool) -> tuple[Verdict, Head]:
    """Step over what stands before a body, from the first character of `text` on."""
    steps = _Steps(text, names, line=line)
    verdict = steps.take()
    steps.head.at = steps.at
    return verdict, steps.head


class _Steps(TagSteps):
    """All steps: over brackets and words, too."""

    def take(self) -> Verdict:
        """Take one step after the other, until it is known what came of them."""
        for _ in range(_STEPS):
            verdict = self._step()
            if verdict is Verdict.MORE and len(self.text) > HEAD_CHARS:
                return Verdict.NO
            if verdict is not Verdict.ON:
                return verdict
        return Verdict.NO

    def _step(self) -> Verdict:
        head, start = self.head, self.at
        self.at = FILL.match(self.text, start).end()  # type: ignore[union-attr]
        if FILLER.startswith(self.text[self.at :]):
            return Verdict.MORE
        first = self.text[self.at]
        if head.tool and head.tool.custom and head.closers and first not in "<{`":
            self.at = start  # free text, its first line end included
            return self._arguments()
        if head.labelled and first not in "{[<`*" and lone_text(head.tool):
            same_line = "\n" not in self.text[start : self.at]
            return self._body(LineBody()) if same_line else Verdict.NO
        if first == "<":
            return self._tag()
        if first == "+" and not start:
            return self._hashes()
        if first == "(":
            return self._parenthesis()
        if first in "[{":
            return self._bracket()
        if first in "\"'`":
            return self._quote()
        return self._word()

    def _parenthesis(self) -> Verdict:
        head = self.head
        if head.vouched and not head.tool:
            self.at += 1
            return Verdict.ON
        if head.recipient:
            return self._junk()
        touching = not self.text[self.at - 1].isspace()
        return self._body(PythonBody()) if head.tool and touching else Verdict.NO

    def _quote(self) -> Verdict:
        """The name of a tool in quotes, or a fence."""
        head = self.head
        if (head.vouched or head.called) and not head.tool:
            if named := call_words.QUOTED_NAME.match(self.text, self.at):
                head.tool = self.names.find(named[2])
                return self._on(named) if head.tool else Verdict.NO
            if call_words.QUOTED_NAME_PART.match(self.text, self.at):
                return Verdict.MORE
        verdict = self._over(call_words.FENCE, call_words.FENCE_PART)
        if verdict is Verdict.ON:
            head.fences += 1
            return verdict if head.vouched or head.called else Verdict.NO
        return verdict

    def _bracket(self) -> Verdict:
        head, text, at = self.head, self.text, self.at
        if not (at or head.line or text.startswith("[TOOL_"[: len(text)])):
            return Verdict.NO
        if not at and (called := call_words.CALLED.match(text)):
            head.called, head.tool = True, self.names.find(called[1])
            return self._on(called) if head.tool else Verdict.NO
        if marker := (call_words.MARKER if at else call_words.FIRST_MARKER).match(text, at):
            head.vouched = head.firm = True
            return self._on(marker)
        if call_words.MARKER_PART.match(text, at) and (at or "[tool_".startswith(text[:6].lower())):
            return Verdict.MORE
        if head.tool:
            return self._braces()
        return self._json() if head.line or head.vouched else Verdict.NO

    def _braces(self) -> Verdict:
        """The arguments as JSON. Where no mark vouches for the call they are an object."""
        head = self.head
        sure = head.vouched or head.called or head.name_tag
        if not sure and call_words.OBJECT_PART.match(self.text, self.at):
            return Verdict.MORE
        return self._body(JsonBody()) if sure or self.text[self.at] == "{" else Verdict.NO

    def _json(self) -> Verdict:
        """JSON in which the name of the tool stands, or a list of calls as Python has them."""
        head = self.head
        if not self.at and call_words.CALLED_PART.match(self.text):
            return Verdict.MORE
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
        if call_words.CODE_BEHIND.match(text, at):
            return Verdict.NO
        if action := call_words.ACTION.match(text, at):
            head.called = True
            head.labelled = bool(head.tool) and "input" in action[0].lower()
            return self._on(action) if head.line or head.vouched else Verdict.NO
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
        if head.tool and head.taught and (pair := call_words.PAIR.match(text, at)):
            return self._arguments() if pair[1] in properties(head.tool) else Verdict.NO
        if head.recipient:
            return self._junk()
        return self._named(found) if found and not head.tool else Verdict.NO

    def _recipient(self, to: re.Match[str]) -> Verdict:
        head = self.head
        head.tool = self.names.find(to[1]) or self.names.find(call_words.GLUED.sub("", to[1]))
        head.vouched = head.firm = head.recipient = True
        together = to[1].lower() == call_words.TOGETHER
        return self._on(to) if head.tool or together else Verdict.NO

    def _hashes(self) -> Verdict:
        """What GPT puts in place of the tokens before a recipient."""
        return self._over(call_words.HASHES, call_words.HASHES_PART)

    def _junk(self) -> Verdict:
        """What GPT puts in place of control tokens, between the recipient and its JSON."""
        junk = call_words.JUNK.match(self.text, self.at)
        growing = junk or call_words.JUNK_PART.match(self.text, self.at)
        if not growing or not call_words.is_junk(growing[1], grows=not junk):
            return Verdict.NO
        return self._on(junk) if junk else Verdict.MORE

    def _named(self, word: re.Match[str]) -> Verdict:
        """The name of a tool as a word. Where no mark vouches for it, a bracket has to touch it."""
        head, end = self.head, word.end()
        head.tool = self.names.find(word[0])
        head.called = head.called or is_prefixed(word[0])
        if not head.tool and head.firm and call_words.NAME_TOKEN.startswith(self.text[end:][:16]):
            return self._on(word)  # the id of the call
        if not head.tool:
            return self._glued_key(word) if head.taught else Verdict.NO
        braced = head.vouched and self.text.startswith("{", end)
        sure = head.firm or head.called or braced
        free = head.line or head.vouched
        if sure or (free and call_words.TOUCHING.match(self.text, end)):
            if head.vouched:
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
