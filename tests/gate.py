"""An HTTP proxy for the tests, between the service and Flowith's stand-in."""

import select
import socket
import socketserver
import ssl


class Gate(socketserver.ThreadingTCPServer):
    """An HTTP proxy that leads the names in `open` to one port, and all others nowhere. With `tls`
    it is itself spoken to over TLS."""

    daemon_threads = True

    def __init__(self, port: int, names: set[str], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.leads_to, self.open = port, names
        self.asked: list[str] = []
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)


class Tunnel(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Gate)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(4096)
        name = head.split()[1].decode().partition(":")[0]
        self.server.asked.append(name)
        if name not in self.server.open:
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self.server.leads_to)) as onward:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            other = {self.request: onward, onward: self.request}
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    try:
                        block = ready.recv(65_536)
                        other[ready].sendall(block)
                    except OSError:
                        return
                    if not block:
                        return
