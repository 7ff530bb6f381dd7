"""What may take for ever ends, and keeps nobody waiting meanwhile."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from jsontools.budget import Budget, Spent
from jsontools.schema import fault
from jsontools.text import repair

SECONDS = 0.2  # of CPU time, whatever machine this is


def mend(budget: Budget) -> object:
    return repair('["' * 100_000, budget)


def check(budget: Budget) -> object:
    kinds = [{"required": [str(i)]} for i in range(1_000)]
    told = fault([{} for _ in range(10_000)], {"items": {"anyOf": [*kinds, {}]}}, budget)
    raise Spent(told)


@pytest.mark.parametrize("work", [mend, check])
def test_long_work_ends_and_gives_others_their_turn(work: Callable[[Budget], object]) -> None:
    turns = 0

    def count(_frame: Any, event: str, called: Any) -> None:
        nonlocal turns
        turns += event == "c_call" and getattr(called, "__name__", "") == "sleep"

    budget = Budget(SECONDS)
    sys.setprofile(count)
    try:
        with pytest.raises(Spent, match="needs too much work"):
            work(budget)
    finally:
        sys.setprofile(None)
    assert budget.left < 0
    assert 3 < turns < 20


def test_short_work_waits_for_nobody_and_leaves_the_rest() -> None:
    budget = Budget(SECONDS)
    assert repair('{"a": 1, b: 2', budget) == {"a": 1, "b": 2}
    assert 0 < budget.left < SECONDS
