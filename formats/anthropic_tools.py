"""The tools of Anthropic's API, checked: the caller's own, those whose schemas its models know by
heart, and those that its servers run.

Names and fields are those of the Messages API reference. What is said to the model about tools
belongs to the bridge.
"""

from typing import Any, NamedTuple

from chat_request import Choice, Tool, ToolUse
from formats.fields import bad_value, expect, one_of, parse_name, require
from formats.tools import check_count, parse_definition
from jsontools.budget import Budget

NAME_CHARS = 128
WEB_TOOLS = ("web_search_", "web_fetch_")
TOOLSETS = ("computer_toolset_", "browser_toolset_")  # many tools under one type
CHOICES: dict[str, Choice] = {
    "auto": "auto", "none": "none", "any": "required", "tool": "required",
}  # fmt: skip
CHANGES = ("tool_addition", "tool_removal")  # blocks of system messages
TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
POINT = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}


class Offer(NamedTuple):
    """What `tools` and `tool_choice` come to. `online`: the web is to be searched; `searches`: and
    the answer tells what was found. `ignored` are the tools that nobody runs here."""

    use: ToolUse | None
    online: bool
    searches: bool
    ignored: tuple[str, ...]


def parse_tools(body: dict[str, Any], budget: Budget) -> Offer:
    """Read `tools`, what the messages change about them, and `tool_choice`; `budget` is the
    request's, for the schemas. Raises InvalidRequest."""
    given = expect("tools", body.get("tools", []), list, "an array of objects")
    added, gone = _changes(body["messages"])
    check_count("tools", len(given) + len(added))
    tools: dict[str, Tool] = {}
    served: list[str] = []
    kinds: list[str] = []
    for param, item in [*((f"tools.{i}", item) for i, item in enumerate(given)), *added]:
        tool = _parse_tool(item, param, budget)
        if tool is None:
            served.append(str(item.get("name")))
            kinds.append(str(item["type"]))
        elif tool.name not in gone:
            tools[tool.name] = tool
    wanted = body.get("tool_choice", {"type": "auto"})
    use = _parse_choice(wanted, list(tools.values()), served)
    return Offer(
        use,
        online=any(kind.startswith(WEB_TOOLS) for kind in kinds),
        searches=any(kind.startswith("web_search_") for kind in kinds),
        ignored=tuple(kind for kind in kinds if not kind.startswith(WEB_TOOLS)),
    )


def _changes(messages: list[dict[str, Any]]) -> tuple[list[tuple[str, Any]], set[str]]:
    """What system messages add to the tools, each with its place, and the names of those that are
    on offer no more at the end of the conversation."""
    added: list[tuple[str, Any]] = []
    gone: set[str] = set()
    for i, message in enumerate(messages):
        content = message.get("content")
        if message["role"] != "system" or not isinstance(content, list):
            continue
        for j, block in enumerate(content):
            if block["type"] not in CHANGES:
                continue
            where = f"messages.{i}.content.{j}.tool"
            spec = require(where, block.get("tool"), dict)
            if spec.get("type") == "tool_definition":
                spec = require(f"{where}.definition", spec.get("definition"), dict)
                added.append((f"{where}.definition", spec))
            name = str(spec.get("name"))
            if block["type"] == "tool_removal":
                gone.add(name)
            else:
                gone.discard(name)
    return added, gone


def _parse_tool(item: Any, param: str, budget: Budget) -> Tool | None:
    """One tool; None for one that runs on Anthropic's servers."""
    kind = expect(param, item, dict).get("type") or "custom"
    expect(f"{param}.type", kind, str)
    if kind.startswith(TOOLSETS):
        wanted = "toolsets are not available here, use 'computer_20251124'"
        raise bad_value(f"{param}.type", wanted, "unsupported_value")
    if kind == "function":
        wanted = "that is OpenAI's form, send 'name', 'description' and 'input_schema'"
        raise bad_value(f"{param}.type", wanted)
    if kind == "custom" or "input_schema" in item:
        require(f"{param}.input_schema", item.get("input_schema"), dict)
        spec = {name: item.get(name) for name in ("name", "description", "input_schema", "strict")}
        return parse_definition(spec, param, budget, longest=NAME_CHARS)
    family = next((family for family in KNOWN if kind.startswith(family)), None)
    return _known(family, kind, item, param) if family else None


def _known(family: str, kind: str, item: dict[str, Any], param: str) -> Tool:
    """A tool that the caller runs and whose schema the request does not hold."""
    version = kind.removeprefix(family)
    usual, description, properties, required = KNOWN[family]
    name = parse_name(f"{param}.name", item.get("name") or usual, longest=NAME_CHARS)
    if family == "text_editor_" and version <= OLD_EDITOR:
        properties = OLD_EDITS
    elif family == "computer_":
        description += _screen_size(item)
        properties = {"action": _one_of(*_actions(version)), **properties}
    schema = {"type": "object", "properties": properties, "required": required}
    return Tool(name, description, schema)


def _screen_size(item: dict[str, Any]) -> str:
    width, height = item.get("display_width_px"), item.get("display_height_px")
    if not (isinstance(width, int) and isinstance(height, int)):
        return ""
    return f" The screen is {width} by {height} pixels."


def _actions(version: str) -> list[str]:
    """What a computer tool of this date can be asked to do."""
    actions = ["screenshot", "key", "type", "mouse_move", "cursor_position", "left_click",
               "right_click", "middle_click", "double_click", "left_click_drag"]  # fmt: skip
    if version >= "20250124":
        actions += ["triple_click", "left_mouse_down", "left_mouse_up", "scroll", "hold_key",
                    "wait"]  # fmt: skip
    if version >= "20251124":
        actions += ["zoom"]
    return actions


def _one_of(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


def _parse_choice(wanted: Any, tools: list[Tool], served: list[str]) -> ToolUse | None:
    """The choice among the caller's own tools. To demand a tool of the server demands nothing:
    it has run, if it runs at all, before the model writes a word."""
    once = expect("tool_choice", wanted, dict).get("disable_parallel_tool_use") or False
    expect("tool_choice.disable_parallel_tool_use", once, bool)
    kind = require("tool_choice.type", wanted.get("type"), str)
    one_of("tool_choice.type", kind, tuple(CHOICES))
    chosen = tools
    if kind == "tool":
        name = require("tool_choice.name", wanted.get("name"), str)
        chosen = [tool for tool in tools if tool.name == name]
        if not chosen and name not in served:
            text = f"the tool '{name[:64]}' is not among those offered"
            raise bad_value("tool_choice.name", text)
    if kind == "any" and not tools and not served:
        raise bad_value("tool_choice", "it demands a tool, but the request offers none")
    if not chosen:
        kind, chosen = "auto", tools
    return ToolUse(tuple(chosen), CHOICES[kind], parallel=not once) if chosen else None


OLD_EDITOR = "20250124"  # the last date at which an insertion was `new_str` and could be undone
OLD_EDITS: dict[str, Any] = {
    "command": _one_of("view", "create", "str_replace", "insert", "undo_edit"),
    "path": {**TEXT, "description": "Absolute path of a file or folder."},
    "file_text": {**TEXT, "description": "For create: the whole text."},
    "old_str": {**TEXT, "description": "For str_replace: text that stands there exactly once."},
    "new_str": {**TEXT, "description": "For str_replace and insert: the new text."},
    "insert_line": {**NUMBER, "description": "For insert: the line after which; 0 is the start."},
    "view_range": {**POINT, "description": "For view: first and last line, from 1; -1 is the end."},
}
EDITS: dict[str, Any] = OLD_EDITS | {
    "command": _one_of("view", "create", "str_replace", "insert"),
    "new_str": {**TEXT, "description": "For str_replace: the new text."},
    "insert_text": {**TEXT, "description": "For insert: the text."},
}
MEMORY: dict[str, Any] = EDITS | {
    "command": _one_of("view", "create", "str_replace", "insert", "delete", "rename"),
    "path": {**TEXT, "description": "Path of a file or folder below /memories."},
    "old_path": {**TEXT, "description": "For rename: the path as it is."},
    "new_path": {**TEXT, "description": "For rename: the new path."},
}
SCREEN: dict[str, Any] = {
    "coordinate": {**POINT, "description": "x and y in pixels from the upper left."},
    "start_coordinate": {**POINT, "description": "For left_click_drag: where it begins."},
    "text": {**TEXT, "description": "For type, key and hold_key: the text or the key's name;"
             " for clicks and scroll: a key to hold down."},
    "scroll_direction": _one_of("up", "down", "left", "right"),
    "scroll_amount": {**NUMBER, "description": "For scroll: how many clicks of the wheel."},
    "duration": {"type": "number", "description": "For wait and hold_key: seconds."},
    "key": {**TEXT, "description": "A key to hold down while clicking or scrolling."},
    "region": {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4,
               "description": "For zoom: x and y of the upper left and of the lower right."},
}  # fmt: skip
# What stands before the date in the type: usual name, description, properties, required ones.
KNOWN: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "bash_": (
        "bash",
        "Run a command in a bash shell that stays open from call to call.",
        {"command": TEXT, "restart": {"type": "boolean", "description": "Start a new shell."}},
        [],
    ),
    "text_editor_": (
        "str_replace_based_edit_tool",
        "View, create and edit text files.",
        EDITS,
        ["command", "path"],
    ),
    "memory_": (
        "memory",
        "Keep notes as files that outlive the conversation.",
        MEMORY,
        ["command"],
    ),
    "computer_": (
        "computer",
        "See and use a computer's screen, mouse and keyboard.",
        SCREEN,
        ["action"],
    ),
}
