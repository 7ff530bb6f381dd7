"""The file of a picture: fetched whole, only from where it may come from, and in bounded time.

Names are resolved and connections made by the standard library's functions, which are the edge
that is faked here: there is no Internet in a test.
"""

import base64
import gc
import hashlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from fake_flowith import ABORT, CUT, DROP, HANG, FakeFlowith, Raw, Reply, Step, error
from fake_images import drawn
from gate import Gate

from chat_request import Drawing, Prompt
from errors import CallerLeft, UpstreamCut, UpstreamError, UpstreamTimeout
from events import Event, Picture, Silence
from flowith import download
from flowith.client import Answer, Flowith
from flowith.download import Download, to_kind
from flowith.file_address import Forbidden, is_public, origin_of, to_address
from settings import Model, Settings

PNG = drawn("a cat")
PUBLIC = "93.184.216.34"
REAL_RESOLVE = socket.getaddrinfo


def file(*steps: Step, **options: Any) -> Reply:
    return Reply(headers={"Content-Type": "text/html"}, steps=steps, **options)


def answer_at(origin: str, heartbeat: float = 60.0) -> Answer:
    """The answer to a call for a picture, as it is when its picture's address has come."""
    settings = Settings(
        flowith_api_url=origin, flowith_auth_token=("flo_a",), hold=heartbeat, heartbeat=heartbeat
    )
    flowith = Flowith(settings, "agent/1")
    answer = flowith.open(Prompt([], drawing=Drawing()), Model("m", ("m",), kind="image"))
    flowith.clock.add(answer)
    return answer


def fetch(
    url: str, origin: str = "", left: Callable[[], bool] = lambda: False, heartbeat: float = 60.0
) -> list[Event]:
    """What its caller gets, who may have `left`."""
    with closing(answer_at(origin, heartbeat)) as answer:
        answer.caller_left = left
        return list(answer.fetch(Picture(url)))


def here(fake: FakeFlowith, left: Callable[[], bool] = lambda: False) -> list[Event]:
    return fetch(f"{fake.url}/f/1/cat.png?x=1", fake.url, left)


def after(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.01)


# -- where a file may be ----------------------------------------------------------------------

HOSTILE = [
    "file:///etc/passwd", "ftp://r2.example/a", "http://r2.example/a", "//r2.example/a", "/a", "",
    "https://", "https:///a", "https://user@r2.example/a", "https://a:b@r2.example/a",
    "https://localhost/a", "https://LOCALHOST./a", "https://printer/a", "https://a.local/a",
    "https://metadata.google.internal/a", "https://127.0.0.1/a", "https://127.1/a",
    "https://2130706433/a", "https://0x7f.0.0.1/a", "https://0177.0.0.1/a", "https://0/a",
    "https://10.1.2.3/a", "https://172.16.0.1/a", "https://192.168.1.1/a", "https://100.64.0.1/a",
    "https://169.254.169.254/latest/meta-data", "https://224.0.0.1/a", "https://255.255.255.255/a",
    "https://[::1]/a", "https://[::]/a", "https://[fe80::1]/a", "https://[fd00::1]/a",
    "https://[::ffff:127.0.0.1]/a", "https://[::ffff:7f00:1]/a", "https://[2002:7f00:1::]/a",
    "https://[64:ff9b::7f00:1]/a", "https://[2001:0:1::]/a", "https://[::127.0.0.1]/a",
    "https://[::1", "https://r2.example:99999/a", "https://r2.example:x/a",
    "http://127.0.0.1:9@evil.example/a", "http://127.0.0.1:90/a", "https://127.0.0.1:9/a",
    "http://127.0.0.1:9\\@evil.example/a", "https://bücher.example/a", "javascript:alert(1)",
    f"https://r2.example/{'a' * 3000}", "https://r2.example/\ud83d",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_an_address_that_nobody_should_fetch_is_refused(url: str) -> None:
    with pytest.raises(Forbidden):
        to_address(url, "http://127.0.0.1:9")


@pytest.mark.parametrize("url", [None, 7, ["https://r2.example/a"], {"url": "x"}])
def test_what_is_no_text_is_no_address(url: object) -> None:
    with pytest.raises(Forbidden):
        to_address(url, "")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://r2.example/f/1/a@1x1.jpeg", "https://r2.example/f/1/a@1x1.jpeg"),
        ("https://R2.example:8443/a?b=c", "https://R2.example:8443/a?b=c"),
        ("https://r2.example/小猫 1.png", "https://r2.example/%E5%B0%8F%E7%8C%AB%201.png"),
        ("https://r2.example/a\r\nHost: b", "https://r2.example/a%0D%0AHost:%20b"),
        (f"https://{PUBLIC}/a", f"https://{PUBLIC}/a"),
        ("https://[2606:4700::1111]/a", "https://[2606:4700::1111]/a"),
        ("http://127.0.0.1:9/a", "http://127.0.0.1:9/a"),
    ],
)
def test_an_address_that_may_be_fetched_is_put_in_order(url: str, address: str) -> None:
    assert to_address(url, "http://127.0.0.1:9") == address


def test_the_origin_is_what_the_operator_set_without_a_password() -> None:
    assert origin_of("http://me:secret@Box:9/deep/path?x") == "http://box:9"
    assert origin_of("") == ""


@pytest.mark.parametrize("ip", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::"])
def test_an_address_of_the_internet_is_public(ip: str) -> None:
    assert is_public(ip)


# -- the connection ---------------------------------------------------------------------------


class Net:
    """Names of this test alone: what they resolve to, in turn. The addresses they lead to are
    this machine's own, where `down` does not say that they are none."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.names: dict[str, list[list[str]]] = {}
        self.connected: list[tuple[str, int]] = []
        self.down: set[str] = set()

    def resolve(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host in self.names:
            turns = self.names[host]
            found = turns.pop(0) if len(turns) > 1 else turns[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]
        if host.startswith("127."):
            return REAL_RESOLVE(host, port, *args, **kwargs)
        self.connected.append((host, port))  # an address is looked up to be connected to
        port = free_port() if host in self.down else self.port
        return REAL_RESOLVE("127.0.0.1", port, *args, **kwargs)


@pytest.fixture
def secure(tls: ssl.SSLContext) -> Iterator[FakeFlowith]:
    """The stand-in as files.example."""
    with FakeFlowith(tls=tls) as fake:
        fake.reply(file(PNG))
        yield fake


@pytest.fixture
def net(secure: FakeFlowith, monkeypatch: pytest.MonkeyPatch) -> Net:
    made = Net(secure.port)
    made.names["files.example"] = [[PUBLIC]]
    monkeypatch.setattr(socket, "getaddrinfo", made.resolve)
    return made


def test_a_public_file_is_fetched_without_any_token(net: Net, secure: FakeFlowith) -> None:
    (picture,) = fetch("https://files.example/f/1/cat.png?v=2")
    assert isinstance(picture, Picture)
    assert base64.b64decode(picture.data) == PNG
    assert picture.kind == "png"
    (seen,) = secure.requests
    assert (seen.method, seen.path, seen.query) == ("GET", "/f/1/cat.png", "v=2")
    assert set(seen.headers) == {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert seen.headers["host"] == "files.example"


def test_the_address_that_was_checked_is_the_one_connected_to(net: Net) -> None:
    """A name that turns into a private address after the look at it leads nowhere private."""
    net.names["files.example"] = [[PUBLIC], ["127.0.0.1"]]
    fetch("https://files.example/cat.png")
    assert net.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize("ips", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["169.254.169.254"]])
def test_a_name_that_leads_inside_is_refused(net: Net, ips: list[str]) -> None:
    net.names["files.example"] = [ips]
    with pytest.raises(Forbidden, match="not public"):
        fetch("https://files.example/cat.png")
    assert net.connected == []


def test_a_name_that_leads_inside_at_the_second_try_is_refused(
    net: Net, secure: FakeFlowith
) -> None:
    secure.reset()
    secure.reply(error(500))
    net.names["files.example"] = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(Forbidden, match="not public"):
        fetch("https://files.example/cat.png")
    assert net.connected == [(PUBLIC, 443)]


def test_an_end_that_is_not_tls_s_own_is_no_end_of_a_file(net: Net, secure: FakeFlowith) -> None:
    """Where its host does not say how long it is, anybody on the way could cut it."""
    secure.reset()
    secure.reply(file(PNG[:200], ABORT, framing="close"))
    with pytest.raises(UpstreamCut):
        fetch("https://files.example/cat.png")


def test_signs_of_life_are_a_heartbeat_apart(fake: FakeFlowith) -> None:
    fake.reply(file(HANG))
    with closing(answer_at(fake.url, 0.2)) as answer:
        events = answer.fetch(Picture(f"{fake.url}/cat.png"))
        assert next(events) == Silence()
        begun = time.monotonic()
        answer.interrupt()
        assert next(events) == Silence()
        assert time.monotonic() - begun >= 0.19


def test_the_certificate_must_be_the_name_s(net: Net, secure: FakeFlowith) -> None:
    net.names["other.example"] = [[PUBLIC]]
    with pytest.raises(UpstreamCut):
        fetch("https://other.example/cat.png")
    assert secure.requests == []


def test_a_host_that_is_down_at_one_address_is_reached_at_the_next(net: Net) -> None:
    net.down.add("8.8.8.8")
    net.names["files.example"] = [["8.8.8.8", PUBLIC]]
    assert len(fetch("https://files.example/cat.png")) == 1
    assert net.connected == [("8.8.8.8", 443), (PUBLIC, 443)]


def test_through_a_proxy_the_tunnel_goes_to_the_address_that_was_checked(
    secure: FakeFlowith, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = Net(secure.port)
    resolved.names["files.example"] = [[PUBLIC]]
    monkeypatch.setattr(socket, "getaddrinfo", resolved.resolve)
    with Gate(secure.port, {PUBLIC}) as gate:
        threading.Thread(target=gate.serve_forever, args=(0.01,), daemon=True).start()
        port = gate.server_address[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        assert len(fetch("https://files.example/cat.png")) == 1
        gate.shutdown()
    assert gate.asked == [PUBLIC]


# -- what comes -------------------------------------------------------------------------------


def test_a_file_beside_the_api_is_fetched_from_the_operator_s_own_origin(fake: FakeFlowith) -> None:
    fake.reply(file(PNG, framing="length"))
    (picture,) = here(fake)
    assert isinstance(picture, Picture)
    assert base64.b64decode(picture.data) == PNG
    assert "authorization" not in fake.requests[0].headers


def test_a_large_file_is_encoded_right_whatever_its_pieces(fake: FakeFlowith) -> None:
    whole = PNG + hashlib.shake_256(b"x").digest(2_000_003)
    fake.reply(file(*[whole[i : i + 50_021] for i in range(0, len(whole), 50_021)]))
    (picture,) = here(fake)
    assert isinstance(picture, Picture)
    assert base64.b64decode(picture.data) == whole


@pytest.mark.parametrize("status", [301, 302, 307, 308, 300])
def test_no_redirect_is_followed(fake: FakeFlowith, status: int) -> None:
    fake.reply(error(status, headers={"Location": f"{fake.url}/elsewhere"}))
    with pytest.raises(Forbidden, match="leads elsewhere"):
        here(fake)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"x", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<!doctype html>" * 99, b"BM" * 99,
     b"\x89PNG", b"RIFF\0\0\0\0WAVE" * 9, b'{"secret": "of a service inside"}'],
)  # fmt: skip
def test_what_is_no_picture_is_refused_whatever_it_is_called(
    fake: FakeFlowith, body: bytes
) -> None:
    fake.reply(Reply(headers={"Content-Type": "image/png"}, steps=[body]))
    with pytest.raises(Forbidden, match="no PNG") as wrong:
        here(fake)
    assert "secret" not in wrong.value.message
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("begins", "kind"),
    [(PNG, "png"), (b"\xff\xd8\xff\xe0 JFIF", "jpeg"), (b"RIFF\1\2\n\4WEBPVP8 ", "webp"),
     (b"GIF89a..", "gif"), (b"GIF87a..", "gif")],
)  # fmt: skip
def test_the_first_bytes_tell_what_it_is(begins: bytes, kind: str) -> None:
    assert to_kind(begins) == kind


def test_ten_gigabytes_are_refused_before_they_are_read(fake: FakeFlowith) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n"
    fake.reply(Raw([head, PNG, HANG]))
    with pytest.raises(Forbidden, match="larger than 48 MB"):
        here(fake)
    assert len(fake.requests) == 1


def test_a_file_that_does_not_tell_its_size_is_cut_at_the_limit(fake: FakeFlowith) -> None:
    fake.reply(file(PNG, *[bytes(1_000_000)] * 60))
    with pytest.raises(Forbidden, match="larger than 48 MB"):
        here(fake)
    assert fake.requests[0].wait_hung_up(5)


@pytest.mark.parametrize(
    "broken",
    [
        file(PNG[:200], CUT),
        file(PNG[:200], DROP),
        file(PNG[:200], CUT, framing="length"),
        Raw([b"HTTP/1.1 200 OK\r\nContent-Le", CUT]),
        file(),
        Raw([b"HTTP/1.1 100 Continue\r\n\r\n" * 99, b"HTTP/1.1 200 OK\r\n\r\n" + PNG]),
        error(404),
        error(503),
    ],
    ids=["chunks", "reset", "length", "head", "nothing", "1xx", "not yet", "busy"],
)
def test_a_failed_download_is_repeated_as_the_picture_is_paid_for(
    fake: FakeFlowith, broken: Any
) -> None:
    fake.reply(broken, broken, file(PNG))
    assert len(here(fake)) == 1
    fake.reset()
    fake.reply(broken)
    with pytest.raises(UpstreamError) as wrong:
        here(fake)
    assert wrong.value.status == 502
    assert len(fake.requests) == download.TRIES


@pytest.mark.parametrize("reached", [True, False])
def test_a_download_that_failed_keeps_nothing(fake: FakeFlowith, reached: bool) -> None:
    """The frames under its error would hold it, and it them."""
    fake.reply(error(404))
    origin = fake.url if reached else f"http://127.0.0.1:{free_port()}"
    work = Download(f"{origin}/a", origin, "a", lambda: None)
    gc.disable()
    try:
        work.run()
        with suppress(UpstreamError):
            work.take()
        left = weakref.ref(work)
        del work
        assert left() is None
    finally:
        gc.enable()


def test_a_file_that_drips_ends_with_the_patience_for_it(
    fake: FakeFlowith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    monkeypatch.setattr(download, "TRIES", 1)
    drip: list[Step] = [step for byte in PNG for step in (bytes([byte]), 0.02)]
    for reply in (
        file(*drip),
        file(*drip, framing="close"),
        Raw([b"HTTP/1.1 200 OK\r\nX: ", *drip]),
        Raw([b"HTTP/1.1 200 OK\r\nX: ", HANG]),
    ):
        fake.reset()
        fake.reply(reply)
        with pytest.raises((UpstreamTimeout, UpstreamCut)):
            here(fake, after(5))
        assert fake.requests[0].wait_hung_up(5)


def test_signs_of_life_come_while_a_file_is_slow(fake: FakeFlowith) -> None:
    fake.reply(file(PNG[:100], 0.5, PNG[100:]))
    events = fetch(f"{fake.url}/a", fake.url, heartbeat=0.1)
    assert events.count(Silence()) >= 2
    assert isinstance(events[-1], Picture)


@pytest.mark.parametrize("closed", [False, True], ids=["the caller", "the answer"])
def test_who_leaves_ends_the_download(fake: FakeFlowith, closed: bool) -> None:
    fake.reply(file(PNG[:100], HANG))
    answer, left = answer_at(fake.url), threading.Event()
    answer.caller_left = left.is_set

    def leave() -> None:
        left.set()
        answer.interrupt()

    leaves = answer.close if closed else leave
    fake.log = lambda seen: threading.Timer(0.05, leaves).start()
    with closing(answer), pytest.raises(CallerLeft):
        list(answer.fetch(Picture(f"{fake.url}/a")))
    assert fake.requests[0].wait_hung_up(5)


def test_no_more_than_eight_are_under_way_at_once(fake: FakeFlowith) -> None:
    """Each waits for its file until eight others do, or for a while."""
    fake.reply(file(0.3, PNG))
    threads = [threading.Thread(target=here, args=(fake,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, fake.open_connections)
        time.sleep(0.01)
    assert len(fake.requests) == 20
    assert most == 8


@pytest.fixture
def deaf() -> Iterator[str]:
    """The origin of a host that neither takes a connection nor refuses it: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        place = listener.getsockname()
        with socket.create_connection(place):
            yield f"http://127.0.0.1:{place[1]}"


def connecting_to(origin: str) -> int:
    """How many connections to a local port are asked for and not yet made (SYN_SENT)."""
    there = f"0100007F:{int(origin.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(row[2:4] == [there, "02"] for row in rows)


def test_a_download_closed_while_it_connects_leaves_its_place_at_once(
    deaf: str, fake: FakeFlowith
) -> None:
    works = [Download(f"{deaf}/a", deaf, "a", lambda: None) for _ in range(8)]
    for work in works:
        threading.Thread(target=work.run, daemon=True).start()
    until = time.monotonic() + 20
    while connecting_to(deaf) < 8:
        assert time.monotonic() < until
        time.sleep(0.01)
    for work in works:
        work.close()
    fake.reply(file(PNG))
    assert len(here(fake, after(5))) == 1
