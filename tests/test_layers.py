"""Which module may import which: arrows point down only, and in no circle. And the page that
explains the modules."""

import ast
import re
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import PACKAGES, ROOT

WORDS = {"chat_request", "events", "errors", "settings"}  # the vocabulary: what is spoken of
# What the modules of a room, or a module of its own, may import of ours: rooms or modules.
ALLOWED: dict[str, set[str]] = {
    "events": set(),
    "errors": set(),
    "settings": set(),
    "clock": {"errors"},
    "chat_request": {"events", "jsontools"},
    "jsontools": {"clock", "jsontools"},
    "formats": WORDS | {"formats", "jsontools"},
    "bridge": WORDS | {"bridge", "jsontools"},
    "translate": WORDS | {"bridge"},
    "flowith": WORDS | {"clock", "flowith"},
    "server": WORDS | {"bridge", "clock", "flowith", "formats", "server", "translate"},
    "commands": WORDS | {"commands", "flowith", "formats.model_names", "server.pages"},
    "proxy": WORDS | {"flowith", "formats", "server"},
    "wsgi": {"commands", "proxy", "settings"},
    "run": {"settings"},
    "gunicorn.conf": {"server", "settings"},
}
# Within `formats`: what several of them share; besides it a format knows itself and its pair.
SHARED = {
    "attachments",
    "content",
    "fields",
    "model_names",
    "multipart",
    "response_format",
    "sse",
    "tools",
}
PAIRS = {
    "chat": {"chat_answer", "responses_items", "responses_tools"},
    "legacy_completions": {"chat", "chat_answer"},
    "images": {"chat_answer", "images_answer"},
    "images_answer": {"chat_answer"},
    "anthropic": {"anthropic_answer", "anthropic_messages", "anthropic_tools"},
    "anthropic_answer": {"anthropic_output"},
    "anthropic_messages": {"anthropic_tools"},
    "responses": {"responses_answer", "responses_items", "responses_tools"},
    "responses_answer": {"chat_answer", "responses_items", "responses_output", "responses_tools"},
    "responses_compaction": {"responses", "responses_answer"},
    "responses_items": {"responses_tools"},
    "responses_output": {"responses_tools"},
}
NOT_WEB = ("chat_request", "events", "errors", "jsontools", "formats", "bridge", "translate")
MODULES = sorted(
    path for place in (".", *PACKAGES) for path in (ROOT / place).glob("*.py") if path.is_file()
)


def to_name(path: Path) -> str:
    """A module's dotted name; `gunicorn.conf` is no package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {to_name(path) for path in MODULES}


def imports_of(source: str) -> set[str]:
    """All modules that are imported, wherever it stands; `from formats import chat` is two."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def ours(source: str) -> set[str]:
    return imports_of(source) & NAMES


def forbidden(name: str, imported: Iterable[str]) -> list[str]:
    """What of `imported` the module `name` may not know."""
    room = name if name in ALLOWED else name.partition(".")[0]
    allowed = ALLOWED[room]
    wrong = [i for i in imported if not ({i, i.partition(".")[0]} & allowed)]
    if room == "formats" and name != "formats":
        own = name.partition(".")[2]
        known = SHARED | {own} | PAIRS.get(own, set())
        wrong += [i for i in imported if i != "formats" and i.startswith("formats.")
                  and i.partition(".")[2] not in known]  # fmt: skip
    return sorted(wrong)


@pytest.mark.parametrize("path", MODULES, ids=to_name)
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    name, source = to_name(path), path.read_text("utf-8")
    assert forbidden(name, ours(source)) == []
    if name.partition(".")[0] in NOT_WEB:
        assert not {i.partition(".")[0] for i in imports_of(source)} & {"flask", "requests"}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports, none where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as found:
        return list(found.args[1])
    return []


def test_no_imports_run_in_a_circle() -> None:
    packages = set(PACKAGES)
    graph = {to_name(p): ours(p.read_text("utf-8")) - packages - {to_name(p)} for p in MODULES}
    assert circle(graph) == []


def test_the_table_finds_what_it_forbids() -> None:
    assert forbidden("formats.chat", ours("from bridge.filters import split_think"))
    assert forbidden("formats.chat", ours("from formats import legacy_completions"))
    assert forbidden("flowith.client", ours("import server.call"))
    assert forbidden("bridge.filters", ours("from formats.fields import expect"))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_at_the_root_stand_only_the_named_modules() -> None:
    named = {"wsgi", "proxy", "translate", "chat_request", "events", "errors", "settings", "clock"}
    named |= {"run", "gunicorn.conf"}
    assert {path.stem for path in ROOT.glob("*.py")} == named


def test_no_module_is_long() -> None:
    long = {to_name(p): n for p in MODULES if (n := len(p.read_text("utf-8").splitlines())) > 350}
    assert long == {}


def test_the_page_names_every_module_and_only_what_there_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition("## How the code is laid out")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = re.findall(r"`([^`]+)`", " ".join(rows))
    modules = [str(path.relative_to(ROOT)) for path in MODULES if path.name != "__init__.py"]
    assert set(modules) <= set(named)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(named) == len(set(named))
    drawing = (ROOT / "docs" / "images" / "architecture.svg").read_text("utf-8")
    told = re.findall(r"[\w/.]+\.py\b", page + drawing)
    assert [name for name in told if not (ROOT / name).exists()] == []
