"""Structured output: what is demanded, what comes through, and what is refused."""

import json
import re
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.json_answer import instructions, only_json
from chat_request import AnswerFormat
from errors import InvalidRequest, Unmet
from events import Done, Event, Reasoning, Silence, Text, ToolCall
from formats.response_format import parse_format
from jsontools.budget import Budget
from jsontools.text import compact

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"n": {"type": "integer"}, "tags": {"type": "array"}},
    "required": ["n"],
    "additionalProperties": False,
}
ANY = AnswerFormat("json_object")
LOOSE = AnswerFormat("json_schema", "one", schema=SCHEMA)
STRICT = AnswerFormat("json_schema", "one", schema=SCHEMA, strict=True)
LIST = AnswerFormat("json_schema", "some", schema={"type": "array"})
GOOD = '{"n": 1, "tags": ["}", "\\"", "é😀"]}'


def only(
    pieces: str | list[str], fmt: AnswerFormat, *, hold: bool = False, reason: str = "stop"
) -> str | Unmet:
    """The text that comes through, or what it is refused for."""
    pieces = [pieces] if isinstance(pieces, str) else pieces
    events: list[Event] = [*map(Text, pieces), Done(reason)]
    try:
        passed = list(only_json(iter(events), fmt, last_try=True, hold=hold))
    except Unmet as unmet:
        return unmet
    assert passed[-1] == Done(reason)
    return "".join(event.text for event in passed if isinstance(event, Text))


WRAPPED = {
    "bare": GOOD,
    "fenced": f"```json\n{GOOD}\n```",
    "prose": f"Sure, here it is [1]:\n\n```\n{GOOD}\n```\nHope {{that}} helps!",
    "two": f"{GOOD}\n{GOOD[:-1]} }}",
    "white space": f"\n {GOOD}\n\n",
}


@pytest.mark.parametrize("form", WRAPPED)
def test_only_the_value_comes_through_however_it_is_cut(form: str) -> None:
    wire = WRAPPED[form]
    for fmt in (ANY, LOOSE, STRICT):
        for hold in (False, True):
            assert only(list(wire), fmt, hold=hold) == GOOD
            for at in range(len(wire)):
                assert only([wire[:at], wire[at:]], fmt, hold=hold) == GOOD, wire[:at]


def test_an_array_is_found_where_the_schema_says_so() -> None:
    assert only('For {n}: [1, "]"].', LIST) == '[1, "]"]'


VALUES = st.recursive(
    st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(VALUES, st.data())
def test_any_value_survives_any_cutting(value: Any, data: st.DataObject) -> None:
    wire = json.dumps({"": value}, ensure_ascii=data.draw(st.booleans()))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert only([*pieces, '}]"'], ANY) == wire


@given(st.text(alphabet='{}[]"\\,:1a <\n'), st.booleans())
def test_what_comes_through_is_json_whatever_was_written(wire: str, hold: bool) -> None:
    for fmt in (ANY, LOOSE, STRICT):
        said = only(wire, fmt, hold=hold)
        assert isinstance(said, Unmet) or isinstance(json.loads(said), dict)
        assert str(only(list(wire), fmt, hold=hold)) == str(said)


@pytest.mark.parametrize(
    ("fmt", "hold", "passed"),
    [
        (LOOSE, False, [Text('{"n"'), Silence(), Text(": 1}"), Done()]),
        (LOOSE, True, [Silence(), Text('{"n": 1}'), Done()]),
        (STRICT, False, [Silence(), Text('{"n": 1}'), Done()]),
    ],
    ids=["loose", "held", "strict"],
)
def test_it_flows_unless_it_is_held_or_strict(
    fmt: AnswerFormat, hold: bool, passed: list[Event]
) -> None:
    said: list[Event] = [
        Text("Ok: "),
        Text('{"n"'),
        Silence(),
        Text(": 1}"),
        Text(" Bye {"),
        Done(),
    ]
    assert list(only_json(iter(said), fmt, last_try=False, hold=hold)) == passed


MENDED = {
    "unclosed": ('{"n": 1', '{"n":1}'),
    "trailing comma": ('{"n": 1,}', '{"n":1}'),
    "python": ("{'n': 1, 'tags': [None]}", '{"n":1,"tags":[null]}'),
    "raw line break": ('{"n": 1, "tags": ["a\nb"]}', '{"n":1,"tags":["a\\nb"]}'),
    "braces all around": ('For {you}: {"n": 1,} {or} <you>', '{"n":1}'),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_is_held_can_be_mended(case: str) -> None:
    wire, mended = MENDED[case]
    assert only(wire, LOOSE, hold=True) == mended
    assert only(wire, STRICT) == mended
    begun = re.search(r'\{"', wire)
    assert only(wire, LOOSE) == mended if not begun else isinstance(only(wire, LOOSE), Unmet)


@pytest.mark.parametrize("fmt", [ANY, LOOSE, STRICT], ids=["any", "loose", "strict"])
def test_what_ended_within_a_string_is_never_mended(fmt: AnswerFormat) -> None:
    refused = only('{"n": 1, "tags": ["the first ha', fmt, hold=True)
    assert isinstance(refused, Unmet)
    assert "valid JSON" in refused.message
    unescaped = only('{"n": 1, "tags": ["say "hi]}', fmt, hold=True)
    assert not isinstance(unescaped, Unmet)


NESTED = AnswerFormat("json_object", schema={"required": ["a"]})
STRAY = {
    "a placeholder": ('I fill in {name} for you: {"a": 1}', ANY),
    "lone marks": ('You said "x, closed with } so: {"a": 1}', ANY),
    "a set, some code": ('{x} {y: 1} { return 1 } then {\n "a": 1}', ANY),
    "many placeholders": ("{x} " * 50 + '{"a": 1}', ANY),
    "a note and a list": ("See [note] and [x]: [1, 2]", LIST),
    "an array of words": ('[ not ] but ["a"]', LIST),
}


@pytest.mark.parametrize("case", STRAY)
@pytest.mark.parametrize("hold", [False, True])
def test_it_begins_at_what_can_begin_a_value(case: str, hold: bool) -> None:
    wire, fmt = STRAY[case]
    value = wire[wire.rindex("[" if fmt is LIST else "{") :]
    assert only(wire, fmt, hold=hold) == only(list(wire), fmt, hold=hold) == value


def test_of_several_values_the_one_that_fits_is_meant() -> None:
    assert only('From {} to {"b": 2} and {"a": 1}.', NESTED, hold=True) == '{"a": 1}'


FITTED = {
    "a number in quotes": ('{"n": "1"}', '{"n":1}'),
    "a key too many": ('{"n": 1, "x": 2}', '{"n":1}'),
    "broken and wrong": ("{'n': '1', 'x': 2}", '{"n":1}'),
    "right as it is": ('{ "n" : 1 }', '{ "n" : 1 }'),
}


@pytest.mark.parametrize("case", FITTED)
def test_what_is_held_is_fitted_to_its_schema(case: str) -> None:
    wire, fitted = FITTED[case]
    assert only(wire, STRICT) == only(list(wire), LOOSE, hold=True) == fitted


def test_an_opening_with_endless_spaces_costs_little() -> None:
    start = thread_time()
    assert isinstance(only(["{", *[" "] * 20_000, *["{ "] * 20_000], ANY), Unmet)
    assert thread_time() - start < 8


FAILS = {
    "nothing": (ANY, "", "has no JSON in it"),
    "prose": (LOOSE, "I cannot.", "has no JSON in it"),
    "broken": (ANY, '{"n": }', "is not valid JSON"),
    "NaN": (ANY, '{"n": NaN}', "is not valid JSON"),
    "unclosed": (ANY, '{"n": 1', "is not valid JSON"),
    "too deep": (ANY, '{"n":' * 100_000 + "1" + "}" * 100_000, "is not valid JSON"),
    "wrong type": (LOOSE, '{"n": "secret"}', "'one': properties/n/type is \"integer\"."),
    "lacking": (STRICT, "{}", "'one': required is [\"n\"]."),
    "other key": (LOOSE, '{"n": 1, "secret": 2}', "'one': additionalProperties is false."),
    "array": (AnswerFormat("json_schema", "one"), '{"n": ]', "is not valid JSON"),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_failure_says_what_is_wrong_without_the_models_words(case: str) -> None:
    fmt, wire, message = FAILS[case]
    unmet = only(list(wire), fmt)
    assert isinstance(unmet, Unmet)
    assert message in unmet.message
    assert "secret" not in unmet.message
    assert unmet.said == wire


def test_endless_prose_is_not_waited_for_while_it_can_be_asked_again() -> None:
    prose = [Text("word " * 1000)] * 4
    with pytest.raises(Unmet, match="prose"):
        list(only_json(iter(prose), ANY, last_try=False))
    assert only(["word " * 4000, GOOD], ANY) == GOOD


@pytest.mark.parametrize("hold", [False, True])
def test_what_a_limit_cut_off_goes_out_as_it_is(hold: bool) -> None:
    assert only(["So: ", '{"n": "a'], STRICT, reason="length") == '{"n": "a'
    assert only(["So: ", '{"n": "a'], ANY, hold=hold, reason="content_filter") == '{"n": "a'
    assert only("So", ANY, hold=hold, reason="length") == ""


def test_a_call_needs_no_json_beside_it() -> None:
    call, end = ToolCall("a", "f", "{}"), Done("tool_calls")
    thought = Reasoning("{")
    said: list[Event] = [thought, Text("Let me see."), call, end]
    assert list(only_json(iter(said), STRICT, last_try=True)) == [thought, call, end]
    for fmt in (ANY, STRICT):
        assert list(only_json(iter([Text("{]"), call, end]), fmt, last_try=True)) == [call, end]


NAMED = {"type": "json_schema", "json_schema": {"name": "one", "schema": SCHEMA, "strict": True}}
ACCEPTED = {
    "absent": (None, None),
    "text": ({"type": "text"}, None),
    "object": ({"type": "json_object"}, ANY),
    "schema": (NAMED, STRICT),
    "no schema": (
        {"type": "json_schema", "json_schema": {"name": "a", "schema": None, "strict": None}},
        AnswerFormat("json_schema", "a"),
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_every_format_is_read(case: str) -> None:
    wanted, fmt = ACCEPTED[case]
    assert parse_format("response_format", wanted, Budget()) == fmt


AT = "response_format.json_schema"
REFUSED: list[tuple[Any, str, str]] = [
    ("json", "response_format", "invalid_type"),
    ({}, "response_format.type", "missing_required_parameter"),
    ({"type": "xml"}, "response_format.type", "invalid_value"),
    ({"type": "json_schema"}, f"{AT}.name", "missing_required_parameter"),
    ({"type": "json_schema", "json_schema": []}, AT, "invalid_type"),
    ({"type": "json_schema", "json_schema": {}}, f"{AT}.name", "missing_required_parameter"),
]
REFUSED_PARTS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": 1}, "name", "invalid_type"),
    ({"name": "a b"}, "name", "invalid_value"),
    ({"strict": "yes"}, "strict", "invalid_type"),
    ({"schema": "x"}, "schema", "invalid_type"),
    ({"schema": {"type": "text"}}, "schema", "invalid_value"),
    ({"schema": {"items": {"$ref": "https://example.org/s.json"}}}, "schema", "invalid_value"),
    ({"schema": {"required": 1}}, "schema", "invalid_value"),
]
REFUSED += [
    ({"type": "json_schema", "json_schema": {"name": "a", **part}}, f"{AT}.{key}", code)
    for part, key, code in REFUSED_PARTS
]


@pytest.mark.parametrize(("wanted", "param", "code"), REFUSED)
def test_a_mistake_in_the_format_is_named(wanted: Any, param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_format("response_format", wanted, Budget())
    assert (refused.value.param, refused.value.code) == (param, code)
    assert param in refused.value.message


def test_instructions_hold_the_schema() -> None:
    told = instructions(AnswerFormat("json_schema", "one", "A number.", SCHEMA, True))
    assert compact(SCHEMA) in told
    assert "'one' (A number.) exactly" in told
    assert "JSON object" in instructions(ANY)
    assert "exactly," not in instructions(LOOSE)
