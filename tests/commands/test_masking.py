"""Marks in place of what is personal: of equal length, also where blocks cut it, and no more."""

import base64
import json
import time

import pytest

from commands.masking import Mask, find_secret, to_forms, to_secrets

KEY = "flo_" + "0123456789abcdef" * 4
LOGIN_ID = "7d9f3c1e-1234-4abc-8def-00000000beef"
CLAIMS = {"sub": LOGIN_ID, "email": "jane@example.com", "role": "authenticated", "exp": 1}
LOGIN = f"eyJhbGciOiJIUzI1NiJ9.{base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).decode()}.sig"
WORD = "opensesame-mellon"  # a secret that looks like nothing known


def masked(text: str, *secrets: str) -> str:
    body = text.encode()
    found = Mask(secrets).body(body)
    assert len(found) == len(body)
    assert Mask(secrets).body(found) == found
    assert not Mask(secrets).rest(found)
    return found.decode()


@pytest.mark.parametrize(
    ("text", "personal"),
    [
        ("write to jane.doe+x@mail.example.com now", "jane.doe"),
        (r'{"error":"jane\u0040example.com"}', "jane"),
        ("?mail=jane%40example.com&x=1", "jane"),
        ("<p>jane&#64;example.com</p>", "jane"),
        ("<p>jane&commat;example.com</p>", "jane"),
        (rf'{{"error":"{{\"owner\":\"{LOGIN_ID}\"}}"}}', LOGIN_ID[:8]),
        (f"request {LOGIN_ID} failed", LOGIN_ID[-12:]),
        (f"{LOGIN} has expired", "eyJ"),
        (f"bad key {KEY}", "0123456789abcdef"),
        ("key sk-proj-abcDEF12", "abcDEF12"),
        ("sb_publishable_x1y2z3", "x1y2z3"),
        ("Bearer a1b2c3d4", "a1b2c3d4"),
        ('"trace: 4bf92f3577b34da6a3ce929d0e0e4736"', "4bf92f3577"),
        ("aB3dEfGh1JkLmN0pQrSt", "aB3d"),
        ("k3y5-a1b2c3d4-e5f6a7b8", "a1b2c3d4"),
        ("dGhpcyBpcyBhIDEyMzQ1Njc4/+A=", "dGhp"),
        ("Your address: 203.0.113.7", "203.0.113.7"),
        ("from 2001:db8:85a3::8a2e:370:7334", "8a2e"),
        ('{"id": "u-7", "x": 1}', "u-7"),
        ('{"user_id": 12345}', "12345"),
        ('{"accountId":"abc"}', "abc"),
        ('{"username": "jane"}', "jane"),
        ('data: {"tag":"seeds","content":[{"content":"my diary"}]}', "diary"),
        ('{"seeds":[{"source_title":"Taxes"}]}', "Taxes"),
        ("müller@exämple.de", "ller"),
    ],
)
def test_what_is_personal_becomes_marks(text: str, personal: str) -> None:
    assert personal in text
    assert personal not in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        'data: {"model":"claude-haiku-4-5-20251001","choices":[{"index":0,"delta":'
        '{"reasoning_content":"Hm","content":"9.9 is larger, at 12:34:56"},"finish_reason":null}]}',
        '{"usage":{"prompt_tokens":3,"completion_tokens_details":{"reasoning_tokens":12}}}',
        '{"object":"chat.completion.chunk","created":1764108000,"model":"gemini-3.1-flash-image"}',
        '{"function":{"name":"get_weather","arguments":"{\\"city\\": \\"Oslo\\"}"}}',
        "<think>\nThe user greets me.\n\n</think>\nHello! 你好 🙂 naïve",
        '{"error":{"message":"Bearer token is missing","code":"insufficient_credits"}}',
        '{"tag":"searching","content":"..."}',
        "web_search_20250305 internationalization",
    ],
)
def test_what_a_reader_needs_stays(text: str) -> None:
    assert masked(text) == text


def test_a_number_stays_a_number_and_json_stays_json() -> None:
    body = (
        r'{"user_id": 987654, "id": "a\n\u00e9\"b", "t": 1764108000123456789, "n": "\ud83d\ude42"}'
    )
    assert json.loads(masked(body)) == {
        "user_id": 111111, "id": "xxxxxxxxxxxx", "t": 1111111111111111111, "n": "🙂",
    }  # fmt: skip


@pytest.mark.parametrize("form", sorted(to_forms(WORD)))
def test_a_known_secret_is_masked_in_each_of_its_forms(form: str) -> None:
    assert form not in masked(f"<{form}>", WORD)


@pytest.mark.parametrize("at", range(1, 60, 7))
def test_a_secret_that_is_cut_by_blocks_is_masked_in_both(at: int) -> None:
    body = f"token {KEY} of jane@example.com, {WORD}".encode()
    blocks = Mask([WORD]).blocks([(0.1, body[:at]), (0.2, body[at:])])
    assert [len(block) for _, block in blocks] == [at, len(body) - at]
    assert [time for time, _ in blocks] == [0.1, 0.2]
    whole = b"".join(block for _, block in blocks)
    assert whole == Mask([WORD]).body(body)
    for part in (b"0123456789", b"jane", b"sesame"):
        assert part not in whole


def test_a_secret_that_comes_in_pieces_of_a_streamed_text_is_masked() -> None:
    pieces = ["I am ja", "ne@exam", "ple.com, ", "opense", "same-", "mellon"]
    frames = "".join(f'data: {{"delta":{{"content":"{piece}"}}}}\n\n' for piece in pieces)
    found = masked(frames, WORD)
    assert "I am xx" in found
    for piece in ("ne@exam", "ple.com", "opense", "mellon"):
        assert piece not in found


def test_bytes_that_are_no_text_are_masked_too() -> None:
    body = b"\xff\xfe" + KEY.encode() + b"\xe4\xbd"
    found = Mask([]).body(body)
    assert found[:2] == b"\xff\xfe"
    assert found[-2:] == b"\xe4\xbd"
    assert set(found[2:-2]) == {ord("x")}


@pytest.mark.parametrize(
    "piece", [b"a", b"a@", b'"', b"\\", b'"content":"', b"eyJ", b"1.", b"x-", b"%41", b'"seeds"']
)
def test_the_work_is_linear(piece: bytes) -> None:
    """32 KB take about a tenth of a second; quadratic work would take minutes."""
    body = piece * (32_768 // len(piece))
    started = time.process_time()
    Mask([KEY]).body(body)
    assert time.process_time() - started < 4


def test_secrets_are_what_settings_and_logins_hold() -> None:
    given = {
        "API_KEY": "123456",
        "FLOWITH_AUTH_TOKEN": f"Bearer {KEY}, {LOGIN}",
        "OTHER_SECRET": "something",
        "HTTPS_PROXY": "http://me:proxy-password@gate:3128",
        "HOST": "127.0.0.1",
        "SHORT_KEY": "abc",
    }
    found = to_secrets(given, ["a-token-of-a-state-file"])
    assert {KEY, LOGIN, "something", "proxy-password", "a-token-of-a-state-file"} <= found
    assert {LOGIN_ID, "jane@example.com"} <= found
    assert not found & {"123456", "abc", "authenticated", "127.0.0.1"}


def line_of(*blocks: bytes, **more: str) -> bytes:
    coded = [[0.1, base64.b64encode(block).decode()] for block in blocks]
    return json.dumps({**more, "blocks": coded}).encode()


@pytest.mark.parametrize(
    "line",
    [
        line_of(b"x", body=f"it was {WORD}"),
        line_of(b"it was " + WORD.encode()),
        line_of(b"it was opense", b"same-mel", b"lon"),
        line_of(b'{"content":"opense"}\n', b'{"content":"same-mellon"}\n'),
        line_of(base64.b64encode(WORD.encode())),
        line_of(b"o\\u0070ensesame-mellon"),
    ],
    ids=["text", "block", "cut by blocks", "pieces of a text", "base64 in base64", "escaped"],
)
def test_a_secret_in_a_finished_line_is_found(line: bytes) -> None:
    assert find_secret(line, [WORD])
    assert not find_secret(line, ["another-secret"])
