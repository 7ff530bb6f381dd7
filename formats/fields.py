"""Fields of a request, checked: each check raises InvalidRequest that names the field.

Ranges, codes and words are those of OpenAI's API reference. Knows nothing of any one API.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson

from errors import InvalidRequest
from jsontools.budget import Budget
from jsontools.schema import schema_fault
from jsontools.text import finite

T = TypeVar("T")
Check = Callable[[str, Any], object]
MOST_STOPS = 64  # OpenAI takes 4; front ends for role play send dozens
STOP_CHARS = 65_536
TOO_DEEP = "The request body is nested too deeply."
DEEPEST = 500  # levels of JSON; Python gives up at a thousand, wherever that happens to be
LONG = 65_536  # bytes of a body from which on it pays that it may be read twice
EXACT = 2.0**63  # orjson has floats for integers that 64 bits cannot hold
MOST_VALUES = 50_000  # objects and arrays in a request; to check as many takes up to 0.2 s
MOST_MARKS = 250_000  # commas and brackets outside of strings; to check as many takes 0.2 s
HARMLESS = 1_250_000  # bytes of a body up to which it takes no longer, whatever they are
MOST_MESSAGES = 40_000
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SAMPLING = ("temperature", "top_p")  # the parameters that some of Flowith's APIs take
CONTAINERS = (dict, list)
JSON_TYPES = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
JSON_TYPES |= {list: "an array", dict: "an object", type(None): "null"}
_decoder = json.JSONDecoder(parse_constant=finite, parse_float=finite)


def wrong_type(param: str, wanted: str, value: object) -> InvalidRequest:
    """The error for a value of the wrong JSON type."""
    got = JSON_TYPES.get(type(value), "something else")
    message = f"Invalid type for '{param}': expected {wanted}, but got {got} instead."
    return InvalidRequest(message, param=param, code="invalid_type")


def missing(param: str, hint: str = "") -> InvalidRequest:
    """The error for a required parameter that is not there, with a sentence that helps."""
    message = f"Missing required parameter: '{param}'. {hint}".rstrip()
    return InvalidRequest(message, param=param, code="missing_required_parameter")


def bad_value(param: str, wanted: str, code: str = "invalid_value") -> InvalidRequest:
    """The error for a value that is none of those allowed."""
    return InvalidRequest(f"Invalid value for '{param}': {wanted}.", param=param, code=code)


def unsupported(param: str, hint: str) -> InvalidRequest:
    """The error for a parameter that nothing here can do, with a sentence that helps."""
    text = f"Unsupported parameter: '{param}'. {hint}"
    return InvalidRequest(text, param=param, code="unsupported_parameter")


def too_many(param: str, got: int, most: int) -> InvalidRequest:
    """The error for an array with more items than are taken."""
    message = (
        f"Invalid '{param}': array too long. Expected an array with maximum length {most},"
        f" but got an array with length {got} instead."
    )
    return InvalidRequest(message, param=param, code="array_above_max_length")


def expect(param: str, value: object, kind: type[T], wanted: str = "") -> T:
    """`value`, which has to be of `kind`. Raises InvalidRequest."""
    if isinstance(value, kind):
        return value
    raise wrong_type(param, wanted or JSON_TYPES[kind], value)


def require(param: str, value: object, kind: type[T]) -> T:
    """`value`, which has to be there and of `kind`. Raises InvalidRequest."""
    if value is None:
        raise missing(param)
    return expect(param, value, kind)


def one_of(param: str, value: object, allowed: Sequence[str]) -> None:
    """Check that a string is one of those allowed. Raises InvalidRequest."""
    if expect(param, value, str) not in allowed:
        raise bad_value(param, f"supported values are {', '.join(map(repr, allowed))}")


def number(
    param: str, value: Any, *, low: float, high: float = math.inf, whole: bool = False
) -> None:
    """A number between the two; JSON does not tell 5.0 from 5, so both are `whole`."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or (whole and value % 1):
        raise wrong_type(param, "an integer" if whole else "a number", value)
    if not low <= value <= high:
        side, wanted = "below_min", f"at least {low:g}"
        if value > high:
            side, wanted = "above_max", f"at most {high:g}"
        if whole:
            raise bad_value(param, f"expected {wanted}", f"integer_{side}_value")
        wanted = f"expected a number from {low:g} to {high:g}"
        raise bad_value(param, wanted, f"decimal_{side}_value")


integer = partial(number, whole=True)
boolean, string, an_object = (partial(expect, kind=kind) for kind in (bool, str, dict))


STREAMING: dict[str, Check] = {
    "stream": boolean,
    "stream_options": an_object,
    "stream_options.include_usage": boolean,
    "stream_options.include_obfuscation": boolean,
}


def check_fields(body: dict[str, Any], checks: dict[str, Check]) -> None:
    """Hold the fields of a request against their checks; that of `a.b` concerns the member `b` of
    the object `a`. Raises InvalidRequest."""
    for name, value in body.items():
        if name not in checks:
            continue
        checks[name](name, value)
        if isinstance(value, dict):
            for member, inner in value.items():
                param = f"{name}.{member}"
                if param in checks and inner is not None:
                    checks[param](param, inner)


def parse_name(param: str, value: Any, longest: int = 64) -> str:
    """The name of a schema or of a tool. Raises InvalidRequest."""
    name = require(param, value, str)
    if not re.fullmatch(f"[A-Za-z0-9_-]{{1,{longest}}}", name):
        wanted = f"expected 1 to {longest} characters out of a-z, A-Z, 0-9, _ and -"
        raise bad_value(param, wanted)
    return name


def check_stops(param: str, value: Any, *, wanted: str, place: str) -> None:
    """Refuse more stop strings, or longer ones, than any client needs: every character of an
    answer is held against each of them. `place` is how one of them is named. Raises
    InvalidRequest."""
    stops: list[Any] = expect(param, value, list, wanted)
    if len(stops) > MOST_STOPS:
        raise too_many(param, len(stops), MOST_STOPS)
    for i, one in enumerate(stops):
        expect(place.format(i), one, str)
    if sum(map(len, stops)) > STOP_CHARS:
        wanted = f"expected at most {STOP_CHARS} characters in all"
        raise bad_value(param, wanted, "string_above_max_length")


def check_schema(schema: Any, param: str, owner: str, budget: Budget) -> None:
    """Refuse what is no JSON Schema, one that points outside itself, and one that needs more work
    than is left of the request's `budget`. Raises InvalidRequest."""
    if wrong := schema_fault(expect(param, schema, dict), budget):
        raise bad_value(param, f"the schema of {owner} is not usable: {wrong}")


def parse_json(raw: bytes) -> dict[str, Any]:
    """The body as an object, without what is null. Raises InvalidRequest."""
    if len(raw) > HARMLESS:
        _check_density(raw)
    long = len(raw) > LONG
    body = _read_quickly(raw) if long else _read_exactly(raw)
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    large = long or raw.count(b"{") + raw.count(b"[") > DEEPEST  # else it is neither deep nor wide
    if large and _look_over(body):
        body = _read_exactly(raw)
    return {name: value for name, value in body.items() if value is not None}


def _check_density(raw: bytes) -> None:
    """Refuse more values than are taken before they are made: 15 MB of `[],` keep the decoder for a
    second. To count takes a millisecond for a MB. Raises InvalidRequest."""
    if _marks(raw) <= MOST_MARKS:
        return
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = bare.count(b'"')
    if quotes > MOST_MARKS * 2 or _marks(b"".join(bare.split(b'"')[::2])) > MOST_MARKS:
        raise InvalidRequest(f"The request body has more than {MOST_MARKS} values.")


def _marks(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _read_quickly(raw: bytes) -> Any:
    """As `_read_exactly`, which decides where orjson finds no JSON. orjson takes less than half as
    long, 1 ms less for a MB (measured), but rounds integers that 64 bits cannot hold."""
    try:
        return orjson.loads(raw)
    except ValueError:
        return _read_exactly(raw)


def _read_exactly(raw: bytes) -> Any:
    try:
        return _decoder.decode(raw.decode("utf-8-sig"))
    except RecursionError:
        raise InvalidRequest(TOO_DEEP) from None
    except ValueError as wrong:
        raise InvalidRequest(
            "We could not parse the JSON body of your request: it must be a JSON object"
            f" in UTF-8 ({_fault(wrong)})."
        ) from None


def _fault(wrong: ValueError) -> str:
    """What is no JSON, or where; no word of the body itself."""
    match wrong:
        case json.JSONDecodeError():
            return f"at character {wrong.pos}"
        case UnicodeDecodeError():
            return f"at byte {wrong.start}"
    return "a number in it is NaN, Infinity or too large"


def _look_over(body: dict[str, Any]) -> bool:
    """Whether a number in some JSON may have been rounded. Raises InvalidRequest for more levels,
    or more objects and arrays, than are taken."""
    count, depth, rounded = 0, 0, False
    level: list[Any] = [body]
    while level:
        depth += 1
        containers = [one for one in level if type(one) in CONTAINERS]
        floats = [one for one in level if type(one) is float]
        count += len(containers)
        if depth > DEEPEST:
            raise InvalidRequest(TOO_DEEP)
        if count > MOST_VALUES:
            text = f"The request body has more than {MOST_VALUES} objects and arrays."
            raise InvalidRequest(text)
        rounded = rounded or any(abs(one) >= EXACT for one in floats)
        level = []
        for one in containers:
            level += one.values() if type(one) is dict else one
    return rounded


def messages_in(param: str, given: Any, wanted: str = "an array of objects") -> list[Any]:
    """The messages of a conversation, which is not empty, nor longer than any model could read.
    Raises InvalidRequest."""
    messages: list[Any] = expect(param, given, list, wanted)
    if not messages:
        text = f"Invalid '{param}': empty array. Expected at least one message."
        raise InvalidRequest(text, param=param, code="empty_array")
    if len(messages) > MOST_MESSAGES:
        raise too_many(param, len(messages), MOST_MESSAGES)
    return messages


def sampling(body: dict[str, Any]) -> dict[str, Any]:
    """The sampling parameters of a request, which have been checked."""
    return {name: body[name] for name in SAMPLING if name in body}


def parse_model(body: dict[str, Any], default: str = "") -> str:
    """The model that is asked for, else `default`, which an address may name; half a surrogate
    pair in it would come back in every chunk. Raises InvalidRequest where there is none."""
    asked = expect("model", body.get("model", ""), str).strip() or default
    if not asked:
        raise missing("model")
    return asked.encode("utf-8", "replace").decode()


def role_in(where: str, given: dict[str, Any], allowed: Sequence[str]) -> str:
    """The role of the message at `where`. Raises InvalidRequest."""
    role = given.get("role")
    if role not in allowed:  # its place is only put into words for an error, as there may be many
        one_of(f"{where}.role", require(f"{where}.role", role, str), allowed)
    return str(role)
