"""The ledger: one DynamoDB table, three kinds of item, every write a transaction on condition of what was read.

===================  ==============================================================================================
``request#{id}``     a :class:`~aitems_bridge.record.Record`
``name#{name}``      who may create a service of that name now (``holder``), and who asked last (``last``); lower case
``service#{id}``     which request made that service: no service is ever claimed by two
===================  ==============================================================================================

A write carries a client token, the same for each of its tries, so that a try whose answer was lost is recognised by
DynamoDB and not taken for a stranger's. A cancelled transaction says something only where a condition failed;
conflicts and throttling are tried again.
"""

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from aitems_bridge.errors import BridgeError, NotRecorded, Problem
from aitems_bridge.record import Clock, Record, State

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

VERSION = 1
TRIES = 8
LONGEST_PAUSE = 0.4
"""Seconds between two tries of a transaction that met another one."""

Image = dict[str, Any]
"""An item in DynamoDB's own notation, as the API and the stream give it: ``{"name": {"S": "…"}}``."""

_STRINGS = {
    "channel", "scope", "key", "caller", "requested_by", "payload_hash", "seen", "answer", "service_id",
}  # fmt: skip
_NUMBERS = {
    "version", "requested_at", "give_up_at", "due", "lease_until", "quiet_until", "sent_at", "posts", "attempts",
    "waits", "unlisted", "settled_at", "gave_up", "again", "expires",
}  # fmt: skip
_FLAGS = {"doubt", "adopted"}
_JSON = {"command", "reply"}
_PROBLEMS = {"last", "problem"}


class Moved(BridgeError):
    """Somebody else wrote the request first; ``current`` is what stands there now."""

    def __init__(self, current: Record) -> None:
        super().__init__(f"{current.id} is at version {current.version}")
        self.current = current


class NameTaken(BridgeError):
    """Another request may create a service of that name, until it is settled."""


class ServiceClaimed(BridgeError):
    """Another request was settled with that service."""


def image_of(record: Record) -> Image:
    """Return the item that stands for ``record``; absent values are left out."""
    image: Image = {"pk": {"S": f"request#{record.id}"}, "v": {"N": str(VERSION)}, "state": {"S": str(record.state)}}
    for name in (field.name for field in fields(record)):
        value = getattr(record, name)
        if value is None or name in ("id", "state"):
            continue
        if name in _STRINGS:
            image[name] = {"S": value}
        elif name in _NUMBERS:
            image[name] = {"N": str(value)}
        elif name in _FLAGS:
            image[name] = {"BOOL": value}
        elif name in _JSON:
            image[name] = {"S": json.dumps(value)}
        elif name in _PROBLEMS:
            image[name] = {"S": json.dumps(value.document())}
        elif name == "clock":
            image[name] = {"S": json.dumps([value.low, value.high])}
    return image


def record_of(image: Image) -> Record:
    """Return the record that a request's item stands for. Raises ``KeyError`` or ``ValueError`` for anything else."""
    values: dict[str, Any] = {"id": image["pk"]["S"].removeprefix("request#"), "state": State(image["state"]["S"])}
    values |= {"requested_by": None, "command": None}
    for name, value in image.items():
        if name in _STRINGS:
            values[name] = value["S"]
        elif name in _NUMBERS:
            values[name] = int(value["N"])
        elif name in _FLAGS:
            values[name] = value["BOOL"]
        elif name in _JSON:
            values[name] = json.loads(value["S"])
        elif name in _PROBLEMS:
            values[name] = Problem.from_document(json.loads(value["S"]))
        elif name == "clock":
            values[name] = Clock(*json.loads(value["S"]))
    return Record(**values)


@dataclass(frozen=True)
class Ledger:
    """The ledger in one table. ``client`` is a DynamoDB client with short time-outs and its own few retries."""

    client: "DynamoDBClient"
    table: str
    sleep: Callable[[float], None] = time.sleep

    def get(self, request_id: str) -> Record | None:
        """Return the request as it stands (a strong read), or None. Raises ``NotRecorded`` when it cannot be read."""
        image = self._item(f"request#{request_id}")
        return record_of(image) if image else None

    def last_of(self, name: str) -> Record | None:
        """Return the request that holds the name, or else asked for it last."""
        item = self._item(f"name#{name.lower()}")
        who = item.get("holder", item.get("last")) if item else None
        return self.get(who["S"]) if who else None

    def claimant(self, service_id: str) -> Record | None:
        """Return the request that was settled with that service, or None."""
        item = self._item(f"service#{service_id}")
        return self.get(item["request"]["S"]) if item else None

    def write(self, old: Record | None, new: Record) -> None:
        """Put ``new`` where ``old`` was read (None: where nothing was), with what it does to its name and service.

        Raises ``Moved``, ``NameTaken`` or ``ServiceClaimed`` when a condition failed: nothing was written then.
        Raises ``NotRecorded`` when the ledger does not answer: it may have been written or not.
        """
        put: Any = {"TableName": self.table, "Item": image_of(new), "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        if old is None:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "#version = :version AND #state = :state"
            put["ExpressionAttributeNames"] = {"#version": "version", "#state": "state"}
            put["ExpressionAttributeValues"] = {":version": {"N": str(old.version)}, ":state": {"S": str(old.state)}}
        writes: list[Any] = [{"Put": put}]
        errors: list[Callable[[], BridgeError]] = []
        if name := self._name_write(old, new):
            writes.append({"Update": name})
            errors.append(NameTaken)
        if new.state is State.CREATED and new.service_id is not None:
            writes.append({"Put": self._service_put(new.id, new.service_id)})
            errors.append(ServiceClaimed)
        reasons = self._transact(writes)
        if reasons is None:
            return
        if _failed(reasons[0]):
            image = reasons[0].get("Item")
            current = record_of(image) if image else self.get(new.id)
            if current is None:
                raise NotRecorded
            raise Moved(current)
        for reason, error in zip(reasons[1:], errors, strict=True):
            if _failed(reason):
                raise error()
        raise NotRecorded

    def scan(self, strange: Callable[[str], object] | None = None) -> Iterator[Record]:
        """Yield every request: for redrive and for people, never on the way of a request.

        ``strange`` is told the key of an item that is no request as we write them; without it, such a one raises.
        """
        pages = self.client.get_paginator("scan").paginate(
            TableName=self.table,
            ConsistentRead=True,
            FilterExpression="begins_with(pk, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": "request#"}},
        )
        for image in (image for page in pages for image in page["Items"]):
            try:
                record = record_of(image)
            except (KeyError, ValueError, TypeError):
                if strange is None:
                    raise
                strange(image["pk"]["S"])
            else:
                yield record

    def _name_write(self, old: Record | None, new: Record) -> Any:  # noqa: ANN401  # DynamoDB's own notation
        held = old is not None and old.holds_name
        # One that waits for the name leaves it alone: whoever has it is found by it, and must be able to give it back.
        asked = old is None and new.state is State.RECEIVED and not new.waits and bool(new.name)
        if new.holds_name == held and not asked:
            return None
        update: dict[str, Any] = {
            "TableName": self.table,
            "Key": {"pk": {"S": f"name#{new.name.lower()}"}},
            "ExpressionAttributeNames": {"#holder": "holder", "#expires": "expires"},
            "ExpressionAttributeValues": {":me": {"S": new.id}},
        }
        if asked:
            update["ExpressionAttributeNames"] = {"#last": "last", "#expires": "expires"}
            update["UpdateExpression"] = "SET #last = :me REMOVE #expires"
        elif new.holds_name:
            update["ExpressionAttributeNames"]["#last"] = "last"
            update["UpdateExpression"] = "SET #holder = :me, #last = :me REMOVE #expires"
            update["ConditionExpression"] = "attribute_not_exists(#holder) OR #holder = :me"
        else:
            update["ConditionExpression"] = "#holder = :me"
            if new.expires is None:
                update["UpdateExpression"] = "REMOVE #holder, #expires"
            else:
                update["UpdateExpression"] = "SET #expires = :expires REMOVE #holder"
                update["ExpressionAttributeValues"][":expires"] = {"N": str(new.expires)}
        return update

    def _service_put(self, request_id: str, service_id: str) -> Any:  # noqa: ANN401  # DynamoDB's own notation
        return {
            "TableName": self.table,
            "Item": {"pk": {"S": f"service#{service_id}"}, "request": {"S": request_id}},
            "ConditionExpression": "attribute_not_exists(pk) OR #request = :me",
            "ExpressionAttributeNames": {"#request": "request"},
            "ExpressionAttributeValues": {":me": {"S": request_id}},
        }

    def _transact(self, writes: list[Any]) -> list[Any] | None:
        """Return None when it is written, else the reasons of the cancellation, a failed condition among them."""
        token = os.urandom(16).hex()
        errors = self.client.exceptions
        for attempt in range(TRIES):
            if attempt:
                self.sleep(min(LONGEST_PAUSE, 0.05 * 2**attempt) * (0.5 + random.random() / 2))  # noqa: S311  # spreads tries, no secret
            try:
                self.client.transact_write_items(TransactItems=writes, ClientRequestToken=token)
            except errors.TransactionCanceledException as error:
                reasons: list[Any] = list(error.response.get("CancellationReasons", ()))
                if any(_failed(reason) for reason in reasons):
                    return reasons
                if any(reason.get("Code") in _HOPELESS for reason in reasons):
                    raise NotRecorded(_code(error)) from error
            except errors.TransactionInProgressException:
                continue
            except _ledger_failures() as error:
                raise NotRecorded(_code(error)) from error
            else:
                return None
        raise NotRecorded("TransactionConflict")

    def _item(self, key: str) -> Image | None:
        try:
            found = self.client.get_item(TableName=self.table, Key={"pk": {"S": key}}, ConsistentRead=True)
        except _ledger_failures() as error:
            raise NotRecorded(_code(error)) from error
        return found.get("Item")


_HOPELESS = {"ValidationError", "ItemCollectionSizeLimitExceeded"}


def _failed(reason: Any) -> bool:  # noqa: ANN401  # DynamoDB's own notation
    return bool(reason.get("Code") == "ConditionalCheckFailed")


def _ledger_failures() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # the relay reads images without it

    return (BotoCoreError, ClientError)


def _code(error: BaseException) -> str:
    """Return AWS's error code, or the type of an error that is not AWS's: never a message, which may hold an item."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code or type(error).__name__)
