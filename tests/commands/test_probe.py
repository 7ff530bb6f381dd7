"""The doctor's one tiny request: it goes the way that the service's own go."""

import zlib

import pytest
from fake_flowith import HANG, FakeFlowith, Raw, Reply, llm

from commands.outcomes import Said
from commands.probe import KNOWN, Asking, Probe
from flowith.accounts import Account
from flowith.file_address import origin_of
from settings import Model, Settings

OK = b"HTTP/1.1 200 OK\r\n"
WORDS = b'data: {"choices":[{"delta":{"content":"OK"}}]}\n\n'
NOWHERE = {origin_of(url): Said.of("no_dns") for urls in KNOWN.values() for url in urls}


def ask(fake: FakeFlowith) -> Probe:
    """What came of the request to the operator's own host."""
    settings = Settings(flowith_api_url=fake.url, models={"m": Model("m", ("m",))})
    asking = Asking(settings, "agent/1", NOWHERE, None, everything=False)
    return asking.ask(Account(1, "flo_a"), "flo_a", "llm")[0]


def test_words_are_what_works(fake: FakeFlowith) -> None:
    fake.reply(llm("OK", HANG))
    assert ask(fake).said.outcome == "worked"
    assert fake.requests[0].headers["authorization"] == "Bearer flo_a"
    assert fake.requests[0].wait_hung_up(5)


@pytest.mark.parametrize(
    "reply",
    [
        Raw([OK + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(WORDS), WORDS)]),
        Raw([OK + b"Content-Length: 1000\r\n\r\n", WORDS]),
    ],
    ids=["in chunks", "with a length"],
)
def test_an_answer_that_breaks_off_has_not_worked(fake: FakeFlowith, reply: Raw) -> None:
    fake.reply(reply)
    said = ask(fake).said
    assert (said.outcome, said.alive, said.status) == ("broken_off", True, 200)


def test_an_answer_is_heard_to_its_end_however_it_comes(fake: FakeFlowith) -> None:
    fake.reply(Raw([OK + b"Content-Length: %d\r\n\r\n" % len(WORDS) + WORDS]))
    assert ask(fake).said.outcome == "worked"
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(WORDS) + packer.flush(zlib.Z_SYNC_FLUSH), packer.compress(WORDS)]
    parts[1] += packer.flush()
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % sum(map(len, parts))
    fake.reply(Raw([OK + head, parts[0], 0.2, parts[1]]))
    assert ask(fake).said.outcome == "worked"


@pytest.mark.parametrize(
    "reply",
    [
        Raw([OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", WORDS]),
        Reply(headers={"Content-Encoding": "br"}, steps=[WORDS]),
    ],
    ids=["a coding of transfer", "a coding of content"],
)
def test_what_the_service_cannot_read_has_not_worked(fake: FakeFlowith, reply: Raw | Reply) -> None:
    fake.reply(reply)
    assert ask(fake).said.outcome == "failed"
