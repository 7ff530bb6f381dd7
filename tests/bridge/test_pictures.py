"""What an image model is asked to draw, and the link to what it drew."""

from typing import Any

import pytest

from bridge.pictures import show_pictures, with_picture
from chat_request import Message
from errors import InvalidRequest
from events import Done, Picture, Silence, Text

URL = "https://r2.example/f/1/cat@1024x1024.jpeg"
LINK = f"![image]({URL})"


def part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_a_link_follows_each_picture() -> None:
    picture = Picture("https://r2.example/a(1).png")
    assert list(show_pictures(iter([Silence(), picture, Done()]))) == [
        Silence(),
        picture,
        Text("![image](https://r2.example/a%281%29.png)"),
        Done(),
    ]


def test_the_last_picture_goes_with_words_that_bring_none() -> None:
    messages = [
        Message("user", "a cat"),
        Message("assistant", f"![old](https://r2.example/old.png) and {LINK}"),
        Message("user", "make it red"),
    ]
    assert with_picture(messages) == [
        *messages[:2],
        Message("user", [text("make it red"), part(URL)]),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", "a cat")],
        [Message("user", f"What is {LINK}?"), Message("assistant", "A cat."), Message("user", "b")],
        [Message("assistant", LINK), Message("user", [text("like this"), part("https://a.b/c")])],
        [Message("assistant", "![a](file:///etc/passwd)"), Message("user", "make it red")],
        [Message("assistant", "[a](https://a.b/c)"), Message("user", "make it red")],
    ],
    ids=["the first words", "a caller's link", "images of its own", "no address", "no picture"],
)
def test_otherwise_nothing_is_added(messages: list[Message]) -> None:
    assert with_picture(messages) == messages


def test_what_follows_the_last_user_message_is_not_asked() -> None:
    messages = [Message("user", "a cat"), Message("assistant", "Well,")]
    assert with_picture(messages) == messages[:1]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], None),
        ([Message("system", "You draw.")], None),
        ([Message("user", " \n", where="input[0].content")], "input[0].content"),
        ([Message("user", [part("https://a.b/c")], where="messages.0.content")],
         "messages.0.content"),
    ],
    ids=["nothing", "no user", "blank", "an image alone"],
)  # fmt: skip
def test_nothing_to_draw_is_refused(messages: list[Message], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        with_picture(messages)
    assert (wrong.value.status, wrong.value.param) == (400, param)


def test_looking_for_a_picture_takes_time_in_step_with_the_text() -> None:
    """Half a million beginnings of links, none of which is one: quadratic would take hours."""
    messages = [Message("assistant", "![a](https://" * 500_000), Message("user", "red")]
    assert with_picture(messages) == messages
