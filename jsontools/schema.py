"""JSON Schema: whether a schema can be used, and which rule of it a value breaks.

Written here and not a library's, because both have to end in time whatever a caller sends: a
verdict on one value and one rule is remembered, so the work is never more than the size of the
value times that of the schema, where following references each time doubles it with every step.
Regular expressions are not tried, since a hostile one hangs the process inside C code. Held against
the `jsonschema` package by the tests. Knows nothing of requests or answers; errors are texts.
"""

from typing import Any
from urllib.parse import unquote

from jsontools.budget import Budget, Spent
from jsontools.keywords import BRANCHES, LISTS, MAPS, SCHEMAS, SHAPES, SIMPLE
from jsontools.text import compact

_TOLD = 400  # characters of a broken rule; references behind one another make long paths
DEEP = "it is nested too deeply, or refers to itself without end"


def schema_fault(schema: dict[str, Any], budget: Budget | None = None) -> str:
    """Why this cannot be used as a JSON Schema; empty where it can.

    One whose `$ref` leads outside cannot, nor one that needs more than is left of the `budget`.
    """
    budget = budget or Budget()
    try:
        with budget.running():
            if told := _misshapen(schema, budget):
                return told
            # An empty object meets every rule that stands at the top, references included.
            Checker(schema, budget).fault({}, schema)
            return ""
    except Spent as wrong:
        return str(wrong)
    except RecursionError:
        return DEEP


def fault(value: Any, schema: dict[str, Any], budget: Budget | None = None) -> str | None:
    """The first rule that `value` breaks, in the schema's words and never the value's own.

    A schema that makes no sense is no fault of the model: then everything fits.
    """
    budget = budget or Budget()
    try:
        with budget.running():
            wrong = Checker(schema, budget).fault(value, schema)
            return wrong.removeprefix("/")[-_TOLD:] if wrong else None
    except Spent as wrong:
        return str(wrong)
    except RecursionError:
        return DEEP
    except (TypeError, AttributeError, LookupError, ArithmeticError):
        return None


def resolve(ref: Any, root: dict[str, Any]) -> Any:
    """What a `$ref` inside the schema `root` names; LookupError where there is nothing."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        raise LookupError("a $ref must begin with '#'")
    found: Any = root
    pointer = unquote(ref[1:])
    if pointer and not pointer.startswith("/"):
        raise LookupError("a $ref must be '#' or begin with '#/'")
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (LookupError, ValueError, TypeError):
            raise LookupError(f"$ref {ref[:100]!r} leads nowhere") from None
    return found


class Checker:
    """One value, or parts of it, held against one schema."""

    def __init__(self, root: dict[str, Any], budget: Budget) -> None:
        self.root, self.budget = root, budget
        # with the value: an id stays one thing's own as long as the thing is there
        self._verdicts: dict[tuple[int, int], tuple[Any, str | None]] = {}

    def fault(self, value: Any, rules: Any) -> str | None:
        """The first of `rules` that `value` breaks, with the way there: `/items/type is "null"`."""
        if rules is False:
            return " is false"
        if not isinstance(rules, dict):
            return None
        key = (id(value), id(rules))
        if key not in self._verdicts:
            self._verdicts[key] = (value, None)  # a rule that refers to itself adds nothing
            self._verdicts[key] = (value, self._look(value, rules))
        return self._verdicts[key][1]

    def fits(self, value: Any, rules: Any) -> bool:
        """Whether `value` breaks none of `rules`."""
        return self.fault(value, rules) is None

    def _look(self, value: Any, rules: dict[str, Any]) -> str | None:
        self.budget.step()
        if value is None and rules.get("nullable") is True:  # OpenAPI's word
            return None
        for name, rule in rules.items():
            if (simple := SIMPLE.get(name)) and not simple(value, rule):
                return _broken(name, rule)
        wrong = None
        if isinstance(value, dict):
            wrong = self._look_into_object(value, rules)
        elif isinstance(value, list):
            wrong = self._look_into_array(value, rules)
        return wrong or self._look_in_place(value, rules)

    def _look_into_object(self, value: dict[str, Any], rules: dict[str, Any]) -> str | None:
        known, others = member_rules(rules)
        for key, member in value.items():
            if wrong := self.fault(member, known.get(key, others)):
                where = f"properties/{key}" if key in known else "additionalProperties"
                return f"/{where}{wrong}"
        for key, needed in rules.get("dependentRequired", {}).items():
            if key in value and set(needed) - value.keys():
                return _broken(f"dependentRequired/{key}", needed)
        for key, rule in rules.get("dependentSchemas", {}).items():
            if key in value and (wrong := self.fault(value, rule)):
                return f"/dependentSchemas/{key}{wrong}"
        names = rules.get("propertyNames")
        if names is not None and not all(self.fits(key, names) for key in value):
            return _broken("propertyNames", names)
        return None

    def _look_into_array(self, value: list[Any], rules: dict[str, Any]) -> str | None:
        first, rest = item_rules(rules)
        for i, item in enumerate(value):
            if wrong := self.fault(item, first[i] if i < len(first) else rest):
                where = f"prefixItems/{i}" if i < len(first) else "items"
                return f"/{where}{wrong}"
        if "contains" in rules:
            found = sum(self.fits(item, rules["contains"]) for item in value)
            least, most = rules.get("minContains", 1), rules.get("maxContains", found)
            if not least <= found <= most:
                return _broken("contains", rules["contains"])
        return None

    def _look_in_place(self, value: Any, rules: dict[str, Any]) -> str | None:
        """The rules that hold the value itself against other schemas."""
        if "$ref" in rules and (wrong := self.fault(value, resolve(rules["$ref"], self.root))):
            return f"/$ref{wrong}"
        for i, rule in enumerate(rules.get("allOf", ())):
            if wrong := self.fault(value, rule):
                return f"/allOf/{i}{wrong}"
        for name, enough in BRANCHES.items():
            if name in rules and not enough(self.fits(value, one) for one in rules[name]):
                return _broken(name, rules[name])
        if "not" in rules and self.fits(value, rules["not"]):
            return _broken("not", rules["not"])
        if "if" in rules:
            name = "then" if self.fits(value, rules["if"]) else "else"
            if wrong := self.fault(value, rules.get(name)):
                return f"/{name}{wrong}"
        return None


def _broken(name: str, rule: Any) -> str:
    return f"/{name} is {compact(rule)[:200]}"


def member_rules(rules: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The rules for the members of an object that are named, and the one for the rest. Patterns are
    not tried: where there are some, any other member may be meant by one."""
    others = None if "patternProperties" in rules else rules.get("additionalProperties")
    return rules.get("properties", {}), others


def item_rules(rules: dict[str, Any]) -> tuple[list[Any], Any]:
    """The rules for the first items of an array, one each, and the one for the rest; draft 7 has
    both under other names."""
    items = rules.get("items")
    if isinstance(items, list):
        return items, rules.get("additionalItems")
    return rules.get("prefixItems", []), items


def _misshapen(schema: dict[str, Any], budget: Budget) -> str:
    """What of a schema is not as JSON Schema has it, wherever a `$ref` leads. Raises Spent."""
    waiting: list[tuple[Any, str]] = [(schema, "$")]
    seen: set[int] = set()
    while waiting:
        budget.step()
        rules, path = waiting.pop()
        if isinstance(rules, bool) or id(rules) in seen:
            continue
        seen.add(id(rules))
        if not isinstance(rules, dict):
            return f"{path}: expected an object or a boolean"
        for name, rule in rules.items():
            good, wanted = SHAPES.get(name, (None, ""))
            if good and not good(rule):
                return f"{path}.{name}: expected {wanted}"
            waiting += _inner(name, rule, f"{path}.{name}")
        if "$ref" in rules:
            try:
                waiting.append((resolve(rules["$ref"], schema), rules["$ref"][:100]))
            except LookupError as wrong:
                return f"{path}: {wrong.args[0]}"
    return ""


def _inner(name: str, rule: Any, path: str) -> list[tuple[Any, str]]:
    """The schemas that a keyword holds."""
    if name in MAPS:
        return [(one, f"{path}.{key}") for key, one in rule.items()]
    if name in LISTS or (name == "items" and isinstance(rule, list)):
        return [(one, f"{path}[{i}]") for i, one in enumerate(rule)]
    return [(rule, path)] if name in SCHEMAS else []
