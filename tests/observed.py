"""What CloudWatch would see of a local stack, and what its alarms would say to it.

The local cloud keeps alarms, but makes no metrics of log lines, none of queues, and looks at neither dimensions,
missing data nor the number of periods. So this stands in for CloudWatch, and for no more than the template uses of it:
metrics are read where AWS reads them (log lines, queues, what Lambda itself counted), and alarms are judged by the
properties that they were deployed with. Periods are counted back from the moment of looking: CloudWatch's usual window.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation-window.html
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from aitems_local.stack import Stack

Json = dict[str, Any]
Dimensions = frozenset[tuple[str, str]]

MINUTE = 60
FUNCTIONS = ("WebhookFunction", "WorkerFunction", "RelayFunction", "ReplyFunction")
AGES = {"ApproximateAgeOfOldestMessage": 1, "IteratorAge": 1000}
"""Metrics that grow by themselves where nothing happens, and how much a second."""

_STATISTICS: dict[str, Callable[[list[float]], float]] = {"Sum": sum, "Maximum": max, "Minimum": min}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
}


@dataclass(frozen=True)
class Point:
    """One value of a metric, and when (seconds since the epoch)."""

    at: float
    namespace: str
    name: str
    dimensions: Dimensions
    value: float


def documents(lines: Iterable[str]) -> Iterator[Json]:
    """Yield the lines of a log that are JSON objects: what a function wrote itself."""
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)


def emitted(lines: Iterable[str], since: float = 0) -> list[Point]:
    """Return the metrics that CloudWatch would make of log lines, by the embedded metric format.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    return [
        Point(
            document["_aws"]["Timestamp"] / 1000,
            directive["Namespace"],
            metric["Name"],
            frozenset((name, document[name]) for name in names),
            document[metric["Name"]],
        )
        for document in documents(lines)
        if "_aws" in document and document["_aws"]["Timestamp"] >= since * 1000
        for directive in document["_aws"]["CloudWatchMetrics"]
        for names in directive["Dimensions"]
        for metric in directive["Metrics"]
    ]


def measured(stack: Stack, since: float = 0) -> list[Point]:
    """Return what the stack's functions wrote down since then."""
    return [point for function in FUNCTIONS for point in emitted(stack.logs(function), since)]


def counted(stack: Stack, request_id: str) -> dict[str, list[float]]:
    """Return the values that were written down about one request, by metric, in order of time."""
    lines = [line for function in FUNCTIONS for line in stack.logs(function) if request_id in line]
    found: dict[str, list[float]] = {}
    for point in sorted(emitted(lines), key=lambda point: point.at):
        found.setdefault(point.name, []).append(point.value)
    return found


def observed(stack: Stack, since: float, *, http_errors: int = 0) -> list[Point]:
    """Return everything that CloudWatch would know of since then: ours, and what AWS reports by itself.

    ``http_errors``: how often the HTTP API answered with a status from 500, which the local cloud does not count.
    """
    now = time.time()
    api = Point(now, "AWS/ApiGateway", "5xx", frozenset({("ApiId", stack.resources["HttpApi"])}), http_errors)
    return [*measured(stack, since), *_queues(stack, now), *_errors(stack, since), api]


def _queues(stack: Stack, now: float) -> Iterator[Point]:
    for alarm in deployed(stack).values():
        (dimension,) = alarm["Dimensions"]
        if alarm["Namespace"] == "AWS/SQS":
            url = stack.cloud.sqs.get_queue_url(QueueName=dimension["Value"])["QueueUrl"]
            value = _visible(stack, url) if "Visible" in alarm["MetricName"] else _oldest(stack, url, now)
            yield Point(now, "AWS/SQS", alarm["MetricName"], _dimensions(alarm), value)


def _visible(stack: Stack, url: str) -> float:
    found = stack.cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return float(found["ApproximateNumberOfMessages"])


def _oldest(stack: Stack, url: str, now: float) -> float:
    found = stack.cloud.sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageSystemAttributeNames=["SentTimestamp"]
    )
    sent = [int(message["Attributes"]["SentTimestamp"]) / 1000 for message in found.get("Messages", ())]
    return now - min(sent, default=now)


def _errors(stack: Stack, since: float) -> Iterator[Point]:
    """Yield Lambda's own count of calls that ended in an error: the local cloud has it for calls by the API."""
    for function in FUNCTIONS:
        dimension = {"Name": "FunctionName", "Value": stack.resources[function]}
        found = stack.cloud.cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName="Errors",
            Dimensions=[dimension],  # type: ignore[list-item]
            StartTime=datetime.fromtimestamp(since, UTC),
            EndTime=datetime.fromtimestamp(time.time() + MINUTE, UTC),
            Period=MINUTE,
            Statistics=["Sum"],
        )
        for point in found["Datapoints"]:
            dimensions = frozenset({(dimension["Name"], dimension["Value"])})
            yield Point(point["Timestamp"].timestamp(), "AWS/Lambda", "Errors", dimensions, point["Sum"])


def stream_age(stack: Stack, milliseconds: float) -> Point:
    """Return what Lambda would report as the age of what the relay was handed last, which the local cloud does not."""
    dimensions = frozenset({("FunctionName", stack.resources["RelayFunction"])})
    return Point(time.time(), "AWS/Lambda", "IteratorAge", dimensions, milliseconds)


def lasting(points: Iterable[Point], minutes: int) -> list[Point]:
    """Return what CloudWatch would have seen if all this had gone on for so long: the same each minute, only older."""
    return [
        replace(point, at=point.at + minute * MINUTE, value=point.value + AGES.get(point.name, 0) * minute * MINUTE)
        for point in points
        for minute in range(minutes + 1)
    ]


# --- alarms -------------------------------------------------------------------------------------------------------


def deployed(stack: Stack) -> dict[str, Mapping[str, Any]]:
    """Return the stack's alarms as they were deployed, by the names that they have in the template."""
    names = {physical: logical for logical, physical in stack.resources.items() if logical.endswith("Alarm")}
    pages = stack.cloud.cloudwatch.get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    return {names[alarm["AlarmName"]]: alarm for alarm in alarms if alarm["AlarmName"] in names}


def firing(stack: Stack, points: list[Point]) -> set[str]:
    """Return the alarms that are in the state ALARM once all these points are known."""
    at = max((point.at for point in points), default=0)
    return {name for name, alarm in deployed(stack).items() if is_breached(alarm, points, at)}


def is_breached(alarm: Mapping[str, Any], points: Iterable[Point], at: float) -> bool:
    """Whether an alarm of this configuration goes off. Raises ``KeyError`` for what the template makes no use of."""
    if alarm["TreatMissingData"] != "notBreaching":
        raise KeyError(alarm["TreatMissingData"])
    wanted = (alarm["Namespace"], alarm["MetricName"], _dimensions(alarm))
    periods: dict[int, list[float]] = {}
    for point in points:
        if (point.namespace, point.name, point.dimensions) == wanted:
            periods.setdefault(int((at - point.at) // alarm["Period"]), []).append(point.value)
    statistic, comparison = _STATISTICS[alarm["Statistic"]], _COMPARISONS[alarm["ComparisonOperator"]]
    breaching = [
        comparison(statistic(periods[number]), alarm["Threshold"])
        for number in range(alarm["EvaluationPeriods"])
        if number in periods
    ]
    return sum(breaching) >= int(alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]))


def _dimensions(alarm: Mapping[str, Any]) -> Dimensions:
    return frozenset((each["Name"], each["Value"]) for each in alarm["Dimensions"])
