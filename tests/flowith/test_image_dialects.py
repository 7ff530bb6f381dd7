"""Flowith's two APIs for pictures: what goes up, and what becomes of what comes back."""

import json
from typing import Any

import pytest
from fake_images import awkward, key_reply, line, lines

import errors
from chat_request import Drawing, Prompt
from errors import EmptyAnswer, UpstreamError
from events import Done, Event, Picture
from flowith.file_address import Forbidden
from flowith.image_dialects import (
    FileLines,
    FileReply,
    costs_nothing,
    image_dialects,
    to_pixels,
    to_ratio,
)
from settings import Model

URL = "https://r2.example/f/1/cat.jpeg"
HERE = "http://127.0.0.1:9"
DIALECTS = image_dialects("")
WEB, KEY = DIALECTS["web"], DIALECTS["llm"]


def read(*blocks: bytes) -> list[Event]:
    decoder = FileLines(HERE)
    events = [event for block in blocks for event in decoder.decode(block)]
    return events + decoder.flush()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_lines_are_read_however_they_are_cut(size: int) -> None:
    assert read(*awkward(lines(URL), size)) == [Picture(URL), Done()]


@pytest.mark.parametrize(
    "told",
    [
        [{"type": "generated_file", "generatedFile": {"status": "ready", "url": URL}}],
        [{"url": URL}],
        [{"type": "done", "result": URL}],
        [{"imageUrl": URL}, {"result": "A cat."}],
        [{"resultUrl": "https://r2.example/first"}, {"resultUrl": URL}],
        [
            {"generatedFile": {"status": "ready", "url": URL}, "type": "generated_file"},
            {"url": HERE},
        ],
    ],
)
def test_the_last_file_that_is_ready_is_the_picture(told: list[dict[str, Any]]) -> None:
    assert read(*map(line, told)) == [Picture(URL), Done()]
    assert read(b"\n".join(b"data: " + line(one) for one in told)) == [Picture(URL), Done()]
    assert read(b"".join(map(line, told)).rstrip()) == [Picture(URL), Done()]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"Working on it ...\n",
        b"[1, 2]\n7\nnull\n",
        line({"type": "generated_file", "generatedFile": {"status": "pending", "url": URL}}),
        line({"type": "generated_file", "generatedFile": None}),
        line({"result": "A cat.", "url": 7, "imageUrl": ["x"]}),
        line({"code": 200, "status": "processing", "message": "Rate limits do not matter here."}),
        b'{"url": "' + URL.encode(),
    ],
)
def test_an_end_without_a_file_is_an_empty_answer(said: bytes) -> None:
    with pytest.raises(EmptyAnswer):
        read(said)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ({"error": "Your prompt was flagged"}, errors.WordsRefused),
        ({"type": "error", "error_type": "content_policy"}, errors.WordsRefused),
        ({"error": {"message": "rejected by moderation", "code": 400}}, errors.WordsRefused),
        ({"status": "failed", "message": "Insufficient credits"}, errors.OutOfCredits),
        ({"success": False, "code": "INSUFFICIENT_CREDITS"}, errors.OutOfCredits),
        ({"success": False, "error": "slow down", "code": "RATE_LIMIT"}, errors.RateLimited),
        ({"error_type": "rate_limit"}, errors.RateLimited),
        ({"success": False, "error": "no", "code": "INVALID_INPUT"}, errors.UpstreamRejected),
        ({"success": False, "code": "GENERATION_FAILED"}, UpstreamError),
        ({"error_type": "provider_error", "error": "x"}, UpstreamError),
        ({"error": {"code": 401, "message": "who are you?"}}, UpstreamError),
        ({"code": 401, "msg": "login expired"}, UpstreamError),
        ({"code": 402, "msg": "no"}, errors.OutOfCredits),
        ({"code": "429", "message": "no"}, errors.RateLimited),
        ({"statusCode": 400, "message": "no"}, errors.UpstreamRejected),
        ({"generatedFile": {"status": "failed"}}, UpstreamError),
        ({"generatedFile": {"status": "failed", "error": "content_policy"}}, errors.WordsRefused),
    ],
)
def test_an_error_in_a_200_is_one_and_costs_no_second_picture(
    frame: dict[str, Any], kind: type[UpstreamError]
) -> None:
    with pytest.raises(UpstreamError) as wrong:
        read(*lines(URL)[:-1], line(frame))
    assert type(wrong.value) is kind
    assert not costs_nothing(wrong.value)
    reply = FileReply(HERE)
    reply.decode(json.dumps({"data": {"url": URL}, **frame}).encode())
    with pytest.raises(kind):
        reply.flush()


def test_a_line_without_an_end_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="endless"):
        read(*[b"x" * 65_536] * 100)
    reply = FileReply(HERE)
    with pytest.raises(UpstreamError, match="endless"):
        list(map(reply.decode, [b"x" * 65_535 + b"\n"] * 100))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://r2.example/a", "https://localhost/a", "https://10.0.0.1/a", 7],
)
def test_a_hostile_address_is_no_picture(url: Any) -> None:
    with pytest.raises(Forbidden):
        read(*lines(url))


@pytest.mark.parametrize(
    "reply",
    [
        key_reply(URL),
        {"success": True, "data": [{"url": URL}]},
        {"data": {"url": URL, "width": 1}},
        {"url": URL},
    ],
)
def test_the_reply_to_a_key_names_the_file(reply: dict[str, Any]) -> None:
    decoder = FileReply("")
    for block in awkward([json.dumps(reply, indent=1).encode()]):
        assert decoder.decode(block) == []
    assert decoder.flush() == [Picture(URL), Done()]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"success": true, "data": []}', b"<html>"])
def test_a_reply_without_a_file_is_an_empty_answer(body: bytes) -> None:
    decoder = FileReply("")
    decoder.decode(body)
    with pytest.raises(EmptyAnswer):
        decoder.flush()


def test_what_the_web_app_s_api_is_sent() -> None:
    messages = [{"role": "user", "content": "a cat"}]
    prompt = Prompt(messages, options={"quality": "high"}, drawing=Drawing((1792, 1024)))
    sent = WEB.payload(prompt, Model("m", ("a", "b"), kind="image", sizes=("1k", "4k")), ("a", "b"))
    ids = {sent.pop("nodeId"), sent.pop("convId")}
    assert sent == {
        "target_feature": "image_generation", "model": "a", "messages": messages, "stream": True,
        "aspect_ratio": "16:9", "image_size": "1k", "quality": "high",
    }  # fmt: skip
    assert len(ids) == 2


def test_what_the_api_for_keys_is_sent() -> None:
    image = {"type": "image_url", "image_url": {"url": URL}}
    content: list[Any] = [{"type": "text", "text": "redder"}, image]
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": "..."},
        {"role": "user", "content": content},
    ]
    prompt = Prompt(messages, options={"quality": "high"}, drawing=Drawing())
    sent = KEY.payload(prompt, Model("m", ("a",), kind="image", sizes=("1k",)), ("a",))
    assert sent == {"model": "a", "prompt": "redder", "image_urls": [URL]}


@pytest.mark.parametrize(
    ("size", "ratio"),
    [((1024, 1024), "1:1"), ((1792, 1024), "16:9"), ((1024, 1792), "9:16"), ((1536, 1024), "3:2"),
     ((1280, 1024), "5:4"), ((99999, 10), "21:9"), ((512, 640), "4:5")],
)  # fmt: skip
def test_a_size_becomes_the_nearest_ratio(size: tuple[int, int], ratio: str) -> None:
    assert to_ratio(size, WEB.ratios) == ratio


def test_the_api_for_keys_knows_five_ratios() -> None:
    assert to_ratio((1536, 1024), KEY.ratios) == "4:3"


@pytest.mark.parametrize(
    ("size", "pixels"),
    [((1024, 1024), "1024x1024"), ((512, 512), "1024x1024"), ((1792, 1024), "1536x1024"),
     ((1024, 1792), "1024x1536"), ((3840, 2160), "3840x2160"), ((4096, 4096), "2880x2880")],
)  # fmt: skip
def test_a_size_becomes_the_nearest_that_is_known(size: tuple[int, int], pixels: str) -> None:
    assert to_pixels(size) == pixels


@pytest.mark.parametrize(
    ("size", "known", "name"),
    [((512, 512), ("512", "1k"), "512"), ((512, 512), ("1k",), None), ((1024, 1792), ("1k",), "1k"),
     ((2048, 2048), ("1k", "2k"), "2k"), ((3840, 2160), ("1k", "2k"), None),
     ((3840, 2160), ("4k",), "4k"), ((1024, 1024), (), None)],
)  # fmt: skip
def test_pixels_become_a_resolution_of_the_row(
    size: tuple[int, int], known: tuple[str, ...], name: str | None
) -> None:
    prompt = Prompt([{"role": "user", "content": "x"}], drawing=Drawing(size))
    sent = KEY.payload(prompt, Model("m", ("a",), kind="image", sizes=known), ("a",))
    assert sent.get("image_size") == name


@pytest.mark.parametrize(
    ("shape", "told"), [("none", None), ("pixels", "1024x1024"), ("ratio", "1:1")]
)
def test_a_row_says_how_a_shape_is_told(shape: Any, told: str | None) -> None:
    prompt = Prompt([{"role": "user", "content": "x"}], drawing=Drawing((1000, 1000)))
    sent = WEB.payload(prompt, Model("m", ("a",), kind="image", shape=shape), ("a",))
    assert sent.get("aspect_ratio") == told


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("", "https://edge.flowith.io"),
        ("http://box:9", "http://box:9"),
        ("https://me:secret@Box/deep/completion?mode=general", "https://box"),
    ],
)
def test_both_lie_on_the_host_that_the_operator_set(given: str, place: str) -> None:
    found = image_dialects(given)
    assert found["web"].url == f"{place}/image_gen"
    assert found["llm"].url == found["knowledge"].url == f"{place}/external/use/image/generate"


@pytest.mark.parametrize(
    ("status", "body", "kind", "repeated"),
    [
        (400, {"error": "against our content policy"}, errors.WordsRefused, False),
        (400, {"error": "bad size", "code": "INVALID_INPUT"}, errors.UpstreamRejected, False),
        (402, {}, errors.OutOfCredits, True),
        (500, {"error": "Insufficient credits"}, errors.OutOfCredits, True),
        (403, {"error": "policy"}, errors.UpstreamAuth, True),
        (429, {"code": "RATE_LIMIT"}, errors.RateLimited, True),
        (500, {"success": False, "code": "GENERATION_FAILED"}, UpstreamError, False),
        (503, {}, UpstreamError, True),
        (504, {}, errors.UpstreamTimeout, False),
        (524, {}, UpstreamError, False),
    ],
)
def test_a_refusal_is_repeated_only_where_nothing_can_have_been_made(
    status: int, body: dict[str, Any], kind: type[UpstreamError], repeated: bool
) -> None:
    refusal = KEY.to_refusal(status, json.dumps(body).encode(), {})
    assert type(refusal) is kind
    assert (refusal.retryable and costs_nothing(refusal)) is repeated


@pytest.mark.parametrize(("dialect", "words"), [(WEB, "/image_gen/async"), (KEY, "a web login")])
def test_an_address_that_is_gone_says_what_to_try(dialect: Any, words: str) -> None:
    refusal = dialect.to_refusal(404, b"<html>", {})
    assert isinstance(refusal, errors.UpstreamNotFound)
    assert words in refusal.message
    assert "FLOWITH_API_URL" in refusal.message


@pytest.mark.parametrize(
    ("failure", "free"),
    [(errors.UpstreamUnreachable("x"), True), (errors.UpstreamCut("x"), False),
     (errors.UpstreamTimeout("x"), False), (EmptyAnswer("x"), False)],
)  # fmt: skip
def test_only_what_never_arrived_costs_nothing(failure: UpstreamError, free: bool) -> None:
    assert costs_nothing(failure) is free
