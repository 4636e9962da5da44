"""What can go wrong between the bridge and AiTEMS, as data: every kind of fault, and what it does to a call."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from aitems_local.emulated import Aitems, Answer, Json, Operation, Seconds, status_name

Kind = Literal[
    "hang_before",
    "hang_after",
    "close_before",
    "close_after",
    "reset_before",
    "reset_after",
    "error_before",
    "error_after",
    "status_only",
    "redirect",
    "slow",
    "slow_answer",
    "dripping",
    "broken_json",
    "cut_short",
    "garbage",
    "wrong_name",
    "doubled",
    "late_commit",
    "empty_list",
    "list_missing",
    "list_then_delete",
]
_CREATE_ONLY = ("wrong_name", "doubled", "late_commit")
_LIST_ONLY = ("empty_list", "list_missing", "list_then_delete")

# api-gov.ncloud-docs.com/docs/api-call-lgc-errorhandling
_MESSAGES = {
    "100": "Bad Request Exception",
    "200": "Authentication Failed",
    "210": "Permission Denied",
    "230": "Permission Denied",
    "300": "Not Found Exception",
    "400": "Quota Exceeded",
    "410": "Throttle Limited",
    "420": "Rate Limited",
    "430": "Request Entity Too Large",
    "500": "Endpoint Error",
    "510": "Endpoint Timeout",
    "900": "Unexpected Error",
}
_DETAILS = {
    "200": "Invalid authentication information.",
    "210": "A subscription to the API is required.",
}
_USUAL_CODES = {400: "100", 401: "200", 403: "230", 404: "300", 413: "430", 429: "410", 503: "500", 504: "510"}


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Fault:
    """One way to fail, for the next `times` calls it fits. Making a wrong one raises pydantic's ValidationError.

    Kinds that end in `_before` never do what was asked; all others do it, for real, and then spoil the answer, except
    `status_only` and `redirect` (never done) and `late_commit` (done later, if the name is free then).
    """

    kind: Kind
    name: str | None = None
    """Only for calls about a service of this name; for faults of the list: the service left out, not the newest."""
    on: Operation | Literal["any"] | None = None
    """Which calls; None: the list for faults of the list, else creation."""
    times: Annotated[int, Field(ge=1)] | None = 1
    """How many calls; None: until the faults are cleared."""
    seconds: Seconds | None = None
    """How long the answer (`slow`: the effect) is held back; `dripping`: per byte; `late_commit`: until it lands."""
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    code: str | int | None = None
    """The error code to name, as a string or a number; None: the one usual for the status."""
    shape: Literal["gateway", "flat", "html", "empty"] = "gateway"
    message: str | None = None
    content_type: str | None = None
    answer: Literal["504", "close", "reset", "hang"] = "504"
    """What the caller of a `late_commit` sees at once; `hang`: nothing until it lands, then the connection closes."""
    location: str = "/api/v1/elsewhere"

    @field_validator("on")
    @classmethod
    def _fits_the_kind(cls, on: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        for kinds, operation in ((_CREATE_ONLY, "create"), (_LIST_ONLY, "list")):
            if kind in kinds and on not in (None, operation):
                raise ValueError(f"{kind} can only happen on {operation}")
        if on == "list" and kind not in _LIST_ONLY and info.data.get("name") is not None:
            raise ValueError("a call for the list is about no name")
        return on

    @property
    def manner(self) -> "Manner":
        """What this kind does to a call."""
        return MANNERS[self.kind]

    @property
    def wait(self) -> float:
        """The seconds, or what is usual for the kind."""
        return self.manner.usual_wait if self.seconds is None else self.seconds

    def fits(self, operation: Operation, name: str | None) -> bool:
        """Tell whether it befalls such a call."""
        on = self.on or ("list" if self.kind in _LIST_ONLY else "create")
        return on in ("any", operation) and (self.kind in _LIST_ONLY or self.name in (None, name))


Ending = Literal["answer", "close", "reset"]
Spoiler = Callable[[Answer, Fault, Aitems, str], Answer]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """What a kind of fault does to a call: whether it takes effect, what is made of the answer, how the call ends."""

    performs: Literal["once", "twice", "later", "never"] = "once"
    wait: Literal["before", "after", "per byte", "later"] = "after"
    usual_wait: float = 0.0
    spoil: Spoiler | None = None
    ending: Ending = "answer"
    raw: bool = False
    """The body is sent as it is, past HTTP and TLS."""
    missing: float = 0.0
    """Part of the promised body that is never sent."""


class FaultQueue:
    """Faults waiting for their calls, first come first served. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    @property
    def waiting(self) -> tuple[Fault, ...]:
        """What is left; `times` is the number still to come."""
        with self._lock:
            return tuple(self._waiting)

    def add(self, *faults: Fault) -> None:
        """Put faults at the end of the queue."""
        with self._lock:
            self._waiting.extend(faults)

    def clear(self) -> None:
        """Drop them all."""
        with self._lock:
            self._waiting.clear()

    def take(self, operation: Operation, name: str | None) -> Fault | None:
        """Give the first fault that fits the call, and count it."""
        with self._lock:
            for place, fault in enumerate(self._waiting):
                if fault.fits(operation, name):
                    if fault.times == 1:
                        del self._waiting[place]
                    elif fault.times is not None:
                        self._waiting[place] = replace(fault, times=fault.times - 1)
                    return fault
        return None


def gateway_error(status: int, code: str | int, message: str | None = None, details: str | None = None) -> Answer:
    """Make the gateway's nested error body."""
    error: Json = {"errorCode": code, "message": message or _MESSAGES.get(str(code), "Error")}
    if details := details or _DETAILS.get(str(code)):
        error["details"] = details
    return Answer(status, {"error": error}, content_type="application/json")


def _instead(_answer: Answer, fault: Fault, aitems: Aitems, path: str) -> Answer:
    status = fault.status or HTTPStatus.INTERNAL_SERVER_ERROR
    code = fault.code
    if fault.shape == "gateway":
        made = gateway_error(status, _USUAL_CODES.get(status, "900") if code is None else code, fault.message)
    elif fault.shape == "flat":
        named = status_name(status) if code is None else str(code)
        duplicate = "[NAME] is a duplicate name." if named == "DUPLICATE_NAME" else named.replace("_", " ").lower()
        made = aitems.refusal(status, named, fault.message or duplicate, path.replace("/api/v1/", "/api/"))
    elif fault.shape == "html":
        text = fault.message or "Something went wrong"
        made = Answer(status, content_type="text/html", body=f"<html><body><h1>{text}</h1></body></html>".encode())
    else:
        made = Answer(status, content_type="text/plain", body=b"")
    return replace(made, content_type=fault.content_type or made.content_type)


def _bare(answer: Answer, fault: Fault, aitems: Aitems, path: str) -> Answer:
    return _instead(answer, replace(fault, shape="empty"), aitems, path)


def _redirect(_answer: Answer, fault: Fault, _aitems: Aitems, _path: str) -> Answer:
    status = fault.status or HTTPStatus.TEMPORARY_REDIRECT
    return Answer(status, body=b"", content_type="text/html", headers=(("Location", fault.location),))


def _break_json(answer: Answer, _fault: Fault, _aitems: Aitems, _path: str) -> Answer:
    payload = answer.payload
    return replace(answer, body=payload[: len(payload) // 2])


def _garbage(answer: Answer, _fault: Fault, _aitems: Aitems, _path: str) -> Answer:
    return replace(answer, body=b"\x00\xffnot the protocol you speak\r\n\r\n")


def _misname(answer: Answer, _fault: Fault, _aitems: Aitems, _path: str) -> Answer:
    return replace(answer, document={**answer.document, "name": "someone-elses"})


def _late(_answer: Answer, fault: Fault, _aitems: Aitems, _path: str) -> Answer:
    status = fault.status or HTTPStatus.GATEWAY_TIMEOUT
    return gateway_error(status, fault.code or _USUAL_CODES.get(status, "900"))


def _empty_list(answer: Answer, _fault: Fault, _aitems: Aitems, _path: str) -> Answer:
    return replace(answer, document={**answer.document, "services": []})


def _list_missing(answer: Answer, fault: Fault, aitems: Aitems, _path: str) -> Answer:
    missing = aitems.newest(fault.name)
    page = answer.document.get("services")
    if missing is None or not isinstance(page, list):
        return answer
    left = [each for each in page if each.get("serviceId") != missing.service_id]
    return replace(answer, document={**answer.document, "services": left})


def _list_then_delete(answer: Answer, fault: Fault, aitems: Aitems, _path: str) -> Answer:
    if found := aitems.newest(fault.name):
        aitems.delete_by_hand(found.service_id)
    return answer


MANNERS: dict[Kind, Manner] = {
    "hang_before": Manner(performs="never", usual_wait=30, ending="close"),
    "hang_after": Manner(usual_wait=30, ending="close"),
    "close_before": Manner(performs="never", ending="close"),
    "close_after": Manner(ending="close"),
    "reset_before": Manner(performs="never", ending="reset"),
    "reset_after": Manner(ending="reset"),
    "error_before": Manner(performs="never", spoil=_instead),
    "error_after": Manner(spoil=_instead),
    "status_only": Manner(performs="never", spoil=_bare),
    "redirect": Manner(performs="never", spoil=_redirect),
    "slow": Manner(wait="before", usual_wait=1),
    "slow_answer": Manner(usual_wait=1),
    "dripping": Manner(wait="per byte", usual_wait=0.05),
    "broken_json": Manner(spoil=_break_json),
    "cut_short": Manner(missing=0.5),
    "garbage": Manner(spoil=_garbage, raw=True),
    "wrong_name": Manner(spoil=_misname),
    "doubled": Manner(performs="twice"),
    "late_commit": Manner(performs="later", wait="later", usual_wait=1, spoil=_late),
    "empty_list": Manner(spoil=_empty_list),
    "list_missing": Manner(spoil=_list_missing),
    "list_then_delete": Manner(spoil=_list_then_delete),
}
