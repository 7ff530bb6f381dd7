"""The JSON that a caller wants an answer to be: chat's `response_format` and its kin, checked.

What is said to the model about it belongs to the bridge.
"""

from typing import Any

from chat_request import AnswerFormat
from formats.fields import bad_value, check_schema, expect, missing, parse_name
from jsontools.budget import Budget


def parse_format(body: dict[str, Any], budget: Budget | None = None) -> AnswerFormat | None:
    """Read `response_format`; None where any text will do. `budget` is the request's, for the
    schema. Raises InvalidRequest."""
    wanted = body.get("response_format")
    if wanted is None:
        return None
    match expect("response_format", wanted, dict).get("type"):
        case "text":
            return None
        case "json_object":
            return _parse_json_object(wanted, budget)
        case "json_schema":
            where = "response_format.json_schema"
            return parse_json_schema(wanted.get("json_schema"), where, budget)
        case None:
            raise missing("response_format.type")
        case _:
            supported = "supported values are 'json_object', 'json_schema' and 'text'"
            raise bad_value("response_format.type", supported)


def _parse_json_object(wanted: dict[str, Any], budget: Budget | None) -> AnswerFormat:
    """An object of any form; servers that take a `schema` beside it (llama.cpp, Together,
    Fireworks) hold the answer to it, so it is strict."""
    schema = wanted.get("schema")
    if schema is None:
        return AnswerFormat("json_object")
    check_schema(schema, "response_format.schema", "response_format", budget)
    return AnswerFormat("json_object", schema=schema, strict=True)


def parse_json_schema(wanted: Any, param: str, budget: Budget | None = None) -> AnswerFormat:
    """Read a named schema, chat's `json_schema` or its kin. Raises InvalidRequest."""
    wanted = expect(param, {} if wanted is None else wanted, dict)
    name = parse_name(f"{param}.name", wanted.get("name"))
    schema, strict = wanted.get("schema"), wanted.get("strict")
    if strict is not None:
        expect(f"{param}.strict", strict, bool)
    if schema is not None:
        check_schema(schema, f"{param}.schema", f"response_format '{name}'", budget)
    description = wanted.get("description")
    return AnswerFormat("json_schema", name, str(description or ""), schema, bool(strict))
