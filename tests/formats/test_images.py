"""OpenAI's images: every field of the request, as JSON and as a form, and the answer's bytes."""

import base64
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai.types as openai_types
import pytest
from conftest import ROOT
from fake_images import drawn

from chat_request import ChatRequest, Drawing
from errors import InvalidRequest, UpstreamCut
from events import Done, Event, Picture, PromptSize, Silence, Tally, Usage
from formats.images import EDITS, GENERATIONS, Images
from formats.images_answer import Envelope, stream, whole
from formats.multipart import LONGEST_HEAD, MOST_PARTS, parse_form
from settings import Settings, read_models

MODELS = read_models(ROOT / "models.json")
SETTINGS = Settings(models=MODELS, max_choices=128)
PNG, JPEG, WEBP = drawn("a"), b"\xff\xd8\xff\xe0 jpeg", b"RIFF\1\2\3\4WEBPVP8 "
BOUNDARY = "----WebKitFormBoundaryx'()+_,-./:=?"
URL = "https://r2.example/a.png"


def parse(format: Images = GENERATIONS, settings: Settings = SETTINGS, **body: Any) -> ChatRequest:
    given = {"prompt": "a cat", **body}
    return format.parse(json.dumps(given).encode(), settings)


def form(*parts: tuple[str, str | bytes], boundary: str = BOUNDARY) -> bytes:
    """A form as browsers and SDKs write it: texts, and bytes as files."""
    body = b""
    for name, content in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(content, bytes):
            head += '; filename="image.png"\r\nContent-Type: application/octet-stream'
        raw = content if isinstance(content, bytes) else content.encode()
        body += head.encode() + b"\r\n\r\n" + raw + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def images_of(chat: ChatRequest) -> list[str]:
    content = chat.conversations[0][0].content
    assert not isinstance(content, str)
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def to_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


# -- the request ------------------------------------------------------------------------------


def test_the_least_that_is_needed_is_a_prompt() -> None:
    chat = parse()
    assert chat.model == "gemini-3.1-flash-image"
    (((message,)),) = chat.conversations
    assert (message.role, message.content) == ("user", "a cat")
    assert chat.drawing == Drawing(None, inline=True)
    assert (chat.ignored, chat.options, chat.stream) == ((), {}, False)


ODD = PNG + b"\xfb\xff" * 60  # which url-safe base64 writes with - and _


@pytest.mark.parametrize("kind", ["image/png", "image/jpg", "application/octet-stream", ""])
@pytest.mark.parametrize(
    "data", [base64.encodebytes(ODD), base64.urlsafe_b64encode(ODD).rstrip(b"=")]
)
def test_base64_is_taken_as_writers_have_it(kind: str, data: bytes) -> None:
    chat = parse(image=f"data:{kind};base64,{data.decode()}")
    assert images_of(chat) == [to_url(ODD, "png")]


def test_json_in_lines_as_windows_ends_them_is_no_form() -> None:
    chat = GENERATIONS.parse(b'{"prompt": "a cat",\r\n "n": 1}\r\n', SETTINGS)
    (((message,)),) = chat.conversations
    assert message.content == "a cat"


def test_null_is_as_good_as_absent() -> None:
    names = ["model", "n", "size", "response_format", "quality", "stream", "mask", "image", "user"]
    absent: dict[str, Any] = dict.fromkeys(names)
    assert parse(**absent) == parse()


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": " \n"}, "prompt", "empty_string"),
        ({"prompt": ["a"]}, "prompt", "invalid_type"),
        ({"model": 7}, "model", "invalid_type"),
        ({"model": "gpt-4.1"}, "model", "unsupported_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 11}, "n", "integer_above_max_value"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"size": "large"}, "size", "invalid_value"),
        ({"size": "0x0"}, "size", "invalid_value"),
        ({"size": "1024x1024x3"}, "size", "invalid_value"),
        ({"size": "999999x1"}, "size", "invalid_value"),
        ({"size": 1024}, "size", "invalid_type"),
        ({"response_format": "png"}, "response_format", "invalid_value"),
        ({"quality": 1}, "quality", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"mask": "x"}, "mask", "unsupported_parameter"),
        ({"image": "http://a.b/c"}, "image", "invalid_image_url"),
        ({"image": "data:image/png;base64,@@"}, "image", "invalid_base64"),
        ({"image": to_url(b"GIF89a...", "png")}, "image", "invalid_image_format"),
        ({"image": 7}, "image", "invalid_type"),
        ({"images": [{"file_id": "file-1"}]}, "images", "missing_required_parameter"),
        ({"images": [URL] * 17}, "image", "array_above_max_length"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse(**body)
    assert (wrong.value.status, wrong.value.param, wrong.value.code) == (400, param, code)
    assert param in wrong.value.message


def test_n_stays_below_the_operator_s_limit() -> None:
    assert len(parse(n=10).conversations) == 10
    with pytest.raises(InvalidRequest, match="'n'"):
        parse(settings=Settings(models=MODELS, max_choices=2), n=3)


@pytest.mark.parametrize("given", [{"file_id": "file-1"}, {"image_url": None}, {}])
def test_who_sends_no_image_but_its_id_is_told_to_send_it(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="Send the image itself or its address"):
        parse(EDITS, images=[given])


def test_an_edit_needs_an_image() -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse(EDITS)
    assert wrong.value.param == "image"


def test_without_a_row_that_draws_a_model_must_be_named() -> None:
    with pytest.raises(InvalidRequest) as wrong:
        parse(settings=Settings(models={"gpt-4.1": MODELS["gpt-4.1"]}))
    assert wrong.value.param == "model"


@pytest.mark.parametrize(
    ("model", "given", "inline"),
    [
        ("dall-e-3", None, False), ("flowith/dall-e-3", None, False), ("gpt-image-1", None, True),
        ("openai/dall-e-3", None, False), ("DALL-E-3", None, False),
        ("openai/gpt-image-1", None, True),
        ("gemini-3-pro-image", None, True), ("no-such-row", None, True),
        ("dall-e-3", "b64_json", True), ("gpt-image-1", "url", False), ("dall-e-2", None, False),
    ],
)  # fmt: skip
def test_the_form_of_the_answer_is_as_asked_or_as_openai_has_it(
    model: str, given: str | None, inline: bool
) -> None:
    drawing = parse(model=model, response_format=given).drawing
    assert drawing is not None
    assert drawing.inline is inline


def test_a_stream_holds_the_files() -> None:
    chat = parse(model="dall-e-3", stream=True)
    assert chat.stream
    assert chat.drawing == Drawing(None, inline=True)


@pytest.mark.parametrize(("size", "wanted"), [("auto", None), ("1792x1024", (1792, 1024))])
def test_a_size_is_read(size: str, wanted: tuple[int, int] | None) -> None:
    drawing = parse(size=size).drawing
    assert drawing is not None
    assert drawing.size == wanted


def test_what_has_no_effect_is_named() -> None:
    ignored = parse(
        background="transparent", moderation="low", output_compression=50, output_format="webp",
        style="vivid", user="me", seed=7, input_fidelity="high", partial_images=2, quality="low",
        steps=20,
    ).ignored  # fmt: skip
    assert set(ignored) == {
        "background", "moderation", "output_compression", "output_format", "style", "user", "seed",
        "input_fidelity", "partial_images", "quality", "steps",
    }  # fmt: skip
    assert parse(model="seedream-v4.5", size="1024x1024").ignored == ("size",)
    assert parse(model="seedream-v4.5", size="auto").ignored == ()


@pytest.mark.parametrize("quality", ["high", "hd"])
def test_high_quality_goes_up(quality: str) -> None:
    chat = parse(quality=quality)
    assert (chat.options, chat.ignored) == ({"quality": "high"}, ())


@pytest.mark.parametrize(
    "body",
    [
        {"image": URL}, {"image": [URL]}, {"images": [URL]}, {"images": [{"image_url": URL}]},
        {"images": [{"type": "image_url", "image_url": {"url": URL}}]},
    ],
)  # fmt: skip
def test_images_in_json_come_in_several_ways(body: dict[str, Any]) -> None:
    assert images_of(parse(EDITS, **body)) == [URL]


@pytest.mark.parametrize(("model", "inline"), [("dall-e-3", True), ("dall-e-2", False)])
def test_an_edit_is_a_file_but_for_the_one_old_model_that_edits(model: str, inline: bool) -> None:
    """The AI SDK reads nothing else, and never says what it wants."""
    drawing = parse(EDITS, image=URL, model=model).drawing
    assert drawing is not None
    assert drawing.inline is inline


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]"])
def test_an_edit_comes_as_a_form(name: str) -> None:
    raw = form(
        ("prompt", "make it red, größer"), ("model", "gpt-image-1"), ("n", "2"), ("stream", "true"),
        ("size", "1024x1536"), ("user", ""), ("input_fidelity", "high"),
        (name, PNG), (name, JPEG), (name, WEBP),
    )  # fmt: skip
    chat = EDITS.parse(raw, SETTINGS)
    assert len(chat.conversations) == 2
    assert chat.conversations[0][0].content[0] == {"type": "text", "text": "make it red, größer"}
    assert images_of(chat) == [to_url(PNG, "png"), to_url(JPEG, "jpeg"), to_url(WEBP, "webp")]
    assert (chat.model, chat.stream, chat.ignored) == ("gpt-image-1", True, ("input_fidelity",))
    assert chat.drawing == Drawing((1024, 1536), inline=True)
    for word, streams in (("false", False), ("False", False), ("True", True)):
        other = form(("prompt", "a"), ("stream", word), (name, PNG))
        assert EDITS.parse(other, SETTINGS).stream is streams


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([("prompt", "a"), ("image", b"%PDF-1.7")], "image"),
        ([("prompt", "a"), ("image", PNG), ("mask", PNG)], "mask"),
        ([("image", PNG)], "prompt"),
        ([("prompt", "a"), ("image", PNG), ("n", "many")], "n"),
        ([("prompt", "a"), ("photo", PNG)], "image"),
        ([("prompt", "a"), ("image", "http://a.b/c.png")], "image"),
        ([("prompt", "a"), ("image[]", "PNG")], "image"),
        ([("prompt", "a"), ("image", PNG), ("stream", "yes")], "stream"),
        ([("prompt", "a"), ("image", PNG + bytes(20_971_520))], "image"),
        ([("prompt", "a"), *[("image[]", PNG)] * 17], "image"),
    ],
)
def test_a_wrong_field_of_a_form_is_named(parts: list[tuple[str, Any]], param: str) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        EDITS.parse(form(*parts), SETTINGS)
    assert wrong.value.param == param


@pytest.mark.parametrize(
    "raw",
    [
        b"--x", b"--x\r\n", b"--\r\n", form(("prompt", "a"))[:-30], b"--" + b"x" * 500 + b"\r\n",
        form(*[("a", "b")] * 300), b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--\r\n",
        b"--x\r\n" + b"A: b\r\n" * 9999,
    ],
)  # fmt: skip
def test_a_broken_form_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        EDITS.parse(raw, SETTINGS)


def test_a_form_may_have_so_many_parts_and_no_more() -> None:
    parts = [(f"a{i}", "b") for i in range(MOST_PARTS)]
    assert len(parse_form(form(*parts)).texts) == MOST_PARTS
    with pytest.raises(InvalidRequest, match=f"more than {MOST_PARTS} parts"):
        parse_form(form(*parts, ("prompt", "a")))


def test_a_part_with_an_endless_head_is_refused() -> None:
    head = "Content-Disposition: form-data; name=a\r\n" + "A: b\r\n" * LONGEST_HEAD
    endless = f"--{BOUNDARY}\r\n{head}\r\nb\r\n--{BOUNDARY}--\r\n"
    with pytest.raises(InvalidRequest, match="is broken"):
        parse_form(endless.encode())


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n" * 4_000_000, b"\r\n--" * 2_000_000, b"\r\n-" * 2_500_000, b"-" * 8_000_000,
        (b"\r\n--" + BOUNDARY.encode()[:-1]) * 200_000, b"\r" * 8_000_000,
        random.Random(1).randbytes(8_000_000),
    ],
    ids=["line ends", "dashes", "half", "only dashes", "nearly", "returns", "noise"],
)  # fmt: skip
def test_a_form_is_read_in_step_with_its_size(content: bytes) -> None:
    """8 MB that look like boundaries: a parser that looks again and again takes minutes."""
    started = time.process_time()
    parsed = parse_form(form(("image", content), ("prompt", "a")))
    assert time.process_time() - started < 4
    assert parsed.files == [("image", content)]
    assert parsed.texts == [("prompt", "a")]


# -- the answer -------------------------------------------------------------------------------

FILE = Picture(URL, base64.b64encode(PNG), "png")
EVENTS: list[Event] = [PromptSize(7), Silence(), FILE, Usage(7, 30), Done()]


def envelope(inline: bool = True) -> Envelope:
    return Envelope("req_1", 1_700_000_000, "image_generation", inline, "auto")


def read(blocks: bytes) -> list[tuple[str, Any]]:
    events = [part for part in blocks.decode().split("\n\n") if part]
    pairs = [[line for line in one.split("\n") if not line.startswith(":")] for one in events]
    return [(name.removeprefix("event: "), json.loads(data[6:])) for name, data in pairs]


def test_a_whole_answer_is_what_openai_s_client_reads() -> None:
    told = json.loads(whole(EVENTS, envelope(), Tally()))
    answer = openai_types.ImagesResponse.model_validate(told)
    assert answer.data is not None
    assert [one.b64_json for one in answer.data] == [FILE.data.decode()]
    assert told["data"] == [{"b64_json": FILE.data.decode()}]
    assert (answer.created, answer.output_format) == (1_700_000_000, "png")
    assert answer.usage is not None
    assert answer.usage.input_tokens == 7
    assert "null" not in json.dumps(told)


def test_an_answer_has_either_addresses_or_files() -> None:
    events = [Picture(URL), Picture('https://r2.example/"')]
    told = json.loads(whole(events, envelope(inline=False), Tally()))
    assert told["data"] == [{"url": URL}, {"url": 'https://r2.example/"'}]
    assert "output_format" not in told


def test_a_stream_has_a_completed_event_for_each_picture() -> None:
    tally = Tally()
    events: list[Event] = [*EVENTS, FILE, Done()]
    blocks = list(stream(iter(events), replace(envelope(), pictures=2), tally))
    assert blocks[0] == b": ping\n"
    found = read(b"".join(blocks))
    assert [name for name, _ in found] == ["image_generation.completed"] * 2
    told = openai_types.ImageGenCompletedEvent.model_validate(found[0][1], strict=True)
    assert told.b64_json == FILE.data.decode()
    assert told.usage.input_tokens == 7
    assert tally.heartbeats == 1


def test_a_fault_after_a_picture_is_told_in_the_stream() -> None:
    def events() -> Iterator[Event]:
        yield FILE
        raise UpstreamCut("It broke off.")

    blocks: list[bytes] = []
    with pytest.raises(UpstreamCut):
        blocks.extend(stream(events(), envelope(), Tally()))
    found = []
    work = stream(events(), envelope(), Tally())
    found.append(next(work))
    found.append(next(work))
    assert read(b"".join(found))[1][1]["error"]["code"] == "upstream_cut"
    with pytest.raises(UpstreamCut):
        next(work)


def test_a_fault_before_anything_is_left_to_the_status() -> None:
    def events() -> Iterator[Event]:
        yield PromptSize(7)
        raise UpstreamCut("It broke off.")

    with pytest.raises(UpstreamCut):
        next(stream(events(), envelope(), Tally()))
