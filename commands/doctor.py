"""`flask doctor`: are the settings, the way to Flowith and the accounts right, and what to change.

Knows nothing of OpenAI or of Flowith's wire; `diagnosis.py` judges what is found here.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from commands.diagnosis import Mark, address, remedies, to_change, to_mark, ways
from commands.explain_sample import explain
from commands.masking import personal_values, to_secrets
from commands.outcomes import Said
from commands.probe import Asking, Probe, addresses
from commands.questions import price, to_calls
from commands.reach import PATIENCE, side_by_side, survey
from commands.report import Report
from commands.sample import check_target, make_sample
from commands.sample_file import SampleError, read_sample
from flowith.accounts import Account, Accounts
from flowith.client import Flowith
from flowith.file_address import origin_of
from flowith.login import expiry, why_not_kept
from formats.model_names import find_model
from server.pages import VERSION
from settings import APIS, Settings, SettingsError, given, load

FILE = click.Path(dir_okay=False, path_type=Path)
LATEST = 253_402_300_799.0  # Unix seconds; the end of the year 9999
USED_ELSEWHERE = (
    "its refresh token was used by somebody else, another copy of this service or a browser, so the"
    " login cannot be renewed: sign in at Flowith again, for this service alone, and set both"
    " tokens anew (or use a flo_... key)."
)


@click.command()
@click.option("--model", "asked", metavar="NAME", help="Ask with this row of models.json.")
@click.option("--all", "everything", is_flag=True, help="Go on to all addresses when one worked.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--sample", "target", metavar="FILE", type=FILE, help="Record what Flowith says.")
@click.option("--pictures", is_flag=True, help="With --sample: also make pictures, which is dear.")
@click.option("--yes", "agreed", is_flag=True, help="With --pictures: do not ask about the price.")
@click.option("--read", "source", metavar="FILE", type=FILE, help="Explain a sample; asks nobody.")
def doctor(
    asked: str | None,
    everything: bool,
    as_json: bool,
    target: Path | None,
    pictures: bool,
    agreed: bool,
    source: Path | None,
) -> None:
    """Check settings, network and accounts against Flowith, and say what to change.

    Each account is asked one tiny question at each address that Flowith's APIs have had, until one
    works. Flowith bills those that succeed. Exit status: 0 all is well, 1 something is wrong, 2 it
    could not be checked (no usable token, an unknown option or model, a sample that is refused,
    Ctrl-C).
    """
    if source:
        read_aloud(source)
        return
    if (pictures and not target) or (agreed and not pictures):
        raise click.UsageError("--pictures goes with --sample FILE, and --yes with --pictures.")
    if target:
        check_target(target)
    report = Report(as_json)
    try:
        sample = partial(take_sample, report, target, pictures, agreed) if target else None
        examine(report, asked, everything, sample)
    except KeyboardInterrupt:
        kept = f" {target} holds what had come until then." if target and target.exists() else ""
        click.echo(f"\nStopped before the end.{kept}", err=True)
        sys.exit(2)
    report.close()
    sys.exit(report.status)


def read_aloud(source: Path) -> None:
    """Explain a sample; one that is refused ends the program with status 2."""
    try:
        sample = read_sample(source)
    except SampleError as wrong:
        click.echo(f"This sample is refused: {wrong}.", err=True)
        sys.exit(2)
    click.echo("\n".join(explain(sample)))


def examine(
    report: Report, asked: str | None, everything: bool, sample: Callable[..., None] | None
) -> None:
    """All checks, in order. Raises click.BadParameter for a model that has no row."""
    try:
        settings = load()
    except SettingsError as wrong:
        for mistake in wrong.args:
            report.add("problem", "settings", mistake)
        report.advice = ["Correct this first, in .env or in the environment."]
        return
    model = find_model(settings, asked) if asked else None
    why = ""
    if asked and model is None:
        why = f"{settings.models_file} has no row {asked!r}."
    elif model is not None and model.kind == "image":
        why = f"{asked!r} makes pictures, which cost a lot; the doctor asks for none."
    if why:
        raise click.BadParameter(why, None, None, "model")
    flowith = Flowith(settings, f"flowith-openai-proxy/{VERSION}")
    check_settings(report, settings)
    check_state_file(report, settings)
    down = check_network(report, settings, flowith.accounts)
    tokens = {account: check_login(report, account) for account in flowith.accounts.all}
    asking = Asking(settings, flowith.agent, down, model, everything)
    probes = ask_all(report, asking, flowith.accounts, tokens)
    if sample:
        sample(asking, probes)
    conclude(report, settings, flowith.accounts, probes)


def check_settings(report: Report, settings: Settings) -> None:
    """What the settings say of themselves, and names in the environment that nothing reads."""
    names = {setting.name.upper() for setting in Settings.described()}
    report.add("ok", "settings", f"{len(names)} read, none of them wrong")
    for warning in settings.warnings():
        report.add("warning", "settings", warning)
    for name in sorted(name for name in given() if name.startswith("FLOWITH_")):
        if name not in names:
            report.add("warning", "settings", f"{name} is no setting: nothing reads it")
    report.add("ok", "models", f"{len(settings.models)} rows in {settings.models_file}")
    if drawing := sum(row.kind == "image" for row in settings.models.values()):
        text = f"{drawing} of them make pictures; not tried, as each picture costs credits"
        report.add("note", "models", text)


def check_state_file(report: Report, settings: Settings) -> None:
    """Whether a renewed login can be kept; leaves nothing behind."""
    file = Path(settings.state_file)
    if not settings.flowith_refresh_token:
        report.add("ok", "state", "not needed, as there is no FLOWITH_REFRESH_TOKEN")
        return
    if why := why_not_kept(file):
        text = f"{file} cannot be written ({why}): the login would be lost when it is renewed."
        report.add("problem", "state", f"{text} Set STATE_FILE to a place that can be.")
    else:
        report.add("ok", "state", f"{file} can be written")


def check_network(report: Report, settings: Settings, accounts: Accounts) -> dict[str, Said]:
    """The hosts that cannot be reached, and why."""
    going = {api for _, api in ways(settings, accounts)} or set(APIS)
    in_use = [origin_of(address(settings, api)) for api in APIS if api in going]
    if settings.flowith_refresh_token:
        in_use.append(origin_of(settings.flowith_identity_url))
    known = [origin_of(url) for api in APIS for url in addresses(api, settings.flowith_api_url)]
    down, patience = {}, min(settings.connect_timeout, PATIENCE)
    for check, host, said in survey(list(dict.fromkeys(in_use + known)), patience):
        spare = host and host not in in_use
        mark: Mark = "note" if spare else "warning" if check == "clock" else "problem"
        if said.outcome == "worked":
            mark = "ok"
        elif host:
            down[host] = said
        text = f"{host} {said.words}{' (not in use)' if spare else ''}".strip()
        report.add(mark, check, text, host=host)
    return down


def check_login(report: Report, account: Account) -> str:
    """The token to ask with, empty when it would be refused; a refresh token is not spent."""
    token, mark, text = to_token(account)
    report.add(mark, "login", f"account {account.name}: {text}", account=account.name)
    return token


def to_token(account: Account) -> tuple[str, Mark, str]:
    """The token to ask with, how good it is, and why."""
    token = account.login.stored() if account.login else account.token
    if account.login and account.login.used_elsewhere():
        return "", "problem", USED_ELSEWHERE
    if account.kind == "llm":
        return token, "ok", "a flo_... key"
    ends = expiry(token)
    if token and ends is None:
        return token, "warning", "neither a flo_... key nor a web login"
    end = time.gmtime(min(ends or 0.0, LATEST))
    when = time.strftime("%Y-%m-%d %H:%M UTC", end)
    if ends is not None and ends > time.time():
        return token, "ok", f"a web login, good until {when}"
    said = f"the web login {'is to come' if ends is None else f'ended {when}'}"
    if account.login:
        text = f"{said}; the service renews it at its next call. Make one, then run this again."
        return "", "warning", text
    text = f"{said}: sign in at Flowith again and set FLOWITH_AUTH_TOKEN (a flo_... key lasts"
    return "", "problem", f"{text} longer)."


def ask_all(
    report: Report, asking: Asking, accounts: Accounts, tokens: dict[Account, str]
) -> list[Probe]:
    """Name the cost, then ask with every token that is not empty; one line for each probe."""
    settings, probes = asking.settings, list[Probe]()
    tokens = {account: token for account, token in tokens.items() if token}
    report.at_most = len(tokens) * sum(map(asking.at_most, APIS))
    if report.at_most:
        text = f"Asking Flowith: up to {report.at_most} small requests; each that succeeds is"
        click.echo(f"{text} billed by Flowith as one short answer.", err=report.as_json)
    for account, token in tokens.items():
        found = side_by_side(partial(asking.ask, account, token), APIS)
        for api in APIS:
            last = {probe.url: probe for probe in found[api]}
            here = address(settings, api) if (account, api) in ways(settings, accounts) else ""
            for probe in found[api]:
                is_last = probe is last[probe.url]
                mark = to_mark(probe, probe.url == here, is_last, probe.model is asking.model)
                add_probe(report, mark, probe)
            probes += found[api]
    return probes


def take_sample(
    report: Report,
    target: Path,
    pictures: bool,
    agreed: bool,
    asking: Asking,
    probes: list[Probe],
) -> None:
    """Name the price, then make the sample."""
    calls = to_calls(probes, pictures)
    if not calls:
        report.add("problem", "sample", f"nobody can be asked, so {target} was not written")
        return
    click.echo(price(calls), err=report.as_json)
    paid = [call for call in calls if call.name == "picture"]
    if paid and not agreed and not click.confirm("Make the pictures?", err=report.as_json):
        calls = [call for call in calls if call not in paid]
    report.at_most += len(calls)
    tokens = {*asking.settings.flowith_auth_token, *kept_tokens(asking.settings)}
    make_sample(report, target, asking, calls, to_secrets(given(), tokens))


def kept_tokens(settings: Settings) -> set[str]:
    """What the state file holds of renewed logins, whatever its form."""
    try:
        state = json.loads(Path(settings.state_file).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    return set(personal_values(state))


def add_probe(report: Report, mark: Mark, probe: Probe) -> None:
    """The line of one probe, and its part of the JSON."""
    form, model, said = "Bearer" if probe.bearer else "bare", probe.model.upstream[0], probe.said
    report.sent += said.sent
    text = f"{probe.account.name} {probe.api} {probe.url} ({form}, {model}): "
    text += said.words if said.sent else "not asked, as the host cannot be reached"
    about: dict[str, Any] = {"account": probe.account.name, "api": probe.api, "url": probe.url}
    about |= {"form": form, "model": model, "outcome": said.outcome, "http_status": said.status}
    report.add(mark, "account", text, **about)


def conclude(report: Report, settings: Settings, accounts: Accounts, probes: list[Probe]) -> None:
    """What to change, and what else to do."""
    report.env = to_change(settings, accounts, probes)
    changes: dict[str, Any] = {name.lower(): text for name, text in report.env.items()}
    report.advice = remedies(replace(settings, **changes), accounts, probes)
    if report.status == 0:
        well = "" if report.advice else "All is well: "
        report.advice.append(f"{well}nothing has to be changed in .env.")
    elif not (report.advice or report.env):
        asked = "No account could be asked. " if not report.sent else ""
        report.advice = [f"{asked}The lines above say what is to be done."]
