"""Values that a model wrote, fitted to the schema that they should have had.

Where a service constrains what its models can write, a missing nullable key, a number in quotes or
a key too many cannot happen; here they can, and mean nothing else. Only what means nothing else is
mended: whether the rest fits, `schema.fault` says. Knows nothing of requests or answers.
"""

from typing import Any

from jsontools.budget import Budget
from jsontools.keywords import SIMPLE
from jsontools.schema import Checker, item_rules, member_rules, resolve
from jsontools.text import read_json

_NOTHING = object()  # no value: null is one
_NAMING = ("type", "enum", "const")  # the keywords that name the values that are wanted
_CHAIN = 64  # references behind one another that are followed


def fit(value: Any, schema: dict[str, Any], budget: Budget | None = None) -> Any:
    """`value` as `schema` wants it, where there is only one way; never fails, never changes what
    it was given.

    - A required key that is missing gets its default, or null where null is allowed.
    - Numbers, booleans, null, arrays and objects written as strings become those.
    - Keys that `additionalProperties: false` forbids go.

    All of it through $ref, anyOf, oneOf, allOf, items and nullable. Where the budget is spent or
    the schema makes no sense the value comes back as it was.
    """
    budget = budget or Budget()
    try:
        with budget.running():
            return _Fitter(schema, budget).fit(value, schema)
    except (ValueError, RecursionError, TypeError, AttributeError, LookupError, ArithmeticError):
        return value


class _Fitter:
    """One value on its way. What became of a value under a rule is remembered, as the checker
    remembers its verdicts: so references that double with each step cost nothing."""

    def __init__(self, root: dict[str, Any], budget: Budget) -> None:
        self.root, self.budget = root, budget
        self.checker = Checker(root, budget)
        self._done: dict[tuple[int, int], tuple[Any, Any]] = {}

    def fit(self, value: Any, rules: Any) -> Any:
        """The value in the form of `rules`; as it is where they fit already."""
        self.budget.step()
        if not isinstance(rules, dict) or self.checker.fits(value, rules):
            return value
        key = (id(value), id(rules))
        if key not in self._done:
            self._done[key] = (value, value)  # a rule that refers to itself adds nothing
            self._done[key] = (value, self._mended(value, rules))
        return self._done[key][1]

    def _mended(self, value: Any, rules: dict[str, Any]) -> Any:
        value = _converted(value, rules)
        if isinstance(value, dict):
            value = self._object(value, rules)
        elif isinstance(value, list):
            value = self._array(value, rules)
        if "$ref" in rules:
            value = self.fit(value, resolve(rules["$ref"], self.root))
        for one in rules.get("allOf", ()):
            value = self.fit(value, one)
        for name in ("anyOf", "oneOf"):
            if name in rules:
                value = self._branch(value, rules[name])
        return value

    def _object(self, value: dict[str, Any], rules: dict[str, Any]) -> dict[str, Any]:
        known, others = member_rules(rules)
        fitted = {
            key: self.fit(member, known.get(key, others))
            for key, member in value.items()
            if key in known or others is not False
        }
        for key in rules.get("required", ()):
            if key not in fitted and (given := self._unsaid(known.get(key))) is not _NOTHING:
                fitted[key] = given
        return fitted

    def _array(self, value: list[Any], rules: dict[str, Any]) -> list[Any]:
        first, rest = item_rules(rules)
        return [
            self.fit(item, first[i] if i < len(first) else rest) for i, item in enumerate(value)
        ]

    def _branch(self, value: Any, branches: list[Any]) -> Any:
        """The value as the first branch has it that it can be fitted to."""
        for branch in branches:
            fitted = self.fit(value, branch)
            if self.checker.fits(fitted, branch):
                return fitted
        return value

    def _unsaid(self, rules: Any) -> Any:
        """What a key stands for that is required and was left out."""
        for _ in range(_CHAIN):
            if not isinstance(rules, dict):
                return _NOTHING
            if "default" in rules:
                return rules["default"]
            if "$ref" not in rules:
                break
            rules = resolve(rules["$ref"], self.root)
        is_limit = not self.checker.fits(_NOTHING, rules)  # what is no JSON fits where all does
        return None if is_limit and self.checker.fits(None, rules) else _NOTHING


def _converted(value: Any, rules: dict[str, Any]) -> Any:
    """A string as the value whose JSON it is, where it is not wanted itself and that value is."""
    if not isinstance(value, str) or _is_meant(value, rules):
        return value
    text = value.strip()
    word = text.lower()
    try:
        meant = read_json(word if word in ("true", "false", "null") else text)
    except ValueError:
        return value
    return meant if _is_meant(meant, rules) else value


def _is_meant(value: Any, rules: dict[str, Any]) -> bool:
    """Whether a value is of the kind, and among those, that the rules name."""
    if value is None and rules.get("nullable") is True:
        return True
    return all(SIMPLE[name](value, rules[name]) for name in _NAMING if name in rules)
