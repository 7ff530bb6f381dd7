"""A model is found by what callers call it."""

from dataclasses import replace
from pathlib import Path

import pytest

from formats.model_names import find_model
from settings import Model, Settings, SettingsError, read_models

ROWS = {
    "gpt-4.1": ("one",), "GPT-Big": ("two",), "vendor/x": ("three",), "dated-2025-01-02": ("four",),
    "claude-*": ("five", "six"), "claude-opus-*": ("seven",), "claude-opus-4.8": ("eight",),
    "Pass-*": ("*",),
}  # fmt: skip
SETTINGS = Settings(models={name: Model(name, upstream) for name, upstream in ROWS.items()})
FOUND = {
    "gpt-4.1": "gpt-4.1",
    "GPT-4.1": "gpt-4.1",
    "gpt-big": "GPT-Big",
    "openai/gpt-4.1": "gpt-4.1",
    "flowith/gpt-4.1": "gpt-4.1",
    "anthropic/claude-opus-4.8": "claude-opus-4.8",
    "vendor/x": "vendor/x",
    "flowith/vendor/x": "vendor/x",
    "gpt-4.1-2025-04-14": "gpt-4.1",
    "openai/GPT-4.1-2025-04-14": "gpt-4.1",
    "gpt-4.1-latest": "gpt-4.1",
    "gpt-4.1-0613": "gpt-4.1",
    "azure/gpt-4.1": "gpt-4.1",
    "openai/gpt-4.1:free": "gpt-4.1",
    "OpenAI/GPT-4.1-Latest": "gpt-4.1",
    "openrouter/openai/gpt-4.1": "gpt-4.1",
    "models/gpt-4.1": "gpt-4.1",
    "gemini/gpt-big": "GPT-Big",
    "CLAUDE-OPUS-4.8[1M]": "claude-opus-4.8",
    "dated-2025-01-02": "dated-2025-01-02",
    "claude-opus-4.8": "claude-opus-4.8",
    "claude-opus-4.8[1m]": "claude-opus-4.8",
    "claude-opus-4.8@20250514": "claude-opus-4.8",
    "claude-opus-5-20270101": "claude-opus-*",
    "claude-opus-5[1m]": "claude-opus-*",
    "CLAUDE-OPUS-5": "claude-opus-*",
    "claude-3-5-sonnet-latest": "claude-*",
    "claude-*": "claude-*",
    "pass-7": "Pass-*",
    "gpt-4.1:online": "gpt-4.1",
}


@pytest.mark.parametrize("asked", FOUND)
def test_a_model_is_found_by_any_of_its_names(asked: str) -> None:
    model = find_model(SETTINGS, asked)
    assert model is not None
    assert model.id == FOUND[asked]


@pytest.mark.parametrize(
    "asked",
    ["", "gpt-4", "gpt-4.1-mini", "gpt-4.1-2025", "gpt-4.1:small", "vendor/gpt-4.1", "claude"],
)
def test_another_model_is_not_taken_for_it(asked: str) -> None:
    assert find_model(SETTINGS, asked) is None


def test_a_pattern_may_pass_the_name_on() -> None:
    passed = find_model(SETTINGS, "pass-7")
    assert passed is not None
    assert passed.upstream == ("pass-7",)


def test_a_row_for_all_names_comes_last_and_passes_them_on() -> None:
    models = {**SETTINGS.models, "*": Model("*", ("*", "spare"))}
    every = replace(SETTINGS, models=models)
    for asked in ("new", "vendor/new", "openai/new-2025-01-02"):
        assert find_model(every, asked) == Model(asked, (asked, "spare"))
        assert find_model(every, f"{asked}:online") == Model(asked, (asked, "spare"))
    for asked, row in FOUND.items():
        model = find_model(every, asked)
        assert model is not None
        assert model.id == row
    assert find_model(every, "") is None


def test_patterns_are_not_listed() -> None:
    listed = [model.id for model in SETTINGS.listed]
    assert listed == [name for name in ROWS if not name.endswith("*")]


def test_a_star_stands_at_the_end_alone(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    for name in ("a*b", "*a", "a**"):
        file.write_text(f'{{"{name}": "x"}}')
        with pytest.raises(SettingsError, match="last character"):
            read_models(file)
