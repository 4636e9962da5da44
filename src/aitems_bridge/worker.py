"""The Worker function: pointers of the ledger, requests from the event bus, and what ended among the dead letters.

A message is deleted after its look whatever came of it, for what the look wrote has queued the next; so a receive count
counts crashes only. Messages of one batch are worked on at once: each waits for AiTEMS far longer than it computes.
"""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from aitems_bridge import config
from aitems_bridge.bridge import Bridge, Invocation, KeyReused, Order, fingerprint, from_environment
from aitems_bridge.errors import NotRecorded, Problem, Refused, Violation
from aitems_bridge.events import REQUESTED
from aitems_bridge.models import CreateService, quoted
from aitems_bridge.record import SECOND, Record

MOST_AT_ONCE = 10
LONGEST_KEY = 256

logger = Logger()


@dataclass(frozen=True, slots=True)
class Requested:
    """A request from the event bus: the order, the problem it was found with, and the event's own id."""

    order: Order
    problem: Problem | None
    event_key: str


def requested(envelope: dict[str, Any], oldest: int) -> Requested:
    """Return the request that an event of EventBridge carries. Raises ``KeyError`` for what is no such event.

    An event from before ``oldest`` (milliseconds since the epoch) is refused: what became of its request may be
    forgotten, and a replay would be taken for a new one.
    """
    source, account, event_key = str(envelope["source"]), str(envelope["account"]), str(envelope["id"])
    detail = envelope["detail"]
    given: dict[str, Any] = dict(detail) if isinstance(detail, dict) else {}
    key = given.pop("idempotency_key", event_key)
    command: dict[str, str] | None = None
    errors: tuple[Violation, ...] = ()
    try:
        command = CreateService.parse(given if isinstance(detail, dict) else detail).document()
    except Refused as refused:
        errors = refused.problem.errors
    if not (isinstance(key, str) and 1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        said = f"{quoted(key)} is not a string of 1 to {LONGEST_KEY} printable ASCII characters"
        errors = (*errors, Violation("#/idempotency_key", "pattern", said))
        key, command = event_key, None
    payload_hash = fingerprint(command if command is not None else detail)
    if _moment(envelope.get("time")) < oldest:
        said = "is older than requests are remembered; send the request as a new event"
        errors, command = (*errors, Violation("#/time", "minimum", said)), None
    order = Order(
        channel="bus",
        scope=f"bus:{account}:{source}",
        key=key,
        caller=source,
        command=command,
        payload_hash=payload_hash,
        requested_by=f"account:{account}",
    )
    if not errors:
        return Requested(order, None, event_key)
    fields = len({error.pointer for error in errors})
    said = "1 field is wrong." if fields == 1 else f"{fields} fields are wrong."
    return Requested(order, Problem("invalid-request", said, errors=errors), event_key)


def _moment(time: object) -> float:
    """Return an event's time in milliseconds since the epoch; one that says none is of now."""
    try:
        return datetime.fromisoformat(time).timestamp() * SECOND if isinstance(time, str) else math.inf
    except (ValueError, OverflowError):
        return math.inf


def take_in(bridge: Bridge, envelope: dict[str, Any], invocation: Invocation, *, dead: bool = False) -> bool:
    """Open what the event asks for, or record it as rejected: on the bus there is nobody to answer.

    A key used again for another payload is a request of its own, under the event's id, and rejected. What comes from
    the dead letters is not opened but buried. False: keep the message.
    """
    begun = bridge.now()
    request = requested(envelope, begun - bridge.numbers.retention)
    logger.thread_safe_append_keys(request_id=request.order.request_id)
    try:
        if request.problem is not None:
            record, known = bridge.refuse(request.order, request.problem)
        elif dead:
            logger.warning("a dead letter")
            return bridge.bury(request.order, request.order.request_id, None)
        else:
            record, known = bridge.open(request.order, invocation)
    except KeyReused as reused:
        order = request.order
        said = (
            f"The key {quoted(order.key)} was used for another request ({reused.record.id}). "
            "Nothing was created for this one; send it under a new key."
        )
        own = replace(order, key=request.event_key)
        logger.thread_safe_append_keys(request_id=own.request_id)
        try:
            record, known = bridge.refuse(own, request.problem or Problem("key-reused", said))
        except KeyReused:
            logger.exception("an event's id is another request's key")
            return True
    _attended(record, bridge.now() - begun, replayed=known)
    return True


def _attended(record: Record, spent: int, **more: object) -> None:
    logger.info("attended", extra={"state": str(record.state), "attempts": record.attempts, "ms": spent, **more})


def work(bridge: Bridge, body: str, invocation: Invocation, *, dead: bool) -> bool:
    """Do what one message stands for; ``dead`` where it came from the dead letters. False: keep the message."""
    message = json.loads(body)
    if "detail-type" in message:
        if message["detail-type"] == REQUESTED:
            return take_in(bridge, message, invocation, dead=dead)
        logger.error("an event of another kind was dropped")
        return True
    request_id, version, begun = message["request_id"], message["version"], bridge.now()
    logger.thread_safe_append_keys(request_id=request_id)
    if dead:
        logger.warning("a dead letter")
        return bridge.bury(None, request_id, version)
    done, record = bridge.attend(request_id, version, invocation)
    if record is None:
        logger.debug("the pointer stands for nothing any more", extra={"version": version})
    elif done:
        _attended(record, bridge.now() - begun)
    else:
        logger.info("somebody is still at it")
    return done


@cache
def _bridge() -> Bridge:
    return from_environment()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401  # Lambda's context
    """Work on one batch; what failed is reported by message, so that the others are done with."""
    bridge = _bridge()
    dead_letters = config.setting("DEAD_LETTER_QUEUE_ARN")
    ends = bridge.now() + int(context.get_remaining_time_in_millis())
    invocation = Invocation(ends=ends, answer_by=ends)

    def attend(record: dict[str, Any]) -> bool:
        return work(bridge, record["body"], invocation, dead=record["eventSourceARN"] == dead_letters)

    records = event["Records"]
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
        done = list(pool.map(lambda record: _done(attend, record), records))
    failed = [record["messageId"] for record, well in zip(records, done, strict=True) if not well]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _done(attend: Callable[[dict[str, Any]], bool], record: dict[str, Any]) -> bool:
    logger.thread_safe_clear_keys()  # the thread may have had another message before
    try:
        return attend(record)
    except Refused as refused:
        cause = refused.cause if isinstance(refused, NotRecorded) else refused.problem.slug
        logger.warning("a message is kept", extra={"cause": cause, "message_id": record["messageId"]})
    except (KeyError, ValueError, TypeError):
        logger.exception("a message cannot be read", extra={"message_id": record["messageId"]})
    except Exception:
        logger.exception("a message failed", extra={"message_id": record["messageId"]})
    return False
