"""A request's way as steps: what each write of the ledger, and each call of AiTEMS, tells a person.

Times are milliseconds since the epoch.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aitems_bridge.record import SECOND, Record, State
from aitems_local.emulator import Call
from aitems_local.journal import Announced

_SEQUENCE = re.compile(r"[0-9]{30}")
_MILLISECONDS = slice(0, 20)


class Kind(StrEnum):
    """What a step is."""

    SENT = "sent"
    ARRIVED = "arrived"
    VERIFIED = "verified"
    RECORDED = "recorded"
    POSTED = "posted"
    LOOKED = "looked"
    SETTLED = "settled"
    FAILED = "failed"
    REVIVED = "revived"
    ANSWERED = "answered"
    ANNOUNCED = "announced"
    TOLD = "told"


_RANKS = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to a request: ``how`` names the words for it, ``facts`` what they are about.

    ``roughly``: the time is good to some milliseconds only. ``took`` is in milliseconds.
    """

    at: float
    kind: Kind
    how: str
    facts: dict[str, Any] = field(default_factory=dict)
    took: float | None = None
    roughly: bool = False


@dataclass(slots=True)
class Request:
    """A request as it stands, and its way there. ``number`` counts requests in the order in which they were recorded.

    ``changed`` grows with each change of any request.
    """

    number: int
    record: Record
    changed: int = 0
    left_out: int = 0
    steps: dict[tuple[object, ...], Step] = field(default_factory=dict)
    states: list[tuple[float, State, float]] = field(default_factory=list)
    """Since when it was in which state; for one in doubt also from when on it is looked for."""
    events: list[Announced] = field(default_factory=list)

    @property
    def way(self) -> list[Step]:
        """The steps in the order in which they happened."""
        return sorted(self.steps.values(), key=lambda step: (step.at, _RANKS[step.kind]))

    def claimed_before(self, moment: float) -> float:
        """Return when a POST was last licensed before that time; 0 if never."""
        return max((at for at, state, _ in self.states if state is State.CREATING and at <= moment), default=0.0)

    def looked_for_at(self, moment: float) -> bool:
        """Whether it was in doubt then, and due to be looked for."""
        place = bisect_right(self.states, moment, key=lambda each: each[0])
        return bool(place) and self.states[place - 1][1] is State.UNKNOWN and moment >= self.states[place - 1][2]

    def matches(self, text: str) -> bool:
        """Whether its name, id, key, caller or channel has the text in it, whatever the letter case."""
        record = self.record
        return any(text in each.lower() for each in (record.name, record.id, record.key, record.caller, record.channel))


def written(change: dict[str, Any]) -> float:
    """Return when a change of the table's stream was written.

    A stream tells that to the second only; but MiniStack begins its sequence numbers with the milliseconds.
    """
    seconds = float(change["ApproximateCreationDateTime"].timestamp())
    number = str(change["SequenceNumber"])
    told = int(number[_MILLISECONDS]) if _SEQUENCE.fullmatch(number) else 0
    return float(told) if 0 <= told - seconds * SECOND < SECOND else seconds * SECOND


# What a change of state means. The first that fits; None stands for any state.
_MEANINGS: tuple[tuple[State | None, State | None, Kind, str], ...] = (
    (State.FAILED, State.CREATED, Kind.SETTLED, "resolved"),
    (State.UNKNOWN, State.CREATED, Kind.SETTLED, "adopted"),
    (None, State.CREATED, Kind.SETTLED, "created"),
    (State.FAILED, State.REJECTED, Kind.SETTLED, "closed"),
    (None, State.REJECTED, Kind.SETTLED, "rejected"),
    (None, State.FAILED, Kind.FAILED, "gave-up"),
    (State.FAILED, None, Kind.REVIVED, "revived"),
    (State.UNKNOWN, State.CREATING, Kind.LOOKED, "post-again"),
    (State.UNKNOWN, State.UNKNOWN, Kind.LOOKED, "put-off"),
    (None, State.CREATING, Kind.RECORDED, "claimed"),
    (None, State.UNKNOWN, Kind.RECORDED, "unknown"),
    (State.CREATING, State.RECEIVED, Kind.RECORDED, "not-done"),
    (None, None, Kind.RECORDED, "put-off-unsent"),
)


def of_write(old: Record | None, new: Record, at: float) -> Iterator[Step]:
    """Yield what a write of the ledger tells; ``old`` is None for the first one that was seen."""
    facts: dict[str, Any] = {
        "state": str(new.state),
        "attempt": new.attempts,
        "due": new.due,
        "service": new.service_id,
    }
    if problem := new.problem or new.last:
        facts["problem"] = problem
    roughly = at % SECOND == 0
    if old is None and new.version == 1:
        # The bridge notes the time of a request when it has checked all that can be checked without the ledger.
        yield Step(new.requested_at, Kind.VERIFIED, _proof(new), {"caller": new.caller, "key": new.key})
        yield Step(at, Kind.RECORDED, f"recorded-{new.state}", facts, roughly=roughly)
    elif old is None:
        yield Step(at, Kind.RECORDED, "seen-later", facts, roughly=roughly)
    elif new.version == old.version:
        yield Step(at, Kind.REVIVED, "again", facts, roughly=roughly)
    else:
        kind, how = next(
            (kind, how)
            for before, after, kind, how in _MEANINGS
            if before in (None, old.state) and after in (None, new.state)
        )
        how = "seen" if how == "put-off" and new.seen and not old.seen else how
        yield Step(at, kind, how, facts, roughly=roughly)


def _proof(record: Record) -> str:
    if record.channel == "bus":
        return "verified-bus"
    return "verified-command" if record.command is None else "verified"


def of_call(call: Call) -> Step:
    """Return what a call of AiTEMS tells."""
    facts = {"call": f"{call.method} {call.path}", "status": call.status, "service": call.service_id}
    facts |= {"fault": call.fault, "done": call.done is not None}
    took = None if call.done is None else (call.done - call.arrived) * SECOND
    kind = Kind.POSTED if call.operation == "create" else Kind.LOOKED
    return Step(call.arrived * SECOND, kind, str(call.operation), facts, took)
