"""An answer of thoughts alone is none, in every API that callers speak."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import MakeApi
from fake_flowith import FakeFlowith, Reply, llm, think, web

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}},
}
PROPER_ENDS = ('"finish_reason":"stop"', '"status":"completed"', '"stop_reason":"end_turn"')
Answers = Callable[..., Reply]


@pytest.fixture(params=[web, llm], ids=["web", "llm"])
def answers(request: pytest.FixtureRequest) -> Answers:
    """How Flowith's API writes answers; on the web API thoughts stand in the text."""
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ASKED)
def test_thoughts_alone_are_asked_for_once_more(
    api: MakeApi, fake: FakeFlowith, answers: Answers, path: str, stream: bool
) -> None:
    ours = api(FLOWITH_API=answers.__name__, RETRY_ATTEMPTS="2")
    thoughts = answers(think("Hm"), 0.1)
    fake.reply(thoughts, answers("tea"))
    answered = ours.post(path, stream=stream, **ASKED[path])
    assert answered.status_code == 200
    assert "tea" in answered.text
    assert any(end in answered.text for end in PROPER_ENDS)
    assert len(fake.requests) == 2

    fake.reply(thoughts)
    failed = ours.post(path, stream=stream, **ASKED[path])
    assert failed.status_code == 502 or stream
    assert '"error":{' in failed.text
    assert not any(end in failed.text for end in PROPER_ENDS)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_who_hears_no_thoughts_gets_a_status(
    api: MakeApi, fake: FakeFlowith, answers: Answers, stream: bool
) -> None:
    """Nothing has left for the caller, so that a stream does not begin."""
    fake.reply(answers(think("Hm"), 0.1))
    failed = api(FLOWITH_API=answers.__name__, REASONING_FORMAT="hide").post(stream=stream)
    assert failed.status_code == 502
    assert failed.json["error"]["code"] == "empty_response"
    assert len(fake.requests) >= 2
