"""What the Python clients share: one JSON line on stdout for each case that was run."""

import json
import os
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

BASE_URL, KEY = os.environ["BASE_URL"], os.environ["API_KEY"]
STAND_IN = os.environ["STAND_IN"]
HELLO = "Hello, 你好 👩‍👩‍👧!"
FINAL = "It is 18 degrees in Paris."
PARIS = {"name": "Paris", "people": 2_102_650}
PNG = "YSBwaWN0dXJl"
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS},
}
CITY = {
    "title": "city",
    "description": "A city.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
REFUSALS = {"error 429": 429, "error 402": 402, "error 401": 424, "error 400": 400,
            "error 500": 502, "empty": 502}  # fmt: skip

Test = Callable[[], Any]
CASES: dict[str, Test] = {}


def case(name: str) -> Callable[[Test], Test]:
    """Adds a function to the cases."""

    def add(test: Test) -> Test:
        assert name not in CASES, name
        CASES[name] = test
        return test

    return add


def run() -> None:
    for name, test in CASES.items():
        error = None
        try:
            test()
        except Exception as wrong:  # noqa: BLE001 - whatever it is, it is what the case found
            ours = [f for f in traceback.extract_tb(wrong.__traceback__) if "use_" in f.filename]
            where = f"line {ours[-1].lineno}: {ours[-1].line}" if ours else ""
            error = f"{type(wrong).__name__}: {wrong}\n{where}"[:1000]
        print(json.dumps({"case": name, "error": error}), flush=True)


def upstream(words: str) -> dict[str, int]:
    """What the stand-in has seen of the calls with these words."""
    with urlopen(f"{STAND_IN}/seen?{quote(words)}") as response:  # noqa: S310
        found: dict[str, int] = json.load(response)
    return found


def assert_hung_up(words: str) -> None:
    for _ in range(50):
        seen = upstream(words)
        if seen["calls"] and seen["calls"] == seen["left"]:
            return
        time.sleep(0.1)
    raise AssertionError("the call to Flowith goes on")


def thrown(work: Test) -> Any:
    """The error that `work` raises."""
    try:
        work()
    except Exception as wrong:  # noqa: BLE001 - its class is what the caller looks at
        return wrong
    raise AssertionError("no error was raised")
