"""What a caller does: build a request for a service and really sign it, with the caller's own libraries, not ours.

A request can be sent, written as a curl command, or as the invocation that its function would get.
"""

import json
import secrets
import shlex
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from standardwebhooks import Webhook

from aitems_local.cloud import ACCOUNT, StackError, UsageError

if TYPE_CHECKING:
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef

    from aitems_local.document import StackDocument

REQUESTED = "AiTEMS Service Creation Requested"
PRODUCER = "com.acme.shop"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, and after how long (seconds)."""

    status: int
    headers: Mapping[str, str]
    body: Json
    seconds: float

    @property
    def request_id(self) -> str | None:
        """The request's id; None where nothing was recorded."""
        return self.headers.get("X-Request-Id")

    @property
    def replayed(self) -> bool:
        """Whether it is the answer to an earlier request of the same key."""
        return self.headers.get("Idempotency-Replayed") == "true"


class Request(Protocol):
    """A signed request that was not sent yet."""

    def curl(self) -> str:
        """Return the command that sends exactly this."""

    def invocation(self) -> Json:
        """Return what the function gets that handles it."""


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """A webhook signed with Standard Webhooks: good for five minutes."""

    url: str
    caller: str
    key: str
    body: bytes
    headers: Mapping[str, str]

    def send(self, timeout: float = 35) -> Answer:
        """Post it and return the answer. Raises `StackError` when there is none."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands before loopback
            begun = time.monotonic()
            try:
                response = session.post(
                    self.url, data=self.body, headers=dict(self.headers), timeout=timeout, allow_redirects=False
                )
            except requests.RequestException as error:
                raise StackError(f"the webhook gave no answer: {error}") from error
            seconds = time.monotonic() - begun
        try:
            body = response.json()
        except ValueError:
            body = {"body": response.text}
        return Answer(response.status_code, response.headers, body, seconds)

    def curl(self) -> str:
        """Return the command that sends exactly this."""
        return _curl(self.url, self.headers, self.body)

    def invocation(self) -> Json:
        """Return the HTTP API's event, payload format 2.0."""
        path = f"/hooks/{self.caller}"
        now = datetime.now(UTC)
        return {
            "version": "2.0",
            "routeKey": "POST /hooks/{caller}",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "pathParameters": {"caller": self.caller},
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": "local",
                "domainName": urlsplit(self.url).netloc,
                "http": {
                    "method": "POST",
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1",
                    "userAgent": "aitems-bridge",
                },
                "requestId": secrets.token_urlsafe(9),
                "routeKey": "POST /hooks/{caller}",
                "stage": "$default",
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
                "timeEpoch": int(now.timestamp() * 1000),
            },
            "body": self.body.decode(),
            "isBase64Encoded": False,
        }


@dataclass(frozen=True, slots=True)
class BusEvent:
    """A request as a producer puts it on the event bus, with an identity that may do only that."""

    document: "StackDocument"
    source: str
    key: str
    detail: Json

    def send(self) -> str:
        """Put it on the bus and return the event's id. Raises `StackError` when the bus refuses it."""
        entry: PutEventsRequestEntryTypeDef = {
            "EventBusName": self.document.event_bus,
            "Source": self.source,
            "DetailType": REQUESTED,
            "Detail": json.dumps(self.detail, ensure_ascii=False),
        }
        answer = self.document.as_producer().events.put_events(Entries=[entry])
        first = answer["Entries"][0]
        if answer["FailedEntryCount"]:
            raise StackError(f"the bus refused the event: {first.get('ErrorCode')} {first.get('ErrorMessage', '')}")
        return first["EventId"]

    def curl(self) -> str:
        """Return the command that sends exactly this, signed with AWS's signature: good for five minutes."""
        entry = {
            "EventBusName": self.document.event_bus,
            "Source": self.source,
            "DetailType": REQUESTED,
            "Detail": json.dumps(self.detail, ensure_ascii=False),
        }
        body = json.dumps({"Entries": [entry]}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
        request = AWSRequest("POST", self.document.aws_endpoint, headers=headers, data=body)
        keys = Credentials(self.document.producer.access_key_id, self.document.producer.secret_access_key)
        SigV4Auth(keys, "events", self.document.region).add_auth(request)
        return _curl(self.document.aws_endpoint, dict(request.headers.items()), body)

    def invocation(self) -> Json:
        """Return the queue's event, with EventBridge's envelope as the message."""
        envelope = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": REQUESTED,
            "source": self.source,
            "account": ACCOUNT,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self.document.region,
            "resources": [],
            "detail": self.detail,
        }
        now = str(int(time.time() * 1000))
        queue = self.document.queue_url.rpartition("/")[2]
        record = {
            "messageId": str(uuid.uuid4()),
            "receiptHandle": "local",
            "body": json.dumps(envelope, ensure_ascii=False),
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": now,
                "SenderId": "local",
                "ApproximateFirstReceiveTimestamp": now,
            },
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{self.document.region}:{ACCOUNT}:{queue}",
            "awsRegion": self.document.region,
        }
        return {"Records": [record]}


def service(name: str, description: str | None = None, type_: str | None = None) -> Json:
    """Return the request for a service, saying only what was said."""
    said = {"name": name, "description": description, "type": type_}
    return {field: value for field, value in said.items() if value is not None}


def webhook(
    document: "StackDocument",
    asked: Json,
    *,
    caller: str | None = None,
    key: str | None = None,
    prefer: str | None = None,
) -> SignedWebhook:
    """Return a signed webhook of a caller; without one, of the first that signs with Standard Webhooks.

    Raises `UsageError` where there is no such caller, or no secret to sign with.
    """
    caller = caller or next((name for name, entry in document.callers.items() if _is_standard(entry)), None)
    entry = document.callers.get(caller or "")
    if caller is None or entry is None:
        known = ", ".join(document.callers) or "none"
        which = f"caller {caller} is unknown" if caller else "no caller signs with Standard Webhooks"
        raise UsageError(f"{which}; there are: {known}")
    if not _is_standard(entry):
        raise UsageError(f"caller {caller} does not sign with Standard Webhooks, or has no secret")
    key = key or "msg_" + secrets.token_hex(12)
    body = json.dumps(asked, ensure_ascii=False)
    now = datetime.now(UTC)
    try:
        signed = Webhook(entry["secrets"][0]).sign(key, now, body)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"the secret of caller {caller} is none for Standard Webhooks: {error}") from error
    headers = {
        "Content-Type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signed,
    }
    if prefer:
        headers["Prefer"] = prefer
    return SignedWebhook(f"{document.webhook_url}/hooks/{caller}", caller, key, body.encode(), headers)


def bus_event(document: "StackDocument", asked: Json, *, source: str = PRODUCER, key: str | None = None) -> BusEvent:
    """Return a request as an event; its key, fresh unless given, makes repetitions recognisable."""
    key = key or "order-" + secrets.token_hex(6)
    return BusEvent(document, source, key, {**asked, "idempotency_key": key})


def masked(secret: str) -> str:
    """Return a secret as it may be shown: its kind and two characters."""
    kind, _, rest = secret.rpartition("_")
    return f"{kind}_{rest[:2]}…" if kind else f"{rest[:2]}…"


def _is_standard(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("scheme") == "standard" and bool(entry.get("secrets"))


def _curl(url: str, headers: Mapping[str, str], body: bytes) -> str:
    said = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    lines = [f"curl -sS -i -X POST {shlex.quote(url)}", *said, f"--data-binary {shlex.quote(body.decode())}"]
    return " \\\n  ".join(lines)
