"""Pauses that end together: never early, and each greenlet is woken once, where it paused."""

import time
from pathlib import Path

import gevent
import pytest
from conftest import Serve
from gevent import GreenletExit

from server.shared_timer import SharedTimer


def test_all_who_name_a_moment_wake_in_one_turn_and_not_before_it() -> None:
    timer, moment = SharedTimer(), time.monotonic() + 1.0
    woken: list[float] = []
    turns: list[int] = []

    def pause() -> None:
        timer.sleep_until(moment)
        woken.append(time.monotonic())
        # runs in the next turn, when all of this one have been woken
        gevent.get_hub().loop.run_callback(lambda: turns.append(len(woken)))

    gevent.joinall([gevent.spawn(pause) for _ in range(100)], timeout=5)
    assert woken[0] >= moment - 0.001
    assert turns == [100] * 100
    assert not timer._sleepers


def test_a_pause_that_begins_late_in_a_turn_is_no_shorter() -> None:
    timer = SharedTimer()
    early: list[float] = []

    def pause() -> None:
        timer.sleep_until(time.monotonic() + 0.01)
        until = time.monotonic() + 0.03
        while time.monotonic() < until:  # the loop's own clock stands still as long as a turn lasts
            pass
        moment = time.monotonic() + 0.04
        timer.sleep_until(moment)
        early.append(moment - time.monotonic())

    gevent.spawn(pause).get(timeout=5)
    assert early[0] < 0.01


@pytest.mark.parametrize("wait", [-1.0, 0.0])
def test_a_moment_that_is_over_is_a_turn_of_the_loop(wait: float) -> None:
    sleeper = gevent.spawn(SharedTimer().sleep_until, time.monotonic() + wait)
    sleeper.get(timeout=5)


def test_who_is_ended_in_a_pause_is_not_woken_in_the_next_wait() -> None:
    timer, over = SharedTimer(), time.monotonic() + 0.05
    slept: list[float] = []

    def pause() -> None:
        try:
            timer.sleep_until(over)
        except GreenletExit:
            began = time.monotonic()
            gevent.sleep(0.3)
            slept.append(time.monotonic() - began)

    ended, other = gevent.spawn(pause), gevent.spawn(timer.sleep_until, over)
    gevent.sleep(0)
    ended.kill(timeout=5)
    other.get(timeout=5)
    assert slept[0] >= 0.29


# gunicorn's settings as they are, and a word on what they gave the app
TELLING = """
from pathlib import Path
exec(Path("gunicorn.conf.py").read_text())
as_it_is = post_worker_init
def post_worker_init(worker):
    as_it_is(worker)
    pauses = worker.wsgi.extensions["flowith"].crew.sleep_until
    worker.log.warning("pauses by %s", pauses.__qualname__)
"""


@pytest.mark.parametrize(
    ("worker", "pauses"), [("gevent", "SharedTimer.sleep_until"), ("gthread", "sleep_until")]
)
def test_greenlets_pause_together_and_threads_do_not(
    serve: Serve, tmp_path: Path, worker: str, pauses: str
) -> None:
    settings = tmp_path / "telling.py"
    settings.write_text(TELLING)
    server = serve(WORKER_CLASS=worker, GUNICORN_CMD_ARGS=f"--config {settings}")
    assert f"pauses by {pauses}\n" in server.log()
