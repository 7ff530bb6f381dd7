"""MiniMax's token that parts the tags of its calls, as text: taken out before calls are looked for.

It is a `]<]word[>[` before each tag. Knows nothing of calls.
"""

import re

_BEFORE_TAG = re.compile(r"\]<\]\w{2,20}\[>\[(?=[<\n])")
_PART = re.compile(r"\](?:<(?:\](?:\w{0,20}(?:\[(?:>(?:\[)?)?)?)?)?)?\Z")


class Separators:
    """Takes them out of text that comes in pieces; `held` is what may become one."""

    def __init__(self) -> None:
        self.held = ""

    def without(self, piece: str) -> str:
        """What is sure of the text that has come."""
        text = _BEFORE_TAG.sub("", self.held + piece)
        part = _PART.search(text)
        self.held = part[0] if part else ""
        return text.removesuffix(self.held)

    def rest(self) -> str:
        """What is held when nothing more comes; it is text."""
        held, self.held = self.held, ""
        return held
