"""The tools on offer, found by the names that models give them.

Knows nothing of the forms in which calls are written.
"""

import re
from bisect import bisect_left

from chat_request import Tool

_PREFIXES = ("call", "declaration", "default_api", "function", "functions", "tool", "tools")
# Gemini puts a namespace of its own between (`call:custom:f`), Muse the name itself (`f.f`).
_PREFIX = re.compile(
    rf"(?i)(?:call:\w{{1,24}}:(?=\w)|(?:{'|'.join(_PREFIXES)})[.:/](?=.)|([\w-]{{1,64}})\.(?=\1\Z))"
)
_PREFIX_PART = re.compile(r"(?i)call:\w{0,24}:?\Z")
# Kimi: `functions.f:0`; Llama: `f.call`; and what of a form stays on a name that stands in JSON.
_SUFFIX = re.compile(r":\d{0,4}\Z|\.call\Z|\(\)\Z|<\|.*", re.DOTALL)
_SUFFIX_PART = re.compile(r"(?::\d{0,4}|\.(?:c(?:a(?:ll?)?)?)?)\Z")
_FOLD = str.maketrans("", "", "-_.:/ \\")


def fold(name: str) -> str:
    """What stays of a name when case and separators are left out of account."""
    return name.lower().translate(_FOLD)


def bare_name(written: str) -> str:
    """A name without the prefixes of the models' own channels and what some put behind it."""
    written = _SUFFIX.sub("", written.strip())
    while prefix := _PREFIX.match(written):
        written = written[prefix.end() :]
    return written


class Names:
    """Looks tools up: exactly first, then without regard to case and separators."""

    def __init__(self, tools: tuple[Tool, ...]) -> None:
        self._exact = {tool.name: tool for tool in tools}
        self._folded: dict[str, Tool] = {}
        for tool in tools:
            self._folded.setdefault(fold(tool.name), tool)
            if tool.namespace:
                self._folded.setdefault(fold(tool.namespace + tool.name), tool)
        self._sorted = sorted((*self._folded, *map(fold, _PREFIXES)))

    def find(self, written: str) -> Tool | None:
        found = self._exact.get(written) or self._folded.get(fold(written))
        if found is None and (bare := bare_name(written)) != written:
            found = self._exact.get(bare) or self._folded.get(fold(bare))
        return found

    def longest_in(self, written: str) -> Tool | None:
        """The tool whose name a longer word begins with, the longest of them."""
        sizes = range(len(written) - 1, 0, -1)
        return next((self._exact[written[:n]] for n in sizes if written[:n] in self._exact), None)

    def may_begin(self, written: str) -> bool:
        """Whether more letters may make a known name of this."""
        if _PREFIX_PART.match(written):
            return True
        shorter = _SUFFIX_PART.sub("", written)
        for text in {fold(written), fold(bare_name(written)), fold(bare_name(shorter))}:
            at = bisect_left(self._sorted, text)
            if at < len(self._sorted) and self._sorted[at].startswith(text):
                return True
        return False


def is_prefixed(written: str) -> bool:
    """Whether a name says itself that it is a tool's: `functions.f`, `default_api.f`."""
    return bool(_PREFIX.match(written))
