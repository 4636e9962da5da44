"""The event bus as an AsyncAPI 3.0 document, made of the models of the events and of what was really announced."""

from typing import Any

from pydantic import BaseModel

from aitems_bridge.events import DETAIL_TYPES, REQUESTED, SOURCE
from aitems_bridge.record import State
from aitems_local.bodies import VERSION, Created, Failed, Rejected, Requested, components, incoming, outgoing

Json = dict[str, Any]

ANNOUNCED: dict[str, tuple[str, type[BaseModel], str]] = {
    "serviceCreated": (DETAIL_TYPES[State.CREATED], Created, "A request made its service. Final."),
    "serviceCreationRejected": (
        DETAIL_TYPES[State.REJECTED],
        Rejected,
        "A request is refused for good, and no service is made for it. Final.",
    ),
    "serviceCreationFailed": (
        DETAIL_TYPES[State.FAILED],
        Failed,
        "A request is given up for now and waits for a person. Not final: Created or Rejected may follow.",
    ),
}
"""What the bridge puts on the bus: the message's name, its detail-type, its detail and what it means."""


def document(examples: dict[str, Json]) -> Json:
    """Return the AsyncAPI document; ``examples`` are events as they were recorded, by name."""
    messages = {"serviceCreationRequested": _message(REQUESTED, "Requested", _ASKED, {}, None)}
    messages |= {
        name: _message(kind, model.__name__, told, examples, SOURCE) for name, (kind, model, told) in ANNOUNCED.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "aitems-bridge: the event bus",
            "version": str(VERSION),
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "eventbridge": {
                "host": "events.{region}.amazonaws.com",
                "protocol": "eventbridge",
                "description": "Amazon EventBridge: `PutEvents` to ask, rules to hear",
                "variables": {"region": {"default": "ap-northeast-2", "description": "The stack's region"}},
                "security": [{"$ref": "#/components/securitySchemes/iam"}],
            }
        },
        "channels": {
            "bus": {
                "address": "{EventBusName}",
                "description": "One bus for both directions; rules tell the events apart by `source` and `detail-type`",
                "servers": [{"$ref": "#/servers/eventbridge"}],
                "parameters": {
                    "EventBusName": {
                        "default": "aitems-bridge",
                        "description": "The output `EventBusName` of the stack: its name, unless another bus was given",
                    }
                },
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "takeRequest": _operation("receive", "A producer asks for a service", "serviceCreationRequested"),
            **{
                f"announce{name.removeprefix('service')}": _operation("send", told, name)
                for name, (_, _, told) in ANNOUNCED.items()
            },
        },
        "components": {
            "messages": messages,
            "schemas": components([incoming(Requested), *(outgoing(model) for _, model, _ in ANNOUNCED.values())])
            | {"Envelope": _ENVELOPE},
            "securitySchemes": {
                "iam": {
                    "type": "http",
                    "scheme": "AWS4-HMAC-SHA256",
                    "description": "AWS Signature Version 4, by an identity that may do `events:PutEvents` on the bus",
                }
            },
        },
    }


def _message(kind: str, title: str, told: str, examples: dict[str, Json], source: str | None) -> Json:
    shown = [
        {"name": name, "summary": example["summary"], "payload": example["event"]}
        for name, example in examples.items()
        if example["event"]["detail-type"] == kind
    ]
    envelope = {"detail-type": {"const": kind}, "detail": {"$ref": f"#/components/schemas/{title}"}}
    if source is not None:
        envelope["source"] = {"const": source}
        follows = {"correlationId": {"location": "$message.payload#/detail/metadata/request_id"}}
    else:
        follows = {}
        shown = [{"name": "requested", "summary": "A request as a producer puts it", "payload": _REQUEST}]
    return {
        "name": kind,
        "title": kind,
        "summary": told,
        "contentType": "application/json",
        **follows,
        "payload": {"allOf": [{"$ref": "#/components/schemas/Envelope"}, {"properties": envelope}]},
        "examples": shown,
    }


def _operation(action: str, told: str, message: str) -> Json:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/bus"},
        "summary": told,
        "messages": [{"$ref": f"#/channels/bus/messages/{message}"}],
    }


_ABOUT = """\
What producers put on the bridge's event bus, and what it announces there: of each request, by whatever door it came,
exactly one final outcome. The actions are the bridge's: it receives Requested and sends the others.

Events may come twice, and in any order. Drop those whose `detail.metadata.event_id` you know: equal ids are the same
announcement, however often and under whatever envelope `id` it comes. Within version 1 (`detail.metadata.version`)
members may be added, none is removed, renamed or retyped.
"""

_ASKED = "A request for one service. Answered by an event, as there is nobody else to answer."

_ENVELOPE: Json = {
    "title": "Envelope",
    "description": "What EventBridge puts around every event.",
    "type": "object",
    "required": ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"],
    "properties": {
        "version": {"type": "string"},
        "id": {"type": "string", "description": "New for each delivery to the bus: no id of what is announced."},
        "detail-type": {"type": "string"},
        "source": {"type": "string"},
        "account": {"type": "string"},
        "time": {"type": "string"},
        "region": {"type": "string"},
        "resources": {"type": "array", "items": {"type": "string"}},
        "detail": {"type": "object"},
    },
}

_REQUEST: Json = {
    "version": "0",
    "id": "5b8f1d0a-0f2c-4bd0-8c43-5a9d2f6f2b11",
    "detail-type": REQUESTED,
    "source": "com.acme.shop",
    "account": "123456789012",
    "time": "2026-11-23T19:40:02Z",
    "region": "ap-northeast-2",
    "resources": [],
    "detail": {"name": "blog-main", "description": "봄 시즌 추천", "type": "batch", "idempotency_key": "order-4711"},
}
