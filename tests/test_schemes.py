"""Who is let in by a signature that is not Standard Webhooks': GitHub, any HMAC sender, Slack and NAVER WORKS."""

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge import doors
from aitems_bridge.callers import GithubCaller, HmacCaller, SlackCaller, WorksCaller
from aitems_bridge.errors import Problem, Refused
from aitems_bridge.record import SECOND
from knock import CALLERS, SCHEMES, TIMED, Headers, Scheme, caller_of
from world import NOW, SIGNED_AT, sample

Json = dict[str, Any]

TIMED_SCHEMES = [name for name, scheme in SCHEMES.items() if scheme.time]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
each_timed = pytest.mark.parametrize("scheme", [SCHEMES[name] for name in TIMED_SCHEMES], ids=TIMED_SCHEMES)


# --- documented vectors -------------------------------------------------------------------------------------------


def test_githubs_vector() -> None:
    """The values that GitHub publishes for testing an implementation (validating webhook deliveries)."""
    headers = {
        "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    }
    doors.hmac_signed(doors.GITHUB, b"Hello, World!", headers, ["It's a Secret to Everybody"], NOW)


def test_slacks_vector() -> None:
    """The example that Slack works through in "Verifying requests from Slack"."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
        b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
        b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
        b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    then = 1_531_420_618 * SECOND
    doors.slack(body, headers, ["8f742231b10e8888abcd99yyyzzz85a5"], then)
    with pytest.raises(doors.SignatureRefused):
        doors.slack(body, headers, ["8f742231b10e8888abcd99yyyzzz85a5"], then + 301 * SECOND)


def test_stripes_rule() -> None:
    """Stripe signs ``{timestamp}.{body}`` with the secret as it stands, and puts time and signature into pairs."""
    secret = CALLERS["payments"]["secrets"][0]
    made = hmac.new(secret.encode(), f"{SIGNED_AT}.{{}}".encode(), hashlib.sha256).hexdigest()
    headers = {"stripe-signature": f"t={SIGNED_AT},v1={'0' * 64},v1={made},v0={'1' * 64}"}
    assert SCHEMES["stripe"].lets_in(b"{}", headers)


@pytest.mark.parametrize("name", ["github", "hmac", "slack", "works"])
def test_the_sample_invocations(name: str) -> None:
    """``events/webhook-*.json`` are really signed: the contract's example callers let them in at their time."""
    event = sample(f"webhook-{name}")
    body = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    caller = caller_of(CALLERS[event["pathParameters"]["caller"]])
    assert caller.verify(body, event["headers"], NOW) == event["headers"].get(
        {"github": "x-github-delivery", "hmac": "x-shopify-webhook-id"}.get(name, ""), ""
    )


# --- every scheme -------------------------------------------------------------------------------------------------


@each_scheme
def test_what_the_sender_signs_is_let_in(scheme: Scheme) -> None:
    """With its own secret; with another one, or none at all, it is refused."""
    assert scheme.lets_in(scheme.body, scheme.headers())
    assert not scheme.lets_in(scheme.body, scheme.headers(secret="another-secret-0123456789"))
    assert not scheme.lets_in(scheme.body, {})
    assert not scheme.lets_in(b"", scheme.headers())


@given(st.sampled_from(list(SCHEMES)), st.binary(max_size=300))
def test_any_body_that_is_signed_is_let_in(name: str, body: bytes) -> None:
    """Signatures are over bytes, whatever they mean: nothing is decoded before it is verified."""
    scheme = SCHEMES[name]
    if name == "slack":  # whose library signs text only
        body = body.decode("latin-1").encode()
    assert scheme.lets_in(body, scheme.headers(body=body))


@given(st.sampled_from(list(SCHEMES)), st.integers(0), st.integers(0, 7), st.data())
def test_one_changed_bit_is_refused(name: str, position: int, bit: int, data: st.DataObject) -> None:
    """Body, signed headers and signature are bound together; only a hex digit's case is no change."""
    scheme = SCHEMES[name]
    headers = scheme.headers()
    where = data.draw(st.sampled_from(["body", scheme.signature, *scheme.signed]))
    original = scheme.body if where == "body" else headers[where].encode()
    changed = bytearray(original)
    changed[position % len(changed)] ^= 1 << bit
    if where == "body":
        assert not scheme.lets_in(bytes(changed), headers)
        return
    text = changed.decode("latin-1")
    same = where == scheme.signature and scheme.hex and _is_the_same_in_hex(headers[where], text)
    assert scheme.lets_in(scheme.body, headers | {where: text}) is same


def _is_the_same_in_hex(one: str, other: str) -> bool:
    """Whether two signature headers differ in the case of hex digits only, names and prefixes not among them."""
    names, digits = one.rpartition("=")[::2]
    return other.startswith(f"{names}=") and other.rpartition("=")[2].lower() == digits.lower()


@each_scheme
def test_old_and_new_secret_both_work_during_a_rotation(scheme: Scheme) -> None:
    """Whatever any known secret makes is let in; when the old one is gone, what it makes no longer is."""
    old, new = scheme.entry["secrets"][0], "brand-new-secret-0123456789"
    made_by_old, made_by_new = scheme.headers(), scheme.headers(secret=new)
    for known in ([new, old], [old, new]):
        assert scheme.lets_in(scheme.body, made_by_old, secrets=known)
        assert scheme.lets_in(scheme.body, made_by_new, secrets=known)
    assert not scheme.lets_in(scheme.body, made_by_old, secrets=[new])


@each_timed
@pytest.mark.parametrize("way", [1, -1], ids=["replayed", "from the future"])
def test_a_time_that_is_signed_bounds_a_delivery(scheme: Scheme, way: int) -> None:
    """The tolerance to the millisecond is fresh, past it is not; the future is no better than the past."""
    signed = SIGNED_AT * SECOND
    headers = scheme.headers()
    assert scheme.lets_in(scheme.body, headers, signed + way * 300 * SECOND)
    assert not scheme.lets_in(scheme.body, headers, signed + way * (300 * SECOND + 1))
    assert not scheme.lets_in(scheme.body, headers, signed + way * 10**10)


@pytest.mark.parametrize("name", ["github", "shopify"])
def test_without_a_time_there_is_no_freshness(name: str) -> None:
    """What such a sender signs is good until the secret changes: `callers check` says so."""
    scheme = SCHEMES[name]
    assert scheme.lets_in(scheme.body, scheme.headers(), NOW + 10**11)


@each_timed
def test_a_delivery_is_the_same_whenever_it_is_verified(scheme: Scheme) -> None:
    """A replay inside the window has the same key, so it is the same request."""
    headers = scheme.headers()
    verdicts = {scheme.verdict(scheme.body, headers, NOW + seconds * SECOND) for seconds in (0, 100, 299)}
    assert len(verdicts) == 1
    assert not isinstance(verdicts.pop(), Problem)


@each_scheme
@pytest.mark.parametrize(
    "value",
    ["", " ", "=", ",", ",,=,=", "sha256=", "v0=", "t=", "v1=", "ä", "한글", "\udcff", "\x00", "A" * 10_000, "sha256"],
)
def test_malformed_signatures_are_refused(scheme: Scheme, value: str) -> None:
    """Non-ASCII, empty, endless or of another shape: a refusal and never another error."""
    assert not scheme.lets_in(scheme.body, scheme.headers() | {scheme.signature: value})


@each_scheme
def test_a_repeated_header_is_refused(scheme: Scheme) -> None:
    """The HTTP API joins what is repeated with a comma: two signatures in one header are none."""
    headers = scheme.headers()
    for name in (scheme.signature, *scheme.signed):
        twice = f"{headers[name]},{headers[name]}"
        assert not scheme.lets_in(scheme.body, headers | {name: twice})


@each_scheme
@pytest.mark.parametrize("value", ["", "soon", "-1", "+1", "1.5", " 1", "1e9", "9" * 5000, "１７９５", "1\n"])
def test_malformed_times_are_refused(scheme: Scheme, value: str) -> None:
    """Even where they are rightly signed: a time is digits and nothing else."""
    if scheme.time is None:
        return
    secret = scheme.entry["secrets"][0].encode()
    if scheme.time == "pair":
        made = hmac.new(secret, f"{value}.".encode() + scheme.body, "sha256").hexdigest()
        headers = {scheme.signature: f"t={value},v1={made}"}
    elif scheme.caller == "slack":
        made = hmac.new(secret, f"v0:{value}:".encode() + scheme.body, "sha256").hexdigest()
        headers = {scheme.signature: f"v0={made}", scheme.time: value}
    else:
        made = hmac.new(secret, f"{value}|".encode() + scheme.body, "sha512").hexdigest()
        headers = {scheme.signature: f"v0={made}", scheme.time: value}
    assert not scheme.lets_in(scheme.body, headers)


@given(
    st.sampled_from(list(SCHEMES)),
    st.binary(max_size=50),
    st.dictionaries(
        st.sampled_from(sorted({name for scheme in SCHEMES.values() for name in (scheme.signature, *scheme.signed)})),
        st.text(st.characters(codec=None)) | st.sampled_from([str(SIGNED_AT), "sha256=00", "v0=00", "t=1,v1=00"]),
    ),
)
def test_nobody_else_gets_in(name: str, body: bytes, headers: Headers) -> None:
    """Whatever is thrown at a door, it refuses and does not stumble."""
    assert not SCHEMES[name].lets_in(body, headers)


# --- what is particular -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, "{hex}"),
        ({}, "{HEX}"),
        ({"prefix": "sha256="}, "sha256={hex}"),
        ({"encoding": "base64"}, "{base64}"),
        ({"encoding": "base64", "prefix": "v1 "}, "v1 {base64}"),
        ({"pairs": {"signature": "s"}}, "s={hex}"),
        ({"pairs": {"signature": "s"}}, "x=1, s={hex} ,s=00"),
        ({"pairs": {"signature": "s"}, "encoding": "base64"}, "s={base64}"),
        ({"algorithm": "sha384"}, "{hex}"),
        ({"algorithm": "sha512", "encoding": "base64"}, "{base64}"),
    ],
)
def test_how_an_hmac_may_be_written(settings: Json, header: str) -> None:
    """Header, algorithm, encoding, prefix and pairs, as the entry says; several signatures may stand in pairs."""
    entry = CALLERS["shopfront"] | {"hmac": {"header": "X-Sig", "key": {"header": "X-Id"}} | settings}
    digest = hmac.new(entry["secrets"][0].encode(), b"{}", settings.get("algorithm", "sha256")).digest()
    forms = {"hex": digest.hex(), "HEX": digest.hex().upper(), "base64": base64.b64encode(digest).decode()}
    value = header.format(**forms)
    caller = caller_of(entry)
    assert caller.verify(b"{}", {"x-sig": value, "x-id": "d1"}, NOW) == "d1"
    digits = forms["base64"] if "base64" in header else forms["HEX" if "HEX" in header else "hex"]
    for wrong in (digits[:-3], digits + "0", "0" + digits[:-1], "é" + digits[1:], ""):
        with pytest.raises(doors.SignatureRefused):
            caller.verify(b"{}", {"x-sig": value.replace(digits, wrong), "x-id": "d1"}, NOW)


@pytest.mark.parametrize("separator", [".", ":", "|"])
@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
def test_where_a_time_is_signed(separator: str, unit: int) -> None:
    """Before the body, after one of three separators; in seconds or milliseconds, told by magnitude."""
    settings = {"header": "X-Sig", "timestamp_header": "X-Time", "content": f"{{timestamp}}{separator}{{body}}"}
    entry = CALLERS["shopfront"] | {"hmac": settings | {"key": {"header": "X-Id"}, "tolerance": 30}}
    sent = str(SIGNED_AT * unit)
    made = hmac.new(entry["secrets"][0].encode(), f"{sent}{separator}{{}}".encode(), "sha256").hexdigest()
    headers = {"x-sig": made, "x-time": sent, "x-id": "d1"}
    assert caller_of(entry).verify(b"{}", headers, SIGNED_AT * SECOND + 30_000) == "d1"
    with pytest.raises(doors.SignatureRefused):
        caller_of(entry).verify(b"{}", headers, SIGNED_AT * SECOND + 30_001)


@pytest.mark.parametrize("value", [None, "", "with space", "x" * 257, "한글", "a\n"])
@pytest.mark.parametrize("name", ["github", "shopify"])
def test_a_delivery_without_a_usable_id_is_malformed(name: str, value: str | None) -> None:
    """A signature that is right and an id that is none: 400, for nothing could tell it from another delivery."""
    scheme = SCHEMES[name]
    header = "x-github-delivery" if name == "github" else "x-shopify-webhook-id"
    headers = {key: text for key, text in (scheme.headers() | {header: value}).items() if text is not None}
    with pytest.raises(Refused) as refused:
        caller_of(scheme.entry).verify(scheme.body, headers, NOW)
    assert refused.value.problem.slug == "malformed-request"


@pytest.mark.parametrize(("found", "key"), [("evt_1", "evt_1"), (7, "7"), (0, "0")])
def test_a_key_in_the_body(found: object, key: str) -> None:
    """What is signed tells deliveries apart best; a whole number is as good as a text."""
    caller = caller_of(TIMED)
    assert isinstance(caller, HmacCaller)
    assert caller.key_in({"id": found}) == key


@pytest.mark.parametrize("found", [None, "", "a b", True, 1.5, ["x"], {}, "x" * 257, "한글"])
def test_a_key_in_the_body_that_is_none(found: object) -> None:
    """400, and the expression is named, so that the operator knows where to look."""
    caller = caller_of(TIMED)
    assert isinstance(caller, HmacCaller)
    with pytest.raises(Refused) as refused:
        caller.key_in({"id": found})
    assert refused.value.problem.status == 400
    assert "(id)" in refused.value.problem.detail


@pytest.mark.parametrize("bot", ["2000002", "", "2000001 ", "０"])
def test_another_bots_message_is_refused(bot: str) -> None:
    """The bot's id is no secret, but it must be this one's."""
    scheme = SCHEMES["works"]
    assert not scheme.lets_in(scheme.body, scheme.headers() | {"x-works-botid": bot})


@pytest.mark.parametrize(
    ("issued", "fresh"),
    [
        ("2026-11-23T19:38:24.981Z", True),
        ("2026-11-23T19:38:24Z", True),
        ("2026-11-24T04:38:24.981+09:00", True),
        ("2026-11-23T19:33:24.981Z", True),
        ("2026-11-23T19:43:24.981Z", True),
        ("2026-11-23T19:33:24.980Z", False),
        ("2026-11-23T19:43:24.982Z", False),
        ("2026-11-23T19:38:24.981", False),
        ("20261123", False),
        ("now", False),
        ("", False),
        (None, False),
        (SIGNED_AT, False),
        ("0001-01-01T00:00:00+23:59", False),
        ("9999-12-31T23:59:59-23:59", False),
        ("2026-11-23T19:38:24Z" + "0" * 5000, False),
    ],
)
def test_a_messages_time_bounds_it(issued: object, fresh: bool) -> None:
    """``issuedTime`` is signed with the body: five minutes either way, with a zone, and nothing else is a time."""
    try:
        doors.check_issued(issued, NOW)
    except doors.SignatureRefused:
        assert not fresh
    else:
        assert fresh


@given(
    st.text() | st.none() | st.integers() | st.datetimes(timezones=st.timezones()).map(lambda when: when.isoformat())
)
def test_any_time_is_a_time_or_refused(issued: object) -> None:
    """The ends of the calendar included."""
    try:
        doors.check_issued(issued, NOW)
    except doors.SignatureRefused:
        return


def test_who_may_ask_where() -> None:
    """Team or domain always count; channels and people only where the entry names them."""
    slack, works = caller_of(CALLERS["slack"]), caller_of(CALLERS["works"])
    assert isinstance(slack, SlackCaller)
    assert isinstance(works, WorksCaller)
    assert slack.admits("T1DC2JH3J", "G8PSS9T3V", "anyone")
    assert not slack.admits("T2", "G8PSS9T3V", "anyone")
    assert not slack.admits("T1DC2JH3J", "elsewhere", "anyone")
    assert works.admits(40_029_600, None, "anyone")
    assert not works.admits("40029600", None, "anyone")
    assert not works.admits(None, None, "anyone")
    chosen = caller_of(CALLERS["works"] | {"works": {"bot_id": "1", "domains": [1], "users": ["u"], "channels": ["c"]}})
    assert isinstance(chosen, WorksCaller)
    assert chosen.admits(1, "c", "u")
    assert not chosen.admits(1, None, "u")
    assert not chosen.admits(1, "c", "other")


@pytest.mark.parametrize("domain", [True, 1.0])
def test_a_domain_is_a_number_of_its_own_kind(domain: object) -> None:
    """JSON's ``true`` and ``1.0`` are not the domain 1."""
    works = caller_of(CALLERS["works"] | {"works": {"bot_id": "1", "domains": [1]}})
    assert isinstance(works, WorksCaller)
    assert not works.admits(domain, None, "u")


def test_githubs_other_events_are_none_of_ours() -> None:
    """``ping`` is a pong; what is not listed is named; what is listed is taken."""
    github = caller_of(CALLERS["deploys"])
    assert isinstance(github, GithubCaller)
    assert github.ignored({"x-github-event": "ping"}) == "pong"
    assert github.ignored({"x-github-event": "push"}) == "event 'push' is not among this caller's events"
    assert github.ignored({}) is not None
    assert github.ignored({"x-github-event": "deployment"}) is None
