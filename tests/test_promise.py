"""The promise, whatever dies and whenever: any interleaving of a small world, chosen by hypothesis."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aitems_bridge.errors import Problem
from aitems_bridge.record import MINUTE, SECOND, NotDone, Outcome, Rejection, State, Unknown
from simulation import Names, World

KEYS = ["one", "two"]
ANSWERS: dict[str, Outcome] = {
    "throttled": NotDone(Problem("aitems-throttled", "429")),
    "denied": NotDone(Problem("not-permitted", "403")),
    "refused": Rejection(Problem("refused-by-aitems", "400")),
    "unknown": Unknown(Problem("outcome-unknown", "504")),
}


class Promise(RuleBasedStateMachine):
    """Two requests for one name (letter case aside), and everything that can happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(names=st.sampled_from(Names), skew=st.integers(-3, 3), lag=st.sampled_from([0, 3, 20]))
    @precondition(lambda self: not self.world.ledger.items and not self.world.processes)
    def begin(self, names: Names, skew: int, lag: int) -> None:
        """Another kind of AiTEMS."""
        self.world = World(names=names, skew=skew * SECOND, list_lag=lag * SECOND)

    @rule(key=st.sampled_from(KEYS), waits=st.booleans())
    def arrive(self, key: str, *, waits: bool) -> None:
        """A request comes, for the first time or again; both ask for the very same."""
        if len(self.world.processes) < 4:
            self.world.arrive(self.world.order(key), waits=waits)

    @rule(data=st.data(), times=st.integers(1, 6))
    @precondition(lambda self: bool(self.world.processes))
    def go_on(self, data: st.DataObject, times: int) -> None:
        """A process takes some steps, as far as it can without an answer."""
        process = data.draw(st.sampled_from(self.world.processes))
        for _ in range(times):
            if not process.done and not (process.at == "waiting" and process.outcome is None):
                self.world.step(process)
                self.world.check()

    @rule(data=st.data())
    @precondition(lambda self: bool(self.world.processes))
    def kill(self, data: st.DataObject) -> None:
        """A process is killed where it stands."""
        self.world.kill(data.draw(st.sampled_from(self.world.processes)))

    @rule(data=st.data())
    @precondition(lambda self: any(not post.over for post in self.world.posts))
    def land(self, data: st.DataObject) -> None:
        """A POST takes effect at AiTEMS, whether somebody waits for it or not."""
        self.world.land(data.draw(st.sampled_from([post for post in self.world.posts if not post.over])))

    @rule(data=st.data(), how=st.sampled_from(sorted(ANSWERS)))
    @precondition(lambda self: any(not post.over for post in self.world.posts))
    def refuse(self, data: st.DataObject, how: str) -> None:
        """A POST is refused and does nothing."""
        post = data.draw(st.sampled_from([post for post in self.world.posts if not post.over]))
        self.world.refuse(post, ANSWERS[how])

    @rule(data=st.data(), lost=st.booleans())
    @precondition(lambda self: any(process.at == "waiting" for process in self.world.processes))
    def answer(self, data: st.DataObject, *, lost: bool) -> None:
        """A waiting process hears its answer, or that it will hear none."""
        process = data.draw(st.sampled_from([each for each in self.world.processes if each.at == "waiting"]))
        if lost:
            self.world.lose(process)
        else:
            self.world.answer(process)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.world.due()) and len(self.world.processes) < 4)
    def deliver(self, data: st.DataObject) -> None:
        """The queue hands out a pointer, perhaps not for the first time."""
        self.world.deliver(data.draw(st.sampled_from(self.world.due())))

    @rule(data=st.data())
    @precondition(lambda self: bool(self.world.due()) and len(self.world.processes) < 4)
    def bury(self, data: st.DataObject) -> None:
        """A pointer ends among the dead letters."""
        self.world.bury(data.draw(st.sampled_from(self.world.due())))

    @rule(seconds=st.sampled_from([1, 5, 20, 35, 80, 400, 7 * 3600]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.world.advance(seconds * SECOND)

    @rule()
    @precondition(lambda self: any(record.state is State.FAILED for record in self.world.ledger.scan()))
    def redrive(self) -> None:
        """An operator revives what failed."""
        for record in list(self.world.ledger.scan()):
            self.world.redrive(record.id)

    @rule(down=st.booleans())
    def list_goes(self, *, down: bool) -> None:
        """AiTEMS's list stops or starts to answer."""
        self.world.list_down = down

    @rule(minutes=st.sampled_from([1, 60, 24 * 60]))
    @precondition(lambda self: not self.world.ledger.items and not self.world.services)
    def by_hand_before(self, minutes: int) -> None:
        """A person made the very same service, long before anybody asked the bridge."""
        self.world.by_hand("shop-main", "")
        self.world.advance(minutes * MINUTE)

    @invariant()
    def the_promise_holds(self) -> None:
        """Nothing that must never be, is."""
        self.world.check()

    def teardown(self) -> None:
        """Once the faults stop, every request ends in one final outcome by itself."""
        self.world.finish()
        for record in self.world.ledger.scan():
            assert record.state.final, (record.state, record.problem)


TestPromise = Promise.TestCase
TestPromise.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
