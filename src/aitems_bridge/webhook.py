"""The Webhook function: HTTP in, an answer out.

``POST /hooks/{caller}`` verifies, reads and opens a request; ``GET /hooks/{caller}/requests/{request_id}`` shows one.
Accepted means recorded, and recorded means it will be settled; whatever else happens is a problem document (RFC 9457).
"""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from aitems_bridge import config, doors
from aitems_bridge.bridge import Bridge, Invocation, KeyReused, Order, fingerprint, from_environment
from aitems_bridge.callers import Caller, Callers, standard_key, unavailable
from aitems_bridge.errors import Misconfigured, NotRecorded, Problem, Refused
from aitems_bridge.events import status_document
from aitems_bridge.models import CreateService, quoted
from aitems_bridge.record import SECOND, Record, State

ANSWER_RESERVE = 3 * SECOND
"""Kept back, of the function's time, for answering."""
LONGEST_READ = 15 * SECOND
POLL = 0.4

Response = dict[str, Any]

logger = Logger()


@dataclass(frozen=True, slots=True)
class Preference:
    """What the caller prefers (RFC 7240): not to wait at all, or at most ``wait`` seconds. ``applied`` echoes it."""

    respond_async: bool = False
    wait: int | None = None

    @property
    def applied(self) -> str:
        """The ``Preference-Applied`` header; empty where nothing was asked."""
        parts = ["respond-async"] if self.respond_async else []
        return ", ".join([*parts, f"wait={self.wait}"] if self.wait is not None else parts)


def preference(header: str, most: int) -> Preference:
    """Return what a ``Prefer`` header asks for, the wait clipped to ``most`` seconds; unknown ones are ignored."""
    respond_async, wait = False, None
    for part in header.split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name.strip().lower() == "respond-async" and not value:
            respond_async = True
        elif name.strip().lower() == "wait" and wait is None and re.fullmatch(r'"?[0-9]{1,6}"?', value.strip()):
            wait = min(most, int(value.strip().strip('"')))
    return Preference(respond_async, wait)


@dataclass(frozen=True)
class Webhook:
    """The HTTP door over its collaborators. ``now`` gives milliseconds since the epoch."""

    bridge: Bridge
    callers: Callers
    now: Callable[[], int]
    sleep: Callable[[float], None] = time.sleep

    def answer(self, event: dict[str, Any], ends: int) -> Response:
        """Return the answer to one call; the process may run until ``ends``. Raises nothing that a caller caused."""
        try:
            parameters = event.get("pathParameters") or {}
            name, request_id = parameters.get("caller", ""), parameters.get("request_id")
            headers = {key.lower(): value for key, value in (event.get("headers") or {}).items()}
            caller = self.callers.find(name)
            body = _body(event)
            if request_id is not None:
                return self._show(name, caller, request_id, headers, body)
            return self._take(name, caller, headers, body, ends)
        except doors.SignatureRefused as refused:
            logger.warning("signature refused", extra={"cause": refused.cause})
            return _problem(refused.problem)
        except Refused as refused:
            return _problem(refused.problem)
        except KeyReused as reused:
            detail = "This key was used for a request with other content. Send this one under a new key."
            return _problem(Problem("key-reused", detail), request_id=reused.record.id)

    def _take(self, name: str, caller: Caller, headers: Mapping[str, str], body: bytes, ends: int) -> Response:
        key, caller = self._verified(name, caller, headers, body)
        _check_media_type(headers)
        asked = caller.with_defaults(doors.json_object(body))
        try:
            command = CreateService.parse(asked)
        except Refused as refused:
            if caller.answer != "delivery":
                raise
            # Nobody reads the answer to a delivery: what is wrong is recorded, and announced to those who listen.
            invalid = Order(caller.scheme, f"hook:{name}", key, name, None, fingerprint(asked))
            record = self.bridge.refuse(invalid, refused.problem)
            return _outcome(caller, record, replayed=False, applied="")
        if not caller.allows(command.name):
            detail = (
                f"This caller may not create a service named {quoted(command.name)}: ask for the name to be allowed."
            )
            raise Refused(Problem("name-not-allowed", detail))
        document = command.document()
        order = Order(
            channel=caller.scheme,
            scope=f"hook:{name}",
            key=key,
            caller=name,
            command=document,
            payload_hash=fingerprint(document),
        )
        preferred = preference(headers.get("prefer", ""), caller.wait)
        wait = preferred.wait if preferred.wait is not None else (0 if preferred.respond_async else caller.wait)
        arrived = self.now()
        answer_by = min(arrived + wait * SECOND, ends - ANSWER_RESERVE)
        record, known = self.bridge.open(order, Invocation(ends, answer_by, LONGEST_READ))
        if not known:
            record = self._awaited(record, answer_by)
        logger.info("answered", extra={"request_id": record.id, "state": str(record.state), "replayed": known})
        return _outcome(caller, record, replayed=known, applied=preferred.applied)

    def _awaited(self, record: Record, answer_by: int) -> Record:
        """Wait for what there was no time to do here, as long as the caller wants to; nothing runs here meanwhile."""
        while record.state is State.RECEIVED and record.last is None and self.now() + POLL * SECOND < answer_by:
            self.sleep(POLL)
            record = self.bridge.ledger.get(record.id) or record
        return record

    def _show(self, name: str, caller: Caller, request_id: str, headers: Mapping[str, str], body: bytes) -> Response:
        key, _ = self._verified(name, caller, headers, body)
        if body or key != request_id:
            # The path is not part of the signed text: the id that is, has to be the path's.
            raise doors.SignatureRefused("webhook-id is not the request id of the path, or there is a body", self.now())
        record = self.bridge.ledger.get(request_id)
        if record is None or record.scope != f"hook:{name}":
            raise Refused(Problem("unknown-request", "This caller has no request of that id."))
        return _json(200, status_document(record), request_id=record.id)

    def _verified(self, name: str, caller: Caller, headers: Mapping[str, str], body: bytes) -> tuple[str, Caller]:
        """Return the delivery's key; a signature that no secret makes asks once for the newest secrets."""
        try:
            return self._verify(caller, headers, body), caller
        except doors.SignatureRefused:
            newest = self.callers.find(name, early=True)
            if newest == caller:
                raise
            return self._verify(newest, headers, body), newest

    def _verify(self, caller: Caller, headers: Mapping[str, str], body: bytes) -> str:
        return doors.standard(body, headers, [standard_key(secret) for secret in caller.secrets], self.now())


def _body(event: dict[str, Any]) -> bytes:
    text = event.get("body") or ""
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise doors.malformed("The body cannot be decoded.") from error
    else:
        body = text.encode("utf-8", "surrogatepass")
    if len(body) > doors.MOST_BYTES:
        raise Refused(Problem("body-too-large", f"The body has {len(body):,} bytes; {doors.MOST_BYTES:,} are allowed."))
    return body


def _check_media_type(headers: Mapping[str, str]) -> None:
    media_type, *parameters = [part.strip().lower() for part in headers.get("content-type", "").split(";")]
    charset = [part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")]
    is_json = media_type == "application/json" or re.fullmatch(r"[\w.+-]+/[\w.+-]+\+json", media_type)
    if not is_json or charset not in ([], ["utf-8"]):
        raise Refused(Problem("unsupported-media-type", "Send it as Content-Type: application/json, in UTF-8."))
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused(Problem("unsupported-media-type", "Send the body as it is, without a Content-Encoding."))


def _outcome(caller: Caller, record: Record, *, replayed: bool, applied: str) -> Response:
    headers = {"Location": f"/hooks/{record.caller}/requests/{record.id}"}
    if applied:
        headers["Preference-Applied"] = applied
    if replayed and record.state.final:
        headers["Idempotency-Replayed"] = "true"
    if not record.state.final:
        headers["Retry-After"] = "30" if record.state is State.UNKNOWN else "5"
        return _json(202, status_document(record), request_id=record.id, headers=headers)
    if caller.answer == "delivery":
        return _json(200, status_document(record), request_id=record.id, headers=headers)
    if record.state is State.CREATED and record.answer is not None:
        return _response(201, record.answer, "application/json", headers | {"X-Request-Id": record.id})
    problem = record.problem or Problem("refused-by-aitems", "AiTEMS refused the request.")
    return _problem(problem, request_id=record.id, headers=headers)


def _problem(problem: Problem, request_id: str | None = None, headers: dict[str, str] | None = None) -> Response:
    headers = dict(headers or {})
    if problem.slug in _RETRY_AFTER:
        headers["Retry-After"] = _RETRY_AFTER[problem.slug]
    if request_id:
        headers["X-Request-Id"] = request_id
    return _response(problem.status, json.dumps(problem.document(request_id)), "application/problem+json", headers)


_RETRY_AFTER = {"not-recorded": "5", "caller-unavailable": "300"}


def _json(status: int, document: dict[str, Any], *, request_id: str, headers: dict[str, str] | None = None) -> Response:
    return _response(status, json.dumps(document), "application/json", (headers or {}) | {"X-Request-Id": request_id})


def _response(status: int, body: str, media_type: str, headers: dict[str, str]) -> Response:
    headers = {"Content-Type": media_type, "Cache-Control": "no-store"} | headers
    return {"statusCode": status, "headers": headers, "body": body, "isBase64Encoded": False}


@cache
def _webhook() -> Webhook:
    secret = config.Secret("CALLERS_SECRET_ARN")

    def report(name: str, fault: str) -> None:
        logger.error("callers document: this needs an operator", extra={"caller": name, "fault": fault})

    return Webhook(from_environment(), Callers(lambda early: secret.text(early=early), report), config.now)


def handler(event: dict[str, Any], context: Any) -> Response:  # noqa: ANN401  # Lambda's context
    """Answer one call of the HTTP API (payload format 2.0)."""
    try:
        webhook = _webhook()
        return webhook.answer(event, webhook.now() + int(context.get_remaining_time_in_millis()))
    except Misconfigured as error:
        logger.error("misconfigured", extra={"remedy": str(error)})  # noqa: TRY400  # the message is the remedy
        return _problem(unavailable())
    except Exception:
        # Whether it was recorded is not known; the same key finds out, and a bare 500 would not say so.
        logger.exception("unexpected")
        return _problem(NotRecorded().problem)
