"""A world in which everything that can happen may happen at any moment: virtual time, the real use case.

Processes run the shipped `Bridge` in threads that stop before and after each side effect until they are told to go on,
so that a test decides every interleaving: who goes next, who is killed where, when a POST takes effect at AiTEMS and
whether its answer comes back. AiTEMS is simulated at the client's interface, with what the promise assumes of it: a
POST nobody listens to is over, and listed, within a minute.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import cast

from aitems_bridge.aitems import AiTEMS, Listed, Listing, LookFailed
from aitems_bridge.bridge import Bridge, Invocation, Order, fingerprint
from aitems_bridge.errors import Problem
from aitems_bridge.events import event_id
from aitems_bridge.ledger import Ledger, Moved
from aitems_bridge.record import (
    HOUR,
    SECOND,
    Clock,
    Made,
    NotDone,
    Numbers,
    Outcome,
    Record,
    Rejection,
    State,
    Unknown,
    duplicate_name,
    revive,
)
from aitems_bridge.service import Service
from aitems_bridge.wire import Permit
from memory import MemoryLedger

KOREA = 9 * HOUR
LONGEST = 60 * SECOND
"""How long AiTEMS may work on a POST nobody listens to, its late listing included."""


class Killed(BaseException):
    """The process is dead: nothing of it runs any more."""


class Names(StrEnum):
    """How AiTEMS keeps names unique."""

    ATOMIC = "atomic"
    RACE = "race"
    """It looks, and inserts later: two at once both pass."""


@dataclass(eq=False)
class Post:
    """One POST at AiTEMS."""

    request_id: str
    command: dict[str, str]
    sent: int
    checked: bool = False
    over: bool = False
    answer: Outcome | None = None


@dataclass(eq=False)
class MadeService:
    """A service AiTEMS has; ``maker`` is the request whose POST made it, or None: a person did."""

    id: str
    name: str
    description: str
    created: int
    maker: str | None
    listed_from: int


class Process:
    """One invocation, in a thread that moves only when told to."""

    def __init__(self, run: Callable[["Process"], object], ends: int) -> None:
        self.ends = ends
        self.at = "start"
        self.done = False
        self.result: object = None
        self.error: Exception | None = None
        self.post: Post | None = None
        self.request_id = ""
        self.outcome: Outcome | None = None
        self._killed = False
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._run = run
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Go on to just before or after the next side effect, or to the end."""
        if not self.done:
            self._go.release()
            self._stopped.acquire()

    def kill(self) -> None:
        """End it where it stands."""
        self._killed = True
        self.step()
        assert self.done

    def pause(self, at: str) -> None:
        """Wait to be told to go on; called from within."""
        self.at = at
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _main(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self.result = self._run(self)
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001  # shown by the test that finds it
            self.error = error
        self.done = True
        self._stopped.release()


@dataclass
class PausingLedger:
    """The ledger as one process sees it: it stops before and after each call."""

    ledger: MemoryLedger
    process: Process

    def get(self, request_id: str) -> Record | None:
        """See `Ledger.get`."""
        self.process.pause("before read")
        return self.ledger.get(request_id)

    def claimant(self, service_id: str) -> Record | None:
        """See `Ledger.claimant`."""
        return self.ledger.claimant(service_id)

    def write(self, old: Record | None, new: Record) -> None:
        """See `Ledger.write`."""
        self.process.pause("before write")
        self.ledger.write(old, new)
        self.process.request_id = new.id
        self.process.pause("after write")


@dataclass
class PausingAiTEMS:
    """AiTEMS as one process sees it."""

    world: "World"
    process: Process
    utc_offset: int = KOREA
    zone_agrees: bool = True

    def create(self, command: dict[str, str], permit: Permit) -> Outcome:
        """See `AiTEMS.create`."""
        self.process.pause("before send")
        if permit() <= 0:
            return NotDone(Problem("aitems-unavailable", "too late"))
        post = self.world.send(self.process, command)
        self.process.post = post
        while self.process.outcome is None:
            self.process.pause("waiting")
        outcome, self.process.outcome, self.process.post = self.process.outcome, None, None
        return outcome

    def list_named(self, name: str, permit: Permit) -> Listing:
        """See `AiTEMS.list_named`."""
        self.process.pause("before list")
        if permit() <= 0 or self.world.list_down:
            raise LookFailed(Problem("aitems-unavailable", "down"))
        listing = self.world.listing(name)
        self.process.pause("after list")
        return listing

    def read(self, service_id: str, permit: Permit) -> tuple[Service, str] | None:
        """See `AiTEMS.read`."""
        if permit() <= 0 or self.world.list_down:
            raise LookFailed(Problem("aitems-unavailable", "down"))
        for made in self.world.services:
            if made.id == service_id:
                text = self.world.told(made)
                return Service.model_validate_json(text), text
        return None


@dataclass
class World:
    """Everything there is, with its clock; see the module."""

    names: Names = Names.ATOMIC
    skew: int = 0
    """AiTEMS's clock against ours, in milliseconds."""
    zone: int = KOREA
    list_lag: int = 0
    now: int = 1_700_000_000_000
    numbers: Numbers = field(default_factory=lambda: Numbers(chance=lambda: 0.5))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    services: list[MadeService] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    pointers: list[tuple[int, str, int]] = field(default_factory=list)
    announced: list[tuple[str, State]] = field(default_factory=list)
    list_down: bool = False
    _relayed: int = 0

    # --- what the bridge is asked to do ---------------------------------------------------------------------------

    def order(self, key: str, name: str = "shop-main", description: str = "") -> Order:
        """Return a request of a webhook caller."""
        command = {"name": name, "description": description, "type": "batch"}
        return Order("standard", "hook:c", key, "c", command, fingerprint(command))

    def arrive(self, order: Order, *, waits: bool = True) -> Process:
        """A caller knocks: a webhook process opens the request."""
        ends = self.now + 29 * SECOND
        invocation = Invocation(ends, ends - 3 * SECOND, 15 * SECOND) if waits else None
        return self._begin(lambda bridge: bridge.open(order, invocation), ends)

    def due(self) -> list[tuple[int, str, int]]:
        """Return the pointers whose time has come."""
        return [pointer for pointer in self.pointers if pointer[0] <= self.now]

    def deliver(self, pointer: tuple[int, str, int]) -> Process:
        """The queue hands a pointer to a worker; it stays in the queue until the worker is done with it."""
        ends = self.now + 60 * SECOND
        _, request_id, version = pointer

        def attend(bridge: Bridge) -> bool:
            done, _ = bridge.attend(request_id, version, Invocation(ends, ends))
            if done and pointer in self.pointers:
                self.pointers.remove(pointer)
            return done

        return self._begin(attend, ends)

    def bury(self, pointer: tuple[int, str, int]) -> Process:
        """The pointer failed too often: the worker reads it from the dead letters."""
        return self._begin(lambda bridge: bridge.bury(None, pointer[1], pointer[2]), self.now + 60 * SECOND)

    def redrive(self, request_id: str) -> None:
        """An operator revives a failed request."""
        record = self.ledger.get(request_id)
        if record is not None and record.state is State.FAILED:
            self.ledger.write(record, revive(record, self.now, self.numbers))
            self.relay()

    def _begin(self, use: Callable[[Bridge], object], ends: int) -> Process:
        def run(process: Process) -> object:
            ledger = cast("Ledger", PausingLedger(self.ledger, process))
            aitems = cast("AiTEMS", PausingAiTEMS(self, process))
            return use(Bridge(ledger, aitems, lambda: self.now, self.numbers))

        process = Process(run, ends)
        self.processes.append(process)
        return process

    # --- what happens ---------------------------------------------------------------------------------------------

    def step(self, process: Process) -> None:
        """Let a process go on to its next stop."""
        process.step()
        assert process.error is None or isinstance(process.error, Moved), process.error
        self.relay()
        self.processes = [each for each in self.processes if not each.done]

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.kill()
        self.processes = [each for each in self.processes if not each.done]

    def relay(self) -> None:
        """The stream: open writes become pointers, the others announcements."""
        for record in self.ledger.writes[self._relayed :]:
            if record.state.open:
                assert record.due is not None
                self.pointers.append((record.due, record.id, record.version))
            else:
                self.announced.append((event_id(record), record.state))
        self._relayed = len(self.ledger.writes)

    def advance(self, milliseconds: int) -> None:
        """Time passes: Lambda ends processes that are over their time, AiTEMS ends POSTs that are over theirs."""
        until = self.now + milliseconds
        while True:
            ends = [process.ends for process in self.processes]
            ends += [post.sent + LONGEST - self.list_lag for post in self.posts if not post.over]
            self.now = min([until, *(end for end in ends if end > self.now)])
            for process in [each for each in self.processes if each.ends <= self.now]:
                self.kill(process)
            for post in [each for each in self.posts if not each.over]:
                if post.sent + LONGEST - self.list_lag <= self.now:
                    self.land(post)
            if self.now == until:
                return

    def send(self, process: Process, command: dict[str, str]) -> Post:
        """The last byte of a POST reaches AiTEMS."""
        for other in self.posts:
            assert other.over or other.request_id != process.request_id, "two POSTs of one request in flight"
        record = self.ledger.get(process.request_id)
        assert record is not None
        assert record.state is State.CREATING, f"a POST while {record.state}"
        post = Post(process.request_id, command, self.now)
        self.posts.append(post)
        return post

    def land(self, post: Post) -> None:
        """The POST takes effect, or finds its name taken."""
        if post.over:
            return
        if self.names is Names.RACE and not post.checked:
            taken = self._taken(post.command["name"])
            post.checked = True
            if not taken:
                return  # passed the check; inserts at the next call
        elif self.names is Names.RACE:
            taken = False
        else:
            taken = self._taken(post.command["name"])
        post.over = True
        if taken:
            clock = Clock(self._wall() - self.now, self._wall() - self.now)
            post.answer = Rejection(duplicate_name(post.command["name"]), duplicate=True, clock=clock)
        else:
            made = self._make(post.command["name"], post.command["description"], post.request_id)
            post.answer = Made(self.told(made), made.id)

    def refuse(self, post: Post, outcome: Outcome) -> None:
        """AiTEMS or its gateway refuses the POST: it does nothing."""
        assert not post.over
        post.over, post.answer = True, outcome

    def answer(self, process: Process) -> None:
        """The answer of the POST that a process waits for comes back, if there is one."""
        if process.post is not None and process.post.answer is not None:
            process.outcome = process.post.answer

    def lose(self, process: Process) -> None:
        """The process hears nothing any more of the POST it waits for."""
        process.outcome = Unknown(Problem("outcome-unknown", "lost"))

    def by_hand(self, name: str, description: str) -> MadeService:
        """A person makes a service in the console."""
        return self._make(name, description, None)

    def listing(self, name: str) -> Listing:
        """Return what the list shows now."""
        seen = [made for made in self.services if made.name.lower() == name.lower() and made.listed_from <= self.now]
        listed = [Listed(made.id, made.name, "datasetRequired", self._date(made.created)) for made in seen]
        date = (self.now + self.skew) // SECOND * SECOND
        ahead = Clock(date - self.now, date + SECOND - self.now)
        named = tuple(each for each in listed if each.name == name)
        return Listing(named, tuple(each for each in listed if each.name != name), ahead)

    def told(self, made: MadeService) -> str:
        """Return the service as AiTEMS tells it."""
        document = {"serviceId": made.id, "name": made.name, "description": made.description, "type": "batch"}
        return json.dumps(document | {"createdDate": self._date(made.created)})

    def _make(self, name: str, description: str, maker: str | None) -> MadeService:
        number = len(self.services) + 1
        made = MadeService(f"s{number}", name, description, self.now, maker, self.now + (self.list_lag if maker else 0))
        self.services.append(made)
        return made

    def _taken(self, name: str) -> bool:
        return any(made.name == name for made in self.services)

    def _wall(self) -> int:
        return self.now + self.skew + self.zone

    def _date(self, created: int) -> str:
        wall = created + self.skew + self.zone
        return datetime.fromtimestamp(wall / SECOND, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")

    # --- the promise ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """At every moment: what must never be otherwise."""
        made_for: dict[str, list[str]] = {}
        for made in self.services:
            if made.maker is not None:
                made_for.setdefault(made.maker, []).append(made.id)
        for maker, ids in made_for.items():
            assert len(ids) == 1, f"{maker} made {ids}"
        for record in self.ledger.scan():
            mine = made_for.get(record.id, [])
            if record.state is State.CREATED:
                assert [record.service_id] == mine, f"{record.id} announced {record.service_id}, made {mine}"
            if record.state is State.REJECTED:
                assert mine == [], f"{record.id} was rejected and made {mine}"
                assert not any(post.request_id == record.id and not post.over for post in self.posts)
        finals: dict[str, set[str]] = {}
        for announced, state in self.announced:
            if state.final:
                finals.setdefault(announced.partition(".")[0], set()).add(announced)
        assert all(len(ids) == 1 for ids in finals.values()), finals

    def finish(self) -> None:
        """The faults stop and the world goes on: work until nothing is open any more."""
        self.list_down = False
        most = {record.id: record.gave_up + 3 for record in self.ledger.scan()}
        for _ in range(400):
            for process in list(self.processes):
                while not process.done:
                    if process.at == "waiting" and process.post is not None:
                        while not process.post.over:
                            self.land(process.post)
                        self.answer(process)
                    self.step(process)
                    self.check()
            for record in list(self.ledger.scan()):
                if record.state is State.FAILED and record.gave_up < most.get(record.id, 3):
                    self.redrive(record.id)
            if not any(record.state.open for record in self.ledger.scan()):
                break
            if due := self.due():
                self.deliver(due[0])
            else:
                following = min(pointer[0] for pointer in self.pointers)
                self.advance(max(1, following - self.now))
            self.check()
        assert not any(record.state.open for record in self.ledger.scan()), "nobody looks after an open request"
        self.check()


def settled(world: World) -> list[Record]:
    """Return all requests as they ended, in the order in which they came."""
    return sorted(world.ledger.scan(), key=lambda record: record.requested_at)
