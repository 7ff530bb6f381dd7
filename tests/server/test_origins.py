"""The default key and the browser: which web pages may use a key that everybody knows."""

import json
import os
from typing import Any

import pytest
from conftest import KEY, MakeApi, Serve
from fake_flowith import FakeFlowith, web
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, sync_playwright
from test_page import CHROMIUM, FLAGS

from settings import DEFAULT_KEY

HOST = "192.168.1.5:8099"
WELCOME = (
    "http://localhost:3000",
    "https://localhost",
    "http://chat.localhost:5173",
    "http://127.0.0.1:8080",
    "http://127.8.9.1",
    "http://[::1]:3000",
    "http://192.168.1.5:8099",
    "http://192.168.1.5:3000",
    "chrome-extension://abcdefgh",
    "moz-extension://0b5f",
    "app://obsidian.md",
    "tauri://localhost",
    "vscode-webview://1f",
    "file://",
)
STRANGERS = (
    "https://evil.example",
    "http://evil.example:8099",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://192.168.1.6",
    "http://notlocalhost",
    "null",
    "",
    "evil.example",
    "http://[",
    "HTTPS://EVIL.EXAMPLE",
)
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}


def preflight(client: FlaskClient, origin: str, host: str = HOST) -> Any:
    return client.options("/v1/chat/completions", headers={"Origin": origin, "Host": host, **ASKED})


def listing(client: FlaskClient, key: str, **headers: str) -> Any:
    return client.get("/v1/models", headers={"Authorization": f"Bearer {key}", **headers})


@pytest.mark.parametrize("origin", WELCOME)
def test_a_page_of_this_machine_and_an_app_may_use_the_default_key(
    api: MakeApi, origin: str
) -> None:
    client = api(API_KEY=DEFAULT_KEY).client
    asked = preflight(client, origin)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Private-Network"] == "true"
    answer = listing(client, DEFAULT_KEY, Origin=origin, Host=HOST)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("origin", STRANGERS)
def test_any_other_page_is_refused_the_default_key(api: MakeApi, origin: str) -> None:
    client = api(API_KEY=f"own-key,{DEFAULT_KEY}").client
    for answer in (
        preflight(client, origin),
        listing(client, DEFAULT_KEY, Origin=origin, Host=HOST),
        client.get("/metrics", headers={"Origin": origin}),
    ):
        assert answer.status_code == 403
        error = json.loads(answer.data)["error"]
        assert error["code"] == "origin_not_allowed"
        assert "API_KEY" in error["message"]
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
    for path in ("/", "/health", "/nowhere"):  # harmless, but nothing for that page to read
        answer = client.get(path, headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_name_that_equals_the_host_proves_nothing(api: MakeApi) -> None:
    """A name can be pointed to this machine after its page was loaded (DNS rebinding)."""
    client = api(API_KEY=DEFAULT_KEY).client
    assert preflight(client, "http://evil.example:8099", "evil.example:8099").status_code == 403


def test_programs_send_no_origin_and_are_let_in(api: MakeApi) -> None:
    assert listing(api(API_KEY=DEFAULT_KEY).client, DEFAULT_KEY).status_code == 200


def test_a_key_of_ones_own_and_a_space_let_every_page_in(api: MakeApi) -> None:
    for given, key in (({}, KEY), ({"API_KEY": DEFAULT_KEY, "SPACE_ID": "me/proxy"}, DEFAULT_KEY)):
        client = api(**given).client
        assert preflight(client, "https://chat.example").status_code == 204
        answer = listing(client, key, Origin="https://chat.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


# -- in a real browser -----------------------------------------------------------------------

TRY = """async (url) => {
    try {
        const answer = await fetch(url + '/v1/chat/completions', {
            method: 'POST',
            headers: {'Content-Type': 'application/json', Authorization: 'Bearer 123456'},
            body: JSON.stringify({model: 'gpt-4.1', messages: [{role: 'user', content: 'Hi'}]}),
        });
        return answer.status + ' ' + await answer.text();
    } catch (wrong) {
        return String(wrong);
    }
}"""


# a browser is no dependency of the project, only of this check; in CI its absence is a failure
@pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ,
    reason="only a browser shows what it lets a page do; it is missing: apt-get install chromium",
)
def test_in_a_browser_only_pages_of_this_machine_spend_with_the_default_key(
    serve: Serve, fake: FakeFlowith
) -> None:
    fake.reply(web("the answer"))
    ours = serve(API_KEY=DEFAULT_KEY)
    other = serve(API_KEY="another-key")  # any page will do: this one is at hand
    rebound = f"http://evil.example:{ours.port}"
    flags = [flag for flag in FLAGS if not flag.startswith("--host-resolver-rules")]
    flags.append("--host-resolver-rules=MAP *.example 127.0.0.1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            for page_at, url in ((f"http://evil.example:{other.port}", ours.url),
                                 (rebound, rebound)):  # fmt: skip
                said = ask_from(browser, page_at, url)
                assert "the answer" not in said
                assert "403" in said or "TypeError" in said
            assert fake.requests == []
            for page_at, url in ((f"http://localhost:{other.port}", ours.url),
                                 (ours.url, ours.url)):  # fmt: skip
                assert "the answer" in ask_from(browser, page_at, url)
        finally:
            browser.close()


def ask_from(browser: Browser, page_at: str, url: str) -> str:
    """What a script gets that runs in a page at `page_at` and asks the service at `url`."""
    page: Page = browser.new_page(bypass_csp=True)
    page.goto(f"{page_at}/health")
    said: str = page.evaluate(TRY, url)
    page.close()
    return said
