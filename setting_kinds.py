"""How a setting is declared: its default, what it means, and how its text is checked.

Knows nothing of any setting, or of where the text comes from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

PLACEHOLDERS = {"your_actual_token_here", "changeme", "your_token_here"}


def parse_list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def parse_keys(value: str) -> tuple[str, ...]:
    keys = parse_list(value)
    if not keys or not all(key.isprintable() for key in keys):
        raise ValueError("must be one key or more, of printable characters")
    return keys


def parse_header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("may hold printable ASCII characters only")
    return value


def parse_tokens(value: str) -> tuple[str, ...]:
    bare = (t.removeprefix("Bearer ").removeprefix("bearer ").strip() for t in parse_list(value))
    return tuple(
        dict.fromkeys(parse_header(t) for t in bare if t and t.lower() not in PLACEHOLDERS)
    )


def parse_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        good = False
    if value and not good:
        raise ValueError("must start with http:// or https:// and a host")
    return value.rstrip("/") if value.count("/") <= 3 else value


def setting(
    default: str, meaning: str, parse: Callable[[str], Any] = str, secret: bool = False
) -> Any:
    told = {"default": default, "parse": parse, "meaning": meaning, "secret": secret}
    return field(default=parse(default), repr=not secret, metadata=told)


secret = partial(setting, secret=True)


def choice(default: str, allowed: Sequence[str], of: str = "") -> Any:
    """A setting that is one of a few words, whatever their case."""

    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value.lower()

    return setting(default, f"{of}{', '.join(allowed[:-1])} or {allowed[-1]}", parse)


def number(default: str, least: float, most: float, meaning: str) -> Any:
    """A setting that is a number; a whole one where its limits are."""
    kind = float if isinstance(least, float) else int

    def parse(value: str) -> float:
        try:
            found = kind(value)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return found

    return setting(default, meaning, parse)


def seconds(default: str, meaning: str) -> Any:
    return number(default, 0.05, 86_400, meaning)
