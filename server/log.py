"""What the operator gets to see: one line per request, and how lines look.

No prompt, answer, key or token ever comes here; what a caller chose (a model name, a request id)
is quoted, so that it cannot forge a line.
"""

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from errors import bug_place
from settings import Settings, load, mask, mask_url

# a key that was put into the path: of OpenAI's or Flowith's form, a web login, or a long mixture
KEY = re.compile(
    r"(sk-|flo_|eyJ)[^/]{6,}|(?<=/)(?=[^/]*\d)(?=[^/]*[a-zA-Z])[A-Za-z0-9_]{24,}(?=/|$)"
)
CALLER_LEFT = "caller left"  # the ending of a request that nobody waits for any more
access = logging.getLogger("access")
log = logging.getLogger("proxy")


@dataclass(slots=True)
class Record:
    """One request, from its first byte to the end of its answer. Times are monotonic seconds.

    `format` is the name of the format that a request for an answer is of, else empty. `ending` says
    how it ended, in the words of docs/operations.md; empty is well. `failures` are the tries that
    failed, each with its account and why.
    """

    id: str
    method: str
    path: str
    started: float = field(default_factory=time.monotonic)
    status: int = 0
    format: str = ""
    ending: str = ""
    model: str = ""
    dialect: str = ""
    first: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    heartbeats: int = 0
    attempts: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def write(self) -> None:
        """The access-log line."""
        quiet = self.path.startswith(("/health", "/metrics", "/static"))
        level = logging.DEBUG if quiet else logging.INFO
        if not access.isEnabledFor(level):
            return
        fields: dict[str, Any] = {
            "id": self.id,
            "method": self.method,
            "path": KEY.sub("***", self.path)[:100],
            "status": self.status,
            "format": self.format,
            "model": self.model[:80],
            "api": self.dialect,
            "first_ms": self._ms(self.first or self.started),
            "ms": self._ms(time.monotonic()),
            "in": self.prompt_tokens,
            "out": self.completion_tokens,
            "failures": ",".join(f"{account}={why}" for account, why in self.failures),
            "end": self.ending or "done",
        }
        shown = {k: v for k, v in fields.items() if v not in ("", 0)}
        access.log(level, "%s", shown, extra={"fields": shown})

    def _ms(self, moment: float) -> int:
        return round((moment - self.started) * 1000)


class TextFormatter(logging.Formatter):
    """Human lines: fields as name=value, quoted where they hold anything but plain characters."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        message = (
            " ".join(f"{k}={_quoted(v)}" for k, v in fields.items())
            if fields
            else _plain(record.getMessage())
        )
        when = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = f"{when} {record.levelname.lower()} {record.name}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line, for log collectors."""

    def format(self, record: logging.LogRecord) -> str:
        when = self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        line = {"time": when, "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            fields = {**fields, "trace": self.formatException(record.exc_info)}
        return json.dumps({**line, **fields})


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's own lines, in the same format."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(_formatter(load()))

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if msg.startswith("Invalid request from ip="):
            msg = ": ".join(msg.split(": ")[:2])  # the third part quotes, and it may be a key
        super().warning(msg, *args, **kwargs)


def _quoted(value: Any) -> str:
    text = str(value)
    plain = text.isascii() and text.isprintable() and not any(c in ' "=' for c in text)
    return text if plain or not isinstance(value, str) else json.dumps(text)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _formatter(settings: Settings) -> logging.Formatter:
    return JsonFormatter() if settings.log_format == "json" else TextFormatter()


def set_up_logging(settings: Settings) -> None:
    """Send all of this service's lines to standard error in the format asked for."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(settings))
    for name in ("access", "proxy", "flowith", "urllib3"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(settings.log_level.upper())


def log_bug(wrong: BaseException, request_id: str) -> None:
    """Where a bug of ours struck."""
    log.error("%s internal error: %s", request_id, bug_place(wrong))


def log_reload(settings: Settings) -> None:
    """That new settings count from now on, in the form that they ask for."""
    set_up_logging(settings)
    log.info("reloaded, %d models from %s", len(settings.listed), settings.models_file)


def shown(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and value of each setting, secrets masked."""
    for setting in settings.described():
        value = getattr(settings, setting.name)
        parts = value if isinstance(value, tuple) else (value,)
        if setting.metadata["secret"]:
            parts = tuple(mask(part) for part in parts if part)
        elif setting.name.endswith("_url"):
            parts = tuple(mask_url(part) for part in parts)
        yield setting.name.upper(), ",".join(str(part) for part in parts)


def _place(address: Any) -> str:
    """Host and port as an URL has them, or a socket's path."""
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log_settings(settings: Settings, addresses: Any) -> None:
    """The start-up lines: every setting, secrets masked, where it listens, and what the operator
    should mend."""
    set_up_logging(settings)
    for name, value in shown(settings):
        log.info("%s=%s", name, value)
    log.info("%d models from %s", len(settings.listed), settings.models_file)
    for address in addresses:
        log.info("listening on %s", _place(address))
    for warning in settings.warnings():
        log.warning("%s", warning)
