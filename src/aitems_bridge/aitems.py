"""The AiTEMS client, and what its answers prove.

The table is :func:`prove`; there is no other. What it does not know is ``Unknown``: a wrong *rejected* is for ever, a
wrong *unknown* costs one look.

Sources: https://api.ncloud-docs.com/docs/en/ai-application-service-aitems-service-create, `…-service-list`,
`…-service-read`, and https://api-gov.ncloud-docs.com/docs/api-call-lgc-errorhandling for the gateway's errors.
"""

import json
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from aitems_bridge import metrics
from aitems_bridge.errors import EXAMINED, BridgeError, Misconfigured, Problem, Upstream
from aitems_bridge.ncp import Keys, signed_headers
from aitems_bridge.record import SECOND, Clock, Made, NotDone, Outcome, Rejection, Unknown, duplicate_name
from aitems_bridge.wire import Answer, Lost, NotSent, Permit, exchange

if TYPE_CHECKING:
    from aitems_bridge.service import Service

SERVICES = "/api/v1/services"
CONNECT = 3.0
"""Seconds to connect, TLS included."""
PAGE = 1000
MOST_STARTS = 3
LONGEST_ANSWER = 128_000
"""Bytes of an answer that are recorded whole; of a longer one the documented fields are kept."""
LONGEST_CODE = 100
"""Characters of an error's code that are kept: a problem is recorded, and announced."""

KeySource = Callable[[bool], tuple[Keys, bool]]
"""Gives the keys, and whether they were read just now. True asks to read them anew, which may be denied for a while.
Raises ``Misconfigured``."""


class LookFailed(BridgeError):
    """AiTEMS could not be read, or not to the end: a look that did not finish is no look."""

    def __init__(self, problem: Problem, ids: tuple[str, ...] = ()) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.ids = ids
        """Services that could be the request's, as far as they were seen."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A service as the list shows it: no description, no type."""

    service_id: str
    name: str
    status: str | None
    created: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that bears the name, from one complete reading of the list.

    ``ahead`` says how far AiTEMS's clock, in UTC, is ahead of ours by the answer's ``Date``; None where it had none.
    """

    named: tuple[Listed, ...]
    other_case: tuple[Listed, ...]
    ahead: Clock | None


class AiTEMS:
    """AiTEMS behind NAVER's gateway. ``now`` gives milliseconds since the epoch."""

    def __init__(
        self,
        base_url: str,
        keys: KeySource,
        *,
        utc_offset: int = 9 * 3600 * SECOND,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.utc_offset = utc_offset
        self.zone_agrees = True
        """False once a service made just now bore a date that the configured zone does not explain."""
        self._base_url = base_url.rstrip("/")
        self._keys = keys
        self._now = now
        self._context = context

    def create(self, command: dict[str, str], permit: Permit) -> Outcome:
        """Send one creation (two where the keys were found to be old) and return what it came to. Raises nothing."""
        body = json.dumps(command, ensure_ascii=False, separators=(",", ":")).encode()
        posts, begun = 0, self._now()
        try:
            keys, fetched = self._keys(False)
            answer = self._send("POST", SERVICES, body, keys, permit)
            posts = 1
            if answer.status == _UNAUTHORISED and not fetched and _shape(answer) is not None:
                keys, fetched = self._keys(True)
                if fetched:
                    begun = self._now()
                    answer = self._send("POST", SERVICES, body, keys, permit)
                    posts = 2
        except Misconfigured as error:
            return NotDone(Problem("keys-refused", str(error)), posts=posts)
        except NotSent as error:
            return NotDone(_unreachable(str(error)), posts=posts)
        except Lost as error:
            return Unknown(_lost(str(error)), posts=posts + 1)
        outcome = prove(answer, command["name"], begun, self._now(), posts)
        if isinstance(outcome, Made):
            self._check_zone(outcome.answer)
        return outcome

    def list_named(self, name: str, permit: Permit) -> Listing:
        """Read the whole list and return what bears the name. Raises ``LookFailed``.

        Pages overlap by one element and are read until nothing follows, for the server may cap the page; where two do
        not join, something was made or deleted meanwhile and the reading starts again.
        """
        for _ in range(MOST_STARTS):
            listing = self._read_list(name, permit)
            if listing is not None:
                return listing
        raise LookFailed(Problem("aitems-unavailable", "The list of services kept changing while it was read."))

    def read(self, service_id: str, permit: Permit) -> "tuple[Service, str] | None":
        """Return a service and its JSON text, or None where AiTEMS says that there is none. Raises ``LookFailed``."""
        answer = self._get(f"{SERVICES}/{quote(service_id, safe='')}", permit, missing=True)
        if answer is None:
            return None
        service = _service(answer.body)
        if service is None:
            raise LookFailed(_unreadable(answer))
        return service, _kept(answer.body, service)

    def _read_list(self, name: str, permit: Permit) -> Listing | None:
        offset, last, ahead = 0, None, None
        found: dict[str, Listed] = {}
        while True:
            sent = self._now()
            answer = self._get(f"{SERVICES}?offset={offset}&limit={PAGE}", permit)
            if answer is None:
                raise LookFailed(_unreachable("no list"))
            ahead = _ahead(answer, sent, self._now()) or ahead
            page = page_of(answer)
            if last is not None and (not page or page[0].service_id != last):
                return None
            for listed in page:
                if listed.name.lower() == name.lower():
                    found[listed.service_id] = listed
            if len(page) <= (0 if last is None else 1):
                break
            last = page[-1].service_id
            offset += len(page) - 1
        named = tuple(listed for listed in found.values() if listed.name == name)
        return Listing(named, tuple(listed for listed in found.values() if listed.name != name), ahead)

    def _get(self, target: str, permit: Permit, *, missing: bool = False) -> Answer | None:
        try:
            keys, fetched = self._keys(False)
            answer = self._send("GET", target, None, keys, permit)
            if answer.status == _UNAUTHORISED and not fetched:
                keys, fetched = self._keys(True)
                if fetched:
                    answer = self._send("GET", target, None, keys, permit)
        except Misconfigured as error:
            raise LookFailed(Problem("keys-refused", str(error))) from error
        except (NotSent, Lost) as error:
            raise LookFailed(_unreachable(str(error))) from error
        if answer.status == _OK:
            return answer
        if answer.status == _NOT_FOUND and missing and (shape := _shape(answer)) and not shape.gateway:
            return None
        outcome = prove(answer, "", 0, 0, 1)
        raise LookFailed(outcome.problem if not isinstance(outcome, Made) else _unreadable(answer))

    def _send(self, method: str, target: str, body: bytes | None, keys: Keys, permit: Permit) -> Answer:
        headers = signed_headers(method, target, self._now(), keys)
        headers |= {"Accept": "application/json", "User-Agent": "aitems-bridge"}
        return exchange(
            method,
            self._base_url + target,
            headers=headers,
            body=body,
            connect_timeout=CONNECT,
            permit=permit,
            context=self._context,
        )

    def _check_zone(self, answer: str) -> None:
        created = wall(json.loads(answer).get("createdDate"))
        if created is not None:
            self.zone_agrees = abs(created - self.utc_offset - self._now()) <= _ZONE_TOLERANCE
            if not self.zone_agrees:
                metrics.put(ClockMismatch=1)


_ZONE_TOLERANCE = 300 * SECOND
_OK, _CREATED_AND_LIKE = 200, range(200, 300)
_BAD_REQUEST, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _TOO_MANY = 400, 401, 403, 404, 413, 429
_NOT_SUBSCRIBED, _QUOTA = "210", "400"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_DEEP = 100


@dataclass(frozen=True, slots=True)
class _Shape:
    """An error told in one of the two documented shapes; the content type says nothing."""

    gateway: bool
    code: str
    message: str
    timestamp: str | None = None


def prove(answer: Answer, name: str, begun: int, answered: int, posts: int) -> Outcome:  # noqa: C901, PLR0911  # a table
    """Return what the answer to a creation of ``name`` proves: the one table.

    ``begun`` and ``answered`` are our clock, in milliseconds, around the call.
    """
    status, shape = answer.status, _shape(answer)
    upstream = _upstream(answer, shape)
    if status in _CREATED_AND_LIKE:
        told = _told(answer.body)
        if told is not None and told.name == name:
            return Made(told.text, told.service_id, posts)
        return Unknown(_unreadable(answer), posts)
    if status == _TOO_MANY:
        slow = shape is not None and shape.gateway and shape.code == _QUOTA
        what = "the quota is used up" if slow else "too many requests"
        return NotDone(Problem("aitems-throttled", f"AiTEMS's gateway says: {what}.", upstream=upstream), slow, posts)
    if shape is not None:
        match status:
            case 400 if not shape.gateway and shape.code == "DUPLICATE_NAME":
                problem = _with_upstream(duplicate_name(name), upstream)
                return Rejection(problem, duplicate=True, clock=_clock(shape, begun, answered), posts=posts)
            case 400 if not shape.gateway:
                said = f"AiTEMS refuses the service: {shape.message or shape.code}"
                return Rejection(Problem("refused-by-aitems", said, upstream=upstream), posts=posts)
            case 413:
                said = "AiTEMS's gateway finds the request too large."
                return Rejection(Problem("refused-by-aitems", said, upstream=upstream), posts=posts)
            case 400:
                said = "AiTEMS's gateway cannot read the bridge's requests: is a proxy in between?"
                return NotDone(Problem("aitems-unavailable", said, upstream=upstream), posts=posts)
            case 401 if shape.code != _NOT_SUBSCRIBED:
                return NotDone(_unauthorised(upstream), posts=posts)
            case 401 | 403 | 404:
                return NotDone(_not_permitted(status, upstream), posts=posts)
    return Unknown(_unproven(status, upstream), posts)


def wall(text: object) -> int | None:
    """Return AiTEMS's date, which bears no zone, as milliseconds since the epoch of its own wall clock."""
    if not isinstance(text, str):
        return None
    try:
        read = datetime.fromisoformat(text)
        read = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
        return round(read.timestamp() * SECOND)
    except (ValueError, OverflowError):
        return None


def _shape(answer: Answer) -> _Shape | None:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict) and isinstance(error.get("errorCode"), str | int):
        return _Shape(
            gateway=True, code=_whole(str(error["errorCode"]))[:LONGEST_CODE], message=_plain(error.get("message"))
        )
    if isinstance(error, str) and "status" in document and isinstance(document.get("errorCode"), str):
        timestamp = document.get("timestamp")
        return _Shape(
            gateway=False,
            code=_whole(error)[:LONGEST_CODE],
            message=_plain(document.get("message")),
            timestamp=timestamp if isinstance(timestamp, str) else None,
        )
    return None


class _Told(NamedTuple):
    """What an answer has to tell of the service that was made: id, name, and the JSON text to keep."""

    service_id: str
    name: str
    text: str


def _told(body: bytes) -> _Told | None:
    """Return what an answer tells; None where it tells of no service."""
    if (plain := _told_plainly(body)) is not None:
        return plain
    service = _service(body)
    return None if service is None else _Told(service.service_id, service.name, _kept(body, service))


def _told_plainly(body: bytes) -> _Told | None:
    """Return the same without pydantic, which is a quarter of a cold start, where all is plain to see.

    Not plain is what pydantic's parser may see in another way than Python's: much depth, and halves of surrogate pairs.
    """
    if len(body) > LONGEST_ANSWER or body.count(b"{") + body.count(b"[") > _DEEP or _SURROGATE.search(body):
        return None
    try:
        text = body.decode("utf-8")
        match json.loads(text, parse_constant=_no_constant):
            case {"serviceId": str(service_id), "name": str(name)} if service_id:
                return _Told(service_id, name, text)
    except (ValueError, RecursionError):
        pass
    return None


def _service(body: bytes) -> "Service | None":
    from pydantic import ValidationError  # noqa: PLC0415  # see _told_plainly

    from aitems_bridge.service import Service  # noqa: PLC0415  # as above

    try:
        json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        return Service.model_validate_json(body)
    except (ValueError, RecursionError, ValidationError):
        return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kept(body: bytes, service: "Service") -> str:
    """Return the answer's own JSON text, as it came; of one that is too long, the documented fields."""
    if len(body) <= LONGEST_ANSWER:
        return body.decode("utf-8")
    documented = service.model_dump(by_alias=True, exclude_none=True, include=set(type(service).model_fields))
    for bulky in ("datasets", "infers", "hpConfig"):
        if len(text := json.dumps(documented)) <= LONGEST_ANSWER:
            return text
        documented.pop(bulky, None)
    return json.dumps({"serviceId": service.service_id, "name": service.name, "createdDate": service.created_date})


def page_of(answer: Answer) -> list[Listed]:
    """Return the services on one page of the list. Raises ``LookFailed`` where it is no such page."""
    try:
        services = json.loads(answer.body)["services"]
        if isinstance(services, list):  # anything else that is empty would be read as: there is none
            return [
                Listed(str(each["serviceId"]), str(each["name"]), str(each.get("status")), each.get("createdDate"))
                for each in services
            ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LookFailed(_unreadable(answer)) from error
    raise LookFailed(_unreadable(answer))


def _clock(shape: _Shape, begun: int, answered: int) -> Clock | None:
    stamped = wall(shape.timestamp)
    return None if stamped is None else Clock(stamped - answered, stamped - begun)


def _ahead(answer: Answer, sent: int, answered: int) -> Clock | None:
    try:
        date = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return None
    # The header is cut to the second: the clock stood anywhere in the second it names.
    stamped = round(date.timestamp() * SECOND)
    return Clock(stamped - answered, stamped + SECOND - sent)


def _upstream(answer: Answer, shape: _Shape | None) -> Upstream:
    trace_id = answer.headers.get("x-ncp-trace-id") or answer.headers.get("x-ncp-apigw-request-id")
    return Upstream(
        status=answer.status,
        code=shape.code if shape else None,
        message=shape.message if shape else None,
        trace_id=trace_id[:100] if trace_id else None,
    )


def _plain(message: object) -> str:
    """Return a message without mark-up, in one line, at most 300 characters."""
    text = re.sub(r"<[^>]*>", " ", _whole(message)) if isinstance(message, str) else ""
    return " ".join(text.split())[:300]


def _whole(text: str) -> str:
    """Return a text without halves of surrogate pairs: not everybody reads them, and no file takes them."""
    return text.encode(errors="replace").decode()


def _with_upstream(problem: Problem, upstream: Upstream) -> Problem:
    return Problem(problem.slug, problem.detail, upstream=upstream)


def _unauthorised(upstream: Upstream | None) -> Problem:
    said = "AiTEMS does not accept the keys: check the keys secret, and that the Sub Account may use the API gateway."
    return Problem("keys-refused", said, upstream=upstream)


def _not_permitted(status: int, upstream: Upstream) -> Problem:
    why = {
        _UNAUTHORISED: "the account is not subscribed to AiTEMS, or the address is wrong",
        _FORBIDDEN: "the Sub Account lacks a permission",
        _NOT_FOUND: "there is no such address",
    }[status]
    return Problem("not-permitted", f"AiTEMS does not let the bridge in: {why}.", upstream=upstream)


def _unreachable(cause: str) -> Problem:
    return Problem("aitems-unavailable", f"AiTEMS could not be reached ({cause}); nothing was sent.")


def _lost(cause: str) -> Problem:
    said = f"The answer to the creation was lost ({cause}); {EXAMINED}"
    return Problem("outcome-unknown", said, upstream=Upstream(), may_exist=True)


def _unproven(status: int, upstream: Upstream) -> Problem:
    said = f"AiTEMS answered {status}, which proves nothing; {EXAMINED}"
    return Problem("outcome-unknown", said, upstream=upstream, may_exist=True)


def _unreadable(answer: Answer) -> Problem:
    said = f"AiTEMS answered {answer.status} with something that cannot be read; {EXAMINED}"
    return Problem("outcome-unknown", said, upstream=_upstream(answer, None), may_exist=True)
