"""The Webhook function: HTTP in, an answer out.

``POST /hooks/{caller}`` verifies, reads and opens a request; ``GET /hooks/{caller}/requests/{request_id}`` shows one.
Accepted means recorded, and recorded means it will be settled; whatever else happens is a problem document (RFC 9457).
"""

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from aws_lambda_powertools import Logger

from aitems_bridge import chat, config, doors, metrics
from aitems_bridge.bridge import Bridge, Invocation, KeyReused, Order, fingerprint, from_environment
from aitems_bridge.callers import (
    Caller,
    Callers,
    ChatCaller,
    HookCaller,
    SlackCaller,
    StandardCaller,
    WorksCaller,
    unavailable,
)
from aitems_bridge.errors import Misconfigured, NotRecorded, Problem, Refused
from aitems_bridge.events import status_document
from aitems_bridge.models import CreateService, quoted
from aitems_bridge.record import SECOND, Record, State

ANSWER_RESERVE = 3 * SECOND
"""Kept back, of the function's time, for answering."""
LONGEST_READ = 15 * SECOND
POLL = 0.4
LONGEST_ADDRESS = 2000
"""Characters of an address to report to; Slack's have a tenth of that."""

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
    say: Callable[[dict[str, Any]], None] | None = None
    """Puts a message for a chat into the replies queue; None where chats are not replied to."""

    def answer(self, event: dict[str, Any], ends: int) -> Response:
        """Return the answer to one call; the process may run until ``ends``. Raises nothing that a caller caused."""
        logger.thread_safe_clear_keys()
        try:
            parameters = event.get("pathParameters") or {}
            name, request_id = parameters.get("caller", ""), parameters.get("request_id")
            headers = {key.lower(): value for key, value in (event.get("headers") or {}).items()}
            caller = self.callers.find(name)
            logger.thread_safe_append_keys(caller=name)
            call = Call(name, headers, _body(event), ends)
            return self._take(call, caller) if request_id is None else self._show(call, caller, request_id)
        except doors.SignatureRefused as refused:
            logger.warning("signature refused", extra={"cause": refused.cause})
            metrics.put(SignatureRefused=1)
            return _problem(refused.problem)
        except NotRecorded as refused:
            logger.error("not recorded", extra={"cause": refused.cause})  # noqa: TRY400  # the cause is all there is
            return _problem(refused.problem)
        except Refused as refused:
            return _problem(refused.problem)
        except KeyReused as reused:
            detail = "This key was used for a request with other content. Send this one under a new key."
            return _problem(Problem("key-reused", detail), request_id=reused.record.id)

    def _take(self, call: "Call", caller: Caller) -> Response:
        key, caller = self._verified(call, caller)
        if isinstance(caller, SlackCaller):
            return self._slack(call, caller)
        if isinstance(caller, WorksCaller):
            return self._works(call, caller)
        return self._hook(call, caller, key)

    def _hook(self, call: "Call", caller: HookCaller, key: str) -> Response:
        """Take in a hook's delivery: the checks stand in the order in which the contract has them."""
        if (reason := caller.ignored(call.headers)) is not None:
            return _ignored(reason)
        _check_media_type(call.headers)
        document = doors.json_object(call.body)
        if not caller.wants(document):
            return _ignored("the body is not what this caller's 'when' asks for")
        key = caller.key_in(document) or key
        order = Order(caller.scheme, f"hook:{call.name}", key, call.name, None, "", caller.requested_by(document))
        logger.thread_safe_append_keys(request_id=order.request_id)
        asked, origins = caller.asked(document)
        try:
            command = CreateService.parse(asked, origins=origins)
        except Refused as refused:
            if not caller.delivers:
                raise
            # Nobody reads the answer to a delivery: what is wrong is recorded, and announced to those who listen.
            invalid = replace(order, payload_hash=fingerprint(asked))
            record, known = self.bridge.refuse(invalid, refused.problem)
            logger.info("answered", extra={"state": str(record.state), "replayed": known})
            return _outcome(caller, record, replayed=known, applied="")
        _check_allowed(caller, command)
        order = replace(order, command=command.document(), payload_hash=fingerprint(command.document()))
        preferred = preference(call.headers.get("prefer", ""), caller.wait)
        wait = preferred.wait if preferred.wait is not None else (0 if preferred.respond_async else caller.wait)
        answer_by = min(self.now() + wait * SECOND, call.ends - ANSWER_RESERVE)
        record, known = self.bridge.open(order, Invocation(call.ends, answer_by, LONGEST_READ))
        if not known:
            record = self._awaited(record, answer_by)
        logger.info("answered", extra={"state": str(record.state), "replayed": known})
        return _outcome(caller, record, replayed=known, applied=preferred.applied)

    def _slack(self, call: "Call", caller: SlackCaller) -> Response:
        if (
            call.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/x-www-form-urlencoded"
        ):
            raise Refused(Problem("unsupported-media-type", "A slash command comes as a form."))
        form = doors.form(call.body)
        voice = chat.slack_voice(form.get("command", ""))
        user = form.get("user_id", "")
        if not caller.admits(form.get("team_id", ""), form.get("channel_id", ""), user):
            return _slack_text(voice.denied())
        order = Order("slack", f"hook:{call.name}", "", call.name, None, "", f"slack:{user}")
        if self.say is not None:
            address = form.get("response_url", "")
            order = replace(order, reply={"kind": "slack", "url": address if len(address) <= LONGEST_ADDRESS else ""})
        key = doors.checked_key(form.get("trigger_id"), "trigger_id")
        return _slack_text(self._obey(caller, voice, replace(order, key=key), form.get("text", "")))

    def _works(self, call: "Call", caller: WorksCaller) -> Response:
        _check_media_type(call.headers)
        message = WorksMessage.read(doors.json_object(call.body))
        doors.check_issued(message.issued, self.now())
        text = message.command
        if text is None:
            return _ignored("not a command")
        voice = chat.works_voice(caller.works.language)
        to = {"kind": "works", "bot": caller.works.bot_id, "language": caller.works.language} | message.to
        about = {}
        if not caller.admits(message.domain, message.channel, message.user):
            said = voice.denied()
        else:
            key = hashlib.sha256(message.identity(caller.works.bot_id).encode("utf-8", "surrogatepass")).hexdigest()
            reply = to if self.say is not None else None
            order = Order("works", f"hook:{call.name}", key, call.name, None, "", f"works:{message.user}", reply)
            said = self._obey(caller, voice, order, text)
            if isinstance(chat.read_command(text), chat.Create):
                about = {"request_id": order.request_id}  # for the log of who says it
        if self.say is not None:
            self.say({"kind": "say", "to": to, "text": said, "at": self.now(), **about})
        return _json(200, {"status": "accepted"})

    def _obey(self, caller: ChatCaller, voice: chat.Voice, order: Order, text: str) -> str:
        """Do what a chat command says, and return what is answered at once; the outcome is reported later."""
        command = chat.read_command(text)
        try:
            if isinstance(command, chat.Help):
                return voice.usage(command)
            if isinstance(command, chat.Status):
                record = self.bridge.ledger.last_of(command.name) if caller.allows(command.name) else None
                return voice.status(command.name, record, self.now())
            asked = CreateService.parse(caller.with_defaults(dict(command.asked)))
            _check_allowed(caller, asked)
            earlier = self._asked_before(order, asked.name)
            if earlier is not None:
                return voice.again(earlier, self.now())
            document = asked.document()
            logger.thread_safe_append_keys(request_id=order.request_id)
            record, known = self.bridge.open(replace(order, command=document, payload_hash=fingerprint(document)), None)
        except NotRecorded as refused:
            logger.error("not recorded", extra={"cause": refused.cause})  # noqa: TRY400  # as above
            return voice.shut()
        except Refused as refused:
            return voice.problem(refused.problem)
        logger.info("acknowledged", extra={"state": str(record.state), "replayed": known})
        return voice.accepted(asked.name, replies=self.say is not None)

    def _asked_before(self, order: Order, name: str) -> Record | None:
        """Return the same person's earlier request for the name, if it is young and not refused: people click twice."""
        earlier = self.bridge.ledger.last_of(name)
        if earlier is None or earlier.id == order.request_id or earlier.requested_by != order.requested_by:
            return None
        young = self.now() - earlier.requested_at <= chat.DOUBLE_SUBMIT
        return earlier if young and (earlier.state.open or earlier.state is State.CREATED) else None

    def _awaited(self, record: Record, answer_by: int) -> Record:
        """Wait for what there was no time to do here, as long as the caller wants to; nothing runs here meanwhile."""
        while record.state.open and record.last is None and self.now() + POLL * SECOND < answer_by:
            self.sleep(POLL)
            record = self.bridge.ledger.get(record.id) or record
        return record

    def _show(self, call: "Call", caller: Caller, request_id: str) -> Response:
        if not isinstance(caller, StandardCaller):
            # Any other scheme would sign an empty body the same for ever: no proof of anything.
            raise Refused(Problem("unknown-request", "Only callers with scheme 'standard' can ask for a request."))
        key, newest = self._verified(call, caller)
        if not isinstance(newest, StandardCaller) or call.body or key != request_id:
            # The path is not part of the signed text: the id that is, has to be the path's.
            raise doors.SignatureRefused("webhook-id is not the request id of the path, or there is a body", self.now())
        record = self.bridge.ledger.get(request_id)
        if record is None or record.scope != f"hook:{call.name}":
            raise Refused(Problem("unknown-request", "This caller has no request of that id."))
        return _status(200, record, {})

    def _verified(self, call: "Call", caller: Caller) -> tuple[str, Caller]:
        """Return the delivery's key; a signature that no secret makes asks once for the newest secrets."""
        try:
            return caller.verify(call.body, call.headers, self.now()), caller
        except doors.SignatureRefused:
            newest = self.callers.find(call.name, early=True)
            if newest == caller:
                raise
            return newest.verify(call.body, call.headers, self.now()), newest


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call: the caller's name in the path, headers by lower-case name, the decoded body, when time is up."""

    name: str
    headers: Mapping[str, str]
    body: bytes
    ends: int


@dataclass(frozen=True, slots=True)
class WorksMessage:
    """A callback of NAVER WORKS, as far as it is a message.

    Source: https://developers.worksmobile.com/en/docs/bot-callback-message
    """

    user: str
    channel: str | None
    domain: object
    issued: object
    text: str | None

    @classmethod
    def read(cls, document: dict[str, Any]) -> "WorksMessage":
        """Return what the callback says; whatever it lacks is empty. What nobody could be answered has no text."""
        source, content = document.get("source"), document.get("content")
        source = source if isinstance(source, dict) else {}
        content = content if isinstance(content, dict) else {}
        user, channel, text = source.get("userId"), source.get("channelId") or None, content.get("text")
        is_text = document.get("type") == "message" and content.get("type") == "text" and isinstance(text, str)
        if not doors.is_id(user) or not (channel is None or doors.is_id(channel)):
            user, channel, is_text = "", None, False
        return cls(
            user=user,
            channel=channel,
            domain=source.get("domainId"),
            issued=document.get("issuedTime"),
            text=text if is_text else None,
        )

    @property
    def command(self) -> str | None:
        """The text without the bot's name; None where it is not meant for the bot: in a channel others talk too."""
        if self.text is None:
            return None
        named = re.match(r"\s*/?aitems(?=\s|$)", self.text, re.IGNORECASE)
        if named is None and self.channel is not None:
            return None
        return self.text[named.end() :] if named else self.text

    @property
    def to(self) -> dict[str, str]:
        """Where to answer."""
        return {"channel": self.channel} if self.channel else {"user": self.user}

    def identity(self, bot_id: str) -> str:
        """Return what tells one message from another: WORKS gives no id."""
        return "\n".join((bot_id, self.user, self.channel or "", str(self.issued), self.text or ""))


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


def _check_allowed(caller: Caller, command: CreateService) -> None:
    if not caller.allows(command.name):
        detail = f"This caller may not create a service named {quoted(command.name)}: ask for the name to be allowed."
        raise Refused(Problem("name-not-allowed", detail))


def _ignored(reason: str) -> Response:
    return _json(200, {"status": "ignored", "reason": reason})


def _slack_text(text: str) -> Response:
    return _json(200, {"response_type": "ephemeral", "text": text})


def _outcome(caller: HookCaller, record: Record, *, replayed: bool, applied: str) -> Response:
    headers = {"Location": f"/hooks/{record.caller}/requests/{record.id}"} if caller.scheme == "standard" else {}
    if applied:
        headers["Preference-Applied"] = applied
    if replayed and record.state.final:
        headers["Idempotency-Replayed"] = "true"
    if not record.state.final:
        headers["Retry-After"] = "30" if record.state is State.UNKNOWN else "5"
        return _status(202, record, headers)
    if caller.delivers:
        return _status(200, record, headers)
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


def _json(status: int, document: dict[str, Any]) -> Response:
    return _response(status, json.dumps(document), "application/json", {})


def _status(status: int, record: Record, headers: dict[str, str]) -> Response:
    return _response(status, status_document(record), "application/json", headers | {"X-Request-Id": record.id})


def _response(status: int, body: str, media_type: str, headers: dict[str, str]) -> Response:
    headers = {"Content-Type": media_type, "Cache-Control": "no-store"} | headers
    return {"statusCode": status, "headers": headers, "body": body, "isBase64Encoded": False}


@cache
def _webhook() -> Webhook:
    secret = config.Secret("CALLERS_SECRET_ARN")

    def report(name: str, fault: str) -> None:
        logger.error("callers document: this needs an operator", extra={"caller": name, "fault": fault})
        metrics.put(CallersInvalid=1)

    replies = os.environ.get("REPLIES_QUEUE_URL")
    callers = Callers(lambda early: secret.text(early=early), report)
    return Webhook(from_environment(), callers, config.now, say=partial(_say, replies) if replies else None)


def _say(queue_url: str, message: dict[str, Any]) -> None:
    """Queue what a chat is to be told. A chat that hears nothing is no reason to refuse what was recorded."""
    try:
        _queues().send_message(QueueUrl=queue_url, MessageBody=json.dumps(message))
    except Exception:
        logger.exception("a chat message was not queued")


@cache
def _queues() -> Any:  # noqa: ANN401  # one of botocore's run-time classes
    return config.client(
        "sqs", connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
    )


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
