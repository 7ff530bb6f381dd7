"""Calls and literals as Python has them, read by its own parser.

Knows nothing of the forms in which calls are written.
"""

import ast
import re
from keyword import kwlist
from typing import Any

from bridge.tool_schemas import properties
from chat_request import Tool

STRING = re.compile(
    r"(?:\b[rR])?(?<!\\)"
    r"(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")",
    re.DOTALL,
)
# What Python would not take beside strings: its own words as names, and zeros before a number.
_UNTIDY = re.compile(
    rf"(?P<string>{STRING.pattern})|\b(?P<word>{'|'.join(kwlist)})(?=\s?=)|(?<![\w.])0+(?=[1-9])",
    re.DOTALL,
)
_OWN = "_of_the_tool"  # stands behind such a word while it is read
_ESCAPE = re.compile(r"\\(?:[\\'\"abfnrtv\n0-7]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|N\{|U)|\\")
_MOST_MARKS = 12_000  # of which each takes Python's parser, and what mends JSON, up to 15 us
_MOST_ESCAPES = 40_000
_MOST_BARE = 100_000  # characters outside of strings, at 1 us each
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}


def from_python(text: str, tool: Tool) -> dict[str, Any]:
    """The arguments in `(a=1, b="x")`; ValueError where they are no plain values."""
    call = _parsed(f"f{text}")
    if not isinstance(call, ast.Call):
        raise ValueError("no call")
    given: dict[str, Any] = {}
    names = list(properties(tool)) or (["input"] if tool.custom else [])
    for name, node in zip(names, call.args, strict=False):
        given[name] = node
    if len(call.args) > len(given):
        raise ValueError("more arguments than the tool has")
    if len(call.args) == 1 and isinstance(call.args[0], ast.Dict):
        given = {"arguments": call.args[0]}
    for keyword in call.keywords:
        given[_named(keyword) or "arguments"] = keyword.value
    return {name: _value(node) for name, node in given.items()}


def is_dense(text: str) -> bool:
    """Whether a text has more values, outside of its strings, than a model writes into one call:
    to read it as anything but plain JSON would take seconds."""
    if text.count("\\") > _MOST_ESCAPES:
        return True
    bare, strings = STRING.subn("", text)
    marks = strings + sum(map(bare.count, "[{(,:+<'\""))
    return marks > _MOST_MARKS or len(bare) > _MOST_BARE


def python_value(text: str) -> Any:
    """A literal of Python, with JSON's names too; ValueError where it is none."""
    return _value(_parsed(text.strip()))


def _parsed(text: str) -> ast.expr:
    if is_dense(text):
        raise ValueError("too many values")
    try:
        return ast.parse(_UNTIDY.sub(_tidy, text), mode="eval").body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise ValueError("no Python") from None


def _named(keyword: ast.keyword) -> str:
    return (keyword.arg or "").removesuffix(_OWN)


def _tidy(string: re.Match[str]) -> str:
    """A string without the raw line ends and backslashes that Python alone would not take, or what
    else is to stand in a place."""
    if not string["string"]:
        return string["word"] + _OWN if string["word"] else ""
    if string[0][0] in "rR":
        return string[0]
    text = _ESCAPE.sub(literal, string[0])
    return text if text[:3] in ('"""', "'''") else text.replace("\n", "\\n")


def _value(node: ast.expr) -> Any:
    try:
        return _converted(node)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _converted(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() as text):
            # JSON writes one character as two halves, which Python does not join.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case ast.Constant(value=bool() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name.lower() in _CONSTANTS:
            return _CONSTANTS[name.lower()]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = [_converted(left), _converted(right)]
            if all(isinstance(part, str) for part in parts):
                return "".join(parts)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_converted(item) for item in items]
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, ast.Constant) for k in keys):
            pairs = zip(keys, values, strict=True)
            return {str(k.value): _converted(v) for k, v in pairs if isinstance(k, ast.Constant)}
        case ast.Call(args=[], keywords=given) if all(k.arg for k in given):
            return {_named(k): _converted(k.value) for k in given}  # Gemini's nested objects
    raise ValueError("no plain value")


def literal(escape: re.Match[str]) -> str:
    return escape[0] if len(escape[0]) > 1 else "\\\\"
