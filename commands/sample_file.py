"""The file of a sample: JSON lines, all of which are checked.

A first line about the file, a line for each exchange, and a last line that says how many there
were: without it the file was cut. Whatever a file holds, reading it takes bounded memory. Standard
library only and nothing of ours, since the stand-in for Flowith reads samples too.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

VERSION = 1  # of this format; one more where an older reader would misunderstand
LARGEST = 33_554_432  # bytes of a file
LONGEST_TIME = 3600.0  # seconds, from a request to its last block
Api = Literal["web", "llm", "knowledge"]
End = Literal["clean", "cut", "reset", "silent", "stopped"]
Framing = Literal["chunked", "length", "close"]
Check = tuple[Callable[[Any], bool], str]  # what has to hold of a field, and how that is told
SHOWN = 60  # characters of somebody's file in a message


class SampleError(Exception):
    """A sample that is refused; the message names the line and the reason."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What came. All times are seconds since the request went out.

    `http` is "1.0" or "1.1". `end` is clean (whole by its framing), cut (ended before that), reset,
    silent (nothing came in time) or stopped (longer than anybody needs).
    """

    status: int
    http: str
    headers: tuple[tuple[str, str], ...]
    head_at: float
    framing: Framing
    end: End
    blocks: tuple[tuple[float, bytes], ...]


@dataclass(frozen=True, slots=True)
class Exchange(Recording):
    """One call and its answer.

    `call` names what was asked, `token` is the kind of the token ("key" or "login") and `form` how
    it was sent ("Bearer" or "bare"). `request` is the JSON that was sent. `withheld` says why the
    blocks are left out, and is empty if they are not. `decoded` is what this service made of it.
    """

    call: str
    api: Api
    date: str
    host: str
    path: str
    token: str
    form: str
    request: dict[str, Any]
    withheld: str
    decoded: dict[str, Any]

    @property
    def body(self) -> bytes:
        return b"".join(block for _, block in self.blocks)


@dataclass(frozen=True, slots=True)
class Sample:
    """A whole file. `service` is the version of the service that made it, `date` when."""

    date: str
    service: str
    exchanges: tuple[Exchange, ...]


def first_line(date: str, service: str) -> bytes:
    return _to_line({"sample": VERSION, "date": date, "service": service})


def exchange_line(exchange: Exchange) -> bytes:
    """One exchange as a line. `body` repeats the blocks as text, for who reads the file."""
    coded = [[round(at, 4), base64.b64encode(block).decode()] for at, block in exchange.blocks]
    told = asdict(exchange) | {"head_at": round(exchange.head_at, 4), "blocks": coded}
    told["body"] = exchange.body.decode("utf-8", "replace")
    return _to_line({name: told[name] for name in CHECKS})


def last_line(exchanges: int) -> bytes:
    return _to_line({"end": exchanges})


def _to_line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def read_sample(path: Path) -> Sample:
    """Read and check a whole sample. Raises SampleError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as wrong:
        raise SampleError(f"{path} cannot be read: {wrong.strerror}") from wrong
    if len(data) > LARGEST:
        raise SampleError(f"{path} is larger than {LARGEST:,} bytes")
    lines = data.splitlines(keepends=True) or [b""]
    exchanges: list[Exchange] = []
    try:
        for number, line in enumerate(lines, 1):
            told = _to_object(line)
            if number == 1:
                first = told
                _check_first(first)
            elif number < len(lines):
                exchanges.append(_to_exchange(told))
        if number == 1 or set(told) != {"end"}:
            raise SampleError("the file ends here without its last line: it was cut")
        if told["end"] != len(exchanges):
            raise SampleError("lines are missing, or were added")
    except SampleError as wrong:
        raise SampleError(f"{path}, line {number}: {wrong}") from None
    return Sample(first["date"], first["service"], tuple(exchanges))


def _to_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise SampleError("not UTF-8 text") from None
    except (ValueError, RecursionError):
        cut = "" if line.endswith(b"\n") else ", and it has no end: the file was cut"
        raise SampleError(f"not JSON{cut}") from None
    if not isinstance(value, dict):
        raise SampleError("not a JSON object")
    return value


def _check_first(first: Mapping[str, Any]) -> None:
    version = first.get("sample")
    if type(version) is not int or version < 1:
        raise SampleError("this is no sample: its first line has no 'sample'")
    if version > VERSION:
        text = f"the sample is of version {version}, this service reads up to {VERSION}"
        raise SampleError(f"{text}: take a newer version of it")
    _check(first, {"date": TEXT, "service": TEXT})


def _is_text(value: Any) -> bool:
    """A string of one line: what goes into a head, or to a terminal, unchanged."""
    return isinstance(value, str) and len(value) <= 4096 and value.isprintable()


def _is_time(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= LONGEST_TIME


def _is_headers(value: Any) -> bool:
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_text, pair)) for pair in value
    )
    return pairs and all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name, _ in value)


def _one_of(*words: str) -> Check:
    return lambda value: value in words, f"one of {', '.join(words)}"


TEXT: Check = (_is_text, "a line of text")
OBJECT: Check = (lambda value: isinstance(value, dict), "an object")
CHECKS: Mapping[str, Check] = {
    "call": TEXT,
    "api": _one_of(*get_args(Api)),
    "date": TEXT,
    "host": TEXT,
    "path": (lambda value: _is_text(value) and value.startswith("/"), "a path"),
    "token": _one_of("key", "login"),
    "form": _one_of("Bearer", "bare"),
    "request": OBJECT,
    "status": (lambda value: type(value) is int and 100 <= value <= 999, "from 100 to 999"),
    "http": _one_of("1.0", "1.1"),
    "headers": (_is_headers, "a list of names and values, each a line of text"),
    "head_at": (_is_time, f"seconds from 0 to {LONGEST_TIME:g}"),
    "framing": _one_of(*get_args(Framing)),
    "end": _one_of(*get_args(End)),
    "withheld": TEXT,
    "decoded": OBJECT,
    "body": (lambda value: isinstance(value, str), "text"),
    "blocks": (lambda value: isinstance(value, list), "a list"),
}


def _check(line: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for name, (holds, kind) in checks.items():
        try:
            good = name in line and holds(line[name])
        except TypeError:  # what cannot be looked up among words
            good = False
        if not good:
            raise SampleError(f"{name!r} must be {kind}")


def _to_exchange(line: dict[str, Any]) -> Exchange:
    for name in line:
        if name not in CHECKS:
            raise SampleError(f"an unknown field {name[:SHOWN]!r}")
    _check(line, CHECKS)
    blocks = tuple(_to_blocks(line["blocks"], float(line["head_at"])))
    headers = tuple((name, value) for name, value in line["headers"])
    fields = {name: value for name, value in line.items() if name != "body"}
    return Exchange(**{**fields, "blocks": blocks, "headers": headers})


def _to_blocks(blocks: list[Any], before: float) -> Iterator[tuple[float, bytes]]:
    for index, block in enumerate(blocks):
        if not (isinstance(block, list) and len(block) == 2 and isinstance(block[1], str)):
            raise SampleError(f"block {index} must be a time and base64")
        at, text = block
        if not _is_time(at) or at < before:
            limits = f"from the one before to {LONGEST_TIME:g}"
            raise SampleError(f"block {index}: its time must be {limits}")
        try:
            yield float(at), base64.b64decode(text, validate=True)
        except ValueError:
            raise SampleError(f"block {index} is not base64") from None
        before = at
