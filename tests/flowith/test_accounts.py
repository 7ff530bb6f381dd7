"""Accounts at work: choice, rest, and the images an account stores."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApi
from fake_flowith import FakeFlowith, error, json_reply, llm, web

import errors
from errors import Overloaded, RateLimited
from flowith import uploads
from flowith.accounts import Accounts

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 50


def data_url(end: bytes = b"") -> str:
    """An image; by another end it is another one."""
    return "data:image/png;base64," + base64.b64encode(PNG + end).decode()


def refused(kind: type[errors.UpstreamError], status: int | None = None) -> errors.UpstreamError:
    refusal = kind("no")
    refusal.upstream_status = status
    return refusal


def test_the_account_with_the_fewest_calls_is_chosen() -> None:
    accounts = Accounts(["web", "flo_a", "flo_b"])
    first, second = accounts.take("llm", "m"), accounts.take("llm", "m")
    assert {first.token, second.token} == {"flo_a", "flo_b"}
    assert accounts.take("web", "m").token == "web"
    accounts.give_back(second)
    assert accounts.take("llm", "m") is second
    assert accounts.take(None, "m", [second]).token != second.token
    fresh = Accounts(["web", "flo_a"])
    assert [fresh.take(None, "m").token for _ in "12"] == ["web", "flo_a"]


def test_accounts_of_the_other_kind_do_where_there_is_no_right_one() -> None:
    assert Accounts(["web"]).take("llm", "m").token == "web"
    with pytest.raises(Overloaded) as wrong:
        Accounts([]).take(None, "m")
    assert wrong.value.reply_headers()["x-should-retry"] == "false"


Refusal = tuple[type[errors.UpstreamError], int | None, str]
RESTS: dict[str, tuple[list[Refusal], str]] = {
    "a wrong token rests for all models": ([(errors.UpstreamAuth, 401, "m")], "mno"),
    "a login that cannot be renewed, too": ([(errors.UpstreamAuth, None, "m")], "mno"),
    "a model that is forbidden rests alone": ([(errors.UpstreamAuth, 403, "m")], "m"),
    "so does one without credits": ([(errors.OutOfCredits, 402, "m")], "m"),
    "and one asked too often": ([(errors.RateLimited, 429, "m")], "m"),
    "a model without credits that is asked again, too": (
        [(errors.OutOfCredits, 402, "m"), (errors.OutOfCredits, 402, "m")], "m"),
    "a second model makes it the account's": (
        [(errors.OutOfCredits, 402, "m"), (errors.UpstreamAuth, 403, "n")], "mno"),
    "two models asked too often do not": (
        [(errors.RateLimited, 429, "m"), (errors.RateLimited, 429, "n")], "mn"),
    "nor one asked too often and one without credits": (
        [(errors.RateLimited, 429, "m"), (errors.OutOfCredits, 402, "n")], "mn"),
    "words that a firewall refused rest nobody": ([(errors.WordsRefused, 403, "m")], ""),
    "a failure of Flowith's rests nobody": ([(errors.UpstreamError, 500, "m")], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", RESTS)
def test_what_rests_is_what_was_refused(name: str) -> None:
    refusals, resting = RESTS[name]
    accounts = Accounts(["a", "b"])
    first, second = accounts.all
    for kind, status, model in refusals:
        accounts.settle(first, model, refused(kind, status))
    for model in "mno":
        taken = accounts.take(None, model)
        assert taken is (second if model in resting else first), model
        accounts.give_back(taken)
    assert accounts.healthy() == (1 if resting == "mno" else 2)


def test_the_last_account_is_asked_though_it_rests() -> None:
    accounts = Accounts(["a"])
    for kind, status in ((errors.OutOfCredits, 402), (errors.RateLimited, 429)):
        accounts.settle(accounts.all[0], "m", refused(kind, status))
        assert accounts.take(None, "m") is accounts.all[0]
        assert not accounts.others(None, "m", [])


def test_a_rest_ends_by_time_and_by_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0  # a clock of its own: the sums below are exact only for round numbers
    monkeypatch.setattr(time, "monotonic", lambda: now)
    accounts = Accounts(["a", "b"])
    first, second = accounts.all
    limited = RateLimited("slow down")
    limited.retry_after = 5
    for account in accounts.all:
        accounts.settle(account, "m", limited)
    with pytest.raises(RateLimited) as wrong:
        accounts.take(None, "m")
    assert wrong.value.retry_after == 5
    assert accounts.take(None, "other") is first
    now += 5
    assert accounts.healthy() == 2
    accounts.settle(second, "m", refused(errors.UpstreamAuth, 401))
    assert accounts.healthy() == 1
    accounts.settle(second, "other", None)
    assert accounts.healthy() == 2
    accounts.settle(second, "m", refused(errors.UpstreamAuth, 401))
    now += 300
    assert accounts.healthy() == 2


def test_an_answer_ends_the_rest_of_its_model() -> None:
    accounts = Accounts(["a"])
    limited = RateLimited("slow down")
    limited.retry_after = 60
    accounts.settle(accounts.all[0], "m", limited)
    accounts.settle(accounts.all[0], "other", None)
    with pytest.raises(RateLimited):
        accounts.take(None, "m")
    accounts.settle(accounts.all[0], "m", None)
    assert accounts.take(None, "m") is accounts.all[0]


def test_a_rest_that_is_over_says_nothing_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    accounts = Accounts(["a"])
    only = accounts.all[0]
    accounts.settle(only, "m", refused(errors.OutOfCredits, 402))
    now += 300
    accounts.settle(only, "n", refused(errors.OutOfCredits, 402))
    assert accounts.healthy() == 1


def picture(url: str = data_url()) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
    return [{"role": "user", "content": parts}]


def test_an_image_is_stored_once_and_sent_by_its_address(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("x"), path="/completion")
    ours = api()
    for _ in range(2):
        response = ours.post(messages=[*picture(), {"role": "user", "content": "And?"}])
        assert response.status_code == 200
    stored = [s for s in fake.requests if s.path == "/file/store"]
    assert len(stored) == 1
    assert list(fake.files.values()) == [PNG]
    sent = fake.requests[-1].json["messages"][0]["content"]
    assert sent[0] == {"type": "text", "text": "What is it?"}
    assert sent[1] == {"type": "image_url", "image_url": {"url": next(iter(fake.files))}}
    assert stored[0].headers["authorization"] == fake.requests[-1].headers["authorization"]


def test_the_images_that_were_sent_last_are_remembered(
    api: MakeApi, fake: FakeFlowith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "KEPT", 2)
    fake.reply(web("x"), path="/completion")
    ours = api()
    for end in (b"1", b"2", b"1", b"3", b"1", b"2"):
        assert ours.post(messages=picture(data_url(end))).status_code == 200
    assert [s.path for s in fake.requests].count("/file/store") == 4  # 2 had to make room for 3


def test_no_image_can_hold_what_ends_it_on_its_way(api: MakeApi, fake: FakeFlowith) -> None:
    """What parts a form is drawn anew each time: who knew it could put parts of their own in."""
    fake.reply(web("x"), path="/completion")
    ours = api()
    for end in (b"one", b"two"):
        ours.post(messages=picture(data_url(end)))
    parted = [s.headers["content-type"] for s in fake.requests if s.path == "/file/store"]
    assert len(set(parted)) == 2


@pytest.mark.parametrize("said", [{}, [], {"url": 7}, {"url": "http://a.example/b.png"}])
def test_a_store_that_does_not_say_where_an_image_is_is_an_error(
    api: MakeApi, fake: FakeFlowith, said: object
) -> None:
    fake.reply(json_reply(said), path="/file/store")
    response = api(RETRY_ATTEMPTS="1").post(messages=picture(data_url(b"lost")))
    assert response.status_code == 502
    assert "file store" in response.json["error"]["message"]
    assert [s.path for s in fake.requests] == ["/file/store"]


def test_an_address_is_passed_on_and_never_fetched(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(web("x"))
    url = fake.url.replace("http:", "https:") + "/private"
    api().post(messages=picture(url))
    assert [s.path for s in fake.requests] == ["/completion"]
    assert fake.requests[0].json["messages"][0]["content"][1]["image_url"]["url"] == url


def test_an_image_that_cannot_be_stored_is_an_error(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(error(500), path="/file/store")
    response = api(RETRY_ATTEMPTS="1").post(messages=picture(data_url(b"other")))
    assert response.status_code == 502
    assert [s.path for s in fake.requests] == ["/file/store"]


def test_a_key_the_file_store_does_not_know_goes_on_working(
    api: MakeApi, fake: FakeFlowith
) -> None:
    fake.reply(error(401), path="/file/store")
    fake.reply(llm("Hi"), path="/external/use/llm")
    ours = api(FLOWITH_AUTH_TOKEN="flo_0123456789abcdef")
    refused = ours.post(messages=picture(data_url(b"third")))
    assert refused.status_code == 400
    assert refused.json["error"]["param"] == "messages"
    assert "could not process image" in refused.json["error"]["message"]  # Claude Code's cue
    assert ours.post().status_code == 200


def test_a_model_without_eyes_refuses_images(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"gpt-4.1": {"model": "x", "images": false}}')
    response = api(MODELS_FILE=str(file)).post(messages=picture())
    assert response.status_code == 400
    assert response.json["error"]["param"] == "messages[0].content"
    assert not fake.requests
