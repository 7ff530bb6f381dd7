"""The one second try: a model that did not do what the request demands is told so once.

Knows nothing of HTTP or of Flowith.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from chat_request import Prompt
from errors import Unmet
from events import Event, PromptSize, Silence, Working

Ask = Callable[[Prompt, bool], Iterator[Event]]


def ask_twice(ask: Ask, prompt: Prompt) -> Iterator[Event]:
    """The events of the answer to `prompt`; of a second one where the first is `Unmet` and nothing
    of it has gone out.

    `ask` is given the prompt and whether it is the last try. Raises Unmet.
    """
    heard = False
    try:
        for event in ask(prompt, False):
            heard = heard or not isinstance(event, (Silence, Working, PromptSize))
            yield event
        return
    except Unmet as unmet:
        if heard:
            raise
        prompt = corrected(prompt, unmet)
    yield from ask(prompt, True)


def corrected(prompt: Prompt, unmet: Unmet) -> Prompt:
    """The prompt that tells the model what was wrong with its answer."""
    more = [
        {"role": "assistant", "content": unmet.said or "(no answer)"},
        {"role": "user", "content": correction(unmet)},
    ]
    return replace(prompt, messages=[*prompt.messages, *more])


def correction(unmet: Unmet) -> str:
    """The user message of the one retry, to follow what the model had said."""
    return (
        f"That answer could not be used: {unmet.message} Write the whole answer again, in the "
        "form that the instructions ask for, and do not mention this correction."
    )
