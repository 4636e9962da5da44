"""What the console knows: each request's way, put together from what the local stack really wrote down.

===============================  ==================================================================================
the table's stream               every write of the ledger, to the millisecond, and the whole record after it
the AiTEMS emulator's own record each call it got: when, what it answered, which fault befell it, what it made
the webhook function's log       what was answered, when its call began, and who was turned away at the door
the journal                      every announced event, and when it arrived
the chats                        what a chat was told
===============================  ==================================================================================

Nothing is written, and nothing is taken from anybody: the stream has a second reader, the queues are only measured.
How often a source is asked depends on how long its answer takes, so that looking never costs more than a small part
of the machine's time. Times are milliseconds since the epoch.
"""

import json
import re
import secrets
import threading
import time
from bisect import bisect_right
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import requests
from botocore.exceptions import BotoCoreError, ClientError

from aitems_bridge.ledger import record_of
from aitems_bridge.record import SECOND, Record, State
from aitems_local.cloud import StackError
from aitems_local.console.steps import Kind, Request, Step, of_call, of_write, written
from aitems_local.emulator import Call, Fault

if TYPE_CHECKING:
    from aitems_local.chats import Message
    from aitems_local.stack import Stack

MOST_REQUESTS = 5_000
"""Kept whole; beyond that the oldest that are final are only counted."""
MOST_STEPS = 120
_KEPT_AT_EITHER_END = 50
_MOST_REFUSALS = 20
_MOST_LETTERS = 10
_MOST_EXPECTED = 100
_LONGEST_LETTER = 2_000

_WATCHED, _UNWATCHED = 0.2, 2.0  # seconds between two looks
_SHARE = 10  # a source that took so long is left alone for ten times as long
_LOGS_EVERY, _QUEUES_EVERY = 0.3, 0.5
_LOG_OVERLAP = 3 * SECOND
_POINTER_EARLY = 1 * SECOND
"""A message is delayed by whole seconds, so it may come a little before its time."""

QUEUES = {
    "work": "QueueUrl",
    "dead": "DeadLetterQueueUrl",
    "relay": "RelayFailuresUrl",
    "rule": "RuleDeadLetterQueueUrl",
    "replies": "RepliesQueueUrl",
}
"""The queues that are shown, and the outputs of the stack that name them."""
DEAD_LETTERS = ("dead", "relay", "rule")
"""Those that are empty while all is well."""

_ANSWERS = ("answered", "acknowledged")
_FAILURES = (BotoCoreError, ClientError, OSError, StackError, requests.RequestException)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was turned away at the door, and why: nothing else is known of it."""

    at: float
    cause: str


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds: to be taken now, later, and being worked on; some of them, if it is to be empty.

    The letters are bodies with what is longer cut off.
    """

    waiting: int
    delayed: int
    taken: int
    letters: tuple[str, ...] = ()


class Watch:
    """Follows one stack from `start` to `stop`. Everything public may be used from any thread.

    What is read together, is read within `changing`, which nobody keeps for long.
    """

    def __init__(self, stack: "Stack", *, most: int = MOST_REQUESTS) -> None:
        self.stack = stack
        self._most = most
        self.epoch = secrets.token_hex(4)
        self.changing = threading.Condition(threading.RLock())
        self.last = 0
        self.requests: OrderedDict[str, Request] = OrderedDict()
        self.refusals: deque[Refusal] = deque(maxlen=_MOST_REFUSALS)
        self.turned_away = 0
        self.depths: dict[str, Depth] = {}
        self.reachable = True
        self._begun = time.time() * SECOND
        self._watchers = 0
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._looking = threading.Lock()
        self._due: dict[str, float] = {}
        self._numbered = 0
        self._forgotten: Counter[State] = Counter()
        self._of_name: dict[str, list[str]] = {}
        self._doubtful: OrderedDict[str, None] = OrderedDict()
        self._expected: OrderedDict[str, list[tuple[int, Step]]] = OrderedDict()
        self._iterator: str | None = None
        self._offset = 0
        self._call = 0
        self._calls_open: set[int] = set()
        self._maker: dict[int, str] = {}
        self._makers: list[int] = []
        self._said = 0
        self._log_from = 0.0
        self._invocations: OrderedDict[str, None] = OrderedDict()
        self._announced_ids: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="console-watch", daemon=True)

    # --- beginning and end ----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop, and wake whoever waits."""
        self._stopping.set()
        self._hurry.set()
        with self.changing:
            self.changing.notify_all()
        self._thread.join(5)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    # --- what is there --------------------------------------------------------------------------------------------

    def wait(self, since: int, timeout: float) -> bool:
        """Wait until something is newer than that, as somebody who watches; False when nothing was in time."""
        with self.changing:
            self._watchers += 1
            self._hurry.set()
            try:
                return self.changing.wait_for(lambda: self.last > since or self.stopping, timeout)
            finally:
                self._watchers -= 1

    def changed(self) -> None:
        """Say that something is to be shown anew that is kept elsewhere."""
        with self.changing:
            self.last += 1
            self.changing.notify_all()

    def select(self, *, state: str = "", text: str = "", most: int) -> tuple[list[Request], int]:
        """Return the newest requests of a state (or "open") with that text, and how many there are."""
        text = text.strip().lower()
        with self.changing:
            fitting = (
                request
                for request in reversed(self.requests.values())
                if (not state or _is(request.record.state, state)) and (not text or request.matches(text))
            )
            if not state and not text:
                found = [request for request, _ in zip(fitting, range(most), strict=False)]
                return found, len(self.requests)
            everything = list(fitting)
            return everything[:most], len(everything)

    def find(self, request_id: str) -> Request | None:
        """Return the request of that id, if it is kept."""
        with self.changing:
            return self.requests.get(request_id)

    @property
    def counts(self) -> Counter[State]:
        """How many requests are in each state, those that are only counted too."""
        with self.changing:
            return self._forgotten + Counter(request.record.state for request in self.requests.values())

    @property
    def announced(self) -> int:
        """How many different events were announced."""
        return len(self._announced_ids)

    @property
    def services(self) -> int | None:
        """How many services the emulator made for the bridge; None where another AiTEMS is called."""
        return None if self.stack.emulator is None else len(self._makers)

    @property
    def made_twice(self) -> int:
        """How many services were made beyond the first, for one request."""
        with self.changing:
            makers = Counter(self._maker.get(number) for number in self._makers)
        return sum(number - 1 for maker, number in makers.items() if maker is not None)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that wait in the emulator for a call."""
        return self.stack.emulator.faults if self.stack.emulator else ()

    def sent(self, request_id: str, number: int, steps: Iterable[Step]) -> None:
        """Add what a sender of ours saw of a request, now or as soon as it is recorded."""
        with self.changing:
            request = self.requests.get(request_id)
            for step in steps:
                if request is None:
                    self._expected.setdefault(request_id, []).append((number, step))
                else:
                    self._add(request, ("sent", number, step.kind), step)
            while len(self._expected) > _MOST_EXPECTED:
                self._expected.popitem(last=False)

    # --- looking --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read what is new from all sources."""
        with self._looking:
            emulator = self.stack.emulator
            # Before the stream: who called, and what was made, had been written down first.
            calls = emulator.calls if emulator else ()
            made = [service.call for service in emulator.services if service.call is not None] if emulator else []
            try:
                self._read_stream()
                self._take_calls(calls)
                self._makers = made
                self._take_events()
                self._take_chats()
                self._now_and_then("logs", _LOGS_EVERY, self._read_logs)
                self._now_and_then("queues", _QUEUES_EVERY, self._measure_queues)
            except _FAILURES:
                reachable = False
            else:
                reachable = True
            if reachable is not self.reachable:
                self.reachable = reachable
                self.changed()

    def _run(self) -> None:
        while not self.stopping:
            self._hurry.clear()  # before the look: whoever is in a hurry from now on, is not passed over
            begun = time.monotonic()
            self.look()
            took = time.monotonic() - begun
            with self.changing:
                watched = self._watchers > 0
            if watched:
                self._stopping.wait(max(_WATCHED, _SHARE * took))
            else:
                self._hurry.wait(max(_UNWATCHED, _SHARE * took))

    def _now_and_then(self, source: str, every: float, read: Callable[[], None]) -> None:
        if time.monotonic() < self._due.get(source, 0.0):
            return
        begun = time.monotonic()
        read()
        ended = time.monotonic()
        self._due[source] = ended + max(every, 2 * _SHARE * (ended - begun))

    def _add(self, request: Request, key: tuple[object, ...], step: Step) -> None:
        if request.steps.get(key) == step:
            return
        request.steps[key] = step
        if len(request.steps) > MOST_STEPS:
            middle = list(request.steps)[_KEPT_AT_EITHER_END:-_KEPT_AT_EITHER_END]
            request.left_out += len(middle)
            for each in middle:
                del request.steps[each]
        self._touch(request)

    def _touch(self, request: Request) -> None:
        self.last += 1
        request.changed = self.last
        self.changing.notify_all()

    # --- the ledger -----------------------------------------------------------------------------------------------

    def _read_stream(self) -> None:
        streams = self.stack.cloud.streams
        while True:
            if self._iterator is None:
                table = self.stack.outputs["LedgerTable"]
                arn = self.stack.cloud.dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
                shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
                self._iterator = streams.get_shard_iterator(
                    StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
                )["ShardIterator"]
            try:
                answer = streams.get_records(ShardIterator=self._iterator)
            except ClientError:
                self._iterator = None  # expired while the machine slept: what was seen is not shown twice
                raise
            self._iterator = answer.get("NextShardIterator")
            with self.changing:
                for change in answer["Records"]:
                    self._take_write(change["dynamodb"])
                    self._keep_within_bounds()
            if not answer["Records"] or self.stopping:
                return

    def _take_write(self, change: dict[str, Any]) -> None:
        image = change.get("NewImage")
        if image is None or not image["pk"]["S"].startswith("request#"):
            return
        try:
            new, at = record_of(image), written(change)
        except (KeyError, TypeError, ValueError):  # something that a person put there by hand
            return
        request = self.requests.get(new.id)
        if request is None:
            if (new.version > 1 or new.again) and new.state.final:  # only counted by now, and announced again
                return
            request = self._new(new)
            old = None
        else:
            old = request.record
            if (new.version, new.again) <= (old.version, old.again):
                return
        request.record = new
        if old is None or old.version != new.version:
            # Whoever takes over from a process that ended, looks at once; else the look has its time.
            taken_over = old is not None and old.lease_until is not None and old.lease_until < at
            request.states.append((at, new.state, at if taken_over else (new.due or 0) - _POINTER_EARLY))
        for step in of_write(old, new, at):
            self._add(request, ("write", new.version, new.again, step.kind), step)
        if new.state is State.UNKNOWN:
            self._doubtful[new.id] = None

    def _new(self, record: Record) -> Request:
        self._numbered += 1
        request = self.requests[record.id] = Request(self._numbered, record)
        if record.name:
            self._of_name.setdefault(record.name, []).append(record.id)
        for number, step in self._expected.pop(record.id, ()):
            self._add(request, ("sent", number, step.kind), step)
        return request

    def _keep_within_bounds(self) -> None:
        """Forget one after each write, if there are too many: one that was open when they came may be final now."""
        if len(self.requests) > self._most:
            settled = next((each for each in self.requests.values() if each.record.state.final), None)
            if settled:
                self._forget(settled)

    def _forget(self, request: Request) -> None:
        record = request.record
        del self.requests[record.id]
        self._forgotten[record.state] += 1
        self._doubtful.pop(record.id, None)
        same = self._of_name.get(record.name, [])
        if record.id in same:
            same.remove(record.id)
        if not same:
            self._of_name.pop(record.name, None)

    # --- AiTEMS ---------------------------------------------------------------------------------------------------

    def _take_calls(self, calls: tuple[Call, ...]) -> None:
        fresh = calls[bisect_right(calls, self._call, key=lambda call: call.number) :]
        earlier = calls[: len(calls) - len(fresh)] if self._calls_open else ()
        unfinished = [call for call in earlier if call.number in self._calls_open]
        with self.changing:
            for call in (*unfinished, *fresh):
                (self._calls_open.discard if call.done is not None else self._calls_open.add)(call.number)
                request = self._caller_of(call)
                if request:
                    self._add(request, ("call", call.number), of_call(call))
                    if call.service_id:
                        self._maker[call.number] = request.record.id
        if fresh:
            self._call = fresh[-1].number

    def _caller_of(self, call: Call) -> Request | None:
        """Return the request that a call was made for: where more than one could be meant, none."""
        at = call.arrived * SECOND
        if call.operation == "create" and call.name is not None:
            same = [self.requests[each] for each in self._of_name.get(call.name, ())]
            claimed = [request for request in same if request.claimed_before(at)]
            return max(claimed, key=lambda request: request.claimed_before(at), default=None)
        if call.operation in ("list", "read"):
            return self._examined(at, call.name if call.operation == "read" else None)
        return None

    def _examined(self, at: float, name: str | None) -> Request | None:
        found: Request | None = None
        for request_id in reversed(self._doubtful):
            request = self.requests[request_id]
            if request.looked_for_at(at) and name in (None, request.record.name):
                if found is not None:
                    return None
                found = request
        return found

    # --- what came of it ------------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        events, self._offset = self.stack.journal.after(self._offset)
        with self.changing:
            for event in events:
                event_id = str(event.metadata["event_id"])
                request = self.requests.get(str(event.metadata["request_id"]))
                again = event_id in self._announced_ids
                self._announced_ids.add(event_id)
                if request is None:
                    continue
                if not again:
                    request.events.append(event)
                facts = {"event": event.kind, "event_id": event_id}
                step = Step(event.arrived * SECOND, Kind.ANNOUNCED, "announced-again" if again else "announced", facts)
                self._add(request, ("event", event_id, event.arrived), step)

    def _take_chats(self) -> None:
        said = self.stack.chats.said[self._said :]
        self._said += len(said)
        with self.changing:
            for number, message in enumerate(said, self._said - len(said)):
                request = self._told(message)
                if request:
                    facts = {"chat": message.chat, "text": message.text.splitlines()[0] if message.text else ""}
                    self._add(request, ("chat", number), Step(message.at * SECOND, Kind.TOLD, "told", facts))

    def _told(self, message: "Message") -> Request | None:
        """Return the request that a chat was told about: by the address, and where many share that, by the name."""
        for request in reversed(self.requests.values()):
            reply = request.record.reply or {}
            if request.record.channel != message.chat or request.record.requested_at > message.at * SECOND:
                continue
            if message.chat == "slack":
                if reply.get("url", "").endswith(message.to):
                    return request
            elif _names(request.record.name, message.text):
                return request
        return None

    # --- the log --------------------------------------------------------------------------------------------------

    def _read_logs(self) -> None:
        asked = time.time() * SECOND
        group = self.stack.resources.get("WebhookLogs")
        if group is None:
            return
        try:
            found = self.stack.cloud.logs.filter_log_events(
                logGroupName=group, startTime=int(max(self._log_from - _LOG_OVERLAP, 0))
            )["events"]
        except self.stack.cloud.logs.exceptions.ResourceNotFoundException:
            return
        self._log_from = asked
        calls: dict[str, list[Any]] = {}
        for line in found:
            calls.setdefault(str(line.get("logStreamName")), []).append(line)
        with self.changing:
            for stream, lines in calls.items():  # MiniStack keeps a stream for each call
                if stream not in self._invocations:
                    self._invocations[stream] = None
                    self._take_invocation(stream, lines)
            while len(self._invocations) > MOST_REQUESTS:
                self._invocations.popitem(last=False)

    def _take_invocation(self, stream: str, lines: list[Any]) -> None:
        begun = None
        for line in lines:
            took = re.search(r"^REPORT .*\tDuration: ([0-9.]+) ms", line["message"])
            begun = line["timestamp"] - float(took[1]) if took else begun
        for number, line in enumerate(lines):
            try:
                said = json.loads(line["message"])
                at = datetime.strptime(said["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp() * SECOND
            except (ValueError, KeyError, TypeError):
                continue
            request = self.requests.get(str(said.get("request_id")))
            if said.get("message") in _ANSWERS and request is not None:
                self._answered(request, (stream, number), said, begun, at)
            elif said.get("message") == "signature refused" and at > self._begun:
                self.turned_away += 1
                self.refusals.append(Refusal(at, str(said.get("cause", ""))))
                self.changed()

    def _answered(
        self, request: Request, key: tuple[object, ...], said: dict[str, Any], begun: float | None, at: float
    ) -> None:
        replayed = bool(said.get("replayed"))
        recorded = request.record.requested_at
        if begun is not None:
            # The log is written some milliseconds after the end it tells of, so the beginning told is late by those.
            arrived = Step(begun, Kind.ARRIVED, "came-again", roughly=True)
            if not replayed:
                arrived = Step(min(begun, recorded), Kind.ARRIVED, "arrived", roughly=True)
            self._add(request, ("arrived", *key), arrived)
        how = "replayed" if replayed else str(said["message"])
        self._add(request, ("answered", *key), Step(at, Kind.ANSWERED, how, {"state": str(said.get("state", ""))}))

    # --- the queues -----------------------------------------------------------------------------------------------

    def _measure_queues(self) -> None:
        depths = {}
        for name, output in QUEUES.items():
            url = self.stack.outputs.get(output)
            if url is None:
                continue
            found = self.stack.cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            waiting = int(found["ApproximateNumberOfMessages"])
            delayed, taken = (
                int(found["ApproximateNumberOfMessagesDelayed"]),
                int(found["ApproximateNumberOfMessagesNotVisible"]),
            )
            letters = self._letters(url) if name in DEAD_LETTERS and waiting + delayed + taken else ()
            depths[name] = Depth(waiting, delayed, taken, letters)
        if depths != self.depths:
            with self.changing:
                self.depths = depths
                self.changed()

    def _letters(self, url: str) -> tuple[str, ...]:
        """Return what lies in a queue without taking it: receiving would count as a try."""
        with requests.Session() as session:
            session.trust_env = False
            where = f"{self.stack.cloud.endpoint}/_ministack/sqs/messages?QueueUrl={quote(url, safe='')}"
            found = session.get(where, timeout=2).json().get("messages", {})
        queues = [each for regions in found.values() for queues in regions.values() for each in queues.values()]
        return tuple(str(each["Body"])[:_LONGEST_LETTER] for queue in queues for each in queue[:_MOST_LETTERS])


def _is(state: State, wanted: str) -> bool:
    return state.open if wanted == "open" else state == wanted


def _names(name: str, text: str) -> bool:
    return bool(name) and re.search(rf"(?<![\w-]){re.escape(name)}(?![A-Za-z0-9_-])", text) is not None
