"""The pages for people: their links lead somewhere, their commands and examples work."""

import html
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, TOKEN, MakeApi, Server
from fake_flowith import FakeFlowith

from settings import Settings

NAMES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md"]
PAGES = {name: ROOT / name for name in NAMES} | {
    str(path.relative_to(ROOT)): path for path in sorted((ROOT / "docs").glob("*.md"))
}
TEXTS = {name: path.read_text("utf-8") for name, path in PAGES.items()}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
HERE = "http://localhost:8099"

# Commands of the pages that are run here, and words of what they have to say.
RUN = {
    "curl -N": '"finish_reason":"stop"',
    "curl http": '"object": "list"',
    ".venv/bin/flask models list": "gpt-4.1",
    ".venv/bin/flask models refresh": "models.json",
}
# The other commands, by how they begin, and where they are run or why they are not.
NOT_RUN = {
    "make run": "tests/service/test_run.py",
    "make test": "CI",
    "make doctor": "tests/commands/test_doctor.py; it would look for Flowith itself",
    ".venv/bin/flask doctor": "tests/commands/test_doctor.py and test_sample.py",
    ".venv/bin/python tests/fake_flowith.py": "tests/service/test_samples.py",
    ".venv/bin/gunicorn": "conftest.Server is this",
    "cp .env.example .env": "tests/test_config.py starts with the copy",
    "docker": "needs Docker; tests/test_deploy.py reads docker-compose.yml",
    "make image": "needs Docker, podman or buildah",
    "kubectl": "needs a cluster; tests/test_deploy.py reads the files",
    "cp deploy/kubernetes-secret": "goes with kubectl",
    "make -C /opt": "changes the machine; make dev does the same",
    "python3 -m venv": "loads packages; make dev does the same",
    "llm": "clients/use_llm.py",
    "OPENAI_API_BASE": "clients/whole_jobs/known_agents.py",
    "OPENAI_BASE_URL": "clients/whole_jobs/known_agents.py",
    ".venv/bin/python bench": "takes minutes; make bench does the same",
} | dict.fromkeys(
    ("useradd", "install -m", "cp /opt", "ln -s", "systemctl", "nginx -t"), "changes the machine"
)
# Names in capitals that are not ours.
FOREIGN = {"HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "WORKER_CLASS", "OPENAI_API_BASE_URL",
           "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL_LIST", "BASE_URL", "CUSTOM_MODELS",
           "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "FLOWITH_API_KEY", "KNOWN", "NAME",
           "FILE", "FLASK_SKIP_DOTENV",
           "FLOWITH_PROXY_KEY", "CODEX_API_KEY", "POST", "OPTIONS", "ANTHROPIC_API_KEY",
           "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL",
           "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
           "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_AUTH_TOKEN",
           "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "IMAGE_GEN_OAI_API_KEY",
           "IMAGE_GEN_OAI_MODEL", "VISION_MODELS",
           "IMAGE_GEN_OAI_BASEURL", "MSWEA_COST_TRACKING", "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT",
           "QWEN_CODE_UNATTENDED_RETRY", "DALLE3_API_KEY", "DALLE_REVERSE_PROXY",
           "API_BASE_URL", "DEFAULT_MODEL", "KILO_CONFIG", "ROOT", "URL",
           "COPILOT_PROVIDER_BASE_URL", "COPILOT_PROVIDER_API_KEY", "COPILOT_MODEL",
           "COPILOT_OFFLINE", "COPILOT_PROVIDER_WIRE_API", "COPILOT_PROVIDER_TYPE",
           "FACTORY_API_KEY"}  # fmt: skip


def blocks(*kinds: str) -> list[Any]:
    """The fenced blocks of these languages, as test parameters."""
    return [
        pytest.param(kind, text, id=f"{name}-{i}")
        for name, page in TEXTS.items()
        for i, (kind, text) in enumerate(BLOCK.findall(page))
        if kind in kinds
    ]


def commands() -> list[str]:
    """Each command of a shell block once: continued lines joined, comments off."""
    shell = "\n".join(param.values[1] for param in blocks("bash")).replace("\\\n", "")
    found = [re.sub(r"\s+# .*", "", line).strip() for line in shell.split("\n")]
    return list(dict.fromkeys(command for command in found if command))


def sections(page: str) -> dict[str, str]:
    """The text below each heading, by the anchor that GitHub gives it."""
    found, anchor, fenced = dict[str, str](), "", False
    for line in page.split("\n"):
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            anchor = re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        else:
            found[anchor] = f"{found.get(anchor, '')}{line}\n"
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    prose = INLINE.sub("", BLOCK.sub("", TEXTS[name]))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'<img src="([^"]+)"', prose)
    for target in targets:
        if not re.match(r"https?:", target):
            path, _, anchor = target.partition("#")
            there = (PAGES[name].parent / path).resolve() if path else PAGES[name]
            assert there.exists(), target
            assert not anchor or anchor in sections(there.read_text("utf-8")), target


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set[str](), ["README.md"]
    while ahead:
        reached.add(name := ahead.pop())
        links = re.findall(r"\]\(([^)\s#]+)", TEXTS[name])
        paths = [(PAGES[name].parent / link).resolve() for link in links]
        ahead += [n for n, p in PAGES.items() if p in paths and n not in reached]
    assert reached == set(PAGES)


def test_every_command_is_run_or_has_its_reason() -> None:
    starts = {start: re.compile(rf"{re.escape(start)}(?!\w)") for start in (*RUN, *NOT_RUN)}
    assert [c for c in commands() if not any(s.match(c) for s in starts.values())] == []
    assert [name for name, s in starts.items() if not any(map(s.match, commands()))] == []


def test_every_verb_of_make_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = re.findall(r"(?:^|`)make ([a-z]+)", "\n".join(TEXTS.values()), re.MULTILINE)
    assert set(named) <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


@pytest.fixture(scope="module")
def service(flowith: FakeFlowith, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with the key of the pages."""
    log = tmp_path_factory.mktemp("docs") / "service.log"
    given = {"API_KEY": "123456", "FLOWITH_AUTH_TOKEN": TOKEN, "FLOWITH_API_URL": flowith.url}
    server = Server(log, given)
    yield server
    server.stop()


Output = Callable[[list[str]], str]


@pytest.fixture
def output(service: Server, flowith: FakeFlowith, tmp_path: Path) -> Output:
    """Run a command against the service, in a project whose models.json may be written."""
    shutil.copy(ROOT / "models.json", tmp_path)
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    clean |= {"FLOWITH_AUTH_TOKEN": TOKEN, "FLOWITH_API_URL": flowith.url}
    clean |= {"MODELS_FILE": str(tmp_path / "models.json"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(command: list[str]) -> str:
        here = [word.replace(HERE, service.url) for word in command]
        done = subprocess.run(
            here, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(tuple(RUN))])
def test_a_command_does_what_the_page_says(command: str, output: Output) -> None:
    order = shlex.split(command.replace(".venv/bin/", f"{Path(sys.executable).parent}/"))
    said = output(order)
    assert all(words in said for start, words in RUN.items() if command.startswith(start)), said


PARSE: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
}


@pytest.mark.parametrize(("kind", "text"), blocks(*PARSE))
def test_an_example_of_a_file_can_be_read(kind: str, text: str) -> None:
    assert PARSE[kind](text)


@pytest.mark.parametrize(("kind", "text"), blocks("python"))
def test_an_example_in_python_works(kind: str, text: str, output: Output) -> None:
    """Run where its packages are here, OpenAI's at least; the others are compiled."""
    compile(text, kind, "exec")
    modules = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
    assert modules
    if modules == ["openai"] or all(map(importlib.util.find_spec, modules)):
        assert "stand-in" in output([sys.executable, "-c", text])


@pytest.mark.parametrize("name", PAGES)
def test_every_setting_that_a_page_names_is_one(name: str) -> None:
    codes = " ".join(INLINE.findall(BLOCK.sub("", TEXTS[name])))
    named = set(re.findall(r"(?<![\w.])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?!\w)", codes))
    named |= {code for code in codes.split() if re.fullmatch("[A-Z]{4,}", code)}
    ours = {setting.name.upper() for setting in Settings.described()}
    assert named <= ours | FOREIGN


def test_the_models_that_readers_are_told_to_ask_for_are_there() -> None:
    models = json.loads((ROOT / "models.json").read_text("utf-8"))
    text = TEXTS["README.md"] + TEXTS["docs/clients.md"]
    asked = set(re.findall(r"\b(?:gpt|claude|gemini|deepseek)-[\w.-]*\w", text))
    patterns = tuple(name[:-1] for name in models if name.endswith("*"))
    assert [name for name in asked - set(models) if not name.startswith(patterns)] == []


def test_no_foreign_name_is_left_over() -> None:
    pages = " ".join(TEXTS.values())
    assert [name for name in FOREIGN if f"{name}" not in pages] == []


CLIENTS = sections(TEXTS["docs/clients.md"])
TABLE = re.findall(
    r"^\| \[([^\]]+)\]\(#([^)]+)\) \| (.*?) \|.*\| (.*?) \|$", TEXTS["docs/clients.md"], re.M
)
FORMS = {"with `/v1`": {"/v1"}, "without": {""}, "whole address": {"/v1", "/v1/chat/completions"}}


@pytest.mark.parametrize(("title", "anchor", "form"), [row[:3] for row in TABLE])
def test_a_client_s_address_has_the_form_that_the_table_says(
    title: str, anchor: str, form: str
) -> None:
    rows = re.findall(rf"^\| {re.escape(title)} \|.*$", TEXTS["README.md"], re.MULTILINE)
    told = re.findall(rf"{HERE}([\w/]*)", " ".join([CLIENTS[anchor], *rows]))
    ends = {end.removesuffix("/models") if anchor == "curl" else end for end in told}
    assert ends == FORMS[form] | ({"/v1/chat/completions"} if anchor == "curl" else set())


def test_the_clients_that_were_run_are_those_that_make_clients_runs() -> None:
    drive = (ROOT / "clients" / "drive.py").read_text("utf-8")
    # one program may run a client in several versions, which it is told behind its name
    programs = set(re.findall(r'^    "[^"]+": "([^" ]+)[^"]*",$', drive, re.MULTILINE))
    told = re.findall(r"\[([^\]]+)\]\(\.\./clients/\1\)", "\n".join(how for *_, how in TABLE))
    assert sorted(programs) == sorted(told)


def test_the_agents_that_did_a_whole_job_are_those_that_make_clients_runs() -> None:
    known = (ROOT / "clients" / "whole_jobs" / "known_agents.py").read_text("utf-8")
    agents = re.findall(r'^    "([^"]+)": Agent\(', known, re.MULTILINE)
    told = [title for title, *_, how in TABLE if "clients/whole_jobs/" in how]
    programs = {re.sub(", .*", "", agent) for agent in agents}  # one may speak several APIs
    assert sorted(programs) == sorted(re.sub(", .*", "", title) for title in told)


def test_the_readme_counts_the_clients_that_it_leaves_out() -> None:
    table = TEXTS["README.md"].partition("## Clients")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| (?!client |---)", table, re.MULTILINE)
    assert f" has {len(TABLE) - len(shown)} more" in table


def test_the_page_and_the_docs_tell_the_same_settings(api: MakeApi) -> None:
    client = api(API_KEY="123456").client
    asked = client.get("/", headers={"Accept": "text/html", "Host": "localhost:8099"})
    shown = re.findall(r"<summary>([^<]+)</summary>.*?<code>(.*?)</code>", asked.text, re.DOTALL)
    anchors = {title: anchor for title, anchor, *_ in TABLE}
    assert len(shown) > 8
    for title, code in shown:
        told = CLIENTS[anchors.get(title) or anchors[f"OpenAI, {title}"]]
        assert [line for line in html.unescape(code).strip().split("\n") if line not in told] == []


def test_the_tests_that_keep_the_promises_are_there() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    named = set(re.findall(r"`((?:\w+/)?test_\w+(?:\.py)?)`", page))
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    for name in named:
        if name.endswith(".py"):
            assert (ROOT / "tests" / name).is_file(), name
        else:
            assert f"\ndef {name}(" in code, name


def test_the_names_of_the_architecture_stand_in_the_files_it_says() -> None:
    told = re.findall(r"`(\w+)` in\s+`([\w/]+\.py)`", TEXTS["docs/architecture.md"])
    assert len(told) > 4
    for name, file in told:
        code = (ROOT / file).read_text("utf-8")
        assert re.search(rf"^ *(def|class) {name}\b|^{name} = ", code, re.MULTILINE), name
