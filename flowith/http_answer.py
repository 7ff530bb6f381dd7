"""One HTTP answer, read off a socket as it comes: llhttp (httptools) takes it apart.

The parser alone says what is whole; what it leaves open (how long a head may be, what comes behind
an answer, how a connection ends) is decided here. Knows nothing of what the bytes mean.
"""

import time
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import ProtocolError

PIECE = 8_192  # bytes per read; to make room for more each time costs a crowd a third
LONGEST_HEAD = 65_536  # bytes of one head, and of framing between two pieces of a body
MOST_HEADERS = 100
MOST_INTERIM = 16  # answers with a status below 200, which only announce something
FINAL = 200  # the lowest status that is an answer
VERSIONS = ("1.0", "1.1")
BLANK_LINE = b"\r\n\r\n"


class HttpAnswer:
    """One HTTP answer as it comes off a connection, taken apart by llhttp.

    It is whole only where the parser says so, or where a body without length and chunks ends with
    its connection in good order. Only after a whole and framed one with nothing behind it the
    connection lives on. For urllib3 it is a file, as far as that asks for one: `read`, `read1`,
    `close` and `isclosed`.
    """

    def __init__(self, connection: Any, sock: Any) -> None:
        self.heard = False  # whether a byte of it has come
        self.version = ""  # of HTTP
        self.status = 0
        self.headers = HTTPHeaderDict()
        self.ended = 0.0  # when the connection was free again, in monotonic seconds
        self._connection, self._socket = connection, sock
        self.pieces: list[bytes] = []  # of the body, as it is framed, not yet taken
        self._announced: int | None = None  # bytes that Content-Length still promises
        self._lines = 0  # of headers
        self._framing = 0  # bytes since the last piece of the body
        self._in_body = False
        self._complete = False  # what the parser says of the answer
        self._keeps = False  # whether the server will take another request after it
        self._clean = True  # whether nothing came behind it
        self._fault = ""
        self._closed = False
        self.on_body = self.pieces.append
        self._parser = HttpResponseParser(self)

    def on_message_begin(self) -> None:
        if self._in_body:
            raise ProtocolError("another answer came behind the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer
        self._lines += 1
        if self._lines > MOST_HEADERS:
            raise ProtocolError(f"more than {MOST_HEADERS} headers")
        self.headers.add(name.decode("latin-1"), value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._in_body = self.status >= FINAL

    def on_message_complete(self) -> None:
        self._complete = self._in_body
        self._keeps = self._parser.should_keep_alive()

    def begin(self) -> None:
        """Read the head, and those that come before it. Raises ProtocolError and OSError."""
        data = self._socket.recv(PIECE)
        if not data:
            raise ConnectionResetError("the connection ended without an answer")
        self.heard = True
        for _ in range(MOST_INTERIM + 1):
            data = self._read_head(data)
            if self._in_body:
                break
            self.headers, self._lines = HTTPHeaderDict(), 0
            data = data or self._socket.recv(PIECE)
        else:
            raise ProtocolError(f"more than {MOST_INTERIM} answers that are none")
        self.version = self._parser.get_http_version()
        coding = self.headers.get("Transfer-Encoding", "chunked")
        if self.version not in VERSIONS or coding.lower() != "chunked":
            raise ProtocolError("the answer's head makes no sense")
        length = self.headers.get("Content-Length")
        self._announced = None if length is None else int(length)
        self._read_body(data)

    def _read_head(self, data: bytes) -> bytes:
        """Read one head, of which `data` has come; returns what came behind it. Raises
        ProtocolError and OSError."""
        size, before = 0, b""
        while data:
            seen = before + data
            end = seen.find(BLANK_LINE)
            part = data if end < 0 else data[: end + len(BLANK_LINE) - len(before)]
            size += len(part)
            if size > LONGEST_HEAD:
                raise ProtocolError(f"a head of more than {LONGEST_HEAD} bytes")
            self._parse(part)
            if self._fault:
                raise ProtocolError(self._fault)
            if end >= 0:
                return data[len(part) :]
            before = seen[1 - len(BLANK_LINE) :]
            data = self._socket.recv(PIECE)
        raise ProtocolError("the connection ended before the answer's head did")

    def wait(self) -> None:
        """Wait until something of the body has arrived, or its end. Raises ProtocolError where it
        breaks off or is not what its head announced."""
        while not self.pieces and not self._closed:
            if self._fault:
                self.close()
                raise ProtocolError(self._fault)
            if self._complete:
                self.close()
            elif data := self._socket.recv(PIECE):
                self._read_body(data)
            else:
                self._end()

    def read1(self, _size: int = -1) -> bytes:
        """What has arrived of the body; b"" is the end. Waits and raises as `wait`."""
        pieces = self.pieces
        if not pieces:
            self.wait()
        block = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return block

    read = read1

    def _read_body(self, data: bytes) -> None:
        """Take in what has come behind the head. What is wrong with it waits in `_fault`: the
        pieces before it are the caller's."""
        if data:
            self._parse(data)
        if self._announced is not None:
            self._announced -= len(data)
            if self._announced < 0:
                self._fault = "more came than Content-Length announced"
        self._framing = 0 if self.pieces else self._framing + len(data)
        if self._framing > LONGEST_HEAD:
            self._fault = "the answer is all framing and no body"

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as wrong:
            self._clean = False
            if not self._complete:
                self._fault = f"not HTTP ({type(wrong).__name__})"

    def _end(self) -> None:
        """The connection has ended, which only a body without length and chunks may end with.
        Raises ProtocolError for all others."""
        framed = self._announced is not None or "Transfer-Encoding" in self.headers
        self.close()
        if framed or self._fault:
            raise ProtocolError(self._fault or "the connection ended before the answer did")

    def spoil(self, why: str) -> None:
        """Whatever comes from now on, it is no whole answer. May be called from anywhere."""
        self._fault = why

    def is_whole(self) -> bool:
        """Whether its end is here and nothing of it is left to take."""
        return self._complete and not self.pieces

    def isclosed(self) -> bool:
        """Whether there is no more to read."""
        return self._closed

    def close(self) -> None:
        """Read no more. Here alone it is decided whether the connection lives on: after an answer
        that is whole, with nothing behind it, from a server that keeps connections."""
        if self._closed:
            return
        self._closed = True
        self.ended = time.monotonic()
        if not (self._complete and self._clean and self._keeps) or self._fault:
            self._connection.close()
        del self._parser  # the two refer to each other
