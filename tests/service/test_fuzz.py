"""Requests nobody would send: whatever comes, the answer is one of the documented ones."""

import json
from collections.abc import Collection
from typing import Any

import pytest
from conftest import HELLO, KEY
from fake_flowith import FakeFlowith, web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats import anthropic, images, responses
from formats.chat import CHECKS, EFFECTIVE
from proxy import create_app
from settings import Settings

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({*CHECKS, *EFFECTIVE} - {"stream"}))
TEXT = st.text(max_size=10)
PART = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image_url", "file", "input_audio", "refusal", "x"])
        | JSON,
        "text": TEXT | JSON,
        "image_url": JSON | st.fixed_dictionaries({"url": TEXT | st.just("https://x.y/z")}),
        "file": JSON | st.fixed_dictionaries({"file_data": TEXT, "filename": JSON}),
    },
)
FUNCTION = st.fixed_dictionaries(
    {}, optional={"name": st.just("f") | JSON, "arguments": TEXT | JSON, "parameters": JSON}
)
CALL = st.fixed_dictionaries(
    {}, optional={"id": JSON, "type": st.just("function") | JSON, "function": FUNCTION | JSON}
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "developer", "assistant", "tool"])},
    optional={
        "content": TEXT | st.lists(PART, max_size=3) | JSON,
        "tool_calls": st.lists(CALL, max_size=2) | JSON,
        "function_call": FUNCTION | JSON,
        "tool_call_id": JSON,
        "name": JSON,
    },
)
TOOL = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["function", "custom"]) | JSON,
        "function": FUNCTION | JSON,
        "name": st.just("f") | JSON,
        "parameters": JSON,
    },
)
BODY = st.dictionaries(NAMES, JSON, max_size=3).flatmap(
    lambda odd: st.fixed_dictionaries(
        {
            "model": st.just("gpt-4.1"),
            "messages": st.lists(MESSAGE, min_size=1, max_size=3) | st.just(HELLO),
            "stream": st.booleans(),
        },
        optional={
            "tools": st.lists(TOOL, max_size=2),
            "tool_choice": st.sampled_from(["auto", "none", "required"]) | JSON,
            "response_format": st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "json_object", "json_schema"])},
                optional={"json_schema": st.fixed_dictionaries({"name": JSON, "schema": JSON})},
            ),
        },
    ).map(lambda body: {**body, **odd})
)
FUZZ = settings(max_examples=150, suppress_health_check=list(HealthCheck))


def odd(names: Collection[str], usual: Any) -> Any:
    """A usual body, in which up to three fields are anything at all."""
    chosen = st.sampled_from(sorted({*names} - {"stream"}))
    return st.tuples(usual, st.dictionaries(chosen, JSON, max_size=3)).map(
        lambda both: both[0] | both[1]
    )


ITEM = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["message", "function_call", "function_call_output", "custom_tool_call", "reasoning",
             "item_reference", "compaction", "compaction_trigger", "additional_tools",
             "shell_output"]
        ) | JSON,
    },
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | JSON,
        "content": TEXT | st.lists(PART, max_size=2) | JSON,
        "call_id": st.just("c") | JSON,
        "name": st.just("f") | JSON,
        "namespace": st.just("n") | JSON,
        "arguments": TEXT | JSON,
        "output": TEXT | st.lists(PART, max_size=2) | JSON,
        "tools": st.lists(TOOL, max_size=1) | JSON,
        "encrypted_content": st.just("summary:YQ==") | JSON,
    },
)  # fmt: skip
SPACE = st.fixed_dictionaries(
    {"type": st.just("namespace"), "name": st.just("n") | JSON}, optional={"tools": st.lists(TOOL)}
)
RESPONSE = odd(
    responses.EFFECTIVE,
    st.fixed_dictionaries(
        {
            "model": st.just("gpt-4.1"),
            "input": TEXT | st.lists(ITEM, min_size=1, max_size=3),
            "stream": st.booleans(),
        },
        optional={"tools": st.lists(TOOL | SPACE, max_size=2)},
    ),
)
SOURCE = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "content", "base64", "url"]) | JSON},
    optional={"data": TEXT | JSON, "url": TEXT, "media_type": JSON, "content": JSON},
)
BLOCK = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "image", "document", "tool_use", "tool_result", "thinking", "search_result",
             "web_search_tool_result", "tool_reference"]
        ) | JSON,
    },
    optional={
        "text": TEXT | JSON, "source": SOURCE | JSON, "id": st.just("c") | JSON, "title": JSON,
        "name": st.just("f") | JSON, "input": JSON, "tool_use_id": st.just("c") | JSON,
        "content": TEXT | JSON | st.lists(PART, max_size=2),
    },
)  # fmt: skip
ANTHROPIC = odd(
    anthropic.EFFECTIVE,
    st.fixed_dictionaries(
        {
            "model": st.just("gpt-4.1"),
            "max_tokens": st.just(99),
            "messages": st.lists(
                st.fixed_dictionaries(
                    {
                        "role": st.sampled_from(["user", "assistant", "system"]),
                        "content": TEXT | st.lists(BLOCK, max_size=3),
                    }
                ),
                min_size=1,
                max_size=3,
            ),
            "stream": st.booleans(),
        },
    ),
)
IMAGE = odd(images.EFFECTIVE, st.fixed_dictionaries({"prompt": TEXT, "stream": st.booleans()}))
LEGACY = odd({*CHECKS, "echo", "suffix"}, st.fixed_dictionaries({"prompt": TEXT | JSON}))
BODIES = {
    "/v1/chat/completions": BODY,
    "/v1/completions": LEGACY,
    "/v1/responses": RESPONSE,
    "/v1/responses/compact": RESPONSE,
    "/v1/messages": ANTHROPIC,
    "/v1/messages/count_tokens": ANTHROPIC,
    "/v1/images/generations": IMAGE,
    "/v1/images/edits": IMAGE,
}
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("path", BODIES)
def test_no_request_makes_the_service_fail(path: str) -> None:
    """502 is for a model that wrote no call or no JSON, and for a picture that is none."""
    with FakeFlowith() as fake:
        given_settings = {"API_KEY": KEY, "FLOWITH_AUTH_TOKEN": "t", "FLOWITH_API_URL": fake.url}
        app = create_app(Settings.from_env({**given_settings, "RETRY_ATTEMPTS": "1"}))
        fake.reply(lambda seen: web('{"a": 1}'))

        @FUZZ
        @given(BODIES[path])
        def ask(body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            response: Any = app.test_client().post(path, data=raw, headers=HEADERS)
            assert b"internal_error" not in response.data
            assert response.status_code in (200, 400, 404, 502), response.data
            if response.status_code != 200:
                assert {"message", "type"} <= set(response.json["error"])

        ask()


BYTES = settings(max_examples=100, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "begin", [b"", b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name="image"']
)
def test_no_bytes_make_the_service_fail(path: str, begin: bytes) -> None:
    app = create_app(Settings.from_env({"API_KEY": KEY, "FLOWITH_AUTH_TOKEN": "t"}))

    @BYTES
    @given(st.binary(max_size=60))
    def ask(raw: bytes) -> None:
        response = app.test_client().post(path, data=begin + raw, headers=HEADERS)
        assert response.status_code == 400

    ask()
