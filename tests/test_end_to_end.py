"""The bridge as deployed: the project's template on MiniStack with IAM enforced, AiTEMS's emulator over HTTP.

Nothing stands between the caller and the event but what a user deploys. Each test uses a name and keys of its own.
"""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from standardwebhooks import Webhook as Signer

from aitems_bridge import aws
from aitems_bridge.aitems import AiTEMS
from aitems_bridge.bridge import Bridge, Invocation, Order, fingerprint
from aitems_bridge.config import ledger_client, now
from aitems_bridge.ledger import Ledger
from aitems_bridge.ncp import Keys
from aitems_bridge.record import SECOND, State
from aitems_local import senders
from aitems_local.cloud import ACCOUNT, REGION, ROOT_KEY
from aitems_local.emulator import Fault
from aitems_local.entries import standard_secret
from aitems_local.senders import Answer, SignedWebhook
from aitems_local.stack import Stack

SCHEMAS = Path(__file__).parent.parent / "schemas"


def ask(stack: Stack, name: str, *, key: str | None = None, **others: str) -> Answer:
    """Send a webhook that asks for a service of that name."""
    return senders.webhook(stack.document, {"name": name, **others}, key=key).send()


def raw(stack: Stack, body: bytes, media_type: str = "application/json", caller: str = "backoffice") -> Answer:
    """Send a rightly signed webhook with any body."""
    signed = senders.webhook(stack.document, {"name": "unused"}, caller="backoffice")
    signature = Signer(stack.callers["backoffice"]["secrets"][0])
    moment = datetime.fromtimestamp(int(signed.headers["webhook-timestamp"]), UTC)
    headers = dict(signed.headers) | {
        "Content-Type": media_type,
        "webhook-signature": signature.sign(signed.key, moment, body.decode("utf-8")),
    }
    url = f"{stack.webhook_url}/hooks/{caller}"
    return SignedWebhook(url, caller, signed.key, body, headers).send()


def schema(name: str) -> dict[str, Any]:
    """Return a generated JSON Schema."""
    return dict(json.loads((SCHEMAS / f"{name}.v1.json").read_text("utf-8")))


@pytest.fixture
def own_stack(stack: Stack) -> Iterator[Stack]:
    """Return a bridge of the test's own, on the same MiniStack, whose secrets and AiTEMS it may spoil."""
    with stack.deploy("own" + secrets.token_hex(4)) as deployed:
        yield deployed


def test_a_webhook_makes_a_service_and_an_event(stack: Stack, name: str) -> None:
    """Signed webhook in, AiTEMS's own answer back with 201, the same answer on the bus, valid by the schema."""
    answer = ask(stack, name, description="봄 시즌 추천", type="interval")
    assert (answer.status, answer.headers["Content-Type"]) == (201, "application/json")
    assert answer.headers["Location"] == f"/hooks/backoffice/requests/{answer.request_id}"
    assert answer.headers["Cache-Control"] == "no-store"
    (made,) = stack.aitems.services_named(name)
    assert (answer.body["serviceId"], answer.body["name"]) == (made.service_id, name)
    event = stack.event(request_id=answer.request_id)
    detail = event.event["detail"]
    assert event.kind == "AiTEMS Service Created"
    assert detail["data"] == answer.body
    assert detail["request"] == {"name": name, "description": "봄 시즌 추천", "type": "interval"}
    assert detail["metadata"]["event_id"] == f"{answer.request_id}.created"
    jsonschema.validate(detail, schema("service-created"))


def test_an_event_makes_a_service_and_an_event(stack: Stack, name: str) -> None:
    """A request on the bus is answered on the bus, with the producer's source, account and key."""
    key = f"order-{name}"
    senders.bus_event(stack.document, {"name": name}, key=key).send()
    event = stack.event(idempotency_key=key)
    assert event.kind == "AiTEMS Service Created"
    assert event.event["detail"]["data"]["serviceId"] == stack.aitems.services_named(name)[0].service_id
    metadata = event.metadata
    assert (metadata["channel"], metadata["caller"]) == ("bus", senders.PRODUCER)
    assert metadata["requested_by"] == f"account:{ACCOUNT}"


def test_an_unknown_field_of_aitems_is_passed_on(own_stack: Stack, name: str) -> None:
    """What AiTEMS says is emitted whole, an unknown field, a float and an array option included."""
    extra = {"costPerHour": 1.10, "hpConfig": {"is_enabled": True, "group_column": ["a", "b"]}, "새": {"필드": [None]}}
    own_stack.aitems.configure(extra_fields=extra)
    answer = ask(own_stack, name)
    data = own_stack.event(request_id=answer.request_id).event["detail"]["data"]
    assert answer.body == data
    assert extra.items() <= data.items()
    jsonschema.validate(own_stack.event(request_id=answer.request_id).event["detail"], schema("service-created"))


@pytest.mark.parametrize("what", ["body", "webhook-id", "webhook-timestamp", "webhook-signature", "stale", "future"])
def test_one_changed_byte_is_refused(stack: Stack, name: str, what: str) -> None:
    """A changed body, id, timestamp or signature, or one signed too long ago: 401, nothing recorded, nothing called."""
    signed = senders.webhook(stack.document, {"name": name})
    headers, body = dict(signed.headers), signed.body
    if what == "body":
        body = body.replace(name.encode(), (name[:-1] + "_").encode())
    elif what in ("stale", "future"):
        moment = datetime.now(UTC) + timedelta(seconds=-302 if what == "stale" else 302)
        headers["webhook-timestamp"] = str(int(moment.timestamp()))
        signer = Signer(stack.callers["backoffice"]["secrets"][0])
        headers["webhook-signature"] = signer.sign(signed.key, moment, body.decode())
    else:
        last = headers[what][-2]
        headers[what] = headers[what][:-2] + ("1" if last != "1" else "2") + headers[what][-1]
    before = len(stack.items("request#"))
    answer = SignedWebhook(signed.url, signed.caller, signed.key, body, headers).send()
    assert (answer.status, answer.body["type"]) == (401, "urn:aitems-bridge:problem:signature-refused")
    assert len(stack.items("request#")) == before
    assert stack.aitems.posts_named(name) == ()


def test_the_same_request_twenty_times(stack: Stack, name: str) -> None:
    """Twenty times the same, ten of them at once: one service, one event, and every answer leads to it."""
    signed = senders.webhook(stack.document, {"name": name})
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: signed.send(), range(10)))
    answers += [signed.send() for _ in range(10)]
    (made,) = stack.aitems.services_named(name)
    assert len(stack.aitems.posts_named(name)) == 1
    for answer in answers:
        assert answer.status in (201, 202)
        if answer.status == 201:
            assert answer.body["serviceId"] == made.service_id
        else:
            assert answer.headers["Location"].endswith(f"/requests/{answer.body['request_id']}")
    assert all(answer.replayed for answer in answers[10:])
    request_id = answers[-1].request_id
    stack.event(request_id=request_id)
    assert len({event.metadata["event_id"] for event in stack.events(request_id)}) == 1


def test_the_status_address_shows_the_request(stack: Stack, name: str) -> None:
    """The address in `Location`, signed with the request's id, shows the request to its caller and to no other id."""
    answer = ask(stack, name)
    assert answer.request_id is not None
    signer = Signer(stack.callers["backoffice"]["secrets"][0])

    def show(key: str, request_id: str) -> requests.Response:
        moment = datetime.now(UTC)
        headers = {
            "webhook-id": key,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": signer.sign(key, moment, ""),
        }
        url = f"{stack.webhook_url}/hooks/backoffice/requests/{request_id}"
        return requests.get(url, headers=headers, timeout=30)

    shown = show(answer.request_id, answer.request_id)
    assert shown.status_code == 200
    assert (shown.json()["state"], shown.json()["service"]) == ("created", answer.body)
    jsonschema.validate(shown.json(), schema("status"))
    assert show("another", answer.request_id).status_code == 401
    assert show("a" * 52, "a" * 52).status_code == 404


BAD = [
    ('{"name": "shop-main"', 400, "malformed-request"),
    ('["shop-main"]', 400, "malformed-request"),
    ('{"name": "shop-main", "name": "blog-main"}', 400, "malformed-request"),
    ('{"name": "ab"}', 422, "invalid-request"),
    ('{"name": "a23456789012345678901"}', 422, "invalid-request"),
    ('{"name": "1abc"}', 422, "invalid-request"),
    ('{"name": "추천서비스"}', 422, "invalid-request"),
    ('{"name": "shop-main", "description": "' + "가" * 101 + '"}', 422, "invalid-request"),
    ('{"name": "shop-main", "type": "realtime"}', 422, "invalid-request"),
    ('{"name": "shop-main", "colour": "red"}', 422, "invalid-request"),
    ("{}", 422, "invalid-request"),
    (" " * (65 * 1024), 413, "body-too-large"),
]


@pytest.mark.parametrize(("body", "status", "slug"), BAD, ids=[f"{slug}-{n}" for n, (_, _, slug) in enumerate(BAD)])
def test_bad_input_is_told_what_is_wrong(stack: Stack, body: str, status: int, slug: str) -> None:
    """Each mistake gets its own problem document, which names the field; nothing is recorded, nothing called."""
    before = len(stack.items("request#"))
    calls = len(stack.aitems.calls)
    answer = raw(stack, body.encode())
    assert (answer.status, answer.body["type"]) == (status, f"urn:aitems-bridge:problem:{slug}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    jsonschema.validate(answer.body, schema("problem"))
    assert (len(stack.items("request#")), len(stack.aitems.calls)) == (before, calls)


def test_a_wrong_content_type_is_told(stack: Stack) -> None:
    """A body that is not declared as JSON: 415."""
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=euc-kr"):
        assert raw(stack, b'{"name": "shop-main"}', media_type).status == 415


def test_an_unknown_caller_is_told(stack: Stack) -> None:
    """A caller that the document does not have: 404, as a problem."""
    answer = raw(stack, b'{"name": "shop-main"}', caller="nobody")
    assert (answer.status, answer.body["type"]) == (404, "urn:aitems-bridge:problem:unknown-caller")


def test_an_unknown_path_is_the_gateways(stack: Stack) -> None:
    """Only two routes exist."""
    assert requests.post(f"{stack.webhook_url}/hook/backoffice", timeout=30).status_code == 404
    assert requests.get(f"{stack.webhook_url}/hooks/backoffice", timeout=30).status_code in (404, 405)


def test_a_caller_without_secrets_shuts_that_door_only(own_stack: Stack, name: str) -> None:
    """An operator's slip in one entry: 503 for that caller, so that senders do not give up; the others go on."""
    good = {"scheme": "standard", "secrets": [standard_secret()]}
    own_stack.set_callers({"backoffice": good, "empty": {"scheme": "standard", "secrets": []}})
    own_stack.recycle()
    answer = raw(own_stack, b'{"name": "shop-main"}', caller="empty")
    assert (answer.status, answer.body["type"]) == (503, "urn:aitems-bridge:problem:caller-unavailable")
    assert answer.headers["Retry-After"] == "300"
    assert ask(own_stack, name).status == 201


def test_no_callers_at_all(own_stack: Stack) -> None:
    """A callers secret that is no document: 503, nobody gets in, and nothing is lost by it."""
    own_stack.set_secret("CallersSecretArn", "not json")
    own_stack.recycle()
    assert raw(own_stack, b'{"name": "shop-main"}').status == 503
    assert own_stack.items("request#") == []


@pytest.mark.parametrize(
    ("access_key", "secret_key"), [("", ""), ("WRONG", "WRONG")], ids=["not filled in", "not accepted"]
)
def test_bad_keys_lose_nothing(own_stack: Stack, name: str, access_key: str, secret_key: str) -> None:
    """Without accepted keys the request is kept, says why, and is done once the keys are right."""
    right = own_stack.aitems.settings
    own_stack.set_keys(access_key, secret_key)
    own_stack.recycle()
    answer = ask(own_stack, name)
    assert (answer.status, answer.body["state"]) == (202, "received")
    assert answer.body["last_problem"]["type"] == "urn:aitems-bridge:problem:keys-refused"
    assert "WRONG" not in json.dumps(answer.body)
    own_stack.set_keys(right.access_key, right.secret_key)
    own_stack.recycle()
    assert own_stack.event(request_id=answer.request_id, timeout=60).kind == "AiTEMS Service Created"
    assert len(own_stack.aitems.services_named(name)) == 1


def test_aitems_out_of_reach_loses_nothing(own_stack: Stack, name: str) -> None:
    """AiTEMS down: 202, nothing sent, and done by itself once it is back."""
    own_stack.aitems.stop()
    answer = ask(own_stack, name)
    assert (answer.status, answer.body["state"]) == (202, "received")
    assert answer.body["last_problem"]["type"] == "urn:aitems-bridge:problem:aitems-unavailable"
    own_stack.aitems.start()
    assert own_stack.event(request_id=answer.request_id, timeout=60).kind == "AiTEMS Service Created"


def test_a_taken_name_is_rejected_with_aitems_own_words(stack: Stack, name: str) -> None:
    """A clean POST answered DUPLICATE_NAME is a rejection, never an adoption, and is announced as final."""
    stack.aitems.by_hand(name)
    answer = ask(stack, name)
    assert (answer.status, answer.body["upstream"]["code"]) == (422, "DUPLICATE_NAME")
    event = stack.event(request_id=answer.request_id)
    assert event.kind == "AiTEMS Service Creation Rejected"
    assert event.metadata["final"] is True
    jsonschema.validate(event.event["detail"], schema("service-creation-rejected"))


def test_a_reused_key_is_told(stack: Stack, name: str) -> None:
    """The same key with another payload: 422 over HTTP; on the bus a rejection under the event's own id."""
    key = f"key-{name}"
    ask(stack, name, key=key)
    answer = ask(stack, name, key=key, description="another")
    assert (answer.status, answer.body["type"]) == (422, "urn:aitems-bridge:problem:key-reused")
    senders.bus_event(stack.document, {"name": f"{name}b"}, key=key).send()
    stack.event(idempotency_key=key, channel="bus")
    event_id = senders.bus_event(stack.document, {"name": f"{name}c"}, key=key).send()
    rejected = stack.event(idempotency_key=event_id)
    assert rejected.event["detail"]["data"]["type"] == "urn:aitems-bridge:problem:key-reused"
    assert stack.aitems.services_named(f"{name}c") == ()


def test_an_event_that_does_not_validate_is_announced(stack: Stack, name: str) -> None:
    """On the bus there is nobody to answer: what is wrong is announced, every field of it."""
    key = f"order-{name}"
    senders.bus_event(stack.document, {"name": "1abc", "type": "realtime"}, key=key).send()
    event = stack.event(idempotency_key=key)
    detail = event.event["detail"]
    assert (event.kind, detail["request"]) == ("AiTEMS Service Creation Rejected", None)
    assert [error["pointer"] for error in detail["data"]["errors"]] == ["#/name", "#/type"]
    jsonschema.validate(detail, schema("service-creation-rejected"))


def test_an_answer_that_breaks_off_is_looked_for(stack: Stack, name: str) -> None:
    """AiTEMS makes the service and breaks off: 202, then found by looking, adopted and announced; posted once."""
    stack.aitems.add_faults(Fault("reset_after", name=name))
    answer = ask(stack, name)
    assert (answer.status, answer.body["state"]) == (202, "unknown")
    event = stack.event(request_id=answer.request_id, timeout=60)
    assert (event.kind, event.metadata["adopted"]) == ("AiTEMS Service Created", True)
    assert len(stack.aitems.posts_named(name)) == 1


def test_round_trips_of_a_warm_creation(
    stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch, own_stack: Stack
) -> None:
    """One creation costs two DynamoDB calls and one call of AiTEMS, and nothing else."""
    for variable, value in {
        "AWS_ENDPOINT_URL": stack.cloud.endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
    }.items():
        monkeypatch.setenv(variable, value)
    aws.session.cache_clear()  # another test's has other credentials
    client = ledger_client()
    aws.session.cache_clear()
    calls: list[str] = []
    client.meta.events.register("before-send", lambda event_name, **_: calls.append(event_name))
    settings = own_stack.aitems.settings
    aitems = AiTEMS(own_stack.aitems.url, lambda _: (Keys(settings.access_key, settings.secret_key), False))
    bridge = Bridge(Ledger(client, own_stack.outputs["LedgerTable"]), aitems, now)
    command = {"name": name, "description": "", "type": "batch"}
    order = Order("standard", "hook:x", name, "x", command, fingerprint(command))
    ends = now() + 29 * SECOND
    record, _ = bridge.open(order, Invocation(ends, ends - 3 * SECOND))
    assert record.state is State.CREATED
    assert calls == ["before-send.dynamodb.TransactWriteItems"] * 2
    assert [call.operation for call in own_stack.aitems.calls] == ["create"]
