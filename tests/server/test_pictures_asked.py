"""Pictures asked for at this service in this process, with Flowith's stand-in behind it."""

import base64
import io
import json
from typing import Any

import pytest
from conftest import KEY, TOKEN, WEB_TOKEN, MakeApi, chunks, deltas
from fake_flowith import CUT, DROP, FakeFlowith, Raw, Reply, Seen, error, json_reply, web
from fake_images import drawn, key_reply, line, lines

MAKE, EDIT, CHAT = "/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"
WEB_PATH, KEY_PATH = "/image_gen", "/external/use/image/generate"
APIS = pytest.mark.parametrize(
    ("token", "path"), [(WEB_TOKEN, WEB_PATH), (TOKEN, KEY_PATH)], ids=["login", "key"]
)
PNG = drawn("a cat")
SAID = [{"role": "user", "content": "a cat"}]


def ndjson(*steps: Any) -> Reply:
    return Reply(headers={"Content-Type": "application/x-ndjson"}, steps=steps)


def made(fake: FakeFlowith) -> list[Seen]:
    """The calls that make pictures."""
    return [seen for seen in fake.requests if seen.path in (WEB_PATH, KEY_PATH)]


@APIS
def test_a_picture_is_made_and_its_file_comes_back(
    api: MakeApi, fake: FakeFlowith, token: str, path: str
) -> None:
    answer = api(FLOWITH_AUTH_TOKEN=token).send({"prompt": "a cat", "size": "1024x1024"}, MAKE)
    assert answer.status_code == 200
    assert answer.json["output_format"] == "png"
    assert [base64.b64decode(one["b64_json"]) for one in answer.json["data"]] == [PNG]
    asked, file = fake.requests
    assert asked.path == path
    assert asked.json["aspect_ratio"] == "1:1"
    assert (file.method, file.headers.get("authorization")) == ("GET", None)


@APIS
def test_an_address_is_handed_on_and_not_fetched(
    api: MakeApi, fake: FakeFlowith, token: str, path: str
) -> None:
    answer = api(FLOWITH_AUTH_TOKEN=token).send({"prompt": "a cat", "model": "dall-e-3"}, MAKE)
    (one,) = answer.json["data"]
    assert one.keys() == {"url"}
    assert one["url"].startswith(f"{fake.url}/f/")
    assert [seen.path for seen in fake.requests] == [path]


def test_an_edit_stores_its_images_and_sends_their_addresses(
    api: MakeApi, fake: FakeFlowith
) -> None:
    given = "data:image/png;base64," + base64.b64encode(PNG).decode()
    answer = api().send({"prompt": "red", "images": [{"image_url": given}]}, EDIT)
    assert answer.status_code == 200
    (stored,) = fake.files
    assert fake.files[stored] == PNG
    (asked,) = made(fake)
    parts = asked.json["messages"][-1]["content"]
    assert parts[1]["image_url"]["url"] == stored


def test_an_edit_with_a_key_that_cannot_store_says_what_to_send(
    api: MakeApi, fake: FakeFlowith
) -> None:
    fake.reply(error(401), path="/file/store")
    given = "data:image/png;base64," + base64.b64encode(PNG).decode()
    answer = api(FLOWITH_AUTH_TOKEN=TOKEN).send({"prompt": "red", "image": given}, EDIT)
    assert answer.status_code == 400
    assert "https: URL" in answer.json["error"]["message"]
    assert made(fake) == []


@pytest.mark.parametrize(("row", "api_row"), [("web", WEB_PATH), ("knowledge", KEY_PATH)])
def test_a_row_may_say_which_api_makes_its_pictures(
    api: MakeApi, fake: FakeFlowith, tmp_path: Any, row: str, api_row: str
) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"p": {"model": "m", "kind": "image", "api": row}}))
    api(MODELS_FILE=str(file), FLOWITH_AUTH_TOKEN=f"{TOKEN},{WEB_TOKEN}").send(
        {"prompt": "x"}, MAKE
    )
    assert [seen.path for seen in made(fake)] == [api_row]


def test_flowith_api_decides_as_it_does_for_chat(api: MakeApi, fake: FakeFlowith) -> None:
    api(FLOWITH_API="llm").send({"prompt": "x"}, MAKE)
    api(FLOWITH_API="web", FLOWITH_AUTH_TOKEN=TOKEN).send({"prompt": "x"}, MAKE)
    assert [seen.path for seen in made(fake)] == [KEY_PATH, WEB_PATH]


def test_several_pictures_are_several_calls(api: MakeApi, fake: FakeFlowith) -> None:
    answer = api().send({"prompt": "a cat", "n": 4}, MAKE)
    assert len(answer.json["data"]) == 4
    assert len(made(fake)) == 4


def test_of_four_pictures_three_come_back_where_one_fails(api: MakeApi, fake: FakeFlowith) -> None:
    for stream in (False, True):
        fake.reply(ndjson(line({"error": "provider_error"})), fake.demo, path=WEB_PATH)
        answer = api().send({"prompt": "a cat", "n": 4, "stream": stream}, MAKE)
        assert answer.status_code == 200
        assert answer.get_data().count(b'"b64_json"') == 3


def test_where_all_of_them_fail_the_error_is_told(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(ndjson(line({"error": "flagged"})))
    answer = api().send({"prompt": "a cat", "n": 3}, MAKE)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "content_policy_violation")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (ndjson(*lines()), "empty_response"),
        (ndjson(lines("x")[0], CUT), "upstream_cut"),
        (ndjson(lines("x")[0], DROP), "upstream_cut"),
        (ndjson(line({"error": "provider_error"})), "upstream_error"),
        (ndjson(line({"error": {"code": 401}})), "upstream_error"),
        (ndjson(line({"error": "insufficient credits"})), "insufficient_quota"),
        (ndjson(*lines("file:///etc/passwd")), "upstream_error"),
        (ndjson(*lines("https://127.0.0.1:1/a.png")), "upstream_error"),
        (Raw([DROP]), "upstream_cut"),
        (error(504), "timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_may_have_cost_credits_is_never_repeated(
    api: MakeApi, fake: FakeFlowith, reply: Any, code: str, stream: bool
) -> None:
    fake.reply(reply, fake.demo, path=WEB_PATH)
    tokens = ",".join(f"{WEB_TOKEN}{i}" for i in range(3))
    asked = {"prompt": "a cat", "stream": stream}
    answer = api(FLOWITH_AUTH_TOKEN=tokens).send(asked, MAKE)
    assert answer.json["error"]["code"] == code
    assert len(made(fake)) == 1


def test_a_kept_connection_that_died_is_no_reason_to_pay_twice(
    api: MakeApi, fake: FakeFlowith
) -> None:
    ours = api()
    fake.reply(web("Hello"), path="/completion")
    ours.post()  # leaves a connection to be used again
    fake.reply(Raw([DROP]), fake.demo, path=WEB_PATH)
    assert ours.send({"prompt": "a cat"}, MAKE).status_code == 502
    assert len(made(fake)) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 429, 500, 503])
def test_what_was_refused_before_it_began_goes_to_the_next_account(
    api: MakeApi, fake: FakeFlowith, status: int
) -> None:
    refused = [error(status)] * (2 if status in (401, 403) else 1)  # both forms of the token
    fake.reply(*refused, fake.demo, path=WEB_PATH)
    ours = api(FLOWITH_AUTH_TOKEN=f"{WEB_TOKEN}1,{WEB_TOKEN}2")
    assert ours.send({"prompt": "a cat"}, MAKE).status_code == 200
    assert len({s.headers["authorization"].removeprefix("Bearer ") for s in made(fake)}) >= 1


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-image-1-mini", "gpt-image-2"),
        ("gpt-image-2.6-sunburst", "gpt-image-2"),
        ("chatgpt-image-latest", "gpt-image-2"),
        ("dall-e-2", "gemini-3.1-flash-image"),
    ],
)
def test_names_of_openai_s_that_no_row_bears_are_answered(
    api: MakeApi, fake: FakeFlowith, name: str, model: str
) -> None:
    """Open WebUI asks for dall-e-2 where no model is chosen; others change with every version."""
    assert api().send({"prompt": "x", "model": name}, MAKE).status_code == 200
    assert [seen.json["model"] for seen in made(fake)] == [model]


def test_a_model_that_is_gone_leads_to_the_row_s_fallback(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(error(404), fake.demo, path=WEB_PATH)
    assert api().send({"prompt": "x", "model": "gpt-image-1"}, MAKE).status_code == 200
    assert [seen.json["model"] for seen in made(fake)] == ["gpt-image-2", "gpt-image-1.5"]


@APIS
def test_an_address_that_is_gone_names_what_to_try(
    api: MakeApi, fake: FakeFlowith, token: str, path: str
) -> None:
    fake.reply(error(404, html=True))
    answer = api(FLOWITH_AUTH_TOKEN=token).send({"prompt": "x", "model": "seedream-v4.5"}, MAKE)
    assert answer.status_code == 424
    assert "FLOWITH_API_URL" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [("/v1/images/variations", 404, "/v1/images/edits"), ("/v1/images", 404, "/v1/images/edits"),
     ("/images/generations", 200, "b64_json"), ("/v1/v1/images/generations/", 200, "b64_json")],
)  # fmt: skip
def test_paths_beside_the_right_ones(api: MakeApi, path: str, status: int, words: str) -> None:
    answer = api().send({"prompt": "a cat"}, path)
    assert answer.status_code == status
    assert words in answer.text


def test_pictures_need_a_key(api: MakeApi, fake: FakeFlowith) -> None:
    client = api().client
    for path in (MAKE, EDIT):
        answer: Any = client.post(path, json={"prompt": "a cat"})
        assert answer.status_code == 401
    assert fake.requests == []


@pytest.mark.parametrize(
    ("token", "ignored"), [(WEB_TOKEN, ["style"]), (TOKEN, ["quality", "style"])]
)
def test_parameters_without_effect_are_named(api: MakeApi, token: str, ignored: list[str]) -> None:
    asked = {"prompt": "a cat", "quality": "high", "style": "vivid"}
    answer = api(FLOWITH_AUTH_TOKEN=token).send(asked, MAKE)
    assert sorted(answer.headers["X-Ignored-Params"].split(", ")) == ignored


def test_a_form_is_an_edit_too(api: MakeApi, fake: FakeFlowith) -> None:
    fields = {"prompt": "make it red", "model": "gpt-image-1", "image": (io.BytesIO(PNG), "a.png")}
    headers = {"Authorization": f"Bearer {KEY}"}
    answer: Any = api().client.post(EDIT, data=fields, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json["usage"]["input_tokens_details"]["image_tokens"] == 765
    assert list(fake.files.values()) == [PNG]
    assert made(fake)[0].json["model"] == "gpt-image-2"


# -- in a chat --------------------------------------------------------------------------------


@APIS
def test_a_chat_shows_a_link_and_has_the_picture_as_a_field(
    api: MakeApi, fake: FakeFlowith, token: str, path: str
) -> None:
    answer = api(FLOWITH_AUTH_TOKEN=token).post(model="gemini-3-pro-image", messages=SAID)
    choice = answer.json["choices"][0]
    url = choice["message"]["images"][0]["image_url"]["url"]
    assert url.startswith(f"{fake.url}/f/")
    assert choice["message"]["content"] == f"![image]({url})"
    assert choice["finish_reason"] == "stop"
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] > usage["completion_tokens"] == 0  # no model wrote the link
    assert [seen.path for seen in fake.requests] == [path]


@pytest.mark.parametrize(("modalities", "fields"), [(["text", "image"], 1), (["text"], 0)])
def test_a_stream_has_the_field_only_where_it_is_asked_for(
    api: MakeApi, modalities: list[str], fields: int
) -> None:
    asked = {"model": "gpt-image-2", "messages": SAID, "stream": True, "modalities": modalities}
    body = api().send(asked).get_data()
    parts = [one["choices"][0]["delta"] for one in chunks(body) if one != "[DONE]"]
    assert len([part for part in parts if "images" in part]) == fields
    assert deltas(body).startswith("![image](")
    assert chunks(body)[-1] == "[DONE]"


@APIS
def test_make_it_red_means_the_last_picture(
    api: MakeApi, fake: FakeFlowith, token: str, path: str
) -> None:
    ours = api(FLOWITH_AUTH_TOKEN=token)
    first = ours.post(model="gpt-image-2", messages=SAID).json["choices"][0]["message"]["content"]
    more = [{"role": "assistant", "content": first}, {"role": "user", "content": "make it red"}]
    assert ours.post(model="gpt-image-2", messages=[*SAID, *more]).status_code == 200
    sent = made(fake)[-1].json
    url = first.removeprefix("![image](").removesuffix(")")
    if path == KEY_PATH:
        assert (sent["prompt"], sent["image_urls"]) == ("make it red", [url])
    else:
        assert len(sent["messages"]) == 3, "the history is lost"
        assert sent["messages"][-1]["content"][1]["image_url"]["url"] == url


def test_an_address_in_a_link_cannot_end_it(api: MakeApi, fake: FakeFlowith) -> None:
    hostile = 'https://r2.example/a)![x](https://evil.example/ "y")<script>'
    fake.reply(ndjson(*lines(hostile)))
    content = (
        api().post(model="gpt-image-2", messages=SAID).json["choices"][0]["message"]["content"]
    )
    assert content.count("(") == content.count(")") == 1
    assert not set(' "<>') & set(content)


def test_what_has_no_effect_on_a_picture_is_named(api: MakeApi) -> None:
    tool = {"type": "function", "function": {"name": "a"}}
    answer = api().post(
        model="gpt-image-2", messages=SAID, tools=[tool], stop=["x"], max_tokens=9, temperature=1,
        response_format={"type": "json_object"},
    )  # fmt: skip
    assert answer.json["choices"][0]["message"]["content"].startswith("![image](")
    assert set(answer.headers["X-Ignored-Params"].split(", ")) == {
        "tools", "stop", "max_tokens", "temperature", "response_format",
    }  # fmt: skip


def test_a_chat_without_words_to_draw_is_refused(api: MakeApi, fake: FakeFlowith) -> None:
    answer = api().post(model="gpt-image-2", messages=[{"role": "user", "content": " "}])
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "messages[0].content")
    assert fake.requests == []


def test_legacy_completions_show_the_link(api: MakeApi) -> None:
    answer = api().send({"model": "gpt-image-2", "prompt": "a cat"}, "/v1/completions")
    assert answer.json["choices"][0]["text"].startswith("![image](")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "a cat"}),
        ("/v1/messages", {"messages": SAID, "max_tokens": 99}),
    ],
)
def test_the_other_apis_show_the_link_as_text(
    api: MakeApi, path: str, body: dict[str, Any], stream: bool
) -> None:
    answer = api().send({"model": "gpt-image-2", **body, "stream": stream}, path)
    assert answer.status_code == 200
    assert "![image](http://127.0.0.1" in answer.get_data().decode()


def test_pictures_are_counted(api: MakeApi) -> None:
    ours = api()
    answer = ours.send({"prompt": "a cat", "model": "gpt-image-2"}, MAKE)
    answer.get_data()
    answer.close()
    counted = ours.get("/metrics").text
    labels = 'ending="done",format="image_generation",model="gpt-image-2",status="200"'
    assert f"requests_total{{{labels}}} 1.0" in counted
    assert 'api="web_images"' in counted


def test_nothing_of_a_picture_reaches_the_log(api: MakeApi, fake: FakeFlowith, capfd: Any) -> None:
    fake.reply(json_reply(key_reply("https://127.0.0.1/secret.png")), path=KEY_PATH)
    ours = api(FLOWITH_AUTH_TOKEN=TOKEN)
    answer = ours.send({"prompt": "a secret cat"}, MAKE)
    assert answer.status_code == 502
    answer.close()
    said = capfd.readouterr().err
    assert "failed=upstream_error" in said
    assert "secret" not in said
    assert "secret" not in answer.text
