"""The worker: pointers, events from the bus, dead letters; and one bad message spoils no other."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aitems_bridge import config, worker
from aitems_bridge.errors import Problem, Refused
from aitems_bridge.record import Record, State
from aitems_local.emulator import Fault
from aws import Aws, Context, Refusal, running
from world import KEYS, REQUEST_ID, World, post, sample

ORDER_ID = "6biw7xbabvohufp6ueazdn4slhxvv57aq2sdi3vh7cz4yiypt7na"
EVENT_ID = "7bf73129-1428-4cd3-a780-95db273d1602"
DEAD = "arn:aws:sqs:ap-northeast-2:123456789012:aitems-bridge-DeadLetterQueue"


@pytest.fixture
def world() -> Iterator[World]:
    """Give the bridge."""
    with World() as running:
        yield running


def envelope(detail: object = None, **changes: object) -> str:
    """Return the sample event's envelope as a message; ``detail`` in place of its own."""
    document: dict[str, Any] = json.loads(sample("worker-bus")["Records"][0]["body"])
    return json.dumps(document | ({} if detail is None else {"detail": detail}) | changes, ensure_ascii=False)


def pointer(record: Record, version: int | None = None) -> str:
    """Return the message that points to a request."""
    return json.dumps({"kind": "work", "request_id": record.id, "version": version or record.version})


def take(world: World, body: str, *, dead: bool = False) -> bool:
    """Have one message worked on."""
    return worker.work(world.bridge, body, world.invocation(), dead=dead)


def rejected(world: World) -> Problem:
    """Return why the only request was rejected; nothing was sent for it."""
    record = world.record
    assert (record.state, record.attempts, world.posts) == (State.REJECTED, 0, 0)
    assert record.problem is not None
    return record.problem


# --- events from the bus ------------------------------------------------------------------------------------------


def test_the_sample_event_creates_a_service(world: World) -> None:
    """The request is the event's source's, under the key its detail names; the account asked for it."""
    assert take(world, sample("worker-bus")["Records"][0]["body"])
    record = world.record
    assert (record.id, record.state, record.key) == (ORDER_ID, State.CREATED, "order-4711")
    assert (record.channel, record.caller, record.scope) == ("bus", "com.acme.shop", "bus:123456789012:com.acme.shop")
    assert record.requested_by == "account:123456789012"
    assert record.command == {"name": "shop-main", "description": "봄 시즌 추천", "type": "batch"}
    assert len(world.emulator.services) == 1


def test_an_event_without_a_key_goes_by_its_own_id(world: World) -> None:
    """The same event, delivered twice, is one request; another event is another."""
    assert take(world, envelope({"name": "shop-main"}))
    assert take(world, envelope({"name": "shop-main"}))
    assert world.record.key == EVENT_ID
    take(world, envelope({"name": "blog-main"}, id="another"))
    assert world.posts == 2


def test_the_same_key_is_the_same_request_whatever_the_envelope(world: World) -> None:
    """A producer that retries makes a new envelope: new id, new time, members in another order."""
    take(world, envelope({"name": "shop-main", "description": "d", "idempotency_key": "k"}))
    again = {"idempotency_key": "k", "type": "batch", "description": "d", "name": "shop-main"}
    take(world, envelope(again, id="another", time="2026-11-23T20:00:00Z"))
    assert world.posts == 1
    assert world.record.key == "k"


def test_the_same_key_of_another_source_or_account_is_another_request(world: World) -> None:
    """Two accounts may share a source; neither sees the other's keys."""
    for name, changes in {"one": {}, "two": {"source": "com.acme.blog"}, "three": {"account": "210987654321"}}.items():
        take(world, envelope({"name": f"{name}-main", "idempotency_key": "k"}, **changes))
    assert len({record.id for record in world.ledger.scan()}) == world.posts == 3


@pytest.mark.parametrize(
    ("detail", "pointers"),
    [
        ({}, ["#/name"]),
        ({"name": "1b", "type": "realtime"}, ["#/name", "#/name", "#/type"]),
        ({"name": "shop-main", "colour": "red"}, ["#/colour"]),
        ([], ["#"]),
        ("shop-main", ["#"]),
        (7, ["#"]),
    ],
)
def test_an_invalid_event_is_recorded_as_rejected(detail: object, pointers: list[str], world: World) -> None:
    """On the bus there is nobody to answer: the rejection is recorded, so that it is announced."""
    assert take(world, envelope(detail))
    problem = rejected(world)
    assert problem.slug == "invalid-request"
    assert [error.pointer for error in problem.errors] == pointers
    assert world.record.command is None
    assert world.record.expires


def test_an_invalid_event_delivered_twice_is_rejected_once(world: World) -> None:
    """The bus delivers at least once; the announcement is one."""
    for _ in range(2):
        assert take(world, envelope({"name": "x", "idempotency_key": "k"}))
    assert len(world.ledger.writes) == 1


@pytest.mark.parametrize("key", [None, "", 7, True, ["k"], "x" * 257, "with\nnewline", "열쇠", "\x7f", "\ud800"])
def test_a_malformed_key_is_rejected_under_the_events_id(key: object, world: World) -> None:
    """A key that cannot be kept cannot be used; the rejection goes by the event's own id."""
    assert take(world, json.dumps(json.loads(envelope({"name": "shop-main", "idempotency_key": key}))))
    problem = rejected(world)
    assert [(error.pointer, error.rule) for error in problem.errors] == [("#/idempotency_key", "pattern")]
    assert problem.detail == "1 field is wrong."
    assert world.record.key == EVENT_ID


@pytest.mark.parametrize("key", ["k", "x" * 256, "with space", "!~"])
def test_lawful_keys(key: str, world: World) -> None:
    """1 to 256 printable ASCII characters."""
    take(world, envelope({"name": "shop-main", "idempotency_key": key}))
    assert (world.record.key, world.record.state) == (key, State.CREATED)


def test_a_key_used_again_for_another_request(world: World) -> None:
    """The first stands; the second is a request of its own, under its event's id, and rejected."""
    take(world, envelope({"name": "shop-main", "idempotency_key": "k"}))
    other = envelope({"name": "blog-main", "idempotency_key": "k"}, id="another")
    for _ in range(2):
        assert take(world, other)
    first, second = world.ledger.scan()
    assert (first.key, first.state) == ("k", State.CREATED)
    assert (second.key, second.state) == ("another", State.REJECTED)
    assert second.problem is not None
    assert second.problem.slug == "key-reused"
    assert first.id in second.problem.detail
    assert second.command == {"name": "blog-main", "description": "", "type": "batch"}
    assert world.posts == 1


def test_a_key_used_again_for_something_invalid(world: World) -> None:
    """It is told what is wrong with it, not only that its key was used."""
    take(world, envelope({"name": "shop-main", "idempotency_key": "k"}))
    take(world, envelope({"name": "b", "idempotency_key": "k"}, id="another"))
    _, second = world.ledger.scan()
    assert second.problem is not None
    assert (second.key, second.problem.slug) == ("another", "invalid-request")


def test_an_event_of_another_kind_is_dropped(world: World) -> None:
    """It came through a rule of somebody else's making; keeping it would help nobody."""
    assert take(world, envelope(**{"detail-type": "Order Placed"}))
    assert list(world.ledger.scan()) == []


@pytest.mark.parametrize("left", ["source", "account", "id", "detail"])
def test_an_envelope_without_its_members_cannot_be_read(left: str, world: World) -> None:
    """It is kept, and so ends among the dead letters, where somebody looks."""
    document = json.loads(envelope())
    del document[left]
    with pytest.raises(KeyError):
        take(world, json.dumps(document))


# --- pointers -----------------------------------------------------------------------------------------------------


def test_a_pointer_has_its_request_worked_on(world: World) -> None:
    """What was recorded for later is created when its pointer comes, and a late twin of it is dropped."""
    world.answer(post({"name": "shop-main"}, headers={"prefer": "respond-async"}))
    waiting = world.record
    assert take(world, pointer(waiting))
    assert world.record.state is State.CREATED
    assert take(world, pointer(waiting))
    assert world.posts == 1


def test_a_pointer_of_another_version_is_dropped(world: World) -> None:
    """Whoever wrote the newer version left a pointer of its own."""
    world.answer(post({"name": "shop-main"}, headers={"prefer": "respond-async"}))
    assert take(world, pointer(world.record, version=world.record.version + 1))
    assert (world.record.state, world.posts) == (State.RECEIVED, 0)


def test_a_pointer_to_nothing_is_dropped(world: World) -> None:
    """The sample pointer's request is not in this ledger."""
    assert take(world, sample("worker-work")["Records"][0]["body"])
    assert REQUEST_ID in sample("worker-work")["Records"][0]["body"]


def test_a_pointer_to_a_living_lease_is_kept(world: World) -> None:
    """Somebody is at it: look again later, do not interfere."""
    world.answer(post({"name": "shop-main"}))
    claimed = world.ledger.writes[0]
    assert claimed.state is State.CREATING
    world.ledger.items[claimed.id]["state"] = {"S": "creating"}
    world.ledger.items[claimed.id]["version"] = {"N": str(claimed.version)}
    world.ledger.items[claimed.id]["lease_until"] = {"N": str(world.clock() + 60_000)}
    assert not take(world, pointer(claimed))
    assert not take(world, pointer(claimed), dead=True)


def test_a_ledger_that_is_down_keeps_the_message(world: World) -> None:
    """Nothing was surely written, so the message must come again."""
    world.ledger.down = True
    for body in (envelope({"name": "shop-main"}), sample("worker-work")["Records"][0]["body"]):
        with pytest.raises(Refused):
            take(world, body)


# --- dead letters -------------------------------------------------------------------------------------------------


def test_a_dead_pointer_fails_its_request(world: World) -> None:
    """Nothing accepted ends where nobody looks: it is settled as failed, and so announced and revivable."""
    world.answer(post({"name": "shop-main"}, headers={"prefer": "respond-async"}))
    assert take(world, pointer(world.record), dead=True)
    assert (world.record.state, world.record.gave_up) == (State.FAILED, 1)
    assert world.posts == 0


def test_a_dead_pointer_to_a_request_in_doubt_keeps_the_doubt(world: World) -> None:
    """What may have been made may have been made, dead letter or not."""
    world.emulator.add_faults(Fault("close_after"))
    world.answer(post({"name": "shop-main"}))
    assert take(world, pointer(world.record), dead=True)
    assert str(world.record.state) == "failed"
    assert world.record.doubt
    assert world.record.problem is not None
    assert world.record.problem.document()["may_exist"] is True


def test_a_dead_pointer_of_another_version_is_dropped(world: World) -> None:
    """The request went on without it."""
    world.answer(post({"name": "shop-main"}))
    assert take(world, pointer(world.record, version=1), dead=True)
    assert world.record.state is State.CREATED


def test_a_dead_event_that_was_never_recorded_fails(world: World) -> None:
    """Its producer hears of it on the bus, and the same key revives it."""
    assert take(world, envelope({"name": "shop-main", "idempotency_key": "k"}), dead=True)
    assert (world.record.state, world.record.key, world.posts) == (State.FAILED, "k", 0)
    assert take(world, envelope({"name": "shop-main", "idempotency_key": "k"}))
    assert str(world.record.state) == "received"


def test_a_dead_event_that_was_recorded_is_dropped(world: World) -> None:
    """The request has a pointer of its own, or is settled."""
    take(world, envelope({"name": "shop-main"}))
    assert take(world, envelope({"name": "shop-main"}), dead=True)
    assert world.record.state is State.CREATED


def test_a_dead_event_that_is_invalid_is_rejected(world: World) -> None:
    """It can never be created, so it is not kept for reviving either."""
    assert take(world, envelope({"name": "x"}), dead=True)
    assert rejected(world).slug == "invalid-request"


def test_a_dead_event_whose_key_is_anothers_is_rejected(world: World) -> None:
    """Also among the dead letters a reused key is told of, and not taken for the first request's twin."""
    take(world, envelope({"name": "shop-main", "idempotency_key": "k"}))
    assert take(world, envelope({"name": "blog-main", "idempotency_key": "k"}, id="another"), dead=True)
    _, second = world.ledger.scan()
    assert (second.key, second.state) == ("another", State.REJECTED)


# --- the function -------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Give what the function finds in its environment; AiTEMS cannot be reached."""
    worker._bridge.cache_clear()  # noqa: SLF001  # as a new process would
    config._vault.cache_clear()  # noqa: SLF001  # as above
    with running(monkeypatch) as aws:
        aws.secrets = {"keys": json.dumps({"access_key": KEYS.access_key, "secret_key": KEYS.secret_key})}
        settings = {
            "KEYS_SECRET_ARN": "keys",
            "LEDGER_TABLE": "ledger",
            "AITEMS_BASE_URL": "http://127.0.0.1:1",
            "DEAD_LETTER_QUEUE_ARN": DEAD,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield aws
    worker._bridge.cache_clear()  # noqa: SLF001  # as above
    config._vault.cache_clear()  # noqa: SLF001  # as above


def batch(*bodies: str, queue: str | None = None) -> dict[str, Any]:
    """Return one invocation with these messages, ids ``0``, ``1`` and so on."""
    record = sample("worker-work")["Records"][0]
    arn = queue or record["eventSourceARN"]
    numbered = [
        record | {"messageId": str(number), "body": body, "eventSourceARN": arn} for number, body in enumerate(bodies)
    ]
    return {"Records": numbered}


def failed(answer: dict[str, Any]) -> list[str]:
    """Return the ids of the messages that are to come again."""
    assert set(answer) == {"batchItemFailures"}
    assert all(set(item) == {"itemIdentifier"} for item in answer["batchItemFailures"])
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


def test_the_sample_invocations(aws: Aws) -> None:
    """A pointer to nothing is done with; an event is recorded, and waits for AiTEMS by its record."""
    assert failed(worker.handler(sample("worker-work"), Context(60))) == []
    assert failed(worker.handler(sample("worker-bus"), Context(60))) == []
    item = aws.items[f"request#{ORDER_ID}"]
    assert (item["state"], item["command"]["S"].count("shop-main")) == ({"S": "received"}, 1)


def test_what_failed_is_reported_by_message(aws: Aws) -> None:
    """One that cannot be read and one the ledger did not answer for come again; the others are done with."""

    def item(document: dict[str, Any]) -> dict[str, Any]:
        if document["Key"]["pk"]["S"] == "request#bad":
            raise Refusal("AccessDeniedException")
        return {}

    aws.rules["GetItem"] = item
    bodies = [
        "not json",
        *(json.dumps({"request_id": name, "version": 1}) for name in ("good", "bad")),
        "[]",
        "{}",
        "7",
    ]
    assert failed(worker.handler(batch(*bodies), Context(60))) == ["0", "2", "3", "4", "5"]


def test_dead_letters_are_told_by_their_queue(aws: Aws) -> None:
    """The same message means another thing when it comes from the dead letters."""
    body = envelope({"name": "shop-main", "idempotency_key": "order-4711"})
    assert failed(worker.handler(batch(body, queue=DEAD), Context(60))) == []
    assert aws.items[f"request#{ORDER_ID}"]["state"] == {"S": "failed"}


@pytest.mark.parametrize(("days", "state"), [(29, State.CREATED), (31, State.REJECTED)])
def test_an_old_event_is_no_new_request(world: World, days: int, state: State) -> None:
    """What became of it may be forgotten, so a replay of the bus's archive from then is refused, and says so."""
    moment = datetime.fromtimestamp(world.clock() / 1000, UTC) - timedelta(days=days)
    assert take(world, envelope(time=moment.isoformat().replace("+00:00", "Z")))
    assert world.record.state is state
    if state is State.REJECTED:
        assert [error.pointer for error in rejected(world).errors] == ["#/time"]
