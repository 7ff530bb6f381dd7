"""Real clients against the service as it runs: `python clients/drive.py [NAME ...]`.

Installs them from npm and PyPI beside this file (once), starts the service and Flowith's stand-in,
which answers by the last words of a prompt (see WISHES), runs each client's program and prints
what failed. A program prints one JSON line per case: {"case": name, "error": null or text}.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

import scripted_agents  # noqa: E402
from conftest import KEY, TOKEN, WEB_TOKEN, Server  # noqa: E402
from fake_flowith import (  # noqa: E402
    CUT,
    HANG,
    FakeFlowith,
    Piece,
    Reply,
    Seen,
    error,
    json_reply,
    knowledge,
    llm,
    think,
    web,
    words,
)

PROGRAMS = {  # the slowest first, as two run at a time
    "Codex CLI": "use_codex.py",
    "llm": "use_llm.py",
    "openai-node": "openai.mjs",
    "openai-node, Responses": "responses.mjs",
    "Vercel AI SDK 6": "ai-sdk.mjs 6",
    "Vercel AI SDK 7": "ai-sdk.mjs 7",
    "Cherry Studio's engine": "cherry.mjs",
    "@langchain/openai": "langchain.mjs",
    "langchain-openai": "use_langchain.py",
    "anthropic": "use_anthropic.py",
    "langchain-anthropic": "use_langchain_anthropic.py",
    "pydantic-ai": "use_pydantic_ai.py",
    "Claude Code": "claude-code.mjs",
    "@anthropic-ai/sdk": "anthropic.mjs",
    "langchain-openai, Responses": "use_langchain_responses.py",
    "openai, Responses": "use_responses.py",
    "Agents SDK": "use_openai_agents.py",
    "@openai/agents": "agents.mjs",
    "pydantic-ai, Responses": "use_pydantic_responses.py",
    "litellm": "use_litellm.py",
    "LlamaIndex": "use_llamaindex.py",
    "Haystack": "use_haystack.py",
    "curl": "use_curl.py",
}
# These need a newer `openai` than LlamaIndex takes, which is among those of requirements.txt.
NEWER = {"use_langchain_responses.py", "use_llm.py", "use_openai_agents.py",
         "use_pydantic_responses.py", "use_responses.py"}  # fmt: skip
SECONDS = 600  # for all cases of one client, of which llm needs 200 on two cores
# A refusal of an account makes it rest, so that each case with one needs an account of its own.
ACCOUNTS = ",".join(f"{kind}{i:03}" for i in range(300) for kind in (TOKEN, WEB_TOKEN))
SETTINGS = {"FLOWITH_AUTH_TOKEN": ACCOUNTS, "RETRY_ATTEMPTS": "1", "HOLD": "1", "HEARTBEAT": "0.5"}
MODELS = {  # Codex has another set of tools for each of the names that it knows
    "gpt-4.1": {"model": "gpt-4.1", "api": "web"},
    "gpt-5.5": {"model": "gpt-5.5", "api": "web"},
    "gpt-5.6-sol": {"model": "gpt-5.6-sol", "api": "web"},
    "native": {"model": "gpt-4.1", "api": "llm", "native_tools": True},
    "claude-*": {"model": "claude-opus-4.8", "api": "web"},
    "library": {"model": "gpt-4.1", "api": "knowledge", "kb_list": ["cats"]},
    "gpt-image-1": {"model": "painter", "kind": "image", "api": "web"},
    "dall-e-3": {"model": "painter", "kind": "image", "api": "llm"},
}
PAGES = [{"title": "All of them", "url": "https://cats.example/all", "content": "Cats purr."}]

JSON = 'Here it is:\n\n```json\n{"name": "Paris",\n "people": 2102650}\n```\n'
Wish = Callable[[str], Sequence[Any]]


def calls(*cities: str) -> list[str]:
    """Tool calls as the models are asked to write them, in small pieces."""
    text = "\n".join(scripted_agents.called("weather", city=city) for city in cities)
    return [text[i : i + 4] for i in range(0, len(text), 4)]


def native_calls(*cities: str) -> list[Piece]:
    """The same as OpenAI's deltas."""
    pieces: list[Piece] = []
    for i, city in enumerate(cities):
        for call in (
            {"index": i, "id": f"call_{i}", "function": {"name": "weather", "arguments": ""}},
            {"index": i, "function": {"arguments": '{"city": '}},
            {"index": i, "function": {"arguments": f'"{city}"}}'}},
        ):
            pieces.append({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    return pieces


def call(name: str, **given: Any) -> list[str]:
    """One call of one of Codex's tools: `arguments` for a function, `input` for a custom one."""
    text = f"<tool_call>\n{json.dumps({'name': name, **given})}\n</tool_call>"
    return [text[i : i + 9] for i in range(0, len(text), 9)]


COMMAND = "echo made-$((40+2)) > made.txt; cat made.txt"
PATCH = """*** Begin Patch
*** Update File: greet.py
@@
-print("hello")
+print("hello, 世界")
*** End Patch
"""
CODE = f"""const done = await tools.exec_command({{cmd: {json.dumps(COMMAND)}}});
text(done.output);
"""

# What a prompt has to begin with, and the answer.
WISHES: dict[str, Sequence[Any]] = {
    "hello": ["Hel", 0.05, "lo, 你", 0.05, "好 ", b"\xf0\x9f\x91", 0.05, b"\xa9", "‍👩‍👧!"],
    "reason": [think("One and one."), "Two", "."],
    "tool": calls("Paris"),
    "two tools": ["I shall look.\n\n", *calls("Paris", "Rome")],
    "city call": [
        '<tool_call>\n{"name": "weather", "argum',
        'ents": {"name": "Paris", "people": 2102650}}\n</tool_call>',
    ],
    "agent, run": call("exec_command", arguments={"cmd": COMMAND}),
    "agent, patch": call("apply_patch", input=PATCH),
    "agent, code": call("exec", input=CODE),
    "json": [JSON[i : i + 5] for i in range(0, len(JSON), 5)],
    "long": words("word " * 5000 + "end"),
    "silence": [2.2, "late, ", 1.2, "but here"],
    "cut": ["half an ", 0.2, CUT],
    "empty": [],
    "wait": ["not ", "begun", HANG],
}
ASKED: set[str] = set()  # prompts whose second answer is another


def answer(seen: Seen) -> Reply:
    """The stand-in's answer to a prompt."""
    users = [m["content"] for m in seen.json["messages"] if m["role"] == "user"]
    native = seen.path.endswith("/llm")
    say = llm if native else web
    if seen.path.endswith("/seek"):
        say = partial(knowledge, seeds=PAGES)
    if isinstance(users[-1], list):
        return say(next(p["image_url"]["url"] for p in users[-1] if p["type"] == "image_url"))
    told = scripted_agents.to_answer([words for words in users if isinstance(words, str)])
    if told is not None:
        return say(told)
    said = scripted_agents.without_reminders(users[-1])
    if said == "cut at first":
        again = said in ASKED
        ASKED.add(said)
        return say("whole now") if again else say("half an ", 0.2, CUT)
    if seen.json["messages"][-1]["role"] == "tool" or said.startswith("<tool_result"):
        asked = [text for text in users if not str(text).startswith("<tool_result")]
        if asked and str(asked[-1]).startswith("agent"):
            return say(f"The tool said: {said}")
        return say("It is 18 degrees ", "in Paris.")
    if said.startswith("That answer could not be used"):
        said = users[-2].replace(" at the second try", "")
    elif "at the second try" in said:
        return say("I would rather not.")
    if refusal := re.match(r"error (\d+)", said):
        return error(int(refusal[1]), headers={"Retry-After": "300"})
    if native and re.match(r"(two )?tool", said):
        made = native_calls("Paris", "Rome") if said.startswith("two") else native_calls("Paris")
        return llm(*made, finish="tool_calls")
    wish = next((w for w in sorted(WISHES, key=len, reverse=True) if said.startswith(w)), None)
    return say(*WISHES[wish]) if wish else say(f"You said: {said}")


def seen_by(flowith: FakeFlowith) -> Callable[[Seen], Reply]:
    """Lets a client's program ask what became of the calls with these last words."""

    def tell(asked: Seen) -> Reply:
        text = unquote(asked.query)
        found = [s for s in flowith.requests if text in s.body.decode("utf-8", "replace")]
        left = [s for s in found if s.hung_up_at is not None]
        return json_reply({"calls": len(found), "left": len(left)})

    return tell


def needs(program: str) -> str:
    """The file that says what a program needs to be installed."""
    if ".mjs" in program or program == "use_codex.py":
        return "package-lock.json"
    return "requirements-newer.txt" if program in NEWER else "requirements.txt"


def place(needed: str) -> Path:
    """Where what a file names is installed."""
    if needed == "package-lock.json":
        return HERE / "node_modules"
    return HERE / (".venv-newer" if "newer" in needed else ".venv")


def install(names: Sequence[str]) -> None:
    """npm and pip, when what they are told has changed since they last ran."""
    for needed in sorted({needs(PROGRAMS[name]) for name in names}):
        wanted, stamp = HERE / needed, place(needed) / "installed"
        if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
            continue
        print(f"installing {needed} ...", flush=True)
        if needed == "package-lock.json":
            install_node()
        else:
            install_python(place(needed), needed)
        stamp.write_bytes(wanted.read_bytes())


def install_node() -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        sys.exit("Node.js with npm is needed for the JavaScript clients and for Codex.")
    order = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(order, cwd=HERE, check=True)


def install_python(folder: Path, needed: str) -> None:
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python(folder)), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", needed], cwd=HERE, check=True)


def python(folder: Path) -> Path:
    """The Python of a virtual environment."""
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def command(program: str) -> list[str]:
    """How a program is run; Codex is driven by a Python that needs nothing."""
    if ".mjs" in program:
        return ["node", *program.split()]
    if program == "use_codex.py":
        return [sys.executable, program]
    return [str(python(place(needs(program)))), program]


def run(name: str, environ: dict[str, str]) -> tuple[float, list[tuple[str, str | None]]]:
    """Seconds, and each case with its error; a program that ends badly is one more."""
    started = time.monotonic()
    order = command(PROGRAMS[name])
    try:
        done = subprocess.run(
            order, cwd=HERE, env=environ, timeout=SECONDS, capture_output=True, text=True
        )
        out, complaint = done.stdout, done.stderr.strip()[-2000:] if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        out = late.stdout.decode() if isinstance(late.stdout, bytes) else ""
        complaint = f"not done after {SECONDS} s"
    found = [json.loads(line) for line in out.splitlines() if line.startswith('{"case"')]
    cases = [(case["case"], case["error"]) for case in found]
    if complaint or not cases:
        cases.append(("runs to its end", complaint or "no case was run"))
    return time.monotonic() - started, cases


def main() -> None:
    names = sys.argv[1:] or list(PROGRAMS)
    if unknown := [name for name in names if name not in PROGRAMS]:
        sys.exit(f"Unknown client {unknown[0]!r}; there are: {', '.join(PROGRAMS)}")
    install(names)
    with tempfile.TemporaryDirectory() as folder, FakeFlowith() as flowith:
        for path in ("/completion", "/external/use/llm", "/external/use/knowledge-base/seek"):
            flowith.reply(answer, path=path)
        flowith.reply(seen_by(flowith), path="/seen")
        models = Path(folder, "models.json")
        models.write_text(json.dumps(MODELS), "utf-8")
        given = {**SETTINGS, "FLOWITH_API_URL": flowith.url, "MODELS_FILE": str(models)}
        server = Server(Path(folder, "service.log"), given)
        ours = {"BASE_URL": f"{server.url}/v1", "API_KEY": KEY, "STAND_IN": flowith.url}
        plain = {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "LLM_USER_PATH": folder}
        # Node itself is installed with the clients, as some need a newer one than systems have
        bins = {"PATH": f"{HERE / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"}
        environ = {**os.environ, **ours, **plain, **bins}
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "PYTHONPATH"):
            environ.pop(name, None)
        try:
            with ThreadPoolExecutor(2) as pool:
                found = dict(zip(names, pool.map(lambda n: run(n, environ), names), strict=True))
        finally:
            server.stop()
        if "Traceback" in (log := server.log()):
            print(log[log.index("Traceback") :][:3000])
    sys.exit(report(found))


def report(found: dict[str, tuple[float, list[tuple[str, str | None]]]]) -> int:
    """Print the table; the exit status."""
    width = max(map(len, found))
    total = failed = 0
    for name, (seconds, cases) in found.items():
        wrong = [(case, complaint) for case, complaint in cases if complaint]
        total, failed = total + len(cases), failed + len(wrong)
        passed = f"{len(cases) - len(wrong)}/{len(cases)}"
        print(f"{name + ':':{width + 1}} {passed:>7} {seconds:4.0f} s")
        for case, complaint in wrong:
            first, *rest = (complaint or "").strip().splitlines()
            print(f"    {case}: {first}", *(f"        {line}" for line in rest[:6]), sep="\n")
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
