"""`flask models`: shows models.json, and brings it up to date with Flowith's live lists.

Knows nothing of the lists' forms, nor of what callers get to see.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from commands.model_lists import Named, list_url, read_list
from errors import UpstreamError
from flowith.client import Flowith
from settings import NO_TOKEN, Model, SettingsError, read_models, read_rows

# Fields that only describe a model. A row under Flowith's own id with no other field is Flowith's
# to change; all others (aliases, fallbacks, "*") somebody has made by hand.
FACTS = {"model", "name", "description", "context", "output", "images", "kind", "shape", "sizes"}
NO_OWN_LIST = (
    "Nothing is removed: Flowith's LLM API has no list of its own, this is its knowledge API's."
)
Rows = dict[str, Any]

models = AppGroup("models", help="Show models.json, or compare it with Flowith's lists.")


def _flowith() -> Flowith:
    flowith: Flowith | None = current_app.extensions.get("flowith")
    if flowith is not None:
        return flowith
    raise click.ClickException("The settings are wrong; `flask doctor` says which.")


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="All fields, as JSON.")
def show(as_json: bool) -> None:
    """Show the rows of models.json."""
    flowith = _flowith()
    rows = flowith.settings.models.values()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=1))
        return
    table = [("name", "Flowith's ids", "api", "context", "marks")]
    for row in rows:
        apis = ",".join(sorted(flowith.apis_for(row))) or row.api or "-"
        context = f"{row.context:,}" if row.context else "-"
        table.append((row.id, ", ".join(row.upstream), apis, context, ", ".join(marks(row))))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo("  ".join(map(str.ljust, line, widths)).rstrip())


def marks(model: Model) -> Iterator[str]:
    """What is special about a row."""
    if model.id not in model.upstream:
        yield "alias"
    if model.kind == "image":
        sizes = f" at {', '.join(model.sizes)}" if model.sizes else ""
        yield f"makes pictures{sizes}"
    if not model.images:
        yield "no images"
    if not model.system_role:
        yield "no system role"
    if model.native_tools:
        yield "native tools"
    if model.kb_list:
        yield f"{len(model.kb_list)} knowledge bases"


@models.command("refresh")
@click.option("--write", is_flag=True, help="Write the file; without this nothing is written.")
def refresh(write: bool) -> None:
    """Compare models.json with the models that Flowith lists for each account."""
    flowith = _flowith()
    path = Path(flowith.settings.models_file)
    live, whole, failed = collect(flowith)
    if not live:
        raise click.ClickException(f"No list could be read; {path} stays as it is.")
    try:
        rows = read_rows(path)
        fresh, changes = compare(rows, live, whole and not failed)
        click.echo("\n".join(changes))
        if not (whole or failed):
            click.echo(NO_OWN_LIST)
        if fresh == rows:
            click.echo(f"{path} is up to date.")
        elif write:
            write_rows(path, fresh)
            click.echo(f"{path} is written; reload the service (HUP) or restart it.")
        else:
            click.echo(f"{path} is unchanged; --write writes it.")
    except SettingsError as wrong:
        raise click.ClickException(str(wrong)) from wrong
    except OSError as wrong:
        raise click.ClickException(f"{path} cannot be written: {wrong.strerror}.") from wrong
    if failed:
        raise click.ClickException("Not all lists could be read, so nothing was removed.")


def collect(flowith: Flowith) -> tuple[Named, bool, bool]:
    """What all accounts' lists hold together; whether they are the lists of the APIs that are
    used, and whether one could not be read, which is told on standard error."""
    live: Named = {}
    whole, failed = True, False
    if not flowith.accounts.all:
        raise click.ClickException(NO_TOKEN)
    for account in flowith.accounts.all:
        url = list_url(flowith, account).partition("?")[0]
        where = f"Account {account.name}, {url}"
        try:
            listed, left_out = read_list(flowith, account)
        except UpstreamError as why:
            click.echo(f"{where}: {why.message}", err=True)
            failed = True
            continue
        besides = f" (left out: {left_out})" if left_out else ""
        click.echo(f"{where}: {len(listed)} models{besides}")
        whole = whole and flowith.api_of(account) != "llm"
        for name, facts in listed.items():
            live.setdefault(name, {}).update(facts)
    return live, whole, failed


def compare(rows: Rows, live: Named, whole: bool) -> tuple[Rows, list[str]]:
    """The rows as they should be, in their order, and a line for each difference.

    `whole` says that a model which `live` lacks is gone; one that makes pictures only where `live`
    holds any of those, as not every list does.
    """
    draws = any(facts.get("kind") == "image" for facts in live.values())
    fresh: Rows = {}
    changes: list[str] = []
    for name, row in rows.items():
        fields = row if isinstance(row, dict) else {"model": row}
        upstream = [fields["model"], *fields.get("fallbacks", ())]
        by_hand = fields["model"] != name or bool(fields.keys() - FACTS)
        listed = "*" in upstream or any(one in live for one in upstream)
        facts = {} if by_hand else live.get(name, {})
        if not (listed or by_hand) and whole and (draws or fields.get("kind") != "image"):
            changes.append(f"- {name}")
            continue
        fresh[name] = {**fields, **facts} if facts else row
        if not listed:
            changes.append(f"! {name}: kept, but Flowith lists no {' or '.join(upstream)}")
        elif by_hand and name in live and name not in upstream:
            changes.append(f"! {name}: kept, but Flowith lists {name} itself")
        elif new := [f"{k} {_json(v)}" for k, v in facts.items() if fields.get(k) != v]:
            changes.append(f"~ {name}: {', '.join(new)}")
    for name, facts in live.items():
        if name not in rows:
            changes.append(f"+ {name}  {facts.get('name', '')}".rstrip())
            fresh[name] = {"model": name, **facts} if facts else name
    count = {mark: sum(line[0] == mark for line in changes) for mark in "+-~"}
    kept = len(rows) - count["-"] - count["~"]
    total = f"{count['+']} new, {count['-']} gone, {count['~']} changed, {kept} kept"
    return fresh, [*changes, total]


def write_rows(path: Path, rows: Rows) -> None:
    """Replace the file in one step, a row a line. Raises OSError and SettingsError."""
    lines = [f"  {_json(name)}: {_json(row)}" for name, row in rows.items()]
    path = path.resolve()
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            os.fchmod(number, path.stat().st_mode)  # mkstemp's 0600 would shut out the service
            file.write("{\n" + ",\n".join(lines) + "\n}\n")
            file.flush()
            os.fsync(number)
        read_models(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
