"""What is known of a call before its arguments come: its head, and what a look at one came to.

Knows nothing of how heads are read.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from bridge.call_bodies import WHOLE, Body
from chat_request import Tool


class Verdict(Enum):
    """What came of a look at a head, or at one step of it."""

    ON = auto()
    MORE = auto()  # it may become a head when more comes
    NO = auto()
    BODY = auto()


@dataclass(slots=True)
class Head:
    """What a head says; its `body` begins `at` a place in the text.

    `line`: it stands where a form without any mark may stand. `vouched`: a tag or token says that
    it is a call; `firm`: one that says nothing else; `taught`: the one of our instructions.
    `called`: a word says that this names a tool (`Action: f`, `functions.f`); `recipient`: it is
    whom the message goes to; `name_tag`: a tag is called as the tool is. `closers` are the words
    that close the call, `given` are arguments among a tag's attributes. `cdata`: the body stands
    in such a section, `fences`: behind so many.
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
    recipient: bool = False
    name_tag: bool = False
    cdata: bool = False
    fences: int = 0
