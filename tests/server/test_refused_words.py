"""A refusal of the conversation's words names the field in which the caller's API has them."""

from typing import Any

import pytest
from conftest import MakeApi
from fake_flowith import FakeFlowith, json_reply

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("messages", {}),
    "/v1/completions": ("prompt", {"prompt": "Hi"}),
    "/v1/responses": ("input", {"input": "Hi"}),
    "/v1/images/generations": ("prompt", {"model": "gpt-image-1", "prompt": "Hi"}),
}


@pytest.mark.parametrize("code", ["context_length_exceeded", "content_policy_violation"])
@pytest.mark.parametrize("path", ASKED)
def test_a_refusal_of_words_names_the_callers_field(
    api: MakeApi, fake: FakeFlowith, path: str, code: str
) -> None:
    field, body = ASKED[path]
    fake.reply(json_reply({"error": {"code": code}}, status=400))
    refused = api().post(path, **body)
    assert refused.status_code == 400
    assert (refused.json["error"]["param"], refused.json["error"]["code"]) == (field, code)


def test_a_refusal_of_something_else_names_none(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(json_reply({"error": {"code": "odd"}}, status=400))
    refused = api().post("/v1/responses", input="Hi")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, None)
