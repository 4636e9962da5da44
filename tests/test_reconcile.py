"""The age of a service against our first POST in doubt: by AiTEMS's clock, and never by a guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge.reconcile import ALLOWANCE, Age, age, age_by, agrees
from aitems_bridge.record import HOUR, SECOND, Clock, Record, claim
from aitems_bridge.service import Service
from simulation import KOREA, World

NOW = 1_700_000_000_000
SENT = NOW - 60 * SECOND


def doubtful(clock: Clock | None = None) -> Record:
    """Return a request whose first POST in doubt was begun a minute ago."""
    world = World(now=SENT)
    process = world.arrive(world.order("a"))
    while not process.done and process.at != "waiting":
        world.step(process)
    record = next(world.ledger.scan())
    world.kill(process)
    assert record.sent_at == SENT
    return (
        record
        if clock is None
        else type(record)(**{n: getattr(record, n) for n in record.__slots__} | {"clock": clock})
    )


def read(
    created: int, *, zone: int = KOREA, offset: int = KOREA, clock: Clock | None = None, agree: bool = True
) -> Age:
    """Return the age of a service made then (our clock), by an AiTEMS of that zone."""
    ahead = Clock(-500, 500)
    return age(doubtful(clock), created + zone, ahead, offset, NOW, zone_agrees=agree)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, Age.OURS), (1, Age.OURS), (59, Age.OURS), (-1, Age.UNCLEAR), (-4, Age.UNCLEAR)],
)
def test_made_since_or_just_before(seconds: int, expected: Age) -> None:
    """Since the POST: ours. Within five seconds before: nobody can tell by the Date header."""
    assert read(SENT + seconds * SECOND) is expected


@pytest.mark.parametrize("hours", [22, 30, 1000])
def test_older_in_every_zone(hours: int) -> None:
    """What is older whatever zone its date is in, is older."""
    assert read(SENT - hours * HOUR) is Age.OLDER


@pytest.mark.parametrize("hours", [1, 9, 20])
def test_older_in_some_zones_is_not_older(hours: int) -> None:
    """A zone we do not know could make it ours: the timestamp of a refusal has to say."""
    assert read(SENT - hours * HOUR) is Age.UNCLEAR


@given(zone=st.integers(-12 * 4, 14 * 4).map(lambda quarters: quarters * 15 * 60 * SECOND), after=st.integers(0, 59))
def test_our_own_is_never_called_older(zone: int, after: int) -> None:
    """Whatever zone AiTEMS prints, and whatever zone we believe in."""
    for offset in (KOREA, 0):
        assert read(SENT + after * SECOND, zone=zone, offset=offset) is not Age.OLDER


@given(before=st.integers(6, 10**7), low=st.integers(-(10**8), 10**8), width=st.integers(0, 4 * SECOND))
def test_with_the_timestamp_an_older_one_is_never_ours(before: int, low: int, width: int) -> None:
    """By a clock known to the length of a call, what was made more than five seconds before is not ours."""
    clock = Clock(low, low + width)
    created = SENT - before * SECOND + low + width // 2
    assert age_by(created, clock, SENT, NOW) is not Age.OURS or before * SECOND <= ALLOWANCE + width


def test_a_reading_in_the_future_says_nothing() -> None:
    """A service that was made after now was read by a wrong clock."""
    assert age_by(NOW + KOREA + 10 * SECOND, Clock(KOREA, KOREA), SENT, NOW) is Age.FUTURE
    assert read(SENT, clock=Clock(0, 0)) is Age.UNCLEAR


def test_a_doubted_zone_adopts_nothing() -> None:
    """While fresh services bear other dates than they should, nothing is adopted by age."""
    assert read(SENT + SECOND, agree=False) is Age.UNCLEAR
    assert read(SENT + SECOND, offset=0, zone=0) is Age.UNCLEAR


def test_without_a_date_nothing_is_known() -> None:
    """Neither a service without a date nor a list without one says anything."""
    assert age(doubtful(), None, Clock(0, 0), KOREA, NOW, zone_agrees=True) is Age.UNCLEAR
    assert age(doubtful(), SENT + KOREA, None, KOREA, NOW, zone_agrees=True) is Age.UNCLEAR


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, True),
        ({"type": "batch"}, True),
        ({"type": "interval"}, False),
        ({"description": " "}, True),
        ({"description": "other"}, False),
        ({"name": "Shop-Main"}, False),
    ],
)
def test_what_agrees(told: dict[str, str], expected: bool) -> None:
    """A missing type agrees, and so does a description that was trimmed or composed."""
    service = Service.model_validate({"serviceId": "s", "name": "shop-main"} | told)
    assert agrees(doubtful(), service) is expected


def test_a_claim_in_doubt_keeps_its_first_date() -> None:
    """The date that ages are judged by is that of the first POST in doubt, however many follow."""
    world = World()
    process = world.arrive(world.order("a"))
    while process.at != "waiting":
        world.step(process)
    world.lose(process)
    while not process.done:
        world.step(process)
    record = next(world.ledger.scan())
    again = claim(record, NOW + HOUR, NOW + 2 * HOUR, world.numbers)
    assert again.sent_at == record.sent_at
