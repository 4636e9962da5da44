"""The callers document: who may knock, and how each proves to be who it says.

One JSON object in a secret, one entry a caller. Each entry is checked by itself, so that a slip in one shuts that one
door and no other. A document that is no object at all leaves the last good one in force for as long as the process
lives: an operator's slip must not turn callers away.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from aitems_bridge.errors import Misconfigured, Problem, Refused
from aitems_bridge.models import DESCRIPTION_LENGTH, ServiceType

CALLER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
MOST_CALLERS = 200
SECRET_BYTES = (24, 64)


def standard_key(secret: str) -> bytes:
    """Return the signing key that a Standard Webhooks secret (``whsec_…``) stands for. Raises ``ValueError``."""
    prefix, _, encoded = secret.partition("_")
    least, most = SECRET_BYTES
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("must be 'whsec_' and base64") from error
    if prefix != "whsec" or not least <= len(key) <= most:
        raise ValueError(f"must be 'whsec_' and base64 of {least} to {most} bytes")
    return key


def _standard_secret(secret: str) -> str:
    standard_key(secret)
    return secret


def _different(secrets: list[str]) -> list[str]:
    if len(set(secrets)) < len(secrets):
        raise ValueError("must differ from each other")
    return secrets


_Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*-]{1,40}$")]


class Defaults(BaseModel):
    """What is filled in where a request says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    description: Annotated[str, Field(max_length=DESCRIPTION_LENGTH)] | None = None
    type: ServiceType | None = None


class StandardCaller(BaseModel):
    """A caller that signs by Standard Webhooks (https://www.standardwebhooks.com)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    scheme: Literal["standard"]
    secrets: Annotated[
        list[Annotated[str, AfterValidator(_standard_secret)]],
        Field(min_length=1, max_length=3, repr=False),
        AfterValidator(_different),
    ]
    enabled: bool = True
    allow: Annotated[list[_Pattern], Field(min_length=1, max_length=50)] | None = None
    defaults: Defaults | None = None
    answer: Literal["outcome", "delivery"] = "outcome"
    wait: Annotated[int, Field(ge=0, le=25)] = 20

    def allows(self, name: str) -> bool:
        """Whether this caller may create a service of that name: ``*`` matches any run, letters' case counts."""
        if self.allow is None:
            return True
        return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) for pattern in self.allow)

    def with_defaults(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the request with this caller's defaults where it says nothing."""
        defaults = self.defaults.model_dump(exclude_none=True) if self.defaults else {}
        return defaults | body


Caller = StandardCaller
_ADAPTER: TypeAdapter[StandardCaller] = TypeAdapter(StandardCaller)

ReadSecret = Callable[[bool], tuple[str, bool]]
"""Gives the document's text and whether it was read just now; True asks to read it early. Raises ``Misconfigured``."""


@dataclass(frozen=True, slots=True)
class Document:
    """A callers document as read: the entries in force, and why the others are not."""

    callers: dict[str, Caller]
    faults: dict[str, str]


def read_document(text: str) -> Document:
    """Return the callers that ``text`` describes. Raises ``ValueError`` when it is no JSON object of entries."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("the callers document is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("the callers document is no JSON object")  # noqa: TRY004  # its value is wrong, not a type of ours
    if len(document) > MOST_CALLERS:
        raise ValueError(f"the callers document has more than {MOST_CALLERS} callers")
    callers: dict[str, Caller] = {}
    faults: dict[str, str] = {}
    for name, entry in document.items():
        if not CALLER_NAME.fullmatch(name):
            faults[name] = "the name must be a small letter, then at most 31 of a-z, 0-9 and '-'"
            continue
        try:
            callers[name] = _ADAPTER.validate_python(entry)
        except ValidationError as error:
            faults[name] = "; ".join(_told(each["loc"], each["msg"]) for each in error.errors(include_input=False))
    return Document(callers, faults)


class Callers:
    """The document in force. ``report`` is told what an operator has to mend: a caller's name (or '') and the fault."""

    def __init__(self, read: ReadSecret, report: Callable[[str, str], None]) -> None:
        self._read = read
        self._report = report
        self._document: Document | None = None
        self._text: str | None = None

    def find(self, name: str, *, early: bool = False) -> Caller:
        """Return the caller of that name; ``early`` asks for the newest document.

        Raises ``Refused`` with ``unknown-caller``, or with ``caller-unavailable`` where the entry is at fault.
        """
        document = self._current(early=early)
        caller = document.callers.get(name)
        if caller is None and name not in document.faults and not early:
            return self.find(name, early=True)
        if caller is None and name not in document.faults:
            raise Refused(
                Problem("unknown-caller", "There is no caller of that name. Check the last part of the address.")
            )
        if caller is None or not caller.enabled:
            raise Refused(unavailable())
        return caller

    def _current(self, *, early: bool) -> Document:
        try:
            text, _ = self._read(early)
            if text != self._text:
                self._document = read_document(text)
                self._text = text
                for name, fault in self._document.faults.items():
                    self._report(name, fault)
        except (Misconfigured, ValueError) as error:
            what = str(error) if isinstance(error, Misconfigured) else "callers document unreadable"
            self._report("", what)
        if self._document is None:
            raise Refused(unavailable())
        return self._document


def unavailable() -> Problem:
    """Return the problem of a door that an operator has to mend: nobody gets in, and no sender should give up."""
    return Problem(
        "caller-unavailable",
        "This caller's door is shut until an operator mends its settings. Nothing was recorded; send it again later.",
    )


def _told(place: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part) for part in place)
    return f"{where}: {message}" if where else message
