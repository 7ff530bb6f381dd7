"""The keywords of JSON Schema 2020-12 that are kept here: what each has to look like, and those
that a glance at the value decides.

https://json-schema.org/draft/2020-12/json-schema-validation has them all.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

MAPS = ("properties", "$defs", "definitions", "dependentSchemas")  # schemas by name
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")  # of schemas
SCHEMAS = (
    "items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if",
    "then", "else",
)  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value % 1 == 0


TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": _is_integer,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def types_of(rule: Any) -> list[str]:
    """The names in a `type`, which is one or a list of them."""
    return rule if isinstance(rule, list) else [rule]


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1 is 1.0, but not true."""
    if one != other:
        return False
    if isinstance(one, dict | list):
        return _written(one) == _written(other)
    return isinstance(one, bool) == isinstance(other, bool)


def _written(value: Any) -> str:
    return json.dumps(_with_integers(value), sort_keys=True)


def _with_integers(value: Any) -> Any:
    """A value in which 1.0 is 1."""
    if isinstance(value, list):
        return [_with_integers(one) for one in value]
    if isinstance(value, dict):
        return {key: _with_integers(one) for key, one in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _distinct(items: list[Any]) -> bool:
    return len({_written(item) for item in items}) == len(items)


def _is_multiple(value: Any, of: Any) -> bool:
    try:
        return bool((value / of) % 1 == 0 if isinstance(of, float) else value % of == 0)
    except OverflowError:  # a whole number that no float can hold
        return False


def _for(kind: Callable[[Any], bool], good: Callable[[Any, Any], bool]) -> Any:
    """A keyword that concerns values of one kind only."""
    return lambda value, rule: not kind(value) or good(value, rule)


_string, _object, _array, _is_flag = (
    TYPES[name] for name in ("string", "object", "array", "boolean")
)
# Whether a value meets a keyword, for those that need no other schema. A boolean `exclusiveMinimum`
# is draft 4's, and no limit of its own.
SIMPLE: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, rule: any(TYPES[name](value) for name in types_of(rule)),
    "enum": lambda value, rule: any(same(value, one) for one in rule),
    "const": same,
    "minimum": _for(_is_number, lambda value, least: value >= least),
    "maximum": _for(_is_number, lambda value, most: value <= most),
    "exclusiveMinimum": _for(_is_number, lambda value, low: _is_flag(low) or value > low),
    "exclusiveMaximum": _for(_is_number, lambda value, high: _is_flag(high) or value < high),
    "multipleOf": _for(_is_number, _is_multiple),
    "minLength": _for(_string, lambda value, least: len(value) >= least),
    "maxLength": _for(_string, lambda value, most: len(value) <= most),
    "minItems": _for(_array, lambda value, least: len(value) >= least),
    "maxItems": _for(_array, lambda value, most: len(value) <= most),
    "uniqueItems": _for(_array, lambda value, wanted: not wanted or _distinct(value)),
    "minProperties": _for(_object, lambda value, least: len(value) >= least),
    "maxProperties": _for(_object, lambda value, most: len(value) <= most),
    "required": _for(_object, lambda value, keys: not set(keys) - value.keys()),
}


# How many of the schemas have to fit.
BRANCHES: dict[str, Callable[[Iterable[bool]], bool]] = {
    "anyOf": any,
    "oneOf": lambda verdicts: sum(verdicts) == 1,
}


def _is_type(rule: Any) -> bool:
    return bool(rule) and all(isinstance(name, str) and name in TYPES for name in types_of(rule))


def _is_count(rule: Any) -> bool:
    return _is_integer(rule) and rule >= 0


def _is_names(rule: Any) -> bool:
    return isinstance(rule, list) and all(isinstance(name, str) for name in rule)


_COUNT = (_is_count, "a whole number from 0")
_NUMBER = (_is_number, "a number")
_EDGE = (lambda rule: _is_number(rule) or isinstance(rule, bool), "a number")
_LIST = (lambda rule: isinstance(rule, list) and bool(rule), "an array that is not empty")
# What a keyword has to look like, and how that is told.
SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one or several of {', '.join(TYPES)}"),
    "enum": (_array, "an array"),
    "required": (_is_names, "an array of strings"),
    "dependentRequired": (
        lambda rule: isinstance(rule, dict) and all(map(_is_names, rule.values())),
        "an object of arrays of strings",
    ),
    "multipleOf": (lambda rule: _is_number(rule) and rule > 0, "a number above 0"),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _EDGE,
    "exclusiveMaximum": _EDGE,
    "uniqueItems": (_is_flag, "a boolean"),
    "minContains": _COUNT,
    "maxContains": _COUNT,
    **{
        f"{side}{of}": _COUNT for side in ("min", "max") for of in ("Length", "Items", "Properties")
    },
    **{name: (_object, "an object") for name in MAPS},
    **{name: _LIST for name in LISTS},
}
