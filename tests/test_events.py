"""What the bridge says about a request is what the contract says it says."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_bridge import events
from aitems_bridge.record import Record, State
from contract import CREATED, RECORDS, UNKNOWN, UNKNOWN_STATUS

CREATED_RECORD = RECORDS["created"][0]


@pytest.mark.parametrize("example", RECORDS)
def test_each_event_is_the_contracts(example: str) -> None:
    """Members and values are those that consumers were promised, none missing and none besides."""
    record, expected = RECORDS[example]
    assert json.loads(events.detail(record)) == expected


@pytest.mark.parametrize("example", RECORDS)
def test_each_entry(example: str) -> None:
    """Source, kind, time and resources of the envelope."""
    record, _ = RECORDS[example]
    entry = events.entry(record, "the-bus")
    kinds = {
        State.CREATED: "AiTEMS Service Created",
        State.REJECTED: "AiTEMS Service Creation Rejected",
        State.FAILED: "AiTEMS Service Creation Failed",
    }
    assert record.settled_at is not None
    assert entry == {
        "Source": "aitems.bridge",
        "DetailType": kinds[record.state],
        "Detail": events.detail(record),
        "EventBusName": "the-bus",
        "Time": datetime.fromtimestamp(record.settled_at / 1000, UTC),
        "Resources": [],
    }


def test_saying_it_twice_says_the_same() -> None:
    """An announcement is made from the record alone; a copy cannot differ from it."""
    for record, _ in RECORDS.values():
        assert events.detail(record) == events.detail(replace(record, again=record.again + 1))


def test_an_adopted_service_says_so() -> None:
    """Found by looking, after more than one POST perhaps."""
    detail = json.loads(events.detail(replace(CREATED_RECORD, adopted=True, attempts=2)))
    assert detail["metadata"] == CREATED["metadata"] | {"adopted": True, "attempts": 2}


def test_giving_up_twice_is_two_announcements() -> None:
    """Each has an id of its own, so that no consumer takes the second for a copy of the first."""
    failed, _ = RECORDS["failed"]
    assert events.event_id(replace(failed, gave_up=2)) == f"{failed.id}.failed-2"


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "1e400",
        "-0.0",
        "123456789012345678901234567890",
        "9" * 5000,
        "0.1000000000000000055511151231257827",
        '"\\ud55c\\u2028"',
        '{"a": [1.0, {"b": null}]}',
    ],
)
def test_aitems_answer_is_passed_on_as_it_stands(text: str) -> None:
    """Whatever AiTEMS writes, unknown fields and unusual numbers too, is not read and written anew: it is the text."""
    answer = f'{{"serviceId": "s", "name": "shop-main", "extra": {text}}}'
    detail = events.detail(replace(CREATED_RECORD, answer=answer))
    assert detail.endswith(f'"data":{answer}}}')


def test_an_answer_of_which_the_rest_can_still_be_read() -> None:
    """Around the answer stands JSON that any parser reads, and the answer's numbers are the answer's."""
    answer = '{"serviceId": "s", "name": "shop-main", "price": 1.10, "big": 123456789012345678901234567890}'
    detail = json.loads(events.detail(replace(CREATED_RECORD, answer=answer)), parse_float=str)
    assert detail["data"] == {
        "serviceId": "s",
        "name": "shop-main",
        "price": "1.10",
        "big": 123456789012345678901234567890,
    }


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_462_704_981, "2026-11-23T19:38:24.981Z"),
        (1_795_462_704_000, "2026-11-23T19:38:24.000Z"),
        (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
        (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
    ],
)
def test_times(milliseconds: int, text: str) -> None:
    """RFC 3339 in UTC with three digits of a second, always, and no rounding."""
    assert events.timestamp(milliseconds) == text


@given(st.integers(0, 4_000_000_000_000))
def test_times_lose_nothing(milliseconds: int) -> None:
    """To the millisecond there and back."""
    read = datetime.fromisoformat(events.timestamp(milliseconds))
    assert round(read.timestamp() * 1000) == milliseconds


# --- the status document ------------------------------------------------------------------------------------------


def test_the_contracts_status_document() -> None:
    """Word for word."""
    assert json.loads(events.status_document(UNKNOWN)) == UNKNOWN_STATUS


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (CREATED_RECORD, {"service"}),
        (RECORDS["rejected by AiTEMS"][0], {"problem"}),
        (RECORDS["failed"][0], {"problem"}),
        (UNKNOWN, {"last_problem"}),
        (replace(UNKNOWN, state=State.RECEIVED, last=None), set()),
        (replace(UNKNOWN, state=State.FAILED, settled_at=UNKNOWN.requested_at, problem=UNKNOWN.last), {"problem"}),
    ],
)
def test_what_is_shown_when(record: Record, shown: set[str]) -> None:
    """The service once made, the problem once settled or given up, what stands in the way while open: never two."""
    document = json.loads(events.status_document(record))
    assert set(document) == set(UNKNOWN_STATUS)
    assert {name for name in ("service", "problem", "last_problem") if document[name] is not None} == shown
    assert document["advice"]
    assert document["state"] == record.state
    assert (document["settled_at"] is None) == record.state.open


def test_a_problem_in_a_status_document_is_the_events() -> None:
    """Whoever asks and whoever listens are told the same."""
    for name in ("rejected by AiTEMS", "rejected as it came", "failed"):
        record, expected = RECORDS[name]
        assert json.loads(events.status_document(record))["problem"] == expected["data"]


def test_the_name_of_what_did_not_validate_is_empty() -> None:
    """There is none to show."""
    assert json.loads(events.status_document(RECORDS["rejected as it came"][0]))["name"] == ""


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000])
def test_a_status_document_is_always_json(number: str) -> None:
    """Whatever AiTEMS answered, what we answer can be read by any parser."""
    record = replace(CREATED_RECORD, answer=f'{{"serviceId": "s", "name": "shop-main", "extra": {number}}}')

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    with_number_as_text = json.loads(
        events.status_document(record), parse_constant=no_constant, parse_int=str, parse_float=str
    )
    assert with_number_as_text["service"]["extra"] == number
