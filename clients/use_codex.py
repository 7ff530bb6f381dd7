"""Codex CLI, as npm installs it: whole runs of `codex exec` under the names of models that it
knows and one that it does not, since it sends other tools for each."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import BASE_URL, HELLO, KEY, assert_hung_up, case, run, upstream

CODEX = Path(__file__).parent / "node_modules" / ".bin" / "codex"
CONFIG = f"""
model_provider = "flowith"
[model_providers.flowith]
name = "flowith"
base_url = "{BASE_URL}"
env_key = "FLOWITH_PROXY_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
"""
BUILT_IN = f'openai_base_url = "{BASE_URL}"\n'
FREE = "--dangerously-bypass-approvals-and-sandbox"  # a container has no room for its sandbox
SHAPES = {"a name it does not know": "gpt-4.1", "gpt-5.5": "gpt-5.5", "gpt-5.6": "gpt-5.6-sol"}


class Codex:
    """One run in a folder of its own."""

    def __init__(
        self,
        words: str,
        model: str = "gpt-4.1",
        options: Sequence[str] = (),
        config: str = CONFIG,
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="codex-"))
        self.folder = self.home / "work"
        self.folder.mkdir()
        (self.folder / "greet.py").write_text('print("hello")\n')
        (self.home / "config.toml").write_text(config)
        self.options = ["--json", "--skip-git-repo-check", FREE, "-m", model, *options]
        self.start(words)

    def start(self, words: str, *resumed: str) -> None:
        """A turn of its own, or one more of the conversation that is `resumed`."""
        keys = dict.fromkeys(("FLOWITH_PROXY_KEY", "CODEX_API_KEY"), KEY)
        environ = {**os.environ, **keys, "CODEX_HOME": str(self.home)}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [str(CODEX), "exec", *resumed, *self.options, words],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> list[dict[str, Any]]:
        """What it told as JSON until it ended."""
        out, _ = self.process.communicate(timeout=60)
        self.seconds = time.monotonic() - self.started
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    def file(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8")

    def clear(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)


def items(told: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [event["item"] for event in told if event["type"] == "item.completed"]
    return [item for item in found if item["type"] == kind]


def last_words(told: list[dict[str, Any]]) -> str:
    text: str = items(told, "agent_message")[-1]["text"]
    return text


def failure(told: list[dict[str, Any]]) -> str:
    (failed,) = [event for event in told if event["type"] == "turn.failed"]
    text: str = failed["error"]["message"]
    return text


def cases_of(shape: str, model: str) -> None:
    @case(f"{shape}: text")
    def _() -> None:
        codex = Codex("hello", model)
        assert last_words(codex.end()) == HELLO
        codex.clear()

    @case(f"{shape}: runs a command and reports it")
    def _() -> None:
        words = "agent, code" if model.startswith("gpt-5.6") else "agent, run"
        codex = Codex(words, model)
        told = codex.end()
        assert codex.file("made.txt") == "made-42\n"
        assert "made-42" in last_words(told), told
        codex.clear()


for each in SHAPES.items():
    cases_of(*each)


@case("its built-in provider, which has a long conversation made short by this service")
def _() -> None:
    soon = ("-c", "model_auto_compact_token_limit=3000")
    codex = Codex("long, to be made short", options=soon, config=BUILT_IN)
    assert last_words(codex.end()).endswith("end")
    codex.start("hello", "resume", "--last")
    assert last_words(codex.end()) == HELLO
    assert upstream("Stop working here. Write a summary")["calls"] == 1 + 1  # asked, then told
    codex.clear()


@case("gpt-5.5: edits a file with apply_patch")
def _() -> None:
    codex = Codex("agent, patch", "gpt-5.5")
    told = codex.end()
    assert codex.file("greet.py") == 'print("hello, 世界")\n', told
    assert items(told, "file_change"), told
    codex.clear()


@case("thoughts are shown")
def _() -> None:
    codex = Codex("reason", options=("-c", "hide_agent_reasoning=false"))
    told = codex.end()
    assert last_words(told) == "Two."
    assert [item["text"] for item in items(told, "reasoning")] == ["One and one."], told
    codex.clear()


@case("silence")
def _() -> None:
    codex = Codex("silence")
    assert last_words(codex.end()) == "late, but here"
    codex.clear()


@case("a prompt that Flowith refuses is told at once")
def _() -> None:
    codex = Codex("error 400 of codex")
    assert "rejected" in failure(codex.end())
    assert upstream("error 400 of codex")["calls"] == 1
    codex.clear()


@case("no credits: told within seconds")
def _() -> None:
    codex = Codex("error 402 of codex")
    message = failure(codex.end())
    assert "credits" in message, message
    assert codex.seconds < 20
    assert upstream("error 402 of codex")["calls"] <= 4
    codex.clear()


@case("a refused account: told within seconds")
def _() -> None:
    codex = Codex("error 401 of codex")
    message = failure(codex.end())
    assert "Flowith" in message, message
    assert codex.seconds < 20
    codex.clear()


@case("a cut answer is asked for once more, then told")
def _() -> None:
    codex = Codex("cut")
    assert "broke off" in failure(codex.end())
    codex.clear()


@case("Ctrl-C stops Flowith")
def _() -> None:
    words = "wait for Ctrl-C of codex"
    codex = Codex(words)
    for _try in range(100):
        if upstream(words)["calls"]:
            break
        time.sleep(0.1)
    codex.process.send_signal(signal.SIGINT)
    codex.end()
    assert_hung_up(words)
    codex.clear()


@case("a summary in place of a long conversation")
def _() -> None:
    codex = Codex("hello", options=("-c", "model_auto_compact_token_limit=10"))
    assert last_words(codex.end()) == HELLO
    codex.clear()


run()
