"""The relay: every record where it belongs, nothing lost, nobody blocked."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from aitems_bridge import relay
from aitems_bridge.errors import Problem
from aitems_bridge.ledger import image_of, record_of
from aitems_bridge.record import SECOND, Record, State
from aitems_bridge.relay import NotRelayed, Relay
from aws import Aws, Refusal, running
from world import NOW, REQUEST_ID, sample

if TYPE_CHECKING:
    from types_boto3_events.client import EventBridgeClient
    from types_boto3_sqs.client import SQSClient

Json = dict[str, Any]
QUARTER_MEGABYTE = 262_144


def error(code: str, operation: str = "PutEvents") -> ClientError:
    """Return an error as botocore raises it."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


@dataclass
class Events:
    """EventBridge with memory. ``judge`` gives the error code of an entry, or raises for the whole call."""

    judge: Callable[[Json], str | None] = lambda _: None
    calls: list[list[Json]] = field(default_factory=list)
    taken: list[Json] = field(default_factory=list)

    def put_events(self, *, Entries: list[Json]) -> Json:  # noqa: N803  # AWS's name
        """Take the entries that are judged well."""
        self.calls.append(Entries)
        codes = [self.judge(entry) for entry in Entries]
        self.taken += [entry for entry, code in zip(Entries, codes, strict=True) if code is None]
        results: list[Json] = [{"ErrorCode": code} if code else {"EventId": "e"} for code in codes]
        return {"FailedEntryCount": sum(code is not None for code in codes), "Entries": results}


@dataclass
class Queues:
    """SQS with memory. ``judge`` gives the error code of an entry, or raises for the whole call."""

    judge: Callable[[Json], tuple[str, bool] | None] = lambda _: None
    calls: list[list[Json]] = field(default_factory=list)
    taken: list[Json] = field(default_factory=list)
    given_away: list[Json] = field(default_factory=list)

    def send_message_batch(self, *, QueueUrl: str, Entries: list[Json]) -> Json:  # noqa: N803  # AWS's names
        """Take the entries that are judged well."""
        assert QueueUrl == "queue"
        assert len({entry["Id"] for entry in Entries}) == len(Entries)
        self.calls.append(Entries)
        judged = [(entry, self.judge(entry)) for entry in Entries]
        self.taken += [entry for entry, verdict in judged if verdict is None]
        failed = [{"Id": entry["Id"], "Code": v[0], "SenderFault": v[1]} for entry, v in judged if v is not None]
        return {"Successful": [], "Failed": failed} if failed else {"Successful": []}

    def send_message(self, *, QueueUrl: str, MessageBody: str) -> Json:  # noqa: N803  # as above
        """Take what can never succeed."""
        assert QueueUrl == "failures"
        self.given_away.append(json.loads(MessageBody))
        return {}


class Rig:
    """A relay over AWS with memory; sleeping takes no time."""

    def __init__(self) -> None:
        self.events = Events()
        self.queues = Queues()
        self.naps: list[float] = []
        self.relay = Relay(
            cast("EventBridgeClient", self.events),
            cast("SQSClient", self.queues),
            bus="bus",
            queue_url="queue",
            failures_url="failures",
            now=lambda: NOW,
            sleep=self.naps.append,
        )

    @property
    def announced(self) -> list[str]:
        """The events that were taken, by id."""
        return [json.loads(entry["Detail"])["metadata"]["event_id"] for entry in self.events.taken]

    @property
    def given_away(self) -> list[tuple[str, str]]:
        """What was given away: request and reason."""
        return [(item["request_id"], item["why"]) for item in self.queues.given_away]


@pytest.fixture
def rig() -> Rig:
    """Give a relay whose AWS takes everything."""
    return Rig()


def settled(number: int = 1, **changes: Any) -> Record:  # noqa: ANN401  # the fields of Record
    """Return a created request; ``answer`` may be another."""
    record = record_of(sample("relay-outcome")["Records"][0]["dynamodb"]["NewImage"])
    return replace(record, id=f"r{number}", **changes)


def open_(number: int = 1, due: int | None = NOW, version: int = 1) -> Record:
    """Return an open request that is due then."""
    return replace(
        settled(number), state=State.RECEIVED, version=version, due=due, answer=None, settled_at=None, expires=None
    )


def heavy(number: int, character: str) -> Record:
    """Return a created request with about 100,000 bytes of answer."""
    text = character * (100_000 // len(character.encode()))
    answer = json.dumps({"serviceId": "s", "name": "shop-main", "note": text}, ensure_ascii=False)
    return settled(number, answer=answer)


# --- what goes where ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_open_ones_are_queued_and_the_others_announced(state: State, rig: Rig) -> None:
    """A pointer for what the bridge still works on, an event for what is settled or given up; never both."""
    problem = Problem("outcome-unknown", "no") if state is State.FAILED else Problem("closed", "no")
    record = replace(settled(), state=state, due=NOW, problem=problem, gave_up=2)
    rig.relay.put([record])
    assert (len(rig.queues.taken), len(rig.events.taken)) == ((1, 0) if state.open else (0, 1))
    expected = {"created": ["r1.created"], "rejected": ["r1.rejected"], "failed": ["r1.failed-2"]}
    assert rig.announced == expected.get(state, [])


def test_a_pointer_names_the_request_and_the_version(rig: Rig) -> None:
    """Whoever reads it drops it if the request has gone on meanwhile."""
    rig.relay.put([open_(version=7)])
    (entry,) = rig.queues.taken
    assert json.loads(entry["MessageBody"]) == {"kind": "work", "request_id": "r1", "version": 7}


@pytest.mark.parametrize(
    ("due", "delay"),
    [
        (NOW, 0),
        (NOW - 60 * SECOND, 0),
        (NOW + 1, 1),
        (NOW + 1000, 1),
        (NOW + 1001, 2),
        (NOW + 899_001, 900),
        (NOW + 900 * SECOND, 900),
        (NOW + 3600 * SECOND, 900),
        (None, 0),
    ],
)
def test_a_pointer_comes_when_it_is_due(due: int | None, delay: int, rig: Rig) -> None:
    """Never early (a second begun counts whole), and no later than SQS can delay."""
    rig.relay.put([open_(due=due)])
    assert rig.queues.taken[0]["DelaySeconds"] == delay


def test_the_sample_record_is_announced(rig: Rig) -> None:
    """The event as the bus gets it: source, kind, time and bus."""
    rig.relay.put([record_of(sample("relay-outcome")["Records"][0]["dynamodb"]["NewImage"])])
    (entry,) = rig.events.taken
    assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == (
        "aitems.bridge",
        "AiTEMS Service Created",
        "bus",
    )
    assert entry["Resources"] == []
    assert entry["Time"].isoformat() == "2026-11-23T19:38:25.304000+00:00"
    assert rig.announced == [f"{REQUEST_ID}.created"]


def test_nothing_is_nothing(rig: Rig) -> None:
    """An empty batch calls nobody."""
    rig.relay.put([])
    assert rig.events.calls == rig.queues.calls == []


def test_batches_of_ten(rig: Rig) -> None:
    """Both services take ten entries a call; order is kept; two writes of one request may stand in one call."""
    rig.relay.put([settled(number) for number in range(23)] + [open_(1, version=v) for v in range(1, 13)])
    assert [len(call) for call in rig.events.calls] == [10, 10, 3]
    assert [len(call) for call in rig.queues.calls] == [10, 2]
    assert rig.announced == [f"r{number}.created" for number in range(23)]
    assert [json.loads(entry["MessageBody"])["version"] for entry in rig.queues.taken] == list(range(1, 13))


@pytest.mark.parametrize("character", ["x", "가", "\N{GRINNING FACE}"])
def test_batches_by_size(character: str, rig: Rig) -> None:
    """One call takes 256 KiB, and that is bytes: Korean text weighs three times what it counts."""
    rig.relay.put([heavy(number, character) for number in range(5)])
    assert len(rig.announced) == 5
    for call in rig.events.calls:
        assert sum(len(entry["Detail"].encode()) + 100 for entry in call) <= QUARTER_MEGABYTE
    assert [len(call) for call in rig.events.calls] == [2, 2, 1]


# --- what is refused ----------------------------------------------------------------------------------------------


def test_refused_entries_are_tried_again_alone(rig: Rig) -> None:
    """A 200 may refuse some of its entries: only those are put again, each by itself."""
    refusals = iter(["ThrottlingException"])
    rig.events.judge = lambda entry: next(refusals, None) if '"r1"' in entry["Detail"] else None
    rig.relay.put([settled(number) for number in range(3)])
    assert [len(call) for call in rig.events.calls] == [3, 1]
    assert sorted(rig.announced) == ["r0.created", "r1.created", "r2.created"]
    assert len(rig.naps) == 1
    assert rig.given_away == []


def test_refused_pointers_are_tried_again_alone(rig: Rig) -> None:
    """The same for the queue."""
    refusals = iter([("InternalError", False)])
    rig.queues.judge = lambda entry: next(refusals, None) if '"r1"' in entry["MessageBody"] else None
    rig.relay.put([open_(number) for number in range(3)])
    assert [len(call) for call in rig.queues.calls] == [3, 1]
    assert len(rig.queues.taken) == 3


def test_what_can_never_succeed_is_given_away(rig: Rig) -> None:
    """A refusal for good goes to the failure queue with the request's id, once, and blocks nobody."""
    rig.events.judge = lambda entry: "MalformedDetail" if '"r1"' in entry["Detail"] else None
    rig.queues.judge = lambda entry: ("InvalidMessageContents", True) if '"r4"' in entry["MessageBody"] else None
    rig.relay.put([settled(0), settled(1), settled(2), open_(3), open_(4)])
    assert rig.given_away == [("r4", "SQS: InvalidMessageContents"), ("r1", "EventBridge: MalformedDetail")]
    assert rig.announced == ["r0.created", "r2.created"]
    assert all(item["kind"] == "relay-failure" for item in rig.queues.given_away)


def test_it_raises_only_when_something_is_left(rig: Rig) -> None:
    """What was put stays put; the batch comes again for the rest, which is harmless for what was put."""
    rig.events.judge = lambda entry: "ServiceUnavailable" if '"r1"' in entry["Detail"] else None
    with pytest.raises(NotRelayed, match="1 of 3"):
        rig.relay.put([settled(number) for number in range(3)])
    assert rig.announced == ["r0.created", "r2.created"]
    assert rig.given_away == []
    assert len(rig.events.calls) == 3


@pytest.mark.parametrize(
    "fault",
    [
        error("ThrottlingException"),
        error("InternalException"),
        error("AccessDeniedException"),
        EndpointConnectionError(endpoint_url="https://events"),
    ],
)
def test_a_call_that_fails_whole(fault: Exception, rig: Rig) -> None:
    """Nothing more is tried of a service that is away; one's trouble does not keep the other from its share."""

    def judge(_: Json) -> str | None:
        raise fault

    rig.events.judge = judge
    with pytest.raises(NotRelayed, match="12 of 13"):
        rig.relay.put([*(settled(number) for number in range(12)), open_(13)])
    assert len(rig.events.calls) == 1
    assert len(rig.queues.taken) == 1
    assert rig.given_away == []


def test_what_follows_a_refused_announcement_waits_with_it(rig: Rig) -> None:
    """The announcements of one request keep their order: no later one is put before an earlier one was taken."""
    rig.events.judge = lambda entry: "InternalFailure" if ".failed-1" in entry["Detail"] else None
    failed = settled(1, state=State.FAILED, gave_up=1, answer=None, problem=Problem("closed", "by hand"))
    with pytest.raises(NotRelayed, match="2 of 3"):
        rig.relay.put([failed, settled(1), settled(2)])
    assert rig.announced == ["r2.created"]
    rig.events.judge = lambda _: None
    rig.relay.put([failed, settled(1), settled(2)])
    assert rig.announced == ["r2.created", "r1.failed-1", "r1.created", "r2.created"]


def test_one_entry_that_spoils_the_whole_call(rig: Rig) -> None:
    """EventBridge refuses a call for one entry's sake: tried alone, the others pass and the one is given away."""

    def judge(entry: Json) -> str | None:
        if '"r1"' in entry["Detail"]:
            raise error("ValidationException")
        return None

    rig.events.judge = judge
    rig.relay.put([settled(number) for number in range(3)])
    assert sorted(rig.announced) == ["r0.created", "r2.created"]
    assert rig.given_away == [("r1", "EventBridge: ValidationException")]


def test_a_queue_that_is_down_leaves_its_batch(rig: Rig) -> None:
    """Pointers that were not put come again with the batch; the outcomes of the batch are announced all the same."""

    def judge(_: Json) -> None:
        raise error("ServiceUnavailable", "SendMessageBatch")

    rig.queues.judge = judge
    with pytest.raises(NotRelayed, match="1 of 2"):
        rig.relay.put([open_(1), settled(2)])
    assert rig.announced == ["r2.created"]


# --- the function -------------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Give what the function finds in its environment."""
    relay._relay.cache_clear()  # noqa: SLF001  # as a new process would
    with running(monkeypatch) as aws:
        for name, value in {"EVENT_BUS": "bus", "QUEUE_URL": "queue", "RELAY_FAILURES_URL": "failures"}.items():
            monkeypatch.setenv(name, value)
        yield aws
    relay._relay.cache_clear()  # noqa: SLF001  # as above


def change(image: Json | None, *, key: str = "request#r1", name: str = "MODIFY") -> Json:
    """Return a record of the stream."""
    record: Json = sample("relay-outcome")["Records"][0]
    record["eventName"] = name
    record["dynamodb"]["Keys"] = {"pk": {"S": key}}
    del record["dynamodb"]["NewImage"]
    if image is not None:
        record["dynamodb"]["NewImage"] = image
    return record


def given_away(aws: Aws) -> list[tuple[str, str]]:
    """Return what stands in the failure queue: request and reason."""
    bodies = [json.loads(call["MessageBody"]) for call in aws.of("SendMessage")]
    return [(body["request_id"], body["why"]) for body in bodies]


def test_the_sample_invocation(aws: Aws) -> None:
    """One outcome in the stream is one event on the bus."""
    relay.handler(sample("relay-outcome"), None)
    (call,) = aws.of("PutEvents")
    assert json.loads(call["Entries"][0]["Detail"])["metadata"]["event_id"] == f"{REQUEST_ID}.created"


def test_what_is_no_news_is_passed_over(aws: Aws) -> None:
    """Names and services have no state, and what DynamoDB forgets was announced long ago."""
    image = image_of(settled())
    changes = [
        change({"pk": {"S": "name#shop-main"}, "holder": {"S": "r1"}}, key="name#shop-main"),
        change({"pk": {"S": "service#s"}, "request": {"S": "r1"}}, key="service#s", name="INSERT"),
        change(None, name="REMOVE"),
        change(image, name="REMOVE"),
    ]
    relay.handler({"Records": changes}, None)
    assert aws.calls == []


def test_an_outcome_that_is_new_counts_too(aws: Aws) -> None:
    """An invalid event's record is inserted as rejected: it never was anything else."""
    image = image_of(replace(settled(), state=State.REJECTED, problem=Problem("closed", "no"), command=None))
    relay.handler({"Records": [change(image, name="INSERT")]}, None)
    assert len(aws.of("PutEvents")) == 1


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"state": {"S": "somethingNew"}},
        {"state": {"N": "1"}},
        {"version": {"N": "x"}},
        {"command": {"S": "{"}},
        {"last": {"S": "null"}},
        {"problem": {"S": "[]"}},
        {"clock": {"S": "7"}},
        {"settled_at": {"N": "1" + "0" * 20}},
        {"requested_at": {"N": "-" + "9" * 37}},
        {"command": {"S": "[" * 20_000 + "]" * 20_000}},
        {"answer": None},
        {"state": {"S": "rejected"}, "problem": {"S": '{"type": "urn:aitems-bridge:problem:new", "detail": "d"}'}},
    ],
)
def test_a_record_that_cannot_be_used_is_given_away(broken: Json | None, aws: Aws) -> None:
    """Written by another version or by hand: somebody has to look, and the rest of the batch goes on."""
    image = {**image_of(settled()), **broken} if broken else broken
    relay.handler({"Records": [change(image), change(image_of(settled(2)), key="request#r2")]}, None)
    assert [request for request, _ in given_away(aws)] == ["r1"]
    (call,) = aws.of("PutEvents")
    assert '"r2"' in call["Entries"][0]["Detail"]


def test_what_is_left_has_the_batch_repeated(aws: Aws) -> None:
    """The function fails only then."""

    def refuse(_: Json) -> Json:
        raise Refusal("AccessDeniedException")

    aws.rules["PutEvents"] = refuse
    with pytest.raises(NotRelayed):
        relay.handler({"Records": [change(image_of(settled()))]}, None)
