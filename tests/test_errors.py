"""What the classes of errors keep to, all of them."""

import pytest

from errors import (
    LONGEST_WAIT,
    ContextTooLong,
    Overloaded,
    ProxyError,
    RateLimited,
    UpstreamError,
)


def family(base: type[ProxyError]) -> set[type[ProxyError]]:
    """A class and all that are made from it."""
    return {base}.union(*(family(kind) for kind in base.__subclasses__()))


def test_only_what_may_heal_is_called_a_server_error() -> None:
    """Some agents go by the type and repeat a 4xx that is called so."""
    kinds = family(ProxyError)
    assert len(kinds) > 15
    for kind in kinds:
        assert (kind.type == "server_error") == (kind.status >= 500), kind


def test_whoever_finds_no_room_is_told_when_to_come_back() -> None:
    assert Overloaded("Closing down.").reply_headers() == {"Retry-After": "1"}
    assert Overloaded("x", headers={"Retry-After": "7"}).reply_headers() == {"Retry-After": "7"}
    never = {"x-should-retry": "false"}
    assert Overloaded("No token.", headers=never).reply_headers() == never


def test_only_a_limit_with_an_end_is_to_be_waited_for() -> None:
    never = {"x-should-retry": "false"}
    limit, failure = RateLimited("Slowly."), UpstreamError("Failed.")
    assert limit.reply_headers() == failure.reply_headers() == never
    limit.retry_after = failure.retry_after = 1.5
    assert limit.reply_headers() == {"Retry-After": "2"}
    assert failure.reply_headers() == never | {"Retry-After": "2"}
    limit.retry_after = LONGEST_WAIT + 1
    assert limit.reply_headers() == never | {"Retry-After": str(LONGEST_WAIT + 1)}


def test_a_conversation_that_is_too_long_is_told_in_openais_words() -> None:
    # which opencode, pi and others look for in the message, numbers and all; Copilot CLI looks
    # for the last ones, OpenAI's for Responses
    wrong = ContextTooLong("Too long.")
    assert wrong.told("req_1") == "Too long."
    wrong.count(300, 200)
    assert wrong.told("req_1") == (
        "This model's maximum context length is 200 tokens. However, your messages resulted in 300"
        " tokens. Please reduce the length of the messages: your input exceeds the context window"
        " of this model. Too long."
    )


@pytest.mark.parametrize(
    ("named", "estimate", "limit", "tokens", "most"),
    [
        (None, 300, 200, 300, 200),
        (None, 300, None, 300, 299),
        (None, 300, 1000, 300, 299),  # so the limit that is written down is not the true one
        (250, 300, 200, 300, 250),
        (400, 300, 200, 401, 400),  # so the estimate is too low
    ],
)
def test_the_numbers_of_a_conversation_that_is_too_long_fit_each_other(
    named: int | None, estimate: int, limit: int | None, tokens: int, most: int
) -> None:
    wrong = ContextTooLong("Too long.")
    wrong.most = named
    wrong.count(estimate, limit)
    assert (wrong.tokens, wrong.most) == (tokens, most)
