"""Requests nobody would send: whatever comes, the answer is one of the documented ones."""

import json
from typing import Any

from conftest import HELLO, KEY
from fake_flowith import FakeFlowith, web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def test_no_request_makes_the_service_fail() -> None:
    """502 and code `unmet_requirement` is documented: the model wrote no call or no JSON."""
    with FakeFlowith() as fake:
        given_settings = {"API_KEY": KEY, "FLOWITH_AUTH_TOKEN": "t", "FLOWITH_API_URL": fake.url}
        app = create_app(Settings.from_env(given_settings))
        fake.reply(lambda seen: web('{"a": 1}'))

        @FUZZ
        @given(BODY)
        def ask(body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {KEY}"}
            response: Any = app.test_client().post(
                "/v1/chat/completions", data=raw, headers=headers
            )
            assert b"internal_error" not in response.data
            if response.status_code == 502:
                assert response.json["error"]["code"] == "unmet_requirement"
            elif response.status_code != 200:
                assert response.status_code in (400, 404)
                assert set(response.json["error"]) == {"message", "type", "param", "code"}

        ask()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_the_service_fail(raw: bytes) -> None:
    app = create_app(Settings.from_env({"API_KEY": KEY, "FLOWITH_AUTH_TOKEN": "t"}))
    headers = {"Authorization": f"Bearer {KEY}"}
    response = app.test_client().post("/v1/chat/completions", data=raw, headers=headers)
    assert response.status_code == 400
