"""A bounded soak: mixed load with faults, then memory and descriptors must be what they were.

`make soak`, with SOAK="--seconds 60 --callers 8" for another size. Ends with status 1 when an
answer is wrong, when descriptors are left, or when memory keeps growing.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

from conftest import Server, chunks, deltas
from fake_flowith import CUT, DROP, FakeFlowith, Raw, Reply, Seen, error, web, words

WORDS = [f"word{i} " for i in range(40)]
WHOLE = "".join(WORDS)
GROWTH = 24  # MiB that memory may grow between the first and the last reading
Caller = Callable[[Server], str]


def script(seen: Seen) -> Reply | Raw:
    """What Flowith does depends on what it is asked."""
    wish = seen.json["messages"][-1]["content"]
    paced = words(WHOLE, 0.002)
    replies: dict[str, Reply | Raw] = {
        "whole": web(*WORDS),
        "paced": web(*paced),
        "cut": web(*WORDS[:5], 0.01, CUT),
        "drop": Raw([DROP]),
        "error": error(500),
        "empty": web(),
        "silent": web(0.7, *WORDS),
        "long": web(*["x" * 4000] * 200),
    }
    return replies[wish]


def ask(server: Server, wish: str, stream: bool) -> tuple[int, bytes]:
    message = {"role": "user", "content": wish}
    with closing(server.send({"messages": [message], "stream": stream})) as connection:
        response = connection.getresponse()
        return response.status, response.read()


def good(server: Server) -> str:
    wish = random.choice(["whole", "paced", "silent"])
    stream = random.random() < 0.7
    status, body = ask(server, wish, stream)
    said = deltas(body) if stream else body.decode()
    return "good" if status == 200 and WHOLE.strip() in said else f"WRONG {wish} {status}"


def faulty(server: Server) -> str:
    wish = random.choice(["cut", "drop", "error", "empty"])
    stream = random.random() < 0.5
    status, body = ask(server, wish, stream)
    told = status == 502 or (status == 200 and stream and "error" in chunks(body)[-2])
    return "fault told" if told else f"WRONG {wish} {status}"


def leaving(server: Server) -> str:
    message = {"role": "user", "content": random.choice(["paced", "silent", "long"])}
    with closing(server.send({"messages": [message], "stream": True})) as connection:
        if random.random() < 0.5:
            connection.getresponse().read1(100)
    return "left"


def invalid(server: Server) -> str:
    with closing(server.send(random.choice([b"{", b"[]", b'{"model": "gpt-4.1"}']))) as connection:
        status = connection.getresponse().status
    return "refused" if status == 400 else f"WRONG invalid {status}"


KINDS: list[Caller] = [good, good, good, faulty, leaving, invalid]


def reading(server: Server) -> tuple[float, int]:
    """Resident memory (MiB) and open descriptors of the worker."""
    pid = server.process.pid
    worker = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    status = Path(f"/proc/{worker}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return rss, sum(1 for _ in Path(f"/proc/{worker}/fd").iterdir())


def run(server: Server, seconds: float, callers: int) -> Counter[str]:
    until, ends = time.monotonic() + seconds, Counter[str]()
    lock = threading.Lock()

    def call() -> None:
        while time.monotonic() < until:
            try:
                end = random.choice(KINDS)(server)
            except (OSError, HTTPException) as wrong:
                end = f"WRONG {type(wrong).__name__}"
            with lock:
                ends[end] += 1

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--callers", type=int, default=24)
    given = parser.parse_args()
    with FakeFlowith() as fake, tempfile.TemporaryDirectory() as folder:
        settings = {"FLOWITH_API_URL": fake.url, "RETRY_ATTEMPTS": "2", "HEARTBEAT": "0.3"}
        server = Server(Path(folder) / "log", {**settings, "HOLD": "0.3"})
        try:
            fake.reply(script)
            run(server, min(10.0, given.seconds / 5), given.callers)
            time.sleep(3)
            before = reading(server)
            print(f"start: {before[0]:.1f} MiB, {before[1]} descriptors", flush=True)
            fake.reset()
            fake.reply(script)
            ends = run(server, given.seconds, given.callers)
            time.sleep(3)
            after = reading(server)
        finally:
            server.stop()
    print(f"end:   {after[0]:.1f} MiB, {after[1]} descriptors; {sum(ends.values())} calls")
    for end, count in sorted(ends.items()):
        print(f"  {end}: {count}")
    wrong = [end for end in ends if end.startswith("WRONG")]
    grown = after[0] - before[0] > GROWTH or after[1] > before[1] + 4
    print("FAILED" if wrong or grown else "passed")
    return 1 if wrong or grown else 0


if __name__ == "__main__":
    sys.exit(main())
