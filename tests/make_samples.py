"""Makes the samples in tests/data that the stand-in answers for: `python tests/make_samples.py`.

What is sent here is Flowith's wire as public clients describe it, with the faults that they met.
To be run again when the form of samples changes; what comes is then read and committed.
"""

import base64
import gzip
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from click.testing import CliRunner  # noqa: E402
from fake_flowith import (  # noqa: E402
    CUT,
    DROP,
    FakeFlowith,
    Reply,
    Seen,
    error,
    json_reply,
    knowledge,
    knowledge_json,
    llm,
    llm_json,
    think,
    web,
)

from commands.doctor import doctor  # noqa: E402

DATA = ROOT / "tests" / "data"
KEY = "flo_" + "0123456789abcdef" * 4
CLAIMS = {"sub": "7d9f3c1e-0000-4000-8000-00000000beef", "exp": 4_000_000_000}
LOGIN = (
    "eyJhbGciOiJub25lIn0." + base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).decode() + ".sig"
)


def call_frame(part: dict[str, object]) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": None}]}


def as_flowith(seen: Seen) -> Reply:
    """Flowith on a good day: a key at the APIs for programs, a login at the web API."""
    if seen.method != "POST":
        return error(404, "Not Found")
    payload, web_api = seen.json, seen.path == "/completion"
    given = seen.headers.get("authorization", "")
    if given != (LOGIN if web_api else f"Bearer {KEY}"):
        return json_reply({"error": "Unauthorized", "request_id": CLAIMS["sub"]}, status=401)
    if "no-such-model" in seen.body.decode():
        wrong = {"message": "Model not found", "code": "model_not_found"}
        return json_reply({"error": wrong}, status=404)
    if web_api:
        return as_web(payload)
    return as_llm(payload) if seen.path == "/external/use/llm" else as_knowledge(payload)


def answer_to(payload: dict[str, object]) -> str:
    words = json.dumps(payload["messages"])
    known = {"colour": "Blue", "picture": "Dice.", "9.11": "9.9", "Oslo": "I cannot look it up."}
    return next((said for asked, said in known.items() if asked in words), "OK, naïve café 你好")


def as_web(payload: dict[str, object]) -> Reply:
    said = answer_to(payload).encode()
    pieces: list[bytes | float] = [said[:-1], 0.02, said[-1:]]  # in the middle of a character
    if "9.11" in str(payload):
        return web(b"<thi", 0.02, b"nk>\nCompare the tenths.\n\n</think>\n", 0.02, *pieces)
    return web(*pieces, framing="close" if payload.get("max_tokens") else "chunked")


def as_llm(payload: dict[str, object]) -> Reply:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    said = answer_to(payload)
    if payload["stream"] is False:
        return llm_json(said, usage=usage)
    if "tools" in payload:
        begin = {"index": 0, "id": "call_9xyzABCDEF0123", "type": "function"}
        first = call_frame({**begin, "function": {"name": "get_weather", "arguments": '{"city":'}})
        rest = call_frame({"index": 0, "function": {"arguments": ' "Oslo"}'}})
        return llm(first, 0.02, rest, usage=usage, finish="tool_calls")
    if payload.get("max_tokens") == 5:
        return llm("1, 2", usage=usage, finish="length")
    thoughts = [think("Compare the tenths.")] if payload["thinking"] else []
    return llm(*thoughts, 0.02, said[:2], 0.02, said[2:], usage=usage)


def as_knowledge(payload: dict[str, object]) -> Reply:
    if payload["stream"] is False:
        return knowledge_json(answer_to(payload))
    seeds = [{"id": "a1b2c3", "content": "A private note.", "source_title": "Diary", "nip": 0.9}]
    return knowledge(answer_to(payload), seeds=seeds)


def faults() -> Iterator[Reply]:
    """Answers of the LLM API on a bad day, in the order of the questions; a good one goes first,
    or nobody would ask."""
    yield llm("OK")
    yield llm("Hel", 0.02, "lo", CUT)
    yield llm("Hel", 0.02, b'data: {"choices": [{"del', DROP)
    yield Reply(200, {"Content-Type": "application/json"}, [b'{"choices": [{', CUT], "length")
    yield error(404, "<html><body>Not here. Your address: 203.0.113.7</body></html>", html=True)
    yield json_reply({"error": {"message": f"{KEY[:40]} is wrong, jane@example.com"}}, status=401)
    yield llm("Bl", {"error": {"message": "overloaded", "code": 503}})
    yield llm(finish="stop")
    yield Reply(200, {"Content-Encoding": "gzip"}, [gzip.compress(b"secret")])
    yield error(429, "Slow down.", {"Retry-After": "1"})
    yield llm("1, 2", framing="close", done=False)


def as_flowith_in_trouble() -> dict[str, Iterator[Reply]]:
    gone = itertools.repeat(error(404, "Not Found"))
    return {"/external/use/llm": faults(), "": gone}


def make(name: str, tokens: str, fake: FakeFlowith) -> None:
    target = DATA / name
    target.unlink(missing_ok=True)
    given = {"FLOWITH_AUTH_TOKEN": tokens, "FLOWITH_API_URL": fake.url, "API_KEY": "a-key-of-ours"}
    given |= {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    given |= {"MODELS_FILE": str(ROOT / "models.json")}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # away from a .env
        ran = CliRunner().invoke(doctor, ["--sample", str(target)], env=given)
    print(ran.output)
    assert target.exists()


def main() -> None:
    with FakeFlowith() as fake:
        fake.reply(as_flowith)
        make("stand-in-good-day.jsonl", f"{KEY},{LOGIN}", fake)
    with FakeFlowith() as fake:
        replies = as_flowith_in_trouble()
        fake.reply(lambda seen: next(replies.get(seen.path, replies[""])))
        make("stand-in-bad-day.jsonl", KEY, fake)


if __name__ == "__main__":
    main()
