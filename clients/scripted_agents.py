"""What the stand-in answers to coding agents, whose prompts hold more than the user's words."""

import json
import re

REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
RESULT = re.compile(r'<tool_result id="[^"]*" name="(\w+)">\n(.*?)\n</tool_result>', re.DOTALL)
OWN_TOOLS = ("Bash", "Read", "Edit", "WebSearch")  # Claude Code's


def called(name: str, **arguments: str) -> str:
    """A call as the models are asked to write it."""
    told = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{told}\n</tool_call>"


def without_reminders(text: str) -> str:
    """The user's own words out of what an agent puts around them."""
    return REMINDER.sub("", text).strip()


def to_answer(asked: list[str]) -> str | None:
    """The answer to the user messages of an agent; None where they are those of other clients."""
    first, last = without_reminders(asked[0]), without_reminders(asked[-1])
    if (result := RESULT.match(last)) and result[1] in OWN_TOOLS:
        if result[1] == "Read":
            path = first.removeprefix("edit ")
            return called("Edit", file_path=path, old_string="old", new_string="new")
        return f"It says: {result[2]}"
    if last.startswith("run "):
        return "I run it.\n" + called("Bash", command=last.removeprefix("run "), description="Runs")
    if last.startswith("edit "):
        return called("Read", file_path=last.removeprefix("edit "))
    if last.startswith("look up "):
        return called("ToolSearch", query="select:WebSearch")  # it is on offer from then on
    if last == "Tool loaded.":
        return called("WebSearch", query=first.removeprefix("look up "))
    if last.startswith("Perform a web search"):
        return "Cats purr, says [All of them](https://cats.example/all)."
    return None
