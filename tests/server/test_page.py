"""The page at `/`: what it says (in this process), and what it does (in a real browser).

The service and the browser are real, only Flowith is the stand-in.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from conftest import KEY, ROOT, MakeApi, Serve, Server
from fake_flowith import CUT, HANG, FakeFlowith, Reply, Wait, error, llm, think, web
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",  # Chromium has none to offer to root, which CI often is
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP page.example 127.0.0.1",  # for a browser a host without HTTPS
]
HTML = {"Accept": "text/html,application/xhtml+xml"}
PHONE = ViewportSize(width=320, height=640)


# -- what it says, in this process -----------------------------------------------------------


def base_url(html: str) -> str:
    found = re.search(r'<pre id="base"[^>]*><code>(.*?)</code>', html)
    assert found
    return unescape(found[1])


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_programs_get_short_json(api: MakeApi, accept: str) -> None:
    answer: Any = api().client.get("/", headers={"Accept": accept})
    assert answer.json["status"] == "ready"
    assert len(answer.data) < 500
    assert answer.headers["Vary"] == "Accept"


def test_browsers_get_a_page_that_may_run_nothing_but_its_own_files(api: MakeApi) -> None:
    client = api().client
    answer = client.get("/", headers=HTML)
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert dict(part.split(" ", 1) for part in policy) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self' https://huggingface.co https://*.hf.space",
    }
    assert "X-Frame-Options" not in answer.headers
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r'(src|href|action)="(https?:)?//', answer.text)
    for path in re.findall(r'(?:src|href)="(static/[^"]+)"', answer.text):
        with client.get(f"/{path}") as file:
            assert file.status_code == 200
            assert file.headers["X-Content-Type-Options"] == "nosniff"
    assert client.head("/", headers=HTML).status_code == 200


def test_the_parts_of_the_script_are_fetched_side_by_side(api: MakeApi) -> None:
    page = api().client.get("/", headers=HTML).text
    parts = {file.name for file in (ROOT / "server/static").glob("*.js")} - {"page.js"}
    assert set(re.findall(r'"modulepreload" href="static/(.+?)"', page)) == parts


def test_the_image_has_the_page_s_files() -> None:
    named = (ROOT / ".dockerignore").read_text().splitlines()
    assert "!server/" in named


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "http://localhost/v1"),
        ({"Host": "box:8099"}, "http://box:8099/v1"),
        ({"Host": "[::1]:8099"}, "http://[::1]:8099/v1"),
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "me-flow.hf.space"},
            "https://me-flow.hf.space/v1",
        ),
        (
            {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example, b"},
            "https://a.example/v1",
        ),
        ({"X-Forwarded-Prefix": "/flow/"}, "http://localhost/flow/v1"),
        ({"X-Forwarded-Proto": "javascript"}, "http://localhost/v1"),
        ({"X-Forwarded-Host": 'x"><script>'}, "http://localhost/v1"),
        ({"X-Forwarded-Host": "user@evil.example"}, "http://localhost/v1"),
        ({"X-Forwarded-Prefix": "//evil.example"}, "http://localhost/v1"),
        ({"X-Forwarded-Prefix": '/"onload="x'}, "http://localhost/v1"),
    ],
)
def test_the_base_url_is_the_visitor_s(api: MakeApi, headers: dict[str, str], base: str) -> None:
    page = api().client.get("/", headers={**HTML, **headers}).text
    assert base_url(page) == base
    assert f'OpenAI(base_url="{base}"' in unescape(page)


def test_behind_a_prefix_the_page_finds_its_files_and_the_service(api: MakeApi) -> None:
    page = api().client.get("/", headers={**HTML, "X-Forwarded-Prefix": "/flow"}).text
    assert 'src="/flow/static/page.js"' in page
    assert 'data-root="/flow/"' in page


@pytest.mark.parametrize(
    ("environ", "state", "words"),
    [
        ({}, "Ready", "1 of 1 account usable"),
        ({"FLOWITH_AUTH_TOKEN": "a-token,another"}, "Ready", "2 of 2 accounts usable"),
        ({"FLOWITH_AUTH_TOKEN": ""}, "Not ready", "put FLOWITH_AUTH_TOKEN into .env"),
        ({"FLOWITH_AUTH_TOKEN": "demo"}, "Demo", "bundled stand-in, not from Flowith"),
        ({"API_KEY": "123456"}, "Ready", "The default API key 123456 is in use"),
    ],
)
def test_it_says_whether_the_service_is_ready(
    api: MakeApi, environ: dict[str, str], state: str, words: str
) -> None:
    page = api(**environ).client.get("/", headers=HTML).text
    assert f'<span class="state">{state}</span>' in page
    assert words in page


def test_it_says_that_accounts_rest(api: MakeApi, fake: FakeFlowith) -> None:
    fake.reply(error(401))
    ours = api(RETRY_ATTEMPTS="1")
    assert ours.post().status_code == 424
    page = ours.client.get("/", headers=HTML).text
    assert '<span class="state">Not ready</span>' in page
    assert "so they rest" in page


def test_it_says_that_the_service_is_closing_down(api: MakeApi) -> None:
    client = api().client
    client.application.extensions["drain"].worker = SimpleNamespace(alive=False)  # as gunicorn does
    page = client.get("/", headers=HTML).text
    assert '<span class="state">Closing down</span>' in page
    assert "new questions are turned away" in page


def test_only_the_default_key_is_ever_shown(api: MakeApi) -> None:
    assert "Bearer 123456" in unescape(api(API_KEY="123456").client.get("/", headers=HTML).text)
    page = api(API_KEY="my-own-secret").client.get("/", headers=HTML).text
    assert "my-own-secret" not in page
    assert 'value="YOUR_KEY"' not in page
    assert "Bearer YOUR_KEY" in unescape(page)


def test_the_models_stand_there_as_text(api: MakeApi, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    row = {"model": "x", "name": "Mine", "description": "<b>bold</b>", "context": 128000}
    file.write_text(json.dumps({"mine": {**row, "images": False}, "*": "*"}))
    page = api(MODELS_FILE=str(file)).client.get("/", headers=HTML).text
    assert "&lt;b&gt;bold" in page
    assert "128,000 tokens" in page
    assert "text only" in page
    assert "Every other name is passed on" in page
    assert '<option value="mine" selected>' in page
    assert '<option value="*"' not in page


# -- what it does, in a browser --------------------------------------------------------------


def a_picture(folder: Path) -> Path:
    """A photo as wide as a phone takes it."""
    path = folder / "photo.png"
    Image.new("RGB", (2400, 1200), "teal").save(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        why = f"there is no browser here ({', '.join(NAMES)}): apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)  # a browser is no dependency of the project; CI installs one, see above
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(flowith: FakeFlowith, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for all tests that do not make its account rest or stop it."""
    log = tmp_path_factory.mktemp("page") / "service.log"
    server = Server(log, {"FLOWITH_API_URL": flowith.url, "HEARTBEAT": "0.2"})
    yield server
    server.stop()


@pytest.fixture
def context(browser: Browser, flowith: FakeFlowith) -> Iterator[BrowserContext]:
    flowith.reset()
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(15_000)
    yield context
    context.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(context: BrowserContext, service: Server) -> Iterator[Open]:
    """`open_page(key="...")`: the page in a tab of its own; what a console shows fails the test,
    but for the line of a request that failed."""
    complaints: list[str] = []

    def open_(url: str = "", key: str = KEY) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda wrong: complaints.append(str(wrong)))
        page.on("console", lambda line: complaints.append(f"{line.type}: {line.text}"))
        page.goto(url or service.url)
        if key:
            page.get_by_label("Key", exact=True).fill(key)
        return page

    yield open_
    assert [line for line in complaints if "Failed to load resource" not in line] == []


def ask(page: Page, words: str) -> None:
    page.get_by_label("Message").fill(words)
    page.get_by_label("Message").press("Enter")


def test_an_answer_appears_piece_by_piece_and_stop_closes_the_call_to_flowith(
    open_page: Open, flowith: FakeFlowith
) -> None:
    flowith.reply(web("First ", 0.3, "second ", HANG))
    page = open_page()
    ask(page, "Go on")
    expect(page.locator(".answer .words")).to_have_text("First second")
    expect(page.get_by_role("status")).to_have_text("Answering …")
    [call] = flowith.requests
    assert call.hung_up_at is None
    page.get_by_role("button", name="Stop").click()
    assert call.wait_hung_up()
    expect(page.locator(".answer")).to_contain_text("Stopped.")
    expect(page.locator(".answer .words")).to_have_text("First second")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_stop_works_before_the_first_word_too(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web(HANG))
    page = open_page()
    ask(page, "Go on")
    [call] = flowith.wait_for(1)
    page.get_by_role("button", name="Stop").click()
    assert call.wait_hung_up()
    expect(page.get_by_label("Message")).to_have_value("Go on")


def test_leaving_the_page_closes_the_call_too(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("First ", HANG))
    page = open_page()
    ask(page, "Go on")
    expect(page.locator(".answer .words")).to_have_text("First")
    page.close()
    assert flowith.requests[0].wait_hung_up()


def test_reasoning_is_folded_and_tokens_and_speed_are_shown(
    open_page: Open, flowith: FakeFlowith
) -> None:
    thought = Wait()
    flowith.reply(web(think("Let me see."), thought, "An ", 0.3, "answer."))
    page = open_page()
    ask(page, "Why?")
    expect(page.get_by_role("status")).to_have_text("Thinking …")
    thought.go()
    measured = re.compile(r"\d+ tokens in, \d+ out · first word after \d+ ms · \d+ tokens/s")
    expect(page.locator(".measured")).to_have_text(measured)
    expect(page.get_by_text("Let me see.")).to_be_hidden()
    page.locator("summary", has_text="Reasoning").click()
    expect(page.get_by_text("Let me see.")).to_be_visible()
    expect(page.locator(".answer > .words")).to_have_text("An answer.")


def test_who_reads_above_the_end_is_left_there(open_page: Open, flowith: FakeFlowith) -> None:
    more, end = Wait(), Wait()
    flowith.reply(web("word\n" * 100, more, "word\n" * 100, end, "the end"))
    page = open_page()
    ask(page, "Go on")
    talk = page.get_by_role("log")
    to_end = "it => it.scrollHeight - it.clientHeight - it.scrollTop"
    assert more.reached()
    expect(page.locator(".answer .words")).to_contain_text("word")
    assert talk.evaluate(to_end) < 60
    talk.evaluate("it => it.scrollTop = 40")
    more.go()
    assert end.reached()
    end.go()
    expect(page.locator(".measured")).to_have_count(1)
    assert talk.evaluate("it => it.scrollTop") == 40
    ask(page, "And again")
    expect(page.locator(".measured")).to_have_count(2)
    assert talk.evaluate(to_end) < 60


def test_the_conversation_goes_along_until_a_new_chat(
    open_page: Open, flowith: FakeFlowith
) -> None:
    flowith.reply(web("One."), web("Two."), web("Three."))
    page = open_page()
    for number, words in enumerate(("first", "second"), 1):
        ask(page, words)
        expect(page.locator(".measured")).to_have_count(number)
    said = [(m["role"], m["content"]) for m in flowith.requests[1].json["messages"]]
    assert said == [("user", "first"), ("assistant", "One."), ("user", "second")]
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("article")).to_have_count(0)
    ask(page, "third")
    expect(page.locator(".measured")).to_have_count(1)
    assert [m["content"] for m in flowith.requests[2].json["messages"]] == ["third"]


def test_a_new_chat_ends_the_answer_under_way(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("Old ", HANG), web("New"))
    page = open_page()
    ask(page, "one")
    expect(page.locator(".answer .words")).to_have_text("Old")
    page.get_by_role("button", name="New chat").click()
    assert flowith.requests[0].wait_hung_up()
    ask(page, "two")
    expect(page.locator(".measured")).to_have_count(1)
    assert [m["content"] for m in flowith.requests[1].json["messages"]] == ["two"]


def test_nothing_is_sent_twice_and_nothing_empty(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("First ", HANG))
    page = open_page()
    box = page.get_by_label("Message")
    ask(page, " \n ")
    box.fill("word")  # and an Enter that only ends the input of a word
    box.evaluate(
        "box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true}))"
    )
    expect(page.locator("article")).to_have_count(0)
    box.fill("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    box.press("Enter")
    ask(page, "again")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.locator(".answer .words")).to_have_text("First")
    page.evaluate("document.getElementById('ask').requestSubmit()")
    expect(page.get_by_role("status")).to_contain_text("wait for it, or stop it")
    expect(box).to_have_value("again")
    assert [m["content"] for m in flowith.requests[0].json["messages"]] == ["one\ntwo"]
    assert len(flowith.requests) == 1


def test_a_wrong_or_missing_key_is_told_and_the_question_is_kept(
    open_page: Open, flowith: FakeFlowith
) -> None:
    page = open_page(key="")
    ask(page, "Hello?")
    expect(page.get_by_role("status")).to_have_text("Paste the key of this service first.")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.get_by_label("Key", exact=True).fill("not-the-ключ")
    page.get_by_label("Message").press("Enter")
    answer = page.locator(".answer")
    expect(answer).to_contain_text("This key is wrong.")
    expect(answer).to_contain_text("The service says: Incorrect API key provided")
    expect(answer).to_contain_text(re.compile(r"Request req_\w+"))
    expect(page.get_by_label("Message")).to_have_value("Hello?")
    assert not flowith.requests
    box = page.get_by_label("Key", exact=True)
    expect(box).to_have_attribute("aria-invalid", "true")
    box.fill(KEY)
    expect(box).not_to_have_attribute("aria-invalid", "true")


def test_the_default_key_need_not_be_typed(open_page: Open, serve: Serve) -> None:
    server = serve(API_KEY="123456")
    page = open_page(server.url, key="")
    ask(page, "Hello")
    expect(page.locator(".measured")).to_have_count(1)
    page = open_page(f"http://page.example:{server.port}/", key="")
    ask(page, "Hello")
    expect(page.locator(".answer .note")).to_contain_text("at an IP address or localhost only")


def test_the_key_stays_in_its_tab(
    open_page: Open, context: BrowserContext, service: Server
) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = open_page()
    page.get_by_label("Model", exact=True).select_option("gpt-4o")
    ask(page, "Hello")
    expect(page.locator(".measured")).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Key", exact=True)).to_have_value(KEY)
    assert KEY not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert KEY not in " ".join([*asked, page.url, service.log()])
    other = open_page(key="")
    expect(other.get_by_label("Key", exact=True)).to_have_value("")
    expect(other.get_by_label("Model", exact=True)).to_have_value("gpt-4o")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error(429), "Too many requests: Flowith asks for a pause."),
        (error(402), "The Flowith account has no credits left."),
        (error(401), "Flowith refused the service’s token."),
        (
            error(403, "Blocked", html=True),
            "Flowith refuses these words: a content policy or a firewall",
        ),
    ],
    ids=["too many requests", "no credits", "token refused", "words refused"],
)
def test_what_flowith_refuses_is_said_in_plain_words(
    open_page: Open, serve: Serve, fake: FakeFlowith, reply: Any, words: str
) -> None:
    fake.reply(reply)
    page = open_page(serve(RETRY_ATTEMPTS="1").url)
    ask(page, "Hello")
    expect(page.locator(".answer")).to_contain_text(words)
    expect(page.locator(".answer")).to_contain_text("The service says:")
    expect(page.get_by_role("status")).to_contain_text(words)
    assert page.locator(".answer").inner_text().count("req_") == 1


def test_without_a_token_it_says_so(open_page: Open, serve: Serve) -> None:
    page = open_page(serve(FLOWITH_AUTH_TOKEN="").url)
    ask(page, "Hello")
    expect(page.locator(".answer")).to_contain_text("The service has no Flowith token yet")


def test_an_answer_that_breaks_off_says_so_and_stays(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("Half of ", 0.05, CUT))
    page = open_page()
    ask(page, "Tell me")
    expect(page.locator(".answer .note")).to_have_text(re.compile("^The answer broke off"))
    expect(page.locator(".answer .words")).to_have_text("Half of")
    expect(page.locator(".answer")).to_contain_text(re.compile(r"equest req_\w+"))


def test_a_service_that_goes_away_is_noticed(
    open_page: Open, serve: Serve, fake: FakeFlowith
) -> None:
    fake.reply(web("Half of ", HANG))
    server = serve()
    page = open_page(server.url)
    ask(page, "Tell me")
    expect(page.locator(".answer .words")).to_have_text("Half of")
    server.stop()
    expect(page.locator(".answer .note")).to_have_text(re.compile("broke off"))
    ask(page, "Still there?")
    expect(page.locator(".answer .note").last).to_have_text(re.compile("cannot be reached"))


@pytest.mark.parametrize(
    ("status", "kind", "body", "words"),
    [
        (200, "text/event-stream", 'data: {"choices":[{"delta":{"content":"Ha"}}]}\n\n', "broke"),
        (200, "text/event-stream", "data: {half a fra\n\n", "broke off"),
        (200, "text/html", "<p>Sign in", "Something else than the service answered"),
        (502, "text/html", "<h1>Bad gateway</h1>", "did not answer as it should"),
        (418, "application/json", "null", "answered with status 418"),
    ],
    ids=["no [DONE]", "not JSON", "a login page", "a gateway's error", "an unknown status"],
)
def test_what_a_gateway_in_front_sends_is_not_taken_for_an_answer(
    open_page: Open, status: int, kind: str, body: str, words: str
) -> None:
    page = open_page()
    page.route("**/v1/**", lambda r: r.fulfill(status=status, content_type=kind, body=body))
    ask(page, "Hello")
    expect(page.locator(".answer .note")).to_contain_text(words)


@pytest.mark.parametrize(
    ("finish", "words"), [("length", "its length limit"), ("content_filter", "a content policy")]
)
def test_an_answer_cut_short_is_not_called_complete(
    open_page: Open, serve: Serve, fake: FakeFlowith, finish: str, words: str
) -> None:
    fake.reply(llm("Half of ", finish=finish))
    page = open_page(serve(FLOWITH_API="llm").url)
    ask(page, "Tell me")
    expect(page.locator(".answer .note")).to_contain_text(words)
    expect(page.get_by_role("status")).to_contain_text(words)


EVENTS = (
    ": a sign of life\r\n\r\ndata: 你好 🙂\r\n\r\n: x\n\nevent: y\ndata:a\r\ndata: b\r\n\r\ndata: c"
)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_read_whole_at_every_split(open_page: Open, size: int) -> None:
    script = """async ([text, size]) => {
        const { readEvents } = await import("/static/ask.js");
        const bytes = new TextEncoder().encode(text);
        const stream = new ReadableStream({ start(to) {
            for (let i = 0; i < bytes.length; i += size) to.enqueue(bytes.slice(i, i + size));
            to.close();
        }});
        const found = [];
        for await (const data of readEvents(stream)) found.push(data);
        return found;
    }"""
    # the last event has no empty line behind it, so it is not whole
    assert open_page().evaluate(script, [EVENTS, size]) == ["你好 🙂", "a\nb"]


def test_what_a_model_writes_is_only_ever_text(open_page: Open, flowith: FakeFlowith) -> None:
    evil = "<img src=x onerror=\"document.title='gone'\">"
    pieces = (f"See {evil}\n``", "`ht", f"ml\n{evil}\n", "``", "`\nand [this](javascript:1)")
    flowith.reply(web(think(evil), *(part for piece in pieces for part in (0.03, piece))))
    page = open_page()
    ask(page, evil)
    expect(page.locator(".measured")).to_have_count(1)
    expect(page.locator(".question .words")).to_have_text(evil)
    expect(page.locator(".answer > .words > p")).to_have_text(
        [f"See {evil}", "and [this](javascript:1)"]
    )
    expect(page.locator(".answer figure code")).to_have_text(evil)
    expect(page.locator(".answer figcaption span").first).to_have_text("html")
    assert page.locator("#talk img, #talk a").count() == 0
    page.locator(".answer figure").get_by_role("button", name="Copy code").click()
    assert page.evaluate("navigator.clipboard.readText()") == f"{evil}\n"


def test_code_in_a_list_is_copied_without_the_list_s_indent(
    open_page: Open, flowith: FakeFlowith
) -> None:
    flowith.reply(web("1. So:\n   ``", "`py\n  ", " if x:\n\n  ", "     y()\n   ```\n2. Run it."))
    page = open_page()
    ask(page, "How?")
    expect(page.locator(".measured")).to_have_count(1)
    assert page.locator(".answer code").text_content() == "if x:\n\n    y()\n"
    expect(page.locator(".answer > .words > p")).to_have_text(["1. So:", "2. Run it."])


LINE_ENDS = """(node) => {
    const outer = node.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(node);
    const lines = [...range.getClientRects()].filter((it) => it.width > 1);
    return lines.map((it) => [it.left - outer.left < 1, outer.right - it.right < 1]);
}"""


def test_words_run_as_their_language_does(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("مرحبا بالعالم.\n```\nx\n```\nHello."))
    page = open_page()
    page.get_by_label("Message").fill("שלום!")
    way = "it => getComputedStyle(it).direction"
    assert page.get_by_label("Message").evaluate(way) == "rtl"
    page.get_by_label("Message").press("Enter")
    expect(page.locator(".measured")).to_have_count(1)
    left, right = [True, False], [False, True]
    assert page.locator(".answer .words p").first.evaluate(LINE_ENDS) == [right]
    assert page.locator(".answer .words p").last.evaluate(LINE_ENDS) == [left]
    assert page.locator(".question .words").evaluate(LINE_ENDS) == [right]
    assert page.locator(".answer figure").evaluate(way) == "ltr"


GIVE_IMAGE = """async ([target, kind]) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [3000, 1000];
    canvas.getContext("2d").fillText(kind, 50, 50); // an image seen before is not stored again
    const blob = await new Promise((ready) => canvas.toBlob(ready));
    const data = new DataTransfer();
    data.items.add(new File([blob], "shot.png", { type: "image/png" }));
    const with_ = kind === "paste" ? { clipboardData: data } : { dataTransfer: data };
    const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
    const event = new Kind(kind, { ...with_, bubbles: true, cancelable: true });
    return !document.querySelector(target).dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_an_image_reaches_flowith_scaled_down(
    open_page: Open, flowith: FakeFlowith, way: str
) -> None:
    page = open_page()
    assert page.evaluate(GIVE_IMAGE, ["#words", way])
    thumb = page.locator("#images img")
    expect(thumb).to_have_count(1)
    assert thumb.evaluate("it => [it.naturalWidth, it.naturalHeight]") == [1536, 512]
    ask(page, "What is this?")
    expect(page.locator(".measured")).to_have_count(1)
    expect(page.locator("#images img")).to_have_count(0)
    expect(page.locator(".question img")).to_have_count(1)
    [stored] = flowith.files.values()
    assert stored.startswith(b"\xff\xd8\xff")
    assert "https://files.example/f/" in flowith.requests[-1].body.decode()
    assert "What is this?" in flowith.requests[-1].body.decode()


def test_a_chosen_image_can_be_taken_away_again(
    open_page: Open, flowith: FakeFlowith, tmp_path: Path
) -> None:
    page = open_page()
    text = tmp_path / "notes.png"
    text.write_text("no image")
    page.get_by_label("Image file").set_input_files(text)
    expect(page.get_by_role("status")).to_contain_text("notes.png is not an image")
    page.get_by_label("Image file").set_input_files(a_picture(tmp_path))
    expect(page.get_by_role("status")).to_have_text("Image 1 added.")
    page.get_by_role("button", name="Remove image 1").click()
    expect(page.locator("#images img")).to_have_count(0)
    page.get_by_label("Message").press("Enter")
    expect(page.locator("article")).to_have_count(0)
    assert not flowith.requests


def test_a_picture_is_made_and_changed(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(flowith.demo)
    page = open_page()
    page.get_by_label("Model", exact=True).select_option("gemini-3.1-flash-image")
    ask(page, "A blue pattern")
    first = page.get_by_role("img", name="A blue pattern")
    expect(first).to_be_visible()
    assert first.evaluate("it => [it.naturalWidth, it.naturalHeight]") == [256, 256]
    expect(page.locator(".measured")).to_have_text(re.compile(r"made in \d+\.\d s"))
    page.get_by_role("button", name="Add to next message").click()
    expect(page.locator("#images img")).to_have_count(1)
    expect(page.get_by_label("Message")).to_be_focused()
    ask(page, "make it red")
    expect(page.get_by_role("img", name="make it red")).to_be_visible()
    expect(page.locator(".question img")).to_have_count(1)
    [stored] = flowith.files
    asked = [seen.json for seen in flowith.requests if seen.path == "/image_gen"]
    assert asked[0]["messages"] == [{"role": "user", "content": "A blue pattern"}]
    assert asked[1]["messages"][0]["content"][1]["image_url"]["url"] == stored
    save = page.get_by_role("link", name="Save").first
    assert save.get_attribute("download") == "picture.png"


def test_a_picture_can_be_stopped_and_a_refused_one_says_why(
    open_page: Open, flowith: FakeFlowith
) -> None:
    refusal = b'{"error": "flagged by moderation"}\n'
    flowith.reply(Reply(steps=[HANG]), Reply(steps=[refusal]), path="/image_gen")
    page = open_page()
    page.get_by_label("Model", exact=True).select_option("gpt-image-2")
    page.get_by_role("button", name="Send").click()
    ask(page, "a cat")
    [call] = flowith.wait_for(1)
    page.get_by_role("button", name="Stop").click()
    assert call.wait_hung_up()
    expect(page.get_by_label("Message")).to_have_value("a cat")
    page.get_by_label("Message").press("Enter")
    expect(page.locator(".answer").last).to_contain_text("a content policy")
    assert page.locator("#talk img").count() == 0


def test_a_picture_without_words_is_not_asked_for(
    open_page: Open, flowith: FakeFlowith, tmp_path: Path
) -> None:
    page = open_page()
    page.get_by_label("Model", exact=True).select_option("gpt-image-2")
    page.get_by_label("Image file").set_input_files(a_picture(tmp_path))
    expect(page.locator("#images img")).to_have_count(1)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_have_text("Say in words what to draw.")
    assert not flowith.requests


@pytest.mark.parametrize("host", ["127.0.0.1", "page.example"], ids=["secure", "plain HTTP"])
def test_the_base_url_can_be_copied(open_page: Open, service: Server, host: str) -> None:
    page = open_page(f"http://{host}:{service.port}/")
    page.get_by_role("button", name="Copy the base URL").click()
    expect(page.get_by_role("status")).to_have_text("Copied the base URL.")
    box = page.get_by_label("Message")
    box.press("Control+V")
    expect(box).to_have_value(f"http://{host}:{service.port}/v1")


def test_where_copying_is_refused_the_text_is_selected(open_page: Open, service: Server) -> None:
    page = open_page()
    page.evaluate(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('refused'));"
        "document.execCommand = () => false"
    )
    page.get_by_role("button", name="Copy the base URL").click()
    expect(page.get_by_role("status")).to_contain_text("The text is selected")
    assert page.evaluate("String(getSelection())") == f"{service.url}/v1"


def test_it_can_be_used_with_the_keyboard_alone(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("First ", HANG))
    page = open_page(key="")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the playground")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the playground")).to_be_in_viewport()
    page.keyboard.press("Enter")
    for label in ("Key", "Model", "Message"):
        page.keyboard.press("Tab")
        expect(page.get_by_label(label, exact=True)).to_be_focused()
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", label
        if label == "Key":
            page.keyboard.type(KEY)
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .words")).to_have_text("First")
    page.keyboard.press("Shift+Tab")  # to scroll by the arrow keys
    expect(page.get_by_role("log", name="Conversation")).to_be_focused()
    page.keyboard.press("Escape")
    assert flowith.requests[0].wait_hung_up()
    expect(page.get_by_label("Message")).to_be_focused()


def test_send_and_stop_hand_the_focus_to_each_other(open_page: Open, flowith: FakeFlowith) -> None:
    end = Wait()
    flowith.reply(web("First ", end, "last"))
    page = open_page()
    page.get_by_label("Message").fill("Hello")
    page.get_by_role("button", name="Send").press("Enter")
    expect(page.locator(".answer .words")).to_have_text("First")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    end.go()
    expect(page.locator(".measured")).to_have_count(1)
    expect(page.get_by_role("button", name="Send")).to_be_focused()


CONTRAST = """() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => {
        const [r, g, b] = numbers(color).slice(0, 3).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        const color = getComputedStyle(node).backgroundColor;
        const alpha = numbers(color)[3] ?? 1;
        if (alpha === 1 || !node.parentElement) return color;
        return ground(node.parentElement);
    };
    const found = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((it) => it.nodeType === 3 && it.data.trim());
        if (!node.checkVisibility() || node.disabled || !(own || node.value)) continue;
        const pair = [light(getComputedStyle(node).color), light(ground(node))].sort();
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        found.push([`${node.tagName} ${node.textContent.trim().slice(0, 40)}`, ratio]);
    }
    return found;
}"""
TARGETS = """() => [...document.querySelectorAll("button, input, select, textarea, summary")]
    .filter((it) => it.checkVisibility() && !it.disabled)
    .map((it) => [it.textContent.trim() || it.id, it.getBoundingClientRect()])
    .map(([name, box]) => [name, Math.min(box.width, box.height)])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_narrow_screen_all_can_be_read_and_touched(
    browser: Browser,
    service: Server,
    flowith: FakeFlowith,
    scheme: Literal["light", "dark"],
    tmp_path: Path,
) -> None:
    flowith.reset()
    code = f"\n```python\n{'x' * 200}\n```\n"
    flowith.reply(web(think("Hm."), "y" * 200, code), web("Half ", CUT), path="/completion")
    page = browser.new_page(viewport=PHONE, color_scheme=scheme)
    page.goto(service.url)
    page.get_by_label("Key", exact=True).fill(KEY)
    page.get_by_label("Image file").set_input_files(a_picture(tmp_path))
    expect(page.locator("#images img")).to_have_count(1)
    ask(page, "z" * 200)
    expect(page.locator(".measured")).to_have_count(1)
    ask(page, "again")
    expect(page.locator(".answer .note")).to_have_count(1)
    page.evaluate("""() => document.querySelectorAll("details")
        .forEach((it) => { it.removeAttribute("name"); it.open = true; })""")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    inner = page.locator("#talk").evaluate("it => [it.scrollWidth, it.clientWidth]")
    assert inner[0] <= inner[1]
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 80
    assert [one for one in contrasts if one[1] < 4.5] == []
    targets = page.evaluate(TARGETS)
    assert len(targets) > 20
    assert [one for one in targets if one[1] < 44] == []
    box = page.get_by_label("Message")
    for message in ("", "a line\n" * 5):  # the box shows its hint whole, and what is being written
        box.fill(message)
        assert box.evaluate("it => it.scrollHeight <= it.clientHeight"), message
    page.close()


def test_on_paper_the_conversation_is_whole(open_page: Open, flowith: FakeFlowith) -> None:
    flowith.reply(web("word\n" * 200))
    page = open_page()
    ask(page, "Go on")
    expect(page.locator(".measured")).to_have_count(1)
    page.emulate_media(media="print")
    inside = "it => it.scrollHeight <= it.clientHeight"
    for width in (794, 1123):  # A4, upright and across
        page.set_viewport_size({"width": width, "height": 600})
        assert page.locator("#talk").evaluate(inside), width
        assert page.locator("#playground").evaluate(inside), width
    assert page.locator("button:visible, input:visible, textarea:visible").count() == 0


def test_on_a_phone_a_long_answer_does_not_push_stop_away(
    browser: Browser, service: Server, flowith: FakeFlowith
) -> None:
    flowith.reset()
    flowith.reply(web("word " * 500, HANG))
    page = browser.new_page(viewport=PHONE)
    page.goto(service.url)
    page.get_by_label("Key", exact=True).fill(KEY)
    ask(page, "Go on")
    expect(page.locator(".answer .words")).to_contain_text("word word")
    expect(page.get_by_role("button", name="Stop")).to_be_in_viewport(ratio=1)
    page.close()


def test_without_javascript_all_but_the_playground_is_there(
    browser: Browser, service: Server
) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(service.url)
    expect(page.get_by_text("The playground and the copy buttons need JavaScript.")).to_be_visible()
    page.locator("summary", has_text="LibreChat").click()
    expect(page.get_by_text("endpoints:")).to_be_visible()
    expect(page.locator(".models li").first).to_be_visible()
    assert page.locator("button:visible, input:visible, textarea:visible").count() == 0
    page.close()


def test_a_script_that_is_late_is_not_taken_for_none(browser: Browser, service: Server) -> None:
    page = browser.new_page()
    page.route("**/page.js", lambda route: None)  # it never comes
    clock = page.context.new_cdp_session(page)
    clock.send("Animation.enable")
    clock.send("Animation.setPlaybackRate", {"playbackRate": 0})
    page.goto(service.url, wait_until="commit")
    words = page.get_by_text("The playground and the copy buttons need JavaScript.")
    expect(words).to_be_attached()
    expect(page.locator("#play")).to_be_attached()
    expect(words).to_be_hidden()
    clock.send("Animation.setPlaybackRate", {"playbackRate": 100})
    expect(words).to_be_visible()
    page.close()


def test_every_control_has_a_name_and_every_place_a_landmark(
    open_page: Open, context: BrowserContext
) -> None:
    page = open_page()
    ask(page, "Hello")
    expect(page.locator(".measured")).to_have_count(1)
    tree = context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"]
    ]
    controls = {"button", "combobox", "textbox", "link", "DisclosureTriangle", "log"}
    assert [role for role, name in named if role in controls and not name] == []
    roles = [role for role, _ in named]
    assert {"banner", "main", "contentinfo", "log", "status"} <= set(roles)
    assert {name for role, name in named if role == "region"} == {
        "Connect",
        "Playground",
        "Models",
    }
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    assert roles.count("heading") == 8


# -- what it tells people to do ---------------------------------------------------------------


def snippets(server: Server) -> dict[str, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/", headers=HTML)
    page = connection.getresponse().read().decode()
    connection.close()
    found = re.findall(r'<pre id="([a-z-]+)"[^>]*><code>(.*?)</code>', page, re.DOTALL)
    return {name: unescape(code).replace("YOUR_KEY", KEY) for name, code in found}


def test_the_snippets_work_as_they_are(service: Server, flowith: FakeFlowith) -> None:
    flowith.reset()
    flowith.reply(web("It works."))
    shown = snippets(service)
    commands = {"python": [sys.executable, "-c", shown["python"]]}
    if shutil.which("curl"):  # a slim image has none; Python's case shows the rest
        commands["curl"] = ["sh", "-c", shown["curl"]]
    for name, command in commands.items():
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "works" in done.stdout, (name, done.stderr)
    assert len(flowith.requests) == len(commands)
