"""Over TLS: answers arrive as they do without, and only from a server that can show who it is."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from conftest import Server, deltas
from fake_flowith import DROP, HANG, FakeFlowith, web, words
from gate import Gate

from errors import DOCTOR

WORDS = "word " * 300


def assert_whole_answers(server: Server, fake: FakeFlowith, count: int) -> None:
    """Ask one after the other, over one connection of the service's to the stand-in."""
    fake.reply(web(*words(WORDS)))
    for _ in range(count):
        connection, response = server.post({"stream": True})
        assert deltas(response.read()) == WORDS
        connection.close()
    assert len(fake.requests) == count
    assert len({seen.connection for seen in fake.requests}) == 1


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """What a server shows to those who trust the file beside it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return context


@pytest.fixture
def secure(context: ssl.SSLContext, tmp_path: Path) -> Iterator[tuple[FakeFlowith, dict[str, str]]]:
    """The stand-in behind a certificate of its own, and settings that trust it."""
    bundle = tmp_path / "ca.pem"
    with FakeFlowith(tls=context) as fake:
        url = fake.url.replace("127.0.0.1", "localhost")
        yield fake, {"FLOWITH_API_URL": url, "REQUESTS_CA_BUNDLE": str(bundle)}


def test_an_answer_over_tls_is_whole_and_its_connection_is_used_again(
    secure: tuple[FakeFlowith, dict[str, str]], tmp_path: Path
) -> None:
    fake, environ = secure
    server = Server(tmp_path / "log", environ)
    assert_whole_answers(server, fake, 3)
    fake.reply(web("half", 0.1, DROP))
    connection, response = server.post({})
    assert response.status == 502
    connection.close()
    server.stop()


def test_a_crowd_over_tls_keeps_up(
    secure: tuple[FakeFlowith, dict[str, str]], tmp_path: Path
) -> None:
    """Each record holds one word here; read one by one between pauses they would take for ever.
    Most only make the crowd, above which there are pauses: all of them keep a busy machine busy."""
    fake, environ = secure
    server = Server(tmp_path / "log", environ)
    fake.reply(*[web("x", HANG)] * 90, web(*words("word " * 400, 0.001)))
    crowd = [server.send({"stream": True}) for _ in range(90)]
    fake.wait_for(90, 20)
    started = time.monotonic()
    held = [server.send({"stream": True}) for _ in range(30)]
    for connection in held:
        assert deltas(connection.getresponse().read()) == "word " * 400
    assert time.monotonic() - started < 400 * 0.05 / 2  # half of what a pause for each word takes
    for connection in crowd + held:
        connection.close()
    server.stop()


def test_a_caller_who_leaves_ends_a_call_over_tls(
    secure: tuple[FakeFlowith, dict[str, str]], tmp_path: Path
) -> None:
    fake, environ = secure
    server = Server(tmp_path / "log", {**environ, "HEARTBEAT": "30"})
    fake.reply(web("x", HANG))
    connection = server.send({"stream": True})
    (seen,) = fake.wait_for(1)
    time.sleep(0.2)
    connection.close()
    assert seen.wait_hung_up(5)
    server.stop()


def test_a_server_that_cannot_show_who_it_is_gets_no_token(
    secure: tuple[FakeFlowith, dict[str, str]], tmp_path: Path
) -> None:
    fake, environ = secure
    del environ["REQUESTS_CA_BUNDLE"]
    server = Server(tmp_path / "log", {**environ, "RETRY_ATTEMPTS": "1"})
    connection, response = server.post({})
    wrong = json.loads(response.read())["error"]
    assert (response.status, wrong["code"]) == (502, "upstream_unreachable")
    assert "TLS" in wrong["message"]
    assert DOCTOR in wrong["message"]
    assert not fake.requests
    connection.close()
    server.stop()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_through_a_proxy_over_tls(
    secure: tuple[FakeFlowith, dict[str, str]],
    context: ssl.SSLContext,
    tmp_path: Path,
    scheme: str,
) -> None:
    """The proxy makes a tunnel, and may itself be spoken to over TLS."""
    fake, environ = secure
    with Gate(fake.port, {"localhost"}, context if scheme == "https" else None) as gate:
        threading.Thread(target=gate.serve_forever, args=(0.01,), daemon=True).start()
        proxy = f"{scheme}://localhost:{gate.server_address[1]}"
        server = Server(tmp_path / "log", {**environ, "HTTPS_PROXY": proxy})
        assert_whole_answers(server, fake, 2)
        assert gate.asked == ["localhost"]  # one tunnel, used again
        fake.reply(web("x", HANG))
        connection = server.send({"stream": True})
        seen = fake.wait_for(3)[-1]
        connection.close()
        assert seen.wait_hung_up(5)
        server.stop()
        gate.shutdown()
    assert {seen.headers["host"] for seen in fake.requests} == {f"localhost:{fake.port}"}


def test_an_answer_through_a_proxy_in_the_clear(fake: FakeFlowith, tmp_path: Path) -> None:
    url = "http://flowith.invalid/completion"
    environ = {"FLOWITH_API_URL": url, "HTTP_PROXY": fake.url, "RETRY_ATTEMPTS": "1"}
    server = Server(tmp_path / "log", environ)
    assert_whole_answers(server, fake, 2)
    assert [(seen.path, seen.headers["host"]) for seen in fake.requests] == [
        (url, "flowith.invalid")
    ] * 2
    server.stop()
