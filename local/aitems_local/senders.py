"""What a caller does: build a request for a service and really sign it, with the caller's own libraries, not ours.

A request can be sent, written as a curl command, or as the invocation that its function would get. What was recorded
can be sent again: signed anew, and with a new time where the time is in the body.
"""

import base64
import json
import secrets
import shlex
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from aitems_bridge.bridge import Order
from aitems_bridge.worker import requested
from aitems_local import payloads, signing
from aitems_local.cloud import ACCOUNT, LOOPBACK, StackError, UsageError
from aitems_local.terminal import typed

if TYPE_CHECKING:
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef

    from aitems_local.cloud import Clients

REQUESTED = "AiTEMS Service Creation Requested"
PRODUCER = "com.acme.shop"

SCHEMES = {"webhook": "standard", "github": "github", "hmac": "hmac", "slack": "slack", "works": "works"}
"""The scheme of each door that is one of HTTP."""
_KIND = "whsec_"
_DOORS = {scheme: door for door, scheme in SCHEMES.items()}

Json = dict[str, Any]


class Doors(Protocol):
    """What a sender has to know of a bridge: where its doors are, and how each caller signs."""

    @property
    def webhook_url(self) -> str:
        """The base to which ``/hooks/{caller}`` is added."""

    @property
    def callers(self) -> Mapping[str, Any]:
        """The callers document."""

    @property
    def event_bus(self) -> str:
        """The bus's name."""

    @property
    def queue_url(self) -> str:
        """Where the bus's requests go."""

    @property
    def region(self) -> str:
        """The region of all that."""

    @property
    def account(self) -> str:
        """The account of whoever puts on the bus."""

    @property
    def chats_url(self) -> str:
        """Where chats hear of outcomes; empty where nobody listens here."""

    def as_producer(self) -> "Clients":
        """Return clients that may put events on the bus."""


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
    """A signed call: good for five minutes. ``reply_to`` is where the local chats hear of its outcome, if they do."""

    url: str
    caller: str
    key: str
    body: bytes
    headers: Mapping[str, str]
    reply_to: str = ""

    @property
    def slash_command(self) -> str:
        """The command of Slack that it is, if it is one."""
        return parse_qs(self.body.decode(errors="replace")).get("command", [""])[0]

    @property
    def request_id(self) -> str:
        """The id that a request has that comes of it."""
        return Order("", f"hook:{self.caller}", self.key, self.caller, None, "").request_id

    def send(self, timeout: float = 35) -> Answer:
        """Post it and return the answer. Raises `StackError` when there is none."""
        address = urlsplit(self.url)
        here = address.hostname == LOOPBACK
        with requests.Session() as session:
            session.trust_env = not here  # no proxy stands before loopback
            begun = time.monotonic()
            try:
                response = session.post(
                    self.url, data=self.body, headers=dict(self.headers), timeout=timeout, allow_redirects=False
                )
            except requests.Timeout as error:
                look = typed("requests", self.request_id)
                raise StackError(f"the webhook gave no answer within {timeout:g} s: look with `{look}`") from error
            except requests.ConnectionError as error:
                if not here:
                    what = type(getattr(error.args[0], "reason", error)).__name__ if error.args else "no connection"
                    raise StackError(f"{address.netloc} does not answer ({what}): is the network there?") from error
                again = f"stop what is left of it and start `{typed('up')}` again"
                raise StackError(f"the local stack does not answer: {again}") from error
            except (requests.RequestException, ValueError) as error:
                raise StackError(f"the webhook cannot be sent: {error}") from error
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
            **_encoded(self.body),
        }


@dataclass(frozen=True, slots=True)
class BusEvent:
    """A request as a producer puts it on the event bus, with an identity that may do only that."""

    doors: Doors
    source: str
    key: str
    detail: Json

    def orders(self, event_id: str) -> tuple[Order, Order]:
        """Return the request that comes of it, put under that id, and the one instead if the key is another's."""
        envelope = {"source": self.source, "account": self.doors.account, "id": event_id, "detail": self.detail}
        order = requested(envelope, 0).order
        return order, replace(order, key=event_id)

    def send(self) -> str:
        """Put it on the bus and return the event's id. Raises `StackError` when the bus refuses it."""
        entry: PutEventsRequestEntryTypeDef = {
            "EventBusName": self.doors.event_bus,
            "Source": self.source,
            "DetailType": REQUESTED,
            "Detail": _text(self.detail),
        }
        answer = self.doors.as_producer().events.put_events(Entries=[entry])
        first = answer["Entries"][0]
        if answer["FailedEntryCount"]:
            raise StackError(f"the bus refused the event: {first.get('ErrorCode')} {first.get('ErrorMessage', '')}")
        return first["EventId"]

    def curl(self) -> str:
        """Return the command that sends exactly this, signed with AWS's signature: good for five minutes."""
        entry = {
            "EventBusName": self.doors.event_bus,
            "Source": self.source,
            "DetailType": REQUESTED,
            "Detail": _text(self.detail),
        }
        body = _text({"Entries": [entry]}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
        producer = self.doors.as_producer()
        keys = producer.session.get_credentials()
        if keys is None or keys.token:
            raise UsageError("--curl would print your AWS session's token: send it, or use `aws events put-events`")
        endpoint = producer.events.meta.endpoint_url
        request = AWSRequest("POST", endpoint, headers=headers, data=body)
        SigV4Auth(keys, "events", self.doors.region).add_auth(request)
        return _curl(endpoint, dict(request.headers.items()), body)

    def invocation(self) -> Json:
        """Return the queue's event, with EventBridge's envelope as the message."""
        envelope = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": REQUESTED,
            "source": self.source,
            "account": self.doors.account,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self.doors.region,
            "resources": [],
            "detail": self.detail,
        }
        now = str(int(time.time() * 1000))
        queue = self.doors.queue_url.rpartition("/")[2]
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
            "eventSourceARN": f"arn:aws:sqs:{self.doors.region}:{self.doors.account}:{queue}",
            "awsRegion": self.doors.region,
        }
        return {"Records": [record]}


def service(name: str, description: str | None = None, type_: str | None = None) -> Json:
    """Return the request for a service, saying only what was said."""
    said = {"name": name, "description": description, "type": type_}
    return {field: value for field, value in said.items() if value is not None}


def webhook(
    doors: Doors,
    asked: Json,
    *,
    caller: str | None = None,
    key: str | None = None,
    prefer: str | None = None,
) -> SignedWebhook:
    """Return a webhook that is signed with Standard Webhooks; see `delivery`."""
    return delivery(doors, "standard", asked, caller=caller, key=key, prefer=prefer)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A delivery as it once came: its body, and its headers by lower-case name where they were kept."""

    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it from a file: an invocation as the function got it, or the body alone. Raises `StackError`."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StackError(f"--file {path}: {error.strerror}") from error
        try:
            event = json.loads(content)
            body, headers = event["body"], event["headers"]
            raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
            return cls(raw, {name.lower(): value for name, value in headers.items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls(content, {})

    @property
    def detail(self) -> Json:
        """What was put on the bus: the body may be the queue's event, EventBridge's, or the detail alone."""
        try:
            event = json.loads(self.body)
            event = json.loads(event["Records"][0]["body"]) if "Records" in event else event
            return dict(event.get("detail", event))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UsageError("--file: that is no event of the bus, and no detail of one") from error


def delivery(
    doors: Doors,
    scheme: str,
    asked: Json,
    *,
    caller: str | None = None,
    key: str | None = None,
    prefer: str | None = None,
    recorded: Recorded | None = None,
) -> SignedWebhook:
    """Return a signed call of a caller; without one, of the first of that scheme. ``recorded`` says what to send.

    Raises `UsageError` where there is no such caller, no secret to sign with, or no way to ask for that.
    """
    caller, entry = _caller(doors, scheme, caller)
    reply_to = ""
    try:
        match scheme:
            case "slack":
                body, key, reply_to = _slack(doors, entry, asked, key, recorded)
            case "works":
                body, reply_to = _works(entry, asked, key, recorded)
                key = signing.works_key(entry, body)
            case _:
                body, key = _hook(caller, entry, asked, key, recorded)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if recorded:
            raise UsageError(f"--file holds nothing that caller {caller} could have sent: {_lack(error)}") from error
        raise UsageError(f"nothing can be made up for caller {caller}: {_lack(error)}; is its entry right?") from error
    headers = signing.signed(caller, entry, body, key)
    if recorded and scheme == "github" and "x-github-event" in recorded.headers:
        headers["X-GitHub-Event"] = recorded.headers["x-github-event"]
    if not (key.isascii() and key.isprintable()) and key in headers.values():
        raise UsageError("--key stands in a header, which holds printable ASCII characters only")
    if prefer:
        headers["Prefer"] = prefer
    return SignedWebhook(f"{doors.webhook_url}/hooks/{caller}", caller, key, body, headers, reply_to)


def _caller(doors: Doors, scheme: str, caller: str | None) -> tuple[str, Json]:
    of_scheme = [name for name, entry in doors.callers.items() if _scheme(entry) == scheme]
    signing_ones = [name for name in of_scheme if doors.callers[name].get("secrets")]
    caller = caller or next(iter(signing_ones or of_scheme), None)
    known = ", ".join(doors.callers) or "none"
    if caller is None:
        raise UsageError(f"there is no {scheme} caller to send as; there are: {known}")
    if caller not in doors.callers:
        raise UsageError(f"caller {caller} is unknown; there are: {known}")
    entry = doors.callers[caller]
    other = _scheme(entry)
    if other not in _DOORS:
        check = typed("callers check FILE")
        raise UsageError(f"caller {caller} has no scheme that is known, so nobody can send as it: see `{check}`")
    if other != scheme:
        raise UsageError(f"caller {caller} is a {other} caller: `{typed('send', _DOORS[other])} …`")
    if caller not in signing_ones:
        raise UsageError(f"caller {caller} has no secret to sign with: put one into its entry, and start again")
    return caller, entry


def _hook(caller: str, entry: Json, asked: Json, key: str | None, recorded: Recorded | None) -> tuple[bytes, str]:
    if recorded is None:
        key = key or signing.fresh_key(entry["scheme"])
        return json.dumps(payloads.hook_body(caller, entry, asked, key), ensure_ascii=False).encode(), key
    settings = entry.get("hmac", {}).get("key", {})
    if "body" in settings:
        if key:
            raise UsageError(f"the key of caller {caller} stands in the body, and that is recorded: leave --key out")
        return recorded.body, payloads.found(settings["body"], recorded.body)
    names = {"standard": "webhook-id", "github": "x-github-delivery"}
    name = names.get(entry["scheme"]) or settings["header"].lower()
    return recorded.body, key or recorded.headers.get(name) or signing.fresh_key(entry["scheme"])


def _slack(
    doors: Doors, entry: Json, asked: Json, key: str | None, recorded: Recorded | None
) -> tuple[bytes, str, str]:
    """Return body, key and where the outcome is told: here, whatever was recorded."""
    path = f"/commands/{entry['slack']['teams'][0]}/{secrets.token_hex(8)}"
    url = doors.chats_url + path
    if recorded is None:
        key = key or signing.fresh_key("slack")
        return payloads.slack_form(entry, asked, key, url), key, path
    form = {name: values[0] for name, values in parse_qs(recorded.body.decode(), keep_blank_values=True).items()}
    key = key or form["trigger_id"]
    return urlencode(form | {"response_url": url, "trigger_id": key}).encode(), key, path


def _works(entry: Json, asked: Json, key: str | None, recorded: Recorded | None) -> tuple[bytes, str]:
    if key:
        raise UsageError("a NAVER WORKS message brings no key: it is made of who said what, and when")
    issued = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if recorded is None:
        body = payloads.works_message(entry, asked, str(uuid.uuid4()), issued)
    else:
        body = json.dumps(json.loads(recorded.body) | {"issuedTime": issued}, ensure_ascii=False).encode()
    source = json.loads(body)["source"]
    return body, f"channels/{source['channelId']}" if source.get("channelId") else f"users/{source['userId']}"


def bus_event(doors: Doors, asked: Json, *, source: str = PRODUCER, key: str | None = None) -> BusEvent:
    """Return a request as an event; its key, fresh unless given, makes repetitions recognisable."""
    key = key or "order-" + secrets.token_hex(6)
    return BusEvent(doors, source, key, {**asked, "idempotency_key": key})


def masked(secret: str) -> str:
    """Return a secret as it may be shown: its kind and two characters."""
    rest = secret.removeprefix(_KIND)
    return f"{secret[: len(secret) - len(rest)]}{rest[:2]}…"


def _lack(error: Exception) -> str:
    return f"there is no {error.args[0]}" if isinstance(error, KeyError) else str(error)


def _scheme(entry: object) -> str:
    return str(entry.get("scheme")) if isinstance(entry, dict) else ""


def _text(value: object) -> str:
    """Return JSON as a sender writes it; half a surrogate pair, which no bytes stand for, as its escape."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.encode(errors="ignore").decode() == text else json.dumps(value)


def _encoded(body: bytes) -> Json:
    """Return a body as the HTTP API passes it on."""
    try:
        return {"body": body.decode(), "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _curl(url: str, headers: Mapping[str, str], body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise UsageError("the body is no text, which a command line cannot hold: send it, or use --event") from error
    said = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    lines = [f"curl -sS -i -X POST {shlex.quote(url)}", *said, f"--data-binary {shlex.quote(text)}"]
    return " \\\n  ".join(lines)
