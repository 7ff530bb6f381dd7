"""JSON Schema: whether a schema can be used, and what rule of it a value breaks.

Knows nothing of requests or answers; errors are texts.
"""

import functools
from typing import Any

from jsontools.text import compact, limited, read_json

_OF_NAMES = ("properties", "$defs", "definitions", "dependentSchemas")


def schema_fault(schema: dict[str, Any]) -> str:
    """Why this cannot be used as a JSON Schema; empty where it can. One that points outside itself
    cannot."""
    try:
        return _schema_fault(compact(schema))
    except ValueError as wrong:
        return str(wrong)


@functools.lru_cache(maxsize=128)
def _schema_fault(schema_text: str) -> str:
    """Cached because it takes some 3 ms per KB and agents send the same schemas each turn."""
    from jsonschema import Draft202012Validator, FormatChecker, SchemaError

    schema, no_formats = read_json(schema_text), FormatChecker(())
    try:
        limited(lambda: _tame(schema))
        # No formats are checked: it would compile each `pattern`, and those are JavaScript's.
        limited(lambda: Draft202012Validator.check_schema(schema, format_checker=no_formats))
    except SchemaError as exc:
        return f"{exc.json_path}: {exc.message[:200]}"
    except (ValueError, LookupError) as exc:
        return str(exc)
    return ""


def fault(value: Any, schema: dict[str, Any]) -> str | None:
    """The first rule that `value` breaks, in the schema's words and never the value's own.

    A schema that makes no sense is no fault of the model: then everything fits.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import UnknownType
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    def first_error() -> Any:
        # An empty registry, because the default one fetches whatever URL a $ref names.
        validator = Draft202012Validator(_tame(schema), registry=Registry())
        return next(validator.iter_errors(value), None)

    try:
        error = limited(first_error)
    except ValueError as exc:
        return str(exc)
    except (UnknownType, Unresolvable, TypeError, AttributeError, LookupError, ArithmeticError):
        return None
    if error is None:
        return None
    path = "/".join(map(str, error.absolute_schema_path))
    return f"{path} is {compact(error.validator_value)[:200]}"


def _tame(schema: Any, *, names: bool = False) -> Any:
    """The schema without regexes, of which a hostile one hangs the process inside C code.

    The keys of `properties` and the like are names, not rules. Raises LookupError for a
    reference that leads outside.
    """
    if isinstance(schema, list):
        return [_tame(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {name: _tame(rule) for name, rule in schema.items()}
    dropped = {"pattern", "patternProperties", "unevaluatedProperties"}
    if "patternProperties" in schema:
        dropped.add("additionalProperties")
    if any(not str(schema.get(key, "#")).startswith("#") for key in ("$ref", "$dynamicRef")):
        raise LookupError("a $ref must begin with '#'")
    return {
        key: rule if key in ("const", "enum") else _tame(rule, names=key in _OF_NAMES)
        for key, rule in schema.items()
        if key not in dropped
    }
