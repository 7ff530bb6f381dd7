"""The file of a sample: what is written is read again, what is not right is refused."""

import base64
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from commands.recording import LONGEST_BODY
from commands.sample_file import (
    LARGEST,
    Exchange,
    SampleError,
    exchange_line,
    first_line,
    last_line,
    read_sample,
)
from flowith.http_answer import PIECE

FIRST = first_line("2026-11-25T12:00:00Z", "1.0.0")
GOOD = Exchange(
    call="plain", api="llm", date="2026-11-25T12:00:00Z", host="edge.flowith.io", path="/x",
    token="key", form="Bearer", request={"models": ["a"]}, status=200, http="1.1",
    headers=(("Content-Type", "text/plain"),), head_at=0.1, framing="chunked", end="clean",
    withheld="", decoded={"text": "é"}, blocks=((0.2, b"\xc3"), (0.3, b"\xa9")),
)  # fmt: skip


def changed(**more: Any) -> bytes:
    """The line of a good exchange, with other fields; None takes one out."""
    told = {**json.loads(exchange_line(GOOD)), **more}
    return json.dumps({k: v for k, v in told.items() if v is not ...}).encode() + b"\n"


def refusal(path: Path, *lines: bytes) -> str:
    path.write_bytes(b"".join(lines))
    with pytest.raises(SampleError) as refused:
        read_sample(path)
    return str(refused.value)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_bytes(FIRST + exchange_line(GOOD) + last_line(1))
    sample = read_sample(path)
    assert sample.exchanges == (GOOD,)
    assert (sample.date, sample.service) == ("2026-11-25T12:00:00Z", "1.0.0")
    assert json.loads(exchange_line(GOOD))["body"] == "é"


def test_the_longest_body_still_makes_a_line_that_is_read(tmp_path: Path) -> None:
    body = b"\x01" * (LONGEST_BODY + PIECE)  # six bytes each in JSON
    decoded = {"text": body.decode()}
    path = tmp_path / "sample.jsonl"
    long = replace(GOOD, blocks=((0.2, body),), decoded=decoded)
    path.write_bytes(FIRST + exchange_line(long) + last_line(1))
    assert read_sample(path).exchanges == (long,)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: not JSON, and it has no end"),
        ([b"hello\n"], "line 1: not JSON"),
        ([b"[1]\n"], "line 1: not a JSON object"),
        ([b"\xff\n"], "line 1: not UTF-8 text"),
        ([b'{"a": ' + b"[" * 100_000 + b"\n"], "line 1: not JSON"),
        ([b'{"a": ' + b"9" * 10_000 + b"}\n"], "line 1: not JSON"),
        ([b'{"date": "x"}\n'], "line 1: this is no sample"),
        ([b'{"sample": true, "date": "x"}\n'], "line 1: this is no sample"),
        ([b'{"sample": 2, "date": "x"}\n'], "line 1: the sample is of version 2"),
        ([b'{"sample": 1, "date": "\\u001b[2J", "service": "1"}\n'], "line 1: 'date' must be"),
        ([FIRST], "line 1: the file ends here"),
        ([FIRST, exchange_line(GOOD)], "line 2: the file ends here without its last line"),
        ([FIRST, exchange_line(GOOD)[:-9]], "line 2: not JSON, and it has no end"),
        ([FIRST, last_line(1)], "line 2: lines are missing"),
        ([FIRST, b'{"end": true}\n'], "line 2: lines are missing"),
        ([FIRST, last_line(0), last_line(0)], "line 2: 'status' must be"),
    ],
)
def test_a_file_that_is_not_right_is_refused_by_its_line(
    tmp_path: Path, lines: list[bytes], said: str
) -> None:
    assert said in refusal(tmp_path / "sample.jsonl", *lines)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"surprise": 1}, "an unknown field 'surprise'"),
        ({"status": ...}, "'status' must be from 100 to 999"),
        ({"status": 99}, "'status'"),
        ({"status": "200"}, "'status'"),
        ({"api": ["llm"]}, "'api' must be one of"),
        ({"framing": "magic"}, "'framing' must be one of"),
        ({"end": "happy"}, "'end' must be one of"),
        ({"host": "a\r\nb"}, "'host' must be a line of text"),
        ({"headers": [["A", "b\r\nSet-Cookie: c"]]}, "'headers' must be"),
        ({"headers": [["A: b\nC", "d"]]}, "'headers' must be"),
        ({"headers": {"A": "b"}}, "'headers' must be"),
        ({"path": "x"}, "'path' must be a path"),
        ({"request": [1]}, "'request' must be an object"),
        ({"decoded": None}, "'decoded' must be an object"),
        ({"head_at": -1}, "'head_at' must be seconds"),
        ({"head_at": 1e300}, "'head_at' must be seconds"),
        ({"head_at": True}, "'head_at' must be seconds"),
        ({"head_at": float("inf")}, "'head_at' must be seconds"),
        ({"blocks": "x"}, "'blocks' must be a list"),
        ({"blocks": [[0.2]]}, "block 0 must be a time and base64"),
        ({"blocks": [[0.2, "!!"]]}, "block 0 is not base64"),
        ({"blocks": [[0.3, "YQ=="], [0.2, "YQ=="]]}, "block 1: its time must be"),
        ({"blocks": [[0.01, "YQ=="]]}, "block 0: its time must be"),
        ({"blocks": [[1e9, "YQ=="]]}, "block 0: its time must be"),
        ({"blocks": [[float("nan"), "YQ=="]]}, "block 0: its time must be"),
    ],
)
def test_a_field_that_is_not_right_is_refused_by_its_line(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    line = changed(**more)
    found = refusal(tmp_path / "sample.jsonl", FIRST, exchange_line(GOOD), line, last_line(2))
    assert "line 3: " in found
    assert said in found


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="cannot be read: No such file"):
        read_sample(tmp_path / "nothing")


def test_ten_gigabytes_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    """In a process that may take 300 MB: a long file, and one as long as may be."""
    endless = tmp_path / "endless"
    with endless.open("wb") as file:
        file.truncate(10_000_000_000)  # a hole, which takes no room on disk
    full = tmp_path / "full"
    block = base64.b64encode(b"x" * 1_000_000).decode()
    line = changed(blocks=[[0.2, block]])
    full.write_bytes(FIRST + line * ((LARGEST - len(FIRST)) // len(line)))
    program = (
        "import sys; from pathlib import Path; from commands.sample_file import *\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_sample(Path(name))\n"
        "    except SampleError as wrong: print(wrong)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(endless), str(full)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (300_000_000,) * 2),
    )
    first, second = ran.stdout.splitlines()
    assert f"is larger than {LARGEST:,} bytes" in first
    assert "the file ends here without its last line" in second
