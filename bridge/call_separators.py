"""MiniMax's token that stands before each tag of its calls, as text: taken out before calls are
looked for. Knows nothing of calls.
"""

import re

_TOKEN = "]<]minimax[>["
_BEFORE_TAG = re.compile(rf"{re.escape(_TOKEN)}(?=[<\n])")
_BEGUN = "|".join(re.escape(_TOKEN[:size]) for size in range(len(_TOKEN), 0, -1))
_PART = re.compile(rf"(?:{_BEGUN})\Z")


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
