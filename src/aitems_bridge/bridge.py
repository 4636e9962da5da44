"""The use case: one request, at most one service, exactly one recorded outcome.

Every door opens a request here and every pointer of the queue is attended to here; nothing else creates anything.
What is written decides what follows (the relay reads the ledger's stream), so no step here announces or queues.
"""

import base64
import hashlib
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aitems_bridge import reconcile
from aitems_bridge.aitems import AiTEMS, LookFailed
from aitems_bridge.errors import Problem
from aitems_bridge.ledger import Ledger, Moved, NameTaken, ServiceClaimed
from aitems_bridge.record import (
    SECOND,
    Made,
    Numbers,
    Record,
    State,
    View,
    after_look,
    claim,
    claimed_elsewhere,
    give_up,
    lapse,
    put_off,
    revive,
    settle,
)
from aitems_bridge.wire import Permit

RECORD_RESERVE = 5 * SECOND
"""Kept back for writing the outcome down."""
LEAST_READ = 8 * SECOND
"""No creation is sent with less time for its answer."""
LOOK = 12 * SECOND
"""What a whole look may take."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a door hands over: who asked for what, under which key. ``command`` is None where it did not validate."""

    channel: str
    scope: str
    key: str
    caller: str
    command: dict[str, str] | None
    payload_hash: str
    requested_by: str | None = None
    reply: dict[str, str] | None = None

    @property
    def request_id(self) -> str:
        """The request's id: unpadded lower-case base32 of SHA-256 over scope and key, never truncated."""
        digest = hashlib.sha256(f"{self.scope}\n{self.key}".encode()).digest()
        return base64.b32encode(digest).decode("ascii").rstrip("=").lower()


def fingerprint(payload: object) -> str:
    """Return what tells one payload from another: SHA-256 over its canonical JSON."""
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Invocation:
    """How long this process has, in milliseconds since the epoch: until it is ended, and until it should answer."""

    ends: int
    answer_by: int
    read: int = 20 * SECOND
    """The longest wait for a creation's answer."""


class KeyReused(Exception):  # noqa: N818  # a fact about the request, named after the remedy: another key
    """The key belongs to a request with another payload; ``record`` is that request."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.id)
        self.record = record


@dataclass(frozen=True)
class Bridge:
    """The use case over its collaborators. ``now`` gives milliseconds since the epoch."""

    ledger: Ledger
    aitems: AiTEMS
    now: Callable[[], int]
    numbers: Numbers = field(default_factory=Numbers)

    def open(self, order: Order, invocation: Invocation | None) -> tuple[Record, bool]:
        """Record the request and, where the caller waits (an invocation), create the service.

        Returns the request as it stands and whether it was known before. A known one is not worked on: it has its
        pointer; a failed one is revived. Raises ``KeyReused``, and ``NotRecorded`` when nothing is surely recorded.
        """
        fresh = self._received(order)
        try:
            if invocation is None or self._seconds_to_post(invocation) <= 0:
                self.ledger.write(None, fresh)
                return fresh, False
            claimed = claim(replace(fresh, version=0), self.now(), self._lease(invocation), self.numbers)
            try:
                self.ledger.write(None, claimed)
            except NameTaken:
                waiting = put_off(fresh, self.now(), self.numbers, _name_in_use(fresh.name))
                self.ledger.write(None, replace(waiting, version=1))
                return waiting, False
        except Moved as moved:
            return self._known(moved.current, order), True
        return self._post(claimed, invocation), False

    def refuse(self, order: Order, problem: Problem) -> Record:
        """Record a request that is rejected as it comes (T3), for a door where nobody waits for the answer."""
        now = self.now()
        record = replace(
            self._received(order),
            state=State.REJECTED,
            due=None,
            problem=problem,
            settled_at=now,
            expires=(now + self.numbers.retention) // SECOND,
        )
        try:
            self.ledger.write(None, record)
        except Moved as moved:
            if moved.current.payload_hash != order.payload_hash:
                raise KeyReused(moved.current) from moved
            return moved.current
        return record

    def attend(self, request_id: str, version: int, invocation: Invocation) -> bool:
        """Do what the pointer stands for, if it still stands. False: not now, keep the message.

        Raises ``NotRecorded`` when the ledger does not answer.
        """
        record = self.ledger.get(request_id)
        if record is None or record.version != version or not record.state.open:
            return True
        if record.state is State.CREATING and record.lease_until is not None and self.now() <= record.lease_until:
            return False
        try:
            self._advance(record, invocation)
        except Moved:
            return True  # whoever wrote it left the next pointer
        return True

    def bury(self, order: Order | None, request_id: str, version: int | None) -> bool:
        """Settle what ended among the dead letters as failed (T19), so that it is announced and can be revived.

        ``order`` is given where the message was a request itself, which may never have been recorded. False: somebody
        is still at it, keep the message.
        """
        record = self.ledger.get(request_id)
        problem = Problem("aitems-unavailable", "The request could not be worked on: its message failed again and again.")
        try:
            if record is None:
                if order is not None:
                    self.ledger.write(None, replace(give_up(self._received(order), self.now(), problem), version=1))
                return True
            if version != record.version or not record.state.open:
                return True
            if record.state is State.CREATING and record.lease_until is not None and self.now() <= record.lease_until:
                return False
            self.ledger.write(record, give_up(record, self.now(), record.last or problem))
        except Moved:
            pass
        return True

    # --- the parts ------------------------------------------------------------------------------------------------

    def _received(self, order: Order) -> Record:
        now = self.now()
        return Record(
            id=order.request_id,
            version=1,
            state=State.RECEIVED,
            channel=order.channel,
            scope=order.scope,
            key=order.key,
            caller=order.caller,
            requested_by=order.requested_by,
            command=order.command,
            payload_hash=order.payload_hash,
            requested_at=now,
            give_up_at=now + self.numbers.give_up,
            due=now,
            reply=order.reply,
        )

    def _known(self, record: Record, order: Order) -> Record:
        if record.payload_hash != order.payload_hash:
            raise KeyReused(record)
        if record.state is not State.FAILED:
            return record
        revived = revive(record, self.now(), self.numbers)
        try:
            self.ledger.write(record, revived)
        except Moved as moved:
            return moved.current
        return revived

    def _advance(self, record: Record, invocation: Invocation) -> None:
        if record.state is State.CREATING:
            lapsed = lapse(record, self.now(), self.numbers)
            self.ledger.write(record, lapsed)
            record = lapsed
        if record.state is State.UNKNOWN:
            self._examine(record, invocation)
        elif record.overdue(self.now()):
            self.ledger.write(record, give_up(record, self.now()))
        else:
            claimed = claim(record, self.now(), self._lease(invocation), self.numbers)
            try:
                self.ledger.write(record, claimed)
            except NameTaken:
                problem = _name_in_use(record.name)
                self.ledger.write(record, put_off(record, self.now(), self.numbers, problem))
            else:
                self._post(claimed, invocation)

    def _examine(self, record: Record, invocation: Invocation) -> None:
        try:
            view = self._look(record, invocation)
        except LookFailed:
            self.ledger.write(record, put_off(record, self.now(), self.numbers))
            return
        looked = after_look(record, view, self.now(), self._lease(invocation), self.numbers)
        if looked.state is State.CREATING and self._seconds_to_post(invocation) <= 0:
            looked = put_off(record, self.now(), self.numbers)
        try:
            self.ledger.write(record, looked)
        except ServiceClaimed:
            # Claimed between the look and the write: the next look sees by whom.
            self.ledger.write(record, put_off(record, self.now(), self.numbers))
            return
        if looked.state is State.CREATING:
            self._post(looked, invocation)

    def _look(self, record: Record, invocation: Invocation) -> View:
        until = min(self.now() + LOOK, invocation.answer_by)

        def permit() -> float:
            return (until - self.now()) / SECOND

        return reconcile.look(record, self.aitems, self.ledger.claimant, self.now, permit)

    def _post(self, claimed: Record, invocation: Invocation) -> Record:
        if claimed.command is None:
            raise AssertionError("what did not validate is never claimed")
        outcome = self.aitems.create(claimed.command, self._permit(invocation))
        settled = settle(claimed, outcome, self.now(), self.numbers)
        try:
            self.ledger.write(claimed, settled)
        except ServiceClaimed:
            service_id = outcome.service_id if isinstance(outcome, Made) else ""
            settled = claimed_elsewhere(claimed, service_id, self.now())
            self.ledger.write(claimed, settled)
        except Moved as moved:
            return moved.current
        return settled

    def _lease(self, invocation: Invocation) -> int:
        return invocation.ends + self.numbers.lease_margin

    def _seconds_to_post(self, invocation: Invocation) -> float:
        left = invocation.answer_by - RECORD_RESERVE - self.now()
        return min(left, invocation.read) / SECOND if left >= LEAST_READ else 0.0

    def _permit(self, invocation: Invocation) -> Permit:
        return lambda: self._seconds_to_post(invocation)


def canonical(text: str) -> str:
    """Return ``text`` composed (NFC), the form in which texts are compared and recorded."""
    return unicodedata.normalize("NFC", text)


def _name_in_use(name: str) -> Problem:
    return Problem(
        "name-in-use",
        f"Another request for '{name}' is not settled yet; this one waits its turn.",
    )
