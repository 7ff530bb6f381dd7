"""A stand-in for Flowith on a real socket: it plays a script and records what callers do.

Knows nothing of the project; standard library only. In a test:

    with FakeFlowith() as fake:                    # a background thread; fake.url is the base URL
        fake.reply(error(429), web("Hel", 0.1, "lo"))       # in order, the last one repeats
        ...                                                 # make calls to fake.url
        assert fake.requests[0].json["model"] == "gpt-5.5"
        assert fake.requests[1].wait_hung_up(5)             # the caller left before the end

web, llm and knowledge build streamed answers from pieces: a str (answer text), think("..."), a
dict (a raw frame), bytes (as they are), a number (seconds of waiting), Part (one HTTP chunk in two
writes), Wait() (silence until the test says go), CUT (FIN in mid-answer), ABORT (FIN, over TLS
without close_notify), DROP (RST), HANG (silence until the caller leaves). llm_json,
knowledge_json and error are whole bodies; Reply sets all by hand; Raw writes bytes even where they
are not HTTP. A reply may be a function of the request too: `lambda seen: web(seen.json["model"])`.
A caller's FIN counts as leaving, also when it means to go on reading.

Without a script it behaves as Flowith does, by path (see Demo): `python tests/fake_flowith.py`
serves that by hand, and these words in the last user message make trouble:

    #slow       one word every half second        #cut         the answer breaks off in the middle
    #silent 30  says nothing for 30 seconds       #empty       an answer without a word
    #long 5000  5,000 words at full speed         #error 429   that status instead of an answer

`--sample FILE` plays what Flowith said instead (sample_player.py); only this needs the project.
"""

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import os
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from http.client import responses as REASONS
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, Self, TypedDict, Unpack

from fake_images import awkward, drawn, key_reply, lines, wanted


class Marker(Enum):
    DROP = "the connection is reset; unsent bytes are lost"
    CUT = "the connection is closed in good order, the answer is not whole"
    ABORT = "TCP is closed in good order, TLS is not"
    HANG = "silence until the caller leaves"


DROP, CUT, ABORT, HANG = Marker


class Part(NamedTuple):
    """One HTTP chunk sent in two writes, `pause` seconds apart, split `at` a byte of `body`."""

    body: bytes
    pause: float = 0.02
    at: int = 1


class Wait:
    """Silence until `go`, where a pause would make a test a race against a busy machine."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._over = threading.Event()

    def reached(self, timeout: float = 10) -> bool:
        """Whether all that stands before it has been sent, within so many seconds."""
        return self._reached.wait(timeout)

    def go(self) -> None:
        self._over.set()

    async def wait(self) -> None:
        self._reached.set()
        while not self._over.is_set():
            await asyncio.sleep(0.005)


class Think(NamedTuple):
    """A piece of reasoning."""

    text: str


think = Think
Step = bytes | float | Part | Wait | Marker
Piece = Step | str | Think | dict[str, Any]
Framing = Literal["chunked", "length", "close"]


class Options(TypedDict, total=False):
    """The fields of Reply that every constructor below takes as keywords."""

    status: int
    headers: Mapping[str, str]
    framing: Framing
    delay: float | Wait | Marker


@dataclass(frozen=True)
class Reply:
    """A proper HTTP reply; each bytes step is one write (and one chunk). `delay` is before all."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    framing: Framing = "chunked"
    delay: float | Wait | Marker = 0

    def head(self, close: bool) -> bytes:
        fields = dict(self.headers)
        if self.framing == "chunked":
            fields["Transfer-Encoding"] = "chunked"
        elif self.framing == "length":
            fields.setdefault("Content-Length", str(self._length()))
        if close:
            fields["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _length(self) -> int:
        """All bytes of the script, and one that never comes when it breaks off."""
        bodies = [step.body if isinstance(step, Part) else step for step in self.steps]
        broken = any(isinstance(step, Marker) for step in self.steps)
        return sum(len(body) for body in bodies if isinstance(body, bytes)) + broken


@dataclass(frozen=True)
class Raw:
    """Bytes exactly as given, status line and all; the connection is closed after them."""

    steps: Iterable[Step]


@dataclass(eq=False)
class Seen:
    """One request, and how it went. Times are time.monotonic(); header names are lower-case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    connection: int
    started: float = field(default_factory=time.monotonic)
    hung_up_at: float | None = None
    finished_at: float | None = None
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def wait_hung_up(self, timeout: float = 5) -> bool:
        """Whether the caller left before the reply was over."""
        return self._over.wait(timeout) and self.hung_up_at is not None

    def wait_finished(self, timeout: float = 5) -> bool:
        """Whether the reply was played to its end (CUT and DROP are ends too)."""
        return self._over.wait(timeout) and self.finished_at is not None

    def end(self, *, hung_up: bool) -> None:
        if hung_up:
            self.hung_up_at = time.monotonic()
        else:
            self.finished_at = time.monotonic()
        self._over.set()


Script = Reply | Raw | Callable[[Seen], Reply | Raw]


def _steps(
    pieces: Iterable[Piece], text: Callable[[str], bytes], thought: Callable[[str], bytes]
) -> list[Step]:
    steps: list[Step] = []
    for piece in pieces:
        match piece:
            case str():
                steps.append(text(piece))
            case Think():
                steps.append(thought(piece.text))
            case dict():
                steps.append(_frame(piece))
            case _:
                steps.append(piece)
    return steps


def _frame(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value, ensure_ascii=False).encode()


def _reply(content_type: str, steps: Sequence[Step], options: Options) -> Reply:
    headers = {"Content-Type": content_type, **options.get("headers", {})}
    return replace(Reply(steps=steps, **options), headers=headers)


def words(text: str, pause: float = 0) -> list[Piece]:
    """A text as pieces of one word, with a pause before each: web(*words("a b c", 0.02))."""
    return [piece for word in re.findall(r"\S+\s*", text) for piece in (pause, word) if piece]


def web(*pieces: Piece, **options: Unpack[Options]) -> Reply:
    """Dialect W: the body is the answer's text, reasoning in <think> tags."""
    steps = _steps(pieces, str.encode, lambda text: f"<think>\n{text}\n\n</think>\n".encode())
    return _reply("text/plain; charset=utf-8", steps, options)


def llm(
    *pieces: Piece,
    usage: dict[str, Any] | None = None,
    finish: str | None = "stop",
    done: bool = True,
    model: str = "demo",
    **options: Unpack[Options],
) -> Reply:
    """Dialect L: chunks on data: lines; `usage` rides on the last chunk, finish=None omits it."""

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"model": model, "choices": [choice]}

    steps = _steps(
        pieces,
        lambda text: _frame(chunk({"content": text})),
        lambda text: _frame(chunk({"reasoning_content": text})),
    )
    if finish is not None:
        steps.append(_frame(chunk({}, finish) | ({"usage": usage} if usage else {})))
    if done:
        steps.append(b"data: [DONE]\n\n")
    return _reply("text/event-stream", steps, options)


def knowledge(
    *pieces: Piece,
    seeds: list[dict[str, Any]] | None = None,
    done: Literal["final", "plain"] | None = "final",
    **options: Unpack[Options],
) -> Reply:
    """Dialect K: tagged frames; ends in a `final` [DONE], a plain data: [DONE], or neither."""

    def final(text: str) -> bytes:
        return _frame({"tag": "final", "content": text})

    steps = _steps(pieces, final, lambda text: final(f"<think>\n{text}\n\n</think>\n"))
    if seeds is not None:
        found = {"tag": "seeds", "content": seeds}
        steps[:0] = [_frame({"tag": "searching", "content": "..."}), _frame(found)]
    if done:
        steps.append(final("[DONE]") if done == "final" else b"data: [DONE]\n\n")
    return _reply("text/plain; charset=UTF-8", steps, options)


def json_reply(value: object, **options: Unpack[Options]) -> Reply:
    body = json.dumps(value, ensure_ascii=False).encode()
    return _reply("application/json", [body], {"framing": "length", **options})


def llm_json(
    text: str = "",
    *,
    reasoning: str = "",
    usage: dict[str, Any] | None = None,
    finish: str = "stop",
    model: str = "demo",
    **options: Unpack[Options],
) -> Reply:
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
    choice = {"message": message, "finish_reason": finish}
    return json_reply({"model": model, "choices": [choice], "usage": usage or {}}, **options)


def knowledge_json(text: str = "", **options: Unpack[Options]) -> Reply:
    return json_reply({"tag": "final", "content": text}, **options)


def error(
    status: int,
    message: str = "The stand-in was told to fail.",
    headers: Mapping[str, str] | None = None,
    html: bool = False,
    delay: float | Marker = 0,
) -> Reply:
    """A refusal: {"error": message}, or a page as a gateway in front of Flowith would send it."""
    options: Options = {"status": status, "headers": headers or {}, "delay": delay}
    if html:
        page = f"<html><head><title>{status}</title></head><body><h1>{message}</h1></body></html>"
        return _reply("text/html", [page.encode()], {"framing": "length", **options})
    return json_reply({"error": message}, **options)


MODELS: dict[str, dict[str, Any]] = {
    "claude-5-sonnet": {"title": "Claude 5 Sonnet", "tier": "pro", "logo": "claude.svg"},
    "gpt-5.5": {"title": "GPT-5.5", "tier": "pro"},
    "gemini-2.5-pro": {"name": "Gemini 2.5 Pro", "description": "Long", "tier": ""},
    "deepseek-chat": {"title": "DeepSeek Chat"},
    "deepseek-reasoner": {"title": "DeepSeek Reasoner"},
    "claude-fable-5": {"title": "Claude Fable 5", "tier": "max"},
    "gpt-image-2": {
        "title": "GPT Image 2",
        "media": ["image"],
        "tier": "pro",
        "supportedAspectRatios": ["auto", "1024x1024", "3840x2160"],
    },
    "veo-3": {"title": "Veo 3", "media": ["video"], "tier": "pro"},
}
ANSWER = (
    "This is a demo answer from the bundled stand-in, not from Flowith: no FLOWITH_AUTH_TOKEN is"
    " set. You asked {model}: “{asked}”. It comes word by word, as a real answer would, and a"
    " naïve café, a 你好 and a 🙂 show that every byte arrives in one piece. Set your token and"
    " start again to hear from a real model. Until then, write #slow, #cut or #error 429 in a"
    " question to see what trouble looks like."
)
THOUGHT = "A question for {model}. I am only a stand-in, so I say so."
STREAMED: dict[str, Callable[..., Reply]] = {"web": web, "llm": llm, "knowledge": knowledge}
WHOLE: dict[str, Callable[[str], Reply]] = {"web": web, "knowledge": knowledge_json}
KEYWORD = re.compile(r"#(slow|silent|cut|empty|long|error)\b(?: (\d+))?")
HINT = ANSWER[ANSWER.index("Until then") :]  # which names them, and is no wish where it is quoted


def _last_user_text(payload: Any) -> str:
    content = [message["content"] for message in payload["messages"] if message["role"] == "user"]
    last = (content[-1] if content else "") or ""
    if isinstance(last, list):
        last = " ".join(part.get("text", "") for part in last)
    return str(last).encode(errors="replace").decode()


def _demo_pieces(wishes: dict[str, int], text: str) -> list[Piece]:
    pieces = words(text, 0.5 if "slow" in wishes else 0.02)
    if "long" in wishes:
        count = min(wishes["long"], 200_000)
        pieces = list(itertools.islice(itertools.cycle(words(text + " ")), count))
    if "empty" in wishes:
        pieces = []
    if "cut" in wishes:
        pieces[len(pieces) // 2 :] = [CUT]
    return pieces


class Demo:
    """What Flowith itself answers, by path; also its memory of tokens and files.

    `require_auth`: which Authorization is accepted: None (any or none), "bare", "bearer", or a
    set of values; access tokens issued by a refresh are accepted beside the set. `files` maps the
    URLs of stored files to their bytes, `drawn` the paths of pictures made here to theirs. A
    refresh token not seen before is good, once.
    """

    url: str  # where it is served

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.require_auth: Literal["bare", "bearer"] | set[str] | None = None
        self.files: dict[str, bytes] = {}
        self.drawn: dict[str, bytes] = {}
        self._refreshed: set[str] = set()
        self._issued: set[str] = set()

    def demo(self, seen: Seen) -> Reply:
        """A script like any other: fake.reply(error(401), fake.demo)."""
        match seen.method, seen.path:
            case "POST", "/auth/v1/token" if "grant_type=refresh_token" in seen.query:
                return self._refresh(seen)
            case "GET", path if path in self.drawn:
                return _reply("image/png", [self.drawn[path]], {"framing": "length"})
            case _ if not self._authorized(seen.headers.get("authorization", "")):
                return error(401, "Unauthorized")
            case "POST", "/completion" | "/ai/chat":
                return self._answer(seen, "web")
            case "POST", "/external/use/llm":
                return self._answer(seen, "llm")
            case "POST", "/external/use/knowledge-base/seek" | "/external/use/seek-knowledge":
                return self._answer(seen, "knowledge")
            case "POST", "/image_gen" | "/external/use/image/generate":
                return self._draw(seen)
            case "GET", "/models":
                return json_reply(MODELS)
            case "GET", "/external/use/knowledge-base/models":
                text = [name for name, model in MODELS.items() if "media" not in model]
                return json_reply({"models": text, "count": len(text)})
            case "GET", "/user/credits":
                policy = {"allowed_model_tiers": ["pro"]}
                grant = {"sub_type": "pro", "remain_quota": 900, "init_quota": 1000}
                trial = {"sub_type": "trial", "remain_quota": "12.5", "init_quota": "100"}
                return json_reply([grant | {"credit_policy_snapshot": policy}, trial])
            case "POST", "/file/store":
                return self._store(seen)
        return error(404, "Not Found")

    def _authorized(self, value: str) -> bool:
        bearer = value.lower().startswith("bearer ")
        match self.require_auth:
            case None:
                return True
            case "bare":
                return bool(value) and not bearer
            case "bearer":
                return bearer
            case accepted:
                return value in accepted or value.removeprefix("Bearer ") in self._issued

    def _answer(self, seen: Seen, dialect: Literal["web", "llm", "knowledge"]) -> Reply:
        try:
            payload = seen.json
            asked = _last_user_text(payload)
            model = payload.get("model") or ", ".join(payload.get("models", ()))
            reasons = "reasoner" in model or (dialect == "llm" and payload.get("thinking") is True)
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            return error(400, f"The payload makes no sense: {exc!r}")
        # chat apps have titles made of what was said before, the demo's own words among it
        wished = asked.replace(HINT, "")
        wishes = {name: int(number or 0) for name, number in KEYWORD.findall(wished)}
        if "error" in wishes:
            status = wishes["error"] or 500
            return error(status, headers={"Retry-After": "1"} if status == 429 else {})
        pieces = _demo_pieces(wishes, ANSWER.format(model=model, asked=asked[:200]))
        if reasons and pieces:
            pieces.insert(0, think(THOUGHT.format(model=model)))
        silence = float(wishes.get("silent", 0))
        if payload.get("stream", True):
            return STREAMED[dialect](silence, *pieces)
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        thought = "".join(piece.text for piece in pieces if isinstance(piece, Think))
        reply = llm_json(text, reasoning=thought) if dialect == "llm" else WHOLE[dialect](text)
        return replace(reply, delay=silence, steps=[*reply.steps, *(p for p in pieces if p is CUT)])

    def _draw(self, seen: Seen) -> Reply:
        """A picture that lies here, as the API that was asked tells of it."""
        try:
            payload = seen.json
            said, count = wanted(payload)
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration) as exc:
            return error(400, f"The payload makes no sense: {exc!r}")
        wishes = {name: int(number or 0) for name, number in KEYWORD.findall(said)}
        if "error" in wishes:
            return error(wishes["error"] or 500)
        picture = drawn(said, str(payload.get("aspect_ratio", "1:1")), count)
        path = f"/f/{hashlib.sha256(picture).hexdigest()[:16]}/demo.png"
        self.drawn[path] = picture
        url = f"{self.url}{path}"
        silence = float(wishes.get("silent", 3 * ("slow" in wishes)))
        if seen.path != "/image_gen":
            return json_reply(key_reply(url), delay=silence)
        told = list(awkward(lines() if "empty" in wishes else lines(url), 64))
        steps: list[Step] = [told[0], silence, *told[1:]]
        if "cut" in wishes:
            steps[len(steps) // 2 :] = [CUT]
        return _reply("application/x-ndjson", steps, {})

    def _refresh(self, seen: Seen) -> Reply:
        token = seen.json["refresh_token"]
        if token in self._refreshed:
            msg = "Invalid Refresh Token: Already Used"
            code = {"code": 400, "error_code": "refresh_token_already_used"}
            return json_reply({**code, "msg": msg}, status=400)
        self._refreshed.add(token)
        number = len(self._refreshed)
        claims = {"sub": "demo-user", "exp": int(time.time()) + 3600, "jti": str(number)}
        middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        access = f"eyJhbGciOiJub25lIn0.{middle}.demo"
        self._issued.add(access)
        renewed = {"access_token": access, "refresh_token": f"demo-refresh-{number}"}
        user = {"email": "demo@example.com"}
        return json_reply({**renewed, "token_type": "bearer", "expires_in": 3600, "user": user})

    def _store(self, seen: Seen) -> Reply:
        boundary = re.search(r'boundary="?([^";]+)', seen.headers.get("content-type", ""))
        for part in seen.body.split(f"--{boundary[1]}".encode()) if boundary else ():
            head, _, rest = part.partition(b"\r\n\r\n")
            if b'name="file"' in head:
                body = rest.removesuffix(b"\r\n")
                name = re.search(rb'filename="([^"]*)"', head)
                ending = PurePath(name[1].decode(errors="replace")).suffix if name else ""
                digest = hashlib.sha256(body).hexdigest()
                url = f"https://files.example/f/{digest}{ending}"
                self.files[url] = body
                return json_reply({"url": url})
        return error(400, "no file part")


class _Connection(asyncio.Protocol):
    """One caller's connection: reads a request, plays its reply, and notices when they leave."""

    transport: asyncio.Transport
    task: asyncio.Task[None]

    def __init__(self, fake: "FakeFlowith", number: int) -> None:
        self.fake = fake
        self.number = number
        self.seen: Seen | None = None
        self.reader = asyncio.StreamReader(limit=2**20)
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # "Finished" is to mean that the kernel has every byte. (high=0 stops TLS altogether.)
        transport.set_write_buffer_limits(high=1, low=0)
        self.transport = transport
        with self.fake.changing():
            self.fake.connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())
        self.task.add_done_callback(self._served)

    def data_received(self, data: bytes) -> None:
        self.reader.feed_data(data)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def eof_received(self) -> None:
        self.leave(hung_up=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave(hung_up=True)
        with self.fake.changing():
            self.fake.connections.discard(self)

    def leave(self, *, hung_up: bool) -> None:
        self._end(hung_up=hung_up)
        self.task.cancel()
        with suppress(AttributeError):  # a TLS transport that was closed twice (CPython 3.11)
            self.transport.abort()

    def _end(self, *, hung_up: bool) -> None:
        if self.seen is not None:
            with self.fake.changing():
                self.seen.end(hung_up=hung_up)
            self.seen = None

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.fake.failures.append(exc)
            self.leave(hung_up=False)

    async def _serve(self) -> None:
        going = True
        while going:
            self.seen = await self._read_request()
            reply = self.fake.answer_to(self.seen)
            if isinstance(reply, Raw):
                await self._play_steps(reply.steps)
                going = False
            else:
                close = self.seen.headers.get("connection", "").lower() == "close"
                going = await self._play(reply, close or reply.framing == "close")
            self._end(hung_up=False)
        self.transport.close()

    async def _read_request(self) -> Seen:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        fields = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = bytearray()
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
        else:
            body = bytearray(await self.reader.readexactly(int(headers.get("content-length", 0))))
        path, _, query = target.partition("?")
        return Seen(method, path, query, headers, bytes(body), self.number)

    async def _play(self, reply: Reply, close: bool) -> bool:
        """Plays a reply; whether the connection can carry another one."""
        await self._wait(reply.delay)
        self.transport.write(reply.head(close))
        chunked = reply.framing == "chunked"
        if not await self._play_steps(reply.steps, chunked):
            return False
        if chunked:
            self.transport.write(b"0\r\n\r\n")
        await self._drain()
        return not close

    async def _play_steps(self, steps: Iterable[Step], chunked: bool = False) -> bool:
        """Whether the steps came to their end."""
        for number, step in enumerate(steps, 1):
            match step:
                case Marker.CUT:
                    return False
                case Marker.ABORT:
                    self.transport.abort()
                    return False
                case Marker.DROP:
                    raw_socket = self.transport.get_extra_info("socket")
                    raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
                    self.transport.abort()
                    return False
                case bytes():
                    before, after = _wrapping(step, chunked)
                    self.transport.write(before + step + after)
                case Part(body, pause, at):
                    before, after = _wrapping(body, chunked)
                    self.transport.write(before + body[:at])
                    await self._wait(pause)
                    self.transport.write(body[at:] + after)
                case _:
                    await self._wait(step)
            await self._drain()
            if not number % 64:
                await asyncio.sleep(0)  # a long burst must not keep the other callers waiting
        return True

    async def _drain(self) -> None:
        if self.transport.is_closing():  # a write failed; connection_lost will cancel this task
            await self._wait(HANG)
        await self.writable.wait()

    async def _wait(self, seconds: float | Wait | Marker) -> None:
        if seconds is HANG:
            await asyncio.Event().wait()
        elif isinstance(seconds, Wait):
            await seconds.wait()
        elif seconds:
            assert not isinstance(seconds, Marker), "only HANG is a wait"
            await asyncio.sleep(seconds)


LINGER_0 = struct.pack("ii", 1, 0)  # close() sends RST


def _wrapping(body: bytes, chunked: bool) -> tuple[bytes, bytes]:
    return (b"%x\r\n" % len(body), b"\r\n") if chunked and body else (b"", b"")


class FakeFlowith(Demo):
    """Puts scripts and the demo on a socket, in a background thread, and keeps the records.

    After stop(), start() serves again on the same port. `keep` bounds the records. What goes wrong
    inside (a scripted function fails, a caller does not speak HTTP) closes that connection and is
    raised at the end of the with block.
    """

    def __init__(
        self,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        keep: int | None = None,
    ) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self.log: Callable[[Seen], object] = lambda seen: None
        self.connections: set[_Connection] = set()
        self.failures: list[BaseException] = []
        self._tls = tls
        self._seen: deque[Seen] = deque(maxlen=keep)
        self._queues: dict[str | None, deque[Script]] = {}
        self._repeated: dict[str | None, Script] = {}
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def requests(self) -> list[Seen]:
        with self._changed:
            return list(self._seen)

    @property
    def open_connections(self) -> int:
        return len(self.connections)

    def reply(self, *replies: Script, path: str | None = None) -> None:
        """Queues replies, for one path or for all that have none of their own."""
        with self._changed:
            self._queues.setdefault(path, deque()).extend(replies)

    def reset(self) -> None:
        """Forgets the script, the records and the demo's memory; connections stay open."""
        with self._changed:
            self.forget()
            self._seen.clear()
            self._queues.clear()
            self._repeated.clear()
            self.failures.clear()

    def close_connections(self) -> None:
        """Closes all connections under the callers' feet, idle ones too."""
        self._loop.call_soon_threadsafe(self._close_connections)
        self.wait_until(lambda: not self.connections)
        closed = threading.Event()  # asyncio lets go of a socket only behind connection_lost
        self._loop.call_soon_threadsafe(closed.set)
        closed.wait()

    def wait_for(self, requests: int, timeout: float = 5) -> list[Seen]:
        """The requests, as soon as there are so many."""
        if not self.wait_until(lambda: len(self._seen) >= requests, timeout):
            raise TimeoutError(f"{len(self._seen)} requests came, not {requests}")
        return self.requests

    def wait_until(self, condition: Callable[[], object], timeout: float = 5) -> bool:
        """Whether the condition came true; it is asked again after each change here."""
        with self._changed:
            return bool(self._changed.wait_for(condition, timeout))

    def start(self) -> Self:
        listener = socket.create_server((self.host, self.port), backlog=4096)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, ready)), name="fake", daemon=True
        )
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if self.failures:
            raise self.failures.pop(0)

    async def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(
            lambda: _Connection(self, next(self._numbers)),
            sock=listener,
            backlog=4096,
            ssl=self._tls,
            ssl_shutdown_timeout=1 if self._tls else None,
        )
        ready.set()
        await self._stopping.wait()
        server.close()
        self._close_connections()
        while self.connections:
            await asyncio.sleep(0)

    def _close_connections(self) -> None:
        for connection in list(self.connections):
            connection.leave(hung_up=False)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """For the connections: a change of the records, which wakes those who wait for one."""
        with self._changed:
            yield
            self._changed.notify_all()

    def answer_to(self, seen: Seen) -> Reply | Raw:
        """For the connections: records a request and picks the reply."""
        with self.changing():
            self._seen.append(seen)
            script = self._next_script(seen.path)
        self.log(seen)
        return script(seen) if callable(script) else script

    def _next_script(self, path: str) -> Script:
        for key in (path, None):
            if queue := self._queues.get(key):
                self._repeated[key] = queue.popleft()
            if key in self._repeated:
                return self._repeated[key]
        return self.demo


def _to_script(file: str) -> Script:
    """The script that plays a sample; a file that is refused ends the program."""
    sys.modules.setdefault("fake_flowith", sys.modules[__name__])  # as a program it is __main__
    from sample_player import Player, SampleError, read_sample

    try:
        return Player(read_sample(Path(file)))
    except SampleError as wrong:
        sys.exit(f"This sample is refused: {wrong}.")


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for Flowith, for trying things out.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--quiet", action="store_true", help="print the URL only, no requests")
    parser.add_argument("--with-parent", action="store_true", help="end when the parent does")
    parser.add_argument("--sample", metavar="FILE", help="play what a sample of Flowith holds")
    options = parser.parse_args()
    parent = os.getppid()
    fake = FakeFlowith(options.port, host=options.host, keep=100)
    if options.sample:
        fake.reply(_to_script(options.sample))
    if not options.quiet:
        fake.log = lambda seen: print(seen.method, seen.path, flush=True)
    fake.start()
    with suppress(KeyboardInterrupt):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)  # raises KeyboardInterrupt
        print(fake.url, flush=True)
        while not options.with_parent or os.getppid() == parent:
            time.sleep(0.5)
    fake.stop()


if __name__ == "__main__":
    main()
