"""A consumer of the bridge's announcements: a Lambda function behind an EventBridge rule with the pattern in rule.json.

EventBridge delivers at least once, and in no order. So every announcement is written down under its `event_id`, which
is the same each time it comes, on condition that it is not there yet. That one write is the whole effect and the memory
of it at once: whatever follows starts from the table, for instance from its stream.

Wants the environment variable OUTCOMES_TABLE, a DynamoDB table whose key is the string `event_id`.
"""

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


def handler(event: dict[str, Any], context: object) -> str:
    """Take in one event and return what was made of it. What raises is delivered again, or kept aside."""
    del context
    metadata = event["detail"]["metadata"]
    if metadata["version"] != "1":
        raise ValueError(f"events of version {metadata['version']} mean something else: read its schema first")
    outcome = read(event["detail-type"], event["detail"]["data"])
    if outcome is None:
        return "passed over"
    noted = {name: metadata[name] for name in ("event_id", "request_id", "idempotency_key", "settled_at")}
    return outcome["outcome"] if write_once(noted | outcome) else "known"


def read(kind: str, data: dict[str, Any]) -> dict[str, str] | None:
    """Return what an announcement says, by the members that are needed and no other: more may come."""
    match kind:
        case "AiTEMS Service Created":
            return {"outcome": "created", "service_id": data["serviceId"]}
        case "AiTEMS Service Creation Rejected":
            # Final: mend what `detail` says and ask again, under a new key.
            return {"outcome": "rejected", "kind": data["type"], "reason": data["detail"]}
        case "AiTEMS Service Creation Failed":
            # Not final: the request is kept, and Created or Rejected may follow, or have come before. Ask again under
            # the same key only: with `may_exist` there may be a service already.
            return {"outcome": "failed", "kind": data["type"], "reason": data["detail"]}
    return None  # a kind of announcement that is newer than this function


def write_once(item: dict[str, str]) -> bool:
    """Write an announcement down, and return whether it is new."""
    try:
        dynamodb().put_item(
            TableName=os.environ["OUTCOMES_TABLE"],
            Item={name: {"S": value} for name, value in item.items()},
            ConditionExpression="attribute_not_exists(event_id)",
        )
    except dynamodb().exceptions.ConditionalCheckFailedException:
        return False
    return True


@cache
def dynamodb() -> "DynamoDBClient":
    """Return one client for as long as the process lives."""
    return boto3.client("dynamodb")
