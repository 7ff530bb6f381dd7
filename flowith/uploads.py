"""Images that came inside a request: stored at Flowith once, then sent by their address.

Content-addressed, so that a long chat uploads each image once per process. No address that a
caller sends is ever fetched.
"""

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from urllib3.filepost import encode_multipart_formdata

from errors import UpstreamError
from flowith.connection import Exchange
from flowith.file_address import origin_of
from flowith.line_decoder import to_object
from flowith.refusal import to_refusal
from flowith.transport import Transport, read_refusal, read_whole

LONGEST = 65_536  # bytes of the store's answer
KEPT = 2048  # addresses remembered
_known: OrderedDict[str, str] = OrderedDict()
_lock = threading.Lock()


def with_addresses(
    messages: list[dict[str, Any]],
    url: str,
    headers: Mapping[str, str],
    transport: Transport,
    exchange: Exchange,
) -> list[dict[str, Any]]:
    """The messages with each `data:` image replaced by the address of its stored copy.

    `url` is the API's own: the file store stands beside it. Raises UpstreamError.
    """
    store = f"{origin_of(url)}/file/store"

    def stored(part: dict[str, Any]) -> dict[str, Any]:
        image = part.get("image_url")
        if not image or image["url"][:5].lower() != "data:":
            return part
        address = _address(image["url"], store, headers, transport, exchange)
        return {**part, "image_url": {**image, "url": address}}

    return [
        {**m, "content": [stored(part) for part in m["content"]]}
        if isinstance(m["content"], list)
        else m
        for m in messages
    ]


def _address(
    image: str, store: str, headers: Mapping[str, str], transport: Transport, exchange: Exchange
) -> str:
    head, _, data = image.partition(",")
    content = base64.b64decode(data)
    name = hashlib.sha256(content).hexdigest()
    key = f"{store} {headers['Authorization']} {name}"
    with _lock:
        if key in _known:
            _known.move_to_end(key)
            return _known[key]
    kind = head[5:].split(";")[0].lower()
    file = (f"{name[:32]}.{kind.removeprefix('image/')}", content, kind)
    body, content_type = encode_multipart_formdata({"file": file})
    response = transport.post(store, {**headers, "Content-Type": content_type}, body, exchange)
    if response.status_code not in (200, 201):
        said = read_refusal(exchange)
        raise to_refusal(response.status_code, said, response.headers)
    address = to_object(read_whole(exchange, store, LONGEST)).get("url")
    if not isinstance(address, str) or not address.startswith("https://"):
        raise UpstreamError("Flowith's file store did not say where it put the image.")
    with _lock:
        _known[key] = address
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return address
