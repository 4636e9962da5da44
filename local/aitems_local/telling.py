"""How events and requests are told: lines for people, and JSON for machines that is JSON whatever was said."""

import json
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from aitems_bridge.errors import Problem
from aitems_bridge.events import DETAIL_TYPES, status_document, timestamp
from aitems_bridge.record import SECOND, Record, State
from aitems_local.findings import Finding, Result
from aitems_local.journal import Announced
from aitems_local.terminal import Terminal

CREATED = DETAIL_TYPES[State.CREATED]


def moment(seconds: float, now: float) -> str:
    """Return a time in UTC, to the second; its date only where it is not today."""
    then, today = (datetime.fromtimestamp(int(each), UTC) for each in (seconds, now))
    return f"{then:%H:%M:%SZ}" if then.date() == today.date() else f"{then:%Y-%m-%d %H:%M:%SZ}"


def of_event(terminal: Terminal, event: Announced) -> list[str]:
    """Return an event in a line, and each wrong field in one of its own."""
    data = event.event["detail"]["data"]
    about = (
        f"service {data.get('serviceId')}" if event.kind == CREATED else f"{data.get('title')}: {data.get('detail')}"
    )
    adopted = "  adopted" if event.metadata.get("adopted") else ""
    kind = terminal.good(event.kind) if event.kind == CREATED else terminal.bad(event.kind)
    errors = data.get("errors", []) if event.kind != CREATED else []
    return [f"{kind}  {terminal.id(event.metadata['event_id'])}  {about}{adopted}", *_fields(errors)]


def of_request(terminal: Terminal, record: Record, now: float) -> list[str]:
    """Return a request in a line, and each wrong field in one of its own."""
    problem = record.problem or record.last
    became = record.service_id or (problem.detail if problem else "")
    asked = moment(record.requested_at / SECOND, now)
    line = (
        f"{asked}  {terminal.id(record.id)}  {record.state:<9} {name_of(record):<20}  {record.channel} {record.caller}"
        f"  attempts {record.attempts}  {became}"
    )
    return [line, *_fields(_documents(problem))]


def of_finding(terminal: Terminal, finding: Finding) -> str:
    """Return what a check found: its mark, its name, what was found and the remedy, beside the name on a terminal."""
    marks: dict[Result, tuple[str, Callable[[str], str]]] = {
        Result.OK: ("✓", terminal.good),
        Result.FAILED: ("✗", terminal.bad),
        Result.WARNING: ("!", str),
    }
    mark, coloured = marks.get(finding.result, ("?", str))
    line = f"{mark} {finding.check:<12}{finding.told}{' → ' if finding.remedy else ''}{finding.remedy}"
    if terminal.stream.isatty():
        line = textwrap.fill(line, terminal.width, subsequent_indent=" " * 14, break_on_hyphens=False)
    return coloured(mark) + line.removeprefix(mark)


def name_of(record: Record) -> str:
    """Return the name that was asked for, or that nothing valid was."""
    return record.name or "(invalid)"


def request_json(record: Record) -> str:
    """Return, on one line, the status document and what an operator wants to know besides."""
    besides = {
        "idempotency_key": record.key,
        "requested_by": record.requested_by,
        "request": record.command,
        "service_id": record.service_id,
        "in_doubt": record.doubt,
        "due_at": _time(record.due),
        "give_up_at": timestamp(record.give_up_at),
    }
    # AiTEMS's answer stands in the document as it came; a line's end can be between its tokens only.
    document = status_document(record).replace("\r", " ").replace("\n", " ")
    return printable(f"{document[:-1]},{json.dumps(besides, ensure_ascii=False, separators=(',', ':'))[1:]}")


def json_line(value: object) -> str:
    """Return any value as JSON; a number beyond all numbers, which JSON does not have, as null."""
    try:
        return printable(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except ValueError:
        return printable(json.dumps(_finite(value), ensure_ascii=False))


def printable(text: str) -> str:
    """Return JSON text so that standard output can take it, and everything as JSON writes it."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(character if character.isascii() else json.dumps(character)[1:-1] for character in text)
    return text


def _fields(errors: list[dict[str, Any]]) -> Iterator[str]:
    for error in errors:
        yield f"          {str(error.get('pointer', '')).removeprefix('#/') or 'request'}: {error.get('detail')}"


def _documents(problem: Problem | None) -> list[dict[str, Any]]:
    return [error.document() for error in problem.errors] if problem else []


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else timestamp(milliseconds)


def _finite(value: Any) -> Any:  # noqa: ANN401  any JSON
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
