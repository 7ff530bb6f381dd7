"""The tools of a Responses request: functions, custom tools, namespaces, built-in ones.

A model is told flat, unique names; `Offer.names` leads back to the bare name and its namespace.
What is said to the model about the tools belongs to the bridge.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple, get_args

from chat_request import Choice, Tool, ToolUse
from formats.fields import bad_value, expect, require
from formats.tools import allowed_of, check_count, parse_choice, parse_definition, parse_tool
from jsontools.budget import Budget

# Of OpenAI's built-in tools: those that a client offers beside its own and can do without, and
# those whose result the caller has asked for.
DISPENSABLE = ("tool_search", "image_generation", "local_shell", "shell")
NEEDED = ("apply_patch", "file_search", "code_interpreter", "mcp", "programmatic_tool_calling")
LONGEST_NAME = 64
LONGEST_NAMESPACE = 256  # characters; it is part of the name of each of its tools


class Called(NamedTuple):
    """A tool as its caller calls it."""

    name: str
    namespace: str = ""


@dataclass(slots=True)
class Offer:
    """All tools of a request. `names` leads from what the model is told to what the caller said,
    `told` back again; `ignored` holds the types that were left out, `budget` is the request's, for
    the schemas."""

    tools: list[Tool] = field(default_factory=list)
    names: dict[str, Called] = field(default_factory=dict)
    told: dict[Called, str] = field(default_factory=dict)
    online: bool = False
    ignored: list[str] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)

    def to_told(self, name: str, namespace: Any) -> str:
        """What the model was told of a tool that an earlier call names."""
        spaced = Called(name, namespace if isinstance(namespace, str) else "")
        return self.told.get(spaced, name)


def parse_offer(lists: Iterable[tuple[str, Any]]) -> Offer:
    """The tools of one or several lists, each with its place in the request. A tool that comes
    twice counts as it came last. Raises InvalidRequest."""
    offer = Offer()
    found: dict[Called, Tool] = {}
    for where, given in lists:
        check_count(where, _size(expect(where, given, list, "an array of objects")))
        for i, item in enumerate(given):
            for tool in _parse_item(f"{where}[{i}]", item, offer):
                found[Called(tool.name, tool.namespace)] = tool
    check_count("tools", len(found))
    bare = Counter(tool.name for tool in found.values())
    for called, tool in found.items():
        told = _to_told(called, bare)
        offer.told[called], offer.names[told] = told, called
        offer.tools.append(replace(tool, name=told))
    return offer


def _size(given: list[Any]) -> int:
    """How many tools a list has, those in namespaces too, before any of them is looked at."""
    inner = [item["tools"] for item in given if isinstance(item, dict) and "tools" in item]
    return len(given) + sum(len(tools) for tools in inner if isinstance(tools, list))


def _to_told(called: Called, bare: Counter[str]) -> str:
    """A name that no other tool of the request has, the same in each request."""
    if not called.namespace or bare[called.name] == 1:
        return called.name
    joined = f"{called.namespace}__{called.name}"
    plain = re.sub("[^A-Za-z0-9_-]", "_", joined)
    if plain == joined and len(plain) <= LONGEST_NAME and plain not in bare:
        return plain
    mark = sha256(joined.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{plain[: LONGEST_NAME - 9]}_{mark}"


def _parse_item(where: str, item: Any, offer: Offer) -> list[Tool]:
    kind = expect(where, item, dict).get("type") or "function"
    if kind in ("function", "custom"):
        return [_parse_own(where, item, kind, offer.budget)]
    expect(f"{where}.type", kind, str)
    if kind == "namespace":
        return _parse_namespace(where, item, offer.budget)
    if kind.startswith("web_search"):
        offer.online = offer.online or item.get("external_web_access") is not False
        return []
    if kind in DISPENSABLE:
        offer.ignored.append(f"tools.{kind}")
        return []
    if kind in NEEDED or kind.startswith("computer"):
        wanted = f"'{kind[:40]}' is not available here; offer functions or custom tools"
        raise bad_value(f"{where}.type", wanted, "unsupported_value")
    wanted = "supported values are 'function', 'custom', 'namespace' and 'web_search'"
    raise bad_value(f"{where}.type", wanted)


def _parse_own(where: str, item: dict[str, Any], kind: str, budget: Budget) -> Tool:
    """A tool that the caller runs, in this API's flat form or in chat's nested one."""
    if isinstance(item.get(kind), dict):
        return parse_tool(item, where, budget)
    return parse_definition(item, where, budget, custom=kind == "custom")


def _parse_namespace(where: str, item: dict[str, Any], budget: Budget) -> list[Tool]:
    """The tools of a namespace; what is said of all stands before what is said of the first."""
    name = require(f"{where}.name", item.get("name"), str)
    if len(name) > LONGEST_NAMESPACE:
        wanted = f"expected at most {LONGEST_NAMESPACE} characters"
        raise bad_value(f"{where}.name", wanted, "string_above_max_length")
    about = item.get("description")
    tools = []
    given = require(f"{where}.tools", item.get("tools"), list)
    for i, inner in enumerate(given):
        place = f"{where}.tools[{i}]"
        kind = expect(place, inner, dict).get("type") or "function"
        if kind not in ("function", "custom"):
            raise bad_value(f"{place}.type", "supported values are 'function' and 'custom'")
        tools.append(replace(_parse_own(place, inner, kind, budget), namespace=name))
    if tools and isinstance(about, str) and about:
        said = f"{name}: {about}\n\n{tools[0].description}".rstrip()
        tools[0] = replace(tools[0], description=said)
    return tools


def parse_use(offer: Offer, wanted: Any, parallel: bool) -> ToolUse | None:
    """The tools with the choice among them; None where there are none. Raises InvalidRequest."""
    own = {told: called.name for told, called in offer.names.items()}  # as the caller names them
    wanted = _without_search(wanted)
    choice, chosen = parse_choice(wanted, own.values(), "tool_choice", "name")
    tools = tuple(tool for tool in offer.tools if own[tool.name] in chosen)
    return ToolUse(tools, choice, parallel) if tools else None


def _without_search(wanted: Any) -> Any:
    """A choice without the web search, which is made before the model writes a word."""
    if not isinstance(wanted, dict):
        return wanted
    if _is_web_search(wanted):
        return "auto"
    kind = wanted.get("type")
    if kind not in (*get_args(Choice), "function", "custom", "allowed_tools"):
        wanted_types = "supported values are 'function', 'custom', 'allowed_tools', 'web_search'"
        raise bad_value("tool_choice.type", wanted_types, "unsupported_value")
    spec = allowed_of(wanted)
    allowed = spec.get("tools")
    if kind != "allowed_tools" or not isinstance(allowed, list) or not allowed:
        return wanted
    left = [item for item in allowed if not _is_web_search(item)]
    return {**spec, "type": kind, "tools": left} if left else "none"


def to_shown_choice(wanted: Any) -> Any:
    """A choice that has been checked, in this API's flat form and words."""
    if not isinstance(wanted, dict):
        return "required" if wanted == "any" else wanted
    kind: str = wanted["type"]
    if kind in get_args(Choice):
        return kind
    flat = to_flat(kind, wanted)
    return {"mode": "auto", **flat} if kind == "allowed_tools" else flat


def to_flat(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """A tool or a choice in this API's flat form, nested under its type or not."""
    inner = given.get(kind)
    return {"type": kind, **(inner if isinstance(inner, dict) else given)}


def _is_web_search(item: Any) -> bool:
    return isinstance(item, dict) and str(item.get("type")).startswith("web_search")
