"""TLS to Flowith, decrypted from memory.

A read of Python's own TLS socket gives one record and takes two system calls for it; a record is
often one token. Here one system call takes all that has arrived, and all of its records are
decrypted at once: fifty that wait cost 1.1 us each in place of 3.1 (docs/performance.md). Knows
nothing of HTTP.
"""

import ssl
from typing import Any

from urllib3.util.ssltransport import SSLTransport

RECORD = 16_384  # bytes of plain text, the most that a record holds (RFC 8446, 5.1)


def decrypt_in_memory(context: ssl.SSLContext) -> None:
    """Have urllib3 shake hands with `SSLTransport` where it uses this context, as it does for TLS
    within TLS: it asks the context for the TLS socket, and offers no other way in."""

    def wrap(sock: Any, server_hostname: str | None = None) -> SSLTransport:
        return SSLTransport(sock, context, server_hostname)

    context.wrap_socket = wrap  # type: ignore[method-assign, assignment]


def take_over(transport: SSLTransport) -> "TlsSocket":
    """The same connection from here on, for `SSLTransport` reads one record at a time."""
    below: Any = transport.socket
    if isinstance(below, SSLTransport):  # a proxy is spoken to over TLS as well
        below = take_over(below)
    return TlsSocket(below, transport.sslobj, transport.incoming, transport.outgoing)


class TlsSocket:
    """A client's end of a TLS connection after its handshake, over a connected socket or another
    TLS. Its methods are those of socket.socket that urllib3 and `HttpAnswer` use.

    Reads and writes raise ssl.SSLError where a record is broken, or where the connection ends
    without the other side's word (close_notify): that may be anybody's doing.
    """

    def __init__(
        self, sock: Any, tls: ssl.SSLObject, arrived: ssl.MemoryBIO, to_send: ssl.MemoryBIO
    ) -> None:
        self._socket, self._tls = sock, tls
        self._arrived, self._to_send = arrived, to_send
        self.ended = False  # by close_notify
        self._between_records = True
        self._wrong: OSError | None = None  # what a read has come upon behind its records

    def recv(self, size: int) -> bytes:
        """What has arrived, decrypted: all records that `size` bytes off the socket hold. Waits
        for the first byte; b"" is the proper end."""
        records: list[bytes] = []
        while not records and not self.ended:
            if self._wrong is not None:
                raise self._wrong
            if not self._arrived.pending:
                if data := self._socket.recv(size):
                    self._arrived.write(data)
                else:
                    self._arrived.write_eof()
            self._decrypt(records)
            if self._to_send.pending:
                self._reply()
        return records[0] if len(records) == 1 else b"".join(records)

    def _decrypt(self, records: list[bytes]) -> None:
        """Move all that has arrived into `records`."""
        self._between_records = False
        read, arrived = self._tls.read, self._arrived
        try:
            while record := read(RECORD):
                records.append(record)
                if not arrived.pending:
                    self._between_records = True
                    return
            self.ended = True
        except ssl.SSLWantReadError:
            pass  # the rest of a record has yet to come, or what came held no data
        except ssl.SSLError as wrong:
            self._wrong = wrong.with_traceback(None)  # which leads back here: a circle

    def _reply(self) -> None:
        """Send what a read gave rise to: new keys that the other side asked for, or word of what
        is wrong with its record. A failure must not cost the records that are there."""
        try:
            self._send()
        except OSError as wrong:
            # never a time-out, which would pass for a wait that may go on
            self._wrong = self._wrong or ConnectionResetError(str(wrong))

    def is_quiet(self) -> bool:
        """Whether nothing has been taken off the socket that no read has given yet."""
        return self._between_records and self._wrong is None

    def sendall(self, data: bytes) -> None:
        """Encrypt and send, in parts: a long request must not be held twice."""
        with memoryview(data) as whole:
            for start in range(0, len(whole), RECORD):
                self._tls.write(whole[start : start + RECORD])
                self._send()

    def _send(self) -> None:
        if self._to_send.pending:
            self._socket.sendall(self._to_send.read())

    def getsockopt(self, *which: int) -> Any:
        return self._socket.getsockopt(*which)

    def fileno(self) -> int:
        number: int = self._socket.fileno()
        return number

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def shutdown(self, how: int) -> None:
        """Without a word to the other side, as `close`."""
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()
