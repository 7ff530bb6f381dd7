"""What one try sends: the account's token in one of its forms, and the prompt in the words of the
API it goes to.

Knows nothing of retries, or of what comes back but its status.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import requests

import errors
from chat_request import Prompt
from flowith.accounts import Account
from flowith.connection import Exchange
from flowith.dialects import Dialect
from flowith.transport import Transport, read_refusal
from flowith.uploads import with_addresses
from settings import Model

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# The key itself may well be good, so it must not rest for this. Upon "could not process image"
# Claude Code leaves the image out and goes on.
NO_STORE = (
    "Flowith could not process image data: its file store takes none from this kind of key. Send an"
    " https: URL instead."
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent, and how.

    `upstream` are the model ids still to be tried; `bearer` is the form of the token; `renew` says
    that the token was refused and has to be renewed first; `label` names the call.
    """

    account: Account
    dialect: Dialect
    prompt: Prompt
    model: Model
    upstream: tuple[str, ...]
    bearer: bool
    renew: bool
    label: str

    def send(self, transport: Transport, exchange: Exchange) -> requests.Response:
        """Send it; the response has a good status and its body is unread. Raises UpstreamError."""
        account = self.account
        if account.login:
            account.token = account.login.renew(account.token if self.renew else "")
        headers = self.dialect.headers_for(account.token, self.bearer)
        headers["X-Request-ID"] = self.label
        body = self._body(headers, transport, exchange)
        if self.model.kind == "image":
            exchange.fresh = True  # on a kept connection that dies a POST is sent again
        response = transport.post(self.dialect.url, headers, body, exchange)
        if response.status_code != 200:
            said = read_refusal(exchange)
            raise self.dialect.to_refusal(response.status_code, said, response.headers)
        account.bearer[self.dialect.name] = self.bearer
        return response

    def _body(self, headers: Mapping[str, str], transport: Transport, exchange: Exchange) -> bytes:
        """The payload, its images stored at Flowith first."""
        prompt, url = self.prompt, self.dialect.url
        if any(isinstance(message["content"], list) for message in prompt.messages):
            try:
                messages = with_addresses(prompt.messages, url, headers, transport, exchange)
            except errors.UpstreamAuth:
                if self.dialect.name.startswith("web"):
                    raise
                raise errors.UpstreamRejected(NO_STORE, param="messages") from None
            prompt = replace(prompt, messages=messages)
        return to_json(self.dialect.payload(prompt, self.model, self.upstream))


def to_json(payload: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON; half a surrogate pair becomes U+FFFD, since UTF-8 cannot hold it."""
    try:
        return orjson.dumps(payload)
    except TypeError:  # what UTF-8 or 64 bits cannot hold, and a thousand levels
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return LONE_SURROGATE.sub("\ufffd", text).encode()
