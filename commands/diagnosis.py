"""What the doctor concludes: where calls go by the settings, how bad a finding is, what to change.

Pure; knows nothing of the network or of the command line.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

from commands.outcomes import OUTCOMES
from commands.probe import Probe
from flowith.accounts import Account, Accounts
from flowith.dialects import DIALECTS, moved
from flowith.file_address import origin_of
from settings import APIS, Api, Settings

Mark = Literal["ok", "note", "warning", "problem"]
Way = tuple[Account, Api]


def ways(settings: Settings, accounts: Accounts) -> set[Way]:
    """Which accounts go to which API: by the rows of models.json, else by FLOWITH_API, else by the
    shape of the token."""
    wanted = {row.api or settings.chosen_api for row in settings.models.values()}
    return {(account, api or account.kind) for api in wanted for account in accounts.usable(api)}


def address(settings: Settings, api: Api) -> str:
    """Where the service looks for an API by these settings."""
    return moved(DIALECTS[api].url, settings.flowith_api_url)


def to_mark(probe: Probe, needed: bool, last: bool, chosen: bool) -> Mark:
    """How bad it is. `needed`: the service itself goes this way; `last`: no later probe at this
    address did better; `chosen`: the operator named the model."""
    outcome = probe.said.outcome
    if outcome == "worked":
        return "ok"
    if not needed:
        return "note"
    if outcome == "unknown_model":
        return "problem" if chosen else "warning"
    if not last:
        return "note"
    return "warning" if outcome in ("empty", "rate_limited") else "problem"


def to_change(settings: Settings, accounts: Accounts, probes: Sequence[Probe]) -> dict[str, str]:
    """The settings with which more accounts reach Flowith; none if they all do, or none would help.

    What is nearest to these settings comes first: the address as it is or as it was shipped, then
    every host and every whole address that showed life; the API as it is, then by the token.
    """
    alive = {(probe.account, probe.api, probe.url) for probe in probes if probe.said.alive}
    probed = {probe.account for probe in probes}
    whole = sorted(url for _, _, url in alive)
    hosts = list(map(origin_of, whole))

    def sorted_out(changed: Settings) -> tuple[set[Way], set[Way]]:
        """The ways that lead somewhere, and those that do not."""
        going = {way for way in ways(changed, accounts) if way[0] in probed}
        good = {way for way in going if (*way, address(changed, way[1])) in alive}
        return good, going - good

    def reached(changes: dict[str, Any]) -> tuple[int, int]:
        good, _ = sorted_out(replace(settings, **changes))
        return len({account for account, _ in good}), len(good)

    if not sorted_out(settings)[1]:
        return {}
    urls = [settings.flowith_api_url, "", *hosts, *whole]
    apis = [settings.flowith_api, "auto", *APIS]
    near = [(apis[0], urls[0]), (apis[0], ""), ("auto", urls[0])]
    tries = [*near, *product(apis, urls)]
    best = max(({"flowith_api": api, "flowith_api_url": url} for api, url in tries), key=reached)
    changed = {name: text for name, text in best.items() if text != getattr(settings, name)}
    return {name.upper(): text for name, text in changed.items()}


def remedies(settings: Settings, accounts: Accounts, probes: Sequence[Probe]) -> list[str]:
    """What else is to be done where the service goes by these settings, the commonest first."""
    going = ways(settings, accounts)
    last = {(p.account, p.api): p for p in probes if p.url == address(settings, p.api)}
    found = [OUTCOMES[p.said.outcome].remedy for way, p in last.items() if way in going]
    found.sort(key=found.count, reverse=True)
    return [remedy for remedy in dict.fromkeys(found) if remedy]
