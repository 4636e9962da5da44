"""Every alarm goes off for its reason, and for nothing else: caused on the deployed stack, judged as deployed.

What an alarm asks for is taken from the deployed stack, never repeated here; `observed.py` says what stands in for
CloudWatch, and why.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from aitems_bridge.ledger import image_of
from aitems_local import senders
from aitems_local.faults import Fault
from aitems_local.journal import Announced
from aitems_local.stack import Stack, load_template
from observed import Point, deployed, documents, firing, is_breached, lasting, measured, observed, stream_age

HOUR = 3600
PATIENCE = 30

ALARMS = {
    name for name, each in load_template()["Resources"].items() if each["Type"] == "AWS::CloudWatch::Alarm"
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A bridge of which alarms tell, and when its story began."""

    stack: Stack
    topic_queue_url: str
    since: float

    def ask(self, name: str) -> senders.Answer:
        """Send a webhook, once; its key is the name's."""
        return senders.webhook(self.stack.document, senders.service(name), key=name).send()

    def wait(self, metric: str, many: int = 1) -> None:
        """Wait until a metric was written down so often."""
        deadline = time.monotonic() + PATIENCE
        while len(self.told(metric)) < many:
            assert time.monotonic() < deadline, f"no {metric}"
            time.sleep(0.05)

    def observed(self, *, http_errors: int = 0) -> list[Point]:
        """Return all that CloudWatch would know of the story."""
        return observed(self.stack, self.since, http_errors=http_errors)

    def put(self, resource: str, body: object) -> None:
        """Put a message into a queue."""
        self.stack.cloud.sqs.send_message(QueueUrl=self.stack.resources[resource], MessageBody=json.dumps(body))

    @contextmanager
    def secret(self, output: str, text: str) -> Iterator[None]:
        """Have a secret say something else, and each function read it."""
        right = self.stack.cloud.secrets.get_secret_value(SecretId=self.stack.outputs[output])["SecretString"]
        try:
            self.stack.set_secret(output, text)
            self.stack.recycle()
            yield
        finally:
            self.stack.set_secret(output, right)
            self.stack.recycle()

    @contextmanager
    def configured(self, function: str, **settings: Any) -> Iterator[None]:  # noqa: ANN401  # Lambda's own settings
        """Have a function configured otherwise."""
        name, functions = self.stack.resources[function], self.stack.cloud.functions
        found: Any = functions.get_function_configuration(FunctionName=name)
        functions.update_function_configuration(FunctionName=name, **settings)
        try:
            yield
        finally:
            functions.update_function_configuration(FunctionName=name, **{each: found[each] for each in settings})

    @contextmanager
    def nobody_reads(self, function: str) -> Iterator[None]:
        """Have a function get nothing from its queues."""
        functions, name = self.stack.cloud.functions, self.stack.resources[function]
        mappings = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
        for mapping in mappings:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            for mapping in mappings:
                functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    @contextmanager
    def forbidden(self, role: str, policy: str, sid: str) -> Iterator[None]:
        """Take a permission away."""
        iam, name = self.stack.cloud.iam, self.stack.resources[role]
        document: Any = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        left = [statement for statement in document["Statement"] if statement["Sid"] != sid]
        less = json.dumps({**document, "Statement": left})
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=less)
        try:
            yield
        finally:
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))

    def grown_old(self, name: str, metric: str, seconds: int) -> None:
        """Have a request been asked for, and sent, that much earlier, until that was noticed; then forget it."""
        then = {":then": {"N": str(round((time.time() - seconds) * 1000))}}
        where: Any = {"TableName": self.stack.outputs["LedgerTable"], "Key": self._key(name)}
        deadline = time.monotonic() + PATIENCE
        while max(point.value for point in self.told(metric)) < seconds:
            assert time.monotonic() < deadline, self.told(metric)
            # Time and again: who was just looking writes the request as it was.
            update = "SET requested_at = :then, sent_at = :then"
            self.stack.cloud.dynamodb.update_item(**where, UpdateExpression=update, ExpressionAttributeValues=then)
            time.sleep(0.2)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Have no such request, so that nothing more is heard of it."""
        self.stack.cloud.dynamodb.delete_item(TableName=self.stack.outputs["LedgerTable"], Key=self._key(name))

    def told(self, metric: str) -> list[Point]:
        """Return what was written down of a metric."""
        return [point for point in measured(self.stack, self.since) if point.name == metric]

    def _key(self, name: str) -> Any:  # noqa: ANN401  # DynamoDB's own notation
        return {"pk": {"S": f"request#{senders.webhook(self.stack.document, {}, key=name).request_id}"}}


@pytest.fixture(scope="module")
def bridge(stack: Stack) -> Iterator[tuple[Stack, str]]:
    """Give a bridge with short times, and the queue that hears of its alarms."""
    sns = stack.cloud.session.client("sns", endpoint_url=stack.cloud.endpoint)
    topic = sns.create_topic(Name="wake-somebody")["TopicArn"]
    url = stack.cloud.sqs.create_queue(QueueName="somebody")["QueueUrl"]
    arn = stack.cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sender = {"Service": "sns.amazonaws.com"}
    allow = {"Effect": "Allow", "Principal": sender, "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    stack.cloud.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    parameters = {"BackoffBaseSeconds": "1", "QuietSeconds": "0", "LeaseMarginSeconds": "1", "AlarmTopicArn": topic}
    with stack.deploy("alarms", parameters=parameters) as deployed_bridge:
        yield deployed_bridge, url


@pytest.fixture
def place(bridge: tuple[Stack, str]) -> Iterator[Place]:
    """Give the bridge at the beginning of a story; whatever that leaves in queues and faults is gone afterwards."""
    stack, url = bridge
    time.sleep(0.002)
    yield Place(stack, url, time.time())
    stack.aitems.clear_faults()
    for resource in ("DeadLetterQueue", "RelayFailures", "RuleDeadLetterQueue", "RepliesDeadLetterQueue"):
        stack.cloud.sqs.purge_queue(QueueUrl=stack.resources[resource])


def requested_at(event: Announced) -> float:
    """Return when a request came (seconds since the epoch), by its announcement."""
    return datetime.fromisoformat(event.metadata["requested_at"]).timestamp()


# --- nothing is wrong ---------------------------------------------------------------------------------------------


def test_no_alarm_goes_off_for_what_is_usual(place: Place, name: str) -> None:
    """Creations by each door, repetitions, a refusal, a stranger, a send in doubt that is found: nobody is woken."""
    stack = place.stack
    stack.aitems.add_faults(Fault("reset_after", name=f"{name}doubt"))
    assert [place.ask(name).status, place.ask(name).status, place.ask(f"{name}doubt").status] == [201, 201, 202]
    assert senders.webhook(stack.document, senders.service(name), key=f"{name}2").send().status == 422
    forged = senders.webhook(stack.document, senders.service(name))
    assert replace(forged, body=forged.body + b" ").send().status == 401
    slack = senders.delivery(stack.document, "slack", {"name": f"{name}chat"})
    slack.send()
    senders.bus_event(stack.document, senders.service(f"{name}bus"), key=name).send()
    event = stack.event(idempotency_key=name, channel="bus")
    assert stack.event(idempotency_key=f"{name}doubt").metadata["adopted"]
    assert stack.chats.wait(lambda message: f"{name}chat" in message.text and message.to == slack.reply_to)
    place.wait("Created", 4)
    points = [*place.observed(), stream_age(stack, 1000 * (event.arrived - requested_at(event)))]
    assert {"Created", "Rejected", "Adopted", "Unknown", "Replayed", "UnknownAge"} <= {point.name for point in points}
    assert firing(stack, points) == set()


# --- and what is wrong for each -----------------------------------------------------------------------------------


def forged(place: Place, name: str) -> list[Point]:
    """Somebody knocks who has no secret."""
    sent = senders.webhook(place.stack.document, senders.service(name))
    for _ in range(10):
        assert replace(sent, body=sent.body + b" ").send().status == 401
    return place.observed()


def unreadable_callers(place: Place, name: str) -> list[Point]:
    """The callers document was broken by hand, and a process finds it."""
    with place.secret("CallersSecretArn", "{"):
        statuses = [place.ask(name).status for _ in range(3)]
    assert statuses == [503] * 3
    return place.observed(http_errors=len(statuses))


def shut_ledger(place: Place, name: str) -> list[Point]:
    """The webhook lost the right to write into the ledger; its log says for which request."""
    with place.forbidden("WebhookRole", "webhook", "Ledger"):
        place.stack.recycle()
        assert [place.ask(name).status for _ in range(3)] == [503] * 3
    place.stack.recycle()
    lines = [line for line in documents(place.stack.logs()) if line.get("message") == "not recorded"]
    request_id = senders.webhook(place.stack.document, {}, key=name).request_id
    assert [(line["request_id"], line["cause"]) for line in lines] == [(request_id, "AccessDeniedException")] * 3
    return place.observed(http_errors=3)


def wrong_keys(place: Place, name: str) -> list[Point]:
    """AiTEMS knows other keys; the request waits, and each try says so."""
    with place.secret("KeysSecretArn", '{"access_key":"AK_OLD","secret_key":"SK_OLD"}'):
        assert place.ask(name).status == 202
        place.wait("KeysRefused")
        place.forget(name)
    return place.observed()


def waiting_for_long(place: Place, name: str) -> list[Point]:
    """AiTEMS throttles for an hour."""
    place.stack.aitems.add_faults(Fault("status_only", name=name, status=429, times=None))
    assert place.ask(name).status == 202
    place.wait("OpenAge")
    place.grown_old(name, "OpenAge", HOUR + 60)
    return place.observed()


def in_doubt_for_long(place: Place, name: str) -> list[Point]:
    """The answer to a creation was lost, and AiTEMS cannot be read for a quarter of an hour."""
    place.stack.aitems.add_faults(
        Fault("reset_before", name=name), Fault("error_before", on="list", status=503, times=None)
    )
    assert place.ask(name).status == 202
    place.wait("UnknownAge")
    place.grown_old(name, "UnknownAge", HOUR // 4 + 60)
    return place.observed()


def given_up(place: Place, name: str) -> list[Point]:
    """A request could not be worked on ten times: its message ended among the dead letters."""
    (record,) = senders.bus_event(place.stack.document, senders.service(name)).invocation()["Records"]
    place.put("DeadLetterQueue", json.loads(record["body"]))
    place.wait("Failed")
    return place.observed()


def no_worker(place: Place, name: str) -> list[Point]:
    """The worker gets nothing, neither requests nor dead letters."""
    with place.nobody_reads("WorkerFunction"):
        place.put("DeadLetterQueue", {"kind": "work", "request_id": name, "version": 1})
        place.put("Queue", {"kind": "work", "request_id": name, "version": 1})
        return place.observed()


def unusable_record(place: Place, name: str) -> list[Point]:
    """The ledger holds something that no outcome can be made of."""
    item: Any = {"pk": {"S": f"request#{name}"}, "state": {"S": "created"}}
    place.stack.cloud.dynamodb.put_item(TableName=place.stack.outputs["LedgerTable"], Item=item)
    deadline = time.monotonic() + PATIENCE
    while not place.stack.queued("RelayFailuresUrl") and time.monotonic() < deadline:
        time.sleep(0.05)
    return place.observed()


def undelivered_event(place: Place, name: str) -> list[Point]:
    """EventBridge could not put a request into the queue (the local cloud never does this by itself)."""
    place.put("RuleDeadLetterQueue", {"detail": {"name": name}})
    return place.observed()


def untold_chat(place: Place, name: str) -> list[Point]:
    """A chat refused its message four times (which takes too long to be waited for)."""
    place.put("RepliesDeadLetterQueue", {"kind": "reply", "request_id": name})
    return place.observed()


def mute_relay(place: Place, name: str) -> list[Point]:
    """The relay lost the right to announce, and tries in vain."""
    stack = place.stack
    with place.forbidden("RelayRole", "relay", "Announce"):
        stack.recycle()
        assert place.ask(name).status == 201
        record = stack.ledger.get(senders.webhook(stack.document, {}, key=name).request_id)
        assert record is not None
        assert record.settled_at is not None
        image = image_of(record)
        change = {"eventName": "MODIFY", "dynamodb": {"Keys": {"pk": image["pk"]}, "NewImage": image}}
        function = stack.resources["RelayFunction"]
        answer = stack.cloud.functions.invoke(FunctionName=function, Payload=json.dumps({"Records": [change]}).encode())
        assert "could not be put" in answer["Payload"].read().decode()
        points = [*place.observed(), stream_age(stack, time.time() * 1000 - record.settled_at)]
    stack.recycle()
    stack.event(idempotency_key=name)
    return points


def broken_deployment(place: Place, _: str) -> list[Point]:
    """What was deployed cannot be started."""
    for function in ("WebhookFunction", "WorkerFunction", "ReplyFunction"):
        with place.nobody_reads(function), place.configured(function, Handler="aitems_bridge.nothing.handler"):
            answer = place.stack.cloud.functions.invoke(FunctionName=place.stack.resources[function], Payload=b"{}")
            assert answer.get("FunctionError"), function
    return place.observed()


def wrong_zone(place: Place, name: str) -> list[Point]:
    """AiTEMS's dates are in another zone than the one that is set."""
    place.stack.aitems.configure(utc_offset=0)
    assert place.ask(name).status == 201
    place.stack.aitems.configure(utc_offset=9 * HOUR)
    return place.observed()


Story = Callable[[Place, str], list[Point]]

STORIES: list[tuple[Story, int, set[str]]] = [
    (forged, 0, {"SignatureRefusedAlarm"}),
    (unreadable_callers, 0, {"CallersInvalidAlarm", "Http5xxAlarm"}),
    (shut_ledger, 0, {"Http5xxAlarm"}),
    (wrong_keys, 10, {"KeysRefusedAlarm"}),
    (waiting_for_long, 0, {"OpenAgeAlarm"}),
    (in_doubt_for_long, 0, {"UnknownAgeAlarm"}),
    (given_up, 0, {"FailedAlarm"}),
    (no_worker, 31, {"QueueAgeAlarm", "DeadLettersAlarm"}),
    (unusable_record, 0, {"RelayFailuresAlarm"}),
    (undelivered_event, 0, {"RuleDeadLettersAlarm"}),
    (untold_chat, 0, {"RepliesDeadLettersAlarm"}),
    (mute_relay, 15, {"RelayLagAlarm", "RelayErrorsAlarm"}),
    (broken_deployment, 0, {"WebhookErrorsAlarm", "WorkerErrorsAlarm", "ReplyErrorsAlarm"}),
    (wrong_zone, 0, {"ClockMismatchAlarm"}),
]
"""What goes wrong, for how many minutes until it wakes somebody, and by which alarms."""


@pytest.mark.parametrize(("story", "minutes", "alarms"), STORIES, ids=[story.__name__ for story, _, _ in STORIES])
def test_a_reason_sets_off_its_alarms_and_no_other(
    story: Story, minutes: int, alarms: set[str], place: Place, name: str
) -> None:
    """Who is woken is told what is wrong, and nothing that is not; and not for what is over in a minute."""
    points = story(place, name)
    assert firing(place.stack, lasting(points, minutes)) == alarms, [point for point in points if point.value]
    if minutes:
        assert firing(place.stack, points) == set()


def test_every_alarm_has_a_reason_here() -> None:
    """An alarm that nobody has seen going off may never do so."""
    assert set().union(*(alarms for _, _, alarms in STORIES)) == ALARMS


def test_every_alarm_reaches_the_topic(place: Place) -> None:
    """Whichever goes off, the topic of `AlarmTopicArn` is told, in words that lead to its chapter of the runbook."""
    cloudwatch, sqs = place.stack.cloud.cloudwatch, place.stack.cloud.sqs
    alarms = {alarm["AlarmName"]: name for name, alarm in deployed(place.stack).items()}
    for alarm in alarms:
        # As AWS would have an alarm's actions tried: the local cloud's own judgement looks at no dimension.
        cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="tried")
    told: dict[str, str] = {}
    while found := sqs.receive_message(QueueUrl=place.topic_queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in found:
            said = json.loads(json.loads(message["Body"])["Message"])
            told[alarms[said["AlarmName"]]] = said["AlarmDescription"]
    assert set(told) == ALARMS
    for name, description in told.items():
        assert description.endswith(f"(docs/operations.md, {name})")


def test_without_a_topic_nobody_is_told(stack: Stack) -> None:
    """The alarms are there all the same, to be looked at."""
    assert set(deployed(stack)) == ALARMS
    assert not any(alarm["AlarmActions"] for alarm in deployed(stack).values())


RULE = {
    "Namespace": "N",
    "MetricName": "M",
    "Dimensions": [{"Name": "d", "Value": "1"}],
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 3,
    "DatapointsToAlarm": 2,
    "Threshold": 2,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
}


@pytest.mark.parametrize(
    ("seconds_ago", "changes", "breached"),
    [
        ([0, 0, 70, 70], {}, True),
        ([0, 0, 130, 130], {}, True),
        ([0, 70, 130], {}, False),  # one each is too little
        ([0, 0], {}, False),  # one period of the three
        ([0, 0, 190, 190], {}, False),  # too long ago
        ([0, 0, 70, 70], {"DatapointsToAlarm": 3}, False),
        ([0, 0, 70, 70], {"Threshold": 3}, False),
        ([0, 0, 70, 70], {"ComparisonOperator": "GreaterThanThreshold"}, False),
        ([0, 0, 70, 70], {"Statistic": "Maximum"}, False),
        ([0, 70], {"Statistic": "Maximum", "Threshold": 1}, True),
        ([0, 0, 70, 70], {"MetricName": "Other"}, False),
        ([0, 0, 70, 70], {"Dimensions": [{"Name": "d", "Value": "2"}]}, False),
        ([], {"Threshold": 0}, False),
    ],
)
def test_what_stands_in_for_cloudwatch_judges_as_it_does(
    seconds_ago: list[int], changes: dict[str, Any], breached: bool
) -> None:
    """Periods back from now, each by its statistic; so many of so many; other metrics and missing data do not count."""
    points = [Point(1000 - ago, "N", "M", frozenset({("d", "1")}), 1) for ago in seconds_ago]
    assert is_breached(RULE | changes, points, 1000) is breached
