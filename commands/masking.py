"""Marks in place of what must not leave this machine: tokens, ids, accounts, addresses.

A mark has as many bytes as what it replaces, so a body can be masked whole and cut into its blocks
again. Pure; knows nothing of samples or of Flowith.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from settings import DEFAULT_KEY, DEMO_TOKEN

SHORTEST = 6  # characters of a secret; a shorter one cannot be told from a word
NO_SECRETS = {DEFAULT_KEY, DEMO_TOKEN}
SECRET_NAME = re.compile("TOKEN|KEY|SECRET|PASS|COOKIE|CREDENTIAL", re.I)
# Claims of a web login (a JWT) that say nothing about whose it is; all others are masked.
COMMON_CLAIMS = {"iss", "aud", "role", "aal", "typ", "alg", "provider", "providers", "method"}
PUNCTUATION = frozenset("-@.:")  # stays, so that a mark shows what it stands for
# One character in the ways in which a body may write it: JSON's, a URL's and HTML's escapes.
UNIT = re.compile(
    r"\\u[0-9a-fA-F]{4}|\\.|%[0-7][0-9a-fA-F]|&#x?[0-9a-fA-F]{1,6};|&(?:commat|amp|quot|period);|.",
    re.DOTALL,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
TEXT_MEMBER = re.compile(
    r'"(?:content|text|delta|reasoning_content|reasoning|thinking|thought|arguments)"'
    r'\s*:\s*"((?:[^"\\]|\\.)*)"',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class View:
    """A body as text. `spans` holds, for each character, where its bytes are: from, to."""

    text: str
    spans: list[tuple[int, int]]


def to_views(body: bytes) -> list[View]:
    """A body in each way it may be read: as it is, without escapes (twice, as JSON may stand in
    JSON), and with the pieces of a streamed text joined."""
    plain = _plain(body)
    once = _unescaped(plain)
    return [plain, once, _unescaped(once), _unescaped(_joined(plain))]


def _plain(body: bytes) -> View:
    text = body.decode("utf-8", "surrogateescape")
    spans, at = [], 0
    for char in text:
        size = 1 if char < "\x80" else len(char.encode("utf-8", "surrogateescape"))
        spans.append((at, at + size))
        at += size
    return View(text, spans)


def _unescaped(view: View) -> View:
    chars, spans = [], []
    for unit in UNIT.finditer(view.text):
        chars.append(_to_char(unit[0]))
        spans.append((view.spans[unit.start()][0], view.spans[unit.end() - 1][1]))
    return View("".join(chars), spans)


def _to_char(unit: str) -> str:
    """What one unit stands for; always one character, so that spans fit."""
    if len(unit) == 1:
        return unit
    if unit.startswith("\\u"):
        return chr(int(unit[2:], 16))
    if unit[0] == "\\":
        return ESCAPES.get(unit[1], unit[1])
    found = unquote(unit) if unit[0] == "%" else html.unescape(unit)
    return found if len(found) == 1 else "\ufffd"


def _joined(view: View) -> View:
    places = [member.span(1) for member in TEXT_MEMBER.finditer(view.text)]
    text = "".join(view.text[start:end] for start, end in places)
    return View(text, [span for start, end in places for span in view.spans[start:end]])


def _is_key(text: str) -> bool:
    """Letters and digits mixed; not words with a number behind them (`search_20250305`)."""
    if re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+)*_?\d{1,8}", text) and "_" in text:
        return False
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


def _is_mixed(text: str) -> bool:
    return _is_key(text) and any(c.isupper() for c in text) and any(c.islower() for c in text)


def _has_mixed_parts(text: str) -> bool:
    """Two parts with digits and letters mixed; the names of models have none that is so long."""
    return sum(len(part) >= 4 and _is_key(part) for part in text.split("-")) >= 2


def _is_address(text: str) -> bool:
    return text.count(":") >= 3 or "::" in text


# What looks like something personal, and what has to hold of it besides (`bool`: nothing). All
# repetitions are bounded or cannot be tried again from the next character, so that the work stays
# linear.
LOOKS: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"[\w.!#$&*+=?^`|~'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}"), bool),
    (re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), bool),
    (re.compile(r"eyJ[\w-]{5,}(?:\.[\w-]*){0,2}"), bool),
    (
        re.compile(
            r"(?<!\w)(?:flo_|sk-|sb_(?:publishable|secret)_|gh[a-z]_|hf_|xox[a-z]-|AKIA|AIza)"
            r"[\w-]{4,}"
        ),
        bool,
    ),
    (re.compile(r"(?<=[Bb]earer )[^\s\"'<>,;]{4,}"), _is_key),
    (re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{16,}"), bool),
    (re.compile(r"(?<!\w)\w{16,}", re.ASCII), _is_key),
    (re.compile(r"(?<![\w-])[\w-]{20,}", re.ASCII), _is_mixed),
    (re.compile(r"(?<![\w-])[\w-]{16,}", re.ASCII), _has_mixed_parts),
    (re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{24,}={0,2}"), _is_mixed),
    (re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), bool),
    (re.compile(r"(?<![\w:])[0-9a-fA-F:]{3,45}(?![\w:])"), _is_address),
)
# Members of JSON whose value belongs to somebody, whatever it looks like.
MEMBER = re.compile(
    r'"((?:[A-Za-z]+[_-])*(?:id|uid|uuid|sub|ip|key|token|secret|session|cookie|password|fingerprint'
    r"|signature|trace|ray|email|mail|phone|user|username|nickname|account|owner|org|organization"
    r"|team|tenant|workspace|avatar|address|credential|authorization"
    r"|user_?name|full_?name|display_?name|file_?name|source_title|source_url)"
    r'|[A-Za-z]+(?:Id|ID|Key|Token|Email|Name|Url|IP))"'
    r'\s*:\s*(?:"((?:[^"\\]|\\.)*)"|(\d+))',
    re.DOTALL,
)
# A passage of somebody's knowledge base, on the line of a frame or as a whole body.
PASSAGES = re.compile(r'^.*"seeds".*', re.MULTILINE)
VALUE = re.compile(r'(?<=[:\[,])\s*"((?:[^"\\]|\\.)*)"(?!\s*:)', re.DOTALL)


class Mask:
    """Masks bodies and texts. `secrets` are replaced wherever they stand, in any of their forms."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._known = sorted({form for one in secrets for form in to_forms(one)}, key=len)

    def body(self, body: bytes) -> bytes:
        """The body with marks; has the same length."""
        masked = bytearray(body)
        for view in to_views(body):
            for start, end in self._personal(view.text):
                _put_marks(masked, view, start, end)
        return bytes(masked)

    def text(self, text: str) -> str:
        return self.body(text.encode()).decode()

    def blocks(self, blocks: Iterable[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
        """The blocks of one body, masked as a whole: a secret may be cut by them."""
        given = list(blocks)
        whole, masked, at = self.body(b"".join(block for _, block in given)), [], 0
        for time, block in given:
            masked.append((time, whole[at : at + len(block)]))
            at += len(block)
        return masked

    def rest(self, body: bytes) -> bool:
        """Whether a masked body still holds something personal."""
        return any(
            not _is_mark(view.text[start:end])
            for view in to_views(body)
            for start, end in self._personal(view.text)
        )

    def _personal(self, text: str) -> Iterator[tuple[int, int]]:
        """Where something personal stands."""
        for known in self._known:
            at = text.find(known)
            while at >= 0:
                yield at, at + len(known)
                at = text.find(known, at + len(known))
        for pattern, holds in LOOKS:
            yield from (m.span() for m in pattern.finditer(text) if holds(m[0]))
        yield from (m.span(2 if m[2] is not None else 3) for m in MEMBER.finditer(text))
        for line in PASSAGES.finditer(text):
            values = VALUE.finditer(text, *line.span())
            yield from (m.span(1) for m in values if m[1] != "seeds")


def _put_marks(masked: bytearray, view: View, start: int, end: int) -> None:
    """A number keeps being one, as JSON has no other way to write it."""
    mark = b"1" if view.text[start:end].isdecimal() else b"x"
    for i in range(start, end):
        first, last = view.spans[i]
        alone = last - first == 1
        if not (alone and (view.text[i] in PUNCTUATION or view.text[i].isspace())):
            masked[first:last] = mark * (last - first)


def _is_mark(text: str) -> bool:
    return all(c in "x1" or c in PUNCTUATION or c.isspace() for c in text)


def to_forms(secret: str) -> set[str]:
    """A secret as it is, and in the forms in which others may repeat it."""
    raw = secret.encode()
    forms = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], raw.hex()}
    for before in range(3):  # base64 looks different at each of three places
        whole = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        core = whole[-(-before * 8 // 6) :]
        core = core[: len(core) - (1 if (before + len(raw)) % 3 else 0)]
        forms |= {core, core.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= SHORTEST}


def to_secrets(given: Mapping[str, str], tokens: Iterable[str]) -> set[str]:
    """What no sample may hold: the tokens, what web logins say of their owner, and the values of
    all settings that are named like a secret or hold a password in an address."""
    found = set(tokens)
    for name, value in given.items():
        if SECRET_NAME.search(name):
            found |= {part.removeprefix("Bearer ").strip() for part in value.split(",")}
        found |= set(re.findall(r"://([^/@\s]+)@", value))
    found |= {part for one in list(found) for part in one.split(":") if "@" not in part}
    found |= {claim for one in list(found) for claim in _claims(one)}
    return {one for one in found if len(one) >= SHORTEST and one not in NO_SECRETS}


def _claims(token: str) -> Iterator[str]:
    try:
        middle = token.split(".")[1]
        yield from personal_values(json.loads(base64.urlsafe_b64decode(middle + "==")))
    except (IndexError, ValueError, RecursionError):
        return


def personal_values(value: Any, name: str = "") -> Iterator[str]:
    """All texts in a JSON value, but for claims that everybody's login holds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from personal_values(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from personal_values(inner, name)
    elif isinstance(value, str) and name not in COMMON_CLAIMS:
        yield value


def find_secret(line: bytes, secrets: Iterable[str]) -> bool:
    """Whether a line of a finished file holds a secret in any form, as text or in what its base64
    strings come to, each alone and one after the other. Does not rely on any masking."""
    decoded = []
    for text in re.findall(rb'"([A-Za-z0-9+/]+={0,2})"', line):
        try:
            decoded.append(base64.b64decode(text, validate=True))
        except ValueError:
            continue
    forms = {form for one in secrets for form in to_forms(one)}
    bodies = (line, *decoded, b"".join(decoded))
    return any(form in view.text for body in bodies for view in to_views(body) for form in forms)
