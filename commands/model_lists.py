"""Flowith's live lists of models: where they are, how to ask, and both of their forms read to one.

The web app's list is an object by id, with names, media and tiers; the knowledge API's has ids
alone, and what the API for pictures lists is a guess. The LLM API has none that is known. Knows
nothing of models.json.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from commands.reach import to_said
from errors import UpstreamError
from flowith.accounts import Account
from flowith.client import Flowith
from flowith.file_address import origin_of
from flowith.refusal import to_refusal
from flowith.transport import FOREIGN, asked_alone, read_whole
from settings import SIZES, Api

LONGEST = 4_194_304  # bytes of a list
LONGEST_TEXT = 200  # characters of a name or a description
MODEL_ID = re.compile(r"[!-)+-~]{1,128}")  # no blanks, and no star, which means all models here
PICTURES, FILMS = re.compile("image"), re.compile("video|audio|music|3d")
LISTS: dict[Api, str] = {
    "web": "models?logo=1&desc=1",
    "knowledge": "external/use/knowledge-base/models",
}
SIZED = re.compile(r"\d+x\d+")

Named = dict[str, dict[str, Any]]  # fields of a row by id, as far as Flowith gives them


def list_url(flowith: Flowith, account: Account) -> str:
    """Where an account's list is; FLOWITH_API_URL moves its host, too."""
    api = _lister(flowith, account)
    return _url(flowith, api, LISTS[api])


def _lister(flowith: Flowith, account: Account) -> Api:
    return "web" if flowith.api_of(account) == "web" else "knowledge"


def read_list(flowith: Flowith, account: Account) -> tuple[Named, str]:
    """The models for text and for pictures that an account may use, and in words what its list
    holds besides.

    Models of a tier that the account lacks are left out when its credits tell. Raises
    UpstreamError that says why in plain words.
    """
    api = _lister(flowith, account)
    entries = dict(_entries(_get(flowith, account, api, LISTS[api])))
    fit = {i: e for i, e in entries.items() if not FILMS.search(_media(e))}
    tiers = _tiers(flowith, account) if any(e.get("tier") for e in fit.values()) else set()
    usable = {i: e for i, e in fit.items() if not tiers or str(e.get("tier") or "") in tiers}
    if not usable:
        raise UpstreamError("Flowith's list holds no model that this account may use.")
    counts = {"media": len(entries) - len(fit), "in another tier": len(fit) - len(usable)}
    left_out = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
    named = {i: _facts(e) for i, e in usable.items()}
    if api == "knowledge":
        named = _pictures_by_key(flowith, account) | named
    return named, left_out


def _pictures_by_key(flowith: Flowith, account: Account) -> Named:
    """What the API for pictures by key lists, in whatever form; nothing where that fails."""
    try:
        entries = dict(_entries(_get(flowith, account, "llm", "external/use/image/models")))
    except UpstreamError:
        return {}
    return {i: _facts({"media": "image", **e}) for i, e in entries.items()}


def _media(entry: dict[str, Any]) -> str:
    return json.dumps(entry.get("media"))


def _entries(body: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    pairs: list[tuple[Any, dict[str, Any]]]
    if isinstance(body, dict) and isinstance(body.get("models"), list):
        pairs = [(m.get("id"), m) if isinstance(m, dict) else (m, {}) for m in body["models"]]
    elif isinstance(body, dict) and not body.get("error"):
        pairs = [(name, entry) for name, entry in body.items() if isinstance(entry, dict)]
    else:
        raise UpstreamError("What came is no list of models.")
    for name, entry in pairs:
        if isinstance(name, str) and MODEL_ID.fullmatch(name):
            yield name, entry


def _facts(entry: dict[str, Any]) -> dict[str, Any]:
    given = {
        "name": entry.get("title") or entry.get("name"),
        "description": entry.get("description"),
    }
    plain = {k: " ".join(v.split()) for k, v in given.items() if isinstance(v, str)}
    shown = {k: "".join(c for c in v if c.isprintable())[:LONGEST_TEXT] for k, v in plain.items()}
    facts = {k: v for k, v in shown.items() if v}
    return facts | (_picture_facts(entry) if PICTURES.search(_media(entry)) else {})


def _picture_facts(entry: dict[str, Any]) -> dict[str, Any]:
    """How a model that makes pictures is told their shape, where its entry says so."""
    facts: dict[str, Any] = {"kind": "image"}
    ratios = [one for one in _listed(entry, "supportedAspectRatios") if one != "auto"]
    if ratios:
        facts["shape"] = "pixels" if all(map(SIZED.fullmatch, ratios)) else "ratio"
    sizes = [one.lower() for one in _listed(entry, "supportedImageSizes")]
    if known := [size for size in SIZES if size in sizes]:
        facts["sizes"] = known
    return facts


def _listed(entry: dict[str, Any], name: str) -> list[str]:
    given = entry.get(name)
    return [one for one in given if isinstance(one, str)] if isinstance(given, list) else []


def _tiers(flowith: Flowith, account: Account) -> set[str]:
    """The tiers of an account's grants, and "" for models of none; empty when nothing tells."""
    try:
        grants = _get(flowith, account, "web", "user/credits")
    except UpstreamError:
        return set()
    policies = [
        grant.get("credit_policy_snapshot") or grant.get("policy_summary")
        for grant in (grants if isinstance(grants, list) else ())
        if isinstance(grant, dict)
    ]
    given = [p.get("allowed_model_tiers") for p in policies if isinstance(p, dict)]
    told = {str(tier) for tiers in given if isinstance(tiers, list) for tier in tiers}
    return told and told | {""}


def _url(flowith: Flowith, api: Api, path: str) -> str:
    return f"{origin_of(flowith.dialects[api].url)}/{path}"


def _get(flowith: Flowith, account: Account, api: Api, path: str) -> Any:
    """GET the JSON at a path of an API's host; a refused token is tried in its other form once."""
    dialect, patience = flowith.dialects[api], flowith.settings.connect_timeout
    url = _url(flowith, api, path)
    token = account.login.renew() if account.login else account.token
    for bearer in (dialect.bearer, not dialect.bearer):
        headers = dialect.headers_for(token, bearer)
        try:
            with asked_alone("GET", url, headers, None, patience, patience) as (answer, exchange):
                body = read_whole(exchange, url, LONGEST, patience)
        except FOREIGN as wrong:
            raise UpstreamError(f"Flowith {to_said(wrong).words}.") from wrong
        if answer.status_code != 401:
            break
    if answer.status_code != 200:
        raise to_refusal(answer.status_code, body, answer.headers)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        kind = "a web page (a captive portal?)" if body.lstrip()[:1] == b"<" else "no JSON"
        raise UpstreamError(f"What came is {kind}, not a list of models.") from None
