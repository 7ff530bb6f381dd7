"""A bounded soak: mixed load with faults and bad manners, then all must be as it was.

`make soak`, with SOAK="--seconds 60 --callers 8" for another size. Ends with status 1 when an
answer is neither whole nor an error, when `/health` had to wait for more than a second, when
descriptors are left, or when memory keeps growing.
"""

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from conftest import HELLO, KEY, Server, chunks, deltas
from fake_flowith import CUT, DROP, FakeFlowith, Raw, Reply, Seen, error, web, words
from hostile import INPUTS, Input

WORDS = [f"word{i} " for i in range(40)]
WHOLE = "".join(WORDS)
GROWTH = 24  # MiB that memory may grow between the first and the last reading
STALL = 1.0  # seconds that `/health` may take
LARGE = "word " * 1_000_000
DAWDLERS = 40  # at once, in half-sent heads
HOSTILE = {f"hostile{i}": one for i, one in enumerate(INPUTS) if one.api == "web"}
Caller = Callable[[Server], str]


def replies() -> dict[str, Reply | Raw]:
    """What Flowith does, by what it is asked for."""
    return {
        "whole": web(*WORDS),
        "paced": web(*words(WHOLE, 0.002)),
        "cut": web(*WORDS[:5], 0.01, CUT),
        "drop": Raw([DROP]),
        "error": error(500),
        "refused": error(400),
        "empty": web(),
        "silent": web(0.7, *WORDS),
        "long": web(*["x" * 4000] * 200),
    }


def script(seen: Seen) -> Reply | Raw:
    """The wish is the first part of the request's id, which comes through to Flowith."""
    wish = seen.headers["x-request-id"].partition(".")[0]
    return HOSTILE[wish].reply() if wish in HOSTILE else replies()[wish]


def to_id(wish: str) -> str:
    return f"{wish}.{random.getrandbits(32)}"


def to_request(wish: str, stream: bool) -> bytes:
    """A whole request, for those who write to the socket themselves."""
    body = json.dumps({"model": "gpt-4.1", "messages": HELLO, "stream": stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"X-Request-ID: {to_id(wish)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def ask(server: Server, wish: str, stream: bool, **asked: Any) -> tuple[int, bytes]:
    body = {"messages": HELLO, "stream": stream, **asked}
    with closing(server.send(body, **{"X-Request-ID": to_id(wish)})) as connection:
        response = connection.getresponse()
        return response.status, response.read()


def is_whole(status: int, body: bytes, stream: bool, text: str = WHOLE) -> bool:
    if status != 200:
        return False
    if not stream:
        return bool(json.loads(body)["choices"][0]["message"]["content"] == text)
    return chunks(body)[-1] == "[DONE]" and deltas(body) == text


def is_error(status: int, body: bytes, stream: bool) -> bool:
    if status != 200:
        return set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    found = chunks(body) if stream else []
    return found[-1:] == ["[DONE]"] and "error" in found[-2]


def good(server: Server) -> str:
    wish = random.choice(["whole", "paced", "silent"])
    stream = random.random() < 0.7
    status, body = ask(server, wish, stream)
    return "good" if is_whole(status, body, stream) else f"WRONG {wish} {status}"


def large(server: Server) -> str:
    """A prompt of 5 MB, answered or refused."""
    wish = random.choice(["whole", "refused", "drop"])
    stream = random.random() < 0.5
    status, body = ask(server, wish, stream, messages=[{"role": "user", "content": LARGE}])
    fine = is_whole if wish == "whole" else is_error
    return f"large, {wish}" if fine(status, body, stream) else f"WRONG large {wish} {status}"


def faulty(server: Server) -> str:
    wish = random.choice(["cut", "drop", "error", "empty"])
    stream = random.random() < 0.5
    status, body = ask(server, wish, stream)
    return "fault told" if is_error(status, body, stream) else f"WRONG {wish} {status}"


def hostile(server: Server) -> str:
    """What was made to take long: any answer will do, as long as it is whole or an error."""
    wish = random.choice([*HOSTILE])
    given: Input = HOSTILE[wish]
    status, body = ask(server, wish, True, **given.body())
    fine = is_error(status, body, True) or chunks(body)[-1] == "[DONE]"
    return "hostile" if fine else f"WRONG {given.name} {status}"


def leaving(server: Server) -> str:
    """Hangs up in the middle, with a line end or a request behind or without."""
    behind = random.choice([b"", b"\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(to_request(random.choice(["paced", "silent", "long"]), stream=True))
        time.sleep(random.random() * 0.05)
        with suppress(OSError):
            sock.sendall(behind)
        if random.random() < 0.5:
            sock.recv(100)
    return "left"


def half_closing(server: Server) -> str:
    """Closes for sending, which counts as leaving: an error, or an answer that is broken off."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sock.sendall(to_request("silent", stream=False))
        sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            response = HTTPResponse(sock)
            response.begin()
            if not is_error(response.status, response.read(), stream=False):
                return f"WRONG half closed {response.status}"
    return "half closed"


def not_reading(server: Server) -> str:
    """Takes nothing for a while."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(to_request("long", stream=True))
        time.sleep(1)
    return "took nothing"


def dawdling(server: Server) -> str:
    """A crowd that does not get on with its heads."""
    crowd = []
    for _ in range(DAWDLERS):
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-")
        crowd.append(sock)
    time.sleep(0.5)
    for sock in crowd:
        sock.close()
    return "dawdled"


def flooding(server: Server) -> str:
    """Sends for a moment as fast as it is taken: a body that nobody wants, or many requests."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    body = head + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    requests = b"", (head + b"Content-Length: 2\r\n\r\n{}") * 1000
    first, again = random.choice([body, requests])
    until = time.monotonic() + 0.5
    address = "127.0.0.1", server.port
    # who does not read is not read for ever either
    with socket.create_connection(address, timeout=0.5) as sock, suppress(OSError):
        sock.sendall(first)
        while time.monotonic() < until:
            sock.sendall(again)
    return "flooded"


def invalid(server: Server) -> str:
    with closing(server.send(random.choice([b"{", b"[]", b'{"model": "gpt-4.1"}']))) as connection:
        response = connection.getresponse()
        fine = response.status == 400 and is_error(400, response.read(), stream=False)
    return "refused" if fine else f"WRONG invalid {response.status}"


KINDS: dict[Caller, float] = {
    good: 40, faulty: 15, invalid: 12, leaving: 12, half_closing: 5, not_reading: 2,
    dawdling: 2, flooding: 1, large: 3, hostile: 1,
}  # fmt: skip


def reading(server: Server) -> tuple[float, int]:
    """Resident memory (MiB) and open descriptors of the worker."""
    pid = server.process.pid
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    status = Path(f"/proc/{worker}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return rss, sum(1 for _ in Path(f"/proc/{worker}/fd").iterdir())


def run(server: Server, seconds: float, callers: int, kinds: dict[Caller, float]) -> Counter[str]:
    until, ends = time.monotonic() + seconds, Counter[str]()
    lock = threading.Lock()

    def call() -> None:
        while time.monotonic() < until:
            (kind,) = random.choices([*kinds], [*kinds.values()])
            try:
                end = kind(server)
            except (OSError, HTTPException, ValueError) as wrong:
                end = f"WRONG {kind.__name__} {type(wrong).__name__}"
            with lock:
                ends[end] += 1

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def watched(server: Server, work: Callable[[], Counter[str]]) -> tuple[Counter[str], float]:
    """What comes of the work, and the longest that `/health` took meanwhile, in seconds. Asked by
    a process of its own: here are too many threads to be on time."""
    command = [sys.executable, str(Path(__file__).with_name("hostile.py")), str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout
        watch.stdout.readline()
        ends = work()
        watch.terminate()
        longest = float(watch.stdout.read().split()[-1])
    return ends, longest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--callers", type=int, default=24)
    parser.add_argument("--without", action="append", default=[], help="a kind of caller")
    given = parser.parse_args()
    kinds = {kind: share for kind, share in KINDS.items() if kind.__name__ not in given.without}
    with FakeFlowith() as fake, tempfile.TemporaryDirectory() as folder:
        settings = {"FLOWITH_API_URL": fake.url, "RETRY_ATTEMPTS": "2", "HEARTBEAT": "0.3"}
        server = Server(Path(folder) / "log", {**settings, "HOLD": "0.3"})
        try:
            fake.reply(script)
            run(server, min(20.0, given.seconds / 5), given.callers, kinds)
            for wish in HOSTILE if hostile in kinds else ():  # the largest of all, once each
                ask(server, wish, True, **HOSTILE[wish].body())
            time.sleep(3)
            before = reading(server)
            print(f"start: {before[0]:.1f} MiB, {before[1]} descriptors", flush=True)
            fake.reset()
            fake.reply(script)
            ends, longest = watched(
                server, lambda: run(server, given.seconds, given.callers, kinds)
            )
            time.sleep(3)
            after = reading(server)
        finally:
            server.stop()
    print(f"end:   {after[0]:.1f} MiB, {after[1]} descriptors; {sum(ends.values())} calls")
    print(f"longest answer of /health: {longest:.2f} s")
    for end, count in sorted(ends.items()):
        print(f"  {end}: {count}")
    wrong = [end for end in ends if end.startswith("WRONG")]
    kept = given.callers  # connections to Flowith, as many as were in use at once at most
    grown = after[0] - before[0] > GROWTH or after[1] > before[1] + kept
    failed = bool(wrong) or grown or longest > STALL
    print("FAILED" if failed else "passed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
