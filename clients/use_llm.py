"""The `llm` command with the service as a model of its own, as its documentation describes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cases import BASE_URL, FINAL, HELLO, KEY, PARIS, assert_hung_up, case, run

LLM = Path(sys.executable).with_name("llm")
FOLDER = Path(os.environ["LLM_USER_PATH"])
MODEL = """
- model_id: {id}
  model_name: {name}
  api_base: "{url}"
  api_key_name: flowith
  supports_tools: true
  supports_schema: true
  vision: true
"""
NAMES = {"ours": "gpt-4.1", "ours-native": "native", "ours-no": "no"}
rows = [MODEL.format(id=i, name=name, url=BASE_URL) for i, name in NAMES.items()]
(FOLDER / "extra-openai-models.yaml").write_text("".join(rows), "utf-8")
(FOLDER / "keys.json").write_text(json.dumps({"flowith": KEY}), "utf-8")
TOOL = 'def weather(city: str) -> str:\n    "Tells the weather."\n    return "18 degrees"\n'


def llm(*words: str, model: str = "ours") -> subprocess.CompletedProcess[str]:
    order = [str(LLM), "-m", model, *words]
    return subprocess.run(order, capture_output=True, text=True, timeout=60, check=False)


def said(*words: str, model: str = "ours") -> str:
    done = llm(*words, model=model)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


for way in ((), ("--no-stream",)):
    name = way[0] if way else "stream"

    @case(f"{name}: text")
    def _(way: tuple[str, ...] = way) -> None:
        assert said(*way, "hello") == HELLO

    @case(f"{name}: usage")
    def _(way: tuple[str, ...] = way) -> None:
        done = llm(*way, "-u", "hello")
        assert "input" in done.stderr, done.stderr
        assert "output" in done.stderr, done.stderr

    @case(f"{name}: reasoning")
    def _(way: tuple[str, ...] = way) -> None:
        assert said(*way, "reason").endswith("Two.")

    @case(f"{name}: schema")
    def _(way: tuple[str, ...] = way) -> None:
        assert json.loads(said(*way, "--schema", "name, people int", "json please")) == PARIS

    for model in ("ours", "ours-native"):

        @case(f"{name}: tools, {model}")
        def _(way: tuple[str, ...] = way, model: str = model) -> None:
            out = said(*way, "--functions", TOOL, "tool please", model=model)
            assert out.endswith(FINAL), out

    @case(f"{name}: silence")
    def _(way: tuple[str, ...] = way) -> None:
        assert said(*way, "silence") == "late, but here"

    for words in ("error 429", "error 402", "error 401", "error 500", "empty", "cut"):

        @case(f"{name}: {words}")
        def _(way: tuple[str, ...] = way, words: str = words) -> None:
            done = llm(*way, words)
            assert done.returncode != 0, done.stdout
            assert "Error" in done.stderr
            assert "Traceback" not in done.stderr, done.stderr

    @case(f"{name}: unknown model")
    def _(way: tuple[str, ...] = way) -> None:
        done = llm(*way, "hello", model="ours-no")
        assert done.returncode != 0
        assert "does not exist" in done.stderr


@case("image")
def _() -> None:
    picture = FOLDER / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n a picture")
    assert said("-a", str(picture), "image").startswith("https://files.example/f/")


@case("a conversation goes on")
def _() -> None:
    said("hello")
    assert said("-c", "and now?") == "You said: and now?"


@case("interrupting it stops Flowith")
def _() -> None:
    words = "wait for interrupt of llm"
    with subprocess.Popen([str(LLM), "-m", "ours", words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"not"
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert_hung_up(words)


run()
