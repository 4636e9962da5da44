"""AiTEMS without a network: the rules it keeps, the clock it reads and all it remembers.

The rules are those of NAVER's documentation and of recorded answers; where nobody knows how AiTEMS behaves, a setting
chooses. Nothing here is shared with the bridge, so that both can be wrong only independently.
"""

import json
import math
import re
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import combinations
from typing import Annotated, Literal
from urllib.parse import parse_qs

import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter

Json = dict[str, object]
Operation = Literal["create", "list", "read", "rename", "delete"]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]

# api.ncloud-docs.com/docs/en/ai-application-service-aitems-service-create
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{2,19}")
_TYPES = ("batch", "interval")
_DESCRIPTION_LENGTH = 100
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH = 11
_SECRETS = ("access_key", "secret_key")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", hide_input_in_errors=True))
class Settings:
    """How this AiTEMS behaves. Checked when made: pydantic's ValidationError names the field."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    utc_offset: timedelta = timedelta(hours=9)
    """The zone its dates are written in, without saying so. In JSON: seconds, or ISO 8601 such as `PT9H`."""
    clock_skew: Annotated[float, Field(ge=-1e9, le=1e9)] = 0.0
    """Seconds by which its clock is ahead of the machine's."""
    uniqueness: Literal["atomic", "race", "none"] = "atomic"
    """`race` looks whether the name is free, waits `race_window`, and inserts without another look."""
    race_window: Seconds = 0.1
    ignore_case: bool = False
    """Whether names that differ in letter case only are the same."""
    page_cap: Annotated[int, Field(ge=1)] | None = None
    """The most elements in one page of the list, whatever `limit` asks for."""
    list_delay: Seconds = 0.0
    """How long a new service is readable by its id but not listed."""
    oldest_first: bool = False
    timestamps_in_duplicate: bool = True
    deleting_reserves_name: bool = False
    """A deleted service stays, listed as `deleting`, and its name stays taken."""
    created_status: Annotated[int, Field(ge=200, le=299)] = 201
    extra_fields: dict[str, object] = field(default_factory=dict)
    """Laid over every service in every answer; a documented field may be overwritten."""
    omit_fields: tuple[str, ...] = ()
    """Left out of every service in every answer."""
    latency: Seconds = 0.0
    """How long each call takes before anything is decided."""


@dataclass(frozen=True, kw_only=True)
class MadeService:
    """A service that was made, whatever became of it. Times are seconds since the epoch."""

    service_id: str
    name: str
    made_as: str
    """The name it was made under; `name` is the present one."""
    description: str
    type: str
    created: float
    """By the machine's clock, comparable with a call's times."""
    dated: float
    """The same by AiTEMS's clock: this is printed as `createdDate`."""
    updated: float
    """By AiTEMS's clock."""
    call: int | None
    """Number of the call that made it; None when a person made it."""
    status: str = "datasetRequired"
    deleted: float | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that was received whole. Times are seconds since the epoch, by the machine's clock."""

    number: int
    method: str
    path: str
    """As sent, query included."""
    operation: Operation | None
    name: str | None
    """The name asked for or, for a service that exists, its own."""
    arrived: float
    done: float | None = None
    """When nothing more could come of it: a late commit counts until it has landed, an answer held back does not."""
    status: int | None = None
    """As answered; None while under way and where no HTTP answer was sent."""
    signed: bool = False
    fault: str | None = None
    service_id: str | None = None
    """The service it made."""

    def overlaps(self, other: "Call") -> bool:
        """Tell whether both were under way at one moment."""
        return self.arrived < (other.done or math.inf) and other.arrived < (self.done or math.inf)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer before it is written; `body` stands in for `document` where it is no JSON."""

    status: int
    document: Json = field(default_factory=dict)
    content_type: str = "application/json;charset=UTF-8"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The body's bytes: UTF-8, escaped only if the text cannot be written otherwise (lone surrogates)."""
        if self.body is not None:
            return self.body
        try:
            return json.dumps(self.document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return json.dumps(self.document).encode()


class Interrupted(Exception):
    """The emulator was stopped or reset while this call was held."""


class _Refused(Exception):
    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message


class Aitems:
    """The account's AiTEMS. Everything public may be used from any thread; snapshots do not change afterwards."""

    def __init__(self, **settings: object) -> None:
        self._initial = self._settings = TypeAdapter(Settings).validate_python(settings)
        self._changed = threading.Condition(threading.RLock())
        self._released = threading.Event()
        self._services: dict[str, MadeService] = {}
        self._calls: dict[int, Call] = {}
        self._last_number = 0

    # What it is set to

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    def configure(self, **changes: object) -> None:
        """Change settings, keys too, from the next call on: all of them or, with pydantic's ValidationError, none."""
        with self._changed:
            present = {each.name: getattr(self._settings, each.name) for each in fields(self._settings)}
            self._settings = TypeAdapter(Settings).validate_python({**present, **changes})
            self._changed.notify_all()

    def now(self) -> float:
        """Seconds since the epoch by AiTEMS's own clock."""
        return time.time() + self._settings.clock_skew

    def pause(self, seconds: float) -> None:
        """Take that long. Raises Interrupted at once when the emulator is stopped or reset."""
        if seconds > 0 and self._released.wait(seconds):
            raise Interrupted

    # What happened

    @property
    def services(self) -> tuple[MadeService, ...]:
        """Every service ever made, deleted ones too, in the order they were made."""
        with self._changed:
            return tuple(self._services.values())

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call received whole, in order of arrival."""
        with self._changed:
            return tuple(self._calls.values())

    def services_named(self, name: str) -> tuple[MadeService, ...]:
        """Every service made under this name, also if it was renamed or deleted since."""
        return tuple(service for service in self.services if service.made_as == name)

    def posts_named(self, name: str) -> tuple[Call, ...]:
        """Every call that asked for a service of this name, refused ones too."""
        return tuple(call for call in self.calls if call.operation == "create" and call.name == name)

    def overlapping_posts(self) -> tuple[tuple[Call, Call], ...]:
        """Pairs of rightly signed creations of one name that were under way at the same time."""
        posts = [call for call in self.calls if call.operation == "create" and call.signed and call.name is not None]
        return tuple((a, b) for a, b in combinations(posts, 2) if a.name == b.name and a.overlaps(b))

    def wait_until(self, holds: Callable[[], bool], timeout: float = 5.0) -> bool:
        """Wait until something that depends on services or calls holds; False if it does not within the seconds."""
        with self._changed:
            return self._changed.wait_for(holds, timeout)

    def state(self) -> Json:
        """All of it as JSON can say it, without the keys."""
        with self._changed:
            settings = TypeAdapter(Settings).dump_python(self._settings, mode="json")
            return {
                "services": [asdict(service) for service in self.services],
                "calls": [asdict(call) for call in self.calls],
                "overlapping_posts": [[a.number, b.number] for a, b in self.overlapping_posts()],
                "settings": {name: value for name, value in settings.items() if name not in _SECRETS},
            }

    # What people do in the console

    def by_hand(
        self,
        name: str,
        description: str = "",
        type: str = "batch",  # noqa: A002 - AiTEMS's word
        created: float | None = None,
    ) -> MadeService:
        """Make a service as a person would, `created` seconds since the epoch (default: now).

        No rule is checked, not even uniqueness, so that a test can set up what should not be.
        """
        return self._insert({"name": name, "description": description, "type": type}, created=created)

    def rename_by_hand(self, service_id: str, name: str) -> MadeService:
        """Give a service another name, unchecked. Raises KeyError."""
        return self._change(service_id, name=name)

    def delete_by_hand(self, service_id: str) -> MadeService:
        """Delete a service. Raises KeyError."""
        return self._change(service_id, deleted=time.time(), status=self._status_of_deleted())

    def reset(self) -> None:
        """Forget all services and calls, let go of every held call, and take the settings it was made with."""
        with self._changed:
            self._released.set()
            self._released = threading.Event()
            self._services, self._calls, self._settings = {}, {}, self._initial
            self._changed.notify_all()

    # The journal, kept by whoever receives the calls

    def arrived(self, method: str, path: str, operation: Operation | None, name: str | None) -> int:
        """Note a call that was read to its end, and number it."""
        with self._changed:
            self._last_number += 1
            self._calls[self._last_number] = Call(
                number=self._last_number, method=method, path=path, operation=operation, name=name, arrived=time.time()
            )
            self._changed.notify_all()
            return self._last_number

    def note(self, number: int, **changes: object) -> None:
        """Write down more about a call; nothing if it is forgotten."""
        with self._changed:
            if number in self._calls:
                self._calls[number] = replace(self._calls[number], **changes)  # type: ignore[arg-type]
                self._changed.notify_all()

    def done(self, number: int) -> None:
        """Note that nothing more can come of a call. The first time counts."""
        with self._changed:
            if number in self._calls and self._calls[number].done is None:
                self.note(number, done=time.time())

    # What AiTEMS answers

    def perform(self, operation: Operation, subject: str, body: bytes, number: int) -> Answer:
        """Do what is asked, for real, and give AiTEMS's answer: the only place where calls have effects.

        `subject` is the service's id or, for the list, the query.
        """
        path = "/api/services" + (f"/{subject}" if operation in ("read", "rename", "delete") else "")
        try:
            match operation:
                case "create":
                    return self._create(body, number)
                case "list":
                    return self._list(subject)
                case "rename":
                    return self._rename(subject, body)
                case "delete":
                    self._existing(subject)
                    self.delete_by_hand(subject)
                    return Answer(HTTPStatus.OK, {"result": "ok"})
                case "read":
                    return Answer(HTTPStatus.OK, self._detail(self._existing(subject)))
        except _Refused as refusal:
            return self.refusal(refusal.status, refusal.error, refusal.message, path)

    def refusal(self, status: int, error: str, message: str, path: str) -> Answer:
        """AiTEMS's own, flat error body (as recorded in 2022); `path` is the one behind the gateway."""
        document: Json = {
            "timestamp": self._date(self.now()),
            "path": path,
            "status": status,
            "error": error,
            "requestId": uuid.uuid4().hex[:8],
            "errorCode": status_name(status),
            "message": message,
        }
        if error == "DUPLICATE_NAME" and not self._settings.timestamps_in_duplicate:
            del document["timestamp"]
        return Answer(status, document)

    def name_of(self, service_id: str) -> str | None:
        """Give the present name of a service, if there ever was one with that id."""
        with self._changed:
            service = self._services.get(service_id)
            return service.name if service else None

    def newest(self, name: str | None = None) -> MadeService | None:
        """Find the youngest service that is there, or the youngest of that name."""
        with self._changed:
            present = [each for each in self._present() if name in (None, each.name)]
            return max(present, key=lambda each: each.dated, default=None)

    def _create(self, body: bytes, number: int) -> Answer:
        command = _read_command(body)
        settings = self._settings
        with self._changed:
            if settings.uniqueness != "none":
                self._check_free(str(command["name"]))
            if settings.uniqueness != "race":
                return Answer(settings.created_status, self._detail(self._insert(command, number)))
        self.pause(settings.race_window)
        return Answer(settings.created_status, self._detail(self._insert(command, number)))

    def _rename(self, service_id: str, body: bytes) -> Answer:
        name = _read_name(_read_object(body))
        with self._changed:
            self._existing(service_id)
            if self._settings.uniqueness != "none":
                self._check_free(name, except_for=service_id)
            return Answer(HTTPStatus.OK, self._detail(self.rename_by_hand(service_id, name)))

    def _list(self, query: str) -> Answer:
        asked = parse_qs(query, keep_blank_values=True)
        offset, limit = _read_count(asked, "offset", 0), _read_count(asked, "limit", 1000)
        settings = self._settings
        limit = min(limit, settings.page_cap or limit)
        with self._changed:
            listed = [each for each in self._present() if time.time() >= each.created + settings.list_delay]
        ordered = sorted(listed, key=lambda each: each.dated)
        if not settings.oldest_first:
            ordered.reverse()
        page = [self._element(each) for each in ordered[offset : offset + limit]]
        return Answer(HTTPStatus.OK, {"services": page, "offset": offset, "limit": limit})

    def _insert(self, command: Json, number: int | None = None, created: float | None = None) -> MadeService:
        with self._changed:
            moment = time.time() if created is None else created
            dated = moment + self._settings.clock_skew
            service = MadeService(
                service_id="".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH)),
                name=str(command["name"]),
                made_as=str(command["name"]),
                description=str(command["description"]),
                type=str(command["type"]),
                created=moment,
                dated=dated,
                updated=dated,
                call=number,
            )
            self._services[service.service_id] = service
            if number is not None:
                self.note(number, service_id=service.service_id)
            self._changed.notify_all()
            return service

    def _change(self, service_id: str, **changes: object) -> MadeService:
        with self._changed:
            changed = replace(self._services[service_id], updated=self.now(), **changes)  # type: ignore[arg-type]
            self._services[service_id] = changed
            self._changed.notify_all()
            return changed

    def _status_of_deleted(self) -> str:
        return "deleting" if self._settings.deleting_reserves_name else "deleted"

    def _present(self) -> list[MadeService]:
        return [each for each in self._services.values() if each.status != "deleted"]

    def _existing(self, service_id: str) -> MadeService:
        with self._changed:
            for service in self._present():
                if service.service_id == service_id:
                    return service
        raise _Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", "[SERVICE] not found.")

    def _check_free(self, name: str, except_for: str = "") -> None:
        def key(text: str) -> str:
            return text.lower() if self._settings.ignore_case else text

        if any(key(each.name) == key(name) and each.service_id != except_for for each in self._present()):
            raise _Refused(HTTPStatus.BAD_REQUEST, "DUPLICATE_NAME", f"[{name}] is a duplicate name.")

    def _date(self, moment: float) -> str:
        local = datetime.fromtimestamp(moment, UTC) + self._settings.utc_offset
        return local.replace(tzinfo=None).isoformat(timespec="milliseconds")

    def _detail(self, service: MadeService) -> Json:
        return self._dressed(
            {
                "serviceId": service.service_id,
                "name": service.name,
                "description": service.description,
                "type": service.type,
                "status": service.status,
                "datasets": [],
                "hpConfig": {"is_enabled": False},
                "infers": [],
                "createdDate": self._date(service.dated),
                "updatedDate": self._date(service.updated),
            }
        )

    def _element(self, service: MadeService) -> Json:
        return self._dressed(
            {
                "serviceId": service.service_id,
                "name": service.name,
                "status": service.status,
                "createdDate": self._date(service.dated),
                "updatedDate": self._date(service.updated),
                "actionName": "View/getServiceDetail",
                "permission": "Allow",
            }
        )

    def _dressed(self, document: Json) -> Json:
        settings = self._settings
        return {
            name: value
            for name, value in {**document, **settings.extra_fields}.items()
            if name not in settings.omit_fields
        }


def status_name(status: int) -> str:
    """Give a status in AiTEMS's words, such as `BAD_REQUEST`."""
    return next((each.name for each in HTTPStatus if each == status), "UNKNOWN")


def asked_name(body: bytes) -> str | None:
    """Give the name a body asks for, if it can be made out at all."""
    try:
        name = _read_object(body).get("name")
    except _Refused:
        return None
    return name if isinstance(name, str) else None


def _bad(message: str) -> _Refused:
    return _Refused(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", message)


def _read_object(body: bytes) -> Json:
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise _bad("[BODY] is not JSON.") from error
    if not isinstance(document, dict):
        raise _bad("[BODY] is not a JSON object.")
    return document


def _read_name(document: Json) -> str:
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _bad("[NAME] must be 3 to 20 letters, digits, _ or -, beginning with a letter or _.")
    return name


def _read_command(body: bytes) -> Json:
    document = _read_object(body)
    given = {name: value for name, value in document.items() if value is not None}
    description, kind = given.get("description", ""), given.get("type", "batch")
    if not isinstance(description, str) or len(description) > _DESCRIPTION_LENGTH:
        raise _bad(f"[DESCRIPTION] must be text of at most {_DESCRIPTION_LENGTH} characters.")
    if kind not in _TYPES:
        raise _bad(f"[TYPE] must be one of {', '.join(_TYPES)}.")
    return {"name": _read_name(document), "description": description, "type": kind}


def _read_count(query: dict[str, list[str]], field_name: str, default: int) -> int:
    text = query.get(field_name, [str(default)])[-1]
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _bad(f"[{field_name.upper()}] must be a number.")
    return int(text)
