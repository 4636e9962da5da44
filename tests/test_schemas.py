"""The schemas say what the bridge does: generated, without drift, and true of the examples and of what is emitted."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from aitems_bridge import events
from aitems_bridge.doors import SignatureRefused
from aitems_bridge.errors import KINDS, NotRecorded, Problem, Refused
from aitems_bridge.models import CreateService
from aitems_bridge.record import Record, State
from aitems_local import bodies, schemas
from aitems_local.emulator import Fault
from contract import CREATED, INVALID_REQUEST, RECORDS, REQUESTED, UNKNOWN, UNKNOWN_STATUS
from world import ROOT, SECRET, World, get, post

Json = dict[str, Any]

BY_STATE = {
    State.CREATED: "service-created",
    State.REJECTED: "service-creation-rejected",
    State.FAILED: "service-creation-failed",
}
VALIDATORS = {
    path.name.removesuffix(".v1.json"): Draft202012Validator(
        json.loads(path.read_text("utf-8")), format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    for path in sorted((ROOT / "schemas").glob("*.v1.json"))
    if path.name in bodies.schemas()
}


def check(name: str, document: object) -> None:
    """Raise ``ValidationError`` unless the document is as the schema says."""
    VALIDATORS[name].validate(document)


def emitted(record: Record) -> Json:
    """Return the event that announces a record, checked against its schema."""
    detail: Json = json.loads(events.detail(record))
    check(BY_STATE[record.state], detail)
    return detail


@pytest.fixture
def world() -> Iterator[World]:
    """Give the bridge."""
    with World() as running:
        yield running


@pytest.mark.parametrize("name", schemas.files())
def test_the_files_are_what_the_models_say(name: str) -> None:
    """Schemas, OpenAPI and AsyncAPI alike; write them anew with ``python -m aitems_local.schemas``."""
    assert (ROOT / "schemas" / name).read_text("utf-8") == schemas.files()[name]


@pytest.mark.parametrize("name", [*bodies.OUTGOING, *bodies.INCOMING])
def test_each_is_a_schema(name: str) -> None:
    """Of the dialect it names, under an identifier that holds its version."""
    schema = VALIDATORS[name].schema
    Draft202012Validator.check_schema(schema)
    assert isinstance(schema, dict)
    assert (schema["title"], schema["$id"]) == (name, f"urn:aitems-bridge:schema:{name}:1")


@pytest.mark.parametrize("example", RECORDS)
def test_the_contracts_events(example: str) -> None:
    """The examples that consumers were shown, and what is really emitted for them."""
    record, expected = RECORDS[example]
    check(BY_STATE[record.state], expected)
    assert emitted(record) == expected


def test_the_contracts_documents() -> None:
    """The status document, the problem and the request of the contract."""
    check("status", UNKNOWN_STATUS)
    check("problem", INVALID_REQUEST)
    check("service-creation-requested", REQUESTED)


def test_members_may_be_added_to_what_goes_out() -> None:
    """Within a version documents may grow: a consumer that validates must not break on it, however deep."""

    def grown(value: Any) -> Any:  # noqa: ANN401  # JSON of any kind
        if isinstance(value, dict):
            return {name: grown(each) for name, each in value.items()} | {"added_later": 1}
        return [grown(each) for each in value] if isinstance(value, list) else value

    for record, expected in RECORDS.values():
        check(BY_STATE[record.state], grown(expected))
    check("status", grown(UNKNOWN_STATUS))
    check("problem", grown(INVALID_REQUEST))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "version"), "2"),
        (("metadata", "version"), 1),
        (("metadata", "event_id"), CREATED["metadata"]["request_id"]),
        (("metadata", "request_id"), "p24m"),
        (("metadata", "channel"), "Carrier pigeon"),
        (("metadata", "final"), False),
        (("metadata", "attempts"), -1),
        (("metadata", "settled_at"), "2026-11-23T19:38:25Z"),
        (("metadata", "requested_at"), "2026-11-23T19:38:25.304+09:00"),
        (("request",), None),
        (("request", "type"), "realtime"),
        (("request", "name"), "1abc"),
        (("data", "serviceId"), ""),
        (("data", "name"), None),
    ],
)
def test_what_is_decided_by_is_closed(path: tuple[str, ...], value: object) -> None:
    """What the bridge itself says has forms, and where a consumer decides by it closed sets, to rely on."""
    document = copy.deepcopy(CREATED)
    part = document
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(ValidationError):
        check("service-created", document)


def test_what_may_grow_is_open() -> None:
    """A new door and a new kind of problem are additions: who validates does not break on them."""
    check("service-created", CREATED | {"metadata": CREATED["metadata"] | {"channel": "carrier-pigeon"}})
    kind = "urn:aitems-bridge:problem:never-heard-of"
    check("problem", INVALID_REQUEST | {"type": kind})
    for example in ("rejected by AiTEMS", "failed"):
        record, expected = RECORDS[example]
        check(BY_STATE[record.state], expected | {"data": expected["data"] | {"type": kind}})
    for unlike in ("about:blank", "urn:aitems-bridge:problem:", "urn:aitems-bridge:problem:Shouted"):
        with pytest.raises(ValidationError):
            check("problem", INVALID_REQUEST | {"type": unlike})


@pytest.mark.parametrize("slug", KINDS)
def test_each_kind_is_named(slug: str) -> None:
    """An open set still tells what is in it."""
    problem = bodies.schemas()["problem.v1.json"]["properties"]["type"]
    assert problem["examples"][list(KINDS).index(slug)].endswith(f":{slug}")


@pytest.mark.parametrize("member", [*CREATED["metadata"]])
def test_all_of_the_metadata_is_always_there(member: str) -> None:
    """Nothing is left out: what has no value is null."""
    document = copy.deepcopy(CREATED)
    del document["metadata"][member]
    with pytest.raises(ValidationError):
        check("service-created", document)


@pytest.mark.parametrize(
    "data", [{"status": "neverHeardOf"}, {"type": "realtime"}, {"createdDate": 5}, {"infers": {}}, {"hpConfig": None}]
)
def test_aitems_is_open(data: Json) -> None:
    """Of AiTEMS's answer only id and name are promised, for only they are insisted on."""
    check("service-created", CREATED | {"data": CREATED["data"] | data})
    check("service-created", CREATED | {"data": {"serviceId": "s", "name": "shop-main"}})


def test_a_kind_belongs_to_its_event() -> None:
    """Final problems are rejections, those for the same key are failures; neither schema takes the other's."""
    rejected, failed = (RECORDS[name][1] for name in ("rejected by AiTEMS", "failed"))
    with pytest.raises(ValidationError):
        check("service-creation-rejected", rejected | {"data": failed["data"]})
    with pytest.raises(ValidationError):
        check("service-creation-failed", failed | {"data": rejected["data"]})


@pytest.mark.parametrize("slug", KINDS)
def test_every_kind_of_problem(slug: str) -> None:
    """Each document that the bridge makes of a problem is as the schema says."""
    check("problem", Problem(slug, "What to do.").document())
    check("problem", Problem(slug, "What to do.").in_doubt().document("a" * 52))


@pytest.mark.parametrize("absent", ["request_id", "errors", "may_exist", "upstream"])
def test_what_a_problem_does_not_say_is_left_out(absent: str) -> None:
    """Left out and null are two things, and the bridge says the first."""
    with pytest.raises(ValidationError):
        check("problem", INVALID_REQUEST | {absent: None})


@pytest.mark.parametrize("state", list(State))
def test_a_status_document_of_every_state(state: State) -> None:
    """Open, settled or given up."""
    record = replace(UNKNOWN, state=state)
    check("status", json.loads(events.status_document(record)))
    with pytest.raises(ValidationError):
        check("status", json.loads(events.status_document(record)) | {"state": "pending"})


# --- what is really emitted ---------------------------------------------------------------------------------------


def test_what_the_door_answers(world: World) -> None:
    """Status documents and problems as they come out of it."""
    world.emulator.by_hand("taken-name")
    created = world.answer(post({"name": "shop-main"}))
    assert created.status == 201
    emitted(world.record)
    request_id = created.headers["X-Request-Id"]
    check("status", world.answer(get(request_id)).document)
    check("status", world.answer(post({"name": "b-main"}, key="b", headers={"prefer": "respond-async"})).document)
    refused = [
        post({"name": "taken-name"}, key="c"),
        post({"name": "x", "a\x00b": 1}, key="d"),
        post({"name": "other"}),
        post({}, caller="nobody"),
        post(b"[", key="e"),
        post({}, headers={"webhook-signature": "v1,x"}),
        get("a" * 52),
    ]
    for event in refused:
        answer = world.answer(event)
        assert answer.slug in KINDS
        check("problem", answer.document)


def test_what_is_announced_of_every_ending(world: World) -> None:
    """Created, adopted, rejected, given up in doubt and out of it: each event as it is really made."""
    world.emulator.by_hand("taken-name")
    world.emulator.add_faults(
        Fault("close_after", name="lost-main"), Fault("error_before", name="full-main", status=429, times=None)
    )
    for name in ("shop-main", "taken-name", "lost-main", "full-main"):
        world.answer(post({"name": name}, key=f"msg_{name}", headers={"prefer": "respond-async"}))
    world.work()
    world.emulator.add_faults(Fault("error_before", on="list"))
    world.work()
    world.work()
    details = [emitted(record) for record in world.ledger.scan() if not record.state.open]
    assert sorted(detail["metadata"]["event_id"].rpartition(".")[2] for detail in details) == [
        "created",
        "created",
        "rejected",
    ]
    assert sorted(detail["metadata"]["adopted"] for detail in details) == [False, False, True]
    world.clock.advance(7 * 3600)
    world.work()
    (given_up,) = (record for record in world.ledger.scan() if record.state is State.FAILED)
    assert emitted(given_up)["data"]["type"].endswith("aitems-throttled")


def test_a_failure_in_doubt(world: World) -> None:
    """It says that the service may exist."""
    world.emulator.add_faults(Fault("close_after"), Fault("error_before", on="list", times=None))
    world.answer(post({"name": "shop-main"}))
    world.clock.advance(7 * 3600)
    world.work()
    assert emitted(world.record)["data"]["may_exist"] is True


@pytest.mark.parametrize("refused", [NotRecorded(), SignatureRefused("why", 0)])
def test_refusals_before_there_is_a_record(refused: Refused) -> None:
    """They are problems like any other."""
    check("problem", refused.problem.document())


# --- what comes in ------------------------------------------------------------------------------------------------


def accepted(value: object) -> bool:
    """Whether the bridge takes a request, its key aside."""
    try:
        CreateService.parse(value)
    except Refused:
        return False
    return True


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(st.sampled_from("aZ9_- 가\n"), max_size=22) | st.none() | st.integers(),
            "description": st.text(st.sampled_from("a가\n"), max_size=101) | st.none(),
            "type": st.sampled_from(["batch", "interval", "realtime", None, 1]),
            "colour": st.just("red"),
        },
    )
)
def test_the_request_schema_and_the_bridge_agree(value: Json) -> None:
    """A producer that validates before it sends is refused nothing, and is not held back from anything lawful."""
    if "\n" in str(value.get("name")):
        return  # to Python's ``re``, ``$`` also matches before a newline at the end; to ECMA 262's it does not
    assert VALIDATORS["service-creation-requested"].is_valid(value) is accepted(value)


@pytest.mark.parametrize("key", [None, "", 7, "x" * 257, "열쇠", "a\x7f"])
def test_keys_that_the_request_schema_refuses(key: object) -> None:
    """As the worker does."""
    assert not VALIDATORS["service-creation-requested"].is_valid(REQUESTED | {"idempotency_key": key})


@pytest.mark.parametrize(
    "document",
    [{}, {"access_key": "a"}, {"access_key": "", "secret_key": ""}, {"access_key": "a", "secret_key": "b", "c": ""}],
)
def test_keys_are_exactly_two(document: Json) -> None:
    """And both are filled in."""
    assert not VALIDATORS["keys"].is_valid(document)
    assert VALIDATORS["keys"].is_valid({"access_key": "a", "secret_key": SECRET})
