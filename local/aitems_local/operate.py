"""What an operator does about requests that are stuck: have them examined or announced once more, or decide.

Everything here is a write to the ledger and nothing else; the stream does the rest. So nothing here can make a service:
whoever is revived goes the way of every request, and in doubt that way leads past a look at AiTEMS before anything is
sent. What a person decides is final, and so is checked as far as it can be.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from aitems_bridge.aitems import AiTEMS, LookFailed, wall
from aitems_bridge.errors import NotRecorded, Problem
from aitems_bridge.events import timestamp
from aitems_bridge.ledger import Ledger, Moved, ServiceClaimed
from aitems_bridge.reconcile import Age, age
from aitems_bridge.record import DAY, HOUR, MINUTE, SECOND, Clock, Made, Numbers, Record, State, again, resolve, revive

PATIENCE = MINUTE
"""How long after its time nobody has come for an open request before its pointer is taken for lost."""

_READ_SECONDS = 20.0
_CLOCKS = Clock(-5 * MINUTE, 5 * MINUTE)
"""AiTEMS's gateway admits nobody whose clock differs more from its own."""


_LEAST_BEGINNING = 4
"""Characters of an id that may stand for it; fewer are a slip rather than an id."""


class Refusal(Exception):
    """It is not to be decided like this; the text says why, in a line."""


# --- once more ----------------------------------------------------------------------------------------------------


class Deed(StrEnum):
    """What is done to a request; the word says it of one that it was done to."""

    REVIVE = "revived"
    QUEUE = "queued again"
    ANNOUNCE = "announced again"
    NOTHING = "left alone"


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done to a request, and what that means for it."""

    record: Record
    deed: Deed
    means: str


def left_out(key: str) -> None:
    """Say that an item of the ledger is left out: somebody wrote it by hand, and the rest is to go on."""
    print(f"{key} cannot be read, and is left out: did somebody write it by hand?", file=sys.stderr)


def find(ledger: Ledger, which: str) -> Record | None:
    """Return the request of an id, the last one of a name, or the one whose id begins so. Raises `Refusal`.

    Ids are taken as they are shown: shortened with an ellipsis, or with the outcome behind them, as events have them.
    """
    beginning = which.partition("…")[0].partition(".")[0].lower()
    try:
        if found := ledger.get(beginning):
            return found
        if beginning == which.lower() and (found := ledger.last_of(which)):
            return found
    except (KeyError, ValueError, TypeError) as error:
        raise Refusal(f"what the ledger has of {which} cannot be read: did somebody write it by hand?") from error
    named, begun = [], []  # only who has sent something holds a name, and stands in the ledger under it
    for record in ledger.scan(left_out):
        if record.name and record.name.lower() == which.lower():
            named.append(record)
        if len(beginning) >= _LEAST_BEGINNING and record.id.startswith(beginning):
            begun.append(record)
    if named:
        return max(named, key=lambda record: record.requested_at)
    if len(begun) > 1:
        raise Refusal(f"{len(begun)} requests begin with {beginning}: write more of the id")
    return begun[0] if begun else None


def waiting_for(ledger: Ledger, record: Record, which: str) -> list[Record]:
    """Return the open requests that wait for the name of one that was looked up by it, in the order of asking."""
    if which.lower() != record.name.lower():
        return []
    others = (each for each in ledger.scan(left_out) if each.state.open and each.name.lower() == which.lower())
    return sorted((each for each in others if each.id != record.id), key=lambda each: each.requested_at)


def stuck(records: Iterable[Record], now: int) -> Iterator[Record]:
    """Yield what nobody works on although it is not settled: failed, or open and nobody came for it."""
    return (record for record in records if record.state is State.FAILED or _forgotten(record, now))


def missed(records: Iterable[Record], since: int, now: int, *, outcomes_only: bool) -> Iterator[Record]:
    """Yield what a relay that was broken since then may not have passed on: outcomes, and what is still open."""
    for record in records:
        if record.settled_at is not None and not record.state.open:
            if record.settled_at >= since:
                yield record
        elif not outcomes_only and _forgotten(record, now) and (record.due or 0) >= since:
            yield record


def plan(record: Record, now: int, *, announce: bool = False) -> Plan:
    """Return what a redrive does to the request. ``announce``: what was failed is announced again, not revived."""
    if record.state.final or (record.state is State.FAILED and announce):
        said = f"{record.state} {_ago(record.settled_at, now)}; under the same event id"
        return Plan(record, Deed.ANNOUNCE, said)
    match record.state:
        case State.FAILED if record.command is None:
            return Plan(record, Deed.NOTHING, "it did not validate, so nothing can be made of it: reject it")
        case State.FAILED:
            return Plan(record, Deed.REVIVE, _ahead_of(record, now))
        case State.CREATING if record.lease_until is not None and now <= record.lease_until:
            until = timestamp(record.lease_until)
            return Plan(record, Deed.QUEUE, f"somebody is at it, until {until} at most; looked after when that is over")
        case State.CREATING:
            return Plan(record, Deed.QUEUE, f"its process ended without a word; {_in_doubt(record, now)}")
    return Plan(record, Deed.QUEUE, _ahead_of(record, now))


def carry_out(ledger: Ledger, planned: Plan, now: int, numbers: Numbers) -> Record:
    """Do it and return the request as it then stands. Raises `Refusal` when somebody else was quicker."""
    record = planned.record
    if planned.deed is Deed.NOTHING:
        return record
    written = revive(record, now, numbers) if planned.deed is Deed.REVIVE else again(record)
    _write(ledger, record, written)
    return written


# --- to decide ----------------------------------------------------------------------------------------------------


def resolve_created(
    ledger: Ledger, aitems: AiTEMS, record: Record, service_id: str, *, now: int, numbers: Numbers
) -> Record:
    """Settle a failed request with a service that AiTEMS has. Raises `Refusal` where that cannot be true."""
    if record.state is State.CREATED and record.service_id == service_id:
        return record
    _check_failed(record, now)
    if not record.doubt:
        raise Refusal("nothing was ever sent for it that could have made a service: redrive it, or reject it")
    owner = ledger.claimant(service_id)
    if owner is not None and owner.id != record.id:
        raise Refusal(f"service {service_id} was made by request {owner.id}, which is settled with it")
    answer = _read(aitems, record, service_id, now)
    settled = resolve(record, Made(answer, service_id), now, numbers)
    try:
        _write(ledger, record, settled)
    except ServiceClaimed as error:
        raise Refusal(f"service {service_id} is settled with another request") from error
    return settled


def resolve_rejected(ledger: Ledger, record: Record, reason: str, *, now: int, numbers: Numbers) -> Record:
    """Close a failed request for good, and give its name back. Raises `Refusal` where it is too early or too late."""
    if record.state is State.REJECTED:
        return record
    _check_failed(record, now)
    settled = resolve(record, Problem("closed", f"Closed by an operator: {reason}"), now, numbers)
    _write(ledger, record, settled)
    return settled


# --- the parts ----------------------------------------------------------------------------------------------------


def _write(ledger: Ledger, old: Record, new: Record) -> None:
    try:
        ledger.write(old, new)
    except Moved as moved:
        raise Refusal(f"somebody was quicker: it is {moved.current.state} now") from moved
    except NotRecorded as error:
        raise Refusal("the ledger did not confirm it: ask for it once more, which is harmless") from error


def _forgotten(record: Record, now: int) -> bool:
    return record.state.open and (record.due or 0) + PATIENCE < now


def _ahead_of(record: Record, now: int) -> str:
    if not record.doubt:
        return "nothing was made; would POST" if record.attempts else "nothing was sent yet; would POST"
    return _in_doubt(record, now)


def _in_doubt(record: Record, now: int) -> str:
    sent = f"sent {_ago(record.sent_at, now)}"
    if record.posts > 1:
        sent = f"{record.posts} POSTs in doubt, the first {sent}"
    if record.seen is not None:
        return f"in doubt ({sent}): would be examined; service {record.seen} may be its, so nothing would be posted"
    return f"in doubt ({sent}): would be examined, and POST again only if AiTEMS shows no service of that name"


def _check_failed(record: Record, now: int) -> None:
    if record.state.open:
        raise Refusal(f"it is {record.state}, so the bridge is still at it: only what has failed is for a person")
    if record.state.final:
        raise Refusal(f"it is {record.state} since {timestamp(record.settled_at or 0)}, which is final")
    if record.quiet_until is not None and now < record.quiet_until:
        until = timestamp(record.quiet_until)
        raise Refusal(f"AiTEMS may still be at work on what was sent: not before {until}")


def _read(aitems: AiTEMS, record: Record, service_id: str, now: int) -> str:
    try:
        found = aitems.read(service_id, lambda: _READ_SECONDS)
    except LookFailed as error:
        raise Refusal(f"AiTEMS cannot be asked for service {service_id}: {error.problem.detail}") from error
    if found is None:
        raise Refusal(f"AiTEMS has no service {service_id}")
    service, answer = found
    if service.service_id != service_id or service.name != record.name:
        raise Refusal(f"service {service_id} is named {service.name!r}, and {record.name!r} was asked for")
    if age(record, wall(service.created_date), _CLOCKS, aitems.utc_offset, now, zone_agrees=False) is Age.OLDER:
        raise Refusal(f"service {service_id} is older than the request: {service.created_date}")
    return answer


def _ago(then: int | None, now: int) -> str:
    if then is None:
        return "at an unknown time"
    passed = max(0, now - then)
    for unit, length in (("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", SECOND)):
        if passed >= 2 * length or unit == "second":
            number = passed // length
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    raise AssertionError(passed)
