"""Who is let in: Standard Webhooks, and JSON that means one thing only."""

import base64
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge import doors
from aitems_bridge.callers import standard_key
from aitems_bridge.errors import Problem, Refused
from aitems_bridge.record import SECOND
from world import KEY, NOW, OTHER_SECRET, SECRET, SIGNED_AT, sample, signed

BODY = '{"name": "shop-main", "description": "봄 시즌 추천"}'.encode()
KEYS = [standard_key(SECRET)]


def verdict(body: bytes, headers: dict[str, str], now: int = NOW, keys: list[bytes] = KEYS) -> str | Problem:
    """Return the key of a delivery that is let in, else the refusal's problem; nothing else may be raised."""
    try:
        return doors.standard(body, headers, keys, now)
    except doors.SignatureRefused as refusal:
        return refusal.problem


def refused(body: bytes, headers: dict[str, str], now: int = NOW, keys: list[bytes] = KEYS) -> bool:
    """Whether a delivery is turned away, and only as it should be."""
    problem = verdict(body, headers, now, keys)
    return isinstance(problem, Problem) and problem.slug == "signature-refused"


# --- Standard Webhooks --------------------------------------------------------------------------------------------


def test_the_published_vector() -> None:
    """The vector that Standard Webhooks' own libraries are tested with."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    key = doors.standard(b'{"test": 2432232314}', headers, KEYS, 1_614_265_330 * SECOND)
    assert key == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_the_sample_invocation() -> None:
    """``events/webhook-standard.json`` is really signed: good at its time, stale ever since."""
    event = sample("webhook-standard")
    assert verdict(event["body"].encode(), event["headers"]) == KEY
    assert refused(event["body"].encode(), event["headers"], NOW + 301 * SECOND)


@given(
    st.text(st.characters(codec="utf-8")),
    st.from_regex(r"[!-\-/-~]{1,256}", fullmatch=True),
    st.binary(min_size=24, max_size=64),
)
def test_what_the_reference_library_signs_is_let_in(body: str, key: str, secret: bytes) -> None:
    """Any body, any lawful id, any secret of lawful length."""
    whole = "whsec_" + base64.b64encode(secret).decode()
    assert verdict(body.encode(), signed(body.encode(), key=key, secret=whole), keys=[standard_key(whole)]) == key


@given(
    st.sampled_from(["body", "webhook-id", "webhook-timestamp", "webhook-signature"]), st.integers(0), st.integers(0, 7)
)
def test_one_changed_bit_is_refused(where: str, position: int, bit: int) -> None:
    """Body, id, time and signature are bound together: not one bit of any of them can be another."""
    headers = signed(BODY)
    original = BODY if where == "body" else headers[where].encode()
    changed = bytearray(original)
    changed[position % len(changed)] ^= 1 << bit
    if where == "body":
        assert refused(bytes(changed), headers)
    else:
        assert refused(BODY, headers | {where: changed.decode("latin-1")})


@pytest.mark.parametrize(
    ("off", "let_in"),
    [(0, True), (300_000, True), (-300_000, True), (300_001, False), (-300_001, False), (10**9, False)],
)
def test_five_minutes_either_way(off: int, let_in: bool) -> None:
    """Exactly five minutes off is fresh, a millisecond more is not, and the future is no better than the past."""
    verdict_then = verdict(BODY, signed(BODY), SIGNED_AT * SECOND + off)
    assert (verdict_then == KEY) is let_in


def test_the_refusal_tells_the_servers_time_and_nothing_else() -> None:
    """One text for every cause: the time helps who has a wrong clock and tells an attacker nothing."""
    stale = verdict(BODY, signed(BODY, at=SIGNED_AT - 301))
    assert isinstance(stale, Problem)
    assert stale.document() == {
        "type": "urn:aitems-bridge:problem:signature-refused",
        "title": "The signature is not valid",
        "status": 401,
        "detail": "No valid signature within 5 minutes of now (server time 2026-11-23T19:38:24Z).",
        "retryable": "no",
    }
    causes = [{}, signed(BODY, secret=OTHER_SECRET), signed(BODY) | {"webhook-id": "msg_other"}]
    assert all(verdict(BODY, headers) == stale for headers in causes)


def test_several_signatures() -> None:
    """A sender in the middle of a rotation signs with each of its secrets: one that verifies suffices."""
    ours, theirs = signed(BODY)["webhook-signature"], signed(BODY, secret=OTHER_SECRET)["webhook-signature"]
    for signatures in (f"{theirs} {ours}", f"{ours} {theirs}", f"v1a,xyz {ours}", f"v2,{theirs[3:]} {ours} junk"):
        assert verdict(BODY, signed(BODY) | {"webhook-signature": signatures}) == KEY
    assert refused(BODY, signed(BODY) | {"webhook-signature": f"{theirs} {theirs}"})


def test_several_secrets() -> None:
    """While we rotate, whatever any of our secrets makes is let in; when the old one is gone, it no longer is."""
    new, old = standard_key(OTHER_SECRET), standard_key(SECRET)
    assert verdict(BODY, signed(BODY), keys=[new, old]) == KEY
    assert verdict(BODY, signed(BODY, secret=OTHER_SECRET), keys=[new, old]) == KEY
    assert refused(BODY, signed(BODY), keys=[new])
    assert refused(BODY, signed(BODY), keys=[])


def test_other_versions_do_not_count() -> None:
    """Only version 1 is ours to verify: the right digest under another label is no signature."""
    value = signed(BODY)["webhook-signature"].removeprefix("v1,")
    for label in ("v1a", "v2", "V1", "", "v1 "):
        assert refused(BODY, signed(BODY) | {"webhook-signature": f"{label},{value}"})


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": ""},
        {"webhook-id": "with space"},
        {"webhook-id": "with.dot"},
        {"webhook-id": "x" * 257},
        {"webhook-id": "msg\n1"},
        {"webhook-id": "열쇠"},
        {"webhook-id": "\x7f"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "+1795462704"},
        {"webhook-timestamp": " 1795462704"},
        {"webhook-timestamp": "1795462704\n"},
        {"webhook-timestamp": "1795462704.0"},
        {"webhook-timestamp": "1_795_462_704"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "9" * 5000},
        {"webhook-timestamp": "１７９５４６２７０４"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": ",,, ,v1"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": "v1,\udcff"},
    ],
)
def test_malformed_headers_are_refused(headers: dict[str, str]) -> None:
    """A header that is not as the specification has it is a refusal, never another error, signed or not."""
    laid = signed(BODY) | headers
    assert refused(BODY, laid)
    content = f"{laid['webhook-id']}.{laid['webhook-timestamp']}.".encode() + BODY
    made = base64.b64encode(hmac.digest(KEYS[0], content, "sha256")).decode()
    if "webhook-signature" not in headers:
        assert refused(BODY, laid | {"webhook-signature": f"v1,{made}"})


class _Told(bytes):
    """A signature that tells when it is compared in a time that depends on it."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared byte by byte")


@pytest.mark.parametrize("expected", [b"a" * 44, b"b" * 44, b"short"])
def test_comparing_takes_as_long_whatever_is_right(expected: bytes) -> None:
    """Only `hmac.compare_digest` compares, and with each known secret, so that time tells nothing."""
    asked = []

    def others() -> Iterator[bytes]:
        for other in (_Told(expected), _Told(b"c" * 44)):
            asked.append(other)
            yield other

    assert doors.any_verifies([_Told(b"a" * 44)], others()) is (expected == b"a" * 44)
    assert len(asked) == 2


def test_the_cause_is_for_the_log() -> None:
    """What was wrong is told to the operator, and there each cause has its words."""
    causes = set()
    for headers in ({}, {"webhook-id": "a"}, {"webhook-id": "a", "webhook-timestamp": "1"}, signed(b"other")):
        with pytest.raises(doors.SignatureRefused) as refusal:
            doors.standard(BODY, headers, KEYS, NOW)
        causes.add(refusal.value.cause)
    with pytest.raises(doors.SignatureRefused) as refusal:
        doors.standard(BODY, signed(BODY), KEYS, NOW + 301 * SECOND)
    causes.add(refusal.value.cause)
    assert len(causes) == 5
    assert not any(signed(BODY)["webhook-signature"] in cause for cause in causes)


@given(
    st.binary(max_size=50),
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]),
        st.text(st.characters(codec=None)) | st.sampled_from([KEY, str(SIGNED_AT), "v1,AAAA"]),
    ),
)
def test_nobody_else_gets_in(body: bytes, headers: dict[str, str]) -> None:
    """Whatever is thrown at the door, it refuses and does not stumble."""
    assert refused(body, headers)


# --- JSON ---------------------------------------------------------------------------------------------------------


def read(body: bytes) -> dict[str, Any] | str:
    """Return the object that a body is, or the detail of its refusal."""
    try:
        return doors.json_object(body)
    except Refused as refusal:
        return f"{refusal.problem.status} {refusal.problem.slug}: {refusal.problem.detail}"


def test_an_object_is_read_as_it_stands() -> None:
    """Korean text, escapes and nesting mean what JSON says they mean."""
    assert read(BODY) == {"name": "shop-main", "description": "봄 시즌 추천"}
    assert read(b' {"a": [1, 2.5, null, "\\ud55c"], "b": {}} \n') == {"a": [1, 2.5, None, "한"], "b": {}}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "The body is not JSON."),
        (b"name=shop", "The body is not JSON."),
        (b"{'name': 'shop'}", "The body is not JSON."),
        (b'{"name": "shop"} trailing', "The body is not JSON."),
        (b'{"name": "shop",}', "The body is not JSON."),
        (b'{"name": NaN}', "The body is not JSON."),
        (b'{"name": Infinity}', "The body is not JSON."),
        (b'{"name": [-Infinity]}', "The body is not JSON."),
        (b'\xef\xbb\xbf{"name": "shop"}', "The body is not JSON."),
        (b'{"name": "sh\x00op"}', "The body is not JSON."),
        (b"[" * 60_000, "The body is not JSON."),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "The body is not JSON."),
        (b'{"name": ' + b"9" * 60_000 + b"}", "The body is not JSON."),
        (b'{"name": "\xff"}', "The body is not UTF-8."),
        ('{"name": "shop"}'.encode("utf-16"), "The body is not UTF-8."),
        (b'{"name": "\xed\xa0\x80"}', "The body is not UTF-8."),
        (b"[]", "The body is JSON, but not an object."),
        (b"null", "The body is JSON, but not an object."),
        (b'"shop"', "The body is JSON, but not an object."),
        (b"7", "The body is JSON, but not an object."),
        (b'{"name": "a", "name": "b"}', "Member 'name' is given twice."),
        (b'{"name": "a", "\\u006eame": "b"}', "Member 'name' is given twice."),
        (b'{"x": {"y": 1, "z": 2, "y": 1}}', "Member 'y' is given twice."),
        (b'{"\\n' + b"x" * 100 + b'": 1, "\\n' + b"x" * 100 + b'": 1}', rf"Member '\n{'x' * 39}' is given twice."),
    ],
)
def test_what_is_no_object_or_means_two_things(body: bytes, told: str) -> None:
    """Each is refused with 400, what to send instead at its end."""
    assert read(body) == f'400 malformed-request: {told} Send an object such as {{"name": "shop-main"}}.'


@given(st.binary(max_size=200) | st.text(st.sampled_from('{}[]":,\\u0 aNI-19e.'), max_size=60).map(str.encode))
def test_reading_refuses_or_gives_an_object(body: bytes) -> None:
    """Any bytes at all: an object, or a refusal."""
    assert isinstance(read(body), dict | str)


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_what_json_writes_is_read_back(value: dict[str, Any]) -> None:
    """Any object that has each member once is read whole."""
    assert read(json.dumps(value).encode()) == value
    assert read(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value
