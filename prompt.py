"""What goes up: a conversation and the few options that some of Flowith's APIs know.

Made by `translate`, sent by `flowith`; knows nothing of OpenAI's request or Flowith's payloads.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prompt:
    """One call to a model.

    `messages` are `{"role", "content"}` with the roles system, user and assistant; content is text
    or a list of `text` and `image_url` parts. With `tools` (native tools) the assistant's
    `tool_calls` and the role tool appear as well. `options` holds sampling parameters by name.
    """

    messages: list[dict[str, Any]]
    thinking: bool = True
    online: bool = False
    options: dict[str, Any] | None = None
    tools: dict[str, Any] | None = None
