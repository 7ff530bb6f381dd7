"""Which row of models.json a caller's name finds, however the caller writes it.

Knows nothing of requests.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from settings import Model, Settings

ONLINE = ":online"  # OpenRouter's mark behind the name of a model that is to search the web
AROUND_A_NAME = (  # what clients and other services put around a model's name, from outside in
    re.compile(
        "^(?:(?:flowith|openrouter|azure|openai|anthropic|google|gemini|models|deepseek)/)+",
        re.IGNORECASE,
    ),
    re.compile(r"\[1m\]$", re.IGNORECASE),  # Claude Code's mark for a long context
    # which of a model's hosts OpenRouter is to choose
    re.compile(r":(?:free|nitro|floor|exacto)$", re.IGNORECASE),
    # a snapshot's date, of old ones without the year
    re.compile(r"[-@](?:(?:20\d\d-?)?[01]\d-?[0-3]\d|latest)$", re.IGNORECASE),
)


def find_model(settings: Settings, asked: str) -> Model | None:
    """The row for what a caller asks for, by its name in any case and as other services write it;
    else that of the longest pattern it fits; None where there is none.

    A row `"*": "*"` passes unknown ids on to Flowith as they are.
    """
    asked = asked.removesuffix(ONLINE)
    if row := settings.models.get(asked):
        return row  # nearly always; the tables below take longer than all else here
    named = {model.id.lower(): model for model in settings.listed}
    name = asked
    for name in spellings(asked):
        if row := settings.models.get(name) or named.get(name.lower()):
            return row
    patterns = {key[:-1].lower(): key for key in settings.models if key.endswith("*")}
    fit = [begin for begin in patterns if asked and name.lower().startswith(begin)]
    if not fit:
        return None
    row = settings.models[patterns[max(fit, key=len)]]
    given = tuple(asked if one == "*" else one for one in row.upstream)
    return replace(row, id=asked if row.id == "*" else row.id, upstream=given)


def spellings(asked: str) -> Iterator[str]:
    """The name as it came, then with less and less around it."""
    yield asked
    for addition in AROUND_A_NAME:
        asked = addition.sub("", asked)
        yield asked
