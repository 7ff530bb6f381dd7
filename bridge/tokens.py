"""About how many o200k_base tokens (GPT-4o and later) a text is, without a vocabulary.

The text is cut where o200k_base itself cuts before it looks anything up: words with the space
before them, up to three digits, runs of punctuation, line ends. No token spans two such pieces,
so each is at least one. What it costs beyond that is a mean rate by script and length, fitted on
20 MB of prose in 23 languages, source code, JSON and markup counted with gpt-tokenizer 4.0.0.
On 11 MB kept out of the fit, totals came within 5 % for English, Python, JavaScript, JSON and
Markdown, 10 % for Chinese, and 25 % for the other kinds tried; for long runs of one character only
the order of magnitude is right.
"""

import re
from collections.abc import Iterable

MOST_PER_CHARACTER = 5  # tokens: no text is estimated at more

# A longer text is judged by 64 evenly spaced slices of 256 characters, so that a prompt of any size
# takes a millisecond. For 150 mixtures of prose and code, 40 KB to 1 MB, that was within 4 % of
# what counting all of it gives, 1 % in the mean; twice as many characters were no nearer.
_WHOLE = 1 << 14
_SLICE = 1 << 8
_SHORT = 32  # bytes up to which what a piece costs is remembered
_REMEMBERED = 8_192  # pieces

# The first byte of a character in UTF-8 tells its script; the others (0x80 to 0xBF) are dropped.
_FOLLOWING = bytes(range(0x80, 0xC0))
_SCRIPTS: dict[str, Iterable[int]] = {
    " ": range(0x21),
    "\n": b"\n\r",
    "0": b"0123456789",
    "A": range(0x41, 0x5B),
    "a": range(0x61, 0x7B),
    "'": b"'",
    "-": b"-=*#_~",  # apart, since long runs of these, as in rulers, are single tokens
    "l": (*range(0xC3, 0xCE), 0xE1),  # accented Latin
    "c": range(0xD0, 0xD5),  # Cyrillic
    "r": range(0xD5, 0xE0),  # Armenian, Hebrew, Arabic
    "i": (0xCE, 0xCF, 0xE0),  # Greek, India's scripts, Thai
    "s": (0xE2, 0xEE),  # dashes, quotes, arrows, other symbols
    "k": (0xE3,),  # kana, and the punctuation between Han
    "h": range(0xE4, 0xEA),  # Han
    "g": range(0xEA, 0xEE),  # Hangul
    "f": (0xEF,),  # full-width punctuation
    "x": range(0xF0, 0x100),  # emoji
}
_CODES = bytearray(b"." * 256)
for _code, _firsts in _SCRIPTS.items():
    for _first in _firsts:
        _CODES[_first] = ord(_code)

# o200k_base's own pattern, in those codes. A branch that fails has read one run of one class,
# which the branch that then matches takes whole: the time is linear in the text.
_PIECE = re.compile(
    rb"[ .'\-sfx]?A*[al]+(?:'a{1,2}(?![al]))?|[ .'\-sfx]?A+|[ .'\-sfx]?[cri]+|[ .'\-sfx]?[hkg]+"
    rb"|0{1,3}| ?[.'\-sfx]+\n*|\s*\n|\s+(?!\S)|\s"
)
# Per script: letters of a word that come free, tokens for each letter more.
_WORDS = {
    b"a": (6.0, 0.11), b"l": (6.0, 0.11), b"A": (2.0, 0.14),
    b"c": (2.5, 0.2), b"r": (3.2, 0.37), b"i": (2.2, 0.32),
}  # fmt: skip


def _cost(piece: bytes) -> float:
    """Mean tokens of a piece, given as codes."""
    count, lead, last = piece.count, piece[:1], piece[-1:]
    if last in _WORDS:
        free, rate = _WORDS[last]
        # The vocabulary has most words with their space only. Accents cost as letters do.
        unspaced = 0 if lead == b" " else 3 if lead in b".'-sfx" else 2
        size = len(piece) - (lead in b" .'-sfx") + unspaced + 3 * count(b"l")
        cost = 1 + rate * max(0, size - free)
        if last in b"al":
            cost += 1.2 * max(0, count(b"A") - 1) + 0.35 * max(0, min(size, 32) - 12)
        return cost
    if last in b"hkg":
        leading = 0.0 if lead in b"hkg" else 0.3 if lead == b" " else 0.9
        return 0.25 + leading + 0.69 * count(b"h") + 0.68 * count(b"k") + 0.55 * count(b"g")
    if symbols := 0.2 * count(b"s") + 0.8 * count(b"f") + 1.8 * count(b"x"):
        return max(1.0, 0.4 + symbols)
    return 1 + 0.5 * max(0, min(count(b"."), 12) - 4) + max(0, len(piece) - 80) / 40


class _Costs(dict[bytes, float]):
    """What a piece costs, worked out once. To look it up takes a third of what a function with a
    cache takes (measured), and a text is half as dear to count."""

    def __missing__(self, piece: bytes) -> float:
        cost = _cost(piece)
        if len(piece) <= _SHORT:
            if len(self) >= _REMEMBERED:
                self.clear()  # real text has some hundreds: somebody is playing
            self[piece] = cost
        return cost


_costs = _Costs()


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of `text`; 0 for none, else at least 1."""
    if not text:
        return 0
    sample = text
    if len(text) > _WHOLE:
        step = (len(text) - _SLICE) / (_WHOLE // _SLICE - 1)
        starts = [int(i * step) for i in range(_WHOLE // _SLICE)]
        sample = "".join(text[start : start + _SLICE] for start in starts)
    codes = sample.encode("utf-8", "replace").translate(_CODES, _FOLLOWING)
    total = sum(map(_costs.__getitem__, _PIECE.findall(codes)))
    return max(1, round(total * len(text) / len(sample)))
