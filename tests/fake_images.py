"""Pictures for the stand-in: real PNG files from words, and Flowith's two answers about them.

Knows nothing of the project; standard library only. `drawn` makes a file, `lines` the web app's
answer in lines of JSON, `key_reply` the object of the API for keys.
"""

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

COLOURS = {
    "red": (200, 45, 40), "green": (45, 150, 70), "blue": (45, 90, 200), "yellow": (235, 200, 60),
    "black": (30, 30, 34), "white": (240, 240, 236), "orange": (235, 135, 45),
    "purple": (130, 65, 170), "pink": (235, 130, 170),
}  # fmt: skip
CELLS = 5  # in a row of the pattern, which is the same on both sides
EDGE = 256  # pixels of the longer side


def drawn(words: str, ratio: str = "1:1", count: int = 0) -> bytes:
    """A PNG with a pattern that these words always make; the last colour named is its colour.
    `count` images that came with the words leave as many stripes at its foot."""
    digest = hashlib.sha256(words.encode("utf-8", "replace")).digest()
    named = re.findall("|".join(COLOURS), words.lower())
    ink = COLOURS[named[-1]] if named else tuple(90 + byte // 2 for byte in digest[:3])
    paper = tuple(255 - (255 - part) // 6 for part in ink)
    width, height = _size(ratio)
    rows = []
    for y in range(height):
        foot = (height - y) // 8
        if foot < 2 * count and foot % 2:
            row = bytes(ink) * width
        else:
            row = b"".join(_pixel(digest, x / width, y / height, ink, paper) for x in range(width))
        rows.append(b"\0" + row)
    return to_png(width, height, b"".join(rows))


def _size(ratio: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[:x](\d+)", ratio)
    width, height = (int(found[1]), int(found[2])) if found else (1, 1)
    scale = EDGE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _pixel(
    digest: bytes, x: float, y: float, ink: tuple[int, ...], paper: tuple[int, ...]
) -> bytes:
    column, row = int(x * CELLS), int(y * CELLS)
    column = min(column, CELLS - 1 - column)
    bit = row * CELLS + column
    return bytes(ink if digest[3 + bit // 8] >> bit % 8 & 1 else paper)


def to_png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG of 8 bits RGB; each row begins with a zero byte (PNG specification, 9.2)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows, 6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def wanted(payload: dict[str, Any]) -> tuple[str, int]:
    """The words and the number of images of a request to either API."""
    if "prompt" in payload:
        return str(payload["prompt"]), len(payload.get("image_urls", ()))
    content = next(m["content"] for m in reversed(payload["messages"]) if m["role"] == "user")
    if isinstance(content, str):
        return content, 0
    words = "\n".join(part["text"] for part in content if part["type"] == "text")
    return words, sum(part["type"] == "image_url" for part in content)


def line(frame: object) -> bytes:
    """A line of JSON, as the web app's API has it."""
    return json.dumps(frame, ensure_ascii=False).encode() + b"\n"


def lines(*urls: str) -> list[bytes]:
    """An answer of the web app's API, a line a piece: what goes on, and each file."""
    made = [line({"type": "status", "status": "processing"})]
    made.append(line({"type": "generated_file", "generatedFile": {"status": "pending"}}))
    for url in urls:
        file = {"status": "ready", "url": url, "name": "a picture, 图片"}
        made.append(line({"type": "generated_file", "generatedFile": file}))
    made.append(line({"type": "end"}))
    return made


def awkward(pieces: list[bytes], every: int = 7) -> Iterator[bytes]:
    """The same bytes, cut where nobody would cut them."""
    whole = b"".join(pieces)
    for start in range(0, len(whole), every):
        yield whole[start : start + every]


def key_reply(url: str, model: str = "demo") -> dict[str, Any]:
    """An answer of the API for keys."""
    return {
        "success": True,
        "data": {"url": url},
        "cost": 40000,
        "model": model,
        "request_id": "demo",
    }
