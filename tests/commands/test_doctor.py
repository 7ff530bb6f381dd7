"""`flask doctor` against the stand-in, which stands behind the names of Flowith's real hosts."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner
from conftest import PACKAGES, ROOT, TOKEN, MakeApi
from fake_flowith import (
    HANG,
    FakeFlowith,
    Reply,
    Seen,
    error,
    json_reply,
    knowledge,
    llm,
    web,
)
from gate import Gate

import errors
from commands.doctor import doctor
from commands.outcomes import OUTCOMES
from commands.probe import KNOWN, addresses, rows_for
from commands.reach import side_by_side
from errors import DOCTOR
from settings import Model, read_models

REMEDIES = [outcome.remedy for outcome in OUTCOMES.values() if outcome.remedy]
IO, NET, ING = "edge.flowith.io", "edge.flowith.net", "edge.flo.ing"
FIRST, SECOND = (
    row.upstream[0] for row in rows_for(read_models(ROOT / "models.json").values(), "llm", None)
)
LLM_PATH, SEEK = "/external/use/llm", "/external/use/knowledge-base/seek"


def jwt(ends: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{claims}.c2lnbmF0dXJl"


WEB_TOKEN = jwt(4_000_000_000)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def flowith(authority: trustme.CA) -> Iterator[FakeFlowith]:
    """The stand-in, over TLS, with a certificate for Flowith's hosts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(IO, NET, ING).configure_cert(context)
    with FakeFlowith(tls=context) as fake:
        yield fake


@pytest.fixture
def gate(flowith: FakeFlowith) -> Iterator[Gate]:
    with Gate(flowith.port, {IO, NET, ING}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class Outcome:
    """What one run of the doctor said."""

    def __init__(self, status: int, output: str) -> None:
        self.status, self.output = status, output

    def lines(self, check: str, *words: str) -> list[str]:
        """The lines of a check that hold these words."""
        found = [line for line in self.output.splitlines() if line[9:].startswith(f"{check} ")]
        return [line for line in found if all(word in line for word in words)]

    def mark(self, check: str, *words: str) -> str:
        (line,) = self.lines(check, *words)
        return line.split()[0]

    @property
    def env(self) -> dict[str, str]:
        """The lines that are to be put into .env."""
        found = re.findall(r"^([A-Z_]+)=(.*)$", self.output, re.MULTILINE)
        return dict(found)


Run = Callable[..., Outcome]


@pytest.fixture
def environ(gate: Gate, authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """An environment in which every way out leads through the gate."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    return {
        "API_KEY": "a-key",
        "MODELS_FILE": str(ROOT / "models.json"),
        "HTTPS_PROXY": f"http://127.0.0.1:{gate.server_address[1]}",
        "NO_PROXY": "127.0.0.1,localhost,.invalid",
        "REQUESTS_CA_BUNDLE": str(bundle),
    }


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("--all", FLOWITH_AUTH_TOKEN=...)`: the doctor in an environment of its own. Whatever it
    is asked to do, no token may come out of it."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("FLOWITH_"):
            monkeypatch.delenv(name)

    def run_it(*options: str, **more: str) -> Outcome:
        given = {**environ, "FLOWITH_AUTH_TOKEN": TOKEN, **more}
        ran = CliRunner().invoke(doctor, options, env=given)
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        for name in ("FLOWITH_AUTH_TOKEN", "FLOWITH_REFRESH_TOKEN"):
            for secret in given.get(name, "").split(","):
                assert not secret or secret not in ran.output
        return Outcome(ran.exit_code, ran.output)

    return run_it


def posts(fake: FakeFlowith) -> list[Seen]:
    return [seen for seen in fake.requests if seen.method == "POST"]


def at_host(fake: FakeFlowith, *hosts: str) -> Callable[[Seen], Reply]:
    """Flowith at these hosts only; the others know nothing any more."""
    return lambda seen: fake.demo(seen) if seen.headers["host"] in hosts else error(404)


def test_all_is_well_with_one_request_for_each_api(run: Run, flowith: FakeFlowith) -> None:
    found = run()
    assert found.status == 0, found.output
    assert "All is well" in found.output
    assert found.env == {}
    assert {seen.path for seen in posts(flowith)} == {"/completion", LLM_PATH, SEEK}
    assert len(posts(flowith)) == 3
    for seen in posts(flowith):
        assert seen.json["messages"] == [{"role": "user", "content": "Say OK."}]
        assert seen.json["stream"] is True
        assert seen.json.get("max_tokens", 16) == 16
    assert found.output.index("up to 27 small requests") < found.output.index("worked")
    assert "billed" in found.output
    assert found.mark("account", LLM_PATH, "Bearer") == "ok"


def test_checks_come_in_their_order(run: Run) -> None:
    marks = [line[9:].split()[0] for line in run().output.splitlines() if line.startswith("ok ")]
    assert list(dict.fromkeys(marks)) == [
        "settings", "models", "state", "proxy", "connect", "login", "account",
    ]  # fmt: skip
    names = run(FLOWITH_API_URL="http://localhost:1").lines("dns", "localhost")
    assert names == ["ok       dns       http://localhost:1 is 127.0.0.1"] or "::1" in names[0]


def test_a_host_that_moved_is_found_and_the_line_for_env_told(
    run: Run, flowith: FakeFlowith
) -> None:
    flowith.reply(at_host(flowith, NET))
    found = run()
    assert found.status == 1
    assert found.mark("account", f"https://{IO}{LLM_PATH}", FIRST) == "note"
    assert found.mark("account", f"https://{IO}{LLM_PATH}", SECOND, "404") == "problem"
    assert found.mark("account", f"https://{NET}{LLM_PATH}") == "ok"
    assert found.env == {"FLOWITH_API_URL": f"https://{NET}"}


def test_an_address_in_the_settings_that_is_no_longer_right_is_taken_out(
    run: Run, flowith: FakeFlowith
) -> None:
    flowith.reply(at_host(flowith, IO))
    found = run(FLOWITH_API_URL=f"https://{NET}")
    assert found.status == 1
    assert found.env == {"FLOWITH_API_URL": ""}


def test_a_path_that_moved_is_found_at_the_operator_s_host(
    run: Run, fake: FakeFlowith, gate: Gate
) -> None:
    fake.reply(error(404))
    fake.reply(knowledge("OK."), path="/external/use/seek-knowledge")
    gate.open = set()
    found = run(FLOWITH_API_URL=fake.url, FLOWITH_API="knowledge")
    assert found.status == 1
    assert found.env == {"FLOWITH_API_URL": f"{fake.url}/external/use/seek-knowledge"}


@pytest.mark.parametrize("path", ["", LLM_PATH], ids=["host", "whole url"])
def test_the_wrong_dialect_is_told_and_the_right_one_named(
    run: Run, fake: FakeFlowith, gate: Gate, path: str
) -> None:
    fake.reply(error(403), path="/completion")
    gate.open = set()
    found = run(FLOWITH_API_URL=fake.url + path, FLOWITH_API="web")
    assert found.status == 1
    assert found.env == {"FLOWITH_API": "auto"}
    flaw = "another API is at this address" if path else "refused the token (403)"
    assert flaw in found.lines("account", "problem")[0]


def test_a_token_that_is_taken_in_its_other_form_is_well(run: Run, flowith: FakeFlowith) -> None:
    flowith.require_auth = "bearer"
    found = run(FLOWITH_AUTH_TOKEN=WEB_TOKEN)
    assert found.status == 0, found.output
    assert found.mark("account", "/completion (bare", "refused") == "note"
    assert found.mark("account", "/completion (Bearer", "worked") == "ok"
    sent = [seen.headers["authorization"] for seen in posts(flowith) if seen.path == "/completion"]
    assert sent == [WEB_TOKEN, f"Bearer {WEB_TOKEN}"]


def test_a_login_that_has_ended_is_told_before_any_request(run: Run, flowith: FakeFlowith) -> None:
    found = run(FLOWITH_AUTH_TOKEN=jwt(1_700_000_000))
    assert found.status == 1
    assert found.mark("login", "ended 2023-11-14 22:13 UTC") == "problem"
    assert "sign in at Flowith again" in found.output
    assert posts(flowith) == []


def test_a_login_that_can_be_renewed_is_left_to_the_service(
    run: Run, fake: FakeFlowith, tmp_path: Path
) -> None:
    given = {
        "FLOWITH_AUTH_TOKEN": jwt(1_700_000_000),
        "FLOWITH_REFRESH_TOKEN": "a-refresh-token-that-is-good-once",
        "FLOWITH_IDENTITY_URL": fake.url,
        "FLOWITH_API_URL": fake.url,
        "STATE_FILE": str(tmp_path / "state.json"),
    }
    found = run(**given)
    assert found.status == 2
    assert found.mark("login", "the service renews it") == "warning"
    assert found.mark("state") == "ok"
    assert found.mark("settings", "FLOWITH_IDENTITY_KEY") == "warning"
    assert posts(fake) == []
    assert not list(tmp_path.glob("*state*"))


def test_the_login_that_the_service_has_renewed_is_the_one_asked_with(
    run: Run, api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    given = {
        "FLOWITH_AUTH_TOKEN": jwt(1_700_000_000),
        "FLOWITH_REFRESH_TOKEN": "a-refresh-token-that-is-good-once",
        "FLOWITH_IDENTITY_URL": fake.url,
        "FLOWITH_IDENTITY_KEY": "sb_publishable_x",
        "FLOWITH_API_URL": fake.url,
        "STATE_FILE": str(tmp_path / "state.json"),
        "MODELS_FILE": str(ROOT / "models.json"),
    }
    fake.require_auth = {"nothing"}
    assert api(**given).post().status_code == 200
    found = run(**given)
    assert found.status == 0, found.output
    assert found.mark("account", "/completion") == "ok"
    assert len([seen for seen in fake.requests if seen.path.startswith("/auth/")]) == 1


def test_a_second_holder_of_the_refresh_token_is_named(
    run: Run, api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    given = {
        "FLOWITH_AUTH_TOKEN": jwt(1_700_000_000),
        "FLOWITH_REFRESH_TOKEN": "a-refresh-token-that-is-good-once",
        "FLOWITH_IDENTITY_URL": fake.url,
        "FLOWITH_IDENTITY_KEY": "sb_publishable_x",
        "FLOWITH_API_URL": fake.url,
        "STATE_FILE": str(tmp_path / "state.json"),
        "MODELS_FILE": str(ROOT / "models.json"),
    }
    used = {"code": 400, "error_code": "refresh_token_already_used", "msg": "Already Used"}
    fake.reply(json_reply(used, status=400), path="/auth/v1/token")
    assert api(**given, RETRY_ATTEMPTS="1").post().status_code >= 400
    found = run(**given)
    assert found.status == 1
    assert found.mark("login", "used by somebody else", "sign in at Flowith again") == "problem"


@pytest.mark.parametrize(
    ("reply", "status", "mark", "words"),
    [
        (error(402, "Insufficient credits"), 1, "problem", "no credits"),
        (error(429), 0, "warning", "it lives"),
        (error(401), 1, "problem", "refused the token (401)"),
        (error(403), 1, "problem", "refused the token (403)"),
        (error(500), 1, "problem", "failed (500)"),
        (error(422, "bad temperature"), 1, "problem", "Flowith said: bad temperature"),
        (llm(), 0, "warning", "without a word"),
        (llm(finish="length"), 0, "ok", "worked"),
        (llm({"error": {"message": "no", "code": 402}}), 1, "problem", "no credits"),
        (error(200, "Sign in", html=True), 1, "problem", "a web page"),
        (error(403, "Sign in", html=True), 1, "problem", "a web page"),
        (error(302, headers={"Location": "https://portal.example/x"}), 1, "problem",
         "redirects, which is not followed"),
        (json_reply({"choices": [{"message": {"content": "OK."}, "finish_reason": "stop"}]}),
         0, "ok", "worked"),
    ],
    ids=lambda given: given if isinstance(given, str) else None,
)  # fmt: skip
def test_what_flowith_says_is_told_in_plain_words(
    run: Run, fake: FakeFlowith, reply: Reply, status: int, mark: str, words: str
) -> None:
    fake.reply(reply)
    given = {"HTTPS_PROXY": "http://127.0.0.1:9", "FLOWITH_API_URL": f"{fake.url}{LLM_PATH}"}
    found = run(**given)
    assert found.status == status, found.output
    assert words in found.lines("account", " llm ", mark)[-1]
    assert found.env == {}
    assert status == 0 or any(remedy in found.output for remedy in REMEDIES)


@pytest.mark.parametrize(("reply", "api"), [(web("OK."), "web"), (knowledge("OK."), "knowledge")])
def test_an_address_of_another_api_is_told_as_such(
    run: Run, fake: FakeFlowith, gate: Gate, reply: Reply, api: str
) -> None:
    fake.reply(reply)
    gate.open = set()
    found = run(FLOWITH_API_URL=f"{fake.url}{LLM_PATH}")
    assert found.mark("account", " llm ", "another API is at this address") == "problem"
    assert (found.status, found.env) == (1, {"FLOWITH_API": api})


REFUSED = [
    {"success": False, "error": "Invalid token", "code": 401},
    {"code": 401, "message": "Token expired"},
    {"error": {"message": "Please sign in", "type": "authentication_error"}},
]


@pytest.mark.parametrize("said", REFUSED, ids=str)
@pytest.mark.parametrize("name", ["web", "llm", "knowledge"])
def test_an_error_inside_a_good_status_is_told_as_the_service_tells_it(
    run: Run, fake: FakeFlowith, gate: Gate, api: MakeApi, name: str, said: dict[str, Any]
) -> None:
    fake.reply(json_reply(said))
    gate.open = set()
    given = {"FLOWITH_API_URL": fake.url, "FLOWITH_API": name}
    ours = api(**given, MODELS_FILE=str(ROOT / "models.json"))
    assert ours.post().json["error"]["code"] == "upstream_auth_error"
    found = run(**given)
    assert found.status == 1
    (line,) = found.lines("account", f" {name} ", "problem")
    assert "refused the token" in line
    assert "set FLOWITH_AUTH_TOKEN" in found.output


def test_a_redirect_is_never_followed(run: Run, fake: FakeFlowith) -> None:
    with FakeFlowith() as elsewhere:
        for to in (f"{elsewhere.url}/portal", "http://[bad"):
            fake.reply(error(307, headers={"Location": to}))
            assert run(FLOWITH_API_URL=fake.url).status == 1
        assert elsewhere.requests == []


def test_a_model_that_flowith_does_not_know_is_not_taken_for_a_move(
    run: Run, flowith: FakeFlowith
) -> None:
    unknown = [FIRST]
    flowith.reply(
        lambda seen: error(404) if unknown[0] in seen.body.decode() else flowith.demo(seen)
    )
    found = run()
    assert found.status == 0, found.output
    assert found.mark("account", LLM_PATH, FIRST, "does not know this model") == "warning"
    assert found.mark("account", LLM_PATH, SECOND, "worked") == "ok"
    assert found.env == {}
    unknown[0] = "gpt-5.5"
    found = run("--model", "gpt-5.5")
    assert found.status == 1
    assert found.mark("account", LLM_PATH, "gpt-5.5", "does not know this model") == "problem"


def test_a_row_that_is_not_there_is_a_wrong_use(run: Run, flowith: FakeFlowith) -> None:
    found = run("--model", "gpt-nope")
    assert found.status == 2
    assert "has no row 'gpt-nope'" in found.output
    assert flowith.requests == []


def test_no_picture_is_ever_asked_for(run: Run, fake: FakeFlowith, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    drawing = {f"p{i}": {"model": f"p{i}", "kind": "image"} for i in range(3)}
    rows.write_text(json.dumps({**drawing, "a": "a", **{f"q{i}": drawing["p0"] for i in range(9)}}))
    found = run("--all", MODELS_FILE=str(rows), FLOWITH_API_URL=fake.url)
    assert "12 of them make pictures; not tried" in found.output
    asked = [seen for seen in fake.requests if seen.method == "POST"]
    assert asked
    assert not any(b'"p' in seen.body for seen in asked)
    assert not any("image" in seen.path for seen in asked)
    found = run("--model", "p1", MODELS_FILE=str(rows), FLOWITH_API_URL=fake.url)
    assert (found.status, "makes pictures" in found.output) == (2, True)


def test_all_goes_on_after_an_address_that_works(run: Run, flowith: FakeFlowith) -> None:
    assert run("--all").status == 0
    asked = {f"https://{seen.headers['host']}{seen.path}" for seen in posts(flowith)}
    assert asked == {url.split("?")[0] for urls in KNOWN.values() for url in urls}


def test_a_token_goes_to_known_hosts_and_the_operator_s_only(
    run: Run, gate: Gate, flowith: FakeFlowith, fake: FakeFlowith
) -> None:
    flowith.reply(error(404))
    fake.reply(error(404))
    assert run(FLOWITH_API_URL=fake.url).status == 1
    assert {seen.headers["host"] for seen in posts(flowith)} == {IO, NET, ING}
    assert set(gate.asked) == {IO, NET, ING}
    assert posts(fake)


@pytest.mark.parametrize(
    ("url", "check", "words"),
    [
        ("http://nothing.invalid", "dns", "has no address"),
        ("http://127.0.0.1:1", "connect", "nothing listens there"),
    ],
)
def test_a_host_that_cannot_be_reached_is_told_and_not_asked(
    run: Run, flowith: FakeFlowith, url: str, check: str, words: str
) -> None:
    found = run(FLOWITH_API_URL=url)
    assert found.status == 1
    assert found.mark(check, url, words) == "problem"
    assert found.mark("account", f"{url}{LLM_PATH}", "not asked") == "problem"
    assert found.env == {"FLOWITH_API_URL": ""}


def test_where_nothing_can_be_reached_the_network_is_named_as_the_reason(
    run: Run, gate: Gate, flowith: FakeFlowith
) -> None:
    gate.open = set()
    found = run()
    assert found.status == 1
    assert found.mark("connect", IO, "not let through by the HTTP proxy") == "problem"
    assert "small requests" not in found.output
    assert OUTCOMES["proxy"].remedy in found.output
    assert sorted(gate.asked) == sorted([IO, NET, ING])  # to see whether they answer, never again
    assert flowith.requests == []


def test_silence_is_told_after_a_short_time(run: Run, fake: FakeFlowith) -> None:
    fake.reply(llm("OK.", delay=5), path=LLM_PATH)
    found = run(FLOWITH_API_URL=f"{fake.url}{LLM_PATH}", FIRST_TOKEN_TIMEOUT="0.3")
    assert found.mark("account", f"{fake.url}{LLM_PATH} (Bearer", " llm ", "in time") == "problem"
    fake.reset()
    fake.reply(Reply(delay=HANG))
    found = run(FLOWITH_API_URL=fake.url, CONNECT_TIMEOUT="0.3")
    assert found.mark("connect", fake.url, "gave no answer in time") == "problem"


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (["localhost"], 1, "nobody whom this machine trusts"),
        (["localhost"], -1, "expired, or this machine's clock is wrong"),
        (["other.example"], 1, "belongs to another host"),
    ],
    ids=["unknown", "expired", "other host"],
)
def test_certificate_trouble_is_told_in_plain_words(
    run: Run, authority: trustme.CA, names: list[str], days: int, words: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    signer = trustme.CA() if words.startswith("nobody") else authority
    end = datetime.now(UTC) + timedelta(days=days)
    signer.issue_cert(*names, not_before=end - timedelta(days=9), not_after=end).configure_cert(
        context
    )
    with FakeFlowith(tls=context) as fake:
        url = fake.url.replace("127.0.0.1", "localhost")
        found = run(FLOWITH_API_URL=url)
        assert fake.requests == []
    assert found.status == 1
    assert found.mark("connect", url, words) == "problem"


def test_a_port_without_tls_is_told_as_such(run: Run, fake: FakeFlowith) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            with plain.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        found = run(FLOWITH_API_URL=f"https://127.0.0.1:{plain.getsockname()[1]}")
    assert found.mark("connect", "does not speak TLS") == "problem"


def test_a_file_of_certificates_that_is_none_is_named(run: Run, tmp_path: Path) -> None:
    for place in (tmp_path / "none.pem", ROOT / "models.json"):
        found = run(REQUESTS_CA_BUNDLE=str(place))
        assert found.status == 1
        assert found.mark("proxy", f"REQUESTS_CA_BUNDLE: {place}") == "problem"


def test_a_proxy_is_named_without_its_password(run: Run, gate: Gate) -> None:
    port = gate.server_address[1]
    found = run(HTTPS_PROXY=f"http://me:gehe/im@127.0.0.1:{port}".replace("/im", "im"))
    assert found.status == 0, found.output
    assert found.mark("proxy", IO, f"through http://127.0.0.1:{port}") == "ok"
    assert "geheim" not in found.output


def test_a_clock_that_is_wrong_is_told(run: Run, fake: FakeFlowith) -> None:
    date = formatdate(time.time() - 3600, usegmt=True)
    fake.reply(error(404, headers={"Date": date}), path="")
    fake.reply(error(404, headers={"Date": date}), path="/")
    found = run(FLOWITH_API_URL=fake.url)
    assert found.mark("clock", "60 minutes fast") == "warning"


def test_netrc_does_not_put_another_token_in_the_place_of_ours(
    run: Run, fake: FakeFlowith, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    assert run(FLOWITH_API_URL=fake.url, NETRC=str(netrc)).status == 0
    assert {TOKEN in seen.headers["authorization"] for seen in posts(fake)} == {True}


def test_flowith_s_own_words_never_bring_a_token_out(run: Run, fake: FakeFlowith) -> None:
    fake.reply(lambda seen: error(401, f"bad token {seen.headers.get('authorization')}"))
    tokens = f"{TOKEN},{WEB_TOKEN},a-token-that-looks-like-nothing-known"
    assert run(FLOWITH_API_URL=fake.url, FLOWITH_AUTH_TOKEN=tokens).status == 1


def test_no_token_means_that_nothing_can_be_checked(run: Run, flowith: FakeFlowith) -> None:
    found = run(FLOWITH_AUTH_TOKEN="")
    assert found.status == 2
    assert found.mark("settings", "No Flowith token is set") == "warning"
    assert posts(flowith) == []


def test_a_name_that_is_no_setting_is_told(run: Run) -> None:
    found = run(FLOWITH_TOKEN="x")
    assert found.mark("settings", "FLOWITH_TOKEN is no setting") == "warning"


def test_a_state_file_that_cannot_be_written_is_a_problem(run: Run, tmp_path: Path) -> None:
    given = {"FLOWITH_REFRESH_TOKEN": "a-refresh-token", "FLOWITH_IDENTITY_URL": f"https://{IO}"}
    found = run(**given, STATE_FILE=str(tmp_path / "nowhere" / "state.json"))
    assert found.status == 1
    assert found.mark("state", "cannot be written", "STATE_FILE") == "problem"


def test_two_accounts_get_the_settings_that_suit_both(run: Run, flowith: FakeFlowith) -> None:
    def by_kind(seen: Seen) -> Reply:
        fits = (TOKEN in seen.headers.get("authorization", "")) == (seen.path != "/completion")
        return flowith.demo(seen) if fits or seen.method != "POST" else error(401)

    flowith.reply(by_kind)
    both = f"{TOKEN},{WEB_TOKEN}"
    assert run(FLOWITH_AUTH_TOKEN=both).status == 0
    own = run(FLOWITH_AUTH_TOKEN=TOKEN, FLOWITH_API="web")
    assert (own.status, own.env) == (1, {"FLOWITH_API": "auto"})
    chosen = run(FLOWITH_AUTH_TOKEN=both, FLOWITH_API="web")
    assert (chosen.status, chosen.env) == (0, {})
    flowith.reply(lambda seen: error(401) if seen.path == "/completion" else by_kind(seen))
    half = run(FLOWITH_AUTH_TOKEN=both)
    assert (half.status, half.env) == (1, {})
    assert OUTCOMES["refused"].remedy in half.output


def test_an_account_that_was_not_asked_is_no_reason_to_change_anything(
    run: Run, tmp_path: Path
) -> None:
    given = {"FLOWITH_REFRESH_TOKEN": "a-refresh-token", "FLOWITH_IDENTITY_URL": f"https://{IO}"}
    for api in ("auto", "web"):
        found = run(**given, FLOWITH_API=api, STATE_FILE=str(tmp_path / "state.json"))
        assert (found.status, found.env) == (0, {})


def test_a_row_for_an_api_that_does_not_work_is_a_problem(
    run: Run, flowith: FakeFlowith, tmp_path: Path
) -> None:
    models = tmp_path / "models.json"
    models.write_text('{"a": "gpt-5.5", "b": {"model": "gpt-5.5", "api": "knowledge"}}')
    flowith.reply(lambda seen: error(401) if "knowledge" in seen.path else flowith.demo(seen))
    found = run(MODELS_FILE=str(models))
    assert found.status == 1
    assert found.mark("account", f"{SEEK} (bare", NET) == "problem"
    assert OUTCOMES["refused"].remedy in found.output
    models.write_text('{"a": {"model": "gpt-5.5", "api": "llm"}}')
    flowith.reset()
    found = run(MODELS_FILE=str(models))
    assert (found.status, [seen.path for seen in posts(flowith)]) == (0, [LLM_PATH])


def test_json_says_the_same_as_one_object(run: Run, flowith: FakeFlowith) -> None:
    flowith.reply(at_host(flowith, NET))
    ran = run("--json")
    cost, text = ran.output.split("\n", 1)
    assert "small requests" in cost
    told = json.loads(text)
    assert set(told) == {"status", "findings", "requests", "env", "advice"}
    assert told["status"] == ran.status == 1
    assert told["env"] == {"FLOWITH_API_URL": f"https://{NET}"}
    assert told["requests"] == {"at_most": 27, "sent": len(posts(flowith))}
    for finding in told["findings"]:
        assert finding["mark"] in ("ok", "note", "warning", "problem")
        assert {"mark", "check", "text"} <= set(finding)
    last = [one for one in told["findings"] if one["check"] == "account"][-1]
    assert {name: last[name] for name in last if name != "text"} == {
        "mark": "ok", "check": "account", "account": "1:flo_...cdef", "api": "knowledge",
        "url": f"https://{NET}{SEEK}", "form": "Bearer", "model": FIRST,
        "outcome": "worked", "http_status": 200,
    }  # fmt: skip


def test_a_name_server_that_says_nothing_is_not_waited_for() -> None:
    never = threading.Event()
    found = side_by_side(lambda item: never.wait(item), [0, 600], patience=1)
    assert found == {0: False}
    never.set()


def test_addresses_are_the_operator_s_then_those_known() -> None:
    assert addresses("llm", "") == [f"https://{IO}{LLM_PATH}", f"https://{NET}{LLM_PATH}"]
    assert addresses("llm", "http://gw")[:1] == [f"http://gw{LLM_PATH}"]
    assert addresses("web", "http://gw") == [
        "http://gw/completion",
        "http://gw/completion?mode=general",
        "http://gw/ai/chat?mode=general",
        *KNOWN["web"],
    ]
    assert addresses("knowledge", "http://gw/v2/seek") == ["http://gw/v2/seek", *KNOWN["knowledge"]]


def test_rows_are_chosen_by_api_and_the_second_asks_for_another_model() -> None:
    every, plain = Model("*", ("*",)), Model("a", ("x",))
    twin, mine, other = Model("b", ("x",)), Model("c", ("y",), "llm"), Model("d", ("z",), "web")
    rows = [every, plain, twin, mine, other]
    assert rows_for(rows, "llm", None) == [mine, twin]
    assert rows_for(rows, "knowledge", None) == [plain]
    assert rows_for(rows, "llm", twin) == [twin, mine]
    assert rows_for([every], "llm", None) == []


def test_every_outcome_has_its_remedy_and_its_line_in_the_docs() -> None:
    assert [name for name, outcome in OUTCOMES.items() if not outcome.remedy] == ["worked"]
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    told = {name for cell in re.findall(r"^\| (`.*?) \|", page, re.M) for name in cell.split("`")}
    assert set(OUTCOMES) - {"worked"} <= told


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (error(401), errors.UpstreamAuth),
        (error(404), errors.UpstreamNotFound),
        (error(302), errors.UpstreamNotFound),
        (error(200, html=True), errors.UpstreamError),
    ],
    ids=["401", "404", "302", "page"],
)
def test_errors_about_token_and_address_name_the_doctor(
    api: MakeApi, fake: FakeFlowith, reply: Reply, wrong: type[errors.UpstreamError]
) -> None:
    fake.reply(reply)
    told = api(RETRY_ATTEMPTS="1").post().json["error"]
    assert told["code"] == wrong.default_code
    assert DOCTOR in told["message"]


@pytest.mark.parametrize(
    "given",
    [
        {"FLOWITH_API_URL": "http://127.0.0.1:1"},
        {"FLOWITH_API_URL": "http://nothing.invalid"},
        {"FLOWITH_API_URL": "https://flowith.invalid", "HTTPS_PROXY": "http://127.0.0.1:1"},
        {"FLOWITH_API_URL": "https://flowith.invalid", "HTTPS_PROXY": "socks5://127.0.0.1:1"},
        {"FLOWITH_AUTH_TOKEN": ""},
        {"FLOWITH_AUTH_TOKEN": "", "FLOWITH_REFRESH_TOKEN": "x", "STATE_FILE": "/nowhere/state"},
        {"FLOWITH_AUTH_TOKEN": "", "FLOWITH_REFRESH_TOKEN": "x"},
    ],
    ids=["refused port", "no dns", "proxy", "no http proxy", "no token", "state file", "login"],
)
def test_errors_about_the_way_and_the_login_name_the_doctor(
    api: MakeApi,
    fake: FakeFlowith,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: dict[str, str],
) -> None:
    if proxy := given.get("HTTPS_PROXY"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    login = {"FLOWITH_IDENTITY_URL": fake.url, "STATE_FILE": str(tmp_path / "state")}
    fake.reply(error(400, "already used"), path="/auth/v1/token")
    told = api(**{"RETRY_ATTEMPTS": "1", **login, **given}).post()
    assert told.status_code in (424, 502, 503)
    assert DOCTOR in told.json["error"]["message"]


def flask(*arguments: str, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    command = [sys.executable, "-m", *arguments]
    given = {**kept, "PYTHONDONTWRITEBYTECODE": "1", **environ}
    return subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, timeout=60)  # noqa: PLW1510


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in [path.name for path in ROOT.glob("*.py")] + ["models.json", "Makefile"]:
        shutil.copy(ROOT / name, copy)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_flask_finds_the_doctor_by_itself_even_with_wrong_settings(tree: Path) -> None:
    (tree / ".env").write_text("PORT=http\nHEARTBEAT=often\n")
    (tree / "models.json").write_text("{")
    assert " doctor " in flask("flask", "--help", cwd=tree).stdout
    ran = flask("flask", "doctor", cwd=tree)
    assert ran.returncode == 1
    for words in ("PORT must be", "HEARTBEAT must be", "models.json is not usable JSON"):
        assert re.search(rf"^problem  settings  {words}", ran.stdout, re.MULTILINE)
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "server",
    [("gunicorn",), ("gunicorn", "-c", "/dev/null", "wsgi:app"), ("flask", "run", "-p", "0")],
    ids=["gunicorn", "gunicorn without its file", "flask run"],
)
def test_no_server_starts_with_wrong_settings(tree: Path, server: tuple[str, ...]) -> None:
    ran = flask(*server, cwd=tree, HEARTBEAT="often")
    assert ran.returncode != 0
    assert "HEARTBEAT must be a number" in ran.stderr


def test_ctrl_c_ends_it_at_once_with_a_word(fake: FakeFlowith, tree: Path) -> None:
    fake.reply(Reply(delay=HANG))
    fake.reply(error(404), path="")
    fake.reply(error(404), path="/")
    given = {"FLOWITH_API_URL": fake.url, "FLOWITH_AUTH_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1"}
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    with subprocess.Popen(
        [sys.executable, "-m", "flask", "doctor"],
        cwd=tree,
        env={**kept, **given, "HTTPS_PROXY": "http://127.0.0.1:1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert fake.wait_until(lambda: len(posts(fake)) >= 3, 30)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=15)
    assert process.returncode == 2
    assert said.endswith("Stopped before the end.\n")


def test_a_proxy_in_env_holds_for_the_service_too(tree: Path, fake: FakeFlowith) -> None:
    (tree / ".env").write_text("HTTPS_PROXY=http://127.0.0.1:1\nhttp_proxy=http://127.0.0.1:2\n")
    show = "import settings, requests; settings.load(); print(requests.utils.getproxies())"
    code = tree / "show.py"
    code.write_text(show)
    told = flask("show", cwd=tree, http_proxy="http://127.0.0.1:3").stdout
    assert "'https': 'http://127.0.0.1:1'" in told
    assert "'http': 'http://127.0.0.1:3'" in told
