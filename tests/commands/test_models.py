"""Models: what `/v1/models` says of them, the shipped models.json, and `flask models`."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import KEY, ROOT, TOKEN, WEB_TOKEN, MakeApi
from fake_flowith import CUT, HANG, FakeFlowith, Reply, error, json_reply, web
from openai.types import Model as OpenAIModel

from commands.models import models, write_rows
from proxy import create_app
from settings import Settings, SettingsError, read_models, read_rows

KNOWLEDGE_LIST, PICTURE_LIST, WEB_LIST, CREDITS = (
    "/external/use/knowledge-base/models",
    "/external/use/image/models",
    "/models",
    "/user/credits",
)
FILE = """{
  "gpt-5.5": "gpt-5.5",
  "mine": {"model": "mine", "api": "web", "fallbacks": ["gone"]},
  "gone": {"model": "gone", "context": 128000},
  "deepseek-chat": {"model": "deepseek-chat", "name": "DeepSeek", "context": 131072},
  "deepseek-reasoner": {"model": "deepseek-reasoner", "system_role": false},
  "gpt-4o": {"model": "gpt-5.5", "description": "Answered by gpt-5.5"},
  "*": "*"
}
"""
WRITTEN = """{
  "gpt-5.5": {"model": "gpt-5.5", "name": "GPT-5.5"},
  "mine": {"model": "mine", "api": "web", "fallbacks": ["gone"]},
  "deepseek-chat": {"model": "deepseek-chat", "name": "DeepSeek Chat", "context": 131072},
  "deepseek-reasoner": {"model": "deepseek-reasoner", "system_role": false},
  "gpt-4o": {"model": "gpt-5.5", "description": "Answered by gpt-5.5"},
  "*": "*",
  "claude-5-sonnet": {"model": "claude-5-sonnet", "name": "Claude 5 Sonnet"},
  "gemini-2.5-pro": {"model": "gemini-2.5-pro", "name": "Gemini 2.5 Pro", "description": "Long"},
  "gpt-image-2": {"model": "gpt-image-2", "name": "GPT Image 2", "kind": "image", "shape": "pixels"}
}
"""
Run = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models.json"
    path.write_text(FILE, "utf-8")
    return path


@pytest.fixture
def run(fake: FakeFlowith, file: Path) -> Run:
    """`run("refresh", "--write", FLOWITH_API="web")`: `flask models` against the stand-in."""

    def invoke(*args: str, **environ: str) -> Result:
        given = {"API_KEY": KEY, "FLOWITH_AUTH_TOKEN": WEB_TOKEN, "FLOWITH_API_URL": fake.url}
        given |= {"MODELS_FILE": str(file), "CONNECT_TIMEOUT": "5", **environ}
        app = create_app(Settings.from_env(given))
        app.cli.add_command(models)
        result = app.test_cli_runner().invoke(args=["models", *args])
        assert TOKEN not in result.output
        assert WEB_TOKEN not in result.output
        return result

    return invoke


def test_refresh_shows_what_is_new_gone_changed_and_kept_and_writes_nothing(
    run: Run, file: Path
) -> None:
    result = run("refresh")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "6 models (left out: 1 media, 1 in another tier)" in lines[0]
    assert lines[1:] == [
        '~ gpt-5.5: name "GPT-5.5"',
        "! mine: kept, but Flowith lists no mine or gone",
        "- gone",
        '~ deepseek-chat: name "DeepSeek Chat"',
        "+ claude-5-sonnet  Claude 5 Sonnet",
        "+ gemini-2.5-pro  Gemini 2.5 Pro",
        "+ gpt-image-2  GPT Image 2",
        "3 new, 1 gone, 2 changed, 4 kept",
        f"{file} is unchanged; --write writes it.",
    ]
    assert file.read_text("utf-8") == FILE


def test_refresh_writes_a_row_a_line_in_their_order_when_told_to(run: Run, file: Path) -> None:
    file.chmod(0o640)
    with file.open(encoding="utf-8") as before:
        assert run("refresh", "--write").exit_code == 0
        assert before.read() == FILE, "a reader at that moment saw half a file"
    assert file.read_text("utf-8") == WRITTEN
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]
    assert "up to date" in run("refresh", "--write").output
    assert file.read_text("utf-8") == WRITTEN


def test_a_link_to_the_file_stays_a_link(run: Run, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file)
    run("refresh", "--write", MODELS_FILE=str(link))
    assert link.is_symlink()
    assert file.read_text("utf-8") == WRITTEN


def test_rows_that_could_not_be_read_again_are_never_written(file: Path) -> None:
    with pytest.raises(SettingsError, match="row 'a'"):
        write_rows(file, {"a": {"model": "b", "context": "much"}})
    assert file.read_text("utf-8") == FILE
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 250}.json"  # the temporary file's name is longer than names may be
    path.write_text(FILE, "utf-8")
    result = run("refresh", "--write", MODELS_FILE=str(path))
    assert result.exit_code == 1
    assert "cannot be written: File name too long" in result.stderr
    assert path.read_text("utf-8") == FILE


def test_the_shipped_file_is_written_as_it_stands(tmp_path: Path) -> None:
    copy = tmp_path / "models.json"
    copy.touch()
    write_rows(copy, read_rows(ROOT / "models.json"))
    assert copy.read_text("utf-8") == (ROOT / "models.json").read_text("utf-8")


def test_a_key_gets_the_knowledge_list_which_removes_nothing_from_the_llm_api(
    run: Run, fake: FakeFlowith, file: Path
) -> None:
    listed = json_reply({"models": ["new", "gpt-5.5", {"id": "told"}, 7], "count": 4})
    fake.reply(listed, path=KNOWLEDGE_LIST)
    result = run("refresh", "--write", FLOWITH_AUTH_TOKEN=TOKEN)
    asked = [(seen.method, seen.path) for seen in fake.requests]
    assert asked == [("GET", KNOWLEDGE_LIST), ("GET", PICTURE_LIST)]
    assert fake.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert "! gone: kept, but Flowith lists no gone" in result.output
    assert "Nothing is removed" in result.output
    assert read_rows(file) == {**json.loads(FILE), "new": "new", "told": "told"}


def test_the_knowledge_list_is_the_whole_truth_for_the_knowledge_api(
    run: Run, fake: FakeFlowith, file: Path
) -> None:
    fake.reply(json_reply({"models": ["gpt-5.5"]}))
    run("refresh", "--write", FLOWITH_AUTH_TOKEN=TOKEN, FLOWITH_API="knowledge")
    assert list(read_rows(file)) == ["gpt-5.5", "mine", "deepseek-reasoner", "gpt-4o", "*"]


def test_models_that_make_pictures_get_rows_that_say_so(
    run: Run, fake: FakeFlowith, file: Path
) -> None:
    listed = {
        "by-ratio": {"media": ["image"], "supportedAspectRatios": ["auto", "1:1", "16:9"],
                     "supportedImageSizes": ["1K", "4K", "8K"]},
        "by-pixels": {"media": "image", "supportedAspectRatios": ["auto", "1024x1024"]},
        "silent": {"media": ["text", "image"], "supportedAspectRatios": 7},
        "gpt-5.5": {},
    }  # fmt: skip
    fake.reply(json_reply(listed), path=WEB_LIST)
    run("refresh", "--write")
    rows = read_models(file)
    by_ratio, by_pixels, silent = rows["by-ratio"], rows["by-pixels"], rows["silent"]
    assert (by_ratio.kind, by_ratio.shape, by_ratio.sizes) == ("image", "ratio", ("1k", "4k"))
    assert (by_pixels.kind, by_pixels.shape, by_pixels.sizes) == ("image", "pixels", ())
    assert (silent.kind, silent.shape) == ("image", "ratio")
    assert rows["gpt-5.5"].kind == "chat"


def test_rows_for_pictures_go_only_where_a_list_holds_pictures(
    run: Run, fake: FakeFlowith, file: Path
) -> None:
    file.write_text('{"gpt-5.5": "gpt-5.5", "old": {"model": "old", "kind": "image"}}', "utf-8")
    fake.reply(json_reply({"gpt-5.5": {}}), path=WEB_LIST)
    assert "! old: kept, but Flowith lists no old" in run("refresh", "--write").output
    assert "old" in read_rows(file)
    fake.reset()
    fake.reply(json_reply({"gpt-5.5": {}, "new": {"media": "image"}}), path=WEB_LIST)
    run("refresh", "--write")
    assert list(read_rows(file)) == ["gpt-5.5", "new"]


def test_a_key_gets_the_list_of_pictures_too(run: Run, fake: FakeFlowith, file: Path) -> None:
    fake.reply(json_reply({"models": ["gpt-5.5"]}), path=KNOWLEDGE_LIST)
    fake.reply(json_reply({"models": ["flux", "gpt-5.5"]}), path=PICTURE_LIST)
    run("refresh", "--write", FLOWITH_AUTH_TOKEN=TOKEN)
    assert read_rows(file)["flux"] == {"model": "flux", "kind": "image"}
    assert read_rows(file)["gpt-5.5"] == "gpt-5.5"


def test_any_field_of_the_web_list_may_be_missing_or_odd(
    run: Run, fake: FakeFlowith, file: Path
) -> None:
    listed = {
        "bare": {}, "odd": {"title": 7, "description": ["x"], "tier": None, "media": None},
        "long": {"name": " Two\n lines\x1b[31m ", "description": "x" * 500, "tier": ["pro"]},
        "song": {"media": "music"}, "film": {"media": ["video", "text"]},
        "text": {"media": "text"}, "*": {}, "a b": {}, "": {}, "no-object": 1,
    }  # fmt: skip
    fake.reply(json_reply(listed), path=WEB_LIST)
    fake.reply(json_reply([]), path=CREDITS)
    assert "4 models (left out: 2 media)" in run("refresh", "--write").output
    rows = read_rows(file)
    assert [rows["bare"], rows["odd"], rows["text"]] == ["bare", "odd", "text"]
    assert rows["long"] == {
        "model": "long", "name": "Two lines[31m", "description": "x" * 200,
    }  # fmt: skip
    assert rows.keys() - {"mine", "deepseek-reasoner", "gpt-4o", "*"} == {
        "bare", "odd", "long", "text",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("credits", "found"),
    [
        ([{"credit_policy_snapshot": {"allowed_model_tiers": ["pro"]}}], ["free", "pro"]),
        ([{"policy_summary": {"allowed_model_tiers": ["max"]}}, {}], ["free", "max"]),
        ([{"sub_type": "trial", "credit_policy_snapshot": None}, 7], ["free", "pro", "max"]),
        ({"error": "odd"}, ["free", "pro", "max"]),
        (None, ["free", "pro", "max"]),
    ],
)
def test_models_of_another_tier_are_left_out_when_the_credits_tell(
    run: Run, fake: FakeFlowith, file: Path, credits: Any, found: list[str]
) -> None:
    fake.reply(json_reply({t: {"tier": t} for t in ("pro", "max")} | {"free": {}}), path=WEB_LIST)
    fake.reply(json_reply(credits) if credits is not None else error(500), path=CREDITS)
    run("refresh", "--write")
    assert {"pro", "max", "free"} & read_rows(file).keys() == set(found)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (json_reply({}), "no model"),
        (json_reply({"models": [], "count": 0}), "no model"),
        (json_reply({"veo-3": {"media": "video"}}), "no model"),
        (json_reply({"error": {"message": "no"}}), "no list of models"),
        (json_reply(["gpt-5.5"]), "no list of models"),
        (json_reply(None), "no list of models"),
        (web("hello"), "no JSON"),
        (error(200, html=True), "a web page (a captive portal?)"),
        (error(302, headers={"Location": "/login"}), "refused the proxy's token"),
        (error(302, headers={"Location": "/v2/models"}), "its address has moved"),
        (error(401), "refused the proxy's token"),
        (error(404, html=True), "its address has moved"),
        (error(429), "rate limit"),
        (error(500), "failed to answer"),
        (web('{"gpt-5.5": {', CUT), "broke off"),
    ],
)
@pytest.mark.parametrize("token", [TOKEN, WEB_TOKEN], ids=["key", "login"])
def test_a_list_that_is_none_changes_nothing_and_says_why(
    run: Run, fake: FakeFlowith, file: Path, token: str, reply: Reply, words: str
) -> None:
    fake.reply(reply)
    result = run("refresh", "--write", FLOWITH_AUTH_TOKEN=token)
    assert result.exit_code == 1
    assert re.match(r"Account 1:(flo_|eyJh)\.\.\.\w{4}, http://127[^ ]+/models: ", result.stderr)
    assert words in result.stderr
    assert f"No list could be read; {file} stays as it is." in result.stderr
    assert file.read_text("utf-8") == FILE


@pytest.mark.parametrize("token", [TOKEN, WEB_TOKEN], ids=["key", "login"])
def test_silence_is_told(run: Run, fake: FakeFlowith, token: str) -> None:
    fake.reply(Reply(delay=HANG))
    result = run("refresh", FLOWITH_AUTH_TOKEN=token, CONNECT_TIMEOUT="0.3")
    assert result.exit_code == 1
    assert "Flowith gave no answer in time" in result.stderr


def test_an_address_where_nobody_listens_is_told(run: Run, fake: FakeFlowith) -> None:
    fake.stop()
    result = run("refresh")
    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr


def test_an_account_that_fails_does_not_stop_the_others_and_removes_nothing(
    run: Run, fake: FakeFlowith, file: Path
) -> None:
    fake.reply(error(403), path=KNOWLEDGE_LIST)
    result = run("refresh", "--write", FLOWITH_AUTH_TOKEN=f"{TOKEN},{WEB_TOKEN}")
    assert result.exit_code == 1
    assert "Account 1:flo_...cdef" in result.stderr
    assert "nothing was removed" in result.stderr
    rows = read_rows(file)
    assert rows["gone"] == {"model": "gone", "context": 128000}
    assert "gemini-2.5-pro" in rows


def test_lists_of_several_accounts_are_joined(run: Run, fake: FakeFlowith, file: Path) -> None:
    fake.reply(json_reply({"models": ["gpt-5.5", "only-there"]}), path=KNOWLEDGE_LIST)
    assert run("refresh", "--write", FLOWITH_AUTH_TOKEN=f"{WEB_TOKEN},{TOKEN}").exit_code == 0
    rows = read_rows(file)
    assert rows["only-there"] == "only-there"
    assert rows["gpt-5.5"] == {"model": "gpt-5.5", "name": "GPT-5.5"}


def test_an_alias_that_hides_a_model_of_flowith_s_is_told(run: Run, fake: FakeFlowith) -> None:
    fake.reply(json_reply({"gpt-5.5": {}, "gpt-4o": {}}))
    assert "! gpt-4o: kept, but Flowith lists gpt-4o itself" in run("refresh").output


@pytest.mark.parametrize("wanted", ["bare", "bearer"])
def test_a_token_is_tried_in_its_other_form(run: Run, fake: FakeFlowith, wanted: Any) -> None:
    fake.require_auth = wanted
    assert run("refresh").exit_code == 0
    assert run("refresh", FLOWITH_AUTH_TOKEN=TOKEN).exit_code == 0


@pytest.mark.parametrize("path", ["", "/moved/completion?mode=general"])
def test_the_lists_move_with_flowith_s_address(run: Run, fake: FakeFlowith, path: str) -> None:
    result = run("refresh", FLOWITH_API_URL=fake.url.replace("//", "//me:secret@") + path)
    assert result.exit_code == 0
    assert "secret" not in result.output
    assert [seen.path for seen in fake.requests] == [WEB_LIST, CREDITS]
    assert fake.requests[0].query == "logo=1&desc=1"


def test_an_entry_in_netrc_does_not_replace_the_token(
    run: Run, fake: FakeFlowith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    run("refresh")
    assert {seen.headers["authorization"] for seen in fake.requests} == {WEB_TOKEN}


def test_a_login_that_has_ended_is_renewed_first(
    run: Run, fake: FakeFlowith, tmp_path: Path
) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() - 60}).encode()).decode()
    old = f"eyJhbGciOiJub25lIn0.{claims.rstrip('=')}.old"
    fake.require_auth = {"nobody"}
    given = {"FLOWITH_REFRESH_TOKEN": "first", "FLOWITH_IDENTITY_URL": fake.url}
    result = run("refresh", FLOWITH_AUTH_TOKEN=old, STATE_FILE=str(tmp_path / "state"), **given)
    assert result.exit_code == 0
    assert old not in {seen.headers.get("authorization") for seen in fake.requests}


def test_without_a_token_refresh_says_where_to_put_one(run: Run) -> None:
    result = run("refresh", FLOWITH_AUTH_TOKEN="")
    assert result.exit_code == 1
    assert "FLOWITH_AUTH_TOKEN" in result.stderr


def test_list_shows_a_row_a_line_with_what_is_special(run: Run, file: Path) -> None:
    file.write_text(
        '{"a": "a", "quick": {"model": "b", "fallbacks": ["c"], "context": 128000},'
        ' "k": {"model": "k", "api": "knowledge", "kb_list": ["1"], "images": false,'
        ' "system_role": false}, "n": {"model": "n", "api": "llm", "native_tools": true},'
        ' "p": {"model": "p", "kind": "image", "sizes": ["1k", "2k"]}}'
    )
    assert [line.split(maxsplit=4) for line in run("list").output.splitlines()[1:]] == [
        ["a", "a", "web", "-"],
        ["quick", "b,", "c", "web", "128,000  alias"],
        ["k", "k", "knowledge", "-", "no images, no system role, 1 knowledge bases"],
        ["n", "n", "llm", "-", "native tools"],
        ["p", "p", "web_images", "-", "makes pictures at 1k, 2k"],
    ]
    rows = json.loads(run("list", "--json").output)
    assert rows[1]["upstream"] == ["b", "c"]
    assert [row["id"] for row in rows] == ["a", "quick", "k", "n", "p"]


def flask(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", *args]
    environ = {"PATH": os.environ["PATH"], "FLASK_SKIP_DOTENV": "1", **environ}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


def test_flask_help_lists_the_commands() -> None:
    told = flask("--help").stdout
    for name in ("doctor", "models"):
        assert re.search(f"^  {name} ", told, re.M)


def test_wrong_settings_are_the_doctor_s_business() -> None:
    told = flask("models", "list", PORT="many")
    assert told.returncode == 1
    assert told.stderr == "Error: The settings are wrong; `flask doctor` says which.\n"


def test_the_list_is_what_openai_s_client_and_uis_read(api: MakeApi, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(
        '{"plain": "a", "full": {"model": "b", "name": "Full", "description": "Good",'
        ' "context": 1000, "output": 100, "images": false}}'
    )
    plain, full = api(MODELS_FILE=str(file)).get("/v1/models").json["data"]
    for entry in (plain, full):
        OpenAIModel.model_validate(entry, strict=True)
        assert "null" not in json.dumps(entry)
    assert plain.keys() == {
        "id", "object", "created", "owned_by", "name", "architecture", "supported_parameters",
        "capabilities",
    }  # fmt: skip
    assert plain["name"] == "plain"
    assert plain["architecture"]["input_modalities"] == ["text", "image"]
    assert (full["name"], full["description"]) == ("Full", "Good")
    assert (full["context_length"], full["max_completion_tokens"]) == (1000, 100)
    modalities = {"input_modalities": ["text"], "output_modalities": ["text"]}
    assert full["architecture"] == modalities
    assert full["capabilities"]["vision"] is False


def test_a_model_that_makes_pictures_is_listed_as_one(api: MakeApi) -> None:
    entry = api().get("/v1/models/gpt-image-2").json
    OpenAIModel.model_validate(entry, strict=True)
    modalities = {"input_modalities": ["text", "image"], "output_modalities": ["image"]}
    assert entry["architecture"] == modalities
    assert "supported_parameters" not in entry
    assert entry["capabilities"]["tools"] is False


@pytest.mark.parametrize("dialect", ["web", "llm", "knowledge"])
def test_a_listed_parameter_reaches_flowith_and_others_do_not(
    api: MakeApi, fake: FakeFlowith, dialect: str
) -> None:
    ours = api(FLOWITH_API=dialect)
    listed = set(ours.get("/v1/models/gpt-4.1").json["supported_parameters"])
    ours.post(temperature=0.5, top_p=0.5, web_search_options={})
    sent = fake.requests[-1].json
    searches = sent.get("online") or sent.get("websearch")
    reached = {name for name in ("temperature", "top_p") if name in sent}
    reached |= {"web_search_options"} if searches else set()
    assert listed & {"temperature", "top_p", "web_search_options"} == reached


def test_what_only_some_accounts_could_pass_on_is_not_promised(api: MakeApi) -> None:
    mixed = api(FLOWITH_AUTH_TOKEN=f"{TOKEN},{WEB_TOKEN}").get("/v1/models/gpt-4.1").json
    assert "temperature" not in mixed["supported_parameters"]
    assert "web_search_options" in mixed["supported_parameters"]
    none = api(FLOWITH_AUTH_TOKEN="").get("/v1/models/gpt-4.1").json
    assert "temperature" not in none["supported_parameters"]
    assert "tools" in none["supported_parameters"]


def test_the_shipped_models_lead_to_models_that_are_listed_themselves() -> None:
    models = read_models(ROOT / "models.json")
    for model in models.values():
        for target in model.upstream:
            assert models[target].upstream[0] == target
        if model.id not in model.upstream and not model.id.endswith("*"):
            assert model.description == f"Answered by {', else '.join(model.upstream)}"
            assert (model.context or 0) == min(models[one].context or 0 for one in model.upstream)
            assert {models[one].kind for one in model.upstream} == {model.kind}
    assert {
        "gpt-4.1", "gpt-4o", "gpt-4o-mini", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-5",
        "gpt-5-mini", "o3", "o4-mini",
    } <= models.keys()  # fmt: skip
