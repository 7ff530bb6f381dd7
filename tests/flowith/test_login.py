"""A web login kept alive: renewed once for all, by nobody's request, and never lost."""

import base64
import json
import resource
import signal
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApi, Serve
from fake_flowith import FakeFlowith, error, json_reply

from flowith.client import Flowith
from flowith.login import Login, expiry
from flowith.transport import Transport
from settings import Settings


def jwt(exp: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{claims}.sig"


def test_the_end_of_a_web_token_is_read_from_it() -> None:
    assert expiry(jwt(123)) == 123
    for other in ("flo_x", "", "a.b.c", "a.e30.c", "a.W10.c"):
        assert expiry(other) is None


def renewing(fake: FakeFlowith, folder: Path, token: str, **more: str) -> dict[str, str]:
    fake.require_auth = {"nothing"}
    return {
        "FLOWITH_AUTH_TOKEN": token,
        "FLOWITH_REFRESH_TOKEN": "refresh-0",
        "FLOWITH_IDENTITY_URL": fake.url,
        "FLOWITH_IDENTITY_KEY": "sb_publishable_x",
        "STATE_FILE": str(folder / "state.json"),
        **more,
    }


def refreshes(fake: FakeFlowith) -> list[Any]:
    return [s for s in fake.requests if s.path.startswith("/auth/")]


@pytest.mark.parametrize(
    "token", ["", jwt(time.time() - 5), jwt(time.time() + 30)], ids=["none", "ended", "ending"]
)
def test_a_login_that_ends_is_renewed_before_the_call(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path, token: str
) -> None:
    ours = api(**renewing(fake, tmp_path, token))
    for _ in range(2):
        assert ours.post().status_code == 200
    (refresh,) = refreshes(fake)
    assert refresh.headers["apikey"] == "sb_publishable_x"
    assert refresh.json == {"refresh_token": "refresh-0"}
    state = tmp_path / "state.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert json.loads(state.read_text())["refresh_token"] != "refresh-0"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.json", "state.json.lock"]


def test_a_refused_login_is_renewed_once_and_the_call_repeated(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    ours = api(**renewing(fake, tmp_path, jwt(time.time() + 3000)))
    assert ours.post().status_code == 200
    assert len(refreshes(fake)) == 1
    assert [s.path for s in fake.requests if "completion" in s.path] == ["/completion"] * 2


def test_a_new_process_goes_on_with_the_stored_login(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    settings = renewing(fake, tmp_path, "")
    assert api(**settings).post().status_code == 200
    assert api(**settings).post().status_code == 200
    assert len(refreshes(fake)) == 1


def test_many_calls_and_processes_renew_a_login_once(
    serve: Serve, fake: FakeFlowith, tmp_path: Path
) -> None:
    server = serve(**renewing(fake, tmp_path, "", WEB_CONCURRENCY="2"))
    statuses: list[int] = []

    def call() -> None:
        connection, response = server.post({})
        statuses.append(response.status)
        response.read()
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 12
    assert len(refreshes(fake)) == 1


def test_a_refresh_that_is_refused_is_an_honest_error(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    """It is not tried again, by this process or the next; a new refresh token is."""
    settings = renewing(fake, tmp_path, "")
    fake.reply(error(400, "Already Used"), path="/auth/v1/token")
    ours = api(RETRY_ATTEMPTS="1", **settings)
    wrong = ours.post()
    assert wrong.status_code == 424
    assert wrong.json["error"]["code"] == "upstream_auth_error"
    assert "FLOWITH_REFRESH_TOKEN" in wrong.json["error"]["message"]
    assert "already used elsewhere" in wrong.json["error"]["message"]
    for process in (ours, api(**settings)):
        assert "already used elsewhere" in process.post().json["error"]["message"]
    assert len(refreshes(fake)) == 1
    fake.reset()
    signed_in = api(**{**settings, "FLOWITH_REFRESH_TOKEN": "refresh-new"})
    assert signed_in.post().status_code == 200


def test_no_refresh_token_is_spent_where_the_new_one_cannot_be_kept(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    settings = {**renewing(fake, tmp_path, ""), "STATE_FILE": str(tmp_path / "no" / "state.json")}
    wrong = api(**settings).post()
    assert wrong.status_code == 424
    assert "STATE_FILE" in wrong.json["error"]["message"]
    assert not refreshes(fake)


def test_a_renewal_outlives_the_caller_who_caused_it(
    serve: Serve, fake: FakeFlowith, tmp_path: Path
) -> None:
    """The refresh token is spent with the first byte: its successor must not be lost."""
    fake.reply(lambda seen: replace(fake.demo(seen), delay=1.0), path="/auth/v1/token")
    server = serve(**renewing(fake, tmp_path, ""))
    connection = server.send({"stream": True})
    fake.wait_until(lambda: refreshes(fake))
    time.sleep(0.2)
    connection.close()
    server.wait_for_log("caller left")
    connection, response = server.post({})
    assert response.status == 200
    connection.close()
    assert len(refreshes(fake)) == 1
    assert json.loads((tmp_path / "state.json").read_text())["refresh_token"] == "demo-refresh-1"


def test_a_renewal_outlives_the_service_that_stops(
    serve: Serve, fake: FakeFlowith, tmp_path: Path
) -> None:
    fake.reply(lambda seen: replace(fake.demo(seen), delay=1.0), path="/auth/v1/token")
    server = serve(GRACEFUL_TIMEOUT="10", **renewing(fake, tmp_path, ""))
    connection = server.send({"stream": True})
    fake.wait_until(lambda: refreshes(fake))
    connection.close()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(20)
    assert json.loads((tmp_path / "state.json").read_text())["refresh_token"] == "demo-refresh-1"


def test_a_clock_that_is_fast_costs_one_renewal_in_a_while(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    """Each new token looks as if it had ended, and is good all the same."""
    old = jwt(time.time() - 5)
    given = {"access_token": old, "refresh_token": "refresh-1"}
    settings = renewing(fake, tmp_path, old)
    fake.require_auth = {old}
    fake.reply(json_reply(given), path="/auth/v1/token")
    ours = api(**settings)
    for _ in range(3):
        assert ours.post().status_code == 200
    assert len(refreshes(fake)) == 1


def test_a_failed_renewal_is_not_repeated_at_once(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    settings = renewing(fake, tmp_path, "")
    fake.reply(error(500), path="/auth/v1/token")
    ours = api(**settings)
    for _ in range(3):
        assert ours.post().status_code == 424
    assert len(refreshes(fake)) == 1


@pytest.mark.parametrize("token", ["", "two\nlines", "caf\u00e9", 7, None], ids=ascii)
def test_what_cannot_be_a_token_renews_nothing(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path, token: object
) -> None:
    settings = renewing(fake, tmp_path, "")
    given = {"access_token": token, "refresh_token": "refresh-1"}
    fake.reply(json_reply(given), path="/auth/v1/token")
    assert api(**settings).post().status_code == 424
    assert not (tmp_path / "state.json").exists()


def test_a_token_that_still_lasts_is_used_where_it_cannot_be_renewed(
    api: MakeApi, fake: FakeFlowith, tmp_path: Path
) -> None:
    token = jwt(time.time() + 60)
    settings = renewing(fake, tmp_path, token)
    fake.require_auth = {token}
    fake.reply(error(500), path="/auth/v1/token")
    assert api(**settings).post().status_code == 200


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[1]", b'{"refresh_token": 7}'])
def test_a_damaged_state_file_is_told_and_kept_aside(
    api: MakeApi,
    fake: FakeFlowith,
    tmp_path: Path,
    damage: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "state.json").write_bytes(damage)
    assert api(LOG_LEVEL="warning", **renewing(fake, tmp_path, "")).post().status_code == 200
    assert (tmp_path / "state.json.damaged").read_bytes() == damage
    assert len(refreshes(fake)) == 1
    assert json.loads((tmp_path / "state.json").read_text())["refresh_token"] == "demo-refresh-1"


def test_a_login_that_the_disk_does_not_take_lives_on_in_memory(
    fake: FakeFlowith, tmp_path: Path
) -> None:
    """The old token is spent: to forget the new one would end the login for all."""
    settings = Settings.from_env(renewing(fake, tmp_path, ""))
    login = Login(settings, "", Transport(5, 5))
    (tmp_path / "state.json").mkdir()  # so that the new file cannot take its place
    first = login.renew()
    assert expiry(first)
    assert login._unwritten["refresh_token"] == "demo-refresh-1"


def test_a_disk_that_is_full_costs_no_login(fake: FakeFlowith, tmp_path: Path) -> None:
    login = Login(Settings.from_env(renewing(fake, tmp_path, "")), "", Transport(5, 5))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))  # bytes of a file
    try:
        first = login.renew()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert expiry(first)
    assert login._unwritten["access_token"] == first
    assert [path.name for path in tmp_path.iterdir()] == ["state.json.lock"]


@pytest.mark.parametrize("place", ["nowhere/state.json", "folder"])
def test_a_place_that_takes_no_login_is_told_at_the_start(
    place: str, fake: FakeFlowith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    given = renewing(fake, tmp_path, "")
    Flowith(Settings.from_env(given), "test")
    assert "STATE_FILE" not in caplog.text
    Flowith(Settings.from_env({**given, "STATE_FILE": str(tmp_path / place)}), "test")
    assert "STATE_FILE cannot be written" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
