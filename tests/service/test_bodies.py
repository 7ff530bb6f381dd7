"""Compressed bodies, and the addresses and names of models that clients use in place of ours."""

import gzip
import json
import re
import tracemalloc
import zlib
from typing import Any

import pytest
from conftest import HELLO, KEY, MakeApi
from fake_flowith import FakeFlowith, json_reply, web

BODY = json.dumps({"model": "gpt-4.1", "messages": HELLO}).encode()
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def send(api: Any, body: bytes, coding: str) -> Any:
    headers = {**HEADERS, "Content-Encoding": coding}
    return api.client.post("/v1/chat/completions", data=body, headers=headers)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("X-Gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", bare(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
    ids=["gzip", "x-gzip", "zlib", "bare deflate", "identity", "empty"],
)
def test_a_compressed_body_is_unpacked(
    api: MakeApi, fake: FakeFlowith, coding: str, body: bytes
) -> None:
    fake.reply(web("Hi"))
    assert send(api(), body, coding).json["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_cut_or_something_else_is_told(api: MakeApi, coding: str) -> None:
    packed = gzip.compress(BODY) if coding == "gzip" else zlib.compress(BODY)
    for body in (packed[:-1], packed[:20], packed + b"more", BODY, b""):
        response = send(api(), body, coding)
        assert response.status_code == 400
        assert "Content-Encoding" in response.json["error"]["message"]


def test_no_more_is_unpacked_than_a_body_may_have(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("Hi"))
    spaces = b" " * (104_858 - len(BODY))
    ours = api(MAX_BODY_MB="0.1")
    for body, status in [(spaces[1:] + BODY, 200), (spaces + BODY, 413), (b" " * 10**8, 413)]:
        for packed, coding in [(gzip.compress(body), "gzip"), (zlib.compress(body), "deflate")]:
            assert send(ours, packed, coding).status_code == status


def test_a_bomb_is_not_unpacked_to_be_measured(api: MakeApi) -> None:
    ours = api(MAX_BODY_MB="1")
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        assert send(ours, bomb, "gzip").status_code == 413
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_other_codings_are_named_with_what_helps(api: MakeApi) -> None:
    for coding, words in [("br", "'br'"), ("zstd", "enable_request_compression=false")]:
        response = send(api(), b"x", coding)
        wrong = response.json["error"]
        assert (response.status_code, wrong["code"]) == (415, "unsupported_encoding")
        assert words in wrong["message"]
        assert "gzip or deflate" in wrong["message"]


ADDRESSES = [
    "/v1/chat/completions/chat/completions",
    "/v1/chat/completions/v1/chat/completions",
    "/v1/completions/chat/completions",
    "/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21",
    "/v1/deployments/gpt-4.1/chat/completions/",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_an_address_that_was_pasted_whole_is_understood(
    api: MakeApi, fake: FakeFlowith, path: str
) -> None:
    fake.reply(web("Hi"))
    client: Any = api().client
    response = client.post(path, data=BODY, headers=HEADERS)
    assert response.json["choices"][0]["message"]["content"] == "Hi"


def test_lists_are_found_behind_an_endpoint_too(api: MakeApi) -> None:
    client: Any = api().client
    for path in ("/v1/chat/completions/models", "/v1/messages/v1/models", "/v1/responses/models"):
        assert client.get(path, headers=HEADERS).json["object"] == "list"


def test_an_address_of_azures_kind_names_the_model(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("Hi"))
    client: Any = api().client
    body: dict[str, Any] = {"messages": HELLO}
    path = "/openai/deployments/gpt-4.1-mini/chat/completions"
    for given, used in [({}, "gpt-4.1-mini"), ({"model": "gpt-4.1"}, "gpt-4.1")]:
        answer = client.post(path, json=body | given, headers=HEADERS).json
        assert answer["model"] == used
        assert fake.requests[-1].json["model"] == used
    legacy = "/openai/deployments/gpt-4.1/completions"
    assert client.post(legacy, json={"prompt": "a"}, headers=HEADERS).json["model"] == "gpt-4.1"
    url = "https://r2.example/f/cat.png"
    fake.reply(json_reply({"url": url}), path="/image_gen")
    asked: dict[str, Any] = {"prompt": "a cat", "response_format": "url", "image": url}
    for kind in ("generations", "edits"):
        drawing = f"/openai/deployments/gemini-3-pro-image/images/{kind}"
        drawn = client.post(drawing, json=asked, headers=HEADERS)
        assert drawn.json["data"] == [{"url": url}]
        assert fake.requests[-1].json["model"] == "gemini-3-pro-image"
    wrong = client.post(path.replace("gpt-4.1-mini", "no"), json=body, headers=HEADERS)
    assert (wrong.status_code, wrong.json["error"]["code"]) == (404, "model_not_found")
    client.post(path, json=body, headers=HEADERS, buffered=True)  # closed, and so counted
    told = client.get("/metrics", headers=HEADERS).text
    (line,) = re.findall(r"^flowith_proxy_requests_total.*$", told, re.MULTILINE)
    assert 'format="chat"' in line
