"""The only reader of the environment and of models.json; everything is checked at start.

Knows nothing of Flask or of Flowith's wire. The fields of `Settings`, in order, are the settings
that exist: `.env.example`, the table in the README and the start-up log follow from them.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values

Api = Literal["web", "llm", "knowledge"]
Kind = Literal["chat", "image"]
Shape = Literal["ratio", "pixels", "none"]
SIZES = ("512", "1k", "2k", "4k")  # names of resolutions
APIS: tuple[Api, ...] = get_args(Api)
REASONING = ("reasoning_content", "reasoning", "think_tags", "hide")
DEFAULT_KEY = "123456"
DEMO_TOKEN = "demo"  # what `make run` sets when it starts the bundled stand-in
NO_TOKEN = "No Flowith token is set: put FLOWITH_AUTH_TOKEN into .env or the secrets."
AROUND = " \t\r\n\"'"  # a value; `docker run --env-file` leaves quotes on
PLACEHOLDERS = {"your_actual_token_here", "changeme", "your_token_here"}
USER = re.compile("(//)[^/]*@")
QUERY = re.compile(r"\?.+", re.DOTALL)
LONG_PART = re.compile("(?<=[^/]/)[^/?]{20,}")
READ_BY_REQUESTS = {"https_proxy", "http_proxy", "all_proxy", "no_proxy"}
READ_BY_REQUESTS |= {"requests_ca_bundle", "curl_ca_bundle"}
ROW_FIELDS = {
    "model": str, "api": str, "fallbacks": list, "kb_list": list, "context": int, "output": int,
    "name": str, "description": str, "native_tools": bool, "system_role": bool, "images": bool,
    "kind": str, "shape": str, "sizes": list,
}  # fmt: skip
JSON_WORDS = {str: "a string", int: "a whole number", bool: "true or false",
              list: "an array of strings"}  # fmt: skip
ROW_CHOICES = {"api": APIS, "kind": get_args(Kind), "shape": get_args(Shape)}


class SettingsError(ValueError):
    """One or more settings are wrong; the message names each of them, `args` holds them."""

    def __str__(self) -> str:
        return "; ".join(self.args)


@dataclass(frozen=True, slots=True)
class Model:
    """One row of models.json.

    `id` is what callers ask for, `upstream` Flowith's ids in the order they are tried. `api`,
    `context` and `output` (most tokens in all, and of an answer) are None when the row does not
    say. `system_role` and `images` tell whether the model takes them, `native_tools` whether
    Flowith passes tools to it.

    A model of the `kind` image makes pictures: `shape` is how it is told the shape of one (as a
    ratio, in pixels, or not at all), `sizes` are the names of the resolutions that it knows.
    """

    id: str
    upstream: tuple[str, ...]
    api: Api | None = None
    kb_list: tuple[str, ...] = ()
    context: int | None = None
    output: int | None = None
    name: str = ""
    description: str = ""
    native_tools: bool = False
    system_role: bool = True
    images: bool = True
    kind: Kind = "chat"
    shape: Shape = "ratio"
    sizes: tuple[str, ...] = ()


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _keys(value: str) -> tuple[str, ...]:
    keys = _list(value)
    if not keys or not all(key.isprintable() for key in keys):
        raise ValueError("must be one key or more, of printable characters")
    return keys


def _in_header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("may hold printable ASCII characters only")
    return value


def _tokens(value: str) -> tuple[str, ...]:
    bare = (t.removeprefix("Bearer ").removeprefix("bearer ").strip() for t in _list(value))
    return tuple(dict.fromkeys(_in_header(t) for t in bare if t and t.lower() not in PLACEHOLDERS))


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        good = False
    if value and not good:
        raise ValueError("must start with http:// or https:// and a host")
    return value.rstrip("/") if value.count("/") <= 3 else value


def _setting(
    default: str, meaning: str, parse: Callable[[str], Any] = str, secret: bool = False
) -> Any:
    told = {"default": default, "parse": parse, "meaning": meaning, "secret": secret}
    return field(default=parse(default), repr=not secret, metadata=told)


_secret = partial(_setting, secret=True)


def _choice(default: str, allowed: Sequence[str], of: str = "") -> Any:
    """A setting that is one of a few words, whatever their case."""

    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value.lower()

    return _setting(default, f"{of}{', '.join(allowed[:-1])} or {allowed[-1]}", parse)


def _number(default: str, least: float, most: float, meaning: str) -> Any:
    """A setting that is a number; a whole one where its limits are."""
    kind = float if isinstance(least, float) else int

    def parse(value: str) -> float:
        try:
            number = kind(value)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return number

    return _setting(default, meaning, parse)


def _seconds(default: str, meaning: str) -> Any:
    return _number(default, 0.05, 86_400, meaning)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; the environment variable is the field's name in capitals."""

    flowith_auth_token: tuple[str, ...] = _secret(
        "", "Flowith token, flo_... key or web login; several with commas", _tokens
    )
    api_key: tuple[str, ...] = _secret(
        DEFAULT_KEY, "key that callers send; several with commas", _keys
    )
    flowith_api: str = _choice("auto", ("auto", *APIS), "Flowith API: ")
    flowith_api_url: str = _setting(
        "", "Flowith's address, when it has moved: a host, or a whole URL", _url
    )
    flowith_refresh_token: str = _secret(
        "", "refresh token of the web login; keeps the (first) web token alive", _in_header
    )
    flowith_identity_url: str = _setting(
        "https://aibdxsebwhalbnugsqel.supabase.co", "Flowith's login service, for the refresh", _url
    )
    flowith_identity_key: str = _secret(
        "", "the login service's public key (sb_publishable_...), for the refresh", _in_header
    )
    state_file: str = _setting(".flowith-state.json", "where refreshed tokens are kept (mode 0600)")
    models_file: str = _setting("models.json", "the model mapping")
    host: str = _setting("0.0.0.0", "address to listen on", lambda host: host.strip("[]"))
    port: int = _number("7860", 0, 65_535, "port to listen on")
    web_concurrency: int = _number("1", 1, 64, "worker processes")
    max_streams: int = _number("1200", 1, 100_000, "answers under way per worker; above it 503")
    max_body_mb: float = _number("32", 0.001, 1024, "largest request, MB")
    body_timeout: float = _seconds("15", "seconds a sender may pause within a request")
    max_choices: int = _number("8", 1, 128, "largest n (answers per request)")
    hold: float = _seconds("5", "seconds to wait for Flowith before the 200 goes out")
    heartbeat: float = _seconds("5", "seconds of silence between signs of life")
    keep_alive_after: float = _number(
        "50", 0.0, 86_400, "seconds until a slow non-stream call sends white space; 0 = off"
    )
    connect_timeout: float = _seconds("10", "seconds to reach Flowith")
    first_token_timeout: float = _seconds("150", "seconds until the first token")
    idle_timeout: float = _seconds("120", "seconds between two tokens")
    image_timeout: float = _seconds("300", "seconds until a picture is made")
    total_timeout: float = _seconds("1800", "seconds for a whole answer")
    retry_attempts: int = _number("4", 1, 50, "calls to Flowith per answer, before its first token")
    retry_seconds: float = _seconds("30", "no new try after so many seconds")
    graceful_timeout: int = _number(
        "30", 4, 3600, "seconds that running streams get when the service is stopped"
    )
    reasoning_format: str = _choice(REASONING[0], REASONING, "how thoughts are sent: ")
    log_level: str = _choice("info", ("debug", "info", "warning", "error"))
    log_format: str = _choice("text", ("text", "json"))
    models: Mapping[str, Model] = field(default_factory=dict, repr=False)
    default_model: str = ""  # of a request that names none, where its address does
    on_space: bool = False  # Hugging Face sets SPACE_ID in every Space; not for people to set

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read all settings. Raises SettingsError that names every mistake at once."""
        values: dict[str, Any] = {"on_space": bool(environ.get("SPACE_ID"))}
        mistakes: list[str] = []
        for setting in cls.described():
            text = environ.get(setting.name.upper(), "").strip(AROUND)
            try:
                values[setting.name] = setting.metadata["parse"](text) if text else setting.default
            except ValueError as wrong:
                shown = "" if setting.metadata["secret"] else f" (it is {mask_url(text)[:60]!r})"
                mistakes.append(f"{setting.name.upper()} {wrong}{shown}")
        try:
            values["models"] = read_models(Path(values["models_file"]))
        except SettingsError as wrong:
            mistakes.append(str(wrong))
        if mistakes:
            raise SettingsError(*mistakes)
        return cls(**values)

    @classmethod
    def described(cls) -> Iterator[Field[Any]]:
        """The fields that are read from the environment, in order."""
        return (f for f in fields(cls) if f.metadata)

    def warnings(self) -> list[str]:
        """What the operator should mend, in plain words."""
        found = []
        if not (self.flowith_auth_token or self.flowith_refresh_token):
            found.append(NO_TOKEN)
        if self.flowith_refresh_token and not self.flowith_identity_key:
            found.append("FLOWITH_IDENTITY_KEY is empty, without which Flowith renews no login.")
        if DEFAULT_KEY in self.api_key:
            found.append(f"The default API key {DEFAULT_KEY} is in use: set API_KEY to your own.")
        return found

    @property
    def chosen_api(self) -> Api | None:
        """What FLOWITH_API says; None for auto, with which the shape of a token decides."""
        return next((api for api in APIS if api == self.flowith_api), None)

    @property
    def demo(self) -> bool:
        """Whether `make run` has put the bundled stand-in in Flowith's place."""
        return self.flowith_auth_token == (DEMO_TOKEN,)

    @property
    def listed(self) -> list[Model]:
        """The models that have names; `"claude-*"` and `"*"` stand for names that are not told."""
        return [model for name, model in self.models.items() if not name.endswith("*")]


def mask(secret: str) -> str:
    """Enough of a secret to recognise it by, never enough to use it."""
    return f"{secret[:4]}...{secret[-4:]}" if len(secret) >= 20 else "***"


def mask_url(url: str) -> str:
    """A URL without what may be secret in it: user and password, query, long parts of its path."""
    whole = LONG_PART.sub(lambda found: mask(found[0]), QUERY.sub("?***", url))
    return USER.sub(r"\1***@", whole)


def read_models(path: Path) -> dict[str, Model]:
    """Read and check models.json. Raises SettingsError that names the row."""
    rows = read_rows(path)
    return {name: _to_model(f"{path}: row {name!r}", name, row) for name, row in rows.items()}


def read_rows(path: Path) -> dict[str, Any]:
    """The rows of models.json as they are written, unchecked. Raises SettingsError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} stands there twice")
        return dict(pairs)

    try:
        rows = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=unique)
    except OSError as wrong:
        raise SettingsError(f"{path} cannot be read: {wrong.strerror}") from wrong
    except (ValueError, RecursionError) as wrong:
        raise SettingsError(f"{path} is not usable JSON: {wrong}") from wrong
    if not isinstance(rows, dict) or not rows:
        raise SettingsError(f"{path} must be an object with at least one model")
    return rows


def _to_model(where: str, name: str, row: Any) -> Model:
    row = {"model": row} if isinstance(row, str) else row
    if not isinstance(row, dict):
        raise SettingsError(f"{where} must be a string or an object")
    for key, value in row.items():
        kind = ROW_FIELDS.get(key)
        if kind is None:
            raise SettingsError(f"{where} has an unknown field {key!r}")
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is list:
            good = good and all(isinstance(one, str) and one for one in value)
        if not good or value == "":
            raise SettingsError(f"{where}: {key!r} must be {JSON_WORDS[kind]}")
    if not name or "model" not in row:
        raise SettingsError(f"{where} needs a name and a 'model'")
    if "*" in name[:-1]:
        raise SettingsError(f"{where}: '*' may only be the last character of a name")
    for key, allowed in ROW_CHOICES.items():
        if row.get(key, allowed[0]) not in allowed:
            raise SettingsError(f"{where}: {key!r} must be one of {', '.join(allowed)}")
    if not set(row.get("sizes", ())) <= set(SIZES):
        raise SettingsError(f"{where}: 'sizes' may hold {', '.join(SIZES)}")
    if row.get("native_tools") and row.get("api") != "llm":
        raise SettingsError(f'{where}: \'native_tools\' needs "api": "llm", which alone has them')
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    upstream = (values.pop("model"), *values.pop("fallbacks", ()))
    return Model(name, upstream, **values)


def given() -> dict[str, str]:
    """What is set: `.env` in the working directory, and over it what the environment fills.
    Raises SettingsError."""
    try:
        found = dotenv_values(".env", encoding="utf-8-sig")  # Windows' editor begins with a mark
    except OSError as wrong:
        raise SettingsError(f".env cannot be read: {wrong.strerror}") from wrong
    except UnicodeDecodeError as wrong:
        raise SettingsError(".env is not UTF-8 text: save it as that") from wrong
    from_file = {k: v for k, v in found.items() if v is not None}
    return from_file | {k: v for k, v in os.environ.items() if v or k not in from_file}


def load() -> Settings:
    """Settings of this process; what requests reads itself is handed on. Raises SettingsError."""
    environ = given()
    for name in environ:
        if name.lower() in READ_BY_REQUESTS:
            os.environ.setdefault(name, environ[name])
    return Settings.from_env(environ)
