"""One exchange written down: blocks, times, framing, and each way in which an answer can end."""

import ssl

import pytest
import requests
from fake_flowith import ABORT, CUT, DROP, HANG, FakeFlowith, Raw, Reply, error, llm, web

from commands.recording import LONGEST_BODY, record, to_decoded
from commands.sample_file import Recording


def ask(url: str, patience: float = 5, whole: float = 10) -> Recording:
    return record(f"{url}/completion", {"Authorization": "x"}, b"{}", 5, patience, whole)


def test_blocks_come_with_their_times_and_the_head_with_all_its_lines(fake: FakeFlowith) -> None:
    fake.reply(web("Hel", 0.4, "lo", headers={"Server": "edge", "Set-Cookie": "a=b"}))
    found = ask(fake.url)
    assert (found.status, found.http, found.framing, found.end) == (200, "1.1", "chunked", "clean")
    assert [block for _, block in found.blocks] == [b"Hel", b"lo"]
    (first, _), (second, _) = found.blocks
    assert 0 <= found.head_at <= first < second
    assert second - first >= 0.1
    assert ("Server", "edge") in found.headers


@pytest.mark.parametrize(
    ("reply", "framing", "end"),
    [
        (web("Hello", framing="length"), "length", "clean"),
        (web("Hello", framing="close"), "close", "clean"),
        (web("Hello", CUT), "chunked", "cut"),
        (web("Hello", CUT, framing="length"), "length", "cut"),
        (web("Hello", 0.05, DROP), "chunked", "reset"),
        (web("Hello", HANG), "chunked", "silent"),
        (Reply(204, {"Content-Length": "0"}, [], "length"), "length", "clean"),
        (Raw([b"HTTP/1.0 200 OK\r\n\r\nHello"]), "close", "clean"),
        (Raw([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]), "chunked", "cut"),
    ],
    ids=[
        "length",
        "close",
        "cut chunks",
        "cut length",
        "reset",
        "silent",
        "204",
        "1.0",
        "no chunk",
    ],
)
def test_each_end_is_told(fake: FakeFlowith, reply: Reply | Raw, framing: str, end: str) -> None:
    fake.reply(reply)
    found = ask(fake.url, patience=0.4)
    assert (found.framing, found.end) == (framing, end)


def test_what_does_not_stop_is_stopped(fake: FakeFlowith) -> None:
    fake.reply(web(*[b"x" * 65_536] * 8))
    found = ask(fake.url)
    assert found.end == "stopped"
    assert LONGEST_BODY < sum(len(block) for _, block in found.blocks) <= LONGEST_BODY + 65_536
    fake.reply(web("a", 0.1, "b", 0.1, "c", 5.0, "d"))
    assert ask(fake.url, whole=0.15).end == "stopped"


def test_a_redirect_is_written_down_and_not_followed(fake: FakeFlowith) -> None:
    fake.reply(error(302, headers={"Location": f"{fake.url}/elsewhere"}))
    assert ask(fake.url).status == 302
    assert [seen.path for seen in fake.requests] == ["/completion"]


def test_without_a_head_it_raises_what_requests_raises(fake: FakeFlowith) -> None:
    fake.reply(Raw([]))
    with pytest.raises(requests.RequestException):
        ask(fake.url)


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        (web("Hello", framing="close"), "clean"),
        (web("Hello", ABORT, framing="close"), "cut"),
        (web("Hello", framing="length", headers={"Connection": "close"}), "clean"),
        (web("Hello", ABORT, framing="length"), "cut"),
    ],
    ids=["to the end", "ragged", "framed", "short and ragged"],
)
def test_over_tls_a_body_to_the_end_ends_as_tls_says(
    tls: ssl.SSLContext, reply: Reply, end: str
) -> None:
    with FakeFlowith(tls=tls) as fake:
        fake.reply(reply)
        assert ask(fake.url.replace("127.0.0.1", "localhost")).end == end


def test_the_decoder_s_view_is_told() -> None:
    body = llm("Hel", "lo", usage={"prompt_tokens": 3, "completion_tokens": 2}).steps
    blocks = tuple((0.1, step) for step in body if isinstance(step, bytes))
    assert to_decoded("llm", 200, blocks, whole=True) == {
        "text": "Hello", "reasoning": "", "calls": [], "finish": "stop", "error": None,
        "usage": {"prompt": 3, "completion": 2, "reasoning": 0},
    }  # fmt: skip
    assert to_decoded("llm", 200, blocks[:1], whole=False)["error"] == "upstream_cut"
    assert to_decoded("web", 200, (), whole=True)["error"] == "empty_response"
    assert to_decoded("web", 402, blocks, whole=True)["error"] == "insufficient_quota"
