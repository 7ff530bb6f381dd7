"""Where a file that Flowith's answer named may be fetched from, and where not.

https addresses on public hosts, and whatever lies at the origin of FLOWITH_API_URL: an answer must
not lead this service, or who reads its answers, into somebody's own network. Nothing here fetches.
"""

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from requests.utils import requote_uri

from errors import UpstreamError

LONGEST_ADDRESS = 2_048  # characters
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
COMPATIBLE = ipaddress.ip_network("::/96")  # RFC 4291: an old way to write IPv4 addresses
# names that mean nothing outside a network, or are another way to write an IP address
INSIDE = re.compile(r".*\.(localhost|local|internal|lan|home\.arpa|\d[^.]*)", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
NO_ADDRESS = "Flowith named an address of a file that is none."


class Forbidden(UpstreamError, code="upstream_error"):
    """The file may not be fetched, or is none; to try again would change nothing."""

    retryable = False


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, without what may stand before an @; empty without a host."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{place}" if place else ""


def to_address(given: object, origin: str) -> str:
    """The address as it goes into a request or a page. Raises Forbidden for one that nobody should
    fetch: not https, or by its very name not public. One at `origin` is always good."""
    try:
        address = requote_uri(given) if isinstance(given, str) else ""
        parts = urlsplit(address)
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:  # a port that is none, or half a surrogate pair
        raise Forbidden(NO_ADDRESS) from None
    if not address.isascii() or len(address) > LONGEST_ADDRESS or "@" in parts.netloc:
        raise Forbidden(NO_ADDRESS)
    if origin and origin_of(address) == origin:
        return address
    if not host or parts.scheme != "https":
        raise Forbidden("Flowith named a file that is at no https address.")
    if not _is_public_host(host):
        raise Forbidden("Flowith named a file on a host that is not public.")
    return address


def _is_public_host(host: str) -> bool:
    try:
        return is_public(host)
    except ValueError:  # a name
        return bool(NAME.fullmatch(host)) and not INSIDE.fullmatch(host)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, also where another is wrapped in it.
    Raises ValueError for what is none."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.teredo or ip in COMPATIBLE:
            return False
        wrapped = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        ip = wrapped or ip
    return ip.is_global and not ip.is_multicast


def resolve(address: str, origin: str) -> list[str]:
    """The hosts to connect to for an address that is fit to be fetched: the public Internet's by
    their IP addresses. Raises Forbidden where one of those is not public."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if origin_of(address) == origin:
        return [host]
    found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    hosts = list(dict.fromkeys(str(one[4][0]) for one in found))
    if not all(map(is_public, hosts)):
        raise Forbidden("Flowith named a file whose host is at an address that is not public.")
    return hosts
