"""A form with files (multipart/form-data, RFC 7578) as plain fields.

Knows nothing of what the fields mean.
"""

import re
from io import BytesIO
from typing import NamedTuple

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from errors import InvalidRequest

LONGEST_BOUNDARY = 200  # characters; RFC 2046, 5.1.1 says 70, and not everybody keeps to it
MOST_PARTS = 256
LONGEST_HEAD = 16_384  # bytes before the content of a part; werkzeug takes its time with long ones
BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class Form(NamedTuple):
    """The text fields and the files of a form, in order, each with its name."""

    texts: list[tuple[str, str]]
    files: list[tuple[str, bytes]]


def boundary_of(raw: bytes) -> bytes:
    """What parts the fields, by the first line; empty where the body is no form."""
    begins = raw[: LONGEST_BOUNDARY + 8].lstrip(b"\r\n")  # some begin with an empty line
    boundary, end, _ = begins.partition(b"\r\n")
    return boundary[2:] if end and boundary.startswith(b"--") else b""


def parse_form(raw: bytes) -> Form:
    """Read a form. Raises InvalidRequest for one that is broken or has very many parts."""
    boundary = boundary_of(raw)
    parser = MultiPartParser(_in_memory, max_form_parts=MOST_PARTS)
    try:
        _check_heads(raw, boundary)
        fields, files = parser.parse(BytesIO(raw), boundary, len(raw))
    except RequestEntityTooLarge:
        raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.") from None
    except ValueError:
        raise InvalidRequest("The request's form (multipart/form-data) is broken.") from None
    return Form(
        [(str(name), text) for name, text in fields.items(multi=True)],
        [(str(name), file.stream.read()) for name, file in files.items(multi=True)],
    )


def _check_heads(raw: bytes, boundary: bytes) -> None:
    """Raises ValueError where the head of a part is very long or does not end, and
    RequestEntityTooLarge for very many parts, before werkzeug reads the first."""
    mark = b"--" + boundary
    at = raw.find(mark)
    for _ in range(MOST_PARTS + 2):  # one closes the form, and behind that there is none
        if at < 0:
            return
        begins = at + len(mark)
        is_mark = at == 0 or raw[at - 1] in b"\r\n"
        is_last = raw.startswith(b"--", begins)
        if is_mark and not is_last and not BLANK_LINE.search(raw, begins, begins + LONGEST_HEAD):
            raise ValueError
        at = raw.find(mark, begins)
    raise RequestEntityTooLarge


def _in_memory(*_: object, **__: object) -> BytesIO:
    """Where a part goes; werkzeug's own choice puts large ones on the disk."""
    return BytesIO()
