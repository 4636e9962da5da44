"""What the bridge says about a request: the event on the bus, and the status document.

Everything is made from the record alone, so that the same record always says the same, however often it is said.
"""

import json
from datetime import UTC, datetime
from typing import Any

from aitems_bridge.record import SECOND, Record, State

SOURCE = "aitems.bridge"
REQUESTED = "AiTEMS Service Creation Requested"
DETAIL_TYPES = {
    State.CREATED: "AiTEMS Service Created",
    State.REJECTED: "AiTEMS Service Creation Rejected",
    State.FAILED: "AiTEMS Service Creation Failed",
}
VERSION = "1"

_ADVICE = {
    State.RECEIVED: (
        "Accepted. The outcome will be announced on the event bus. Do not send this request under another key."
    ),
    State.CREATED: "Done. Sending this request again under the same key changes nothing.",
    State.REJECTED: "Refused for good. Mend what the problem says and send it under a new key.",
    State.FAILED: "Given up for now, and kept. Send it again under the same key, or have an operator redrive it.",
}


def timestamp(milliseconds: int) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    read = datetime.fromtimestamp(milliseconds // SECOND, UTC).replace(microsecond=milliseconds % SECOND * 1000)
    return read.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_id(record: Record) -> str:
    """Return the announcement's own id: equal ids are the same announcement."""
    if record.state is State.FAILED:
        return f"{record.id}.failed-{record.gave_up}"
    return f"{record.id}.{record.state}"


def detail(record: Record) -> str:
    """Return the event's ``detail`` as JSON text; AiTEMS's answer stands in it as AiTEMS wrote it."""
    metadata = {
        "version": VERSION,
        "event_id": event_id(record),
        "request_id": record.id,
        "idempotency_key": record.key,
        "channel": record.channel,
        "caller": record.caller,
        "requested_by": record.requested_by,
        "requested_at": timestamp(record.requested_at),
        "settled_at": timestamp(record.settled_at or record.requested_at),
        "attempts": record.attempts,
        "adopted": record.adopted,
        "final": record.state.final,
    }
    data = record.answer if record.state is State.CREATED else _text(_problem(record))
    return f'{{"metadata":{_text(metadata)},"request":{_text(record.command)},"data":{data}}}'


def entry(record: Record, bus: str) -> dict[str, Any]:
    """Return the ``PutEvents`` entry that announces a settled or failed request."""
    return {
        "Source": SOURCE,
        "DetailType": DETAIL_TYPES[record.state],
        "Detail": detail(record),
        "EventBusName": bus,
        "Time": datetime.fromtimestamp((record.settled_at or record.requested_at) / SECOND, UTC),
        "Resources": [],
    }


def status_document(record: Record) -> str:
    """Return the status document, as JSON text: what a caller is shown of its request. AiTEMS's answer as it came."""
    document = {
        "request_id": record.id,
        "state": str(record.state),
        "name": record.name,
        "channel": record.channel,
        "caller": record.caller,
        "requested_at": timestamp(record.requested_at),
        "settled_at": timestamp(record.settled_at) if record.settled_at is not None else None,
        "attempts": record.attempts,
        "adopted": record.adopted,
        "problem": _problem(record),
        "last_problem": record.last.document() if record.last is not None and record.state.open else None,
        "advice": _ADVICE.get(record.state, _ADVICE[State.RECEIVED]),
    }
    return f'{_text(document)[:-1]},"service":{record.answer or "null"}}}'


def _problem(record: Record) -> dict[str, Any] | None:
    return record.problem.document(record.id) if record.problem is not None else None


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
