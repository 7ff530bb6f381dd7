"""Which module may import which: arrows point down only; and the page that explains the modules."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED: dict[str, set[str]] = {
    "events": set(),
    "errors": set(),
    "tokens": set(),
    "neighbours": set(),
    "catalogue": {"settings"},
    "pages": {"settings"},
    "keys": {"errors"},
    "metrics": {"flowith", "keys", "pages", "record", "settings"},
    "settings": set(),
    "prompt": set(),
    "structured": {"errors", "events"},
    "toolcalls": {"errors", "events", "structured"},
    "toolfinder": {"errors", "events", "structured", "toolcalls"},
    "messages": {"errors", "events"},
    "chat": {"errors", "messages", "structured", "toolcalls"},
    "completion": {"chat", "errors", "events"},
    "shape": {"errors", "events", "tokens"},
    "translate": {
        "chat",
        "errors",
        "events",
        "messages",
        "prompt",
        "settings",
        "shape",
        "structured",
        "tokens",
        "toolcalls",
        "toolfinder",
    },
    "flowith": {"errors", "events", "flowith", "prompt", "settings"},
    "caller": {"errors", "flowith"},
    "record": {"settings"},
    "call": {
        "caller",
        "chat",
        "completion",
        "errors",
        "events",
        "flowith",
        "messages",
        "record",
        "settings",
        "translate",
    },
    "proxy": {
        "call",
        "caller",
        "catalogue",
        "chat",
        "completion",
        "errors",
        "flowith",
        "keys",
        "messages",
        "metrics",
        "neighbours",
        "pages",
        "record",
        "settings",
    },
    "worker": {"gevent_worker"},
    "gevent_worker": set(),
    "commands": {"commands", "errors", "flowith", "pages", "settings"},
    "wsgi": {"commands", "proxy", "settings"},
}
PACKAGES = ("commands", "flowith")
MODULES = sorted(path for place in (".", *PACKAGES) for path in (ROOT / place).glob("*.py"))
OURS = {path.stem for path in ROOT.glob("*.py")} | set(PACKAGES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    name = path.parent.name if path.parent.name in PACKAGES else path.stem
    if name in ("run", "gunicorn.conf"):
        return
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported & OURS <= ALLOWED[name]


def test_the_page_names_every_module_and_only_what_there_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition("## How the code is laid out")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = re.findall(r"`([^`]+)`", " ".join(rows))
    ours = [str(path.relative_to(ROOT)) for path in MODULES if path.name != "__init__.py"]
    assert set(ours) <= set(named)
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert len(named) == len(set(named))
    drawing = (ROOT / "docs" / "images" / "architecture.svg").read_text("utf-8")
    told = re.findall(r"[\w/.]+\.py\b", page + drawing)
    assert [name for name in told if not (ROOT / name).exists()] == []
