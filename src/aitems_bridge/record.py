"""One request's record and its transitions: pure, complete, and the only place where a record changes.

The states, and what leaves them::

    received ──claim──► creating ──settle──► created · rejected
       ▲                   │  ▲
       └──surely not done──┘  │ claim again: only after a complete look, after the quiet time
                           ▼  │
                        unknown ──look──► created (adopted) · rejected
    received · unknown ──given up──► failed ──revive──► where it came from

Two words carry the promise. A request is *in doubt* from the moment one of its POSTs may have done something, and is
never out of doubt again but by settling: doubt survives refusals, giving up and reviving. The *quiet time* ends when
AiTEMS has surely finished with the last POST: before it, nothing may be rejected and nothing posted again.

Times are milliseconds since the epoch. Every transition takes the record as read and returns the one to write, with
the next version; who writes it on condition of the old version is fenced off from everybody else.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from aitems_bridge.errors import EXAMINED, Problem

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class State(StrEnum):
    """Where a request stands."""

    RECEIVED = "received"
    CREATING = "creating"
    UNKNOWN = "unknown"
    CREATED = "created"
    REJECTED = "rejected"
    FAILED = "failed"

    @property
    def open(self) -> bool:
        """Whether the bridge still works on it by itself."""
        return self in (State.RECEIVED, State.CREATING, State.UNKNOWN)

    @property
    def final(self) -> bool:
        """Whether it never changes again."""
        return self in (State.CREATED, State.REJECTED)


@dataclass(frozen=True, slots=True)
class Clock:
    """How far AiTEMS's wall clock (its zone included) is ahead of ours: between ``low`` and ``high`` milliseconds."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Record:
    """A request as the ledger keeps it. ``command`` is None where the request did not validate."""

    id: str
    version: int
    state: State
    channel: str
    scope: str
    key: str
    caller: str
    requested_by: str | None
    command: dict[str, str] | None
    payload_hash: str
    requested_at: int
    give_up_at: int
    due: int | None = None
    lease_until: int | None = None
    quiet_until: int | None = None
    sent_at: int | None = None
    """When the first POST that is in doubt was begun, by our clock; a POST that surely did nothing is forgotten."""
    posts: int = 0
    """POSTs in doubt or under way."""
    attempts: int = 0
    """POSTs ever begun: for people, decides nothing."""
    waits: int = 0
    """Times put off in a row: the exponent of the backoff."""
    doubt: bool = False
    last: Problem | None = None
    """What stood in the way last, while open."""
    clock: Clock | None = None
    seen: str | None = None
    """The id of a service that could be ours, once one was seen: from then on nothing is posted for want of one."""
    unlisted: int = 0
    """Looks in a row that found nothing although AiTEMS had refused the name as taken."""
    answer: str | None = None
    """AiTEMS's answer, as its JSON text."""
    service_id: str | None = None
    problem: Problem | None = None
    adopted: bool = False
    settled_at: int | None = None
    gave_up: int = 0
    again: int = 0
    expires: int | None = None
    """When DynamoDB may forget it, in seconds; only ever set on a final record."""
    reply: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name asked for; empty where the request did not validate."""
        return self.command["name"] if self.command else ""

    def leased(self, now: int) -> bool:
        """Whether the process that claimed it may still be at it."""
        return self.state is State.CREATING and self.lease_until is not None and now <= self.lease_until

    def overdue(self, now: int) -> bool:
        """Whether it is time to give up: too old, and quiet."""
        return now >= max(self.give_up_at, self.quiet_until or 0)

    @property
    def holds_name(self) -> bool:
        """Whether no other request may post for this name: from the claim on, and as long as there is doubt."""
        return self.state in (State.CREATING, State.UNKNOWN) or (self.state is State.FAILED and self.doubt)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The times that rule transitions, in milliseconds; with the defaults the inequalities were checked."""

    lease_margin: int = 2 * SECOND
    """How much longer than its process a lease lasts: the clocks' disagreement."""
    pointer_margin: int = 2 * SECOND
    quiet: int = 45 * SECOND
    """From the lease's end until AiTEMS has surely finished with the last POST."""
    early_look: int = 5 * SECOND
    lapse_look: int = 30 * SECOND
    backoff_base: int = 5 * SECOND
    backoff_cap: int = 900 * SECOND
    give_up: int = 6 * 60 * MINUTE
    retention: int = 30 * DAY
    unlisted_looks: int = 3
    chance: Callable[[], float] = field(default=random.random, compare=False)
    """Spreads the backoffs; uniform in [0, 1)."""

    def backoff(self, waits: int) -> int:
        """Return how long to wait after ``waits`` waits: doubling, capped, half of it fixed and half by chance."""
        whole = min(self.backoff_cap, self.backoff_base * 2 ** min(waits, 30))
        return int(whole / 2 + whole / 2 * self.chance())


class Illegal(AssertionError):
    """A transition was asked for that the rules do not have: a bug of ours, never the world's doing."""


# --- what our own POST came to ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Made:
    """AiTEMS answered with the service; ``answer`` is its JSON text."""

    answer: str
    service_id: str
    posts: int = 1


@dataclass(frozen=True, slots=True)
class Rejection:
    """AiTEMS itself refused the request. ``duplicate``: because the name is taken; then ``clock`` may be known."""

    problem: Problem
    duplicate: bool = False
    clock: Clock | None = None
    posts: int = 1


@dataclass(frozen=True, slots=True)
class NotDone:
    """Surely nothing was made, and the request is not to blame. ``posts`` is 0 where no byte was handed over."""

    problem: Problem
    slow: bool = False
    """Wait long before the next try (a quota, not a throttle)."""
    posts: int = 1


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have taken effect, or may yet."""

    problem: Problem
    posts: int = 1


Outcome = Made | Rejection | NotDone | Unknown


# --- what looking at AiTEMS showed --------------------------------------------------------------------------------


class Sight(StrEnum):
    """What a complete look proves about a request in doubt."""

    OURS = "ours"
    """Exactly one service of that name could have been made by our POST, and it agrees."""
    OLDER = "older"
    """Services of that name exist, and none of them is ours."""
    OTHER_CASE = "other-case"
    """The name exists in other letter case only."""
    NONE = "none"
    UNCLEAR = "unclear"
    """One could be ours or older: the clocks cannot tell."""
    CONTRADICTION = "contradiction"
    """Something that cannot be explained by the rules: a person has to look."""


@dataclass(frozen=True, slots=True)
class View:
    """A complete look. ``answer`` and ``service_id`` of the one that is ours; ``ids`` of all that bear the name.

    Those that could be ours stand first among the ids.
    """

    sight: Sight
    ids: tuple[str, ...] = ()
    answer: str | None = None
    service_id: str | None = None
    leaving: bool = False
    """The one that could be ours is being deleted, so its name may be free: nothing may be posted to find out."""
    why: str = ""


# --- transitions --------------------------------------------------------------------------------------------------


def receive(record: Record, now: int) -> Record:
    """T2: recorded for later; the pointer comes at once."""
    return _next(record, state=State.RECEIVED, due=now)


def refuse(record: Record, problem: Problem, now: int, numbers: Numbers) -> Record:
    """T3: rejected as it came, by our own rules; nothing was ever sent for it."""
    if record.version:
        raise Illegal("only what is new is refused as it comes")
    return _rejected(record, problem, now, numbers)


def claim(record: Record, now: int, lease_until: int, numbers: Numbers) -> Record:
    """T1, T4, T15: one POST may be sent until the lease ends; written before a byte of it leaves."""
    if record.state not in (State.RECEIVED, State.UNKNOWN):
        raise Illegal(f"claim from {record.state}")
    return _next(
        record,
        state=State.CREATING,
        due=lease_until + numbers.pointer_margin,
        lease_until=lease_until,
        quiet_until=lease_until + numbers.quiet,
        sent_at=record.sent_at if record.doubt else now,
        posts=record.posts + 1,
        attempts=record.attempts + 1,
    )


def put_off(record: Record, now: int, numbers: Numbers, problem: Problem | None = None) -> Record:
    """T5, T16: nothing can be done yet; look again later, not before the quiet time. Too old: give up (T18)."""
    if record.state not in (State.RECEIVED, State.UNKNOWN):
        raise Illegal(f"put off from {record.state}")
    if record.overdue(now):
        return give_up(record, now)
    due = max(now + numbers.backoff(record.waits), record.quiet_until or 0)
    # In doubt, what AiTEMS said to our last POST decides what a look means: nothing may stand in its place.
    last = problem if problem is not None and not record.doubt else record.last
    return _next(record, due=due, waits=record.waits + 1, last=last)


def settle(record: Record, outcome: Outcome, now: int, numbers: Numbers) -> Record:
    """T6 to T10: what our own POST came to. A refusal speaks for its own POST only: in doubt, look once more."""
    if record.state is not State.CREATING:
        raise Illegal(f"settle from {record.state}")
    record = replace(record, attempts=record.attempts + outcome.posts - 1)
    match outcome:
        case Made(answer, service_id):
            return _created(record, answer, service_id, now, numbers, adopted=False)
        case Rejection(problem) if not record.doubt:
            return _rejected(record, problem, now, numbers)
        case NotDone(problem) if not record.doubt:
            waits = max(record.waits, 6) if outcome.slow else record.waits
            return _next(
                record,
                state=State.RECEIVED,
                due=now + numbers.backoff(waits),
                waits=waits + 1,
                lease_until=None,
                quiet_until=None,
                sent_at=None,
                posts=0,
                last=problem,
            )
        case Rejection(problem):
            return _next(
                record,
                state=State.UNKNOWN,
                due=now,
                lease_until=None,
                quiet_until=now,
                last=problem,
                clock=outcome.clock or record.clock,
            )
        case NotDone(problem):
            return _next(
                record,
                state=State.UNKNOWN,
                due=now + numbers.backoff(record.waits),
                waits=record.waits + 1,
                lease_until=None,
                quiet_until=now,
                last=problem,
            )
        case Unknown(problem):
            quiet_until = record.quiet_until or now
            return _next(
                record,
                state=State.UNKNOWN,
                doubt=True,
                due=now + numbers.early_look if record.posts == 1 else quiet_until,
                lease_until=None,
                last=problem.in_doubt(),
            )


def lapse(record: Record, now: int, numbers: Numbers) -> Record:
    """T11: the lease is over and nobody settled: whoever had it is dead, and its POST may have taken effect."""
    if record.state is not State.CREATING or record.lease_until is None or now <= record.lease_until:
        raise Illegal("a living lease does not lapse")
    return _next(
        record,
        state=State.UNKNOWN,
        doubt=True,
        due=now + numbers.lapse_look,
        lease_until=None,
        last=Problem(
            "outcome-unknown",
            f"The process that sent the creation ended before it recorded an answer; {EXAMINED}",
            may_exist=True,
        ),
    )


def after_look(record: Record, view: View, now: int, lease_until: int, numbers: Numbers) -> Record:
    """T12 to T18: what a complete look settles. A returned ``creating`` record is a licence for one more POST."""
    if record.state is not State.UNKNOWN or record.quiet_until is None:
        raise Illegal(f"look from {record.state}")
    early = now < record.quiet_until
    gone = record.seen is not None and record.seen not in view.ids
    if view.sight is Sight.OURS and not gone and (record.posts == 1 or not early):
        if view.answer is None or view.service_id is None:
            raise Illegal("ours without an answer")
        return _created(record, view.answer, view.service_id, now, numbers, adopted=True)
    seen = record.seen
    if view.sight in (Sight.OURS, Sight.UNCLEAR, Sight.CONTRADICTION) and view.ids:
        seen = seen or view.ids[0]
    if early:
        return _next(record, due=record.quiet_until, seen=seen)
    return _after_quiet_look(replace(record, seen=seen), view, now, lease_until, numbers)


def _after_quiet_look(  # noqa: C901, PLR0911  # a table
    record: Record, view: View, now: int, lease_until: int, numbers: Numbers
) -> Record:
    taken = record.last is not None and record.last.slug == "duplicate-name"
    refused = record.last is not None and record.last.slug == "refused-by-aitems"
    giving_up = record.overdue(now)
    match view.sight:
        case Sight.CONTRADICTION:
            return _contradiction(record, view.why, view.ids, now)
        case _ if record.seen is not None and record.seen not in view.ids:
            why = f"Service {record.seen} could have been this request's, and is gone."
            return _contradiction(record, why, (record.seen, *view.ids), now)
        case Sight.OLDER:
            return _rejected(record, _duplicate(record), now, numbers)
        case Sight.OTHER_CASE if taken:
            return _rejected(record, _duplicate(record), now, numbers)
        case Sight.UNCLEAR if record.clock is not None or taken:
            return _contradiction(record, "Its age cannot be told from that of this request.", view.ids, now)
        case Sight.UNCLEAR if view.leaving:
            return _contradiction(record, "It is being deleted, and could have been this request's.", view.ids, now)
        case Sight.NONE | Sight.OTHER_CASE if refused and record.last is not None:
            return _rejected(record, record.last, now, numbers)
        case Sight.NONE if taken and record.unlisted + 1 >= numbers.unlisted_looks:
            why = f"AiTEMS says that the name is taken, and lists no such service in {numbers.unlisted_looks} looks."
            return _contradiction(record, why, (), now)
        case Sight.NONE if taken and not giving_up:
            return replace(put_off(record, now, numbers), unlisted=record.unlisted + 1)
        case _ if giving_up:
            return give_up(record, now)
    return claim(record, now, lease_until, numbers)


def give_up(record: Record, now: int, problem: Problem | None = None) -> Record:
    """T18, T19: too old, or too often in the way of a crash: announced as not final, kept, and revivable."""
    if not record.state.open:
        raise Illegal(f"give up from {record.state}")
    doubt = record.doubt or record.state is State.CREATING
    if problem is None:
        problem = record.last or Problem("aitems-unavailable", "AiTEMS could not be asked in time.")
    if doubt and problem.slug != "outcome-unknown":
        problem = Problem(
            "outcome-unknown",
            f"An earlier creation may have taken effect, and what came after could not settle it: {problem.detail}",
            upstream=problem.upstream,
        )
    # What was said of the last POST was said while somebody looked: now nobody does.
    problem = replace(problem, detail=problem.detail.replace(EXAMINED, "what came of it could not be found out."))
    return _failed(replace(record, doubt=doubt), problem.in_doubt() if doubt else problem, now)


def revive(record: Record, now: int, numbers: Numbers) -> Record:
    """T20: work on it again, from where it came: in doubt it is examined before anything is sent."""
    if record.state is not State.FAILED:
        raise Illegal(f"revive from {record.state}")
    return _next(
        record,
        state=State.UNKNOWN if record.doubt else State.RECEIVED,
        give_up_at=now + numbers.give_up,
        due=now,
        waits=0,
        unlisted=0,
        problem=None,
        settled_at=None,
    )


def resolve(record: Record, verdict: Made | Problem, now: int, numbers: Numbers) -> Record:
    """T21: a person decides about a failed request: it made this service, or it is rejected."""
    if record.state is not State.FAILED:
        raise Illegal(f"resolve from {record.state}")
    if isinstance(verdict, Made):
        return _created(record, verdict.answer, verdict.service_id, now, numbers, adopted=True)
    return _rejected(record, verdict, now, numbers)


def again(record: Record) -> Record:
    """T22: announce or queue it once more. The version stays: whoever works on it is not fenced off."""
    return replace(record, again=record.again + 1)


def claimed_elsewhere(record: Record, service_id: str, now: int) -> Record:
    """AiTEMS gave us a service that another request has: nobody can be told the truth by rule."""
    why = "Another request of this bridge was already settled with that service."
    if record.state not in (State.CREATING, State.UNKNOWN):
        raise Illegal(f"claimed elsewhere from {record.state}")
    return _contradiction(record, why, (service_id,), now)


# --- the parts ----------------------------------------------------------------------------------------------------


def _next(record: Record, **changes: Any) -> Record:  # noqa: ANN401  # the fields of Record, checked by replace()
    return replace(record, version=record.version + 1, **changes)


def _final(record: Record, now: int, numbers: Numbers, **changes: Any) -> Record:  # noqa: ANN401  # as above
    return _next(
        record,
        due=None,
        lease_until=None,
        last=None,
        settled_at=now,
        expires=(now + numbers.retention) // SECOND,
        **changes,
    )


def _created(record: Record, answer: str, service_id: str, now: int, numbers: Numbers, *, adopted: bool) -> Record:
    changes = {"answer": answer, "service_id": service_id, "adopted": adopted, "problem": None}
    return _final(record, now, numbers, state=State.CREATED, **changes)


def _rejected(record: Record, problem: Problem, now: int, numbers: Numbers) -> Record:
    return _final(record, now, numbers, state=State.REJECTED, problem=problem)


def _failed(record: Record, problem: Problem, now: int) -> Record:
    return _next(
        record,
        state=State.FAILED,
        due=None,
        lease_until=None,
        problem=problem,
        settled_at=now,
        gave_up=record.gave_up + 1,
    )


def _contradiction(record: Record, why: str, ids: tuple[str, ...], now: int) -> Record:
    named = f" Services of that name: {', '.join(dict.fromkeys(ids))}." if ids else ""
    detail = f"{why}{named} The request is kept until a person decides."
    problem = Problem("outcome-unknown", detail, upstream=record.last.upstream if record.last else None, may_exist=True)
    return _failed(replace(record, doubt=True), problem, now)


def _duplicate(record: Record) -> Problem:
    if record.last is not None and record.last.slug == "duplicate-name":
        return replace(record.last, may_exist=False)
    return duplicate_name(record.name)


def duplicate_name(name: str) -> Problem:
    """Return the problem of a name that is somebody else's."""
    return Problem(
        "duplicate-name",
        f"AiTEMS already has a service named '{name}'. Choose another name, or delete the existing service and send "
        "the request under a new key.",
    )
