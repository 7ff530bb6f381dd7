"""What monitoring sees: /metrics in this process and over two workers, its page, its dashboard."""

import ast
import fnmatch
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, PACKAGES, ROOT, TOKEN, WEB_TOKEN, Api, MakeApi, Serve, Server
from fake_flowith import CUT, HANG, FakeFlowith, Reply, Seen, Wait, error, llm, web
from prometheus_client.parser import text_string_to_metric_families

from errors import OPERATORS
from flowith.accounts import Account
from server.metrics import to_label

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text("utf-8"))
ALERTS = (ROOT / "deploy" / "alerts.yml").read_text("utf-8")
MODELS = set(json.loads((ROOT / "models.json").read_text("utf-8")))
PREFIX = "flowith_proxy_"


class Numbers:
    """What one scrape said."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def of(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels."""
        chosen = [s for s in self.samples if s.name == PREFIX + name]
        return sum(s.value for s in chosen if labels.items() <= s.labels.items())

    def values(self, label: str) -> set[str]:
        return {s.labels[label] for s in self.samples if label in s.labels}


def look(api: Api) -> Numbers:
    response = api.get("/metrics")
    assert response.status_code == 200
    return Numbers(response.text)


def scrape(server: Server) -> Numbers:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    return Numbers(text)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def until(server: Server, holds: Callable[[Numbers], bool]) -> Numbers:
    """The first scrape of which something holds."""
    end = time.monotonic() + 10
    while not holds(numbers := scrape(server)):
        assert time.monotonic() < end, numbers.samples
        time.sleep(0.05)
    return numbers


def finish(api: Api, **body: Any) -> int:
    response = api.post(**body)
    assert response.data
    response.close()
    status: int = response.status_code
    return status


def test_a_request_is_counted_with_its_model_status_and_ending(
    api: MakeApi, fake: FakeFlowith
) -> None:
    ours = api(RETRY_ATTEMPTS="1")
    fake.reply(web("Hi"), web("Hi"), error(400), web("half", 0.05, CUT))
    finish(ours)
    finish(ours, stream=True)
    finish(ours)
    finish(ours, stream=True)
    finish(ours, model="gpt-9")
    ours.send(b"{").close()
    ours.client.post("/v1/completions", data=b"{}").close()
    ours.get("/v1/models").close()
    ours.get("/health").close()
    ours.post(path="/v1/embeddings").close()
    numbers = look(ours)
    expected = {
        ("gpt-4.1", "200", "done"): 2,
        ("gpt-4.1", "400", "invalid_request_error"): 1,
        ("gpt-4.1", "200", "upstream_cut"): 1,
        ("other", "404", "model_not_found"): 1,
        ("other", "400", "invalid_request_error"): 1,
        ("other", "401", "invalid_request_error"): 1,
    }
    assert numbers.of("requests_total", format="completions", status="401") == 1
    assert numbers.of("requests_total", format="chat") == sum(expected.values()) - 1
    for (model, status, ending), times in expected.items():
        labels = {"model": model, "status": status, "ending": ending}
        assert numbers.of("requests_total", **labels) == times, labels
    assert numbers.of("requests_total") == sum(expected.values())
    assert numbers.of("first_token_seconds_count", model="gpt-4.1") == 3
    assert numbers.of("duration_seconds_count") == 4
    assert numbers.of("running_streams") == 0


def test_a_stream_is_counted_when_it_ends(api: MakeApi, fake: FakeFlowith) -> None:
    ours = api()
    fake.reply(web("one ", 0.2, "two"))
    response = ours.post(stream=True)
    numbers = look(ours)
    assert numbers.of("running_streams") == 1
    assert numbers.of("requests_total") == 0
    assert response.data
    response.close()
    numbers = look(ours)
    assert numbers.of("running_streams") == 0
    assert numbers.of("requests_total", ending="done") == 1


def test_tries_failures_and_tokens_are_counted(api: MakeApi, fake: FakeFlowith) -> None:
    ours = api(FLOWITH_AUTH_TOKEN=TOKEN, RETRY_ATTEMPTS="2")
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    fake.reply(error(500), llm("Hi", usage=usage))
    assert finish(ours) == 200
    numbers = look(ours)
    account = "1:flo_...cdef"
    assert numbers.of("upstream_attempts_total", account=account, api="llm") == 2
    assert numbers.of("upstream_failures_total", account=account, reason="upstream_error") == 1
    assert numbers.of("tokens_total", model="gpt-4.1", kind="prompt") == 7
    assert numbers.of("tokens_total", model="gpt-4.1", kind="completion") == 5


def test_signs_of_life_are_counted_when_they_are_sent(api: MakeApi, fake: FakeFlowith) -> None:
    ours = api(HOLD="0.1", HEARTBEAT="0.1", KEEP_ALIVE_AFTER="0")
    fake.reply(web(0.5, "late", 0.5, " end"))
    finish(ours)
    assert look(ours).of("heartbeats_total") == 0
    response = ours.post(stream=True)
    pings = response.data.count(b": ping")
    response.close()
    assert pings
    assert look(ours).of("heartbeats_total") == pings
    ours = api(HOLD="0.1", HEARTBEAT="0.1", KEEP_ALIVE_AFTER="0.2")
    response = ours.post()
    blanks = len(response.data) - len(response.data.lstrip())
    response.close()
    assert blanks
    assert look(ours).of("heartbeats_total") == blanks


def test_an_account_that_rests_is_not_healthy_until_it_answers(
    api: MakeApi, fake: FakeFlowith
) -> None:
    ours = api(FLOWITH_AUTH_TOKEN=f"{TOKEN},{TOKEN[:-1]}0", RETRY_ATTEMPTS="2")
    numbers = look(ours)
    assert (numbers.of("accounts"), numbers.of("healthy_accounts")) == (2, 2)
    fake.reply(error(401), error(401), llm("Hi"))  # the token is tried in both its forms
    finish(ours)
    numbers = look(ours)
    assert (numbers.of("accounts"), numbers.of("healthy_accounts")) == (2, 1)
    accounts = ours.client.application.extensions["flowith"].accounts
    accounts.settle(accounts.all[0], "any", None)
    assert look(ours).of("healthy_accounts") == 2


def test_an_account_that_rests_for_one_model_is_ready_for_the_others(
    api: MakeApi, fake: FakeFlowith
) -> None:
    ours = api(FLOWITH_AUTH_TOKEN=TOKEN, RETRY_ATTEMPTS="1")
    for refusal in (error(402), error(429, headers={"Retry-After": "60"})):
        fake.reply(refusal)
        finish(ours)
        assert look(ours).of("healthy_accounts") == 1
        assert ours.client.get("/health/ready").status_code == 200


def test_an_account_keeps_its_name_when_its_login_is_renewed() -> None:
    account = Account(1, WEB_TOKEN)
    before = account.name
    account.token = "eyJhbGciOiJub25lIn0.a-renewed-login.signature-2"
    assert account.name == before


def test_no_caller_can_add_a_label(api: MakeApi, fake: FakeFlowith, tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"known": "inner", "vendor/x": "y", "*": "*"}')
    ours = api(MODELS_FILE=str(file), RETRY_ATTEMPTS="1")
    fake.reply(web("secret answer"))
    names = ["known", "flowith/known", "known:online", "vendor/x", "flowith/vendor/x", "*"]
    for name in [*names, *(f"new-{i}" for i in range(20)), 'a"} 1\nb', "ö" * 300, "other"]:
        assert finish(ours, model=name, messages=[{"role": "user", "content": "secret"}]) == 200
    fake.reply(error(500, f"{WEB_TOKEN} secret"), Reply(418), error(422), Reply(302))
    for _ in range(4):
        finish(ours)
    for body in (b"", b"[]", b'{"model": 1}', b'{"model": "known", "n": 99, "messages": [{}]}'):
        ours.send(body).close()
    numbers = look(ours)
    assert numbers.of("requests_total", model="known") == 3
    assert numbers.of("requests_total", model="vendor/x") == 2
    assert numbers.values("model") == {"known", "vendor/x", "other"}
    assert numbers.values("ending") | numbers.values("reason") <= {to_label(e) for e in ENDINGS}
    text = ours.get("/metrics").text
    assert not re.search("secret|signature|new-|ööö", text)
    assert KEY not in text


NEAR = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:7860"}
FAR = [
    {"REMOTE_ADDR": "192.0.2.7"},
    {"REMOTE_ADDR": ""},
    {"REMOTE_ADDR": "127.0.0.1.example"},
    {"SERVER_PROTOCOL": "HTTP/1.0"},
    {"HTTP_HOST": "proxy.example"},
    {"HTTP_HOST": "[::1"},
    {"HTTP_HOST": ""},
    {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    {"HTTP_X_FORWARDED_PROTO": "https"},
    {"HTTP_X_REAL_IP": "127.0.0.1"},
    {"HTTP_FORWARDED": "for=127.0.0.1"},
    {"HTTP_VIA": "1.1 proxy"},
    {"HTTP_ORIGIN": "https://page.example"},
]


@pytest.mark.parametrize("given", FAR, ids=str)
def test_from_elsewhere_metrics_need_a_key(api: MakeApi, given: dict[str, str]) -> None:
    client, environ = api().client, {**NEAR, **given}
    response = client.get("/metrics", environ_overrides=environ)
    assert response.status_code == 401
    assert response.json
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    wrong = client.get("/metrics", environ_overrides=environ, headers={"x-api-key": "wrong"})
    assert wrong.status_code == 401
    right = client.get("/metrics", environ_overrides=environ, headers={"x-api-key": KEY})
    assert right.status_code == 200


@pytest.mark.parametrize(
    "given",
    [{}, {"HTTP_HOST": "127.0.0.1:8099"}, {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:8099"}],
    ids=str,
)
def test_on_the_machine_itself_metrics_need_none(api: MakeApi, given: dict[str, str]) -> None:
    client, environ = api().client, {**NEAR, **given}
    response = client.get("/metrics", environ_overrides=environ)
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert client.head("/metrics", environ_overrides=environ).status_code == 200
    assert client.post("/metrics", environ_overrides=environ).status_code == 405


def workers(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def folder(server: Server) -> Path:
    """Where this service's workers keep their counts."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in workers(server))
    (found,) = set(re.findall(r"(/\S+)/counter_\d+\.db", maps))
    return Path(found)


HOLD = [{"role": "user", "content": "hold"}]


def held_or_done(seen: Seen) -> Reply:
    return web("begun ", HANG) if seen.json["messages"] == HOLD else web("Hi")


@contextmanager
def asleep(worker: int) -> Iterator[None]:
    """The other worker gets what is asked meanwhile."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def serve_two(serve: Serve, **environ: str) -> Server:
    """A service of two workers that have both started."""
    server = serve(WEB_CONCURRENCY="2", **environ)
    wait_until(lambda: len(list(folder(server).glob("gauge_livesum_*.db"))) == 2)
    return server


def test_an_account_that_rests_in_one_worker_is_seen_through_the_other(
    serve: Serve, fake: FakeFlowith
) -> None:
    fake.reply(error(401))
    server = serve_two(serve, RETRY_ATTEMPTS="1")
    first, second = workers(server)
    with asleep(second):
        connection, response = server.post({})
        assert response.status == 424
        connection.close()
        server.wait_for_log("end=upstream_auth_error")
    with asleep(first):
        assert scrape(server).of("healthy_accounts") == 0


def test_a_directory_that_others_count_in_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    assert scrape(serve(PROMETHEUS_MULTIPROC_DIR=str(theirs))).of("info") == 1
    assert list(theirs.iterdir()) == []


def test_a_cleaner_of_temporary_files_does_no_harm(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(web("Hi"))
    server = serve()
    shutil.rmtree(folder(server))
    finished(server)
    (worker,) = workers(server)
    os.kill(worker, signal.SIGKILL)
    server.wait_for_log("SIGKILL")
    server.wait_until_up()
    finished(server)
    until_done(server, 1)


def test_two_workers_count_as_one_through_death_and_reload(serve: Serve, fake: FakeFlowith) -> None:
    fake.reply(held_or_done)
    server = serve_two(serve, GRACEFUL_TIMEOUT="4", HEARTBEAT="0.5")
    shared, (first, second) = folder(server), workers(server)
    held = []
    for other in (first, second):
        with asleep(other):
            finished(server)
            begun = [server.post({"stream": True, "messages": HOLD}) for _ in range(2)]
            held += [connection for connection, _ in begun]
    numbers = until_done(server, 2)
    assert numbers.of("running_streams") == 4, numbers.samples
    assert {scrape(server).of("requests_total", ending="done") for _ in range(8)} == {2}
    assert numbers.of("first_token_seconds_count") == 2
    assert numbers.of("duration_seconds_bucket", le="+Inf") == 2
    assert numbers.of("accounts") == numbers.of("healthy_accounts") == numbers.of("info") == 1

    os.kill(first, signal.SIGKILL)
    numbers = until(server, lambda numbers: numbers.of("running_streams") < 4)
    assert numbers.of("running_streams") == 2
    assert numbers.of("requests_total") == 2
    for connection in held:
        connection.close()
    numbers = until(server, lambda numbers: numbers.of("running_streams") == 0)
    assert numbers.of("callers_left_total") == 2
    assert numbers.of("requests_total", ending="caller_left") == 2

    for reloads in (1, 2, 3):
        reload(server)
        wait_until(lambda: len(list(shared.glob("gauge_livesum_*.db"))) == 2)
        finished(server)
        until_done(server, 2 + reloads)
    assert len(list(shared.glob("counter_*.db"))) <= 4
    assert server.stop() == 0
    assert not shared.exists()
    assert "/metrics" not in server.log()


def reload(server: Server) -> None:
    before = set(workers(server))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before & set(workers(server)))


def until_done(server: Server, times: int) -> Numbers:
    return until(server, lambda numbers: numbers.of("requests_total", ending="done") == times)


def finished(server: Server) -> None:
    connection, response = server.post({})
    assert response.status == 200
    response.read()
    connection.close()


def test_a_broken_off_answer_is_counted_as_such(serve: Serve, fake: FakeFlowith) -> None:
    wait = Wait()
    fake.reply(web("half", wait, CUT))
    server = serve(KEEP_ALIVE_AFTER="0.3", HOLD="0.2", HEARTBEAT="0.2")
    connection, _ = server.post({})
    wait.go()
    numbers = until(server, lambda numbers: numbers.of("requests_total") == 1)
    assert numbers.of("requests_total", ending="broken_off", status="200") == 1
    connection.close()


MODULES = [path for place in (".", *PACKAGES) for path in (ROOT / place).glob("*.py")]


def said_in_code() -> set[str]:
    """Every ending that the code can write, read from the code; a `*` is what is filled in."""
    found = {"done", "invalid_request_error"}  # what an empty one means; a `type` without a code
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.keyword(arg="code", value=value):
                    found |= words(value)
                case ast.Call(func=ast.Name("bad_value"), args=[_, _, value]):
                    found |= words(value)
                case ast.FunctionDef(name="bad_value", args=ast.arguments(defaults=[value])):
                    found |= words(value)
                case ast.Assign(targets=[ast.Attribute(attr="ending")], value=value):
                    found |= words(value)
                case ast.Assign(
                    targets=[ast.Name("default_code" | "code" | "CALLER_LEFT")], value=value
                ):
                    found |= words(value)
                case ast.AnnAssign(target=ast.Name("default_code"), value=ast.Constant() as value):
                    found |= words(value)
    return found


def words(node: ast.expr) -> set[str]:
    match node:
        case ast.Constant(str(text)):
            return {text}
        case ast.JoinedStr(values=parts):
            return {"".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)}
        case ast.Dict(values=values):
            return {word for value in values for word in words(value)}
        case ast.IfExp(body=one, orelse=other):
            return words(one) | words(other)
    return set()


def documented(title: str) -> set[str]:
    """The names in the first column of a section's table."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


ENDINGS = documented("Endings")


def test_the_page_has_every_ending_and_no_other() -> None:
    in_code = said_in_code()
    assert len(in_code) > 30
    assert [one for one in in_code if not fnmatch.filter(ENDINGS, one)] == []
    assert [one for one in ENDINGS if not any(fnmatch.fnmatch(one, code) for code in in_code)] == []


def test_the_page_has_every_field_of_the_log(
    api: MakeApi, fake: FakeFlowith, capfd: pytest.CaptureFixture[str]
) -> None:
    fake.reply(error(500), llm("Hi", usage={"prompt_tokens": 1, "completion_tokens": 1}))
    finish(api(LOG_FORMAT="json", FLOWITH_AUTH_TOKEN=TOKEN))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["logger"] == "access"]
    assert set(line) - {"time", "level", "logger"} == documented("The log")


@pytest.fixture
def everything(api: MakeApi, fake: FakeFlowith) -> Numbers:
    """A scrape after a little of everything."""
    ours = api(FLOWITH_AUTH_TOKEN=TOKEN, HOLD="0.1", HEARTBEAT="0.1")
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    fake.reply(error(500), llm(0.3, "Hi", usage=usage))
    finish(ours, stream=True)
    return look(ours)


def test_the_page_has_every_path_and_member_of_health(api: MakeApi) -> None:
    ours, told = api(), documented("Health")
    paths = {name for name in told if name.startswith("/")}
    assert len(paths) == 4
    answers = [ours.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    assert [one for one in answers if set(one.json) != told - paths] == []


def test_the_page_has_every_metric(everything: Numbers) -> None:
    exposed = {
        family.name + "_total" if family.type == "counter" else family.name
        for family in everything.families
        if not family.name.endswith("_created")
    }
    assert documented("Metrics") == exposed


def test_the_dashboard_and_the_alerts_ask_for_what_there_is(everything: Numbers) -> None:
    labels: dict[str, set[str]] = {}
    for sample in everything.samples:
        labels.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    expressions += re.findall(r"expr: (?:\|\n)?((?:.+\n)(?:          .+\n)*)", ALERTS)
    assert len(expressions) > 20
    asked = set()
    for expression in expressions:
        names = re.findall(rf"{PREFIX}\w+", expression)
        assert names, expression
        asked |= set(names)
        matched = re.findall(r'(\w+)[=!]~?"', expression)
        grouped = [g for by in re.findall(r"by \(([^)]*)\)", expression) for g in by.split(", ")]
        for name in names:
            assert set(matched + grouped) <= labels[name], expression
    missing = {
        re.sub("_(sum|count|bucket)$", "", name) for name in labels if "_created" not in name
    }
    assert missing <= {re.sub("_bucket$", "", name) for name in asked}


def test_what_the_operator_has_to_mend_counts_as_a_failure() -> None:
    queries = json.dumps(DASHBOARD).replace('\\"', '"') + ALERTS
    (callers_own,) = set(re.findall(r'status!~"([^"]+)"', queries))
    left_out = {status for status in range(200, 600) if re.fullmatch(callers_own, str(status))}
    assert {400, 401, 403, 404, 408, 413, 415, 426} <= left_out
    assert not left_out & {200, *OPERATORS, 429, *range(500, 600)}


def test_the_dashboard_s_legends_and_variables_are_there() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert DASHBOARD["schemaVersion"] >= 39
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b[^)]*\)", target["expr"])
