"""Content encodings of answers: a closed list, decoded in bounded steps, and whole or an error.

Nobody asks for one (`Accept-Encoding: identity`); some servers on the way encode all the same.
"""

import zlib
from collections.abc import Callable

from urllib3.exceptions import ProtocolError

STEP = 65_536  # bytes that one step of decoding gives at most
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # RFC 1952 or RFC 1950, by its first bytes
PLAIN = ("", "identity")
DECODED = ("gzip", "x-gzip", "deflate")


class UnknownEncoding(ProtocolError):
    """A Content-Encoding outside the list."""


def to_reader(encoding: str, read: Callable[[], bytes]) -> Callable[[], bytes]:
    """A function that gives what `read` gives, decoded. Raises UnknownEncoding."""
    name = encoding.strip().lower()
    if name in PLAIN:
        return read
    if name in DECODED:
        return _Inflater(read).read
    raise UnknownEncoding("an encoding that nobody asked for")


class _Inflater:
    """gzip and deflate; a body that ends in the middle is an error."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._zlib = zlib.decompressobj(GZIP_OR_ZLIB)
        self._rest = b""  # encoded, and not yet decoded
        self._begun = False  # whether the present member has

    def read(self) -> bytes:
        """What has arrived, b"" at the end. Raises ProtocolError."""
        block = b""
        while not block:
            data = self._rest or self._read()
            if not data and not self._begun:
                break
            block = self._decode(data)
            if not data and not block:
                raise ProtocolError("the encoded answer ends in the middle")
        return block

    def _decode(self, data: bytes) -> bytes:
        self._begun = True
        try:
            block = self._zlib.decompress(data, STEP)
        except zlib.error:
            raise ProtocolError("the answer is not encoded as it says") from None
        self._rest = self._zlib.unconsumed_tail
        if self._zlib.eof:  # of a member; gzip may have several
            self._rest = self._zlib.unused_data
            self._zlib, self._begun = zlib.decompressobj(GZIP_OR_ZLIB), False
        return block
