"""The agents that are tried, each with its command line and its own names for three steps."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLD, NEW = "Hello wrold, this is <b>it</b>.", "Hello world, this is <b>it</b>."
ANSWER = "The greeting is right now."
COUNT = "wc -l < greeting.md > lines.txt"


@dataclass(frozen=True)
class Agent:
    """`command` runs in bash, in the folder to work in; `steps` are what the model says, given
    that folder; `tools` names tools whose offer marks a request as part of the job, `result` what
    each result of a tool begins with in the prompt, as a regular expression. One that `insists`
    repeats whatever fails, be it a 402."""

    command: str
    steps: Callable[[Path], list[str]]
    tools: tuple[str, ...] = ()
    runs_commands: bool = True
    prints: bool = True
    insists: bool = False
    without: Collection[str] = ()
    result: str = '<tool_result id="'


def call(name: str, **arguments: Any) -> str:
    """A call as models are taught to write it, with words before it."""
    told = json.dumps({"name": name, "arguments": arguments})
    return f"Now the next step.\n\n<tool_call>\n{told}\n</tool_call>"


def opencode(work: Path) -> list[str]:
    path = str(work / "greeting.md")
    return [
        call("read", filePath=path),
        call("edit", filePath=path, oldString=OLD, newString=NEW),
        call("bash", command=COUNT),
    ]


OPENCODE = """
cat > opencode.json <<END
{"provider": {"flowith": {"npm": "@ai-sdk/openai-compatible", "name": "Flowith",
  "options": {"baseURL": "$BASE_URL", "apiKey": "$API_KEY"},
  "models": {"gpt-4.1": {"limit": {"context": 200000, "output": 32000},
             "modalities": {"input": ["text", "image"], "output": ["text"]}}}}},
 "permission": {"edit": "allow", "bash": "allow"}}
END
exec $BIN/opencode run -m flowith/gpt-4.1 "$TASK"
"""


def qwen_code(work: Path) -> list[str]:
    path = str(work / "greeting.md")
    return [
        call("read_file", file_path=path),
        call("edit", file_path=path, old_string=OLD, new_string=NEW),
        call("run_shell_command", command=COUNT, is_background=False),
    ]


QWEN = """
export OPENAI_API_KEY=$API_KEY OPENAI_BASE_URL=$BASE_URL OPENAI_MODEL=gpt-4.1
exec $BIN/qwen --auth-type openai -y -p "$TASK"
"""


def cline(work: Path) -> list[str]:
    patch = f"*** Begin Patch\n*** Update File: greeting.md\n@@\n-{OLD}\n+{NEW}\n*** End Patch"
    return [
        call("read_files", files=[{"path": str(work / "greeting.md")}]),
        call("apply_patch", input=patch),
        call("run_commands", commands=[COUNT]),
    ]


CLINE = """
$BIN/cline auth openai-compatible -k $API_KEY -b $BASE_URL -m gpt-4.1 >/dev/null 2>&1
exec $BIN/cline "$TASK"
"""


def cline_messages(work: Path) -> list[str]:
    """Under Claude's name it offers another tool for edits."""
    read, _, count = cline(work)
    path = str(work / "greeting.md")
    return [read, call("editor", path=path, old_text=OLD, new_text=NEW), count]


CLINE_MESSAGES = """
$BIN/cline auth anthropic -k $API_KEY -m claude-sonnet-4-5 >/dev/null 2>&1
sed -i 's|"apiKey"|"baseUrl": "'$BASE_URL'", "apiKey"|' $HOME/.cline/data/settings/providers.json
exec $BIN/cline "$TASK"
"""


def continue_cli(work: Path) -> list[str]:
    path = str(work / "greeting.md")
    return [
        call("Read", filepath=path),
        call("MultiEdit", file_path=path, edits=[{"old_string": OLD, "new_string": NEW}]),
        call("Bash", command=COUNT),
    ]


CONTINUE = """
cat > $HOME/config.yaml <<END
name: Flowith
version: 1.0.0
schema: v1
models:
  - name: gpt-4.1 (Flowith)
    provider: openai
    model: gpt-4.1
    apiBase: $BASE_URL
    apiKey: $API_KEY
    roles: [chat, edit, apply]
    capabilities: [tool_use]
    defaultCompletionOptions: {contextLength: 200000, maxTokens: 16000}
END
exec $BIN/cn --config $HOME/config.yaml --auto -p "$TASK"
"""


def aider(_work: Path) -> list[str]:
    edit = f"greeting.md\n```\n<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}\n>>>>>>> REPLACE\n```\n"
    return [f"One word is wrong.\n\n{edit}\n{ANSWER}"]


AIDER_COMMAND = """
export OPENAI_API_KEY=$API_KEY OPENAI_API_BASE=$BASE_URL
exec $AIDER_PYTHON -m aider --model openai/gpt-4.1 --yes-always --no-show-model-warnings \
  --no-check-update --analytics-disable --no-gitignore --no-auto-commits \
  --message "$TASK" greeting.md
"""


def mini_swe_agent(_work: Path) -> list[str]:
    return [
        call("bash", command="cat greeting.md"),
        call("bash", command="sed -i s/wrold/world/ greeting.md"),
        call("bash", command=COUNT),
        call("bash", command="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
    ]


MINI = """
export OPENAI_API_KEY=$API_KEY OPENAI_API_BASE=$BASE_URL
export MSWEA_CONFIGURED=true MSWEA_COST_TRACKING=ignore_errors MSWEA_SILENT_STARTUP=1
exec $PYTHON -m minisweagent.run.mini -m openai/gpt-4.1 -y --exit-immediately -t "$TASK"
"""


def pi(work: Path) -> list[str]:
    path = str(work / "greeting.md")
    return [
        call("read", path=path),
        call("edit", path=path, edits=[{"oldText": OLD, "newText": NEW}]),
        call("bash", command=COUNT),
    ]


PI = """
export PI_OFFLINE=1 PI_API=API PI_URL=URL
mkdir -p $HOME/.pi/agent
cat > $HOME/.pi/agent/models.json <<END
{"providers": {"flowith": {"api": "$PI_API", "baseUrl": "$PI_URL", "apiKey": "$API_KEY",
  "models": [{"id": "gpt-4.1", "contextWindow": 128000, "reasoning": true}]}}}
END
exec $BIN/pi --provider flowith --model gpt-4.1 -p "$TASK"
"""
PI_CHAT = PI.replace("=API", "=openai-completions").replace("=URL", "=$BASE_URL")
PI_RESPONSES = PI.replace("=API", "=openai-responses").replace("=URL", "=$BASE_URL")
PI_MESSAGES = PI.replace("=API", "=anthropic-messages").replace("=URL", "=${BASE_URL%/v1}")


def scripted(_work: Path) -> list[str]:
    return [
        call("read_file", path="greeting.md"),
        call("write_file", path="greeting.md", content=f"# Greeting\n\n{NEW}\n\n"),
        call("run_command", command=COUNT),
    ]


def smolagents(work: Path) -> list[str]:
    return [*scripted(work), call("final_answer", answer=ANSWER)]


AGENTS = {
    "opencode": Agent(OPENCODE, opencode, ("filePath",)),
    "qwen-code": Agent(QWEN, qwen_code, ("run_shell_command",)),
    "Cline": Agent(CLINE, cline, ("run_commands",)),
    "Cline, Messages": Agent(CLINE_MESSAGES, cline_messages, ("run_commands",)),
    "pi": Agent(PI_CHAT, pi, ("oldText",)),
    "pi, Responses": Agent(PI_RESPONSES, pi, ("oldText",)),
    "pi, Messages": Agent(PI_MESSAGES, pi, ("oldText",)),
    "Continue": Agent(CONTINUE, continue_cli, ("MultiEdit",)),
    "aider": Agent(AIDER_COMMAND, aider, (), runs_commands=False, insists=True),
    "mini-swe-agent": Agent(MINI, mini_swe_agent, (), prints=False, insists=True),
    "OpenAI Agents SDK": Agent(
        "exec $PYTHON $HERE/use_openai_agents.py", scripted, ("run_command",)
    ),
    "smolagents": Agent(
        "exec $PYTHON $HERE/use_smolagents.py", smolagents, ("run_command",), result="Observation:"
    ),
    "LangGraph": Agent("exec $PYTHON $HERE/use_langgraph.py", scripted, ("run_command",)),
}
