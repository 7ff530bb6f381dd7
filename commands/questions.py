"""The questions of a sample: always the same words, what each call sends, and what all may cost.

Knows nothing of what comes back.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from chat_request import Content, Drawing, Prompt
from commands.probe import Probe
from flowith.dialects import DIALECTS
from flowith.image_dialects import image_dialects
from settings import Api, Model

SILENCE = 90.0  # seconds without a byte; a model that thinks was seen to need 83
PICTURE_TIME = 300.0  # seconds for a picture, as Flowith's own programs wait
UNKNOWN_MODEL = "no-such-model"
PICTURE = "https://upload.wikimedia.org/wikipedia/commons/4/47/PNG_transparency_demonstration_1.png"
PICTURE_MODEL = Model("picture", ("gemini-3.1-flash-image",), kind="image", sizes=("1k",))
PICTURE_PRICE = "30,000 to 100,000 credits"  # for one, as it was published in 2026
PICTURE_WORDS = "A red apple on a white table."
PICTURE_APIS: tuple[Api, ...] = ("web", "llm")  # one for each kind of account
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get today's weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def _user(content: Content, system: str = "") -> list[dict[str, Any]]:
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": content}]


@dataclass(frozen=True, slots=True)
class Question:
    """One of the calls of a sample: always the same words. `more` is added to the payload as it
    is, whether that API is known to take it or not; `refused`: Flowith should say no."""

    name: str
    messages: list[dict[str, Any]]
    thinking: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    other_form: bool = False
    refused: bool = False


QUESTIONS = (
    Question("plain", _user("Say OK.")),
    Question(
        "thinking",
        _user("Which number is larger, 9.9 or 9.11? Answer with the number alone."),
        thinking=True,
    ),
    Question("not streamed", _user("Say OK."), more={"stream": False}),
    Question("unknown model", _user("Say OK."), model=UNKNOWN_MODEL, refused=True),
    Question("wrong token form", _user("Say OK."), other_form=True, refused=True),
    Question("system message", _user("Which colour?", "Answer with the word blue, nothing else.")),
    Question(
        "image",
        _user(
            [
                {"type": "text", "text": "What is on this picture? One word."},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ]
        ),
    ),
    Question(
        "tool", _user("What is the weather in Oslo today? Use the tool."), more={"tools": [TOOL]}
    ),
    Question("max_tokens", _user("Count from 1 to 30."), more={"max_tokens": 5}),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it goes out; its body holds fixed words of ours."""

    name: str
    probe: Probe
    url: str
    bearer: bool
    payload: dict[str, Any]
    refused: bool
    patience: float = SILENCE


def to_calls(probes: Collection[Probe], pictures: bool) -> list[Call]:
    """All calls of a sample. Where an API answers, each question; where it does not, one, which
    shows how it says no."""
    calls: list[Call] = []
    ways = dict.fromkeys((probe.account, probe.api) for probe in probes)
    for account, api in ways:
        here = [probe for probe in probes if (probe.account, probe.api) == (account, api)]
        sent = [probe for probe in here if probe.said.sent]
        alive = [probe for probe in sent if probe.said.alive]
        if alive:
            calls += [_to_call(alive[0], question) for question in QUESTIONS]
            calls += _to_picture_calls(alive[0]) if pictures else []
        elif sent:
            calls.append(replace(_to_call(sent[0], QUESTIONS[0]), refused=True))
    return calls


def _to_call(probe: Probe, question: Question) -> Call:
    # its system role is part of the question, and the operator's knowledge bases are nobody's
    model = replace(probe.model, system_role=True, kb_list=())
    dialect = replace(DIALECTS[probe.api], takes_system=True)
    prompt = Prompt(question.messages, thinking=question.thinking)
    upstream = (question.model,) if question.model else model.upstream[:1]
    payload = dialect.payload(prompt, model, upstream) | question.more
    bearer = probe.bearer != question.other_form
    return Call(question.name, probe, probe.url, bearer, payload, question.refused)


def _to_picture_calls(probe: Probe) -> Iterator[Call]:
    """One small picture, the way that the API's kind of account has for it."""
    if probe.api in PICTURE_APIS:
        dialect = image_dialects(probe.url)[probe.api]
        prompt = Prompt(_user(PICTURE_WORDS), drawing=Drawing((1024, 1024)))
        payload = dialect.payload(prompt, PICTURE_MODEL, PICTURE_MODEL.upstream)
        yield Call("picture", probe, dialect.url, probe.bearer, payload, False, PICTURE_TIME)


def price(calls: Collection[Call]) -> str:
    """How many calls, and what they may cost, in words."""
    pictures = sum(call.name == "picture" for call in calls)
    refused = sum(call.refused for call in calls)
    answers = len(calls) - pictures - refused
    text = f"Making the sample: {len(calls)} calls; {answers} of them are billed by Flowith as a"
    text += f" short answer each, {refused} should be refused and cost nothing"
    if pictures:
        text += f", {pictures} make a picture, each for {PICTURE_PRICE} by what was last published"
    return f"{text}."
