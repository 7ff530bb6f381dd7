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
from typing import Annotated, Any, Literal, get_args, get_type_hints

VERSION = 1  # of this format; one more where an older reader would misunderstand
LARGEST = 33_554_432  # bytes of a file
LONGEST_TIME = 3600.0  # seconds, from a request to its last block
Api = Literal["web", "llm", "knowledge"]
End = Literal["clean", "cut", "reset", "silent", "stopped"]
Framing = Literal["chunked", "length", "close"]
SHOWN = 60  # characters of somebody's file in a message


class SampleError(Exception):
    """A sample that is refused; the message names the line and the reason."""


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


# The type of a field says what has to hold of it in a file, and how that is told.
Line = Annotated[str, _is_text, "a line of text"]
Place = Annotated[str, lambda v: _is_text(v) and v.startswith("/"), "a path"]
Seconds = Annotated[float, _is_time, f"seconds from 0 to {LONGEST_TIME:g}"]
Status = Annotated[int, lambda v: type(v) is int and 100 <= v <= 999, "from 100 to 999"]
Object = Annotated[dict[str, Any], lambda v: isinstance(v, dict), "an object"]
Headers = Annotated[
    tuple[tuple[str, str], ...], _is_headers, "a list of names and values, each a line of text"
]
Blocks = Annotated[tuple[tuple[float, bytes], ...], lambda v: isinstance(v, list), "a list"]


@dataclass(frozen=True, slots=True)
class Recording:
    """What came. All times are seconds since the request went out.

    `end` is clean (whole by its framing), cut (ended before that), reset, silent (nothing came in
    time) or stopped (longer than anybody needs).
    """

    status: Status
    http: Line
    headers: Headers
    head_at: Seconds
    framing: Framing
    end: End
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Exchange(Recording):
    """One call and its answer.

    `call` names what was asked, `token` is the kind of the token and `form` how it was sent.
    `request` is the JSON that was sent. `withheld` says why the blocks are left out, and is empty
    if they are not. `decoded` is what this service made of it.
    """

    call: Line
    api: Api
    date: Line
    host: Line
    path: Place
    token: Literal["key", "login"]
    form: Literal["Bearer", "bare"]
    request: Object
    withheld: Line
    decoded: Object

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
    told = asdict(exchange) | {"head_at": round(exchange.head_at, 4)}
    told["body"] = exchange.body.decode("utf-8", "replace")
    del told["blocks"]
    told["blocks"] = [[round(at, 4), base64.b64encode(b).decode()] for at, b in exchange.blocks]
    return _to_line(told)


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
    for name in ("date", "service"):
        if not _is_text(first.get(name)):
            raise SampleError(f"{name!r} must be a line of text")


def _to_exchange(line: dict[str, Any]) -> Exchange:
    line.pop("body", None)
    types = get_type_hints(Exchange, include_extras=True)
    for name, kind in types.items():
        holds, told = kind.__metadata__ if hasattr(kind, "__metadata__") else _one_of(kind)
        try:
            good = name in line and holds(line[name])
        except TypeError:  # what cannot be looked up among words
            good = False
        if not good:
            raise SampleError(f"{name!r} must be {told}")
    if unknown := line.keys() - types.keys():
        raise SampleError(f"an unknown field {min(unknown)[:SHOWN]!r}")
    blocks = tuple(_to_blocks(line["blocks"], float(line["head_at"])))
    headers = tuple((name, value) for name, value in line["headers"])
    return Exchange(**{**line, "blocks": blocks, "headers": headers})


def _one_of(words: Any) -> tuple[Callable[[Any], bool], str]:
    return get_args(words).__contains__, f"one of {', '.join(get_args(words))}"


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
