"""What the ledger promises, kept by three: the one with memory, the real one on MiniStack, and on DynamoDB Local.

The second half stands a proxy before the real one: answers that are lost, refusals that are none, and silence.
"""

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dynamodb_local
from aitems_bridge import aws
from aitems_bridge.bridge import RECORD_RESERVE
from aitems_bridge.config import ledger_client
from aitems_bridge.errors import KINDS, NotRecorded, Problem, Upstream, Violation
from aitems_bridge.ledger import TRIES, Ledger, Moved, NameTaken, ServiceClaimed, image_of, record_of
from aitems_bridge.record import (
    DAY,
    MINUTE,
    SECOND,
    Clock,
    Made,
    NotDone,
    Numbers,
    Record,
    Rejection,
    State,
    Unknown,
    again,
    claim,
    duplicate_name,
    give_up,
    lapse,
    put_off,
    receive,
    resolve,
    revive,
    settle,
)
from aitems_local.cloud import Cloud
from aitems_local.stack import load_template
from faultproxy import Call, FaultProxy, Forward, Reply, lose_answer, pass_on, refusal
from memory import MemoryLedger

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

NOW = 1_795_462_704_981
TABLE = "ledger"
NUMBERS = Numbers(chance=lambda: 0.5)
LOST = Unknown(Problem("outcome-unknown", "lost", may_exist=True))
THROTTLED = NotDone(Problem("aitems-throttled", "429"))

AnyLedger = Ledger | MemoryLedger


# --- where it runs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table like the template's, at an endpoint; ``ledger`` is the shipped one on it."""

    endpoint: str

    @cached_property
    def shared(self) -> "DynamoDBClient":
        """A client for all: making one takes longer than using it."""
        return self.client()

    def client(self, endpoint: str | None = None, *, read: float = 10, tries: int = 4) -> "DynamoDBClient":
        """Return a client with as many tries as the functions' has, or another number of them."""
        return boto3.client(
            "dynamodb",
            "ap-northeast-2",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(
                connect_timeout=1,
                read_timeout=read,
                max_pool_connections=32,
                retries={"mode": "standard", "total_max_attempts": tries},
            ),
        )

    def item(self, key: str) -> dict[str, Any] | None:
        """Return an item as the table has it."""
        found = self.shared.get_item(TableName=TABLE, Key={"pk": {"S": key}}, ConsistentRead=True)
        return dict(found["Item"]) if "Item" in found else None


def _made(endpoint: str) -> Table:
    properties = load_template()["Resources"]["LedgerTable"]["Properties"]
    table = Table(endpoint)
    client = table.client()
    client.create_table(
        TableName=TABLE,
        BillingMode=properties["BillingMode"],
        AttributeDefinitions=properties["AttributeDefinitions"],
        KeySchema=properties["KeySchema"],
    )
    client.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 1})
    return table


@pytest.fixture(scope="session")
def on_ministack() -> Iterator[Table]:
    """Return the ledger's table on a MiniStack of its own: no functions, nothing deployed."""
    with Cloud() as cloud:
        cloud.wait()
        yield _made(cloud.endpoint)


@pytest.fixture(scope="session")
def on_dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """Return the ledger's table on AWS's own emulator."""
    if why := dynamodb_local.missing():
        pytest.skip(why)  # neither Java nor npm: only this marker, and `make dynamodb-local` says so
    with dynamodb_local.running(tmp_path_factory.mktemp("dynamodb")) as endpoint:
        yield _made(endpoint)


REAL = ["on_ministack", pytest.param("on_dynamodb_local", marks=pytest.mark.dynamodb_local)]


@pytest.fixture(params=REAL)
def table(request: pytest.FixtureRequest) -> Table:
    """Return a real table."""
    found: Table = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["memory", *REAL])
def ledger(request: pytest.FixtureRequest) -> AnyLedger:
    """Return a ledger of each kind; shared, so use ids and names of your own."""
    if request.param == "memory":
        return MemoryLedger()
    found: Table = request.getfixturevalue(request.param)
    return Ledger(found.shared, TABLE)


def a_request(name: str = "", **changes: Any) -> Record:  # noqa: ANN401  # the fields of Record
    """Return a request that nobody has recorded yet, of an id and a name that no other test uses."""
    name = name or "Shop-" + secrets.token_hex(5)
    made = Record(
        id=secrets.token_hex(16),
        version=0,
        state=State.RECEIVED,
        channel="standard",
        scope="hook:backoffice",
        key=secrets.token_hex(4),
        caller="backoffice",
        requested_by=None,
        command={"name": name, "description": "봄 시즌 추천", "type": "batch"},
        payload_hash="0" * 64,
        requested_at=NOW,
        give_up_at=NOW + NUMBERS.give_up,
    )
    return replace(made, **changes)


def claimed(record: Record) -> Record:
    """Return the request as a door claims it."""
    return claim(record, NOW, NOW + 30 * SECOND, NUMBERS)


def made(service_id: str = "") -> Made:
    """Return AiTEMS's good answer, of a service that no other test uses."""
    service_id = service_id or secrets.token_hex(6)
    return Made(json.dumps({"serviceId": service_id}), service_id)


def write(ledger: AnyLedger, old: Record | None, new: Record) -> Record:
    """Write and return what was written."""
    ledger.write(old, new)
    return new


# --- the request --------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back(ledger: AnyLedger) -> None:
    """A request is read back as it was written; one that nobody wrote is not there."""
    record = write(ledger, None, receive(a_request(), NOW))
    assert record == ledger.get(record.id)
    assert ledger.get("nobody") is None


def test_a_request_is_inserted_once(ledger: AnyLedger) -> None:
    """Who inserts what is there already learns what stands there; nothing is overwritten."""
    record = write(ledger, None, receive(a_request(), NOW))
    with pytest.raises(Moved) as moved:
        ledger.write(None, replace(record, key="another", requested_at=NOW + 1))
    assert record == moved.value.current
    assert record == ledger.get(record.id)


@pytest.mark.parametrize("behind", [{"version": 0}, {"state": State.UNKNOWN}])
def test_only_who_read_the_newest_writes(ledger: AnyLedger, behind: dict[str, Any]) -> None:
    """A write stands on version and state as read; who was overtaken learns what stands there now."""
    record = write(ledger, None, receive(a_request(), NOW))
    with pytest.raises(Moved) as moved:
        ledger.write(replace(record, **behind), claimed(record))
    assert record == moved.value.current
    assert record == ledger.get(record.id)
    assert record == ledger.last_of(record.name)


def test_a_name_leads_to_who_asked_last(ledger: AnyLedger) -> None:
    """From the moment it is recorded a request is found by its name, unless another one holds the name."""
    waiting = write(ledger, None, receive(a_request(), NOW))
    assert ledger.last_of(waiting.name.upper()) == waiting
    holder = write(ledger, None, claimed(a_request(waiting.name)))
    assert ledger.last_of(waiting.name) == holder
    write(ledger, None, receive(a_request(waiting.name), NOW))
    assert ledger.last_of(waiting.name) == holder


def test_what_was_never_written_cannot_be_moved_on(ledger: AnyLedger) -> None:
    """A change of a request that is not there (forgotten meanwhile) is not recorded, and makes none."""
    record = receive(a_request(), NOW)
    with pytest.raises(NotRecorded):
        ledger.write(record, claimed(record))
    assert ledger.get(record.id) is None


def test_once_more_keeps_the_version(ledger: AnyLedger) -> None:
    """Touching a request (T22) changes a counter; whoever works on it is not fenced off by it."""
    record = write(ledger, None, claimed(a_request()))
    touched = write(ledger, record, again(record))
    assert touched == ledger.get(record.id)
    assert touched.version == record.version
    done = write(ledger, record, settle(record, made(), NOW, NUMBERS))
    assert done == ledger.get(record.id)
    once_more = write(ledger, done, again(done))
    assert once_more == ledger.get(record.id)


# --- the name -----------------------------------------------------------------------------------------------------


def test_one_creation_a_name(ledger: AnyLedger) -> None:
    """From its claim until it is settled a request has its name alone; a second one is not even recorded as claimed."""
    first = write(ledger, None, claimed(a_request()))
    second = a_request(first.name)
    with pytest.raises(NameTaken):
        ledger.write(None, claimed(second))
    assert ledger.get(second.id) is None
    waiting = write(ledger, None, receive(second, NOW))
    with pytest.raises(NameTaken):
        ledger.write(waiting, claimed(waiting))
    assert waiting == ledger.get(second.id)
    write(ledger, first, settle(first, made(), NOW, NUMBERS))
    write(ledger, waiting, claimed(waiting))


def test_letter_case_does_not_make_another_name(ledger: AnyLedger) -> None:
    """Names that differ in letter case only are one name to the lock, and to who asks for its last request."""
    name = "Shop-" + secrets.token_hex(5)
    first = write(ledger, None, claimed(a_request(name)))
    with pytest.raises(NameTaken):
        ledger.write(None, claimed(a_request(name.upper())))
    assert first == ledger.last_of(name.swapcase())


@pytest.mark.parametrize(
    "outcome", [made(), Rejection(duplicate_name("x")), THROTTLED], ids=["created", "rejected", "not done"]
)
def test_the_name_is_given_back(ledger: AnyLedger, outcome: Any) -> None:  # noqa: ANN401  # an Outcome
    """What is settled, or surely did nothing, gives its name back at once."""
    first = write(ledger, None, claimed(a_request()))
    write(ledger, first, settle(first, outcome, NOW, NUMBERS))
    second = write(ledger, None, claimed(a_request(first.name)))
    assert second == ledger.last_of(first.name)


def test_doubt_keeps_the_name(ledger: AnyLedger) -> None:
    """A request in doubt has its name through everything, failing and being revived included, until it is settled."""
    first = write(ledger, None, claimed(a_request()))
    other = a_request(first.name)
    steps: list[Callable[[Record], Record]] = [
        lambda record: settle(record, LOST, NOW, NUMBERS),
        lambda record: put_off(record, NOW + 2 * MINUTE, NUMBERS),
        lambda record: give_up(record, NOW + DAY),
        lambda record: revive(record, NOW + DAY, NUMBERS),
        lambda record: give_up(record, NOW + 2 * DAY),
    ]
    record = first
    for step in steps:
        record = write(ledger, record, step(record))
        with pytest.raises(NameTaken):
            ledger.write(None, claimed(other))
        assert record == ledger.last_of(first.name)
    write(ledger, record, resolve(record, Problem("closed", "by hand"), NOW + 2 * DAY, NUMBERS))
    write(ledger, None, claimed(other))


def test_failing_without_doubt_has_no_name_to_keep(ledger: AnyLedger) -> None:
    """What surely made nothing does not stand in anybody's way while it waits for a redrive."""
    record = write(ledger, None, receive(a_request(), NOW))
    failed = write(ledger, record, give_up(record, NOW + DAY))
    other = write(ledger, None, claimed(a_request(record.name)))
    revived = write(ledger, failed, revive(failed, NOW + DAY, NUMBERS))
    with pytest.raises(NameTaken):
        ledger.write(revived, claimed(revived))
    assert other == ledger.last_of(record.name)


def test_a_dead_letter_of_a_claim_keeps_the_name(ledger: AnyLedger) -> None:
    """A claim that ended among the dead letters fails in doubt, and so keeps its name."""
    record = write(ledger, None, claimed(a_request()))
    write(ledger, record, give_up(record, NOW + MINUTE))
    with pytest.raises(NameTaken):
        ledger.write(None, claimed(a_request(record.name)))


def test_the_name_points_to_its_last_request(ledger: AnyLedger) -> None:
    """After settling the name still tells who had it last; one nobody ever claimed tells nobody."""
    record = write(ledger, None, claimed(a_request()))
    done = write(ledger, record, settle(record, made(), NOW, NUMBERS))
    assert done == ledger.last_of(record.name)
    assert ledger.last_of("Nobody-" + secrets.token_hex(4)) is None


# --- the service --------------------------------------------------------------------------------------------------


def test_a_service_is_claimed_once(ledger: AnyLedger) -> None:
    """No service is ever two requests': the second is told, and nothing of its outcome is written."""
    service = made()
    first = write(ledger, None, claimed(a_request()))
    done = write(ledger, first, settle(first, service, NOW, NUMBERS))
    second = write(ledger, None, claimed(a_request()))
    with pytest.raises(ServiceClaimed):
        ledger.write(second, settle(second, service, NOW, NUMBERS))
    assert second == ledger.get(second.id)
    assert done == ledger.claimant(service.service_id)
    assert ledger.claimant("v" + secrets.token_hex(5)) is None


def test_what_stands_in_the_way_first_is_told(ledger: AnyLedger) -> None:
    """An overtaken write is told that it was overtaken, whatever its name or service would have met besides."""
    service = made()
    first = write(ledger, None, claimed(a_request()))
    write(ledger, first, settle(first, service, NOW, NUMBERS))
    second = write(ledger, None, claimed(a_request()))
    unknown = write(ledger, second, settle(second, LOST, NOW, NUMBERS))
    with pytest.raises(Moved) as moved:
        ledger.write(second, settle(second, service, NOW, NUMBERS))
    assert unknown == moved.value.current


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_only_what_is_final_ever_expires(table: Table) -> None:
    """A request carries a time to live once it is created or rejected, in seconds, and in no other state."""
    ledger = Ledger(table.shared, TABLE)
    record = write(ledger, None, receive(a_request(), NOW))
    steps: list[Callable[[Record], Record]] = [
        claimed,
        lambda one: lapse(one, NOW + MINUTE, NUMBERS),
        lambda one: give_up(one, NOW + DAY),
        lambda one: revive(one, NOW + DAY, NUMBERS),
        lambda one: give_up(one, NOW + 2 * DAY),
    ]
    for step in steps:
        assert "expires" not in (table.item(f"request#{record.id}") or {})
        assert "expires" not in (table.item(f"name#{record.name.lower()}") or {})
        record = write(ledger, record, step(record))
    settled_at = NOW + 3 * DAY
    done = write(ledger, record, resolve(record, made(), settled_at, NUMBERS))
    wanted = {"N": str((settled_at + NUMBERS.retention) // SECOND)}
    assert wanted == (table.item(f"request#{done.id}") or {})["expires"]
    assert wanted == (table.item(f"name#{done.name.lower()}") or {})["expires"]


def test_a_service_is_never_forgotten(table: Table) -> None:
    """Which request made a service stands for ever: a claim that expired would let another request adopt it."""
    ledger = Ledger(table.shared, TABLE)
    record = write(ledger, None, claimed(a_request()))
    service = made()
    write(ledger, record, settle(record, service, NOW, NUMBERS))
    item = table.item(f"service#{service.service_id}")
    assert item == {"pk": {"S": f"service#{service.service_id}"}, "request": {"S": record.id}}


def test_a_name_that_is_claimed_again_does_not_expire(table: Table) -> None:
    """A name's time to live ends with the next claim: the lock of a living request is never swept away."""
    ledger = Ledger(table.shared, TABLE)
    first = write(ledger, None, claimed(a_request()))
    write(ledger, first, settle(first, made(), NOW, NUMBERS))
    write(ledger, None, claimed(a_request(first.name)))
    item = table.item(f"name#{first.name.lower()}") or {}
    assert "expires" not in item
    assert "holder" in item


def test_a_name_given_back_unsettled_points_on(table: Table) -> None:
    """What surely did nothing frees the name and stays its last request, without a time to live."""
    ledger = Ledger(table.shared, TABLE)
    first = write(ledger, None, claimed(a_request()))
    write(ledger, first, settle(first, THROTTLED, NOW, NUMBERS))
    assert {"pk": {"S": f"name#{first.name.lower()}"}, "last": {"S": first.id}} == table.item(
        f"name#{first.name.lower()}"
    )


# --- what it can hold ---------------------------------------------------------------------------------------------

ODD_ANSWERS = {
    "floats": '{"hpConfig":{"rate":0.1,"least":1e-320}}',
    "beyond floats": '{"most":1e400,"digits":123456789012345678901234567890.5}',
    "lone surrogates": '{"description":"\\ud83d \\udc00"}',
    "nothing in it": '{"a":null,"b":"","c":[],"d":{}}',
    "zero bytes": '{"a":"\\u0000"}',
    "written as it came": '{ "name" : "한글" , "name" : "twice" }\n',
    "128 KB": json.dumps({"many": "가" * 42_000}, ensure_ascii=False),
}


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_any_answer_survives(ledger: AnyLedger, answer: str) -> None:
    """AiTEMS's answer is kept to the letter, whatever numbers and characters it holds, up to the longest one kept."""
    record = write(ledger, None, claimed(a_request()))
    done = write(ledger, record, settle(record, Made(answer, secrets.token_hex(6)), NOW, NUMBERS))
    found = ledger.get(record.id)
    assert done == found
    assert found is not None
    assert answer == found.answer


TEXTS = st.text(max_size=40)
TIMES = st.none() | st.integers(0, 2**53)
COUNTS = st.integers(0, 10**6)
PROBLEMS = st.builds(
    Problem,
    slug=st.sampled_from(sorted(KINDS)),
    detail=TEXTS,
    errors=st.lists(st.builds(Violation, TEXTS, TEXTS, TEXTS), max_size=3).map(tuple),
    upstream=st.none() | st.builds(Upstream, st.none() | st.integers(100, 599), *[st.none() | TEXTS] * 3),
    may_exist=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXTS, parts, max_size=3),
    max_leaves=6,
)
RECORDS = st.builds(
    Record,
    id=st.from_regex(r"[a-z2-7]{52}", fullmatch=True),
    version=st.integers(1, 10**9),
    state=st.sampled_from(State),
    channel=TEXTS,
    scope=TEXTS,
    key=TEXTS,
    caller=TEXTS,
    requested_by=st.none() | TEXTS,
    command=st.none() | st.fixed_dictionaries({"name": TEXTS, "description": TEXTS, "type": TEXTS}),
    payload_hash=TEXTS,
    requested_at=st.integers(0, 2**53),
    give_up_at=st.integers(0, 2**53),
    due=TIMES,
    lease_until=TIMES,
    quiet_until=TIMES,
    sent_at=TIMES,
    posts=COUNTS,
    attempts=COUNTS,
    waits=COUNTS,
    doubt=st.booleans(),
    last=st.none() | PROBLEMS,
    clock=st.none() | st.builds(Clock, st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53)),
    seen=st.none() | TEXTS,
    unlisted=COUNTS,
    answer=st.none() | TEXTS,
    service_id=st.none() | TEXTS,
    problem=st.none() | PROBLEMS,
    adopted=st.booleans(),
    settled_at=TIMES,
    gave_up=COUNTS,
    again=COUNTS,
    expires=TIMES,
    reply=st.none() | st.dictionaries(TEXTS, JSON, max_size=3),
)


@given(RECORDS)
def test_every_field_has_its_place_in_the_item(record: Record) -> None:
    """An item tells its record exactly, whatever the fields hold; and it is JSON, as stream and API have it."""
    image = image_of(record)
    assert record == record_of(json.loads(json.dumps(image)))


def test_no_field_is_left_out() -> None:
    """A field that `image_of` does not know would be lost without a word: each that is set shows in the item."""
    problem = Problem("closed", "by hand")
    whole = replace(
        receive(a_request(), NOW),
        requested_by="account:123456789012",
        lease_until=NOW,
        quiet_until=NOW,
        sent_at=NOW,
        last=problem,
        clock=Clock(1, 2),
        seen="v1",
        answer="{}",
        service_id="v1",
        problem=problem,
        settled_at=NOW,
        expires=NOW,
        reply={},
    )
    names = {field.name for field in fields(Record)}
    assert {name for name in names if getattr(whole, name) is None} == set(), "set the new field here too"
    assert names - {"id"} == set(image_of(whole)) - {"pk", "v"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=RECORDS)
def test_every_field_survives_the_table(table: Table, record: Record) -> None:
    """What goes through DynamoDB comes back as it was; the empty texts and large numbers it once refused included."""
    record = replace(record, id=secrets.token_hex(16), state=State.RECEIVED)
    ledger = Ledger(table.shared, TABLE)
    ledger.write(None, record)
    assert record == ledger.get(record.id)


def test_a_scan_gives_every_request_and_nothing_else(ledger: AnyLedger) -> None:
    """Names and services are items too, but no requests."""
    records = {(one := a_request()).id: write(ledger, None, claimed(one)) for _ in range(3)}
    one = records[next(iter(records))]
    records[one.id] = write(ledger, one, settle(one, made(), NOW, NUMBERS))
    found = [record for record in ledger.scan() if record.id in records]
    assert sorted(records) == sorted(record.id for record in found)
    assert all(record == records[record.id] for record in found)


# --- many at once -------------------------------------------------------------------------------------------------


def race(*writers: Callable[[], object]) -> list[Exception | None]:
    """Let all go at the same moment; return what each raised."""
    start = threading.Barrier(len(writers))

    def run(writer: Callable[[], object]) -> Exception | None:
        start.wait()
        try:
            writer()
        except (Moved, NameTaken, ServiceClaimed) as error:
            return error
        return None

    with ThreadPoolExecutor(len(writers)) as pool:
        return list(pool.map(run, writers))


def test_of_many_inserts_one_wins(ledger: AnyLedger) -> None:
    """The same request through ten processes at once is recorded by one; the others learn what that one wrote."""
    record = a_request()
    raised = race(*[partial(ledger.write, None, receive(replace(record, waits=each), NOW)) for each in range(10)])
    won = [index for index, error in enumerate(raised) if error is None]
    assert len(won) == 1
    current = ledger.get(record.id)
    assert current is not None
    assert current.waits == won[0]
    assert all(current == error.current for error in raised if isinstance(error, Moved))
    assert sum(isinstance(error, Moved) for error in raised) == 9


def test_of_many_claims_of_a_name_one_wins(ledger: AnyLedger) -> None:
    """Of ten requests that claim one name at once, one has it and nine wait; none is told anything else."""
    name = "Shop-" + secrets.token_hex(5)
    raised = race(*[partial(ledger.write, None, claimed(a_request(name))) for _ in range(10)])
    assert sorted(type(error).__name__ for error in raised) == ["NameTaken"] * 9 + ["NoneType"]


def test_of_many_who_settle_one_wins(ledger: AnyLedger) -> None:
    """A request that is settled, found lapsed, touched and given up at once goes one way."""
    record = write(ledger, None, claimed(a_request()))
    late = NOW + MINUTE
    ways = [
        settle(record, made(), NOW, NUMBERS),
        settle(record, Rejection(duplicate_name(record.name)), NOW, NUMBERS),
        settle(record, LOST, NOW, NUMBERS),
        lapse(record, late, NUMBERS),
        give_up(record, late),
    ]
    raised = race(*[partial(ledger.write, record, way) for way in ways])
    won = [way for way, error in zip(ways, raised, strict=True) if error is None]
    assert len(won) == 1
    assert won[0] == ledger.get(record.id)


def test_of_many_who_claim_a_service_one_wins(ledger: AnyLedger) -> None:
    """However many are given the same service at once, it becomes one's."""
    service = made()
    records = [write(ledger, None, claimed(a_request())) for _ in range(6)]
    raised = race(*[partial(ledger.write, one, settle(one, service, NOW, NUMBERS)) for one in records])
    assert sorted(type(error).__name__ for error in raised) == ["NoneType"] + ["ServiceClaimed"] * 5
    winner = records[raised.index(None)]
    owner = ledger.claimant(service.service_id)
    assert owner is not None
    assert winner.id == owner.id


# --- on a bad line ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """The real ledger behind a proxy; ``naps`` is how long it slept between tries."""

    proxy: FaultProxy
    ledger: Ledger
    table: Table
    naps: list[float]


@pytest.fixture
def line(table: Table) -> Iterator[Line]:
    """Return a ledger whose calls a test may bend; each try is one call of half a second at most."""
    naps: list[float] = []
    with FaultProxy(table.endpoint) as proxy:
        client = table.client(proxy.url, read=0.5, tries=1)
        yield Line(proxy, Ledger(client, TABLE, naps.append), table, naps)


def first(number: int, fault: Callable[[Call, Forward], Reply | None]) -> Callable[[Call, Forward], Reply | None]:
    """Return a fault that befalls the first so many writes; those after them go through."""
    left = iter(range(number))

    def befall(call: Call, forward: Forward) -> Reply | None:
        if call.operation == "TransactWriteItems" and next(left, None) is not None:
            return fault(call, forward)
        return pass_on(call, forward)

    return befall


def cancelled(*codes: str) -> Callable[[Call, Forward], Reply]:
    """Return a fault that cancels the transaction for these reasons, in DynamoDB's words."""
    reasons = [{"Code": code, "Message": code} for code in codes]
    return lambda *_: refusal("TransactionCanceledException", CancellationReasons=reasons)


def silence(*_: object) -> None:
    """Answer nothing for longer than anybody waits."""
    time.sleep(0.8)


def test_a_lost_answer_is_no_stranger(table: Table) -> None:
    """H6: a write whose answer was lost is repeated under its token, and is ours: no other request is seen in it."""
    with FaultProxy(table.endpoint) as proxy:
        ledger = Ledger(table.client(proxy.url), TABLE)
        record = a_request()
        for step in (claimed, lambda one: settle(one, made(), NOW, NUMBERS)):
            proxy.fault = first(1, lose_answer)
            old = ledger.get(record.id)
            record = write(ledger, old, step(record))
            assert record == ledger.get(record.id)
        tokens = [call["ClientRequestToken"] for call in proxy.said("TransactWriteItems")]
        assert len(tokens) == 4
        assert len(set(tokens)) == 2
        assert tokens[0] == tokens[1]


def test_a_repeated_write_does_not_write_over_what_came_after(table: Table) -> None:
    """A try that arrives again late, after somebody else's write, changes nothing: its token is known."""
    with FaultProxy(table.endpoint) as proxy:
        ledger = Ledger(table.client(proxy.url), TABLE)
        direct = Ledger(table.shared, TABLE)
        record = write(direct, None, claimed(a_request()))
        mine = settle(record, LOST, NOW, NUMBERS)
        theirs = put_off(mine, NOW, NUMBERS)

        def overtaken(call: Call, forward: Forward) -> None:
            forward(call.document)
            direct.write(mine, theirs)

        proxy.fault = first(1, overtaken)
        ledger.write(record, mine)
        assert theirs == direct.get(record.id)


@pytest.mark.parametrize(
    "reasons",
    [
        ("TransactionConflict", "None"),
        ("None", "TransactionConflict"),
        ("ThrottlingError", "None"),
        ("None", "ProvisionedThroughputExceeded"),
        ("TransactionConflict", "ThrottlingError"),
    ],
)
def test_a_conflict_is_no_answer(line: Line, reasons: tuple[str, ...]) -> None:
    """H7: a transaction cancelled for anything but a failed condition says nothing, and is tried again."""
    line.proxy.fault = first(TRIES - 1, cancelled(*reasons))
    record = write(line.ledger, None, claimed(a_request()))
    assert record == line.ledger.get(record.id)
    assert len(line.naps) == TRIES - 1
    assert all(short < 2 * long for short, long in zip(line.naps, line.naps[1:], strict=False))
    assert len({call["ClientRequestToken"] for call in line.proxy.said("TransactWriteItems")}) == 1


def test_a_write_still_under_way_is_waited_for(line: Line) -> None:
    """A try that meets its own first one still at work is tried again, not taken for refused."""
    line.proxy.fault = first(2, lambda *_: refusal("TransactionInProgressException"))
    record = write(line.ledger, None, claimed(a_request()))
    assert record == line.ledger.get(record.id)


def test_a_failed_condition_is_an_answer_whatever_stands_beside_it(line: Line) -> None:
    """Of several reasons the failed condition is the one that is true for good: it is told at once, with the item."""
    record = write(line.ledger, None, claimed(a_request()))
    reasons = [
        {"Code": "ConditionalCheckFailed", "Message": "", "Item": image_of(record)},
        {"Code": "TransactionConflict", "Message": ""},
    ]
    line.proxy.fault = first(1, lambda *_: refusal("TransactionCanceledException", CancellationReasons=reasons))
    with pytest.raises(Moved) as moved:
        line.ledger.write(None, record)
    assert record == moved.value.current
    assert line.naps == []


def test_an_answer_without_the_item_is_completed_by_reading(line: Line) -> None:
    """What stands there is read where the failed condition does not say it."""
    record = write(line.ledger, None, claimed(a_request()))
    line.proxy.fault = first(1, cancelled("ConditionalCheckFailed", "None"))
    with pytest.raises(Moved) as moved:
        line.ledger.write(None, record)
    assert record == moved.value.current


def test_conflicts_without_end_are_not_recorded(line: Line) -> None:
    """Who meets nothing but conflicts is told that it is not known to be recorded, after a few tries."""
    line.proxy.fault = first(100, cancelled("TransactionConflict", "None"))
    with pytest.raises(NotRecorded):
        line.ledger.write(None, claimed(a_request()))
    assert len(line.proxy.said("TransactWriteItems")) == TRIES


def test_what_can_never_be_written_is_not_tried_again(line: Line) -> None:
    """A transaction that DynamoDB calls malformed is malformed the next time too."""
    line.proxy.fault = first(100, cancelled("ValidationError", "None"))
    with pytest.raises(NotRecorded):
        line.ledger.write(None, claimed(a_request()))
    assert len(line.proxy.said("TransactWriteItems")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        silence,
        lambda *_: None,
        lambda *_: refusal("InternalServerError", 500),
        lambda *_: refusal("ProvisionedThroughputExceededException"),
        lambda *_: refusal("AccessDeniedException"),
        lambda *_: refusal("ResourceNotFoundException"),
    ],
    ids=["silence", "cut off", "500", "throttled", "denied", "no table"],
)
def test_a_ledger_that_does_not_answer_is_said_so(line: Line, fault: Any) -> None:  # noqa: ANN401  # a Fault
    """Reading and writing end in one word, whatever is wrong: it is not known to be recorded."""
    line.proxy.fault = fault
    with pytest.raises(NotRecorded):
        line.ledger.write(None, claimed(a_request()))
    for ask in (line.ledger.get, line.ledger.last_of, line.ledger.claimant):
        with pytest.raises(NotRecorded):
            ask("somebody")


@pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("InternalServerError", 500)])
def test_throttling_is_tried_again(table: Table, code: str, status: int) -> None:
    """A throttled or broken try is repeated under the same token, by the SDK, until it is written once."""
    with FaultProxy(table.endpoint) as proxy:
        proxy.fault = first(1, lambda *_: refusal(code, status))
        ledger = Ledger(table.client(proxy.url), TABLE)
        record = write(ledger, None, claimed(a_request()))
        assert record == ledger.get(record.id)
        assert len({call["ClientRequestToken"] for call in proxy.said("TransactWriteItems")}) == 1
        assert len(proxy.said("TransactWriteItems")) == 2


def test_a_time_out_may_have_written(line: Line) -> None:
    """NotRecorded says that it is not known: what was written all the same is found under the same key."""

    def late(call: Call, forward: Forward) -> Reply:
        reply = pass_on(call, forward)
        time.sleep(0.8)
        return reply

    record = claimed(a_request())
    line.proxy.fault = first(1, late)
    with pytest.raises(NotRecorded):
        line.ledger.write(None, record)
    with pytest.raises(Moved) as moved:
        line.ledger.write(None, replace(record, requested_at=NOW + 1))
    assert record == moved.value.current


def test_a_ledger_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """Nobody at the address: the same word."""
    table = Table("http://127.0.0.1:9")
    ledger = Ledger(table.client(tries=1), TABLE)
    with pytest.raises(NotRecorded):
        ledger.get(tmp_path.name)
    with pytest.raises(NotRecorded):
        ledger.write(None, claimed(a_request()))


def test_a_silent_ledger_takes_no_longer_than_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client that is deployed has given up before the time that is kept back for recording is over."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as silent:
        for variable, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_DEFAULT_REGION": "ap-northeast-2",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nobody",
        }.items():
            monkeypatch.setenv(variable, value)
        aws.session.cache_clear()
        ledger = Ledger(ledger_client(), TABLE)
        aws.session.cache_clear()
        begun = time.monotonic()
        with pytest.raises(NotRecorded) as error:
            ledger.write(None, claimed(a_request()))
    assert time.monotonic() - begun < RECORD_RESERVE / SECOND
    assert error.value.cause == "ReadTimeoutError"
