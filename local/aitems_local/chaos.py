"""The promise under fire: the deployed stack, its function processes killed at every side effect, and then a count.

    python -m aitems_local.chaos                    recovery, the kill matrix and the storm; writes nothing
    python -m aitems_local.chaos --write            and puts the table into docs/reliability.md
    python -m aitems_local.chaos --only storm --seed 7

Exit code 1 if any request was lost or doubled, or announced otherwise than it is.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aitems_local.audit import BusDoor, Door, Heard, HookDoor, Letter, Sent, Verdict, audit, drained, settled, status
from aitems_local.cloud import StackError
from aitems_local.document import ROOT
from aitems_local.faults import Fault
from aitems_local.intercept import Interceptor, Kill, Trouble
from aitems_local.stack import Stack, Template

PARAMETERS = {
    "WebhookTimeout": "20",
    "WorkerTimeout": "20",
    "QuietSeconds": "1",
    "LeaseMarginSeconds": "1",
    "BackoffBaseSeconds": "1",
    "GiveUpAfterMinutes": "30",
    "WorkerConcurrency": "8",
}
"""As short as the rules allow. A POST's last byte leaves 13 s before its process ends at the latest, so that the quiet
time begins 14 s after it and AiTEMS's longest work here (4 s, and 3 s until it is listed) is over."""

VISIBILITY = 22
"""Seconds, the worker's 20 and some: until a message whose worker was killed before its first write comes again."""

LONGEST_WORK = 4.0
LIST_DELAY = 3.0
AT_ONCE = 12

WEBHOOK, LATER, BUS = HookDoor(), HookDoor(prefer="respond-async"), BusDoor()


# --- the fault modes ----------------------------------------------------------------------------------------------


def _fault(kind: str, **more: Any) -> Callable[[str], Fault]:  # noqa: ANN401  # the fields of Fault
    return lambda name: Fault(kind, name=name, **more)  # type: ignore[arg-type]  # checked when made


FAULTS: dict[str, Callable[[str], Fault] | None] = {
    "none": None,
    "hangs, made": _fault("hang_after", seconds=16),
    "reset, not made": _fault("reset_before"),
    "reset, made": _fault("reset_after"),
    "429": _fault("error_before", status=429),
    "500, not made": _fault("error_before", status=500),
    "500, made": _fault("error_after", status=500),
    "504, not made": _fault("error_before", status=504),
    "504, made": _fault("error_after", status=504),
    "broken JSON": _fault("broken_json"),
    "504, made later": _fault("late_commit", seconds=3),
}
_GOES_ON = _fault("slow", seconds=2)
_NEVER = _fault("hang_before", seconds=2)


@dataclass(frozen=True)
class Aimed:
    """A place in the life of a request at which its process is killed, and how the request gets there."""

    path: str
    point: str
    door: Door
    kills: tuple[Kill, ...]
    first: tuple[Callable[[str], Fault], ...] = ()
    """Faults that bring it there, before the one it is crossed with."""


def _kills(*places: str) -> tuple[Kill, ...]:
    return tuple(Kill(*place.split(" ", 1)) for place in places)  # type: ignore[arg-type]  # literals below


def _creation(path: str, door: Door, write: str) -> Iterator[Aimed]:
    """Yield the places of a first creation: the write that claims it, the POST, the write that settles it."""
    yield Aimed(path, "before the claim", door, _kills(f"before {write}"))
    yield Aimed(path, "after the claim", door, _kills(f"after {write}"))
    yield Aimed(path, "before the POST", door, _kills("before post"))
    yield Aimed(path, "POST sent, made later", door, _kills("sent post"), (_GOES_ON,))
    yield Aimed(path, "POST sent, never made", door, _kills("sent post"), (_NEVER,))
    yield Aimed(path, "after the POST", door, _kills("after post"))
    yield Aimed(path, "before the settling", door, _kills("before settle"))
    yield Aimed(path, "after the settling", door, _kills("after settle"))


def _relay(path: str, door: Door) -> Iterator[Aimed]:
    for point, call in (("queueing", "queue"), ("announcing", "announce")):
        for when in ("before", "after"):
            yield Aimed(path, f"{when} {point}", door, _kills(f"{when} {call}"))


def _takeover() -> Iterator[Aimed]:
    """Yield the places of a worker that looks after an outcome nobody knows."""
    made, absent = _fault("reset_after"), _fault("reset_before")
    for what, calls in (
        ("reading", "read"),
        ("listing", "list"),
        ("asking the owner", "owner"),
        ("reading the service", "inspect"),
        ("adopting", "adopt"),
    ):
        for when in ("before", "after"):
            yield Aimed("look, made", f"{when} {what}", WEBHOOK, _kills(f"{when} {calls}"), (made,))
    for what, calls in (
        ("putting off", "put off"),
        ("the second claim", "claim"),
    ):
        for when in ("before", "after"):
            yield Aimed("look, not made", f"{when} {what}", WEBHOOK, _kills(f"{when} {calls}"), (absent,))
    for place in ("before post", "sent post", "after post"):
        kills = _kills("after put off", place)
        name = {"before": "before the second POST", "sent": "second POST sent", "after": "after the second POST"}
        first = (absent, _GOES_ON) if place.startswith("sent") else (absent,)
        yield Aimed("look, not made", name[place.split()[0]], WEBHOOK, kills, first)
    for when in ("before", "after"):
        kills = _kills("after post", f"{when} settle")
        yield Aimed("taken over", f"{when} the lapse", WEBHOOK, kills)


def places() -> list[Aimed]:
    """Return every place at which a process is killed."""
    found = [*_creation("webhook", WEBHOOK, "record"), *_relay("webhook", WEBHOOK)]
    found += [*_creation("bus", BUS, "record"), *_relay("bus", BUS)]
    found += [
        Aimed("queued", "before reading", LATER, _kills("before read")),
        Aimed("queued", "after reading", LATER, _kills("after read")),
        *_creation("queued", LATER, "claim"),
    ]
    return [*found, *_takeover()]


@dataclass(frozen=True)
class Case:
    """One request of the matrix: a place, crossed with a fault."""

    place: Aimed
    fault: str


def matrix() -> list[Case]:
    """Return every place crossed with every fault; where a fault of its own leads there, with that one only."""
    crossed = [place for place in places() if not place.path.startswith("look")]
    cases = [Case(place, fault) for place in crossed for fault in FAULTS]
    return cases + [Case(place, "none") for place in places() if place.path.startswith("look")]


def short_matrix() -> list[Case]:
    """Return every place once, the faults dealt out among them; what takes longest comes first.

    A fault that strikes only after the kill, and leaves the outcome unknown, would cost another quiet time: where a
    process dies before its POST can be made, only quick ones are dealt.
    """
    cases = []
    for number, place in enumerate(sorted(places(), key=lambda place: place.path != "look, not made")):
        faults = _QUICK if place.point in _BEFORE_IT_IS_MADE else list(FAULTS)
        fault = "none" if place.path.startswith("look") else faults[number * 7 % len(faults)]
        cases.append(Case(place, fault))
    return cases


_QUICK = ["none", "429"]
_BEFORE_IT_IS_MADE = {
    "before reading",
    "after reading",
    "before the claim",
    "after the claim",
    "before the POST",
    "POST sent, never made",
}


# --- running ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """How this AiTEMS keeps names unique and lists what is new."""

    name: str
    settings: dict[str, object]


WORLDS = (
    World("atomic", {"uniqueness": "atomic", "list_delay": 0.0}),
    World("race, late list", {"uniqueness": "race", "race_window": 0.3, "list_delay": LIST_DELAY}),
)


WORLD_NAMES = [world.name for world in WORLDS]


@contextmanager
def bridge(cloud: Stack, name: str, *, batch: int) -> Iterator[tuple[Stack, Interceptor]]:
    """Deploy a bridge whose calls can be intercepted, with the matrix's short times, beside one that runs."""

    def change(template: Template) -> None:
        interceptor.change(template)
        template["Resources"]["Queue"]["Properties"]["VisibilityTimeout"] = VISIBILITY
        template["Resources"]["WorkerFunction"]["Properties"]["Events"]["Work"]["Properties"]["BatchSize"] = batch

    with Interceptor(cloud.cloud) as interceptor:
        stack = cloud.deploy(name, parameters={**PARAMETERS, "AitemsBaseUrl": interceptor.aitems_url}, change=change)
        interceptor.aitems = stack.aitems_url
        try:
            yield stack, interceptor
        finally:
            stack.stop()


@dataclass
class Run:
    """What a run showed."""

    verdicts: list[Verdict]
    heard: dict[str, list[Heard | None]]
    seconds: float
    kills: int
    missed: list[str] = field(default_factory=list)
    """Kills that were planned and did not happen."""

    @property
    def faults(self) -> list[str]:
        """Every broken promise, in words."""
        return [f"{_label(verdict)}: {fault}" for verdict in self.verdicts for fault in verdict.faults]


def run_matrix(stack: Stack, interceptor: Interceptor, cases: Sequence[Case], *, timeout: float, prefix: str) -> Run:
    """Send one request for each case, kill where it says, let everything settle, and count.

    A place that a request did not come by (a look that should have been early and was late) is tried once more.
    """
    run = _round(stack, interceptor, cases, timeout=timeout, prefix=f"{prefix}a")
    missed = [case for case, verdict in zip(cases, run.verdicts, strict=True) if interceptor.left(_id(verdict))]
    if missed:
        more = _round(stack, interceptor, missed, timeout=timeout, prefix=f"{prefix}b")
        run = Run(
            run.verdicts + more.verdicts, run.heard | more.heard, run.seconds + more.seconds, run.kills + more.kills
        )
        run.missed = [
            f"{_label(verdict)}: {', '.join(map(str, left))}"
            for verdict in more.verdicts
            if (left := interceptor.left(_id(verdict)))
        ]
    return run


def _round(stack: Stack, interceptor: Interceptor, cases: Sequence[Case], *, timeout: float, prefix: str) -> Run:
    begun = time.monotonic()
    before = len(interceptor.killed)
    sends = [_prepare(stack, interceptor, case, f"{prefix}{number:04d}") for number, case in enumerate(cases)]
    heard = _send_all(letter for _, letter in sends)
    sent = [each for each, _ in sends]
    settled(stack, sent, timeout)
    verdicts = audit(stack, sent, heard)
    return Run(verdicts, heard, time.monotonic() - begun, len(interceptor.killed) - before)


def _id(verdict: Verdict) -> str:
    return verdict.sent.request_id


def _label(verdict: Verdict) -> str:
    return f"{' · '.join(verdict.sent.label)} ({verdict.sent.name})"


def _prepare(stack: Stack, interceptor: Interceptor, case: Case, name: str) -> tuple[Sent, Letter]:
    letter = case.place.door.letter(stack, name, f"key-{name}")
    interceptor.plan(letter.request_id, name, case.place.kills)
    fault = FAULTS[case.fault]
    stack.aitems.add_faults(*(make(name) for make in (*case.place.first, *([fault] if fault else []))))
    return Sent(letter.request_id, name, (case.place.path, case.place.point, case.fault)), letter


def _send_all(letters: Iterable[Letter]) -> dict[str, list[Heard | None]]:
    """Send everything, some at once, and return what the senders of each request were told."""
    heard: dict[str, list[Heard | None]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [(letter.request_id, pool.submit(letter.send)) for letter in letters]
        for request_id, future in futures:
            heard.setdefault(request_id, []).append(future.result())
    return heard


# --- the storm ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knock:
    """One sending of the storm. Those of one key are one request."""

    key: str
    name: str
    door: str
    faults: tuple[str, ...] = ()
    kills: tuple[Kill, ...] = ()
    again: bool = False


DOORS: dict[str, Door] = {
    "webhook": WEBHOOK,
    "webhook, later": LATER,
    "bus": BUS,
    "GitHub": HookDoor("github"),
    "HMAC": HookDoor("hmac"),
    "Slack": HookDoor("slack"),
    "NAVER WORKS": HookDoor("works"),
}
"""Every way in; a new one is to be added here."""
CHATS = ("Slack", "NAVER WORKS")
"""Where the same person asking for the same name again is told of the earlier request: no rivals come from there."""

STORM_FAULTS: dict[str, Callable[[str], Fault]] = {
    **{name: make for name, make in FAULTS.items() if make is not None},
    "hangs, not made": _fault("hang_before", seconds=3),
    "closed, not made": _fault("close_before"),
    "closed, made": _fault("close_after"),
    "bare 502": _fault("status_only", status=502),
    "redirect": _fault("redirect"),
    "slow": _fault("slow", seconds=2),
    "slow answer": _fault("slow_answer", seconds=2),
    "dripping": _fault("dripping", seconds=0.005),
    "cut short": _fault("cut_short"),
    "garbage": _fault("garbage"),
    "another name": _fault("wrong_name"),
    "closed, made later": _fault("late_commit", seconds=3, answer="close"),
    "reset, made later": _fault("late_commit", seconds=3, answer="reset"),
    "403": _fault("error_before", status=403),
    "refused": _fault("error_before", status=400, shape="flat"),
    "unreadable service": _fault("reset_after", on="read"),
    "no list": lambda _: Fault("error_before", on="list", status=500),
    "broken list": lambda _: Fault("broken_json", on="list"),
}

STORM_KILLS = (
    *_kills("before record", "after record", "before claim", "after claim", "before post", "sent post", "after post"),
    *_kills("before settle", "after settle", "before queue", "after queue", "before announce", "after announce"),
)

SHARE = 0.2
"""Of the knocks, how many come again under a key that was used before; of the requests, how many meet a fault."""
KILLED, RIVALS = 0.1, 0.04
"""Of the requests, how many meet planned kills, and how many ask for a name that another asks for."""
WEATHER = 0.02
"""Of the calls to AWS, how many are refused, or done without an answer."""


def plan_storm(number: int, seed: int, most: int = 2) -> list[Knock]:
    """Return what is sent, in order: the same for the same seed. Of faults and kills one request meets so many."""
    chance = random.Random(seed)  # noqa: S311  # repeatable is the point
    knocks: list[Knock] = []
    for count in range(number):
        earlier = [knock for knock in knocks if not knock.again]
        if earlier and chance.random() < SHARE:
            first = chance.choice(earlier[-20:])  # so that many come while the first is still being worked on
            knocks.append(Knock(first.key, first.name, first.door, again=True))
            continue
        rival = bool(earlier) and chance.random() < RIVALS
        name = chance.choice(earlier[-20:]).name if rival else f"s{count:05d}"
        faults = [chance.choice(list(STORM_FAULTS)) for _ in range(min(most, chance.choice((1, 1, 2))))]
        kills = chance.sample(STORM_KILLS, min(most, chance.choice((1, 1, 2))))
        knocks.append(
            Knock(
                f"storm-{seed}-{count}",
                name,
                chance.choice([door for door in DOORS if not rival or door not in CHATS]),
                tuple(faults) if chance.random() < SHARE else (),
                tuple(kills) if chance.random() < KILLED else (),
            )
        )
    return knocks


def run_storm(stack: Stack, interceptor: Interceptor, knocks: Sequence[Knock], *, seed: int, timeout: float) -> Run:
    """Send it all, kill what is planned and now and then whoever runs, let everything settle, and count."""
    begun = time.monotonic()
    before = len(interceptor.killed)
    names = Counter(knock.name for knock in knocks if not knock.again)
    letters: dict[str, Letter] = {}
    sent: list[Sent] = []
    for knock in knocks:
        if knock.again:
            continue
        letter = letters[knock.key] = DOORS[knock.door].letter(stack, knock.name, knock.key)
        stack.aitems.add_faults(*(STORM_FAULTS[fault](knock.name) for fault in knock.faults))
        sent.append(Sent(letter.request_id, knock.name, (knock.door,)))
        if names[knock.name] == 1:  # of rivals nobody could tell whose POST it is
            interceptor.plan(letter.request_id, knock.name, knock.kills)
    interceptor.weather = _weather(seed)
    with _reaper(stack, seed) as reaped:
        heard = _send_all(letters[knock.key] for knock in knocks)
    interceptor.weather = lambda _: None
    settled(stack, sent, timeout)
    verdicts = audit(stack, sent, heard)
    return Run(verdicts, heard, time.monotonic() - begun, len(interceptor.killed) - before + len(reaped))


def _weather(seed: int) -> Callable[[str], Trouble | None]:
    chance, lock = random.Random(seed + 1), threading.Lock()  # noqa: S311  # as above

    def weather(operation: str) -> Trouble | None:
        with lock:
            if operation == "GetSecretValue" or chance.random() >= WEATHER:
                return None
            return chance.choice(("refused", "lost"))

    return weather


@contextmanager
def _reaper(stack: Stack, seed: int) -> Iterator[list[int]]:
    """Kill a function process every second or so, whatever it does."""
    chance = random.Random(seed + 2)  # noqa: S311  # as above
    over, killed = threading.Event(), list[int]()
    functions = sorted(logical for logical in stack.resources if logical.endswith("Function"))

    def reap() -> None:
        while not over.wait(chance.uniform(0.5, 1.5)):
            if processes := sorted(stack.processes(chance.choice(functions))):
                pid = chance.choice(processes)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=reap, name="reaper", daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


# --- recovery -----------------------------------------------------------------------------------------------------

RECOVERIES = {"made": _kills("after post"), "not made": _kills("before post")}
RECOVERED_WITHIN = 90.0
"""Seconds at default settings, from the sending to the announcement."""


@dataclass(frozen=True)
class Recovery:
    """What became of a request whose process was killed while its caller waited, and whom nobody helped."""

    seconds: float
    """From its sending to the announcement."""
    shown: dict[str, Any]
    """What the caller's status address says then."""
    services: int


def recover(stack: Stack, interceptor: Interceptor, name: str, kills: Sequence[Kill], timeout: float) -> Recovery:
    """Send a webhook once, kill its process where it says, and wait for the announcement."""
    signed = WEBHOOK.signed(stack, name, f"key-{name}")
    request_id = signed.request_id
    interceptor.plan(request_id, name, kills)
    begun = time.time()
    answer = signed.send()
    if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR or interceptor.left(request_id):
        raise StackError(f"the process was not killed: {answer.status} {answer.body}")
    event = stack.event(timeout=timeout, request_id=request_id, final=True)
    _, shown = status(stack, request_id)
    return Recovery(event.arrived - begun, shown, len(stack.aitems.services_named(name)))


def _recovery(cloud: Stack) -> dict[str, Recovery]:
    """Recover at default settings."""
    with (
        Interceptor(cloud.cloud) as interceptor,
        cloud.deploy(
            "defaults", parameters={"AitemsBaseUrl": interceptor.aitems_url}, change=interceptor.change
        ) as stack,
        ThreadPoolExecutor(len(RECOVERIES)) as pool,
    ):
        interceptor.aitems = stack.aitems_url
        started = {
            what: pool.submit(recover, stack, interceptor, f"r{number}-recovered", kills, 2 * RECOVERED_WITHIN)
            for number, (what, kills) in enumerate(RECOVERIES.items())
        }
        found = {what: future.result() for what, future in started.items()}
    for what, recovery in found.items():
        _say(f"recovery, {what}: {recovery.seconds:.0f} s, shown as {recovery.shown['state']}")
    return found


# --- the table ----------------------------------------------------------------------------------------------------

HEAD = ("runs", "services", "created", "rejected", "failed", "final events", "duplicates", "lost")
_MARKS = ("<!-- kill matrix -->", "<!-- /kill matrix -->")


def rows(verdicts: Iterable[Verdict], key: Callable[[Sent], tuple[str, ...]]) -> dict[tuple[str, ...], list[int]]:
    """Return what to print: for each key the counts of `HEAD`, in the order of first appearance."""
    found: dict[tuple[str, ...], list[int]] = {}
    for verdict in verdicts:
        row = found.setdefault(key(verdict.sent), [0] * len(HEAD))
        states = [int(verdict.state == state) for state in ("created", "rejected", "failed")]
        counts = [1, verdict.services, *states, verdict.final_events, verdict.duplicates, verdict.lost]
        row[:] = map(sum, zip(row, counts, strict=True))
    return found


def table(titles: Sequence[str], found: dict[tuple[str, ...], list[int]]) -> str:
    """Return the rows and their sum as a table in Markdown."""
    total = [sum(column) for column in zip(*found.values(), strict=True)]
    lines = [[*titles, *HEAD], *([*key, *map(str, counts)] for key, counts in found.items())]
    lines.append(["all", *[""] * (len(titles) - 1), *map(str, total)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = len(titles)

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(aligned)} |"

    rule = [("-" * width) if number < left else "-" * (width - 1) + ":" for number, width in enumerate(widths)]
    return "\n".join([line(lines[0]), line(rule), *map(line, lines[1:])])


def report(runs: dict[str, Run], recoveries: dict[str, Recovery], command: str) -> str:
    """Return everything as Markdown, for the terminal and for the document."""
    order = [*dict.fromkeys((place.path, place.point) for place in places())]
    matrices = [verdict for name, run in runs.items() if name != "storm" for verdict in run.verdicts]
    matrices.sort(key=lambda verdict: (order.index(verdict.sent.label[:2]), list(FAULTS).index(verdict.sent.label[2])))  # type: ignore[arg-type]  # pairs
    parts = [f"{datetime.now(UTC):%Y-%m-%d}, `{command}`:"]
    for name, run in runs.items():
        seconds = f"{len(run.verdicts)} requests, {run.kills} kills, {run.seconds:.0f} s"
        parts[0] += f"\n- {name if name == 'storm' else f'matrix, names {name}'}: {seconds}"
    for what, recovery in recoveries.items():
        parts[0] += f"\n- recovery of a killed webhook at default settings, service {what}: {recovery.seconds:.0f} s"
    if matrices:
        parts += ["By where the process was killed; each crossed with the faults below:"]
        parts += [table(("path", "killed"), rows(matrices, lambda sent: sent.label[:2]))]
        parts += ["By what AiTEMS did:", table(("fault",), rows(matrices, lambda sent: sent.label[2:]))]
        both = rows(matrices, lambda sent: (sent.label[2], sent.label[1]))
        parts += [f"<details><summary>Fault × point</summary>\n\n{table(('fault', 'killed'), both)}\n\n</details>"]
    if "storm" in runs:
        parts += ["The storm, by door:", table(("door",), rows(runs["storm"].verdicts, lambda sent: sent.label))]
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put the report between its marks in docs/reliability.md."""
    path = ROOT / "docs" / "reliability.md"
    begin, end = _MARKS
    head, _, rest = path.read_text("utf-8").partition(begin)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", "utf-8")


# --- the command --------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aitems_local.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=["matrix", "storm", "recovery"], help="one of them")
    parser.add_argument("--short", action="store_true", help="each place once, and a small storm")
    parser.add_argument("--requests", type=int, help="sent in the storm (default: 1200, short: 150)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that chance decides (default: 1)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    arguments = parser.parse_args(argv)
    runs, recoveries = _runs(arguments)
    command = "make chaos" if not sys.argv[1:] or arguments.write else f"chaos {' '.join(sys.argv[1:])}"
    text = report(runs, recoveries, command)
    print(text)
    if arguments.write:
        write(text)
    faults = [fault for run in runs.values() for fault in run.faults]
    missed = [miss for run in runs.values() for miss in run.missed]
    faults += [f"recovery, {what}: {one}" for what, one in recoveries.items() if not _recovered(one)]
    for fault in faults:
        print(f"BROKEN  {fault}", file=sys.stderr)
    for miss in missed:
        print(f"NOT REACHED  {miss}", file=sys.stderr)
    return int(bool(faults or missed))


def _recovered(recovery: Recovery) -> bool:
    in_time = recovery.seconds <= RECOVERED_WITHIN
    return in_time and recovery.services == 1 and recovery.shown["state"] == "created"


def _runs(arguments: argparse.Namespace) -> tuple[dict[str, Run], dict[str, Recovery]]:
    runs: dict[str, Run] = {}
    recoveries: dict[str, Recovery] = {}
    with Stack.start() as cloud:
        if arguments.only in (None, "recovery") and not arguments.short:
            recoveries = _recovery(cloud)
        if arguments.only in (None, "storm"):
            runs["storm"] = _storm(cloud, arguments)
        if arguments.only in (None, "matrix"):
            with ThreadPoolExecutor(len(WORLDS)) as pool:
                runs |= zip(WORLD_NAMES, pool.map(lambda world: _matrix(cloud, world, arguments), WORLDS), strict=True)
    return runs, recoveries


def _matrix(cloud: Stack, world: World, arguments: argparse.Namespace) -> Run:
    """Run the whole matrix in one world, with a bridge of its own, and audit it when nothing can happen any more."""
    cases = short_matrix() if arguments.short else matrix()
    random.Random(arguments.seed).shuffle(cases)  # noqa: S311  # repeatable is the point
    with bridge(cloud, f"matrix-{world.settings['uniqueness']}", batch=1) as (stack, interceptor):
        stack.aitems.configure(**world.settings)
        run = run_matrix(stack, interceptor, cases, timeout=600, prefix="m")
        drained(stack, 120)
        run.verdicts = audit(stack, [verdict.sent for verdict in run.verdicts], run.heard)
    _say(f"matrix, names {world.name}: {len(run.verdicts)} requests, {run.seconds:.0f} s")
    return run


def _storm(cloud: Stack, arguments: argparse.Namespace) -> Run:
    number = arguments.requests or (150 if arguments.short else 1200)
    with bridge(cloud, "storm", batch=10) as (stack, interceptor):
        stack.aitems.configure(**WORLDS[1].settings)
        run = run_storm(stack, interceptor, plan_storm(number, arguments.seed), seed=arguments.seed, timeout=300)
    _say(f"storm, seed {arguments.seed}: {number} knocks, {len(run.verdicts)} requests, {run.seconds:.0f} s")
    return run


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
