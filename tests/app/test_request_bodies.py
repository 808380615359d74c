"""Checks of request bodies and of the Origin header."""

import json

import pytest

import countgen
from countgen.app.demo.limits import RefusedError
from countgen.app.demo.request_bodies import UnknownFunctionError, check_call, check_cancel
from countgen.app.demo.route_allow_list import is_foreign
from countgen.app.demo.session import Session, UploadedTokens

FUNCTIONS = [0, 1, 2, "parse", "generate"]
PLAIN = {"data": ["seven apples", "miniature", None, True, 7, 2.5, ["apple", "cat"]], "fn_index": 1}


def body(**changed: object) -> bytes:
    return json.dumps(PLAIN | changed).encode()


ACCEPTED = [
    body(),
    body(trigger_id=31, session_hash="k3-a_9", event_id="0" * 32, event_data={"index": 2}),
    body(event_data={"data": "QUJD" * 1000}),
    body(event_data="a photo of seven apples"),
    body(event_data=["apple", "cat"]),
    body(data=["größer 🍎"]),
]


def test_requests_of_the_page_pass(subtests: pytest.Subtests) -> None:
    for content in ACCEPTED:
        with subtests.test(content=content[:40]):
            check_call(content, FUNCTIONS, None)


def test_the_function_may_be_named_in_the_path() -> None:
    check_call(b'{"data": []}', FUNCTIONS, "parse")
    for named in ("other", None):
        with pytest.raises(UnknownFunctionError):
            check_call(b'{"data": []}', FUNCTIONS, named)
    check_call(b'{"data": [], "fn_index": 1}', FUNCTIONS, "predict")  # as the page calls a function outside the queue
    with pytest.raises(UnknownFunctionError):
        check_call(b'{"data": []}', FUNCTIONS, "predict")
    with pytest.raises(UnknownFunctionError):  # a number in the body does not make another route known
        check_call(b'{"data": [], "fn_index": 1}', FUNCTIONS, "v2/parse")


REFUSED = [
    b"",
    b"no json",
    b"[]",
    b"null",
    b'{"data": ["a"], "data": [{"path": "x"}], "fn_index": 1}',
    b"[" * 100_000,
    b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b', "fn_index": 1}',
    b'{"data": [' + b"1" * 5000 + b'], "fn_index": 1}',
    b'{"data": [1e400], "fn_index": 1}',
    b'{"data": [1' + b"0" * 400 + b'], "fn_index": 1}',
    b'{"data": [NaN], "fn_index": 1}',
    b'{"data": ["\\ud800"], "fn_index": 1}',
    json.dumps(PLAIN).encode("utf-16"),
    b"\xef\xbb\xbf" + body(),
    body(data=None),
    body(data={"0": "a"}),
    body(data=[{}]),
    body(data=[["a", ["b"]]]),
    body(data=[["a"] * 65]),
    body(data=[1] * 17),
    body(data=[2**53 + 1]),
    body(event_data=[["a"]]),
    body(event_data=[{"path": "x"}]),
    body(event_data={"data": {"path": "x"}}),
    body(fn_index="1"),
    body(fn_index=True),
    body(fn_index=1.0),
    body(fn_index=-1),
    body(trigger_id=[3]),
    body(session_hash=7),
    body(session_hash="../x"),
    body(session_hash="a" * 65),
    body(session_hash="a\n"),
    body(batched=True),
    body(simple_format=True),
    body(oauth_token="x"),
    body(request={}),
]


def test_other_requests_are_refused(subtests: pytest.Subtests) -> None:
    for content in REFUSED:
        with subtests.test(content=content[:40]), pytest.raises(RefusedError):
            check_call(content, FUNCTIONS, None)


def test_a_cancel_request_holds_identifiers_only() -> None:
    check_cancel(b'{"session_hash": "a", "fn_index": 2, "event_id": "b"}')
    for wrong in (b'{"session_hash": {}}', b'{"data": []}', b"x"):
        with pytest.raises(RefusedError):
            check_cancel(wrong)


HEADERS = [
    ({b"host": b"127.0.0.1:7860"}, False),
    ({b"host": b"127.0.0.1:7860", b"origin": b"http://127.0.0.1:7860"}, False),
    ({b"host": b"Demo.example", b"origin": b"https://demo.EXAMPLE"}, False),
    ({b"host": b"10.0.0.1:7860", b"x-forwarded-host": b"demo.example", b"origin": b"https://demo.example"}, False),
    ({b"host": b"127.0.0.1:7860", b"origin": b"http://localhost:7860"}, True),
    ({b"host": b"127.0.0.1:7860", b"origin": b"http://127.0.0.1:8888"}, True),
    ({b"host": b"127.0.0.1:7860", b"origin": b"null"}, True),
    ({b"host": b"127.0.0.1:7860", b"origin": b""}, True),
    ({b"host": b"127.0.0.1:7860", b"origin": b"http://["}, True),
    ({b"host": b"", b"origin": b"null"}, True),
    ({b"host": b"demo.example", b"origin": b"https://demo.example.evil.example"}, True),
    ({b"host": b"demo.example", b"origin": b"https://demo.example@evil.example"}, True),
]


def test_only_pages_of_this_host_are_not_foreign(subtests: pytest.Subtests) -> None:
    for headers, foreign in HEADERS:
        with subtests.test(headers=headers):
            assert is_foreign(headers) is foreign


def test_the_oldest_uploads_of_all_visitors_are_dropped() -> None:
    files, token = UploadedTokens(max_bytes=250), countgen.find_token("count-5", "miniature")
    visitors = [Session() for _ in range(4)]
    for visitor in visitors[:3]:
        files.keep(visitor, visitor.keep_token("from a file", token, 8), 100)
    assert [len(visitor.tokens) for visitor in visitors] == [0, 1, 1, 0]
    visitors[0].tokens["count-5, from a file"] = token
    files.keep(visitors[3], visitors[3].keep_token("from a file", token, 8), 250)
    assert [len(visitor.tokens) for visitor in visitors] == [1, 0, 0, 1]
