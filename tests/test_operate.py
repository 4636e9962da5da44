"""What an operator may do, and that nothing of it makes a second service or announces what is not so."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from aitems_bridge.bridge import Order
from aitems_bridge.errors import Problem
from aitems_bridge.record import DAY, HOUR, MINUTE, SECOND, Numbers, Record, State, give_up, receive
from aitems_local import operate, senders
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, USAGE, main
from aitems_local.cloud import REGION, ROOT_KEY
from aitems_local.operate import Deed, Refusal
from aitems_local.stack import Stack
from aitems_local.terminal import Bar
from simulation import PausingAiTEMS, Process, World
from test_promise import Promise

if TYPE_CHECKING:
    from aitems_bridge.aitems import AiTEMS
    from aitems_bridge.ledger import Ledger

Output = pytest.CaptureFixture[str]


class Desk:
    """An operator's desk in the simulated world: the shipped deeds over its ledger and its AiTEMS."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = cast("Ledger", world.ledger)
        self.aitems = cast("AiTEMS", PausingAiTEMS(world, cast("Process", None)))

    def redrive(self, record: Record, *, announce: bool = False) -> Deed:
        """Do to the request what a redrive does."""
        planned = operate.plan(record, self.world.now, announce=announce)
        operate.carry_out(self.ledger, planned, self.world.now, self.world.numbers)
        self.world.relay()
        return planned.deed

    def created(self, record: Record, service_id: str) -> Record:
        """Resolve it as created."""
        world = self.world
        settled = operate.resolve_created(
            self.ledger, self.aitems, record, service_id, now=world.now, numbers=world.numbers
        )
        world.relay()
        return settled

    def rejected(self, record: Record) -> Record:
        """Resolve it as rejected."""
        world = self.world
        settled = operate.resolve_rejected(self.ledger, record, "by hand", now=world.now, numbers=world.numbers)
        world.relay()
        return settled


def run(world: World, process: Process, *, lands: bool = True, answers: bool = False) -> None:
    """Run a process to its end; its POST takes effect or not, and its answer is heard or lost."""
    while not process.done:
        if process.at == "waiting" and process.outcome is None:
            assert process.post is not None
            if lands:
                world.land(process.post)
            if answers:
                world.answer(process)
            else:
                world.lose(process)
        world.step(process)
        world.check()


def only(world: World) -> Record:
    """Return the only request there is."""
    (record,) = world.ledger.scan()
    return record


def failed(world: World, *, made: bool, key: str = "a") -> Record:
    """Return a request whose answer was lost, and which was given up in doubt because nobody could look."""
    process = world.arrive(world.order(key))
    run(world, process, lands=made)
    for post in world.posts:
        post.over = True
    world.list_down = True
    while only(world).state.open:
        pointer = world.pointers[-1]
        world.advance(max(0, pointer[0] - world.now))
        run(world, world.deliver(pointer))
    world.list_down = False
    assert only(world).state is State.FAILED
    return only(world)


# --- redrive ------------------------------------------------------------------------------------------------------


def test_a_redriven_request_in_doubt_is_examined_first() -> None:
    """C1: what was made and never heard of is adopted; a redrive is no licence to send."""
    world = World()
    record = failed(world, made=True)
    assert "would be examined, and POST again only if AiTEMS shows no service" in operate.plan(record, world.now).means
    assert Desk(world).redrive(record) is Deed.REVIVE
    world.finish()
    assert only(world).state is State.CREATED
    assert len(world.posts) == len(world.services) == 1


def test_a_redriven_request_that_made_nothing_is_sent_again() -> None:
    """What a complete look does not find is sent again, and made once."""
    world = World()
    Desk(world).redrive(failed(world, made=False))
    world.finish()
    assert only(world).state is State.CREATED
    assert len(world.posts) == 2
    assert len(world.services) == 1


def test_redriving_twice_is_redriving_once() -> None:
    """Two operators at once: the second finds that somebody was quicker, and one pointer's work is done."""
    world = World()
    record = failed(world, made=False)
    desk = Desk(world)
    desk.redrive(record)
    with pytest.raises(Refusal, match="somebody was quicker: it is unknown now"):
        desk.redrive(record)
    assert desk.redrive(only(world)) is Deed.QUEUE
    world.finish()
    assert len(world.services) == 1


def test_a_redrive_does_not_disturb_who_is_at_work() -> None:
    """A request under way keeps its version: its owner can still settle it, and nobody sends beside it."""
    world = World()
    process = world.arrive(world.order("a"))
    while process.at != "waiting":
        world.step(process)
    desk = Desk(world)
    planned = operate.plan(only(world), world.now)
    assert planned.means.startswith("somebody is at it")
    desk.redrive(only(world))
    desk.redrive(only(world))
    run(world, process, answers=True)
    assert only(world).state is State.CREATED
    world.finish()
    assert len(world.posts) == len(world.services) == 1


@pytest.mark.parametrize("at", ["received", "creating"])
def test_what_nobody_queued_is_queued_again(at: str) -> None:
    """T22: an open request whose pointer was lost is found by its time, queued by a touch, and settled once."""
    world = World()
    process = world.arrive(world.order("a"), waits=at == "creating")
    while process.at != ("waiting" if at == "creating" else "after write"):
        world.step(process)
    world.kill(process)
    world.pointers.clear()
    assert at == only(world).state
    assert list(operate.stuck(world.ledger.scan(), world.now)) == []
    world.advance(2 * HOUR)
    (record,) = operate.stuck(world.ledger.scan(), world.now)
    version = record.version
    assert Desk(world).redrive(record) is Deed.QUEUE
    assert only(world).version == version
    world.finish()
    assert only(world).state is State.CREATED
    assert len(world.services) == 1


def test_what_is_announced_again_is_the_same_announcement() -> None:
    """H5: an outcome is announced again under its own id; a failed one stays failed."""
    world = World()
    record = failed(world, made=False)
    desk = Desk(world)
    assert desk.redrive(record, announce=True) is Deed.ANNOUNCE
    assert only(world).state is State.FAILED
    assert world.announced == [(f"{record.id}.failed-1", State.FAILED)] * 2
    desk.redrive(only(world))
    world.finish()
    assert desk.redrive(only(world)) is Deed.ANNOUNCE
    assert world.announced[2:] == [(f"{record.id}.created", State.CREATED)] * 2


def test_a_window_holds_what_happened_in_it() -> None:
    """`--since` means when it was settled, or when somebody was to come for it; `--announce` leaves out the open."""
    now = 1_800_000_000_000
    world = World(now=now)
    numbers = Numbers()

    def at(age: int, key: str) -> Record:
        order = world.order(key)
        return receive(_fresh(order, now - age), now - age)

    fresh, lost, old = at(10 * SECOND, "fresh"), at(HOUR, "lost"), at(2 * DAY, "old")
    settled = give_up(at(DAY, "given up"), now - HOUR)
    long_settled = give_up(at(3 * DAY, "given up long ago"), now - 2 * DAY)
    records = [fresh, lost, old, settled, long_settled]
    assert [lost, settled] == list(operate.missed(records, now - DAY, now, outcomes_only=False))
    assert [settled] == list(operate.missed(records, now - DAY, now, outcomes_only=True))
    assert [lost, old, settled, long_settled] == list(operate.stuck(records, now))
    assert numbers.give_up


def _fresh(order: Order, now: int) -> Record:
    return order.fresh(now, 6 * HOUR)


def test_what_did_not_validate_is_left_alone() -> None:
    """A dead letter without a service in it cannot be worked on: reviving it would only fail it again."""
    world = World()
    record = give_up(replace(_fresh(world.order("a"), world.now), command=None), world.now)
    world.ledger.write(None, record)
    assert Desk(world).redrive(record) is Deed.NOTHING
    assert record == only(world)
    assert Desk(world).rejected(record).state is State.REJECTED


def test_it_says_how_long_ago_and_how_often() -> None:
    """The longer the doubt, the likelier that somebody has deleted what was made: an operator is told."""
    world = World()
    record = failed(world, made=False)
    assert record.sent_at is not None
    later = record.sent_at + 3 * DAY + MINUTE
    assert "in doubt (sent 3 days ago)" in operate.plan(record, later).means
    twice = replace(record, posts=2)
    assert "2 POSTs in doubt, the first sent 3 days ago" in operate.plan(twice, later).means
    seen = replace(record, seen="v1")
    assert "service v1 may be its, so nothing would be posted" in operate.plan(seen, later).means
    clean = replace(record, doubt=False, sent_at=None)
    assert operate.plan(clean, later).means == "nothing was made; would POST"
    assert "sent 60 seconds ago" in operate.plan(record, record.sent_at + MINUTE).means


# --- resolve ------------------------------------------------------------------------------------------------------


def test_a_person_settles_a_contradiction() -> None:
    """Several services that could be its: nobody is told anything by rule, and a person says which it is."""
    world = World()
    record = failed(world, made=True)
    by_hand = world.by_hand("shop-main", "")
    Desk(world).redrive(record)
    while only(world).state.open:
        pointer = world.pointers[-1]
        world.advance(max(0, pointer[0] - world.now))
        run(world, world.deliver(pointer))
    assert only(world).state is State.FAILED
    mine = next(made for made in world.services if made.maker)
    assert by_hand.id in (only(world).problem or Problem("closed", "")).detail
    settled = Desk(world).created(only(world), mine.id)
    assert settled == only(world)
    assert (settled.state, settled.service_id, settled.adopted) == (State.CREATED, mine.id, True)
    assert json.loads(settled.answer or "")["serviceId"] == mine.id
    assert world.announced[-1] == (f"{record.id}.created", State.CREATED)
    world.check()


def test_rejecting_gives_the_name_back_for_good() -> None:
    """A closed request is over: its key is answered from the ledger, and another may have the name."""
    world = World()
    record = failed(world, made=False)
    other = world.arrive(replace(world.order("b"), payload_hash="another"))
    run(world, other)
    assert len(world.posts) == 1, "the name is held"
    settled = Desk(world).rejected(record)
    assert settled.problem == Problem("closed", "Closed by an operator: by hand")
    assert settled.expires is not None
    run(world, world.arrive(world.order("a")))
    assert world.ledger.get(record.id) == settled
    world.finish()
    assert [each.state for each in world.ledger.scan()] == [State.REJECTED, State.CREATED]
    assert len(world.services) == 1


def _nobodys(_: World) -> str:
    return "s99"


def _of_another_name(world: World) -> str:
    return world.by_hand("shop-other", "").id


def _of_another(world: World) -> str:
    other = replace(_fresh(world.order("other"), world.now), state=State.CREATED, service_id="s1", version=1)
    world.ledger.write(None, other)
    return "s1"


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (_of_another, "service s1 was made by request .*, which is settled with it"),
        (_nobodys, "AiTEMS has no service s99"),
        (_of_another_name, "is named 'shop-other', and 'shop-main' was asked for"),
    ],
    ids=["another's", "nobody's", "of another name"],
)
def test_a_service_that_cannot_be_its_is_refused(service: Callable[[World], str], said: str) -> None:
    """What a person decides is checked: the service exists, bears the name, and no other request has it."""
    world = World()
    record = failed(world, made=True)
    with pytest.raises(Refusal, match=said):
        Desk(world).created(record, service(world))
    assert world.ledger.get(record.id) == record


def test_a_service_that_was_there_before_is_refused() -> None:
    """A person cannot give a request what is surely older than it, either."""
    world = World()
    old = world.by_hand("shop-main", "")
    world.advance(2 * DAY)
    record = failed(world, made=False)
    with pytest.raises(Refusal, match="is older than the request"):
        Desk(world).created(record, old.id)


def test_what_never_sent_anything_made_nothing() -> None:
    """A request without doubt cannot have made a service: it can be redriven or rejected."""
    world = World()
    record = give_up(receive(_fresh(world.order("a"), world.now), world.now), world.now)
    world.ledger.write(None, record)
    made = world.by_hand("shop-main", "")
    with pytest.raises(Refusal, match="nothing was ever sent"):
        Desk(world).created(record, made.id)


def test_nothing_is_decided_while_aitems_may_be_at_work() -> None:
    """A request that failed young (a dead letter) is not decided before its POST is surely over."""
    world = World()
    process = world.arrive(world.order("a"))
    while process.at != "waiting":
        world.step(process)
    world.kill(process)
    world.advance(35 * SECOND)
    run(world, world.bury(world.pointers[-1]))
    record = only(world)
    assert record.state is State.FAILED
    with pytest.raises(Refusal, match="AiTEMS may still be at work on what was sent"):
        Desk(world).rejected(record)
    with pytest.raises(Refusal, match="AiTEMS may still be at work on what was sent"):
        Desk(world).created(record, "s1")
    world.advance(2 * MINUTE)
    Desk(world).created(record, world.services[0].id)
    world.check()


def test_only_what_has_failed_is_for_a_person() -> None:
    """What the bridge still works on, and what is final, is not decided; the same decision twice is one."""
    world = World()
    process = world.arrive(world.order("a"))
    while process.at != "waiting":
        world.step(process)
    with pytest.raises(Refusal, match="it is creating, so the bridge is still at it"):
        Desk(world).rejected(only(world))
    run(world, process, answers=True)
    done = only(world)
    with pytest.raises(Refusal, match=r"it is created since 2023-.*, which is final"):
        Desk(world).rejected(done)
    with pytest.raises(Refusal, match="which is final"):
        Desk(world).created(done, "s7")
    assert Desk(world).created(done, "s1") is done
    assert only(world) == done


def test_a_silent_ledger_or_aitems_decides_nothing() -> None:
    """What could not be asked or written is said, and may be asked for again."""
    world = World()
    record = failed(world, made=True)
    world.list_down = True
    with pytest.raises(Refusal, match="AiTEMS cannot be asked for service s1: down"):
        Desk(world).created(record, "s1")
    world.list_down = False
    world.ledger.down = True
    with pytest.raises(Refusal, match="the ledger did not confirm it"):
        Desk(world).rejected(record)


# --- whatever else happens ----------------------------------------------------------------------------------------


class Operated(Promise):
    """The promise's machine with an operator in it, who knows the truth and acts at any moment."""

    @rule(data=st.data(), announce=st.booleans())
    @precondition(lambda self: bool(self.world.ledger.items))
    def redrive_one(self, data: st.DataObject, *, announce: bool) -> None:
        """Any request is redriven or announced again."""
        Desk(self.world).redrive(data.draw(st.sampled_from(list(self.world.ledger.scan()))), announce=announce)
        self.world.check()

    @rule()
    def redrive_all(self) -> None:
        """`redrive --all`."""
        for record in list(operate.stuck(self.world.ledger.scan(), self.world.now)):
            Desk(self.world).redrive(record)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.world.ledger.items))
    def decide(self, data: st.DataObject) -> None:
        """A person resolves a request as what AiTEMS shows of it, which may be too early."""
        record = data.draw(st.sampled_from(list(self.world.ledger.scan())))
        mine = [made.id for made in self.world.services if made.maker == record.id]
        try:
            if mine:
                Desk(self.world).created(record, mine[0])
            else:
                Desk(self.world).rejected(record)
        except Refusal:
            pass
        self.world.check()


TestOperated = Operated.TestCase
TestOperated.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- the commands -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which the shared stack has left word, for the commands to find."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    stack.document.save(tmp_path)
    return tmp_path


@pytest.fixture
def stuck(stack: Stack, name: str) -> Iterator[Record]:
    """Return a request on the deployed stack that has failed without doubt, and that nobody else revives."""
    now = 1_700_000_000_000
    record = give_up(receive(replace(_fresh(_order(name), now), give_up_at=now), now), now)
    stack.ledger.write(None, record)
    yield record
    left = stack.ledger.get(record.id)
    if left is not None and left.state is State.FAILED:
        operate.resolve_rejected(stack.ledger, left, "tidied up", now=now, numbers=Numbers())


def _order(name: str) -> Order:
    command = {"name": name, "description": "", "type": "batch"}
    return Order("standard", "hook:backoffice", name, "backoffice", command, "0" * 64)


@pytest.mark.usefixtures("folder")
def test_a_dry_run_only_says(stack: Stack, stuck: Record, capsys: Output) -> None:
    """`--dry-run` tells what each request would go through, and writes nothing."""
    assert main(["redrive", stuck.id, "--dry-run"]) == OK
    out = capsys.readouterr().out
    assert f"{stuck.id}  failed    {stuck.name}" in out
    assert "to be revived: nothing was sent yet; would POST" in out
    assert out.endswith("1 would be revived\n")
    assert stuck == stack.ledger.get(stuck.id)


@pytest.mark.usefixtures("folder")
def test_a_redriven_request_is_settled(stack: Stack, stuck: Record, capsys: Output) -> None:
    """A redrive of a deployed request ends in a service and an event, with the time that the template gives it."""
    assert main(["redrive", stuck.id]) == OK
    assert capsys.readouterr().out.endswith("1 revived\n")
    event = stack.event(request_id=stuck.id, final=True)
    assert event.kind == "AiTEMS Service Created"
    assert len(stack.aitems.services_named(stuck.name)) == 1
    capsys.readouterr()
    assert main(["redrive", stuck.id, "--json"]) == OK
    said = json.loads(capsys.readouterr().out)
    assert (said["deed"], said["result"], said["state"]) == ("announce", "done", "created")


@pytest.mark.usefixtures("folder")
def test_json_is_a_line_a_request(stuck: Record, capsys: Output) -> None:
    """Machines read one object a line from standard output; what people read goes to standard error."""
    assert main(["redrive", stuck.id, "--dry-run", "--json"]) == OK
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "request_id": stuck.id,
        "name": stuck.name,
        "state": "failed",
        "in_doubt": False,
        "service_id": None,
        "deed": "revive",
        "means": "nothing was sent yet; would POST",
        "result": "planned",
    }
    assert "1 would be revived" in captured.err


@pytest.mark.usefixtures("folder")
def test_all_and_since_look_through_the_ledger(stuck: Record, capsys: Output) -> None:
    """What is stuck is found by a scan; a window that it is not in does not hold it."""
    assert main(["redrive", "--all", "--dry-run", "--json"]) == OK
    assert stuck.id in [json.loads(line)["request_id"] for line in capsys.readouterr().out.splitlines()]
    for flags in (["--since", "1h"], ["--announce", "--since", "1h"]):
        assert main(["redrive", *flags, "--dry-run", "--json"]) == OK
        assert stuck.id not in [json.loads(line)["request_id"] for line in capsys.readouterr().out.splitlines()]
    assert main(["redrive", "--announce", "--since", "9999d", "--dry-run", "--json"]) == OK
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(each["deed"] for each in said if each["request_id"] == stuck.id) == "announce"


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "x", "--all"],
        ["redrive", "--all", "--since", "1h"],
        ["redrive", "--announce"],
        ["redrive", "--since", "soon"],
        ["resolve", "x"],
        ["resolve", "x", "--created", "v", "--rejected", "because"],
        ["resolve", "x", "--rejected", " "],
    ],
)
def test_what_makes_no_sense_is_usage(arguments: list[str], capsys: Output) -> None:
    """Nothing is looked at or written unless it is clear what is meant."""
    assert main(arguments) == USAGE
    assert capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_an_unknown_request_is_refused(stuck: Record, capsys: Output) -> None:
    """Who names a request that is not there is told, and the others are done all the same."""
    assert main(["redrive", "nobody", stuck.id, "--dry-run"]) == REFUSED
    captured = capsys.readouterr()
    assert captured.err == "the ledger knows no request nobody: `requests` alone lists them all\n"
    assert stuck.id in captured.out
    assert main(["resolve", "nobody", "--rejected", "because"]) == REFUSED


@pytest.mark.usefixtures("folder")
def test_a_person_rejects(stack: Stack, stuck: Record, capsys: Output) -> None:
    """A rejected request is announced as such, with the reason; to reject it again changes nothing."""
    assert main(["resolve", stuck.id, "--rejected", "not needed any more"]) == OK
    assert capsys.readouterr().out == f"{stuck.id}  {stuck.name}  is rejected\n"
    event = stack.event(request_id=stuck.id, final=True)
    assert event.event["detail"]["data"]["type"] == "urn:aitems-bridge:problem:closed"
    assert event.event["detail"]["data"]["detail"] == "Closed by an operator: not needed any more"
    assert main(["resolve", stuck.id, "--rejected", "not needed any more", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert main(["resolve", stuck.id, "--created", "v1"]) == REFUSED
    assert "which is final" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_person_says_which_service(stack: Stack, name: str, capsys: Output) -> None:
    """AiTEMS is asked for the service, with the deployed keys, and its own answer is what is announced."""
    now = 1_700_000_000_000
    doubtful = replace(
        give_up(receive(_fresh(_order(name), now), now), now), doubt=True, sent_at=now, posts=1, quiet_until=now
    )
    stack.ledger.write(None, doubtful)
    made = senders.webhook(stack.document, senders.service(f"{name}other"), key=f"made-{name}").send()
    assert main(["resolve", doubtful.id, "--created", str(made.body["serviceId"])]) == REFUSED
    assert f"was made by request {made.request_id}, which is settled with it" in capsys.readouterr().err
    assert main(["resolve", doubtful.id, "--created", "vnobody"]) == REFUSED
    assert "AiTEMS has no service vnobody" in capsys.readouterr().err
    its = stack.aitems.by_hand(name)
    assert main(["resolve", doubtful.id, "--created", its.service_id]) == OK
    assert f"is created  service {its.service_id}" in capsys.readouterr().out
    event = stack.event(request_id=doubtful.id, final=True)
    assert event.event["detail"]["data"]["createdDate"]
    assert (event.event["detail"]["data"]["serviceId"], event.metadata["adopted"]) == (its.service_id, True)


def test_a_deployed_stack_is_found_by_its_name(
    stack: Stack, stuck: Record, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """With `--stack` the ledger is found through CloudFormation, with the usual AWS credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.cloud.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ROOT_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ROOT_KEY)
    where = ["--stack", stack.name, "--region", REGION]
    assert main(["redrive", stuck.id, "--dry-run", *where]) == OK
    assert "1 would be revived" in capsys.readouterr().out
    assert main(["redrive", "--all", "--stack", "nobodys", "--region", REGION]) == ENVIRONMENT
    assert "the stack nobodys cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    assert main(["redrive", "--all", "--stack", "x", "--profile", "nobodys"]) == ENVIRONMENT
    assert "nobodys" in capsys.readouterr().err


class Screen(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def test_a_bar_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far it has come is written over and wiped; a file or a pipe gets none of it, nor does a short list."""
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with Bar.over(2, screen) as bar:
        bar.step()
        bar.step()
    drawn = [part.removesuffix("\x1b[K") for part in screen.getvalue().split("\r")[1:3]]
    assert [part.rpartition(" ")[2] for part in drawn] == ["1/2", "2/2"]
    assert screen.getvalue().endswith("\r\x1b[K")
    for total, stream in ((2, StringIO()), (0, Screen())):
        with Bar.over(total, stream) as bar:
            bar.step()
        assert stream.getvalue() == ""
    assert sys.stderr is not screen
