"""The contract's own examples (sections 10.2 to 10.4), as consumers were promised them, and records that make them."""

from dataclasses import replace
from typing import Any

from aitems_bridge.errors import Problem, Upstream, Violation
from aitems_bridge.record import Record, State

Json = dict[str, Any]

SHOP = "p24m34k7xwe43it2dyuquvrp6mgw7i7fozbp7ptfnyupi6xrkpnq"
ORDER = "6biw7xbabvohufp6ueazdn4slhxvv57aq2sdi3vh7cz4yiypt7na"
INVALID = "2w4m34k7xwe43it2dyuquvrp6mgw7i7fozbp7ptfnyupi6xrkpnq"
ANSWER = (
    '{"serviceId": "v5tmlhw3e5b", "name": "shop-main", "description": "봄 시즌 추천", "type": "batch", '
    '"status": "datasetRequired", "datasets": [], "hpConfig": {"is_enabled": false}, "infers": [], '
    '"createdDate": "2026-11-24T04:38:25.237", "updatedDate": "2026-11-24T04:38:25.237"}'
)
_LOST = (
    "The answer to the creation was lost and AiTEMS could not be read for 6 h. The request is kept; it will be "
    "examined again, before anything is sent, when it is redriven or repeated under the same key."
)
_TAKEN = (
    "AiTEMS already has a service named 'shop-main'. Choose another name, or delete the existing service and send "
    "the request under a new key."
)

CREATED: Json = {
    "metadata": {
        "version": "1",
        "event_id": f"{SHOP}.created",
        "request_id": SHOP,
        "idempotency_key": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        "channel": "standard",
        "caller": "backoffice",
        "requested_by": None,
        "requested_at": "2026-11-23T19:38:24.981Z",
        "settled_at": "2026-11-23T19:38:25.304Z",
        "attempts": 1,
        "adopted": False,
        "final": True,
    },
    "request": {"name": "shop-main", "description": "봄 시즌 추천", "type": "batch"},
    "data": {
        "serviceId": "v5tmlhw3e5b",
        "name": "shop-main",
        "description": "봄 시즌 추천",
        "type": "batch",
        "status": "datasetRequired",
        "datasets": [],
        "hpConfig": {"is_enabled": False},
        "infers": [],
        "createdDate": "2026-11-24T04:38:25.237",
        "updatedDate": "2026-11-24T04:38:25.237",
    },
}

DUPLICATE: Json = {
    "metadata": {
        "version": "1",
        "event_id": f"{ORDER}.rejected",
        "request_id": ORDER,
        "idempotency_key": "order-4711",
        "channel": "bus",
        "caller": "com.acme.shop",
        "requested_by": "account:123456789012",
        "requested_at": "2026-11-23T19:40:02.118Z",
        "settled_at": "2026-11-23T19:40:02.907Z",
        "attempts": 1,
        "adopted": False,
        "final": True,
    },
    "request": {"name": "shop-main", "description": "", "type": "batch"},
    "data": {
        "type": "urn:aitems-bridge:problem:duplicate-name",
        "title": "A service of that name exists",
        "status": 422,
        "detail": _TAKEN,
        "retryable": "no",
        "request_id": ORDER,
        "upstream": {
            "status": 400,
            "code": "DUPLICATE_NAME",
            "message": "[shop-main] is a duplicate name.",
            "trace_id": "1a2b3c4d",
        },
    },
}

UNREADABLE: Json = {
    "metadata": {
        **DUPLICATE["metadata"],
        "event_id": f"{INVALID}.rejected",
        "request_id": INVALID,
        "idempotency_key": "order-4712",
        "attempts": 0,
    },
    "request": None,
    "data": {
        "type": "urn:aitems-bridge:problem:invalid-request",
        "title": "The request does not describe a service",
        "status": 422,
        "detail": "2 fields are wrong.",
        "retryable": "no",
        "request_id": INVALID,
        "errors": [
            {
                "pointer": "#/name",
                "rule": "pattern",
                "detail": "'1abc' starts with a digit; start with a letter or '_'",
            },
            {"pointer": "#/type", "rule": "enum", "detail": "'realtime' is not one of batch, interval"},
        ],
    },
}

FAILED: Json = {
    "metadata": {
        **CREATED["metadata"],
        "event_id": f"{SHOP}.failed-1",
        "settled_at": "2026-11-24T01:38:31.004Z",
        "final": False,
    },
    "request": CREATED["request"],
    "data": {
        "type": "urn:aitems-bridge:problem:outcome-unknown",
        "title": "It is not known whether the service was made",
        "status": 503,
        "detail": _LOST,
        "retryable": "same-key-only",
        "request_id": SHOP,
        "may_exist": True,
        "upstream": {"status": 504, "code": "510", "message": "Endpoint timeout", "trace_id": None},
    },
}

REQUESTED: Json = {
    "name": "shop-main",
    "description": "…",
    "type": "batch",
    "idempotency_key": "order-4711",
}

UNKNOWN_STATUS: Json = {
    "request_id": SHOP,
    "state": "unknown",
    "name": "shop-main",
    "channel": "standard",
    "caller": "backoffice",
    "requested_at": "2026-11-23T19:38:24.981Z",
    "settled_at": None,
    "attempts": 1,
    "adopted": False,
    "service": None,
    "problem": None,
    "last_problem": {
        "type": "urn:aitems-bridge:problem:outcome-unknown",
        "title": "It is not known whether the service was made",
        "status": 503,
        "detail": "AiTEMS did not answer within 15 s; the request is being examined.",
        "retryable": "same-key-only",
        "upstream": {"status": None, "code": None, "message": None, "trace_id": None},
    },
    "advice": "Accepted. The outcome will be announced on the event bus. Do not send this request under another key.",
}

INVALID_REQUEST: Json = {
    "type": "urn:aitems-bridge:problem:invalid-request",
    "title": "The request does not describe a service",
    "status": 422,
    "detail": "2 fields are wrong.",
    "retryable": "no",
    "errors": [
        {"pointer": "#/name", "rule": "minLength", "detail": "'ab' has 2 characters; 3 to 20 are needed"},
        {"pointer": "#/type", "rule": "enum", "detail": "'realtime' is not one of batch, interval"},
    ],
}

_HOOK = Record(
    id=SHOP,
    version=2,
    state=State.CREATED,
    channel="standard",
    scope="hook:backoffice",
    key="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
    caller="backoffice",
    requested_by=None,
    command={"name": "shop-main", "description": "봄 시즌 추천", "type": "batch"},
    payload_hash="0" * 64,
    requested_at=1_795_462_704_981,
    give_up_at=1_795_484_304_981,
    posts=1,
    attempts=1,
    settled_at=1_795_462_705_304,
    answer=ANSWER,
    service_id="v5tmlhw3e5b",
)
_BUS = replace(
    _HOOK,
    id=ORDER,
    state=State.REJECTED,
    channel="bus",
    scope="bus:123456789012:com.acme.shop",
    key="order-4711",
    caller="com.acme.shop",
    requested_by="account:123456789012",
    command={"name": "shop-main", "description": "", "type": "batch"},
    requested_at=1_795_462_802_118,
    settled_at=1_795_462_802_907,
    answer=None,
    service_id=None,
    problem=Problem(
        "duplicate-name",
        _TAKEN,
        upstream=Upstream(400, "DUPLICATE_NAME", "[shop-main] is a duplicate name.", "1a2b3c4d"),
    ),
)

RECORDS: dict[str, tuple[Record, Json]] = {
    "created": (_HOOK, CREATED),
    "rejected by AiTEMS": (_BUS, DUPLICATE),
    "rejected as it came": (
        replace(
            _BUS,
            id=INVALID,
            key="order-4712",
            command=None,
            posts=0,
            attempts=0,
            problem=Problem(
                "invalid-request",
                "2 fields are wrong.",
                errors=tuple(Violation(**error) for error in UNREADABLE["data"]["errors"]),
            ),
        ),
        UNREADABLE,
    ),
    "failed": (
        replace(
            _HOOK,
            state=State.FAILED,
            settled_at=1_795_484_311_004,
            answer=None,
            service_id=None,
            gave_up=1,
            problem=Problem(
                "outcome-unknown", _LOST, upstream=Upstream(504, "510", "Endpoint timeout"), may_exist=True
            ),
        ),
        FAILED,
    ),
}
"""The record each example tells of, and the example."""

UNKNOWN = replace(
    _HOOK,
    state=State.UNKNOWN,
    settled_at=None,
    answer=None,
    service_id=None,
    last=Problem(
        "outcome-unknown", "AiTEMS did not answer within 15 s; the request is being examined.", upstream=Upstream()
    ),
)
"""The record that the status document's example tells of."""
