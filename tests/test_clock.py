"""The clock: whom it calls, when, and how often."""

import logging
import threading
import time

import pytest

from clock import TICK, Clock, sleep_until

LONG = 20.0  # seconds


class Watched:
    """What the clock looks after; counts how often it was called."""

    def __init__(self) -> None:
        self.ticks = self.overdues = 0
        self.called = threading.Event()

    def tick(self, now: float) -> None:
        self.ticks += 1
        self.called.set()

    def overdue(self) -> None:
        self.overdues += 1
        self.called.set()


def wait_for_ticks(clock: Clock, number: int) -> None:
    """Until the clock has looked so often."""
    call, until = Watched(), time.monotonic() + LONG
    clock.add(call)
    while call.ticks < number:
        assert time.monotonic() < until
        time.sleep(0.001)
    clock.drop(call)


def wait_until_it_stands(clock: Clock) -> None:
    until = time.monotonic() + LONG
    while clock._runs:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_clock_with_nothing_to_watch_stands_until_there_is_something_again() -> None:
    clock = Clock()
    for _ in range(2):
        wait_for_ticks(clock, 1)
        wait_until_it_stands(clock)


def test_what_is_over_its_time_is_told_so_once_and_nobody_else() -> None:
    clock = Clock()
    done, late = Watched(), Watched()
    clock.limit(done, 3 * TICK)
    clock.limit(late, 3 * TICK)
    clock.release(done)
    assert late.called.wait(LONG)  # with no call under way
    wait_for_ticks(clock, 2)
    assert (done.overdues, late.overdues) == (0, 1)
    wait_until_it_stands(clock)


def test_what_has_time_left_is_left_alone() -> None:
    clock, work = Clock(), Watched()
    clock.limit(work, LONG * 10)
    wait_for_ticks(clock, 2)
    assert work.overdues == 0
    clock.release(work)
    wait_until_it_stands(clock)


class Broken(Watched):
    """One whose own code fails, with words that are nobody's business."""

    def tick(self, now: float) -> None:
        super().tick(now)
        raise ValueError("a secret")

    def overdue(self) -> None:
        super().overdue()
        raise ValueError("a secret")


def test_one_that_fails_is_told_of_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # which a service of another test may have ended
    monkeypatch.setattr(logging.getLogger("proxy"), "propagate", True)
    clock, broken, late = Clock(), Broken(), Watched()
    clock.limit(broken, TICK)
    clock.add(broken)
    clock.limit(late, 4 * TICK)
    wait_for_ticks(clock, 6)
    assert (broken.ticks, broken.overdues, late.overdues) == (1, 1, 1)
    told = {record.getMessage() for record in caplog.records}
    assert len(told) == 2
    assert all("ValueError at test_clock.py" in one for one in told)
    assert "secret" not in caplog.text
    wait_until_it_stands(clock)


def test_each_has_its_own_time() -> None:
    clock, long, short = Clock(), Watched(), Watched()
    clock.limit(long, LONG * 10)
    clock.limit(short, TICK)
    assert short.called.wait(LONG)
    assert long.overdues == 0
    clock.release(long)
    wait_until_it_stands(clock)


def test_a_pause_ends_when_it_is_to_and_not_before() -> None:
    moment = time.monotonic() + 0.05
    sleep_until(moment)
    assert time.monotonic() >= moment
    sleep_until(moment)  # which is over
