"""Whether a host can be reached from here, and if not, why: proxy, name, TLS, clock.

Sends no token anywhere. Knows nothing of Flowith's APIs.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests

from commands.outcomes import Said
from flowith.transport import FOREIGN, asked_alone, causes, to_trouble

Item = TypeVar("Item")
Found = TypeVar("Found")
HEADERS = {"Accept": "*/*", "User-Agent": "flowith-proxy"}
PATIENCE = 10.0  # seconds for a name, and for a connection, at most
CLOCK_LIMIT = 300.0  # seconds by which a clock may be wrong without harm
CLOCK = "or this machine's clock is wrong"
CERTIFICATE = {  # OpenSSL's X509_V_ERR_*
    9: f"its certificate is not valid yet, {CLOCK}",
    10: f"its certificate has expired, {CLOCK}",
    62: "its certificate belongs to another host: a captive portal, or a wrong address",
}
UNKNOWN_ISSUER = (
    "nobody whom this machine trusts has signed its certificate: a company's proxy or a virus"
    " scanner reads along (name its certificate in REQUESTS_CA_BUNDLE), or somebody else does"
)
BROKEN = Said("failed", "breaks off the connection")
SLOW = Said("no_connection", "accepts no connection in time: a firewall swallows it")
TROUBLES = {"slow_connection": SLOW, "encoding": BROKEN, "cut": BROKEN}  # all others are outcomes


def survey(hosts: Sequence[str], patience: float) -> Iterator[tuple[str, str, Said]]:
    """Look at all hosts side by side, with `patience` seconds for a name and for a connection; a
    host that fails a step is left out of the next. Of each look its kind (proxy, dns, connect or
    clock), the host (empty for this machine) and what was found."""
    proxies = {host: _proxy(host) for host in hosts}
    for host in hosts:
        if proxies[host]:
            yield "proxy", host, Said("worked", f"is reached through {proxies[host]}")
    if not any(proxies.values()):
        yield "proxy", "", Said("worked", "there is none on the way")
    if text := _bad_certificates():
        yield "proxy", "", Said("tls", text)
    slow = Said("no_connection", f"did not answer within {patience:g} seconds")
    direct = [host for host in hosts if not proxies[host]]
    names = side_by_side(_look_up, direct, patience)
    yield from (("dns", host, names.get(host, slow)) for host in direct)
    up = [h for h in hosts if proxies[h] or (h in names and names[h].outcome == "worked")]
    knocks = side_by_side(partial(_knock, patience), up, 3 * patience)
    yield from (("connect", host, knocks.get(host, (slow, None))[0]) for host in up)
    ahead = [seconds for _, seconds in knocks.values() if seconds is not None]
    if ahead and min(map(abs, ahead)) > CLOCK_LIMIT:
        text = f"this machine's is {abs(ahead[0]) / 60:.0f} minutes"
        yield "clock", "", Said("failed", f"{text} {'fast' if ahead[0] > 0 else 'slow'}")


def side_by_side(
    work: Callable[[Item], Found], items: Iterable[Item], patience: float | None = None
) -> dict[Item, Found]:
    """What `work` makes of each item within `patience` seconds (None: for ever). In threads that
    nobody waits for on Ctrl-C, as a name server may need half a minute to say nothing."""
    found: dict[Item, Found] = {}

    def one(item: Item) -> None:
        found[item] = work(item)

    threads = [threading.Thread(target=one, args=(item,), daemon=True) for item in items]
    for thread in threads:
        thread.start()
    until = None if patience is None else time.monotonic() + patience
    for thread in threads:
        thread.join(None if until is None else max(0.0, until - time.monotonic()))
    return dict(found)


def _proxy(url: str) -> str:
    """The proxy that requests takes from the environment, without its password."""
    found = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return re.sub(r"//[^/]*@", "//", found or "")


def _bad_certificates() -> str:
    """Why the certificates that the environment names are of no use; empty if they are."""
    with requests.Session() as session:
        place = session.merge_environment_settings("https://", {}, None, None, None)["verify"]
    if not isinstance(place, str):
        return ""
    try:
        folder = Path(place).is_dir()
        ssl.create_default_context(
            cafile=None if folder else place, capath=place if folder else None
        )
    except OSError:  # ssl.SSLError is one
        return f"REQUESTS_CA_BUNDLE: {place} is no file of certificates"
    return ""


def _look_up(url: str) -> Said:
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Said.of("no_dns")
    return Said("worked", "is " + ", ".join(dict.fromkeys(str(info[4][0]) for info in found)))


def _knock(patience: float, url: str) -> tuple[Said, float | None]:
    """Whether a host answers at all, and the seconds by which this machine's clock is ahead of its
    clock."""
    try:
        with asked_alone("HEAD", url, HEADERS, None, patience, patience) as (answer, _):
            said = Said("worked", "answers")
            date = parsedate_to_datetime(answer.headers["Date"])
    except FOREIGN as wrong:
        return to_said(wrong), None
    except (KeyError, ValueError):  # no date
        return said, None
    return said, time.time() - date.timestamp()


def to_said(wrong: Exception) -> Said:
    """Foreign exceptions in plain words; their own may quote headers or a proxy's password."""
    trouble = to_trouble(wrong)
    if trouble != "tls":
        return TROUBLES.get(trouble) or Said.of(trouble)
    for one in causes(wrong):
        if isinstance(one, ssl.SSLCertVerificationError):
            why = CERTIFICATE.get(one.verify_code, UNKNOWN_ISSUER)
            return Said("tls", f"cannot show who it is: {why}")
        if isinstance(one, ssl.SSLError):
            return Said.of("tls", more=f" ({one.reason})")
    return Said.of("tls")
