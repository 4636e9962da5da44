"""What the functions are called with: each call a request of its own, signed as a caller would sign it."""

import base64
import hashlib
import hmac
import itertools
import json
import time
import uuid
from typing import Any
from urllib.parse import urlencode

from canned import SLACK_SECRET, WEBHOOK_SECRET
from runtime import ACCOUNT, REGION

Json = dict[str, Any]

_number = itertools.count()
_KEY = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))


def _asked() -> Json:
    return {"name": f"shop-{next(_number):08d}", "description": "봄 시즌 추천"}


def webhook(*, prefer: str | None = None) -> Json:
    """Return a call of the HTTP API (payload format 2.0)."""
    key, sent, body = f"msg_{uuid.uuid4().hex}", str(int(time.time())), json.dumps(_asked(), ensure_ascii=False)
    digest = hmac.digest(_KEY, f"{key}.{sent}.{body}".encode(), hashlib.sha256)
    headers = {
        "content-type": "application/json",
        "host": "bench",
        "user-agent": "bench",
        "webhook-id": key,
        "webhook-timestamp": sent,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
    http = {"method": "POST", "path": "/hooks/backoffice", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
    return {
        "version": "2.0",
        "routeKey": "POST /hooks/{caller}",
        "rawPath": "/hooks/backoffice",
        "rawQueryString": "",
        "headers": headers | ({"prefer": prefer} if prefer else {}),
        "pathParameters": {"caller": "backoffice"},
        "requestContext": {"accountId": ACCOUNT, "stage": "$default", "requestId": key, "http": http},
        "body": body,
        "isBase64Encoded": False,
    }


def acknowledged() -> Json:
    """Return a webhook whose caller does not wait for the outcome."""
    return webhook(prefer="respond-async")


def slash_command() -> Json:
    """Return a Slack command that asks for a service, signed as Slack signs it."""
    asked = f"create shop-{next(_number):08d} batch made in the bench"
    form = {
        "team_id": "T1DC2JH3J",
        "user_id": "U1",
        "command": "/aitems",
        "text": asked,
        "trigger_id": uuid.uuid4().hex,
    }
    body, sent = urlencode(form), str(int(time.time()))
    digest = hmac.new(SLACK_SECRET.encode(), f"v0:{sent}:{body}".encode(), hashlib.sha256).hexdigest()
    call = webhook()
    call["headers"] = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": sent,
        "x-slack-signature": f"v0={digest}",
    }
    return call | {"rawPath": "/hooks/slack", "pathParameters": {"caller": "slack"}, "body": body}


def work(size: int = 1) -> Json:
    """Return a batch of the queue: requests as the event bus delivers them."""
    return {"Records": [_message() for _ in range(size)]}


def batch_of_ten() -> Json:
    """Return a full batch of the queue."""
    return work(10)


def changes(size: int = 10) -> Json:
    """Return a batch of the table's stream: half of it new requests, half outcomes."""
    return {"Records": [_change("created" if number % 2 else "received") for number in range(size)]}


def _message() -> Json:
    envelope = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "AiTEMS Service Creation Requested",
        "source": "com.acme.shop",
        "account": ACCOUNT,
        "time": "2026-11-23T19:40:02Z",
        "region": REGION,
        "resources": [],
        "detail": _asked(),
    }
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "bench",
        "body": json.dumps(envelope, ensure_ascii=False),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue",
        "awsRegion": REGION,
    }


def _change(state: str) -> Json:
    request_id, asked, now = uuid.uuid4().hex, _asked(), time.time_ns() // 1_000_000
    command = {"type": "batch"} | asked
    image: Json = {
        "pk": {"S": f"request#{request_id}"},
        "v": {"N": "1"},
        "state": {"S": state},
        "version": {"N": "2" if state == "created" else "1"},
        "channel": {"S": "standard"},
        "scope": {"S": "hook:backoffice"},
        "key": {"S": f"msg_{request_id}"},
        "caller": {"S": "backoffice"},
        "command": {"S": json.dumps(command)},
        "payload_hash": {"S": hashlib.sha256(json.dumps(command).encode()).hexdigest()},
        "requested_at": {"N": str(now)},
        "give_up_at": {"N": str(now + 21_600_000)},
    }
    if state == "created":
        answer = {"serviceId": request_id[:11], "status": "datasetRequired", "datasets": [], "infers": []} | command
        image |= {
            "answer": {"S": json.dumps(answer, ensure_ascii=False)},
            "service_id": {"S": request_id[:11]},
            "settled_at": {"N": str(now)},
            "attempts": {"N": "1"},
        }
    else:
        image["due"] = {"N": str(now + 31_000)}
    change = {"Keys": {"pk": image["pk"]}, "NewImage": image, "SequenceNumber": "1"}
    if state == "created":
        later = {"answer", "service_id", "settled_at"}
        before = {name: value for name, value in image.items() if name not in later}
        change["OldImage"] = before | {"state": {"S": "creating"}, "version": {"N": "1"}}
    return {
        "eventID": uuid.uuid4().hex,
        "eventName": "MODIFY" if state == "created" else "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": change,
    }
