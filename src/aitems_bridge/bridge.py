"""The use case: one request, at most one service, exactly one recorded outcome.

Every door opens a request here and every pointer of the queue is attended to here; nothing else creates anything.
What is written decides what follows (the relay reads the ledger's stream), so no step here announces or queues.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aws_lambda_powertools import Logger

from aitems_bridge import config, metrics, reconcile
from aitems_bridge.aitems import AiTEMS, LookFailed
from aitems_bridge.errors import NotRecorded, Problem
from aitems_bridge.ledger import Ledger, Moved, NameTaken, ServiceClaimed
from aitems_bridge.record import (
    SECOND,
    NotDone,
    Numbers,
    Record,
    Sight,
    State,
    View,
    after_look,
    claim,
    claimed_elsewhere,
    give_up,
    lapse,
    put_off,
    receive,
    refuse,
    revive,
    settle,
)

RECORD_RESERVE = 5 * SECOND
"""Kept back for writing the outcome down."""
LEAST_READ = 8 * SECOND
"""No creation is sent with less time for its answer."""
LOOK = 12 * SECOND
"""What a whole look may take."""
_SHUT_OUT = {"keys-refused", "not-permitted"}

logger = Logger()


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

    def fresh(self, now: int, give_up: int) -> Record:
        """Return the order as a request that nobody wrote down yet, to be given up after so many milliseconds."""
        return Record(
            id=self.request_id,
            version=0,
            state=State.RECEIVED,
            channel=self.channel,
            scope=self.scope,
            key=self.key,
            caller=self.caller,
            requested_by=self.requested_by,
            command=self.command,
            payload_hash=self.payload_hash,
            requested_at=now,
            give_up_at=now + give_up,
            reply=self.reply,
        )


def fingerprint(payload: object) -> str:
    """Return what tells one payload from another: SHA-256 over its canonical JSON."""
    try:
        canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:  # json reads a little deeper than it writes; nothing lawful is nested at all
        canonical = "nested too deeply"
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Invocation:
    """How long this process has, in milliseconds since the epoch: until it is ended, and until it should answer."""

    ends: int
    answer_by: int
    read: int = 20 * SECOND
    """The longest wait for a creation's answer."""


class KeyReused(Exception):
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
        fresh = self._fresh(order)
        try:
            if invocation is None or self._seconds_to_post(invocation) <= 0:
                return self._insert(receive(fresh, self.now())), False
            try:
                claimed = self._insert(claim(fresh, self.now(), self._lease(invocation), self.numbers))
            except NameTaken:
                return self._insert(put_off(fresh, self.now(), self.numbers, _name_in_use(fresh.name))), False
        except Moved as moved:
            known = self._known(moved.current, order)
            metrics.put(known.id, Replayed=1)
            return known, True
        return self._post(claimed, invocation), False

    def refuse(self, order: Order, problem: Problem) -> tuple[Record, bool]:
        """Record a request that is rejected as it comes (T3), for a door where nobody reads the answer.

        Returns and raises as :meth:`open` does.
        """
        try:
            return self._insert(refuse(self._fresh(order), problem, self.now(), self.numbers)), False
        except Moved as moved:
            if moved.current.payload_hash != order.payload_hash:
                raise KeyReused(moved.current) from moved
            metrics.put(moved.current.id, Replayed=1)
            return moved.current, True

    def attend(self, request_id: str, version: int, invocation: Invocation) -> tuple[bool, Record | None]:
        """Do what the pointer stands for, if it still stands.

        Returns whether the message is done with (else keep it: somebody is still at it), and the request as it is
        then, None where the pointer stood for nothing. Raises ``NotRecorded`` when the ledger does not answer.
        """
        record = self.ledger.get(request_id)
        if record is None or record.version != version or not record.state.open:
            return True, None
        if record.leased(self.now()):
            return False, record
        try:
            return True, self._advance(record, invocation)
        except Moved as moved:
            return True, moved.current  # whoever wrote it left the next pointer

    def bury(self, order: Order | None, request_id: str, version: int | None) -> bool:
        """Settle what ended among the dead letters as failed (T19), so that it is announced and can be revived.

        ``order`` is given where the message was a request itself, which may never have been recorded. False: somebody
        is still at it, keep the message. Raises ``KeyReused`` where the key is another request's.
        """
        record = self.ledger.get(request_id)
        problem = Problem(
            "aitems-unavailable", "The request could not be worked on: its message failed time and again."
        )
        try:
            if record is None:
                if order is not None:
                    self._insert(give_up(self._fresh(order), self.now(), problem))
                return True
            if order is not None and record.payload_hash != order.payload_hash:
                raise KeyReused(record)
            if version != record.version or not record.state.open:
                return True
            if record.leased(self.now()):
                return False
            if record.last is not None:
                problem = replace(record.last, detail=f"{problem.detail} Before that: {record.last.detail}")
            self.ledger.write(record, give_up(record, self.now(), problem))
        except Moved:
            pass
        return True

    # --- the parts ------------------------------------------------------------------------------------------------

    def _insert(self, record: Record) -> Record:
        self.ledger.write(None, record)
        return record

    def _fresh(self, order: Order) -> Record:
        return order.fresh(self.now(), self.numbers.give_up)

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

    def _advance(self, record: Record, invocation: Invocation) -> Record:
        if record.state is State.CREATING:
            lapsed = lapse(record, self.now(), self.numbers)
            self.ledger.write(record, lapsed)
            record = lapsed
        if record.state is State.UNKNOWN:
            return self._examine(record, invocation)
        if record.overdue(self.now()):
            return self._write(record, give_up(record, self.now()))
        claimed = claim(record, self.now(), self._lease(invocation), self.numbers)
        try:
            self.ledger.write(record, claimed)
        except NameTaken:
            return self._write(record, put_off(record, self.now(), self.numbers, _name_in_use(record.name)))
        return self._post(claimed, invocation)

    def _examine(self, record: Record, invocation: Invocation) -> Record:
        begun = self.now()
        try:
            view = self._look(record, invocation)
        except LookFailed as failed:
            _tell(record, failed.problem)
            return self._put_off(record, failed.ids)
        # What was begun before the quiet time was over shows what was there then, however late it is told.
        judged = begun if begun < (record.quiet_until or 0) else self.now()
        looked = after_look(record, view, judged, self._lease(invocation), self.numbers)
        if looked.state is State.CREATING and self._seconds_to_post(invocation) <= 0:
            return self._put_off(record, view.ids if view.sight is Sight.UNCLEAR else ())
        try:
            self.ledger.write(record, looked)
        except ServiceClaimed:
            # Claimed between the look and the write: the next look sees by whom.
            return self._put_off(record, view.ids)
        return self._post(looked, invocation) if looked.state is State.CREATING else looked

    def _put_off(self, record: Record, seen: tuple[str, ...]) -> Record:
        """Look again later, and remember what was seen that could be ours."""
        remembered = replace(record, seen=record.seen or (seen[0] if seen else None))
        return self._write(record, put_off(remembered, self.now(), self.numbers))

    def _write(self, old: Record, new: Record) -> Record:
        self.ledger.write(old, new)
        return new

    def _look(self, record: Record, invocation: Invocation) -> View:
        until = min(self.now() + LOOK, invocation.answer_by)

        def permit() -> float:
            return (until - self.now()) / SECOND

        return reconcile.look(record, self.aitems, self.ledger.claimant, self.now, permit)

    def _post(self, claimed: Record, invocation: Invocation) -> Record:
        if claimed.command is None:
            raise AssertionError("what did not validate is never claimed")
        sent = None

        def permit() -> float:
            nonlocal sent
            seconds = self._seconds_to_post(invocation)
            sent = self.now() if seconds > 0 else sent
            return seconds

        outcome = self.aitems.create(claimed.command, permit)
        if sent is not None:
            metrics.put(claimed.id, UpstreamLatency=self.now() - sent)
        if isinstance(outcome, NotDone):
            _tell(claimed, outcome.problem)
        settled = settle(claimed, outcome, self.now(), self.numbers)
        try:
            try:
                self.ledger.write(claimed, settled)
            except ServiceClaimed:
                settled = claimed_elsewhere(claimed, settled.service_id or "", self.now())
                self.ledger.write(claimed, settled)
        except Moved as moved:
            return moved.current
        except NotRecorded:
            return claimed  # its pointer comes when the lease is over, and looks for what was made
        return settled

    def _lease(self, invocation: Invocation) -> int:
        return invocation.ends + self.numbers.lease_margin

    def _seconds_to_post(self, invocation: Invocation) -> float:
        left = invocation.answer_by - RECORD_RESERVE - self.now()
        return min(left, invocation.read) / SECOND if left >= LEAST_READ else 0.0


def _name_in_use(name: str) -> Problem:
    return Problem("name-in-use", f"Another request for '{name}' is not settled yet.")


def _tell(record: Record, problem: Problem) -> None:
    """Tell an operator that AiTEMS does not let the bridge in: whatever it is asked for, until somebody mends that."""
    if problem.slug in _SHUT_OUT:
        logger.error("AiTEMS refuses the bridge", extra={"request_id": record.id, "remedy": problem.detail})
        metrics.put(record.id, KeysRefused=1)


def from_environment() -> Bridge:
    """Return the use case with its real collaborators: the composition root of every function that creates."""
    aitems = AiTEMS(
        config.aitems_base_url(),
        config.KeysSecret(config.Secret("KEYS_SECRET_ARN")),
        utc_offset=config.aitems_utc_offset(),
        now=config.now,
    )
    ledger = Ledger(config.ledger_client(), config.setting("LEDGER_TABLE"))
    return Bridge(ledger, aitems, config.now, config.numbers())
