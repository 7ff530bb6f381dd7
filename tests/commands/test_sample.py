"""`flask doctor --sample` against the stand-in: what is asked, written, and never written."""

import gzip
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import ROOT, TOKEN
from fake_flowith import HANG, FakeFlowith, Reply, Seen, error, json_reply, llm, web
from test_doctor import WEB_TOKEN

from commands.doctor import doctor
from commands.questions import QUESTIONS
from commands.sample import mark_host
from commands.sample_file import Exchange, Sample, read_sample

LLM = "/external/use/llm"
Make = Callable[..., Result]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "sample.jsonl"


@pytest.fixture
def make(fake: FakeFlowith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`make(FLOWITH_AUTH_TOKEN=...)`: a sample of the stand-in; no token may come out of it."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("FLOWITH_"):
            monkeypatch.delenv(name)

    def make_it(*options: str, said: str = "", **more: str) -> Result:
        given = {
            "API_KEY": "a-key-of-ours",
            "FLOWITH_AUTH_TOKEN": TOKEN,
            "FLOWITH_API_URL": fake.url,
            "MODELS_FILE": str(ROOT / "models.json"),
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
            **more,
        }
        options = options or ("--sample", str(tmp_path / "sample.jsonl"))
        ran = CliRunner().invoke(doctor, options, env=given, input=said)
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.output
        for file in tmp_path.iterdir():
            if file.is_file():
                assert_clean(file, *given["FLOWITH_AUTH_TOKEN"].split(","))
        return ran

    return make_it


def assert_clean(file: Path, *secrets: str) -> None:
    bodies = [one.body for one in read_sample(file).exchanges] if file.suffix == ".jsonl" else []
    for text in (file.read_bytes(), *bodies):
        for secret in secrets:
            assert secret.encode() not in text


def brief(model: str = "") -> Callable[[Seen], Reply]:
    """Short answers of all three APIs, since the stand-in's own take their time."""

    def reply(seen: Seen) -> Reply:
        if seen.method != "POST":
            return error(404)
        if seen.path == "/completion":
            return web("OK")
        if "knowledge" in seen.path:
            return Reply(200, {}, [b'data: {"tag": "final", "content": "OK"}\n\n'])
        return llm("OK")

    return reply


def only_llm(*replies: Reply | Callable[[Seen], Reply]) -> Callable[[Seen], Reply]:
    """The LLM API alone; the doctor's own question comes first, then the sample's."""
    left = [llm("OK"), *replies]

    def reply(seen: Seen) -> Reply:
        if seen.path != LLM or seen.method != "POST":
            return error(404)
        found = left.pop(0) if left else llm("OK")
        return found(seen) if callable(found) else found

    return reply


def of_llm(sample: Sample) -> list[Exchange]:
    return [one for one in sample.exchanges if one.api == "llm"]


def test_each_api_that_answers_gets_each_question(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    fake.reply(brief())
    ran = make()
    assert ran.exit_code == 0, ran.output
    sample = read_sample(target)
    names = [question.name for question in QUESTIONS]
    for api in ("web", "llm", "knowledge"):
        assert [one.call for one in sample.exchanges if one.api == api] == names
    assert ran.output.index("27 calls; 21 of them are billed") < ran.output.index("1 of 27:")
    assert ran.output.index("1 of 27: web, plain: 200") < ran.output.index("27 of 27")
    assert target.stat().st_mode & 0o777 == 0o600
    by_call = {one.call: one for one in of_llm(sample)}
    assert by_call["plain"].request["models"] == ["gpt-5.6-sol"]
    assert by_call["plain"].decoded["text"] == "OK"
    assert by_call["plain"].framing == "chunked"
    assert by_call["not streamed"].request["stream"] is False
    assert by_call["thinking"].request["thinking"] is True
    assert by_call["unknown model"].request["models"] == ["no-such-model"]
    assert by_call["system message"].request["messages"][0]["role"] == "system"
    assert by_call["tool"].request["tools"][0]["function"]["name"] == "get_weather"
    assert (by_call["plain"].form, by_call["wrong token form"].form) == ("Bearer", "bare")
    sent = [seen.headers["authorization"] for seen in fake.requests if seen.method == "POST"]
    assert set(sent) == {TOKEN, f"Bearer {TOKEN}"}


def test_an_api_that_does_not_answer_shows_how_it_says_no(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    fake.reply(only_llm())
    assert make().exit_code == 0
    told = [(one.api, one.call, one.status) for one in read_sample(target).exchanges]
    assert ("web", "plain", 404) in told
    assert [api for api, _, _ in told].count("web") == 1
    assert [api for api, _, _ in told].count("llm") == len(QUESTIONS)


def test_only_named_headers_are_written(make: Make, fake: FakeFlowith, target: Path) -> None:
    headers = {
        "Set-Cookie": "session=verysecret", "X-Request-Id": "r-1", "CF-Ray": "8a-FRA",
        "Date": "now", "Location": "/x", "Server": "edge", "Cache-Control": "no-store",
    }  # fmt: skip
    fake.reply(only_llm(llm("OK", headers=headers)))
    make()
    plain = of_llm(read_sample(target))[0]
    assert plain.headers == (
        ("Content-Type", "text/event-stream"),
        ("Server", "edge"),
        ("Cache-Control", "no-store"),
        ("Transfer-Encoding", "chunked"),
    )
    for text in ("verysecret", "r-1", "8a-FRA", "Cookie"):
        assert text not in target.read_text()


def test_what_flowith_repeats_of_the_caller_becomes_marks(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    def repeat(seen: Seen) -> Reply:
        given = seen.headers["authorization"]
        told = f'{{"error": "{given} of jane@example.com at 203.0.113.7, key a-key-of-ours"}}'
        body = told.encode()
        return Reply(401, {"Content-Type": "application/json"}, [body[:30], 0.01, body[30:]])

    fake.reply(only_llm(repeat))
    make()
    (plain, *_) = of_llm(read_sample(target))
    (first, second) = (block for _, block in plain.blocks)
    assert (len(first), plain.status) == (30, 401)
    assert (first + second).startswith(b'{"error": "Bearer xxxxxxxx')
    whole = target.read_text()
    for text in (TOKEN[4:12], "jane", "203.0", "a-key-of-ours"):
        assert text not in whole + plain.body.decode()


def test_the_account_of_a_web_login_is_masked(make: Make, fake: FakeFlowith, target: Path) -> None:
    fake.reply(brief())
    fake.reply(lambda seen: web(f"for {WEB_TOKEN.split('.')[1]}"), path="/completion")
    assert make(FLOWITH_AUTH_TOKEN=WEB_TOKEN).exit_code == 0
    plain = read_sample(target).exchanges[0]
    assert plain.token == "login"
    assert plain.body.startswith(b"for xxxx")


def test_a_secret_that_slipped_through_means_that_nothing_is_written(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    """Names of headers are not masked, so this one gets as far as the finished file."""
    fake.reply(only_llm())
    ran = make(OTHER_SECRET="Transfer-Encoding")
    assert ran.exit_code == 1
    assert re.search(r"problem +sample +line \d+ would have held a secret", ran.output)
    assert list(target.parent.iterdir()) == []


def test_a_body_in_which_nothing_can_be_masked_is_left_out(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    packed = gzip.compress(TOKEN.encode())
    fake.reply(only_llm(Reply(200, {"Content-Encoding": "gzip"}, [packed])))
    assert "compressed" in make().output
    plain = of_llm(read_sample(target))[0]
    assert (plain.blocks, plain.decoded) == ((), {})
    assert "compressed" in plain.withheld


def test_knowledge_bases_of_the_operator_are_not_asked(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    models = target.parent / "models.json"
    row = {"model": "a", "api": "knowledge", "kb_list": ["7d9f3c1e-1234-4abc-8def-00000000beef"]}
    models.write_text(json.dumps({"notes": row}))
    fake.reply(brief())
    make(MODELS_FILE=str(models))
    first, *others = (seen.json for seen in fake.requests if "knowledge" in seen.path)
    assert "kb_list" in first  # the doctor asks as the service does
    assert others
    assert not any("kb_list" in payload for payload in others)
    assert "7d9f3c1e" not in target.read_text()


def test_the_rate_limit_is_waited_for_and_both_answers_are_kept(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    fake.reply(only_llm(error(429, headers={"Retry-After": "1"})))
    assert "waiting 1 seconds" in make().output
    first, second, third = of_llm(read_sample(target))[:3]
    assert [first.call, second.call, third.call] == ["plain", "plain", "thinking"]
    assert [first.status, second.status] == [429, 200]
    assert ("Retry-After", "1") in first.headers


@pytest.mark.parametrize(
    ("options", "said", "made"),
    [
        ([], "", False),
        (["--pictures"], "n\n", False),
        (["--pictures"], "", False),
        (["--pictures"], "y\n", True),
        (["--pictures", "--yes"], "", True),
    ],
    ids=["not asked for", "no", "no answer", "yes", "agreed"],
)
def test_pictures_are_made_only_when_their_price_is_agreed(
    make: Make, fake: FakeFlowith, target: Path, options: list[str], said: str, made: bool
) -> None:
    fake.reply(brief())
    url = "https://r2-bucket.flowith.net/f/0123456789abcdef/apple.png"
    fake.reply(json_reply({"success": True, "data": {"url": url}}), path="/image_gen")
    fake.reply(json_reply({"success": True}), path="/external/use/image/generate")
    ran = make("--sample", str(target), *options, said=said)
    paths = [seen.path for seen in fake.requests if "image" in seen.path]
    assert paths == (["/image_gen", "/external/use/image/generate"] if made else [])
    if options:
        assert "2 make a picture, each for 30,000 to 100,000 credits" in ran.output
    if made:
        assert ran.output.index("100,000 credits") < ran.output.index("picture: 200")
        first = next(one for one in read_sample(target).exchanges if one.call == "picture")
        assert first.request["target_feature"] == "image_generation"
        assert b"0123456789abcdef" not in first.body


def test_a_file_that_is_there_or_cannot_be_written_costs_nothing(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    target.write_text("")
    for file in (target, target.parent / "nowhere" / "sample.jsonl"):
        ran = CliRunner().invoke(doctor, ["--sample", str(file)])
        assert ran.exit_code == 2
        assert "is there already" in ran.output or "cannot be written" in ran.output
    assert fake.requests == []


@pytest.mark.parametrize("options", [["--pictures"], ["--yes"], ["--sample", "x", "--yes"]])
def test_options_that_make_no_sense_alone_are_refused(options: list[str]) -> None:
    assert CliRunner().invoke(doctor, options).exit_code == 2


def test_where_nobody_can_be_asked_nothing_is_written(make: Make, target: Path) -> None:
    ran = make(FLOWITH_AUTH_TOKEN="")
    assert "nobody can be asked" in ran.output
    assert list(target.parent.iterdir()) == []


def test_ctrl_c_keeps_the_answers_that_were_paid_for(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    def stop(_seen: Seen) -> Reply:
        main = threading.main_thread().ident
        assert main
        signal.pthread_kill(main, signal.SIGINT)
        return Reply(delay=HANG)

    fake.reply(only_llm(llm("OK"), stop))
    ran = make(FLOWITH_AUTH_TOKEN=TOKEN)
    assert ran.exit_code == 2
    assert ran.output.endswith(f"{target} holds what had come until then.\n")
    assert [one.call for one in of_llm(read_sample(target))] == ["plain"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_the_operator_s_own_address_is_not_written(
    make: Make, fake: FakeFlowith, target: Path
) -> None:
    fake.reply(lambda seen: llm("OK") if seen.method == "POST" else error(404))
    make(FLOWITH_API_URL=f"{fake.url}/gateway/of/acme?who=jane", FLOWITH_API="llm")
    exchanges = read_sample(target).exchanges
    assert exchanges
    for one in exchanges:
        assert one.path == "/xxxxxxx/xx/xxxx?who=jane"
        assert one.host == re.sub(r"[^.]", "x", fake.url.removeprefix("http://"))


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("edge.flowith.io", "edge.flowith.io"),
        ("eu.edge.flowith.net", "eu.edge.flowith.net"),
        ("edge.flo.ing", "edge.flo.ing"),
        ("edge.flowith.io.evil.example", "xxxx.xxxxxxx.xx.xxxx.xxxxxxx"),
        ("me:pass@edge.flowith.io", "xxxxxxxxxxxx.xxxxxxx.xx"),
        ("10.0.0.7:8080", "xx.x.x.xxxxxx"),
    ],
)
def test_hosts_are_flowith_s_or_marks(host: str, told: str) -> None:
    assert mark_host(host) == told


def test_read_explains_and_refuses(target: Path) -> None:
    good = ROOT / "tests" / "data" / "stand-in-good-day.jsonl"
    told = CliRunner().invoke(doctor, ["--read", str(good)])
    assert told.exit_code == 0
    assert "llm, thinking, Bearer key: 200, clean" in told.output
    target.write_bytes(good.read_bytes()[:900])
    refused = CliRunner().invoke(doctor, ["--read", str(target)])
    assert refused.exit_code == 2
    assert f"{target}, line 2: not JSON, and it has no end" in refused.output


def test_the_json_report_stays_one_object(make: Make, fake: FakeFlowith, target: Path) -> None:
    fake.reply(only_llm())
    ran = make("--json", "--sample", str(target))
    told: dict[str, Any] = json.loads(ran.stdout)
    checks = [finding["check"] for finding in told["findings"]]
    assert checks.count("sample") == len(QUESTIONS) + 3  # web, knowledge, and the end
    assert told["requests"]["sent"] == len([s for s in fake.requests if s.method == "POST"])
