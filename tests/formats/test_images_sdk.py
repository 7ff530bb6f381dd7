"""OpenAI's own Python package makes and changes pictures, against the service as it runs."""

import base64
import warnings
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from conftest import KEY, WEB_TOKEN, Server
from fake_flowith import FakeFlowith
from fake_images import drawn
from openai import OpenAI

PNG = drawn("a red house")


@pytest.fixture(scope="module")
def client(flowith: FakeFlowith, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    log = tmp_path_factory.mktemp("images") / "service.log"
    server = Server(log, {"FLOWITH_API_URL": flowith.url, "FLOWITH_AUTH_TOKEN": WEB_TOKEN})
    with OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made
    server.stop()


def files(answer: Any) -> list[bytes]:
    assert answer.data is not None
    assert all(one.url is None for one in answer.data)
    return [base64.b64decode(one.b64_json) for one in answer.data]


def test_pictures_are_made(client: OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-1", prompt="a red house", n=2, size="auto")
    assert files(answer) == [PNG, PNG]
    assert answer.output_format == "png"


def test_an_address_comes_where_openai_gives_one(client: OpenAI) -> None:
    answer = client.images.generate(model="dall-e-3", prompt="a red house", quality="hd")
    assert answer.data is not None
    assert answer.data[0].b64_json is None
    assert str(answer.data[0].url).endswith(".png")


def test_a_picture_is_changed(client: OpenAI, flowith: FakeFlowith) -> None:
    answer = client.images.edit(
        model="gpt-image-1", image=[("a.png", PNG), ("b.png", PNG)], prompt="make it blue"
    )
    assert files(answer) == [drawn("make it blue", count=2)]
    assert list(flowith.files.values()) == [PNG]


def test_a_picture_comes_as_a_stream(client: OpenAI) -> None:
    made = list(client.images.generate(model="gpt-image-1", prompt="a red house", stream=True))
    assert [event.type for event in made] == ["image_generation.completed"]
    assert base64.b64decode(made[0].b64_json) == PNG
    edits = client.images.edit(model="gpt-image-1", image=PNG, prompt="blue", stream=True)
    assert [event.type for event in edits] == ["image_edit.completed"]


@pytest.mark.parametrize(
    ("prompt", "kind", "code"),
    [
        ("#error 400", openai.BadRequestError, None),
        ("#error 500", openai.InternalServerError, "upstream_error"),
        ("#empty", openai.InternalServerError, "empty_response"),
        ("#cut", openai.InternalServerError, "upstream_cut"),
    ],
)
def test_a_failure_is_an_error_of_the_right_class(
    client: OpenAI, prompt: str, kind: type[openai.APIStatusError], code: str | None
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(model="gpt-image-1", prompt=prompt)
    assert caught.value.code == code


def test_variations_name_what_there_is(client: OpenAI) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(openai.NotFoundError, match="/v1/images/edits"):
            client.images.create_variation(image=PNG)
