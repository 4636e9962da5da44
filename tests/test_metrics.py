"""What is counted, and what the logs say: counted from outside, in what the functions wrote."""

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aitems_bridge import metrics, relay
from aitems_bridge.aitems import AiTEMS
from aitems_bridge.bridge import Bridge, Invocation, Order, fingerprint
from aitems_bridge.errors import Misconfigured
from aitems_bridge.ledger import image_of
from aitems_bridge.ncp import Keys
from aitems_bridge.record import SECOND, Numbers, Record, State, again
from aitems_local import operate, senders
from aitems_local.faults import Fault
from aitems_local.stack import Stack, load_template
from contract import RECORDS
from observed import FUNCTIONS, counted, documents, emitted, measured
from world import KEYS, NOW, World, post

Json = dict[str, Any]
Capture = pytest.CaptureFixture[str]

ROOT = Path(__file__).parents[1]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text("utf-8")
TEMPLATE = load_template()
ALARMS = {
    name: each["Properties"]
    for name, each in TEMPLATE["Resources"].items()
    if each["Type"] == "AWS::CloudWatch::Alarm"
}  # fmt: skip
PATIENCE = 30


# --- a line -------------------------------------------------------------------------------------------------------


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> str:
    """Have metrics written down, as in a function of the template."""
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "AitemsBridge")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "my-bridge")
    return "AitemsBridge"


def test_a_line_is_in_the_embedded_format(namespace: str, capsys: Capture) -> None:
    """One directive, the one dimension, each metric with its unit and value; the request stands beside them."""
    before = time.time_ns() // 1_000_000
    metrics.put("r1", Created=1, TimeToOutcome=2.5)
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert before <= document["_aws"].pop("Timestamp") <= time.time_ns() // 1_000_000
    names = [{"Name": "Created", "Unit": "Count"}, {"Name": "TimeToOutcome", "Unit": "Milliseconds"}]
    directive = {"Namespace": namespace, "Dimensions": [["service"]], "Metrics": names}
    assert document == {
        "_aws": {"CloudWatchMetrics": [directive]},
        "service": "my-bridge",
        "request_id": "r1",
        "Created": 1,
        "TimeToOutcome": 2.5,
    }


@pytest.mark.usefixtures("namespace")
def test_no_value_is_negative(capsys: Capture) -> None:
    """An outcome that by another machine's clock came before its request took no time."""
    metrics.put(TimeToOutcome=-3, OpenAge=-0.5)
    assert [point.value for point in emitted(capsys.readouterr().out.splitlines())] == [0, 0]


def test_without_a_namespace_nothing_is_written(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """What uses our code elsewhere, the command line for one, prints nothing of the kind."""
    monkeypatch.delenv("POWERTOOLS_METRICS_NAMESPACE", raising=False)
    metrics.put(Created=1)
    assert capsys.readouterr().out == ""


class Broken:
    """A standard output that is gone."""

    def write(self, _: str) -> int:
        """Fail, as a closed pipe does."""
        raise BrokenPipeError


@pytest.mark.usefixtures("namespace")
def test_no_number_makes_a_function_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an output that is gone, nor a value that is none, nor a metric that there is not."""
    values: Any = {"Created": object()}
    metrics.put(**values)
    metrics.put(NoSuchMetric=1)
    monkeypatch.setattr(sys, "stdout", Broken())
    metrics.put(Created=1)


def test_threads_do_not_break_each_others_lines() -> None:
    """The worker attends to ten messages at once, and a line that is two in one is two metrics less."""
    code = """
import threading
from aitems_bridge import metrics
def count():
    for _ in range(500):
        metrics.put("r", Replayed=1)
threads = [threading.Thread(target=count) for _ in range(10)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    environment = {"PYTHONPATH": str(ROOT / "src"), "POWERTOOLS_METRICS_NAMESPACE": "N", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603  # ours
    assert sum(point.value for point in emitted(done.stdout.splitlines())) == 5000


# --- names --------------------------------------------------------------------------------------------------------


def named_in_code() -> set[str]:
    """Return the metrics that the shipped sources write down: the names at each `put`, and the relay's own."""
    found: set[str] = set()
    for module in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "metrics.put":
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
            if isinstance(node, ast.FunctionDef) and node.name == "measures":
                texts = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
                found |= {text for text in texts if text in metrics.UNITS} | {"Created", "Rejected"}
    return found


def on_the_dashboard() -> Iterator[tuple[str, str, str, str]]:
    """Yield namespace, name, dimension and value of each metric on the dashboard, shorthand written out."""
    body, _ = TEMPLATE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for widget in json.loads(body)["widgets"]:
        before: list[str] = []
        for row in widget["properties"]["metrics"]:
            given = [part for part in row if isinstance(part, str)]
            if given[0] == "...":
                given = [*before[: len(before) - len(given) + 1], *given[1:]]
            before = [old if part == "." else part for part, old in zip(given, before or given, strict=True)]
            yield before[0], before[1], before[2], before[3]


def test_every_metric_is_written_by_somebody() -> None:
    """A name with a typing error would count nothing, and say nothing."""
    assert named_in_code() == set(metrics.UNITS)


def test_alarms_and_dashboard_look_at_metrics_that_are_written() -> None:
    """Each of ours is looked at in the namespace and by the dimension that it is written with; none is forgotten."""
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]
    namespace, service = variables["POWERTOOLS_METRICS_NAMESPACE"], variables["POWERTOOLS_SERVICE_NAME"]
    assert service == {"Ref": "AWS::StackName"}
    ours = [alarm for alarm in ALARMS.values() if not alarm["Namespace"].startswith("AWS/")]
    assert all(alarm["Namespace"] == namespace for alarm in ours)
    assert all(alarm["Dimensions"] == [{"Name": "service", "Value": service}] for alarm in ours)
    assert {alarm["MetricName"] for alarm in ours} <= set(metrics.UNITS)
    shown = [row for row in on_the_dashboard() if not row[0].startswith("AWS/")]
    assert {(row[0], row[2], row[3]) for row in shown} == {(namespace, "service", "${AWS::StackName}")}
    assert {row[1] for row in shown} == set(metrics.UNITS)


def test_the_dashboard_begins_with_the_requests() -> None:
    """What a person asks first stands first: how many in which state, and how old the oldest is."""
    body, _ = TEMPLATE["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    titles = [widget["properties"]["title"] for widget in json.loads(body)["widgets"]]
    assert titles[:2] == ["Requests by state", "Age of the oldest request (s)"]


# --- the runbook --------------------------------------------------------------------------------------------------


def test_every_alarm_has_its_chapter() -> None:
    """Who is woken finds what it means and what to do, under the alarm's own name; and nothing of another."""
    linked = set(re.findall(r"\[(\w+)\]\(#\w+alarm\)", RUNBOOK.partition("\n### ")[0]))
    assert linked == set(ALARMS)
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == set(ALARMS)
    assert ("eighteen alarms" in RUNBOOK, "all fifteen" in RUNBOOK) == (len(ALARMS) == 18, len(metrics.UNITS) == 15)
    for name, alarm in ALARMS.items():
        assert alarm["AlarmDescription"].endswith(f"(docs/operations.md, {name})")


@pytest.mark.parametrize("name", ALARMS)
def test_a_chapter_says_when(name: str) -> None:
    """The metric, the statistic, the time and the threshold in the runbook are those of the template."""
    alarm = ALARMS[name]
    (dimension,) = alarm["Dimensions"]
    value = dimension["Value"]
    whose = "" if value == {"Ref": "AWS::StackName"} else f" of `{value.get('Ref') or value['Fn::GetAtt'][0]}`"
    over = f"{alarm['Statistic'].lower()} over {alarm['Period'] // 60} min"
    than = {"GreaterThanThreshold": "above", "GreaterThanOrEqualToThreshold": "at least"}[alarm["ComparisonOperator"]]
    periods = alarm["EvaluationPeriods"]
    times = f", in {alarm.get('DatapointsToAlarm', periods)} of {periods}" if periods > 1 else ""
    said = f"`{alarm['MetricName']}`{whose}: {over}, {than} {alarm['Threshold']}{times}."
    assert said == RUNBOOK.partition(f"### {name}\n\n")[2].partition("\n")[0]


def test_every_metric_is_explained() -> None:
    """The table of metrics has each of them, with its unit."""
    table = RUNBOOK.partition("## Metrics")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE)) == metrics.UNITS


def test_no_alarm_waits_too_long() -> None:
    """An age is looked at over two of the longest pauses between looks, and long before the request is given up."""
    backoff = 900
    give_up = TEMPLATE["Parameters"]["GiveUpAfterMinutes"]["Default"] * 60
    for name in ("OpenAgeAlarm", "UnknownAgeAlarm"):
        assert ALARMS[name]["Period"] >= 2 * backoff
        assert ALARMS[name]["Threshold"] + ALARMS[name]["Period"] <= give_up / 2
    visibility = TEMPLATE["Resources"]["Queue"]["Properties"]["VisibilityTimeout"]
    assert ALARMS["QueueAgeAlarm"]["Threshold"] > backoff + visibility
    assert ALARMS["RelayLagAlarm"]["Threshold"] == 300 * SECOND
    assert all(alarm["TreatMissingData"] == "notBreaching" for alarm in ALARMS.values())


# --- what the relay counts ----------------------------------------------------------------------------------------

CREATED, REJECTED, FAILED = (RECORDS[name][0] for name in ("created", "rejected by AiTEMS", "failed"))
OPEN = replace(CREATED, version=5, answer=None, service_id=None, settled_at=None, expires=None, problem=None)
CREATING = replace(OPEN, version=4, state=State.CREATING)
THEN = OPEN.requested_at


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, replace(OPEN, state=State.RECEIVED), {}),
        (None, replace(OPEN, state=State.CREATING), {}),
        (None, replace(REJECTED, version=1, requested_at=THEN, settled_at=THEN), {"Rejected": 1, "TimeToOutcome": 0}),
        (CREATING, replace(CREATED, version=5, settled_at=THEN + 40), {"Created": 1, "TimeToOutcome": 40}),
        (
            CREATING,
            replace(CREATED, version=5, settled_at=THEN + 40, adopted=True),
            {"Created": 1, "Adopted": 1, "TimeToOutcome": 40},
        ),
        (CREATING, replace(FAILED, version=5), {"Failed": 1}),
        (
            CREATING,
            replace(OPEN, state=State.UNKNOWN, sent_at=THEN + 4000),
            {"Unknown": 1, "OpenAge": 10, "UnknownAge": 6},
        ),
        (
            replace(OPEN, version=4, state=State.UNKNOWN),
            replace(OPEN, state=State.UNKNOWN, sent_at=THEN + 4000),
            {"OpenAge": 10, "UnknownAge": 6},
        ),
        (replace(OPEN, version=4, state=State.UNKNOWN), replace(OPEN, state=State.CREATING), {}),
        (CREATING, replace(OPEN, state=State.RECEIVED), {"OpenAge": 10}),
        (replace(OPEN, version=4, state=State.RECEIVED), replace(OPEN, state=State.RECEIVED), {"OpenAge": 10}),
        (replace(FAILED, version=4), replace(OPEN, state=State.UNKNOWN, sent_at=THEN), {}),
        (replace(FAILED, version=4), replace(OPEN, state=State.RECEIVED), {}),
        (CREATED, again(CREATED), {}),
        (FAILED, again(FAILED), {}),
    ],
)
def test_a_write_counts_for_what_it_changed(before: Record | None, after: Record, expected: Json) -> None:
    """An outcome once, a send in doubt once, an age at each look; what is only said again counts for nothing."""
    assert relay.measures(after, before, THEN + 10 * SECOND) == expected


def change(record: Record, before: Record | None) -> Json:
    """Return a record of the table's stream."""
    images = {"NewImage": image_of(record)} | ({"OldImage": image_of(before)} if before else {})
    return {"eventName": "MODIFY", "dynamodb": {"Keys": {"pk": {"S": f"request#{record.id}"}}, **images}}


@pytest.mark.usefixtures("namespace")
def test_a_batch_that_is_repeated_counts_once(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Nothing is counted before all of the batch is passed on: the bus is away twice, and then takes it."""

    class Away:
        """A relay whose first two tries are in vain."""

        tries = 0

        def put(self, _: object) -> None:
            """Raise twice."""
            self.tries += 1
            if self.tries < 3:
                raise relay.NotRelayed

        def now(self) -> int:
            """Return the time."""
            return NOW

    away = Away()
    monkeypatch.setattr(relay, "_relay", lambda: away)
    event = {"Records": [change(replace(CREATED, version=5), CREATING)]}
    for _ in range(2):
        with pytest.raises(relay.NotRelayed):
            relay.handler(event, None)
    assert capsys.readouterr().out == ""
    relay.handler(event, None)
    assert [point.name for point in emitted(capsys.readouterr().out.splitlines())] == ["Created", "TimeToOutcome"]


# --- what a door and the use case count ---------------------------------------------------------------------------


def values(capsys: Capture, name: str) -> list[float]:
    """Return what was written down of a metric since the last time."""
    return [point.value for point in emitted(capsys.readouterr().out.splitlines()) if point.name == name]


@pytest.mark.usefixtures("namespace")
def test_keys_refused_is_counted_at_each_call(capsys: Capture) -> None:
    """Once for the creation, once for each look: as often as AiTEMS was asked in vain."""
    with World() as world:
        world.worker_runs = False
        world.emulator.add_faults(Fault("error_before", status=401, times=None))
        world.answer(post({"name": "shop-main"}))
        assert values(capsys, "KeysRefused") == [1]
        world.clock.advance(60)
        world.work()
        assert values(capsys, "KeysRefused") == [1]


@pytest.mark.usefixtures("namespace")
def test_keys_that_are_not_there_are_refused_keys(capsys: Capture) -> None:
    """A secret that was never filled in wakes the same person."""
    with World() as world:
        aitems = AiTEMS(world.emulator.url, _no_keys, now=world.clock)
        bridge = Bridge(world.bridge.ledger, aitems, world.clock)
        record, _ = bridge.open(order("shop-main"), world.invocation())
        out = emitted(capsys.readouterr().out.splitlines())
        assert [(point.name, point.value) for point in out] == [("KeysRefused", 1)]
        assert record.state is State.RECEIVED


def _no_keys(_: bool) -> tuple[Keys, bool]:
    raise Misconfigured("The keys secret is not filled in yet: put the Sub Account's keys there.")


def order(name: str) -> Order:
    """Return a request as a door hands it over."""
    command = {"name": name, "description": "", "type": "batch"}
    return Order("standard", "hook:backoffice", name, "backoffice", command, fingerprint(command))


@pytest.mark.usefixtures("namespace")
def test_latency_is_that_of_what_was_sent(capsys: Capture) -> None:
    """An answer that took its time is measured; a connection that was refused is none, and neither is a look."""
    with World() as world:
        world.emulator.add_faults(Fault("slow_answer", seconds=0.3))
        world.answer(post({"name": "shop-main"}))
        (took,) = values(capsys, "UpstreamLatency")
        assert 300 <= took < 3000
        nobody = AiTEMS("http://127.0.0.1:1", lambda _: (KEYS, True), now=world.clock)
        Bridge(world.bridge.ledger, nobody, world.clock).open(order("other"), world.invocation())
        assert values(capsys, "UpstreamLatency") == []
        late = Invocation(world.clock() + 5 * SECOND, world.clock() + 5 * SECOND)
        world.bridge.open(order("late"), late)
        assert values(capsys, "UpstreamLatency") == []


@pytest.mark.usefixtures("namespace")
def test_a_clock_that_differs_is_counted_once_a_service(capsys: Capture) -> None:
    """Each service that was made just now and says otherwise; those that agree count for nothing."""
    with World(utc_offset=0) as world:
        world.answer(post({"name": "shop-main"}))
        assert values(capsys, "ClockMismatch") == [1]
        world.emulator.configure(utc_offset=9 * 3600)
        world.answer(post({"name": "shop-two"}, key="another"))
        assert values(capsys, "ClockMismatch") == []


@pytest.mark.usefixtures("namespace")
def test_a_key_used_for_something_else_is_no_repetition(capsys: Capture) -> None:
    """The same again is replayed; the same key with another payload is not."""
    with World() as world:
        assert world.answer(post({"name": "shop-main"})).status == 201
        assert world.answer(post({"name": "shop-main"})).status == 201
        assert values(capsys, "Replayed") == [1]
        assert world.answer(post({"name": "shop-two"})).status == 422
        assert values(capsys, "Replayed") == []


# --- on the deployed stack ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bridge(stack: Stack) -> Iterator[Stack]:
    """Give a bridge that nobody else uses."""
    with stack.deploy("counted", parameters={"BackoffBaseSeconds": "1"}) as deployed:
        yield deployed


def eventually(what: Callable[[], object], expected: object) -> None:
    """Wait until something is as expected; the logs of a call are there only once it has ended."""
    deadline = time.monotonic() + PATIENCE
    while (found := what()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found == expected


def names(stack: Stack, request_id: str) -> dict[str, int]:
    """Return how often each metric was written down about a request."""
    return {metric: len(found) for metric, found in counted(stack, request_id).items()}


def test_a_creation_and_its_repetition(bridge: Stack, name: str) -> None:
    """One of each, and the times of the one; a repetition is one more, and changes nothing else."""
    sent = senders.webhook(bridge.document, senders.service(name))
    assert sent.send().status == 201
    once = {"UpstreamLatency": 1, "Created": 1, "TimeToOutcome": 1}
    eventually(lambda: names(bridge, sent.request_id), once)
    assert sent.send().replayed
    eventually(lambda: names(bridge, sent.request_id), {**once, "Replayed": 1})
    found = counted(bridge, sent.request_id)
    record = bridge.ledger.get(sent.request_id)
    assert record is not None
    assert record.settled_at is not None
    assert found["TimeToOutcome"] == [record.settled_at - record.requested_at]
    assert 0 <= found["UpstreamLatency"][0] <= found["TimeToOutcome"][0]
    # An operator has it announced again: that is said twice, and counted once.
    planned = operate.plan(record, record.settled_at, announce=True)
    operate.carry_out(bridge.ledger, planned, record.settled_at, Numbers())
    eventually(lambda: len(bridge.events(sent.request_id)), 2)
    eventually(lambda: said(bridge, "RelayFunction", sent.request_id), ["announced", "announced"])
    assert names(bridge, sent.request_id) == {**once, "Replayed": 1}


def test_a_refusal_and_what_never_was_a_request(bridge: Stack, name: str) -> None:
    """AiTEMS refuses the name: one rejection. An event that describes no service is one too, and was never sent."""
    bridge.aitems.add_faults(Fault("error_before", name=name, status=400, shape="flat", code="BAD_REQUEST"))
    sent = senders.webhook(bridge.document, senders.service(name))
    assert sent.send().status == 422
    eventually(lambda: names(bridge, sent.request_id), {"UpstreamLatency": 1, "Rejected": 1, "TimeToOutcome": 1})
    event = senders.bus_event(bridge.document, {"name": "1"}, key=name)
    event_id = event.send()
    request_id = event.orders(event_id)[0].request_id
    eventually(lambda: names(bridge, request_id), {"Rejected": 1, "TimeToOutcome": 1})
    event.send()
    eventually(lambda: names(bridge, request_id), {"Rejected": 1, "TimeToOutcome": 1, "Replayed": 1})


def test_a_send_in_doubt_that_is_found(bridge: Stack, name: str) -> None:
    """In doubt once, adopted once, created once; and nobody had to wait long to hear of it."""
    bridge.aitems.add_faults(Fault("reset_after", name=name))
    sent = senders.webhook(bridge.document, senders.service(name))
    assert sent.send().status == 202
    expected = {"UpstreamLatency", "Unknown", "OpenAge", "UnknownAge", "Created", "Adopted", "TimeToOutcome"}
    eventually(lambda: names(bridge, sent.request_id), dict.fromkeys(expected, 1))
    found = counted(bridge, sent.request_id)
    assert found["TimeToOutcome"][0] >= 5 * SECOND
    assert found["UnknownAge"][0] <= found["OpenAge"][0] < 5


def test_failed_and_revived(bridge: Stack, name: str) -> None:
    """Given up once; the sender's repetition is one, revives it, and ends in a creation."""
    event = senders.bus_event(bridge.document, senders.service(name), key=name)
    (dead,) = event.invocation()["Records"]
    bridge.cloud.sqs.send_message(QueueUrl=bridge.outputs["DeadLetterQueueUrl"], MessageBody=dead["body"])
    request_id = event.orders("")[0].request_id
    eventually(lambda: names(bridge, request_id), {"Failed": 1})
    event.send()
    expected = {"Failed": 1, "Replayed": 1, "UpstreamLatency": 1, "Created": 1, "TimeToOutcome": 1}
    eventually(lambda: names(bridge, request_id), expected)


def test_what_concerns_no_request(bridge: Stack, name: str) -> None:
    """Forged calls are counted one by one; a broken document once by the process that found it; a late reply once."""
    since = time.time()

    def found() -> dict[str, float]:
        totals: dict[str, float] = {}
        for point in measured(bridge, since):
            totals[point.name] = totals.get(point.name, 0) + point.value
        return totals

    sent = senders.webhook(bridge.document, senders.service(name))
    for _ in range(3):
        assert replace(sent, body=b"{}").send().status == 401
    late = {"kind": "say", "to": {"bot": "1", "user": "u"}, "text": "…", "at": 0}
    bridge.cloud.sqs.send_message(QueueUrl=bridge.outputs["RepliesQueueUrl"], MessageBody=json.dumps(late))
    eventually(found, {"SignatureRefused": 3, "ReplyLapsed": 1})
    callers = bridge.callers
    bridge.set_secret("CallersSecretArn", "[]")
    bridge.recycle()
    assert [sent.send().status for _ in range(2)] == [503, 503]
    bridge.set_callers(callers)
    bridge.recycle()
    eventually(found, {"SignatureRefused": 3, "CallersInvalid": 1, "ReplyLapsed": 1})


# --- logs ---------------------------------------------------------------------------------------------------------


def lines(stack: Stack, function: str) -> list[Json]:
    """Return what a function logged: neither the platform's lines nor metrics."""
    return [document for document in documents(stack.logs(function)) if "_aws" not in document]


def said(stack: Stack, function: str, request_id: str) -> list[str]:
    """Return a function's log messages about a request, in order."""
    return [line["message"] for line in lines(stack, function) if line.get("request_id") == request_id]


def test_one_id_leads_through_every_function(bridge: Stack, name: str) -> None:
    """From the door to the chat: who looks for a request in the logs finds it in all of them, and how long it took."""
    before = {function: len(lines(bridge, function)) for function in FUNCTIONS}
    sent = senders.delivery(bridge.document, "slack", {"name": name})
    assert sent.send().status == 200
    assert bridge.chats.wait(lambda message: message.to == sent.reply_to and name in message.text)
    (record,) = [record for record in bridge.ledger.scan() if record.name == name]
    for function, message in zip(FUNCTIONS, ("acknowledged", "attended", "announced", "replied"), strict=True):
        eventually(lambda: said(bridge, function, record.id), [message])  # noqa: B023  # called at once
    (attended,) = [line for line in lines(bridge, "WorkerFunction") if line.get("request_id") == record.id]
    assert (attended["level"], attended["state"], attended["attempts"]) == ("INFO", "created", 1)
    assert 0 <= attended["ms"] < 20_000
    # All that was logged meanwhile was about it: every line says so.
    new = [line for function in FUNCTIONS for line in lines(bridge, function)[before[function] :]]
    assert {line.get("request_id") for line in new} == {record.id}


def test_an_acknowledgement_that_is_a_message_bears_the_id_too(bridge: Stack, name: str) -> None:
    """NAVER WORKS is answered by messages alone: what is said at once can be found by the id, as the outcome can."""
    sent = senders.delivery(bridge.document, "works", {"name": name})
    assert sent.send().status == 200
    eventually(lambda: [record.state for record in bridge.ledger.scan() if record.name == name], [State.CREATED])
    (record,) = [record for record in bridge.ledger.scan() if record.name == name]
    eventually(lambda: sorted(said(bridge, "ReplyFunction", record.id)), ["replied", "said"])


def test_a_line_bears_its_own_request_id(bridge: Stack) -> None:
    """Ten messages attended to at once in one process, with one that cannot be read: no id stands in another's line."""
    asked = [
        senders.bus_event(bridge.document, senders.service(many), key=many) for many in map("many{}".format, range(9))
    ]
    for event in asked:
        event.send()
    bridge.cloud.sqs.send_message(QueueUrl=bridge.outputs["QueueUrl"], MessageBody="[")
    ids = {event.orders("")[0].request_id for event in asked}
    for request_id in ids:
        eventually(lambda: said(bridge, "WorkerFunction", request_id), ["attended"])  # noqa: B023  # called at once

    def unread() -> list[Json]:
        return [line for line in lines(bridge, "WorkerFunction") if line["message"] == "a message cannot be read"]

    eventually(lambda: len(unread()), 1)
    assert "request_id" not in unread()[0]
    bridge.cloud.sqs.purge_queue(QueueUrl=bridge.outputs["QueueUrl"])


def test_what_is_open_is_older_at_each_look(bridge: Stack, name: str) -> None:
    """The ages of one request only grow, so the highest is the last."""
    bridge.aitems.add_faults(Fault("status_only", name=name, status=429, times=2))
    sent = senders.webhook(bridge.document, senders.service(name))
    assert sent.send().status == 202
    eventually(lambda: names(bridge, sent.request_id).get("Created"), 1)
    ages = counted(bridge, sent.request_id)["OpenAge"]
    assert len(ages) == 2
    assert all(one < other for one, other in pairwise(ages))


def test_a_wrong_record_of_old_costs_a_number_only() -> None:
    """What stood there before decides nothing but what is counted: unreadable, it is as if there had been nothing."""
    broken = change(CREATED, None)
    broken["dynamodb"]["OldImage"] = {"pk": {"S": "request#x"}}
    assert relay._replaced(broken["dynamodb"]["OldImage"]) is None  # noqa: SLF001  # a part that fails quietly
