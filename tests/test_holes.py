"""The interleavings that broke an earlier design, each told step by step against the shipped use case.

The names are those of the attack on the design (C: critical, H: high, M: smaller); what each safeguard holds up is
shown by test_safeguards.py, which takes them out one at a time.
"""

from dataclasses import replace

import pytest

from aitems_bridge.errors import Problem
from aitems_bridge.record import (
    HOUR,
    MINUTE,
    SECOND,
    Made,
    NotDone,
    Outcome,
    Record,
    Rejection,
    State,
    duplicate_name,
    resolve,
    revive,
)
from simulation import KOREA, LONGEST, Names, Process, World, settled

THROTTLED = NotDone(Problem("aitems-throttled", "429"))
DENIED = NotDone(Problem("not-permitted", "403"))
REFUSED = Rejection(Problem("refused-by-aitems", "400"))


def run(world: World, process: Process, *answers: Outcome | str) -> Process:
    """Run a process to its end; ``answers`` are what its POSTs come to: an outcome, "land", "lose" or "land, lose"."""
    left = list(answers)
    while not process.done:
        if process.at == "waiting" and process.outcome is None:
            assert process.post is not None
            if not left:
                return process
            how = left.pop(0)
            if isinstance(how, Outcome):
                world.refuse(process.post, how)
            elif "land" in how:
                world.land(process.post)
            if isinstance(how, str) and "lose" in how:
                world.lose(process)
            else:
                world.answer(process)
        world.step(process)
        world.check()
    assert not left, "a POST was expected and did not come"
    return process


def attend(world: World, *answers: Outcome | str) -> Record:
    """Let time pass to the newest pointer and have it attended to; return the request as it then stands."""
    pointer = world.pointers[-1]
    world.advance(max(0, pointer[0] - world.now))
    run(world, world.deliver(pointer), *answers)
    record = world.ledger.get(pointer[1])
    assert record is not None
    return record


def only(world: World) -> Record:
    """Return the only request."""
    (record,) = settled(world)
    return record


# --- C1: doubt is never forgotten -----------------------------------------------------------------------------------


def test_c1_a_redrive_remembers_the_doubt() -> None:
    """Given up in doubt and redriven, a request is examined before anything is sent: its service is found."""
    world = World()
    run(world, world.arrive(world.order("a")), "land, lose")
    world.list_down = True
    world.advance(7 * HOUR)
    assert attend(world).state is State.FAILED
    world.list_down = False
    world.redrive(only(world).id)
    assert attend(world).state is State.CREATED
    assert len(world.posts) == 1


def test_c1_a_throttled_second_post_does_not_forget_the_first() -> None:
    """A 429 in doubt leads back to looking, never to a clean start: the first POST's late service is adopted."""
    world = World(list_lag=50 * SECOND)
    first = world.arrive(world.order("a"))
    run(world, first)
    world.lose(first)
    run(world, first)
    world.land(world.posts[0])
    assert attend(world).state is State.UNKNOWN  # the early look: not listed yet
    world.posts[0].over = True
    world.services[0].listed_from = world.now + 200 * SECOND
    assert attend(world, THROTTLED).state is State.UNKNOWN
    world.services[0].listed_from = 0
    assert attend(world).state is State.CREATED
    assert len(world.services) == 1


def test_c1_doubt_survives_everything_but_settling() -> None:
    """Once in doubt, a request is never `received` again: not by refusal, throttling, giving up or reviving."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    attend(world)
    for answer in (THROTTLED, DENIED, THROTTLED):
        assert attend(world, answer).state is State.UNKNOWN
    failed = replace(only(world), state=State.FAILED)
    assert revive(failed, world.now, world.numbers).state is State.UNKNOWN


# --- C2: the quiet time ---------------------------------------------------------------------------------------------


def test_c2_nothing_is_posted_again_while_the_first_may_run() -> None:
    """Looking twice and finding nothing is no licence: before the quiet time no second POST is begun."""
    world = World(names=Names.RACE)
    run(world, world.arrive(world.order("a")), "lose")
    last_byte = world.now
    assert attend(world).state is State.UNKNOWN
    pointer = world.pointers[-1]
    assert pointer[0] - last_byte >= LONGEST


def test_c2_a_post_that_lands_at_the_last_moment_is_adopted() -> None:
    """AiTEMS may take a minute over a POST nobody listens to; its service is found after the quiet time."""
    world = World(names=Names.RACE)
    run(world, world.arrive(world.order("a")), "lose")
    assert attend(world).state is State.UNKNOWN
    assert attend(world).state is State.CREATED
    assert len(world.services) == 1


def test_c2_nothing_is_rejected_while_the_own_post_may_land() -> None:
    """An older service of the name rejects only after the quiet time, when the own POST surely came to nothing."""
    world = World()
    world.by_hand("shop-main", "")
    world.advance(60 * HOUR)
    run(world, world.arrive(world.order("a")), "lose")
    assert attend(world).state is State.UNKNOWN
    assert attend(world).state is State.REJECTED


# --- C4: nobody is stranded -----------------------------------------------------------------------------------------


def test_c4_every_open_write_leaves_a_pointer() -> None:
    """Whatever state a request is left open in, a pointer of just that version comes."""
    world = World()
    run(world, world.arrive(world.order("a")), THROTTLED)
    attend(world, "lose")
    attend(world)
    for record in world.ledger.writes:
        assert not record.state.open or (record.due, record.id, record.version) in [*world.pointers, *done(world)]


def done(world: World) -> list[tuple[int, str, int]]:
    """Return the pointers that were attended to and are gone."""
    made = [(record.due or 0, record.id, record.version) for record in world.ledger.writes if record.state.open]
    return [pointer for pointer in made if pointer not in world.pointers]


def test_c4_a_pointer_that_meets_a_living_owner_is_kept() -> None:
    """A pointer that comes early is neither dropped nor burnt: it stays, for the owner may die."""
    world = World()
    process = world.arrive(world.order("a"))
    run(world, process)
    early = world.deliver(world.pointers[0])
    run(world, early)
    assert early.result is False


def test_c4_dead_letters_become_failed_and_are_announced() -> None:
    """A pointer among the dead letters settles its request as failed, in doubt where a POST may have been sent."""
    world = World()
    process = world.arrive(world.order("a"))
    run(world, process)
    world.kill(process)
    world.advance(40 * SECOND)
    run(world, world.bury(world.pointers[0]))
    record = only(world)
    assert (record.state, record.doubt) == (State.FAILED, True)
    assert world.announced == [(f"{record.id}.failed-1", State.FAILED)]
    world.finish()
    assert only(world).state is State.CREATED


def test_c4_a_dead_letter_says_what_came_of_it() -> None:
    """Why it was given up, and what was known before; not that it is examined, which nobody does any more."""
    world = World()
    process = world.arrive(world.order("a"))
    run(world, process)
    world.kill(process)
    world.advance(40 * SECOND)
    world.list_down = True
    assert attend(world).state is State.UNKNOWN
    run(world, world.bury(world.pointers[-1]))
    record = only(world)
    assert record.problem is not None
    assert record.problem.detail == (
        "The request could not be worked on: its message failed time and again. Before that: The process that sent the "
        "creation ended before it recorded an answer; what came of it could not be found out."
    )
    assert (record.problem.slug, record.problem.may_exist) == ("outcome-unknown", True)


def test_what_was_given_up_in_time_is_not_said_to_be_examined() -> None:
    """The same for a request in doubt whose time is over; taken up again, it is examined indeed."""
    world = World()
    process = world.arrive(world.order("a"))
    run(world, process)
    world.kill(process)
    world.list_down = True
    while only(world).state is not State.FAILED:
        attend(world)
    assert "examined" not in str(only(world).problem)
    world.redrive(only(world).id)
    assert "is being examined" in str(only(world).last)


def test_c4_a_dead_letter_spares_a_living_lease() -> None:
    """While somebody is at it, a dead letter waits."""
    world = World()
    run(world, world.arrive(world.order("a")))
    assert run(world, world.bury(world.pointers[0])).result is False


# --- C5: one clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [0, KOREA, -5 * HOUR, 5 * HOUR + 30 * MINUTE])
def test_c5_a_wrong_belief_about_the_zone_never_rejects_our_own(zone: int) -> None:
    """Whatever zone AiTEMS prints, the lost answer of our own POST ends as created: doubt asks for the timestamp."""
    world = World(zone=zone)
    run(world, world.arrive(world.order("a")), "land, lose")
    world.finish()
    assert only(world).state is State.CREATED
    assert len(world.services) == 1


@pytest.mark.parametrize("skew", [-240, -30, -6, -2, 2, 6, 30, 240])
def test_c5_a_clock_that_is_off_never_rejects_our_own(skew: int) -> None:
    """Clocks up to five minutes apart are lawful for the gateway, and change nothing."""
    world = World(skew=skew * SECOND)
    run(world, world.arrive(world.order("a")), "land, lose")
    world.finish()
    assert only(world).state is State.CREATED


@pytest.mark.parametrize("zone", [0, KOREA, -5 * HOUR, 9 * HOUR - MINUTE])
@pytest.mark.parametrize("before", [20 * SECOND, HOUR, 9 * HOUR, 9 * HOUR + 20 * SECOND, 30 * HOUR])
def test_c5_an_older_service_is_never_adopted(zone: int, before: int) -> None:
    """A service made by a person before the request is somebody else's, whatever zone its date is read in."""
    world = World(zone=zone)
    world.by_hand("shop-main", "")
    world.advance(before)
    run(world, world.arrive(world.order("a")), "land, lose")
    world.finish()
    assert only(world).state is State.REJECTED


# --- C6: a refusal speaks for its own POST --------------------------------------------------------------------------


def test_c6_a_refused_second_post_does_not_reject_the_first() -> None:
    """In doubt, AiTEMS's refusal leads to one more look: the first POST's service is found."""
    world = World()
    first = world.arrive(world.order("a"))
    run(world, first)
    world.lose(first)
    run(world, first)
    world.land(world.posts[0])
    world.services[0].listed_from = world.now + 100 * SECOND
    attend(world)
    record = attend(world, REFUSED)
    assert record.state is State.UNKNOWN
    world.services[0].listed_from = 0
    assert attend(world).state is State.CREATED


def test_c6_a_refusal_stands_when_the_look_finds_nothing() -> None:
    """A refused second POST and an empty list settle it: rejected, by AiTEMS's own words (T14)."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    attend(world)
    attend(world, REFUSED)
    record = attend(world)
    assert (record.state, record.problem) == (State.REJECTED, REFUSED.problem)


def test_c6_a_denied_post_is_nobodys_fault() -> None:
    """No permission, not subscribed: the world is wrong, not the request; it waits and is done when that is mended."""
    world = World()
    run(world, world.arrive(world.order("a")), DENIED)
    assert only(world).state is State.RECEIVED
    assert attend(world, "land").state is State.CREATED


# --- H --------------------------------------------------------------------------------------------------------------


def test_h1_a_post_that_did_nothing_is_forgotten() -> None:
    """After a 429 the name was free: what somebody made meanwhile is older than our first POST in doubt."""
    world = World()
    run(world, world.arrive(world.order("a")), THROTTLED)
    world.by_hand("shop-main", "")
    world.pointers[-1] = (world.now + HOUR, *world.pointers[-1][1:])
    attend(world, "lose")
    world.finish()
    assert only(world).state is State.REJECTED


def test_h2_a_request_in_doubt_keeps_its_name() -> None:
    """While one is in doubt, even given up, no other request may create a service of that name, in any letter case."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.list_down = True
    world.advance(7 * HOUR)
    assert attend(world).state is State.FAILED
    run(world, world.arrive(world.order("b", name="Shop-Main")))
    first, second = settled(world)
    assert (first.state, second.state) == (State.FAILED, State.RECEIVED)
    assert second.last is not None
    assert second.last.slug == "name-in-use"
    assert len(world.posts) == 1


def test_h2_the_one_that_waits_gets_the_true_answer() -> None:
    """A second request for the name is recorded, waits its turn and is told that the name is now taken."""
    world = World()
    first = world.arrive(world.order("a"))
    run(world, first)
    run(world, world.arrive(world.order("b")))
    world.land(world.posts[0])
    world.answer(first)
    run(world, first)
    world.finish()
    one, other = settled(world)
    assert (one.state, other.state) == (State.CREATED, State.REJECTED)
    assert other.problem is not None
    assert other.problem.slug == "duplicate-name"


def test_h2_doubt_gone_gives_the_name_back() -> None:
    """Given up without doubt, the name is free for the next."""
    world = World()
    run(world, world.arrive(world.order("a")), THROTTLED)
    world.advance(7 * HOUR)
    assert attend(world).state is State.FAILED
    run(world, world.arrive(world.order("b")), "land")
    assert [record.state for record in settled(world)] == [State.FAILED, State.CREATED]


def test_h3_two_looks_at_once_make_one_post() -> None:
    """Posting again is a claim, written first: of two that looked, one posts and the other drops its pointer."""
    world = World(names=Names.RACE)
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    attend(world)
    pointer = world.pointers[-1]
    world.advance(pointer[0] - world.now)
    one, other = world.deliver(pointer), world.deliver(pointer)
    while "list" not in one.at:
        world.step(one)
    while "list" not in other.at:
        world.step(other)
    run(world, one)
    run(world, other)
    assert one.at == "waiting"
    assert (other.done, other.result) == (True, True)
    assert len(world.posts) == 2


def test_h4_no_process_outlives_its_lease() -> None:
    """The lease is the process's own end and a margin, whoever claims: it can only lapse once the process is dead."""
    world = World()
    begun = world.now
    run(world, world.arrive(world.order("a")))
    record = only(world)
    assert record.lease_until == begun + 29 * SECOND + world.numbers.lease_margin
    assert record.due is not None
    assert record.due > record.lease_until


def test_h4_too_little_time_posts_nothing() -> None:
    """A process that was held up after its claim, until too little time is left, sends nothing and says so."""
    world = World()
    process = world.arrive(world.order("a"))
    world.step(process)
    world.step(process)
    world.advance(14 * SECOND)
    run(world, process)
    assert (only(world).state, world.posts) == (State.RECEIVED, [])


def test_h13_each_giving_up_is_announced_once_and_the_end_too() -> None:
    """Failing, reviving and failing again are two announcements; created is the only final one."""
    world = World()
    run(world, world.arrive(world.order("a")), "land, lose")
    world.list_down = True
    for _ in range(2):
        world.advance(7 * HOUR)
        assert attend(world).state is State.FAILED
        world.redrive(only(world).id)
    world.list_down = False
    attend(world)
    id_ = only(world).id
    assert [event for event, _ in world.announced] == [f"{id_}.failed-1", f"{id_}.failed-2", f"{id_}.created"]


# --- M --------------------------------------------------------------------------------------------------------------


def test_m1_a_name_in_other_letter_case_is_not_ours() -> None:
    """Refused as a duplicate and listed in other letters only: somebody else's, rejected."""
    world = World()
    world.by_hand("SHOP-main", "")
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    attend(world)
    attend(world, Rejection(duplicate_name("shop-main"), duplicate=True))
    assert attend(world).state is State.REJECTED


def test_m1_a_duplicate_that_is_never_listed_ends_with_a_person() -> None:
    """Three looks after a refusal that the list does not explain: failed, and never posted again."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    attend(world)
    attend(world, Rejection(duplicate_name("shop-main"), duplicate=True))
    states = [attend(world).state for _ in range(3)]
    assert states == [State.UNKNOWN, State.UNKNOWN, State.FAILED]
    assert len(world.posts) == 2


def test_m2_what_was_seen_and_is_gone_is_not_made_again() -> None:
    """A service that could be ours was seen and then deleted by a person: failed, with its id."""
    world = World(zone=0)  # so that the early look cannot tell
    run(world, world.arrive(world.order("a")), "land, lose")
    assert attend(world).seen == "s1"
    world.services[0].listed_from = world.now + HOUR
    record = attend(world)
    assert record.state is State.FAILED
    assert record.problem is not None
    assert "s1" in record.problem.detail
    assert len(world.posts) == 1


def test_m3_several_that_could_be_ours_end_with_a_person() -> None:
    """Never guess: two services of the name made since end as failed with both ids."""
    world = World()
    run(world, world.arrive(world.order("a")), "land, lose")
    world.by_hand("shop-main", "")
    attend(world)
    record = attend(world)
    assert record.state is State.FAILED
    assert record.problem is not None
    assert "s1" in record.problem.detail
    assert "s2" in record.problem.detail


def test_m3_one_that_disagrees_ends_with_a_person() -> None:
    """Made since under our name, with another description: nobody can tell by rule."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    world.by_hand("shop-main", "another description")
    attend(world)
    assert attend(world).state is State.FAILED


def test_m15_a_lost_settle_is_adopted_by_the_next() -> None:
    """AiTEMS made it, and the ledger could not be written: the pointer comes and finds it."""
    world = World()
    process = world.arrive(world.order("a"))
    run(world, process)
    world.land(world.posts[0])
    world.answer(process)
    world.step(process)
    world.ledger.down = True
    world.step(process)
    world.ledger.down = False
    assert process.done
    assert only(world).state is State.CREATING
    world.finish()
    record = only(world)
    assert (record.state, record.adopted) == (State.CREATED, True)


def test_a_person_decides_and_the_name_is_free() -> None:
    """`resolve` settles a failed request by a person's word, once; then the next may have the name."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    world.list_down = True
    world.advance(7 * HOUR)
    failed = attend(world)
    problem = Problem("closed", "closed by a person")
    world.ledger.write(failed, resolve(failed, problem, world.now, world.numbers))
    world.relay()
    world.list_down = False
    run(world, world.arrive(world.order("b")), "land")
    assert [record.state for record in settled(world)] == [State.REJECTED, State.CREATED]


def test_a_service_is_never_claimed_by_two() -> None:
    """Two requests whose POSTs AiTEMS answers with one and the same service: the second ends with a person."""
    world = World()
    run(world, world.arrive(world.order("a")), "land")
    again = Made(world.told(world.services[0]), "s1")
    run(world, world.arrive(world.order("b")), again)
    assert [record.state for record in settled(world)] == [State.CREATED, State.FAILED]


def test_t12_two_posts_in_doubt_adopt_nothing_early() -> None:
    """With a second POST in doubt, what a look finds is adopted only after the quiet time: the other may still land."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    world.posts[0].over = True
    attend(world)
    world.advance(max(0, world.pointers[-1][0] - world.now))
    second = world.deliver(world.pointers[-1])
    run(world, second)
    world.kill(second)
    world.land(world.posts[1])
    early = attend(world)
    assert (early.state, early.posts, early.seen) == (State.UNKNOWN, 2, "s1")
    assert attend(world).state is State.CREATED


def test_a_service_settled_for_another_request_of_the_name_is_not_ours() -> None:
    """Both lost their answers: the first adopts the service, so the second, sent only then, cannot have made it."""
    world = World()
    run(world, world.arrive(world.order("a")), "land, lose")
    world.advance(6 * SECOND)
    run(world, world.deliver(world.pointers[-1]))
    second = world.arrive(world.order("b"))
    run(world, second, "land, lose")
    world.finish()
    one, other = settled(world)
    assert (one.state, one.adopted, other.state) == (State.CREATED, True, State.REJECTED)
    assert world.announced[-1][0].endswith(".rejected")
    assert not any(state is State.FAILED for _, state in world.announced)


# --- found by a second attack, on the code --------------------------------------------------------------------------


def test_a_look_shows_what_was_there_when_it_was_begun() -> None:
    """A list read before the quiet time is over licenses no second POST, however late its answer comes."""
    world = World()
    run(world, world.arrive(world.order("a")), "lose")
    quiet_until = only(world).quiet_until
    assert quiet_until is not None
    pointer = world.pointers[-1]
    world.posts[0].over = True  # it came to nothing
    world.advance(quiet_until - SECOND - world.now)
    look = world.deliver(pointer)
    while look.at != "after list":
        world.step(look)
    world.advance(2 * SECOND)
    run(world, look)
    assert (look.done, only(world).state, len(world.posts)) == (True, State.UNKNOWN, 1)


def test_what_the_list_showed_is_remembered_when_it_cannot_be_read() -> None:
    """A candidate whose details cannot be read now is not forgotten: if it vanishes, a person decides."""
    world = World()
    run(world, world.arrive(world.order("a")), "land, lose")
    pointer = world.pointers[-1]
    world.advance(pointer[0] - world.now)
    look = world.deliver(pointer)
    while look.at != "after list":
        world.step(look)
    world.list_down = True
    run(world, look)
    world.list_down = False
    assert only(world).seen == "s1"
    world.services[0].listed_from = world.now + HOUR
    assert attend(world).state is State.FAILED
    assert len(world.posts) == 1


def test_what_was_seen_and_replaced_is_not_adopted() -> None:
    """A person deleted what could be ours and made another like it: that one is not taken for ours."""
    world = World(zone=0)  # so that the early look cannot tell
    run(world, world.arrive(world.order("a")), "land, lose")
    assert attend(world).seen == "s1"
    world.services[0].listed_from = world.now + HOUR
    world.by_hand("shop-main", "")
    assert attend(world).state is State.FAILED
    assert len(world.posts) == 1
