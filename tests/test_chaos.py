"""The promise under fire, in its short form; `make chaos` runs it whole.

Real processes of the deployed template are killed from outside, at every side effect, while AiTEMS misbehaves.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aitems_bridge.record import DAY, Record, State
from aitems_local import chaos
from aitems_local.audit import Heard, Sent, audit
from aitems_local.intercept import Kill, Message, told
from aitems_local.journal import Announced
from aitems_local.stack import Stack

SEED = 1
KNOCKS = 150
PATIENCE = 150


@pytest.fixture(scope="module")
def runs(stack: Stack) -> Iterator[tuple[chaos.Run, chaos.Run]]:
    """Return what the matrix and the storm showed: both at once, each over a bridge of its own."""

    def matrix() -> chaos.Run:
        with chaos.bridge(stack, "short-matrix", batch=1) as (bridge, interceptor):
            bridge.aitems.configure(**chaos.WORLDS[1].settings)
            return chaos.run_matrix(bridge, interceptor, chaos.short_matrix(), timeout=PATIENCE, prefix="m")

    def storm() -> chaos.Run:
        with chaos.bridge(stack, "short-storm", batch=10) as (bridge, interceptor):
            bridge.aitems.configure(**chaos.WORLDS[1].settings)
            knocks = chaos.plan_storm(KNOCKS, SEED, most=1)
            return chaos.run_storm(bridge, interceptor, knocks, seed=SEED, timeout=PATIENCE)

    with ThreadPoolExecutor(2) as pool:
        both = pool.submit(matrix), pool.submit(storm)
        yield both[0].result(), both[1].result()


def test_wherever_a_process_dies_one_service_is_made_and_announced_once(
    runs: tuple[chaos.Run, chaos.Run],
) -> None:
    """Each side effect, before and after, on every path: one service, one outcome, one announcement, and it is true."""
    matrix, _ = runs
    assert matrix.faults == []
    assert {"created"} == {verdict.state for verdict in matrix.verdicts}
    assert {1} == {verdict.services for verdict in matrix.verdicts}


def test_every_place_of_the_matrix_is_reached(runs: tuple[chaos.Run, chaos.Run]) -> None:
    """A kill that was planned and did not happen proves nothing."""
    matrix, _ = runs
    assert matrix.missed == []
    assert matrix.kills >= len(chaos.places())


@pytest.mark.parametrize(
    ("point", "posts", "adopted"),
    [
        ("before the POST", {1, 2}, False),  # the second one where the first is throttled
        ("POST sent, made later", {1}, True),
        ("POST sent, never made", {2, 3}, False),
    ],
)
def test_a_place_is_where_it_says(
    runs: tuple[chaos.Run, chaos.Run], point: str, posts: set[int], adopted: bool
) -> None:
    """What reached AiTEMS shows when the process died: the matrix would prove nothing if it were always too late."""
    matrix, _ = runs
    there = [verdict for verdict in matrix.verdicts if verdict.sent.label[1] == point]
    assert len(there) == 3
    assert {verdict.posts for verdict in there} <= posts
    assert {verdict.adopted for verdict in there} == {adopted}


def test_a_storm_loses_and_doubles_nothing(runs: tuple[chaos.Run, chaos.Run]) -> None:
    """Requests through all doors, a fifth of them twice, a fifth in trouble, processes dying at random."""
    _, storm = runs
    assert storm.faults == []
    assert {(door,) for door in chaos.DOORS} == {verdict.sent.label for verdict in storm.verdicts}
    assert storm.kills > 0


# --- the instrument itself ----------------------------------------------------------------------------------------


def test_a_storm_is_repeatable() -> None:
    """The same seed sends the same, and shares are as promised."""
    knocks = chaos.plan_storm(2000, 7)
    assert knocks == chaos.plan_storm(2000, 7)
    assert knocks != chaos.plan_storm(2000, 8)
    first = [knock for knock in knocks if not knock.again]
    assert 0.17 < 1 - len(first) / len(knocks) < 0.23
    assert 0.17 < sum(bool(knock.faults) for knock in first) / len(first) < 0.23
    assert set(chaos.STORM_FAULTS) == {fault for knock in first for fault in knock.faults}
    assert set(chaos.STORM_KILLS) == {kill for knock in first for kill in knock.kills}


def test_the_matrix_has_every_side_effect_before_and_after() -> None:
    """No call of a function is left out, on either side of it."""
    planned = {kill for place in chaos.places() for kill in place.kills}
    calls = ["read", "record", "claim", "settle", "adopt", "list", "owner", "inspect", "queue", "announce", "post"]
    assert {Kill(when, point) for when in ("before", "after") for point in calls} <= planned  # type: ignore[arg-type]
    crossed = {(case.place.path, case.place.point) for case in chaos.matrix() if case.fault != "none"}
    assert {case.fault for case in chaos.matrix()} == set(chaos.FAULTS)
    assert len(chaos.matrix()) >= len(crossed) * len(chaos.FAULTS)


def _message(operation: str, document: object) -> Message:
    return Message(b"", "POST", "/", {"x-amz-target": f"Any_1.{operation}"}, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("before", "after", "point"),
    [
        (None, "creating", "record"),
        (None, "received", "record"),
        ("received", "creating", "claim"),
        ("unknown", "creating", "claim"),
        ("creating", "created", "settle"),
        ("creating", "unknown", "settle"),
        ("unknown", "unknown", "put off"),
        ("unknown", "created", "adopt"),
    ],
)
def test_a_write_is_told_by_what_it_does(before: str | None, after: str, point: str) -> None:
    """Kills are planned by what a call does to a request, and calls are told apart by nothing else."""
    put: dict[str, Any] = {"Item": {"pk": {"S": "request#r"}, "state": {"S": after}}}
    if before:
        put["ExpressionAttributeValues"] = {":state": {"S": before}}
    write = {"TransactItems": [{"Put": put}]}
    assert told(_message("TransactWriteItems", write)) == (point, ("r",), "TransactWriteItems")


RECORD = replace(
    Record("r", 2, State.CREATED, "standard", "hook:c", "k", "c", None, {"name": "shop"}, "", 0, DAY),
    service_id="s1",
)
SENT = Sent("r", "shop")


def _world(record: Record | None, services: list[str], events: list[Announced]) -> Stack:
    made = [SimpleNamespace(service_id=service, made_as="shop", call=1) for service in services]
    aitems = SimpleNamespace(services=made, calls=(), overlapping_posts=tuple)
    ledger = SimpleNamespace(scan=lambda: [record] if record else [])
    return cast("Stack", SimpleNamespace(ledger=ledger, aitems=aitems, events=lambda: events))


def _announced(event_id: str = "r.created", service: str = "s1", kind: str = "AiTEMS Service Created") -> Announced:
    metadata = {"request_id": "r", "event_id": event_id, "final": True}
    return Announced({"detail-type": kind, "detail": {"metadata": metadata, "data": {"serviceId": service}}}, 0)


@pytest.mark.parametrize(
    ("record", "services", "events", "heard", "said"),
    [
        (None, [], [], Heard(), "no final state: none"),
        (replace(RECORD, state=State.UNKNOWN), ["s1"], [], Heard(), "no final state: unknown"),
        (RECORD, ["s1", "s2"], [_announced()], Heard(), "2 services of the name"),
        (RECORD, ["s1"], [], Heard(), "0 final announcements"),
        (RECORD, ["s1"], [_announced(), _announced("r.rejected")], Heard(), "2 final announcements"),
        (RECORD, ["s1"], [_announced(service="s2")], Heard(), "announced service s2"),
        (RECORD, ["s1"], [_announced(kind="AiTEMS Service Creation Rejected")], Heard(), "announced as"),
        (RECORD, [], [_announced()], Heard(), "was not made for it"),
        (RECORD, ["s1"], [_announced()], None, "never accepted"),
        (RECORD, ["s1"], [_announced()], Heard("created", "s2"), "the sender was told created s2"),
        (replace(RECORD, state=State.REJECTED, service_id=None), ["s1"], [_announced()], Heard(), "1 services"),
    ],
)
def test_the_audit_finds_each_way_to_break_the_promise(
    record: Record | None, services: list[str], events: list[Announced], heard: Heard | None, said: str
) -> None:
    """Zero in the table means something only if the count can be other than zero."""
    (verdict,) = audit(_world(record, services, events), [SENT], {"r": [heard]})
    assert any(said in fault for fault in verdict.faults), verdict.faults


def test_the_audit_passes_what_keeps_the_promise() -> None:
    """Announcing twice under one id is allowed: at least once is what the bus promises."""
    stack = _world(RECORD, ["s1"], [_announced(), _announced()])
    (verdict,) = audit(stack, [SENT], {"r": [Heard("created", "s1")]})
    assert verdict.faults == []
    assert (verdict.services, verdict.final_events, verdict.duplicates, verdict.lost) == (1, 1, 0, 0)


def test_the_numbers_of_the_matrix_keep_the_rules() -> None:
    """Times are short here, never too short: AiTEMS is done with a POST before its quiet time is over."""
    lead = 13  # seconds before its process's end at which a POST's last byte may leave
    quiet = lead + int(chaos.PARAMETERS["LeaseMarginSeconds"]) + int(chaos.PARAMETERS["QuietSeconds"])
    assert quiet > chaos.LONGEST_WORK + chaos.LIST_DELAY
    assert int(chaos.PARAMETERS["WorkerTimeout"]) < chaos.VISIBILITY
