"""Whom gunicorn believes: nobody. What a caller's headers say of a proxy changes nothing."""

import os
import runpy
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from gunicorn.http.parser import RequestParser  # type: ignore[import-untyped]
from gunicorn.http.wsgi import create  # type: ignore[import-untyped]

PEERS = [("127.0.0.1", 40_000), ("203.0.113.9", 40_000), ("2001:db8::9", 40_000, 0, 0), ""]
CLAIMS = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Host": "elsewhere.example",
    "X-Forwarded-Port": "443",
    "Forwarded": "for=198.51.100.7;proto=https",
    "X-Real-Ip": "198.51.100.7",
    "X_Forwarded_Proto": "https",
    "Script_Name": "/elsewhere",
    "Path_Info": "/elsewhere",
    "Remote_User": "root",
    "Remote_Addr": "198.51.100.7",
}
PROXIED = (
    b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x9c\x40\x01\xbb",
)
HEAD = "GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def config() -> Any:
    """What gunicorn makes of our settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(os, "environ", {**os.environ, "PORT": "0"})
        told = runpy.run_path(str(Path("gunicorn.conf.py")))
    made = Config()
    for name, value in told.items():
        if name in made.settings:
            made.set(name, value)
    return made


def environ_of(config: Any, sent: bytes, peer: Any) -> dict[str, Any]:
    """What the service is told of a request that comes from there. Raises ParseException."""
    here, there = socket.socketpair()
    with closing(here), closing(there):
        there.sendall(sent)
        there.shutdown(socket.SHUT_WR)
        request = next(RequestParser(config, here, peer))
        _, environ = create(request, here, peer, ("192.0.2.1", 7860), config)
    found: dict[str, Any] = environ
    return found


@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_what_a_caller_says_of_itself_is_a_header_and_no_more(config: Any, peer: Any) -> None:
    bare = environ_of(config, f"{HEAD}\r\n".encode(), peer)
    for claim, value in CLAIMS.items():
        told = environ_of(config, f"{HEAD}{claim}: {value}\r\n\r\n".encode(), peer)
        name = f"HTTP_{claim.upper().replace('-', '_')}"
        assert told.keys() - bare.keys() == (set() if "_" in claim else {name})
        assert told["wsgi.url_scheme"] == "http", claim
        for key in ("REMOTE_ADDR", "REMOTE_PORT", "SCRIPT_NAME", "PATH_INFO", "SERVER_NAME"):
            assert told.get(key) == bare.get(key), claim


@pytest.mark.parametrize("peer", PEERS, ids=str)
def test_the_proxy_protocol_is_not_spoken(config: Any, peer: Any) -> None:
    for said in PROXIED:
        with pytest.raises(ParseException):
            environ_of(config, said + f"{HEAD}\r\n".encode(), peer)


def test_no_address_is_read_to_tell_whom_to_believe(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr("gunicorn.http.message.ipaddress.ip_address", read.append)
    for peer in PEERS:
        environ_of(config, f"{HEAD}\r\n".encode(), peer)
    assert read == []
