"""Several answers to one request at the same time, as one stream of events.

Knows nothing of what is asked, or of whom.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from errors import ProxyError
from events import Answering, Event

LOOK = 0.5  # seconds between two looks at whether anybody still takes what is merged
Items = queue.Queue[tuple[int, Any]]  # the number of an answer, and what came of it


def merged(answers: Sequence[Iterator[Event]], *, forgive: bool) -> Iterator[Event]:
    """The events of all answers as they come, each from a thread of its own; `Answering` says
    whose the next ones are.

    The first error of any answer is raised here; with `forgive` only where all have failed, as
    what was made is paid for. The upstream calls end by `Call.close`.
    """
    items: Items = queue.Queue(maxsize=4 * len(answers))
    over = threading.Event()
    for index, events in enumerate(answers):
        threading.Thread(target=_feed, args=(index, events, items, over), daemon=True).start()
    left, now = len(answers), -1
    failures: list[ProxyError] = []
    try:
        while left:
            index, item = items.get()
            if isinstance(item, ProxyError) and forgive:
                failures.append(item)
                item = None
            if isinstance(item, BaseException):
                try:
                    raise item
                finally:
                    del item  # its traceback has this frame: a circle that would keep the prompt
            if item is None:
                left -= 1
                continue
            if index != now:
                now = index
                yield Answering(index)
            yield item
        if len(failures) == len(answers):
            raise failures.pop(0)  # not from the list: as above
    finally:
        over.set()
        with suppress(queue.Empty):  # an error that nobody takes would keep its frames, and they it
            while True:
                items.get_nowait()


def _feed(index: int, events: Iterator[Event], items: Items, over: threading.Event) -> None:
    """Put the events of one answer among the items, then None, or the error that they raise;
    until it is `over`."""

    def give(item: Any) -> None:
        while not over.is_set():
            with suppress(queue.Full):
                items.put((index, item), timeout=LOOK)
                return

    try:
        for event in events:
            give(event)
        give(None)
    except BaseException as wrong:  # noqa: BLE001 - raised again where the items are taken
        give(wrong)
