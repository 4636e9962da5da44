"""Bulk: a service for each row of a file, over the event bus, and what became of each.

Nothing is sent before the whole file is in order and the ledger was asked for every row. What is known there already is
not sent again; what is not is, and may have been before: the same row is the same request (`submit_rows`), so sending
it twice makes nothing twice. So a run may be killed at any moment and gone on with. Outcomes are read from the ledger
by the requests' ids, which are made of source and key, rather than waited for as events.
"""

import argparse
import fcntl
import itertools
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from aitems_bridge.bridge import Order
from aitems_bridge.events import REQUESTED
from aitems_bridge.ledger import Ledger, record_of
from aitems_bridge.record import Record, State
from aitems_bridge.worker import requested
from aitems_local import submit_rows
from aitems_local.cli import OK, REFUSED, UNSETTLED
from aitems_local.cloud import StackError, UsageError
from aitems_local.submit_results import WAITING, Result, ResultFile, result_of
from aitems_local.submit_rows import Row, Sheet
from aitems_local.target import Target, target
from aitems_local.terminal import Bar, Terminal

if TYPE_CHECKING:
    from types_boto3_events import EventBridgeClient
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef

_SOURCE = "aitems-bridge.submit"
_ENTRIES = 10
"""What one PutEvents takes. Ten rows are below 20 KB; it takes 256."""
_KEYS = 100
"""What one BatchGetItem takes."""
_TRIES = 10
_LONGEST_PAUSE = 5.0
_LOOK_EVERY = 0.25
_TELL_EVERY = 10.0  # seconds between two lines where nobody looks at a terminal
_MOST_TOLD = 20
_RETRIED = {"ThrottlingException", "InternalFailure", "InternalException", "ServiceUnavailable", "Throttling"}

Look = Callable[[Sequence[str]], Mapping[str, Record]]
Put = Callable[[Sequence[Row]], Sequence[str]]
"""Puts rows on the bus and returns an error for each, empty for what was taken."""


def submit(arguments: argparse.Namespace) -> int:
    """Ask for a service for each row, and wait for what becomes of them."""
    terminal = Terminal(sys.stderr if arguments.json else sys.stdout)
    path: Path = arguments.file
    sheet = submit_rows.read(path, arguments.encoding)
    if sheet.faults:
        return _tell_faults(terminal, path, sheet, as_json=arguments.json)
    with _alone(path):
        try:
            bridge = target(arguments.stack, arguments.region, arguments.profile)
        except StackError as error:
            if not arguments.dry_run or arguments.stack:
                raise
            terminal.line(f"{_rows(len(sheet.rows))} in order. The ledger was not asked: {error}")
            return OK
        return _submitted(arguments, bridge, sheet.rows, terminal)


def _submitted(arguments: argparse.Namespace, bridge: Target, rows: Sequence[Row], terminal: Terminal) -> int:
    path: Path = arguments.file
    _check_source(bridge, arguments.source)
    orders = {(order := order_of(row, arguments.source, bridge.doors.account)).request_id: order for row in rows}
    standing = Standing(rows, orders, records(bridge.ledger, list(orders), strong=True))
    if reused := standing.reused:
        faults = [submit_rows.Fault(row.line, "key", told) for row, told in reused]
        return _tell_faults(terminal, path, Sheet(list(rows), faults, len(rows)), as_json=arguments.json)
    results = ResultFile(path)
    again = _again(arguments, bridge)
    _check_earlier(results, standing, path, again if not arguments.resume else "")
    if arguments.dry_run:
        terminal.line(f"{_rows(len(rows))} in order: {_counts(standing, would=True)}.")
        _tell_json(standing, as_json=arguments.json)
        return OK
    known = len(rows) - sum(result.state == WAITING for result in standing.results.values())
    if not standing.unsettled:
        terminal.line(f"{path} was submitted in full before: nothing is sent.")
    elif known:
        terminal.line(f"{known:,} of {_rows(len(rows))} were asked for before: {_counts(standing)}.")
    results.write(standing.results.values())
    put = putting(bridge.doors.as_producer().events, bridge.doors.event_bus, arguments.source)
    look = partial(records, bridge.ledger)
    submission = Submission(standing, put, look, results, arguments.at_once, arguments.timeout)
    begun, seconds = time.monotonic(), 0.0
    if standing.unsettled:
        try:
            with _telling(terminal, len(rows)) as tell:
                submission.run(tell)
        except BaseException:  # somebody ended it, or something is in the way: it can be gone on with all the same
            print(f"What was sent is not taken back. Go on with `{again}`", file=sys.stderr)
            raise
        seconds = time.monotonic() - begun
        results.write(standing.results.values())
    code = _tell_end(terminal, path, standing, seconds)
    if code == UNSETTLED:
        terminal.line(f"Nothing was settled for {arguments.timeout:g} s. The bridge goes on by itself; see `{again}`")
    elif any(result.state == State.FAILED for result in standing.results.values()):
        terminal.line(f"What failed is examined and tried again by `{again}`")
    terminal.line(f"Each row: {results.path}")
    _tell_json(standing, as_json=arguments.json)
    return code


# --- where the rows stand -----------------------------------------------------------------------------------------


def order_of(row: Row, source: str, account: str) -> Order:
    """Return the request that the bridge makes of a row."""
    return requested({"source": source, "account": account, "id": row.key, "detail": row.detail}, 0).order


class Standing:
    """How each row stands, by its request's id, as the ledger was last seen to know it."""

    def __init__(self, rows: Iterable[Row], orders: Mapping[str, Order], known: Mapping[str, Record]) -> None:
        self.rows = dict(zip(orders, rows, strict=True))
        self._orders = orders
        self.results = {each: self._result(each, known.get(each)) for each in self.rows}
        self.sent = {each for each, result in self.results.items() if result.state != WAITING}
        """What the bridge has, or was sent: the rest waits here."""
        self.failures = {each: record.gave_up for each, record in known.items() if record.state is State.FAILED}
        """How often what has failed had been given up, when it was first looked at: sending it again revives it."""
        self.reused = [
            (self.rows[each], f"{result.detail} Give the row another key.")
            for each, result in self.results.items()
            if result.problem == "key-reused"
        ]

    @property
    def unsettled(self) -> list[str]:
        """The requests that are to be sent or waited for, in the order of the rows."""
        return [each for each, result in self.results.items() if not result.settled or each in self.failures]

    def see(self, request_id: str, record: Record | None) -> bool:
        """Take over what the ledger says; return whether the row is settled by it."""
        if record is None:
            return False
        if record.state is State.FAILED and self.failures.get(request_id) == record.gave_up:
            return False  # not revived yet
        self.failures.pop(request_id, None)
        self.results[request_id] = self._result(request_id, record)
        return self.results[request_id].settled

    def _result(self, request_id: str, record: Record | None) -> Result:
        return result_of(self.rows[request_id], self._orders[request_id], record)


def records(ledger: Ledger, ids: Sequence[str], *, strong: bool = False) -> dict[str, Record]:
    """Return those of the requests that the ledger knows."""
    found: dict[str, Record] = {}
    for start in range(0, len(ids), _KEYS):
        keys: list[Any] = [{"pk": {"S": f"request#{each}"}} for each in ids[start : start + _KEYS]]
        for attempt in itertools.count():
            answer = ledger.client.batch_get_item(RequestItems={ledger.table: {"Keys": keys, "ConsistentRead": strong}})
            found |= {each.id: each for each in map(record_of, answer["Responses"].get(ledger.table, []))}
            left: dict[str, Any] = {**answer.get("UnprocessedKeys", {})}
            if not left:
                break
            keys = left[ledger.table]["Keys"]
            time.sleep(_pause(attempt))
    return found


# --- the run ------------------------------------------------------------------------------------------------------


@dataclass
class Submission:
    """Sends what is to be sent, never with more than ``at_once`` requests open, until all is settled.

    What AiTEMS throttles stays open, and so keeps the rest back. Ends early when nothing was settled for ``timeout``
    seconds. Raises `StackError` when the bus refuses for good.
    """

    standing: Standing
    put: Put
    look: Look
    results: ResultFile
    at_once: int
    timeout: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    refused: int = field(default=0, init=False)
    """Times in a row that the bus took nothing."""

    def run(self, tell: Callable[[Standing], None] = lambda _: None) -> None:
        """Send and wait. ``tell`` is called with every look."""
        unsettled = self.standing.unsettled
        under_way: dict[str, None] = dict.fromkeys(each for each in unsettled if self._is_under_way(each))
        waiting = deque(each for each in unsettled if each not in under_way)
        settled_at, pause = self.clock(), _LOOK_EVERY
        while waiting or under_way:
            self._send(waiting, under_way)
            found = self.look(list(under_way))
            settled = [each for each in under_way if self.standing.see(each, found.get(each))]
            for each in settled:
                del under_way[each]
            if settled:
                self.results.append([self.standing.results[each] for each in settled])
                settled_at, pause = self.clock(), _LOOK_EVERY
            tell(self.standing)
            if self.clock() - settled_at > self.timeout:
                return
            if waiting or under_way:
                self.sleep(max(pause, _pause(self.refused) if self.refused else 0))
                pause = min(pause * 1.2, _LONGEST_PAUSE)

    def _send(self, waiting: deque[str], under_way: dict[str, None]) -> None:
        while waiting and len(under_way) < self.at_once:
            some = [waiting.popleft() for _ in range(min(_ENTRIES, len(waiting), self.at_once - len(under_way)))]
            errors = self.put([self.standing.rows[each] for each in some])
            left = [each for each, error in zip(some, errors, strict=True) if error]
            taken = [each for each in some if each not in left]
            under_way |= dict.fromkeys(taken)
            self.standing.sent |= set(taken)
            waiting.extendleft(reversed(left))
            self.refused = 0 if len(left) < len(some) else self.refused + 1
            if self.refused >= _TRIES:
                raise StackError(f"the event bus took nothing in {_TRIES} tries: {next(filter(None, errors))}")
            if left:
                return

    def _is_under_way(self, request_id: str) -> bool:
        """Whether the ledger has it and the bridge works on it by itself."""
        return self.standing.results[request_id].state != WAITING and request_id not in self.standing.failures


def putting(client: "EventBridgeClient", bus: str, source: str) -> Put:
    """Return what puts rows on that bus. It raises where no repetition helps."""

    def put(rows: Sequence[Row]) -> list[str]:
        entries: list[PutEventsRequestEntryTypeDef] = [
            {
                "EventBusName": bus,
                "Source": source,
                "DetailType": REQUESTED,
                "Detail": json.dumps(row.detail, ensure_ascii=False),
            }
            for row in rows
        ]
        try:
            answer = client.put_events(Entries=entries)
        except (ClientError, BotoCoreError) as error:
            if _passes(error):
                return [str(error)] * len(rows)
            raise
        said = [(entry.get("ErrorCode", ""), entry.get("ErrorMessage", "")) for entry in answer["Entries"]]
        for code, message in said:
            if code and code not in _RETRIED:
                raise StackError(f"the event bus {bus} refuses a row: {code} {message}")
        return [f"{code} {message}".strip() for code, message in said]

    return put


def _passes(error: ClientError | BotoCoreError) -> bool:
    """Whether what is in the way may pass: a lost answer also, for what was put twice is one request."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response["Error"].get("Code") in _RETRIED or status >= 500  # noqa: PLR2004  the server's errors
    return isinstance(error, NoConnection | HTTPClientError)


def _pause(attempt: int) -> float:
    return min(_LONGEST_PAUSE, 0.2 * 2.0**attempt) * (0.5 + random.random() / 2)  # noqa: S311  spreads tries, no secret


# --- what is checked ----------------------------------------------------------------------------------------------


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file, so that nobody else submits it meanwhile; the system lets go of it when this process ends."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(f"{path} is being submitted by another process: wait for it, or stop it") from None
        yield


def _check_source(bridge: Target, source: str) -> None:
    taken = [each for each in bridge.parameters.get("RequestSources", "").split(",") if each]
    if taken and source not in taken:
        raise UsageError(f"{bridge.name} takes requests from {', '.join(taken)} only (RequestSources): say --source")


def _check_earlier(file: ResultFile, standing: Standing, path: Path, resume: str) -> None:
    """Raise `UsageError` unless what an earlier run left is of this very file and bridge, and to be gone on with.

    ``resume`` is the command that does so; empty where it was given.
    """
    earlier = {result.request_id: result for result in file.read()}
    if not earlier:
        return
    gone = [result for each, result in earlier.items() if each not in standing.results]
    new = [result for each, result in standing.results.items() if each not in earlier]
    if len(gone) == len(earlier):
        raise UsageError(f"{file.path} is of another file, --source or account: move it away, and submit again")
    if gone or new:
        said = [f"{len(gone)} of its rows gone ({_named(gone)})"] * bool(gone)
        said += [f"{len(new)} new ({_named(new)})"] * bool(new)
        raise UsageError(
            f"{path} has changed since it was submitted: {', '.join(said)}. Put it back; or, if that is meant, move "
            f"{file.path} away and submit it anew: rows that are as they were make nothing twice"
        )
    if any(result.settled and standing.results[each].state == WAITING for each, result in earlier.items()):
        raise UsageError(
            f"{file.path} tells of requests that the ledger does not know: it is of another bridge, or they were "
            "forgotten after RetentionDays. Move it away; take out the rows that it calls settled, unless this bridge "
            "is to make them too; and submit again"
        )
    if resume and standing.unsettled:
        settled = len(earlier) - len(standing.unsettled)
        raise UsageError(f"{path} was begun before, and {settled} of {len(earlier)} rows are settled: `{resume}`")


def _named(results: Sequence[Result]) -> str:
    first = ", ".join(f"line {result.line} {result.name}" for result in results[:3])
    return f"{first}, …" if len(results) > 3 else first  # noqa: PLR2004


def _again(arguments: argparse.Namespace, bridge: Target) -> str:
    said = ["submit", str(arguments.file), "--resume"]
    said += ["--source", arguments.source] if arguments.source != _SOURCE else []
    said += ["--encoding", arguments.encoding] if arguments.encoding != submit_rows.ENCODINGS[0] else []
    return bridge.command(*said)


# --- how it is told -----------------------------------------------------------------------------------------------


def _tell_faults(terminal: Terminal, path: Path, sheet: Sheet, *, as_json: bool) -> int:
    for fault in sheet.faults:
        if as_json:
            print(json.dumps(asdict(fault), ensure_ascii=False))
        else:
            terminal.line(f"{terminal.bad('✗')} {path}:{fault.line}  {fault}")
    wrong = len({fault.line for fault in sheet.faults})
    lines, them = ("1 line is", "it") if wrong == 1 else (f"{wrong:,} lines are", "them")
    of = f" (the file has {_rows(sheet.size)})" if sheet.size else ""
    terminal.line(f"{lines} wrong{of}. Nothing was sent: mend {them}, and submit the file again.")
    return REFUSED


@contextmanager
def _telling(terminal: Terminal, total: int) -> Iterator[Callable[[Standing], None]]:
    """Yield what shows how far it has come: a bar on a terminal, else a line now and then."""
    told_at, before = time.monotonic(), ""
    with Bar.over(total, sys.stderr) as bar:

        def tell(standing: Standing) -> None:
            nonlocal told_at, before
            done, said = total - len(standing.unsettled), _counts(standing)
            bar.show(done, said)
            if not bar.shown and said != before and time.monotonic() - told_at >= _TELL_EVERY:
                terminal.line(f"{done:>7,} of {total:,} settled: {said}")
                told_at, before = time.monotonic(), said

        yield tell


def _tell_end(terminal: Terminal, path: Path, standing: Standing, seconds: float) -> int:
    results = list(standing.results.values())
    states = Counter(result.state for result in results)
    unwanted = [result for result in results if result.state in (State.REJECTED, State.FAILED)]
    for result in unwanted[:_MOST_TOLD]:
        terminal.line(f"{terminal.bad('✗')} {path}:{result.line}  {result.name}  {result.state}: {result.detail}")
    if len(unwanted) > _MOST_TOLD:
        terminal.line(f"  … and {len(unwanted) - _MOST_TOLD:,} more")
    took = f", in {seconds:.1f} s" if seconds else ""
    said, whole = f"{_rows(len(results))}: {_counts(standing)}{took}.", states[State.CREATED] == len(results)
    terminal.line(terminal.good(said) if whole else said)
    if whole:
        return OK
    return REFUSED if len(unwanted) + states[State.CREATED] == len(results) else UNSETTLED


def _counts(standing: Standing, *, would: bool = False) -> str:
    """Return how many rows stand how. ``would``: those to be sent are told apart."""
    counted: Counter[str] = Counter()
    for request_id, result in standing.results.items():
        if would and (result.state == WAITING or request_id in standing.failures):
            counted["to be sent"] += 1
        elif result.settled or request_id not in standing.sent:
            counted[result.state] += 1
        else:
            counted["open"] += 1
    order = ["to be sent", State.CREATED, State.REJECTED, State.FAILED, "open", WAITING]
    return " · ".join(f"{counted[each]:,} {each}" for each in order if counted[each])


def _tell_json(standing: Standing, *, as_json: bool) -> None:
    for result in standing.results.values() if as_json else ():
        print(result.json())


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
