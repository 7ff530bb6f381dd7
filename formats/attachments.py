"""Images and files inside a message, as several formats have them: decoded, and told by their
first bytes.

Knows nothing of messages. No address is ever fetched here.
"""

import base64
import re
from typing import Any

from formats.fields import bad_value, require

IMAGE_BYTES = 20_971_520  # OpenAI's limit for one image
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# A scheme and an address, whoever fetches it: Flowith does.
WEB_ADDRESS = re.compile(r"https?://[^\s/]", re.IGNORECASE)
DATA_URL = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.=+-]+)*?)(;base64)?,", re.ASCII | re.IGNORECASE
)
LONGEST_HEAD = 1000  # characters before the data of a data: URL
FIRST_BYTES = {
    "image/png": re.compile(rb"\x89PNG"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
URL_SAFE = re.compile("[-_]")

Part = dict[str, Any]


def to_image(where: str, url: str) -> Part:
    """An image part for an http(s): URL or a base64 data: URL, the latter with the type that its
    first bytes tell. Raises InvalidRequest."""
    url = url.strip()
    if url[:5].lower() == "data:":
        url = _to_plain_url(where, url)
    elif not WEB_ADDRESS.match(url):
        wanted = "expected an https: or http: URL or a base64 data: URL"
        raise bad_value(where, wanted, "invalid_image_url")
    return {"type": "image_url", "image_url": {"url": url}}


def image_from_source(where: str, source: Any) -> Part:
    """An image in Anthropic's form, which clients send to other APIs too. Raises InvalidRequest."""
    given = require(where, source, dict)
    if given.get("type") == "url":
        return to_image(f"{where}.url", require(f"{where}.url", given.get("url"), str))
    if given.get("type") != "base64":
        raise bad_value(f"{where}.type", "expected a source of type 'base64' or 'url'")
    data = require(f"{where}.data", given.get("data"), str)
    return to_image(f"{where}.data", f"data:{given.get('media_type') or ''};base64,{data}")


def to_file(where: str, file: Any) -> Part:
    """A text file becomes text; an image that came as a file becomes an image. Raises
    InvalidRequest."""
    url = require(where, file, dict).get("file_data")
    if file.get("file_id") or not isinstance(url, str):
        wanted = "send the file itself as 'file_data': nothing is stored here"
        raise bad_value(where, wanted, "unsupported_value")
    where = f"{where}.file_data"
    kind, content = parse_data_url(where, url)
    if kind in IMAGE_TYPES or image_type(content):
        return to_image(where, url)
    # Text by its type has any encoding. Others are text if they look it: many systems call
    # notebooks, TypeScript (video/mp2t) and CSV (vnd.ms-excel, on Windows) something else.
    if not kind.startswith("text/") and not _is_text(content):
        wanted = "only text files and images can be sent; paste the text of other files"
        raise bad_value(where, wanted, "unsupported_value")
    text = content.decode("utf-8-sig", "replace")
    return {"type": "text", "text": f"[File {str(file.get('filename') or 'file')[:200]}]\n{text}"}


def image_type(content: bytes) -> str:
    """The type of image that bytes begin like; empty where they are none that models take."""
    known = (kind for kind, begin in FIRST_BYTES.items() if begin.match(content))
    return next(known, "")


def _to_plain_url(where: str, url: str) -> str:
    """A data: URL as the next reader takes it: its type right, its base64 in the common form."""
    said, content = parse_data_url(where, url)
    kind = image_type(content) or said
    if kind not in IMAGE_TYPES:
        raise bad_value(where, f"supported types are {', '.join(IMAGE_TYPES)}", "unsupported_value")
    begin, size = f"data:{kind};base64,", -(-len(content) // 3) * 4
    if url.startswith(begin) and len(url) == len(begin) + size and not URL_SAFE.search(url):
        return url  # nearly always, and a copy is many megabytes
    return f"{begin}{base64.b64encode(content).decode()}"


def parse_data_url(where: str, url: str) -> tuple[str, bytes]:
    """The type that a base64 data: URL names, empty where it names none, and its bytes: broken into
    lines, unpadded or url-safe as writers have it. Raises InvalidRequest."""
    head = DATA_URL.match(url, 0, LONGEST_HEAD)
    if head is None or not head[3]:
        raise bad_value(where, "expected data:<type>;base64,<data>", "invalid_base64")
    data = "".join(url[head.end() :].split()).rstrip("=")
    data = data.replace("-", "+").replace("_", "/")
    try:
        content = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except ValueError:
        raise bad_value(where, "the data is not valid base64", "invalid_base64") from None
    if not 0 < len(content) <= IMAGE_BYTES:
        limit = IMAGE_BYTES // 1_048_576
        raise bad_value(where, f"expected 1 byte to {limit} MB", "invalid_size")
    return (head[1] or "").lower(), content


def _is_text(content: bytes) -> bool:
    """Whether bytes look like text: UTF-8 without a zero byte, and no PDF."""
    try:
        text = content.decode()
    except ValueError:
        return False
    return "\0" not in text and not text.startswith("%PDF")
