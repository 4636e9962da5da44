"""The Relay function: what the ledger's stream says, put where it belongs.

An open request becomes a pointer in the queue, due when the record says; an outcome becomes an event. The ledger was
written first, so everything here may be repeated: a pointer of an old version is dropped by who reads it, and an event
bears the same id every time. Refused entries are tried again alone; what can never succeed goes whole to a queue of our
own, so that it blocks nobody; only then, if anything is left, the batch is repeated.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger

from aitems_bridge import config, metrics
from aitems_bridge.events import entry, event_id
from aitems_bridge.ledger import Image, record_of
from aitems_bridge.record import SECOND, Record, State

if TYPE_CHECKING:
    from types_boto3_events.client import EventBridgeClient
    from types_boto3_sqs.client import SQSClient

MOST_ENTRIES = 10
MOST_BYTES = 240_000
"""Of the documented 256 KiB of one call, the rest being left for the entry's own members."""
LONGEST_DELAY = 900
TRIES = 3

UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError)
"""What comes of a record that another version wrote, or nobody of ours: a time beyond any clock, JSON nested without
end. Repeating the batch would not help."""

_FOR_GOOD = {
    "InvalidArgument", "MalformedDetail", "NotAuthorizedForDetailTypeException", "NotAuthorizedForSourceException",
    "RedactionFailure",
}  # fmt: skip
"""What EventBridge refuses of an entry itself. Whatever else it says, a missing permission too, may be mended.

Source: https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
"""

logger = Logger()


class NotRelayed(Exception):
    """Some of the batch could not be put for now; the whole batch is to be repeated."""


class _Away(Exception):
    """The service did not take the call, whatever stood in it; botocore has tried it again already."""


@dataclass(frozen=True)
class Relay:
    """Puts records where they belong. ``now`` gives milliseconds since the epoch."""

    events: "EventBridgeClient"
    queues: "SQSClient"
    bus: str
    queue_url: str
    failures_url: str
    now: Callable[[], int]
    sleep: Callable[[float], None] = time.sleep
    replies_url: str | None = None
    """Where outcomes of chat commands go; None where chats are not replied to."""

    def put(self, records: Sequence[Record]) -> None:
        """Queue the open ones and announce the others. Raises ``NotRelayed`` when some could not be put for now."""
        made = [(record, self._made(record)) for record in records]
        items = [(record, item) for record, item in made if item is not None]
        left = self._all([item for item in items if item[0].state.open], partial(self._send, self.queue_url))
        left += self._all([item for item in items if not item[0].state.open], self._announce)
        if self.replies_url:
            # After the announcements: a chat that cannot be told must not hold up what everybody waits for.
            replies = [(record, _reply(record)) for record in records if record.reply and not record.state.open]
            left += self._all(replies, partial(self._send, self.replies_url))
        if left:
            raise NotRelayed(f"{left} of {len(records)} records could not be put")

    def give_away(self, request_id: str, why: str) -> None:
        """Put what can never succeed into our own failure queue, with the request's id."""
        logger.error("a record cannot be relayed", extra={"request_id": request_id, "why": why})
        body = json.dumps({"kind": "relay-failure", "request_id": request_id, "why": why})
        self.queues.send_message(QueueUrl=self.failures_url, MessageBody=body)

    def _made(self, record: Record) -> dict[str, Any] | None:
        """Return the record's message or event; None where none can be made of it, which somebody has to look at."""
        try:
            return self._pointer(record) if record.state.open else entry(record, self.bus)
        except UNREADABLE as error:
            self.give_away(record.id, f"unreadable record: {type(error).__name__}")
            return None

    def _pointer(self, record: Record) -> dict[str, Any]:
        body = {"kind": "work", "request_id": record.id, "version": record.version}
        delay = min(LONGEST_DELAY, max(0, -((self.now() - (record.due or 0)) // SECOND)))
        return {"Id": record.id, "MessageBody": json.dumps(body), "DelaySeconds": delay}

    def _all(self, items: "Batch", put: "Callable[[Batch], Batch]") -> int:
        """Put all; return how many are left. What follows a refused one of the same request waits with it.

        Where the service is away, the rest is not tried: the batch comes again, and there is more to do than to wait.
        """
        left = 0
        behind: set[str] = set()
        batches = _batches(items)
        for batch in batches:
            ready = [item for item in batch if item[0].id not in behind]
            try:
                refused = self._retried(ready, put) if ready else []
            except _Away:
                return left + len(batch) + sum(map(len, batches))
            behind |= {record.id for record, _ in refused}
            left += len(batch) - len(ready) + len(refused)
        return left

    def _retried(self, batch: "Batch", put: "Callable[[Batch], Batch]") -> "Batch":
        """Return what of the batch could not be put, after the refused ones were tried again alone."""
        refused = put(batch)
        for attempt in range(1, TRIES):
            if not refused:
                break
            self.sleep(0.2 * 2**attempt)
            refused = [item for one in refused for item in put([one])]
        return refused

    def _send(self, queue_url: str, batch: "Batch") -> "Batch":
        # Two writes of one request may stand in one batch, and ids must differ within it.
        entries = [{**message, "Id": str(number)} for number, (_, message) in enumerate(batch)]
        try:
            answer = self.queues.send_message_batch(QueueUrl=queue_url, Entries=entries)  # type: ignore[arg-type]
        except _aws_failures() as error:
            logger.warning("the queue did not take a batch", extra={"cause": type(error).__name__})
            raise _Away from error
        refused = []
        for taken in answer.get("Successful", ()):
            record = batch[int(taken["Id"])][0]
            logger.debug("queued", extra={"request_id": record.id, "version": record.version})
        for failed in answer.get("Failed", ()):
            item = batch[int(failed["Id"])]
            if failed["SenderFault"]:
                self.give_away(item[0].id, f"SQS: {failed['Code']}")
            else:
                refused.append(item)
        return refused

    def _announce(self, batch: "Batch") -> "Batch":
        try:
            entries: list[Any] = [event for _, event in batch]
            answer = self.events.put_events(Entries=entries)
        except _aws_failures() as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            logger.warning("the bus did not take a batch", extra={"cause": code or type(error).__name__})
            if code != "ValidationException":
                raise _Away from error
            if len(batch) > 1:
                return batch  # one of them spoils it for all: alone, it shows which
            self.give_away(batch[0][0].id, f"EventBridge: {code}")
            return []
        refused = []
        for item, result in zip(batch, answer["Entries"], strict=True):
            code = result.get("ErrorCode")
            if code in _FOR_GOOD:
                self.give_away(item[0].id, f"EventBridge: {code}")
            elif code:
                refused.append(item)
            else:
                record = item[0]
                said = {"request_id": record.id, "state": str(record.state), "event": result.get("EventId")}
                logger.info("announced", extra=said)
        return refused


Batch = list[tuple[Record, dict[str, Any]]]


def measures(record: Record, before: Record | None, now: int) -> dict[str, float]:
    """Return what a write of a request counts for, by the metrics' names; ``before`` is what it replaced.

    A write that leaves the version is an operator's, who has it said again: it counts for nothing. A request's age is
    measured when it was looked at and is open still, so at least every quarter of an hour; not when it was revived.
    """
    if before is not None and before.version == record.version:
        return {}
    left = before.state if before is not None else None
    match record.state:
        case State.CREATED | State.REJECTED:
            took = (record.settled_at or now) - record.requested_at
            values: dict[str, float] = {record.state.capitalize(): 1, "TimeToOutcome": took}
            return values | ({"Adopted": 1} if record.adopted else {})
        case State.FAILED:
            return {"Failed": 1}
        case State.RECEIVED if left not in (None, State.FAILED):
            return {"OpenAge": (now - record.requested_at) / SECOND}
        case State.UNKNOWN if left is not State.FAILED:
            ages = {"OpenAge": (now - record.requested_at) / SECOND}
            ages["UnknownAge"] = (now - (record.sent_at or record.requested_at)) / SECOND
            return ages | ({"Unknown": 1} if left is State.CREATING else {})
    return {}


def _reply(record: Record) -> dict[str, Any]:
    body = {"kind": "reply", "request_id": record.id, "event_id": event_id(record)}
    return {"Id": record.id, "MessageBody": json.dumps(body)}


def _batches(items: Batch) -> Iterator[Batch]:
    """Yield the items in calls of allowed size, with no announcement of a request beside another of the same.

    The bus may take the second one alone. Pointers need no order: they bear versions.
    """
    batch: Batch = []
    size = 0
    for item in items:
        weight = len((item[1].get("Detail") or item[1]["MessageBody"]).encode())
        twice = "Detail" in item[1] and any(record.id == item[0].id for record, _ in batch)
        if batch and (twice or len(batch) == MOST_ENTRIES or size + weight > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield batch


def _aws_failures() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # after the clients have loaded it

    return (BotoCoreError, ClientError)


@cache
def _relay() -> Relay:
    times: dict[str, Any] = {"connect_timeout": 2, "read_timeout": 5, "retries": {"mode": "standard"}}
    return Relay(
        events=config.client("events", **times),
        queues=config.client("sqs", **times),
        bus=config.setting("EVENT_BUS"),
        queue_url=config.setting("QUEUE_URL"),
        failures_url=config.setting("RELAY_FAILURES_URL"),
        now=config.now,
        replies_url=os.environ.get("REPLIES_QUEUE_URL") or None,
    )


def handler(event: dict[str, Any], _context: object) -> None:
    """Relay one batch of the table's stream. Raises ``NotRelayed`` to have it repeated."""
    relay = _relay()
    records, replaced = [], []
    for change in event["Records"]:
        image = change["dynamodb"].get("NewImage", {})
        key = change["dynamodb"].get("Keys", {}).get("pk", {}).get("S", "")
        if change["eventName"] == "REMOVE" or not key.startswith("request#"):
            continue
        try:
            records.append(record_of(image))
        except UNREADABLE as error:
            relay.give_away(key.removeprefix("request#"), f"unreadable record: {type(error).__name__}")
        else:
            replaced.append(_replaced(change["dynamodb"].get("OldImage")))
    relay.put(records)
    # Last: a batch that is repeated would count twice. One that Lambda itself hands over twice still does.
    for record, before in zip(records, replaced, strict=True):
        if values := measures(record, before, relay.now()):
            metrics.put(record.id, **values)


def _replaced(image: Image | None) -> Record | None:
    try:
        return record_of(image) if image else None
    except UNREADABLE:
        return None  # only a number depends on it
