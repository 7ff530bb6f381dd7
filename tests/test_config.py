"""What is written about the settings, the image and the commands, held against what is so."""

import json
import os
import re
import subprocess
import sys
from dataclasses import Field
from pathlib import Path
from typing import Any

import pytest
from conftest import Serve

from server.log import shown
from settings import (
    NO_TOKEN,
    ROW_FIELDS,
    Model,
    Settings,
    SettingsError,
    given,
    load,
    read_models,
)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SETTINGS = {setting.name.upper(): setting for setting in Settings.described()}
FRONT_MATTER = """\
---
title: OpenAI to Flowith Converter
emoji: 🔄
colorFrom: blue
colorTo: green
sdk: docker
app_port: 7860
env:
  - FLOWITH_AUTH_TOKEN
  - API_KEY # Add this line
secrets:
  - FLOWITH_AUTH_TOKEN
  - API_KEY # Add this line
---

# OpenAI to Flowith Converter
"""


def to_example(name: str, setting: Field[Any]) -> str:
    """A paragraph of .env.example. The two that a newcomer changes stand there ready."""
    default = setting.metadata["default"]
    line = {
        "FLOWITH_AUTH_TOKEN": "FLOWITH_AUTH_TOKEN=your_actual_token_here",
        "API_KEY": f"API_KEY={default}",
    }.get(name, f"# {name}={default}")
    return f"# {setting.metadata['meaning']}\n{line}"


def to_row(name: str, setting: Field[Any]) -> str:
    """A row of the README's table."""
    default = setting.metadata["default"]
    return f"| `{name}` | {f'`{default}`' if default else ''} | {setting.metadata['meaning']} |"


def test_the_example_is_the_settings_in_order() -> None:
    _, *paragraphs = (ROOT / ".env.example").read_text("utf-8").rstrip("\n").split("\n\n")
    assert paragraphs == [to_example(*item) for item in SETTINGS.items()]


def test_the_readme_lists_the_settings_in_order() -> None:
    rows = re.findall(r"^\| `[A-Z_]+` \|.*$", README, re.MULTILINE)
    assert rows == [to_row(*item) for item in SETTINGS.items()]


def test_the_copied_example_starts_and_asks_for_a_token() -> None:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = Settings.from_env({**given, "MODELS_FILE": str(ROOT / "models.json")})
    assert settings.flowith_auth_token == ()
    assert settings.api_key == ("123456",)
    assert NO_TOKEN in settings.warnings()


def test_every_mistake_in_the_environment_is_named_at_once() -> None:
    wrong = {"PORT": "http", "FLOWITH_API": "grpc", "HEARTBEAT": "-1", "MODELS_FILE": "no.json"}
    with pytest.raises(SettingsError) as failure:
        Settings.from_env(wrong)
    for name in ("PORT", "FLOWITH_API", "HEARTBEAT", "no.json"):
        assert name in str(failure.value)


def bad_values() -> list[tuple[str, str]]:
    """A value for each setting that checks its value, which cannot be right."""
    found = []
    for name, setting in SETTINGS.items():
        try:
            setting.metadata["parse"]("?")
        except ValueError:
            found.append((name, "?"))
    return found


@pytest.mark.parametrize(("name", "value"), bad_values(), ids=lambda given: given)
def test_a_mistake_is_told_with_its_name_and_value(name: str, value: str) -> None:
    given = {"MODELS_FILE": str(ROOT / "models.json"), name: value}
    with pytest.raises(SettingsError, match=rf"^{name} must .* \(it is '\?'\)$"):
        Settings.from_env(given)


@pytest.mark.parametrize("url", ["http://", "https://[::1", "http://a:b", "ftp://a", "http:/a"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    given = {"MODELS_FILE": str(ROOT / "models.json"), "FLOWITH_API_URL": url}
    with pytest.raises(
        SettingsError, match=r"^FLOWITH_API_URL must start with http:// or https://"
    ):
        Settings.from_env(given)


def test_a_mistake_in_a_secret_does_not_show_it() -> None:
    given = {"FLOWITH_AUTH_TOKEN": "flo_gehëim", "MODELS_FILE": str(ROOT / "models.json")}
    with pytest.raises(SettingsError, match=r"^FLOWITH_AUTH_TOKEN may hold") as failure:
        Settings.from_env(given)
    assert "hëim" not in str(failure.value)


@pytest.mark.parametrize("text", [",", " , ,", "a\nb", "a,b\0"])
def test_a_key_that_nobody_could_send_is_a_mistake(text: str) -> None:
    given = {"API_KEY": text, "MODELS_FILE": str(ROOT / "models.json")}
    with pytest.raises(SettingsError, match=r"^API_KEY must be one key or more, of printable"):
        Settings.from_env(given)


@pytest.mark.parametrize("name", ["FLOWITH_REFRESH_TOKEN", "FLOWITH_IDENTITY_KEY"])
def test_what_no_header_or_token_can_hold_is_a_mistake(name: str) -> None:
    for text in ("geheim\nx", "schlüssel", "钥匙"):
        given = {name: text, "MODELS_FILE": str(ROOT / "models.json")}
        with pytest.raises(SettingsError, match=rf"^{name} may hold printable ASCII") as failure:
            Settings.from_env(given)
        assert text not in str(failure.value)


def test_a_login_that_cannot_be_renewed_is_told_at_the_start() -> None:
    given = {"FLOWITH_REFRESH_TOKEN": "r", "MODELS_FILE": str(ROOT / "models.json")}
    (warning, _) = Settings.from_env(given).warnings()
    assert warning.startswith("FLOWITH_IDENTITY_KEY is empty")
    known = {**given, "FLOWITH_IDENTITY_KEY": "sb_publishable_x"}
    assert warning not in Settings.from_env(known).warnings()


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_a_value_are_none_of_it(quote: str) -> None:
    """`docker run --env-file` and the forms of hosts leave on what a shell and Compose take off."""
    quoted = {
        "FLOWITH_AUTH_TOKEN": "flo_a,flo_b", "API_KEY": "one, two", "PORT": "7860",
        "FLOWITH_API_URL": "https://edge.example", "MODELS_FILE": str(ROOT / "models.json"),
    }  # fmt: skip
    settings = Settings.from_env({k: f" {quote}{v}{quote} " for k, v in quoted.items()})
    assert settings.flowith_auth_token == ("flo_a", "flo_b")
    assert settings.api_key == ("one", "two")
    assert (settings.port, settings.flowith_api_url) == (7860, "https://edge.example")


def test_tokens_are_taken_as_people_paste_them() -> None:
    pasted = "Bearer flo_a, bearer flo_b,flo_a, CHANGEME,,"
    given = {"FLOWITH_AUTH_TOKEN": pasted, "MODELS_FILE": str(ROOT / "models.json")}
    assert Settings.from_env(given).flowith_auth_token == ("flo_a", "flo_b")


def test_of_a_secret_only_a_little_is_shown_and_of_a_short_one_nothing() -> None:
    secrets = {"FLOWITH_AUTH_TOKEN": "abcdefghij0123456789", "API_KEY": "abcdefghij012345678,x"}
    given = {**secrets, "FLOWITH_IDENTITY_KEY": "k" * 8, "MODELS_FILE": str(ROOT / "models.json")}
    settings = Settings.from_env(given)
    told = dict(shown(settings))
    assert told["FLOWITH_AUTH_TOKEN"] == "abcd...6789"
    assert told["API_KEY"] == "***,***"
    assert told["FLOWITH_IDENTITY_KEY"] == "***"
    assert told["FLOWITH_REFRESH_TOKEN"] == ""
    assert not any(one in repr(settings) for one in ("ghij01", "kkkk"))


SECRET_URLS = (
    "https://user:hidden@host/completion",
    "https://hidden@host/completion",
    "https://host/hidden-0123456789abcdef/completion",
    "https://host/v1?key=hidden",
    "ftp://user:hidden@host/",  # a mistake, which is told
)


@pytest.mark.parametrize("url", SECRET_URLS)
def test_what_is_secret_in_an_address_is_not_shown(url: str) -> None:
    given = {"FLOWITH_API_URL": url, "MODELS_FILE": str(ROOT / "models.json")}
    try:
        told = dict(shown(Settings.from_env(given)))["FLOWITH_API_URL"]
    except SettingsError as wrong:
        told = str(wrong)
    assert "host" in told
    assert "hidden" not in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not usable JSON"),
        ("[]", "must be an object"),
        ("{}", "at least one model"),
        ('{"a": 1}', "row 'a' must be a string or an object"),
        ('{"a": {"api": "web"}}', "row 'a' needs a name and a 'model'"),
        ('{"a": {"model": "b", "apl": "web"}}', "row 'a' has an unknown field 'apl'"),
        ('{"a": {"model": "b", "api": "soap"}}', "row 'a': 'api' must be one of"),
        ('{"a": {"model": "b", "kind": "film"}}', "row 'a': 'kind' must be one of chat, image"),
        ('{"a": {"model": "b", "shape": "round"}}', "row 'a': 'shape' must be one of ratio"),
        ('{"a": {"model": "b", "sizes": ["8k"]}}', "row 'a': 'sizes' may hold 512, 1k, 2k, 4k"),
        ('{"a": {"model": "b", "context": "9"}}', "row 'a': 'context' must be a whole number"),
        ('{"a": {"model": "b", "context": true}}', "row 'a': 'context' must be a whole number"),
        ('{"a": {"model": "b", "kb_list": [1]}}', "row 'a': 'kb_list' must be an array of strings"),
        ('{"a": {"model": "b", "images": 1}}', "row 'a': 'images' must be true or false"),
        ('{"a": {"model": "b", "name": 5}}', "row 'a': 'name' must be a string"),
        ('{"a": {"model": ""}}', "row 'a': 'model' must be a string"),
        ('{"a": {"model": "b", "fallbacks": [""]}}', "'fallbacks' must be an array of strings"),
        ('{"a": {"model": "b", "native_tools": true}}', '\'native_tools\' needs "api": "llm"'),
        ('{"": "b"}', "row '' needs a name"),
        ('{"a*b": "c"}', "row 'a*b': '*' may only be the last character"),
        ('{"a": "b", "a": "c"}', "is not usable JSON: 'a' stands there twice"),
        ("[" * 100_000, "is not usable JSON"),
    ],
)
def test_a_mistake_in_models_json_names_the_row(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=re.escape(words)):
        read_models(file)


def test_a_row_of_models_json_is_a_model(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    rows = {
        "short": "b",
        "p-*": {"model": "b", "fallbacks": ["c"], "kb_list": ["k"], "native_tools": True}
        | {"api": "llm", "context": 9},
        "i": {"model": "d", "kind": "image", "shape": "none", "sizes": ["1k", "2k"]},
    }
    file.write_text(json.dumps(rows), "utf-8")
    assert read_models(file) == {
        "short": Model("short", ("b",)),
        "p-*": Model("p-*", ("b", "c"), api="llm", kb_list=("k",), context=9, native_tools=True),
        "i": Model("i", ("d",), kind="image", shape="none", sizes=("1k", "2k")),
    }


def test_models_json_may_begin_with_a_mark(tmp_path: Path) -> None:
    """As Windows' editor writes it."""
    file = tmp_path / "models.json"
    file.write_text('{"a": "b"}', "utf-8-sig")
    assert read_models(file) == {"a": Model("a", ("b",))}


def test_the_readme_begins_as_hugging_face_reads_it() -> None:
    assert README.startswith(FRONT_MATTER)


def test_the_models_json_of_the_docs_is_a_valid_one_with_every_field(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    example = next(block for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    file = tmp_path / "models.json"
    file.write_text(example, "utf-8")
    read_models(file)
    used = {field for row in json.loads(example).values() if isinstance(row, dict) for field in row}
    assert used == set(ROW_FIELDS)


def test_the_image_runs_as_a_numbered_user_on_the_space_s_port() -> None:
    assert "\nUSER 1000\n" in DOCKERFILE
    assert SETTINGS["PORT"].metadata["default"] == "7860"
    assert "\nEXPOSE 7860\n" in DOCKERFILE
    assert "\napp_port: 7860\n" in README
    assert '\nCMD ["gunicorn"]\n' in DOCKERFILE
    assert not re.search(r"^(ENV|ARG).*(TOKEN|API_KEY)", DOCKERFILE, re.MULTILINE)


def test_the_health_check_tells_a_service_that_runs_from_one_that_does_not(serve: Serve) -> None:
    found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    _, *arguments = json.loads(found[1])
    server = serve()
    asked = [sys.executable, *arguments]
    assert subprocess.run(asked, env={"PORT": str(server.port)}, check=False).returncode == 0
    server.stop()
    dead = subprocess.run(asked, env={"PORT": str(server.port)}, check=False, capture_output=True)
    assert dead.returncode == 1


def test_what_the_image_sets_are_settings() -> None:
    line = next(line for line in DOCKERFILE.splitlines() if "STATE_FILE=" in line)
    given = dict(part.split("=") for part in line.removeprefix("ENV ").split())
    assert set(given) <= set(SETTINGS)
    Settings.from_env({**given, "MODELS_FILE": str(ROOT / "models.json")})


def test_the_image_gets_every_package_and_no_more_than_is_named() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[1] == "*"
    for package in ROOT.glob("*/__init__.py"):
        assert f"!{package.parent.name}/" in lines
    for line in lines:
        assert not line.startswith("!") or list(ROOT.glob(line.strip("!/")))


def test_make_alone_lists_the_verbs() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for verb in ("install", "run", "doctor", "test", "check", "fmt", "bench", "image"):
        assert f"make {verb} " in listed


def test_an_env_file_may_begin_with_a_mark_and_must_be_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEY", raising=False)
    file = Path(".env")
    file.write_text("API_KEY=café\n", "utf-8-sig")
    assert given()["API_KEY"] == "café"
    file.write_text("API_KEY=café\n", "utf-16")
    with pytest.raises(SettingsError, match="not UTF-8"):
        given()


def test_what_requests_reads_by_itself_may_stand_in_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    around = {"NO_PROXY": "localhost", "MODELS_FILE": str(ROOT / "models.json")}
    monkeypatch.setattr(os, "environ", dict(around))
    lines = ("HTTPS_PROXY=http://p:1", "all_proxy=http://q:1", "NO_PROXY=no.where", "HOLD=2")
    Path(".env").write_text("\n".join(lines), "utf-8")
    assert load().hold == 2
    assert os.environ == {**around, "HTTPS_PROXY": "http://p:1", "all_proxy": "http://q:1"}


def test_what_the_environment_fills_goes_before_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"API_KEY": "", "HOLD": "3", "FLOWITH_OLD": ""})
    Path(".env").write_text("API_KEY=mine\nHOLD=2\nHEARTBEAT=\n", "utf-8")
    assert given() == {"API_KEY": "mine", "HOLD": "3", "HEARTBEAT": "", "FLOWITH_OLD": ""}
