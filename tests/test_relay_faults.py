"""The relay while SQS or EventBridge refuse for a while, as deployed: everything arrives afterwards, nobody is blocked.

A proxy stands between the relay and each of the two; what they took, and in which order, is read there.
"""

import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from aitems_bridge.errors import Problem
from aitems_bridge.record import HOUR, Numbers, Record, State, give_up, receive, resolve
from aitems_local.stack import Stack, Template
from faultproxy import Call, FaultProxy, Forward, Reply, pass_on, refusal

Json = dict[str, Any]

PATIENCE = 60.0
NUMBERS = Numbers()

Judge = Callable[[Json], bool]
"""Whether an entry is refused."""


@dataclass
class Gate:
    """One of the services behind its proxy. ``taken`` is what it took, in order; ``refused`` counts what it did not."""

    proxy: FaultProxy
    taken: list[Json] = field(default_factory=list)
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> None:
        """Let everything pass."""
        self._befall(lambda call, forward: self._taken(call, pass_on(call, forward)))

    def shut(self) -> None:
        """Refuse every call as a whole."""
        self._befall(lambda *_: self._refusal(1))

    def lose(self) -> None:
        """Take every call, and let nobody hear of it."""

        def lose(call: Call, forward: Forward) -> None:
            self._taken(call, pass_on(call, forward))
            self._refusal(1)

        self._befall(lose)

    def judge(self, refuses: Judge, code: str = "ThrottlingException") -> None:
        """Take some entries of a call and refuse others, as the services do: with 200."""

        def sift(call: Call, forward: Forward) -> Reply:
            entries: list[Json] = call.document["Entries"]
            kept = [entry for entry in entries if not refuses(entry)]
            self._refusal(len(entries) - len(kept))
            reply = Reply(200, {})
            if kept:
                part = Call(call.operation, {**call.document, "Entries": kept})
                reply = self._taken(part, pass_on(part, forward))
            return _whole(entries, kept, reply.document, code)

        self._befall(sift)

    def _befall(self, fault: Callable[[Call, Forward], Reply | None]) -> None:
        def befall(call: Call, forward: Forward) -> Reply | None:
            return fault(call, forward) if "Entries" in call.document else pass_on(call, forward)

        self.proxy.fault = befall

    def _taken(self, call: Call, reply: Reply) -> Reply:
        assert reply.status == 200, reply
        with self._lock:
            self.taken += call.document["Entries"]
        return reply

    def _refusal(self, number: int) -> Reply:
        with self._lock:
            self.refused += number
        return refusal("ServiceUnavailable", 503)


def _whole(entries: list[Json], kept: list[Json], answer: Json, code: str) -> Reply:
    """Return the answer to the whole call, from the one to the part of it that was passed on."""
    if "MessageBody" in entries[0]:
        failed = [{"Id": entry["Id"], "SenderFault": False, "Code": code} for entry in entries if entry not in kept]
        return Reply(200, {"Successful": answer.get("Successful", []), "Failed": failed})
    ids = iter(answer.get("Entries", []))
    results = [next(ids) if entry in kept else {"ErrorCode": code, "ErrorMessage": code} for entry in entries]
    return Reply(200, {"FailedEntryCount": len(entries) - len(kept), "Entries": results})


@dataclass(frozen=True)
class Relayed:
    """A bridge whose relay reaches the queue and the bus through gates."""

    stack: Stack
    queue: Gate
    bus: Gate

    def gates(self) -> tuple[Gate, Gate]:
        """Return both."""
        return self.queue, self.bus


@pytest.fixture(scope="module")
def deployed(stack: Stack) -> Iterator[Relayed]:
    """Return a bridge of its own, beside the shared one."""
    with ExitStack() as ends:
        queue, bus = (Gate(ends.enter_context(FaultProxy(stack.cloud.endpoint))) for _ in range(2))

        def change(template: Template) -> None:
            function = template["Resources"]["RelayFunction"]["Properties"]
            function["Environment"]["Variables"] |= {
                "AWS_ENDPOINT_URL_SQS": queue.proxy.url,
                "AWS_ENDPOINT_URL_EVENTBRIDGE": bus.proxy.url,
                "AWS_MAX_ATTEMPTS": "2",  # botocore's own tries wait for seconds
            }

        other = stack.deploy("relay-faults", change=change)
        ends.callback(other.stop)
        yield Relayed(other, queue, bus)


@pytest.fixture
def relayed(deployed: Relayed) -> Iterator[Relayed]:
    """Return it with nothing in the way, before and after."""
    for gate in deployed.gates():
        gate.open()
        gate.taken.clear()
        gate.refused = 0
    failures_of(deployed)
    yield deployed
    for gate in deployed.gates():
        gate.open()


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def a_request(now: int) -> Record:
    """Return a request of an id and a name that no other test uses."""
    name = "t" + secrets.token_hex(6)
    return Record(
        id=secrets.token_hex(16),
        version=0,
        state=State.RECEIVED,
        channel="standard",
        scope="hook:backoffice",
        key=name,
        caller="backoffice",
        requested_by=None,
        command={"name": name, "description": "", "type": "batch"},
        payload_hash="0" * 64,
        requested_at=now,
        give_up_at=now + HOUR,
    )


def now() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def wait_for_work(relayed: Relayed, number: int) -> list[Record]:
    """Record so many requests that the worker is to settle."""
    records = [receive(a_request(now()), now()) for _ in range(number)]
    for record in records:
        relayed.stack.ledger.write(None, record)
    return records


def fail_and_close(relayed: Relayed, number: int) -> list[Record]:
    """Record so many requests that failed and were then closed: two announcements each, in this order."""
    closed = []
    for _ in range(number):
        failed = give_up(a_request(now()), now())
        relayed.stack.ledger.write(None, failed)
        closed.append(resolve(failed, Problem("closed", "by hand"), now(), NUMBERS))
        relayed.stack.ledger.write(failed, closed[-1])
    return closed


def event_ids(relayed: Relayed) -> list[str]:
    """Return the ids of the events that the bus took, twins left out, in the order of their first coming."""
    taken = [json.loads(entry["Detail"])["metadata"]["event_id"] for entry in relayed.bus.taken]
    return list(dict.fromkeys(taken))


def given_away(relayed: Relayed) -> list[Json]:
    """Wait for something in the relay's own failure queue, and return it."""
    found: list[Json] = []

    def any_there() -> bool:
        found.extend(failures_of(relayed))
        return bool(found)

    until(any_there, "nothing was given away")
    return found


def failures_of(relayed: Relayed) -> list[Json]:
    """Return, and take away, what is in the relay's own failure queue."""
    url = relayed.stack.outputs["RelayFailuresUrl"]
    found = []
    while messages := relayed.stack.cloud.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            found.append(json.loads(message["Body"]))
            relayed.stack.cloud.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def _shut(gate: Gate) -> None:
    gate.shut()


def _sift(gate: Gate) -> None:
    chance = random.Random(20261123)
    gate.judge(lambda _: chance.random() < 0.6)


def _lose(gate: Gate) -> None:
    gate.lose()


@pytest.mark.parametrize("fault", [_shut, _sift, _lose], ids=["refused", "partly refused", "answers lost"])
def test_everything_arrives_after_an_outage(relayed: Relayed, fault: Callable[[Gate], None]) -> None:
    """Whatever SQS and EventBridge refuse for a while, each request is worked on once and each outcome announced.

    The announcements of one request come in the order of its ledger, also those that were refused in between.
    """
    for gate in relayed.gates():
        fault(gate)
    open_ones, closed = wait_for_work(relayed, 5), fail_and_close(relayed, 7)
    until(lambda: all(gate.refused >= 2 for gate in relayed.gates()), "the relay does not try")
    for gate in relayed.gates():
        gate.open()
    wanted = {f"{record.id}.created" for record in open_ones}
    wanted |= {f"{record.id}.{what}" for record in closed for what in ("failed-1", "rejected")}
    until(lambda: wanted <= set(event_ids(relayed)), "something was not announced")
    ours = {record.id for record in (*open_ones, *closed)}  # twins of an earlier test's may still come
    first = [each for each in event_ids(relayed) if each.partition(".")[0] in ours]
    assert wanted == set(first)
    for record in closed:
        assert first.index(f"{record.id}.failed-1") < first.index(f"{record.id}.rejected")
    for record in open_ones:
        assert len(relayed.stack.aitems.services_named(record.name)) == 1
        assert len(relayed.stack.aitems.posts_named(record.name)) == 1
    delivered = {event.metadata["event_id"] for event in relayed.stack.events()}
    until(lambda: wanted <= {event.metadata["event_id"] for event in relayed.stack.events()}, str(wanted - delivered))
    assert failures_of(relayed) == []


def test_the_queue_in_trouble_loses_no_outcome(relayed: Relayed) -> None:
    """While only SQS refuses, outcomes are not lost with the pointers; both arrive once it has recovered."""
    relayed.queue.shut()
    (open_one,), (closed,) = wait_for_work(relayed, 1), fail_and_close(relayed, 1)
    until(lambda: relayed.queue.refused >= 2, "the relay does not try")
    relayed.queue.open()
    relayed.stack.event(request_id=open_one.id, final=True, timeout=PATIENCE)
    relayed.stack.event(request_id=closed.id, final=True, timeout=PATIENCE)


def test_what_can_never_be_announced_blocks_nobody(relayed: Relayed) -> None:
    """H16: an event that EventBridge calls malformed goes to our failure queue, whole and once; the others go on."""
    poison = a_request(now())
    relayed.bus.judge(lambda entry: poison.id in entry["Detail"], "MalformedDetail")
    before = fail_and_close(relayed, 3)
    relayed.stack.ledger.write(None, give_up(poison, now()))
    after = fail_and_close(relayed, 3)
    for record in (*before, *after):
        relayed.stack.event(request_id=record.id, final=True, timeout=PATIENCE)
    found = given_away(relayed)
    assert found == [{"kind": "relay-failure", "request_id": poison.id, "why": "EventBridge: MalformedDetail"}]
    assert relayed.stack.events(poison.id) == []


def test_what_can_never_be_queued_blocks_nobody(relayed: Relayed) -> None:
    """The same of a pointer that SQS says is the sender's fault; nothing of it is tried again."""
    poison = receive(a_request(now()), now())

    def sender_fault(call: Call, forward: Forward) -> Reply:
        if "Entries" not in call.document or poison.id not in json.dumps(call.document):
            return pass_on(call, forward)
        kept = [entry for entry in call.document["Entries"] if poison.id not in entry["MessageBody"]]
        reply = forward({**call.document, "Entries": kept}) if kept else Reply(200, {})
        (bad,) = [entry["Id"] for entry in call.document["Entries"] if entry not in kept]
        failed = [{"Id": bad, "SenderFault": True, "Code": "InvalidMessageContents"}]
        return Reply(200, {"Successful": reply.document.get("Successful", []), "Failed": failed})

    relayed.queue.proxy.fault = sender_fault
    relayed.stack.ledger.write(None, poison)
    (good,) = wait_for_work(relayed, 1)
    relayed.stack.event(request_id=good.id, final=True, timeout=PATIENCE)
    found = given_away(relayed)
    assert found == [{"kind": "relay-failure", "request_id": poison.id, "why": "SQS: InvalidMessageContents"}]


def test_what_nobody_can_read_blocks_nobody(relayed: Relayed) -> None:
    """An item in the table that no version of ours wrote ends in the failure queue under its key."""
    key = "nobody-" + secrets.token_hex(4)
    item = {"pk": {"S": f"request#{key}"}, "state": {"S": "created"}}
    relayed.stack.cloud.dynamodb.put_item(TableName=relayed.stack.outputs["LedgerTable"], Item=item)
    (closed,) = fail_and_close(relayed, 1)
    relayed.stack.event(request_id=closed.id, final=True, timeout=PATIENCE)
    found = given_away(relayed)
    assert [(each["request_id"], each["why"]) for each in found] == [(key, "unreadable record: TypeError")]
    relayed.stack.cloud.dynamodb.delete_item(
        TableName=relayed.stack.outputs["LedgerTable"], Key={"pk": {"S": f"request#{key}"}}
    )
