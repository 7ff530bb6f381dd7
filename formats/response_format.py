"""The JSON that a caller wants an answer to be: chat's `response_format` and its kin, checked.

What is said to the model about it belongs to the bridge.
"""

from typing import Any

from chat_request import AnswerFormat
from formats.fields import bad_value, check_schema, expect, missing, parse_name
from jsontools.budget import Budget


def parse_format(
    param: str, wanted: Any, budget: Budget, *, flat: bool = False
) -> AnswerFormat | None:
    """The format wanted at `param`; None where any text will do. `budget` is the request's, for
    the schema, which stands right there where the form is `flat`. Raises InvalidRequest."""
    if wanted is None:
        return None
    match expect(param, wanted, dict).get("type"):
        case "text":
            return None
        case "json_object":
            schema = wanted.get("schema")
            if schema is not None:  # llama.cpp, Together and Fireworks hold the answer to it
                check_schema(schema, f"{param}.schema", "the format", budget)
            return AnswerFormat("json_object", schema=schema, strict=schema is not None)
        case "json_schema" if flat:
            return _parse_json_schema(param, wanted, budget)
        case "json_schema":
            inner = wanted.get("json_schema")
            return _parse_json_schema(f"{param}.json_schema", inner, budget)
        case None:
            raise missing(f"{param}.type")
        case _:
            supported = "supported values are 'json_object', 'json_schema' and 'text'"
            raise bad_value(f"{param}.type", supported)


def _parse_json_schema(param: str, wanted: Any, budget: Budget) -> AnswerFormat:
    """A schema with its name, as it stands at `param`."""
    wanted = expect(param, {} if wanted is None else wanted, dict)
    name = parse_name(f"{param}.name", wanted.get("name"))
    schema, strict = wanted.get("schema"), wanted.get("strict")
    if strict is not None:
        expect(f"{param}.strict", strict, bool)
    if schema is not None:
        check_schema(schema, f"{param}.schema", f"the format '{name}'", budget)
    description = wanted.get("description")
    return AnswerFormat("json_schema", name, str(description or ""), schema, bool(strict))
