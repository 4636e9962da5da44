"""What each answer of AiTEMS proves, over HTTP, and how the list is read."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from aitems_bridge.aitems import LONGEST_ANSWER, AiTEMS, LookFailed, page_of, prove, wall
from aitems_bridge.errors import Misconfigured
from aitems_bridge.ncp import Keys
from aitems_bridge.record import Made, NotDone, Outcome, Rejection, Unknown
from aitems_bridge.service import Service
from aitems_bridge.wire import Answer
from aitems_local.emulator import Emulator, Fault

KEYS = Keys("AK_TEST", "SK_TEST")
COMMAND = {"name": "shop-main", "description": "봄 시즌 추천", "type": "batch"}
GATEWAY: dict[str, Any] = {"shape": "gateway"}
FLAT: dict[str, Any] = {"shape": "flat"}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Run an AiTEMS."""
    with Emulator(access_key=KEYS.access_key, secret_key=KEYS.secret_key) as running:
        yield running


def client(emulator: Emulator, keys: Keys = KEYS) -> AiTEMS:
    """Return a client whose keys are the ones just read."""
    return AiTEMS(emulator.url, lambda _: (keys, True))


def create(aitems: AiTEMS) -> Outcome:
    """Ask for the service."""
    return aitems.create(COMMAND, lambda: 2.0)


def test_a_created_service_is_told_as_it_came(emulator: Emulator) -> None:
    """The answer's own text, Korean included, and the id."""
    outcome = create(client(emulator))
    assert isinstance(outcome, Made)
    told = json.loads(outcome.answer)
    assert (told["serviceId"], told["description"]) == (outcome.service_id, "봄 시즌 추천")
    assert emulator.services[0].service_id == outcome.service_id


@pytest.mark.parametrize(
    ("fault", "proves", "slug"),
    [
        (Fault("error_before", status=400, code="BAD_REQUEST", **FLAT), Rejection, "refused-by-aitems"),
        (Fault("error_before", status=400, code="DUPLICATE_NAME", **FLAT), Rejection, "duplicate-name"),
        (Fault("error_before", status=413, code="430", **GATEWAY), Rejection, "refused-by-aitems"),
        (Fault("error_before", status=400, code="100", **GATEWAY), NotDone, "aitems-unavailable"),
        (Fault("error_before", status=401, code="200", **GATEWAY), NotDone, "keys-refused"),
        (Fault("error_before", status=401, code="210", **GATEWAY), NotDone, "not-permitted"),
        (Fault("error_before", status=403, code="230", **GATEWAY), NotDone, "not-permitted"),
        (Fault("error_before", status=403, **FLAT), NotDone, "not-permitted"),
        (Fault("error_before", status=404, code="300", **GATEWAY), NotDone, "not-permitted"),
        (Fault("error_before", status=429, code="400", **GATEWAY), NotDone, "aitems-throttled"),
        (Fault("error_before", status=429, code="420", **GATEWAY), NotDone, "aitems-throttled"),
        (Fault("error_before", status=429, shape="empty"), NotDone, "aitems-throttled"),
        (Fault("error_before", status=400, shape="html"), Unknown, "outcome-unknown"),
        (Fault("error_before", status=400, shape="empty"), Unknown, "outcome-unknown"),
        (Fault("error_before", status=403, shape="html"), Unknown, "outcome-unknown"),
        *(
            (Fault("status_only", status=status), Unknown, "outcome-unknown")
            for status in (401, 404, 408, 409, 410, 413, 418, 422)
        ),
        *(
            (Fault("error_after", status=status, **GATEWAY), Unknown, "outcome-unknown")
            for status in (500, 502, 503, 504)
        ),
        (Fault("redirect"), Unknown, "outcome-unknown"),
        (Fault("broken_json"), Unknown, "outcome-unknown"),
        (Fault("cut_short"), Unknown, "outcome-unknown"),
        (Fault("wrong_name"), Unknown, "outcome-unknown"),
        (Fault("garbage"), Unknown, "outcome-unknown"),
        (Fault("reset_before"), Unknown, "outcome-unknown"),
        (Fault("reset_after"), Unknown, "outcome-unknown"),
        (Fault("close_before"), Unknown, "outcome-unknown"),
        (Fault("hang_after", seconds=4), Unknown, "outcome-unknown"),
    ],
    ids=lambda value: (
        "-".join(str(part) for part in (value.kind, value.status, value.shape) if part)
        if isinstance(value, Fault)
        else getattr(value, "__name__", value)
    ),
)
def test_what_an_answer_proves(emulator: Emulator, fault: Fault, proves: type[Outcome], slug: str) -> None:
    """The table: what is not in it proves nothing."""
    emulator.add_faults(fault)
    outcome = create(client(emulator))
    assert isinstance(outcome, proves)
    assert not isinstance(outcome, Made)
    assert outcome.problem.slug == slug
    assert len(emulator.calls) == 1


@pytest.mark.parametrize("status", sorted({*range(200, 600)} - {400, 401, 403, 404, 413, 429}))
def test_no_other_status_proves_anything(status: int) -> None:
    """Whatever the body's shape, a status that is not in the table is unknown."""
    documents: list[object] = [{"error": {"errorCode": "1"}}, {"error": "X", "errorCode": "X", "status": 1}, []]
    for document in documents:
        answer = Answer(status, {}, json.dumps(document).encode())
        assert isinstance(prove(answer, "shop-main", 0, 0, 1), Unknown)


@pytest.mark.parametrize("status", [201, 400, 401, 403, 404, 413, 429, 500])
@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\xfe", b"", b"null", b'{"error": NaN}', b'{"serviceId": 7}'])
def test_no_body_breaks_the_table(status: int, body: bytes) -> None:
    """Nested too deeply, no UTF-8, nothing at all: never an exception, never a service."""
    outcome = prove(Answer(status, {}, body), "shop-main", 0, 0, 1)
    assert isinstance(outcome, NotDone if status == 429 else Unknown)


MADE: dict[str, Any] = {
    "serviceId": "v5tmlhw3e5b",
    "name": "shop-main",
    "description": "봄 \N{GRINNING FACE}",
    "n": 1.5,
}
DEEP, DEEPER = (json.loads("[" * depth + "]" * depth) for depth in (150, 250))
differing = st.fixed_dictionaries(
    {},
    optional={
        "serviceId": st.sampled_from(["", "x", "한", 7, None, "\ud800"]),
        "name": st.sampled_from(["Shop-main", 7, None, ["shop-main"]]),
        "description": st.sampled_from([None, 7, "\ud83d", "\ud83d\ude00", "\\ud83d"]),
        "datasets": st.sampled_from([[[]], [{"a": [{}] * 120}], DEEP, DEEPER, "x" * LONGEST_ANSWER]),
        "n": st.sampled_from([float("nan"), 1e400, 10**400, -0.0]),
    },
)


@given(differing, st.booleans(), st.integers(0, 200), st.sampled_from([b"", b",", b'"', b"}", b"\xff", b"\x00", b" "]))
@example({}, False, 0, b"")
@example({"datasets": DEEP}, False, 0, b"")
@example({"datasets": DEEPER}, False, 0, b"")
@example({"description": "\ud83d"}, True, 0, b"")
def test_a_service_was_made_where_the_model_says_so(
    change: dict[str, Any], escaped: bool, at: int, more: bytes
) -> None:
    """Most answers are read without the model; what they come to is what it would say, whatever the answer."""
    body = json.dumps(MADE | change, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    body = body[:at] + more + body[at:]
    constants: list[str] = []
    try:
        json.loads(body.decode(), parse_constant=constants.append)
        service = None if constants else Service.model_validate_json(body)
    except (ValueError, ValidationError):
        service = None
    outcome = prove(Answer(201, {}, body), "shop-main", 0, 0, 1)
    if service is None or service.name != "shop-main":
        assert isinstance(outcome, Unknown)
        return
    assert isinstance(outcome, Made)
    assert outcome.service_id == service.service_id
    assert len(outcome.answer) <= LONGEST_ANSWER
    if len(body) <= LONGEST_ANSWER:
        assert outcome.answer.encode() == body


def test_nobody_there_is_not_done(emulator: Emulator) -> None:
    """Nothing was sent, and nothing is counted as sent."""
    emulator.stop()
    outcome = create(client(emulator))
    assert isinstance(outcome, NotDone)
    assert (outcome.posts, outcome.problem.slug) == (0, "aitems-unavailable")


def test_keys_that_no_header_can_hold_are_not_done(emulator: Emulator) -> None:
    """What fails before the first byte surely did nothing: it must not put the request in doubt."""
    outcome = create(client(emulator, Keys("“AK_TEST”", "SK_TEST")))
    assert isinstance(outcome, NotDone)
    assert emulator.calls == ()


def test_refused_keys_are_read_anew_once(emulator: Emulator) -> None:
    """A 401 forces one refresh and exactly one more try; keys that were just read are not read again."""
    asked: list[bool] = []

    def keys(early: bool) -> tuple[Keys, bool]:
        asked.append(early)
        return (KEYS if early else Keys("AK_TEST", "OLD"), early)

    outcome = AiTEMS(emulator.url, keys).create(COMMAND, lambda: 2.0)
    assert isinstance(outcome, Made)
    assert (asked, outcome.posts, len(emulator.calls)) == ([False, True], 2, 2)
    refused = create(client(emulator, Keys("AK_TEST", "OLD")))
    assert isinstance(refused, NotDone)
    assert len(emulator.calls) == 3


def test_no_keys_are_not_done(emulator: Emulator) -> None:
    """Keys that are not filled in: the request waits, and says for what."""

    def keys(_: bool) -> tuple[Keys, bool]:
        raise Misconfigured("fill them in")

    outcome = AiTEMS(emulator.url, keys).create(COMMAND, lambda: 2.0)
    assert isinstance(outcome, NotDone)
    assert (outcome.problem.slug, outcome.problem.detail) == ("keys-refused", "fill them in")


def test_a_duplicate_brings_aitems_clock(emulator: Emulator) -> None:
    """The refusal's timestamp says how far AiTEMS's wall clock is ahead, to the length of the call."""
    emulator.configure(clock_skew=30)
    create(client(emulator))
    outcome = create(client(emulator))
    assert isinstance(outcome, Rejection)
    assert outcome.clock is not None
    ahead = 9 * 3_600_000 + 30_000
    assert outcome.clock.low - 50 <= ahead <= outcome.clock.high + 50
    assert outcome.clock.high - outcome.clock.low < 2_000


def test_a_date_of_another_zone_is_noticed(emulator: Emulator) -> None:
    """A service made just now that bears another zone's date stops adoption by age, until one agrees again."""
    aitems = client(emulator)
    create(aitems)
    assert aitems.zone_agrees
    emulator.configure(utc_offset=0)
    aitems.create(COMMAND | {"name": "another"}, lambda: 2.0)
    assert not aitems.zone_agrees


def test_the_whole_list_is_read(emulator: Emulator) -> None:
    """A server may cap its pages: the name is found on the last one too, and other letter case is told apart."""
    emulator.configure(page_cap=7)
    wanted = emulator.by_hand("shop-main")
    other = emulator.by_hand("SHOP-main")
    for number in range(40):
        emulator.by_hand(f"noise-{number}")
    listing = client(emulator).list_named("shop-main", lambda: 2.0)
    assert [listed.service_id for listed in listing.named] == [wanted.service_id]
    assert [listed.service_id for listed in listing.other_case] == [other.service_id]


@pytest.mark.parametrize("services", [0, 1, 2, 7, 8])
def test_lists_of_every_length_end(emulator: Emulator, services: int) -> None:
    """Empty, one, just a page and one more."""
    emulator.configure(page_cap=7)
    for number in range(services):
        emulator.by_hand(f"noise-{number}")
    assert client(emulator).list_named("shop-main", lambda: 2.0).named == ()


def test_pages_that_do_not_join_are_read_again(emulator: Emulator) -> None:
    """A deletion between two pages shifts the list: what stood at the seam is not passed over (H10)."""
    emulator.configure(page_cap=3)
    wanted = emulator.by_hand("shop-main")
    for number in range(5):
        emulator.by_hand(f"noise-{number}")
    emulator.add_faults(Fault("list_then_delete"))
    listing = client(emulator).list_named("shop-main", lambda: 2.0)
    assert [listed.service_id for listed in listing.named] == [wanted.service_id]


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_list_that_cannot_be_read_is_no_look(emulator: Emulator, status: int) -> None:
    """Anything but a whole list fails the look: it must not be taken for an empty one."""
    emulator.add_faults(Fault("error_before", on="list", status=status))
    with pytest.raises(LookFailed):
        client(emulator).list_named("shop-main", lambda: 2.0)


@pytest.mark.parametrize("services", ["{}", '""', '{"a": {}}', '"a"', "0", "null", "[{}]", "[[]]", '["a"]', "[null]"])
def test_what_is_no_list_is_no_empty_list(services: str) -> None:
    """A 200 whose services are no list of services shows nothing: least of all that there are none."""
    with pytest.raises(LookFailed):
        page_of(Answer(200, {}, f'{{"services": {services}}}'.encode()))
    assert page_of(Answer(200, {}, b'{"services": []}')) == []


def test_a_service_that_is_gone(emulator: Emulator) -> None:
    """AiTEMS's own 404 says that there is none."""
    assert client(emulator).read("nosuchthing", lambda: 2.0) is None


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:01.500", 1500),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01T09:00:00+09:00", 0),
        ("0001-01-01T00:00:00+23:00", None),
        ("yesterday", None),
        (None, None),
        (17, None),
    ],
)
def test_dates_are_read_as_wall_clock(text: object, milliseconds: int | None) -> None:
    """A date without a zone stands for AiTEMS's own clock; what is none is absent."""
    assert wall(text) == milliseconds


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"errorCode": "9" * 300_000, "message": "m" * 300_000}},
        {"error": "E" * 300_000, "status": 400, "errorCode": "E", "message": "m" * 300_000, "timestamp": "t" * 300_000},
        {"error": {"errorCode": "\ud83d", "message": "\ud83d"}},
        {"error": "\ud83d", "status": 400, "errorCode": "\ud83d", "message": "\ud83d"},
    ],
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500])
def test_whatever_an_error_says_can_be_recorded(status: int, error: dict[str, Any]) -> None:
    """An outcome that does not fit into the ledger would be none."""
    outcome = prove(Answer(status, {"x-ncp-trace-id": "t" * 9000}, json.dumps(error).encode()), "shop-main", 0, 0, 1)
    assert not isinstance(outcome, Made)
    assert len(json.dumps(outcome.problem.document(), ensure_ascii=False).encode()) < 2000
