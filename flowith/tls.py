"""TLS to Flowith, decrypted from memory.

A read of Python's own TLS socket gives one record and takes two system calls for it; a record is
often one token. Here one system call takes all that has arrived, and all of its records are
decrypted at once: fifty that wait cost 1.1 us each in place of 3.1 (docs/performance.md). Knows
nothing of HTTP.
"""

import socket
import ssl
from contextlib import suppress
from typing import Any

MOST = 65_536  # bytes taken off the socket, or encrypted, at a time; no record is longer


class TlsSocket:
    """A client's end of a TLS connection over a connected socket; urllib3 and `HttpAnswer` use no
    more of a socket than this.

    Raises ssl.SSLError: at once where the handshake fails, later where a record is broken or the
    connection ends without the other side's word (close_notify).
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_hostname: str | None
    ) -> None:
        self._socket = sock
        self._arrived, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._to_send, server_hostname=server_hostname)
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send()
                self._receive(MOST)
            except ssl.SSLError:
                with suppress(OSError):
                    self._send()  # tells the other side what is wrong
                raise
            else:
                self._send()
                return

    def recv(self, size: int) -> bytes:
        """What has arrived, decrypted: all records that `size` bytes off the socket hold. Waits
        for the first byte; b"" is the proper end."""
        records: list[bytes] = []
        while not records:
            if not self._arrived.pending:
                self._receive(size)
            try:
                while record := self._tls.read(MOST):
                    records.append(record)
                    if not self._arrived.pending:
                        break
                else:
                    break  # close_notify
            except ssl.SSLWantReadError:
                self._send()  # the other side may have asked for new keys
            except ssl.SSLError:
                if not records:
                    raise  # else the next read comes upon it again
        return records[0] if len(records) == 1 else b"".join(records)

    def sendall(self, data: bytes) -> None:
        """Encrypt and send, in parts: a long request must not be held twice."""
        with memoryview(data) as whole:
            for start in range(0, len(whole), MOST):
                self._tls.write(whole[start : start + MOST])
                self._send()

    def _send(self) -> None:
        if self._to_send.pending:
            self._socket.sendall(self._to_send.read())

    def _receive(self, size: int) -> None:
        if data := self._socket.recv(size):
            self._arrived.write(data)
        else:
            self._arrived.write_eof()

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self._tls.getpeercert(binary_form)

    def fileno(self) -> int:
        return self._socket.fileno()

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def gettimeout(self) -> float | None:
        return self._socket.gettimeout()

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()
