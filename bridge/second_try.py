"""The one second try: a model that did not do what the request demands is told so once.

Knows nothing of HTTP or of Flowith.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from chat_request import Prompt
from errors import ThoughtsOnly, Unmet
from events import Event, PromptSize, Reasoning, Silence, Working

Ask = Callable[[Prompt, bool], Iterator[Event]]
_AT_ONCE = (Silence, Working, PromptSize)  # what a caller may hear before there is an answer
_NO_ANSWER = (*_AT_ONCE, Reasoning)


def ask_twice(ask: Ask, prompt: Prompt, *, hold: bool) -> Iterator[Event]:
    """The events of the answer to `prompt`; of a second one where the first is `Unmet` or was but
    thought, and nothing of it has left for the caller. Thoughts are not the answer: more of them
    may follow.

    `ask` is given the prompt and whether it is the last try. With `hold`, where the caller gets the
    answer in one piece, the first answer is kept until it is whole. Raises Unmet, ThoughtsOnly.
    """
    left, sized = False, False
    held: list[Event] = []
    events = ask(prompt, False)
    try:
        for event in events:
            sized = sized or isinstance(event, PromptSize)
            if hold and not isinstance(event, _AT_ONCE):
                held.append(event)
                continue
            left = left or not isinstance(event, _NO_ANSWER)
            yield event
            if left:
                yield from events  # with nothing to do for each word
    except (Unmet, ThoughtsOnly) as wrong:
        if left:
            raise
        if isinstance(wrong, Unmet):
            prompt = _corrected(prompt, wrong)
    else:
        yield from held
        return
    for event in ask(prompt, True):
        if not (sized and isinstance(event, PromptSize)):
            yield event


def _corrected(prompt: Prompt, unmet: Unmet) -> Prompt:
    """The prompt that tells the model what was wrong with its answer."""
    text = (
        f"That answer could not be used: {unmet.message} Write the whole answer again, in the "
        "form that the instructions ask for, and do not mention this correction."
    )
    more = [
        {"role": "assistant", "content": unmet.said or "(no answer)"},
        {"role": "user", "content": f"{text}\n{unmet.form}".rstrip()},
    ]
    return replace(prompt, messages=[*prompt.messages, *more])
