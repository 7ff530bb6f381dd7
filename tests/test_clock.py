"""The clock: whom it calls, and how often."""

import logging
import threading
import time

import pytest

from clock import Clock

LONG = 20.0  # seconds


class Watched:
    """What the clock looks after; counts how often it was called."""

    def __init__(self) -> None:
        self.ticks = 0
        self.called = threading.Event()

    def tick(self, now: float) -> None:
        assert abs(now - time.monotonic()) < LONG
        self.ticks += 1
        self.called.set()


def wait_for_ticks(clock: Clock, number: int) -> None:
    """Until the clock has looked so often."""
    work, until = Watched(), time.monotonic() + LONG
    clock.add(work)
    while work.ticks < number:
        assert time.monotonic() < until
        time.sleep(0.001)
    clock.drop(work)


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


def test_what_was_dropped_is_called_no_more() -> None:
    clock, dropped, kept = Clock(), Watched(), Watched()
    clock.add(dropped)
    clock.add(kept)
    clock.drop(dropped)
    clock.drop(Watched())  # which was never added
    assert kept.called.wait(LONG)
    wait_for_ticks(clock, 2)
    assert dropped.ticks == 0
    clock.drop(kept)
    wait_until_it_stands(clock)


def test_one_that_has_time_is_not_called_before() -> None:
    clock, patient, soon = Clock(), Watched(), Watched()
    clock.add(patient, LONG)
    clock.add(soon, 0.01)
    assert soon.called.wait(LONG)
    wait_for_ticks(clock, 2)
    assert patient.ticks == 0
    clock.drop(soon)
    clock.drop(patient)
    wait_until_it_stands(clock)


class Broken(Watched):
    """One whose own code fails, with words that are nobody's business."""

    def tick(self, now: float) -> None:
        super().tick(now)
        raise ValueError("a secret")


def test_one_that_fails_is_told_of_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # which a service of another test may have ended
    monkeypatch.setattr(logging.getLogger("proxy"), "propagate", True)
    clock, broken, other = Clock(), Broken(), Watched()
    clock.add(broken)
    clock.add(other)
    wait_for_ticks(clock, 3)
    assert broken.ticks == 1
    assert other.ticks >= 2
    (told,) = {record.getMessage() for record in caplog.records}  # which may come here twice
    assert "ValueError at test_clock.py" in told
    assert "secret" not in caplog.text
    clock.drop(other)
    wait_until_it_stands(clock)
