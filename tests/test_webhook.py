"""The HTTP door: the order of its checks, and every answer it gives."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitems_bridge import config, webhook
from aitems_bridge.callers import Callers
from aitems_bridge.record import MINUTE, SECOND, State
from aitems_bridge.webhook import Preference, preference
from aitems_local.emulator import Emulator, Fault
from aws import Aws, Context, running
from world import KEY, KEYS, OTHER_SECRET, REQUEST_ID, SECRET, SIGNED_AT, Answer, World, get, post, sample

BODY = {"name": "shop-main", "description": "봄 시즌 추천"}
ENTRY: dict[str, Any] = {"scheme": "standard", "secrets": [SECRET]}
LOCATION = f"/hooks/backoffice/requests/{REQUEST_ID}"


@pytest.fixture
def world() -> Iterator[World]:
    """Give the bridge with one caller, ``backoffice``."""
    with World() as running:
        yield running


def with_caller(**members: object) -> World:
    """Return the bridge with another kind of ``backoffice``."""
    return World({"backoffice": ENTRY | members})


# --- created ------------------------------------------------------------------------------------------------------


def test_the_sample_invocation_creates_a_service(world: World) -> None:
    """201 with AiTEMS's own answer; where it is to be found later, and which request it was."""
    answer = world.answer(sample("webhook-standard"))
    (made,) = world.emulator.services
    assert answer.status == 201
    assert answer.document["serviceId"] == made.service_id
    assert (made.name, made.description, made.type) == ("shop-main", "봄 시즌 추천", "batch")
    assert answer.headers == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Location": LOCATION,
        "X-Request-Id": REQUEST_ID,
    }
    assert world.record.id == REQUEST_ID
    assert world.record.state is State.CREATED


def test_aitems_answer_is_passed_on_as_it_came() -> None:
    """Unknown fields, numbers and all: the body is AiTEMS's text."""
    extra = {"price": 1.10, "big": 12345678901234567890123, "owner": {"이름": None}}
    with World(extra_fields=extra) as world:
        answer = world.answer(post(BODY))
    assert {name: answer.document[name] for name in extra} == extra
    assert answer.text == world.record.answer


def test_the_same_key_again_is_the_same_answer(world: World) -> None:
    """A replay is answered from the ledger: the same service, no call, and it says so."""
    first = world.answer(post(BODY))
    again = world.answer(post(BODY))
    assert (again.status, again.text) == (first.status, first.text)
    assert again.headers == first.headers | {"Idempotency-Replayed": "true"}
    assert world.posts == 1


def test_the_same_request_in_other_words_is_no_reuse(world: World) -> None:
    """What counts is what is asked for: spacing, order, composed or decomposed text and said defaults do not."""
    first = world.answer(post(BODY))
    bodies = [
        b'{ "description" : "\\ubd04 \\uc2dc\\uc98c \\ucd94\\ucc9c", "type": "batch", "name": "shop-main" }',
        '{"name": "shop-main", "description": "봄 시즌 추천"}'.encode(),
    ]
    assert [world.answer(post(body)).text for body in bodies] == [first.text] * 2


def test_a_key_used_for_something_else_is_refused(world: World) -> None:
    """The first request stands; the other one is told to take another key."""
    world.answer(post(BODY))
    answer = world.answer(post(BODY | {"type": "interval"}))
    assert (answer.status, answer.slug) == (422, "key-reused")
    assert answer.document["request_id"] == answer.headers["X-Request-Id"] == REQUEST_ID
    assert world.posts == 1


def test_keys_of_different_callers_are_different_keys() -> None:
    """A key is its caller's: nobody can see or block another's request by guessing its key."""
    with World({"backoffice": ENTRY, "shop": ENTRY}) as world:
        one, other = world.answer(post(BODY)), world.answer(post({"name": "blog-main"}, caller="shop"))
    assert (one.status, other.status) == (201, 201)
    assert one.headers["X-Request-Id"] != other.headers["X-Request-Id"]
    assert other.headers["Location"].startswith("/hooks/shop/requests/")


def test_a_body_in_base64_is_the_same_body(world: World) -> None:
    """The HTTP API encodes what it takes for binary; the signature is over the decoded bytes."""
    assert world.answer(post(BODY, encoded=True)).status == 201


def test_header_names_in_any_case() -> None:
    """HTTP's header names have no case."""
    with World() as world:
        event = post(BODY)
        event["headers"] = {name.upper(): value for name, value in event["headers"].items()}
        assert world.answer(event).status == 201


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/cloudevents+json",
        "text/vnd.x+json",
    ],
)
def test_media_types_that_are_json(media_type: str, world: World) -> None:
    """``application/json`` and anything ``+json``, in UTF-8 or without saying."""
    assert world.answer(post(BODY, headers={"content-type": media_type})).status == 201


def test_defaults_of_the_caller_are_part_of_the_request() -> None:
    """They fill what is absent, and then the rules and the list of names apply."""
    with with_caller(defaults={"type": "interval", "description": "d"}, allow=["shop-*"]) as world:
        assert world.answer(post({"name": "shop-main"})).document["type"] == "interval"
        assert world.record.command == {"name": "shop-main", "description": "d", "type": "interval"}


# --- refused ------------------------------------------------------------------------------------------------------


def test_a_name_that_aitems_has_is_refused_for_good(world: World) -> None:
    """422 with what AiTEMS said, and the same on every replay: a rejection is final."""
    world.emulator.by_hand("shop-main")
    first, again = world.answer(post(BODY)), world.answer(post(BODY))
    assert (first.status, first.slug) == (422, "duplicate-name")
    assert first.document["upstream"]["code"] == "DUPLICATE_NAME"
    assert first.document["request_id"] == first.headers["X-Request-Id"] == REQUEST_ID
    assert first.headers["Location"] == LOCATION
    assert "Idempotency-Replayed" not in first.headers
    assert (again.status, again.text) == (first.status, first.text)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert world.posts == 1


def test_a_request_that_breaks_the_rules_is_not_recorded(world: World) -> None:
    """All violations at once, word for word as the contract has them; the key stays unused."""
    answer = world.answer(post({"name": "ab", "type": "realtime"}))
    assert answer.status == 422
    assert answer.headers == {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    assert answer.document == {
        "type": "urn:aitems-bridge:problem:invalid-request",
        "title": "The request does not describe a service",
        "status": 422,
        "detail": "2 fields are wrong.",
        "retryable": "no",
        "errors": [
            {"pointer": "#/name", "rule": "minLength", "detail": "'ab' has 2 characters; 3 to 20 are needed"},
            {"pointer": "#/type", "rule": "enum", "detail": "'realtime' is not one of batch, interval"},
        ],
    }
    assert list(world.ledger.scan()) == []
    assert world.answer(post(BODY)).status == 201


OVERSIZED = b'{"name": "shop-main", "description": "' + b"x" * 65_536 + b'"}'
UNSIGNED = {"webhook-signature": "v1,AAAA"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("event", "status", "slug"),
    [
        (post(OVERSIZED, caller="nobody"), 404, "unknown-caller"),
        (post(BODY, caller="Backoffice"), 404, "unknown-caller"),
        (post(BODY, caller="../backoffice"), 404, "unknown-caller"),
        (post(BODY, caller=""), 404, "unknown-caller"),
        (post(OVERSIZED, caller="off"), 503, "caller-unavailable"),
        (post(OVERSIZED, caller="broken"), 503, "caller-unavailable"),
        (post(OVERSIZED, headers=UNSIGNED), 413, "body-too-large"),
        (post(OVERSIZED, encoded=True), 413, "body-too-large"),
        (post(b"{", headers=UNSIGNED | FORM), 401, "signature-refused"),
        (post(BODY, headers={"webhook-id": ""}), 401, "signature-refused"),
        (post(BODY, headers={"webhook-signature": ""}), 401, "signature-refused"),
        (post(BODY, secret=OTHER_SECRET), 401, "signature-refused"),
        (post(BODY, at=SIGNED_AT - 400), 401, "signature-refused"),
        (post(b"{", headers=FORM), 415, "unsupported-media-type"),
        (post(BODY, headers={"content-type": ""}), 415, "unsupported-media-type"),
        (post(BODY, headers={"content-type": "text/plain"}), 415, "unsupported-media-type"),
        (post(BODY, headers={"content-type": "application/jsonp"}), 415, "unsupported-media-type"),
        (post(BODY, headers={"content-type": "application/json; charset=euc-kr"}), 415, "unsupported-media-type"),
        (post(BODY, headers={"content-encoding": "gzip"}), 415, "unsupported-media-type"),
        (post(b""), 400, "malformed-request"),
        (post(b'{"name": "shop-main", "name": "b"}'), 400, "malformed-request"),
        (post(b"\xff", encoded=True), 400, "malformed-request"),
        (post({"name": "x", "description": 1}), 422, "invalid-request"),
        (post({"name": "blog-main", "type": "realtime"}), 422, "invalid-request"),
        (post({"name": "blog-main"}), 403, "name-not-allowed"),
        (post({"name": "Shop-main"}), 403, "name-not-allowed"),
    ],
)  # fmt: skip
def test_the_order_of_the_checks(event: dict[str, Any], status: int, slug: str) -> None:
    """Whatever else is wrong, the first check that fails answers; nothing is recorded and nothing called."""
    entries = {"backoffice": ENTRY | {"allow": ["shop-*"]}, "off": ENTRY | {"enabled": False}, "broken": {}}
    with World(entries) as world:
        answer = world.answer(event)
        assert (answer.status, answer.slug) == (status, slug)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers.get("Retry-After") == ("300" if status == 503 else None)
        assert list(world.ledger.scan()) == []
        assert world.emulator.calls == ()


def test_a_body_that_claims_to_be_base64_and_is_not(world: World) -> None:
    """It cannot be read; nobody but API Gateway itself could send such a thing."""
    event = post(BODY) | {"isBase64Encoded": True, "body": "*"}
    assert world.answer(event).slug == "malformed-request"


def test_exactly_the_most_bytes(world: World) -> None:
    """65,536 decoded bytes are taken, one more is not, however they are encoded on the way."""
    body = json.dumps(BODY).encode()
    for encoded in (False, True):
        assert world.answer(post(body.ljust(65_536), encoded=encoded)).status == 201
        assert world.answer(post(body.ljust(65_537), encoded=encoded)).status == 413


def test_nothing_recorded_is_said_so(world: World) -> None:
    """When the ledger is down the caller hears that nothing is sure, and that the same key is safe."""
    world.ledger.down = True
    answer = world.answer(post(BODY))
    assert (answer.status, answer.slug) == (503, "not-recorded")
    assert answer.headers["Retry-After"] == "5"
    assert answer.document["retryable"] == "yes"
    assert world.posts == 0
    world.ledger.down = False
    assert world.answer(post(BODY)).status == 201


# --- not settled yet ----------------------------------------------------------------------------------------------


def test_not_waiting_at_all(world: World) -> None:
    """With ``respond-async`` the request is recorded and nothing more; the worker does the rest."""
    answer = world.answer(post(BODY, headers={"prefer": "respond-async"}))
    assert answer.status == 202
    assert answer.headers == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Location": LOCATION,
        "X-Request-Id": REQUEST_ID,
        "Preference-Applied": "respond-async",
        "Retry-After": "5",
    }
    assert world.posts == 0
    advice = "Accepted. The outcome will be announced on the event bus. Do not send this request under another key."
    document = answer.document
    assert document.pop("requested_at").startswith("2026-11-23T19:38:2")
    assert document == {
        "request_id": REQUEST_ID,
        "state": "received",
        "name": "shop-main",
        "channel": "standard",
        "caller": "backoffice",
        "settled_at": None,
        "attempts": 0,
        "adopted": False,
        "service": None,
        "problem": None,
        "last_problem": None,
        "advice": advice,
    }
    world.work()
    assert world.answer(post(BODY)).status == 201


def test_too_short_a_wait_to_send_leaves_it_to_the_worker(world: World) -> None:
    """A creation is never cut short: with little time the worker sends it, and the answer waits for that."""
    answer = world.answer(post(BODY, headers={"prefer": "wait=3"}))
    assert (answer.status, answer.headers["Preference-Applied"]) == (201, "wait=3")
    assert world.naps


def test_a_name_in_use_is_told_at_once(world: World) -> None:
    """A name in use keeps the second request waiting, but not its caller: 202, and why."""
    world.worker_runs = False
    world.emulator.add_faults(Fault("close_after"))
    assert world.answer(post(BODY)).status == 202
    answer = world.answer(post(BODY, key="msg_second", headers={"prefer": "respond-async, wait=15"}))
    assert (answer.status, answer.headers["Retry-After"]) == (202, "5")
    assert answer.headers["Preference-Applied"] == "respond-async, wait=15"
    assert answer.document["last_problem"]["type"] == "urn:aitems-bridge:problem:name-in-use"
    assert world.naps == []
    assert world.posts == 1


def test_an_outcome_that_is_not_known(world: World) -> None:
    """202 and a longer wait before asking again; a replay is not 409, and never a second creation."""
    world.emulator.add_faults(Fault("close_after"))
    first = world.answer(post(BODY))
    assert (first.status, first.headers["Retry-After"]) == (202, "30")
    document = first.document
    assert (document["state"], document["attempts"]) == ("unknown", 1)
    assert document["last_problem"]["type"] == "urn:aitems-bridge:problem:outcome-unknown"
    assert document["last_problem"]["retryable"] == "same-key-only"
    again = world.answer(post(BODY))
    assert (again.status, again.document["state"]) == (202, "unknown")
    assert "Idempotency-Replayed" not in again.headers
    assert world.posts == 1
    world.work()
    adopted = world.answer(post(BODY))
    assert (adopted.status, adopted.headers["Idempotency-Replayed"]) == (201, "true")
    assert world.record.adopted
    assert len(world.emulator.services) == 1


def test_a_request_that_was_given_up_is_revived_by_its_key(world: World) -> None:
    """The same key, sent again after ``failed``, is a redrive."""
    world.emulator.add_faults(Fault("error_before", status=429, times=None))
    world.answer(post(BODY))
    world.clock.advance(7 * 3600)
    world.work()
    assert str(world.record.state) == "failed"
    world.emulator.clear_faults()
    world.emulator.configure(clock_skew=world.clock.shift / SECOND)
    answer = world.answer(post(BODY, at=world.clock() // SECOND))
    assert (answer.status, answer.document["state"]) == (202, "received")
    world.work()
    assert world.record.state is State.CREATED


def test_little_time_left_is_not_used_for_sending(world: World) -> None:
    """A process that is about to end records, and leaves the creation to another."""
    answer = Answer(world.webhook.answer(post(BODY), world.clock() + 8 * SECOND))
    assert answer.status == 201
    assert world.ledger.writes[0].state is State.RECEIVED


# --- answers to a delivery ----------------------------------------------------------------------------------------


def test_delivery_mode_answers_200_for_whatever_is_recorded() -> None:
    """A sender that only knows "arrived" must not take a rejection for a failed delivery."""
    with with_caller(answer="delivery") as world:
        created = world.answer(post(BODY))
        rejected = world.answer(post(BODY, key="msg_second"))
        assert (created.status, created.document["state"]) == (200, "created")
        assert created.document["service"]["name"] == "shop-main"
        assert (rejected.status, rejected.document["state"]) == (200, "rejected")
        assert rejected.document["problem"]["type"] == "urn:aitems-bridge:problem:duplicate-name"
        assert rejected.headers["Content-Type"] == "application/json"
        assert world.answer(post(BODY, secret=OTHER_SECRET)).status == 401
        assert world.answer(post(BODY, caller="nobody")).status == 404


def test_delivery_mode_says_202_while_open() -> None:
    """Open is open, whoever asks."""
    with with_caller(answer="delivery", wait=0) as world:
        assert world.answer(post(BODY)).status == 202


def test_delivery_mode_records_what_is_invalid() -> None:
    """Nobody reads the answer, so it is recorded and announced as rejected, as on the bus (contracts, section 1)."""
    with with_caller(answer="delivery") as world:
        answer = world.answer(post({"name": "x"}))
        assert (answer.status, answer.document["state"]) == (200, "rejected")
        assert world.record.state is State.REJECTED


def test_an_invalid_delivery_that_comes_again_changes_nothing() -> None:
    """One rejection, one announcement; what is sent next under that key is another request, and refused."""
    with with_caller(answer="delivery") as world:
        first, again = (world.answer(post({"name": "x"})) for _ in range(2))
        assert (again.status, again.document) == (first.status, first.document)
        assert len(world.ledger.writes) == 1
        assert world.answer(post(BODY)).slug == "key-reused"
        assert world.answer(post(BODY, key="msg_second")).document["state"] == "created"


def test_an_invalid_delivery_that_comes_again_says_so() -> None:
    """``Idempotency-Replayed`` stands on any replay (contracts, section 1)."""
    with with_caller(answer="delivery") as world:
        world.answer(post({"name": "x"}))
        assert world.answer(post({"name": "x"})).headers.get("Idempotency-Replayed") == "true"


# --- anything at all ----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_no_signed_body_breaks_the_door() -> None:
    """Whatever a lawful caller sends: an answer of the contract's, never a 5xx, never an exception."""
    with World() as world:
        world.worker_runs = False

        @settings(max_examples=60, deadline=None)
        @given(
            st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
            st.text(),
            st.integers(0),
        )
        def holds(body: bytes, prefer: str, key: int) -> None:
            answer = world.answer(post(body, encoded=True, key=f"msg_{key}", headers={"prefer": prefer}))
            assert answer.status in (400, 422)
            assert answer.slug in ("malformed-request", "invalid-request")

        holds()


def test_no_unsigned_call_breaks_the_door() -> None:
    """Whatever a stranger sends: it is turned away, and neither the ledger nor AiTEMS hears of it."""
    names = (
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "prefer"]) | st.text()
    )
    with World() as world:

        @settings(max_examples=100, deadline=None)
        @given(
            st.dictionaries(names, st.text()),
            st.text() | st.none(),
            st.booleans(),
            st.sampled_from(["backoffice", "nobody"]) | st.text(),
            st.none() | st.text(),
        )
        def holds(
            headers: dict[str, str], body: str | None, encoded: bool, caller: str, request_id: str | None
        ) -> None:
            parameters = {"caller": caller} | ({} if request_id is None else {"request_id": request_id})
            event = {"headers": headers, "pathParameters": parameters, "body": body, "isBase64Encoded": encoded}
            assert world.answer(event).slug in ("unknown-caller", "signature-refused", "malformed-request")

        holds()
        assert world.ledger.writes == []
        assert world.emulator.calls == ()


# --- asking -------------------------------------------------------------------------------------------------------


def test_a_caller_may_ask_after_its_request(world: World) -> None:
    """Signed over the request's id; always 200 with the status document."""
    world.answer(post(BODY))
    answer = world.answer(get(REQUEST_ID))
    assert answer.status == 200
    assert answer.headers == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "X-Request-Id": REQUEST_ID,
    }
    assert answer.document["state"] == "created"
    assert answer.document["service"]["name"] == "shop-main"
    assert answer.document["settled_at"] >= answer.document["requested_at"]


def test_who_may_ask() -> None:
    """Only the caller itself, under a signature made for this request, and with no body."""
    with World({"backoffice": ENTRY, "shop": ENTRY}) as world:
        world.answer(post(BODY))
        assert world.answer(get(REQUEST_ID, caller="shop")).slug == "unknown-request"
        assert world.answer(get("a" * 52)).slug == "unknown-request"
        assert world.answer(get("name#shop-main")).slug == "unknown-request"
        assert world.answer(get(REQUEST_ID, caller="nobody")).slug == "unknown-caller"
        assert world.answer(get(REQUEST_ID, key=KEY)).slug == "signature-refused"
        assert world.answer(get(REQUEST_ID, body=b"{}")).slug == "signature-refused"
        assert world.answer(get(REQUEST_ID, at=SIGNED_AT - 400)).slug == "signature-refused"
        world.ledger.down = True
        assert world.answer(get(REQUEST_ID)).slug == "not-recorded"


# --- callers that change ------------------------------------------------------------------------------------------


def test_a_new_caller_works_at_once(world: World) -> None:
    """An unknown caller has the document read early, so that nobody waits for a cache."""
    assert world.answer(post(BODY)).status == 201
    world.vault.text = json.dumps({"backoffice": ENTRY, "shop": ENTRY})
    assert world.answer(post({"name": "blog-main"}, caller="shop")).status == 201


def test_a_rotated_secret_works_at_once(world: World) -> None:
    """A signature that no kept secret makes has the document read early; a forged one stays refused."""
    assert world.answer(post(BODY)).status == 201
    world.vault.text = json.dumps({"backoffice": ENTRY | {"secrets": [OTHER_SECRET]}})
    assert world.answer(post(BODY)).status == 201
    assert world.answer(post({"name": "blog-main"}, key="msg_2", secret=OTHER_SECRET)).status == 201
    assert world.answer(post({"name": "blog-main"}, key="msg_3")).slug == "signature-refused"


def test_a_caller_that_was_removed_is_gone_once_that_is_known(world: World) -> None:
    """A refused signature learns of it first."""
    world.answer(post(BODY))
    world.vault.text = json.dumps({"shop": ENTRY})
    assert world.answer(post(BODY, secret=OTHER_SECRET)).slug == "unknown-caller"


def test_strangers_cannot_have_the_secret_read_at_will(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many knock without a key or a name, the secret is read early once in 30 s."""
    reads: list[str] = []

    class Provider:
        def has_not_expired_in_cache(self, _key: object) -> bool:
            return bool(reads)

        def get(self, arn: str, *, max_age: int, force_fetch: bool) -> str:
            assert max_age == 300
            if force_fetch or not reads:
                reads.append(arn)
            return world.vault.text

    monkeypatch.setenv("CALLERS_SECRET_ARN", "arn")
    seconds = [0.0]
    secret = config.Secret("CALLERS_SECRET_ARN", monotonic=lambda: seconds[0], provider=Provider())
    callers = Callers(lambda early: secret.text(early=early), lambda *_: None)
    door = webhook.Webhook(world.bridge, callers, world.clock)
    for number in range(20):
        forged = post(BODY, secret=OTHER_SECRET) if number % 2 else post(BODY, caller="nobody")
        assert door.answer(forged, world.clock() + MINUTE)["statusCode"] in (401, 404)
    assert len(reads) == 2
    seconds[0] += 30
    door.answer(post(BODY, secret=OTHER_SECRET), world.clock() + MINUTE)
    assert len(reads) == 3


def test_a_document_that_broke_turns_nobody_away(world: World) -> None:
    """The last good one stays in force; a process that never saw a good one answers 503."""
    assert world.answer(post(BODY)).status == 201
    world.vault.text = "{"
    assert world.answer(post(BODY, secret=OTHER_SECRET)).status == 401
    assert world.answer(post(BODY)).status == 201
    assert ("", "callers document unreadable") in world.reports
    with World() as cold:
        cold.vault.text = "{"
        answer = cold.answer(post(BODY))
        assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "caller-unavailable", "300")


# --- preferences --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected", "applied"),
    [
        ("", Preference(), ""),
        ("respond-async", Preference(respond_async=True), "respond-async"),
        ("Respond-Async", Preference(respond_async=True), "respond-async"),
        ("wait=7", Preference(wait=7), "wait=7"),
        ('wait="7"', Preference(wait=7), "wait=7"),
        ("WAIT = 7", Preference(wait=7), "wait=7"),
        ("wait=0", Preference(wait=0), "wait=0"),
        ("wait=999999", Preference(wait=20), "wait=20"),
        ("respond-async, wait=3", Preference(respond_async=True, wait=3), "respond-async, wait=3"),
        ("wait=3,respond-async", Preference(respond_async=True, wait=3), "respond-async, wait=3"),
        ("wait=3, wait=5", Preference(wait=3), "wait=3"),
        ("respond-async; foo=bar, wait=3; x", Preference(respond_async=True, wait=3), "respond-async, wait=3"),
        ("return=minimal, handling=lenient", Preference(), ""),
        ("wait", Preference(), ""),
        ("wait=", Preference(), ""),
        ("wait=-1", Preference(), ""),
        ("wait=1.5", Preference(), ""),
        ("wait=soon", Preference(), ""),
        ("wait=1234567", Preference(), ""),
        ("wait=٣", Preference(), ""),
        ("respond-async=no", Preference(), ""),
        (",,;=,", Preference(), ""),
    ],
)
def test_prefer(header: str, expected: Preference, applied: str) -> None:
    """RFC 7240: what is understood is honoured and echoed, clipped to the caller's wait; the rest is ignored."""
    assert preference(header, 20) == expected
    assert expected.applied == applied


# --- the function -------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Give what the function finds in its environment, but for AiTEMS."""
    forget()
    with running(monkeypatch) as aws:
        aws.secrets = {
            "keys": json.dumps({"access_key": KEYS.access_key, "secret_key": KEYS.secret_key}),
            "callers": json.dumps({"backoffice": ENTRY}),
        }
        monkeypatch.setenv("KEYS_SECRET_ARN", "keys")
        monkeypatch.setenv("CALLERS_SECRET_ARN", "callers")
        monkeypatch.setenv("LEDGER_TABLE", "ledger")
        monkeypatch.setenv("AITEMS_BASE_URL", "http://127.0.0.1:1")
        yield aws
    forget()


def forget() -> None:
    """Have the next call find a cold process."""
    webhook._webhook.cache_clear()  # noqa: SLF001  # as a new process would
    config._vault.cache_clear()  # noqa: SLF001  # as above


def called(event: dict[str, Any]) -> Answer:
    """Call the function as Lambda does."""
    return Answer(webhook.handler(event, Context()))


def test_the_function_over_real_clients(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment to the answer: secrets, ledger and AiTEMS over HTTP; the ledger is written first."""
    with Emulator(access_key=KEYS.access_key, secret_key=KEYS.secret_key) as emulator:
        monkeypatch.setenv("AITEMS_BASE_URL", emulator.url)
        answer = called(post(BODY, at=int(time.time())))
        assert answer.status == 201
        assert answer.headers["X-Request-Id"] == REQUEST_ID
        assert aws.items[f"request#{REQUEST_ID}"]["state"] == {"S": "created"}
        assert [operation for operation, _ in aws.calls if operation == "TransactWriteItems"] == [
            "TransactWriteItems"
        ] * 2
        assert len(emulator.services) == 1


@pytest.mark.parametrize("missing", ["LEDGER_TABLE", "CALLERS_SECRET_ARN", "AITEMS_BASE_URL"])
def test_a_missing_setting_shuts_the_door(missing: str, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the operator's slip, so senders are asked to come again, and nothing was recorded."""
    monkeypatch.delenv(missing)
    answer = called(post(BODY))
    assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "caller-unavailable", "300")
    assert aws.items == {}


def test_whatever_else_happens_is_503_and_never_500(aws: Aws) -> None:
    """An error nobody thought of is told as "not surely recorded": the same key finds out."""
    answer = called({"pathParameters": 7})
    assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "not-recorded", "5")
    assert aws.items == {}


def test_the_log_holds_no_signature_and_no_secret(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    """A refused signature is logged by its cause alone."""
    assert aws.items == {}
    logging.getLogger(webhook.logger.name).addHandler(caplog.handler)
    event = post(BODY, secret=OTHER_SECRET, at=int(time.time()))
    assert called(event).status == 401
    log = " ".join(str(vars(record)) for record in caplog.records)
    assert "signature refused" in log
    assert event["headers"]["webhook-signature"] not in log
    assert SECRET not in log
