"""The callers document: who may knock, and how each proves to be who it says.

One JSON object in a secret, one entry a caller. Each entry is checked by itself, so that a slip in one shuts that one
door and no other. A document that is no object at all leaves the last good one in force for as long as the process
lives: an operator's slip must not turn callers away.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import jmespath
from jmespath.exceptions import JMESPathError

from aitems_bridge import doors, shapes
from aitems_bridge.errors import Misconfigured, Problem, Refused
from aitems_bridge.models import DESCRIPTION_LENGTH, ServiceType, quoted
from aitems_bridge.shapes import Check, Limits, Shape

CALLER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
MOST_CALLERS = 200
DEEPEST = 4
"""An entry's members are not nested deeper than that."""
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


def _different(texts: list[str]) -> None:
    if len(set(texts)) < len(texts):
        raise ValueError("must differ from each other")


def _matches(pattern: str, name: str) -> bool:
    """Whether the name fits; each part is taken where it first fits, so that many stars cost no more than few."""
    first, *parts = pattern.split("*")
    if not parts:
        return name == pattern
    if not name.startswith(first):
        return False
    at = len(first)
    for part in parts[:-1]:
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return name.endswith(parts[-1]) and len(name) - at >= len(parts[-1])


def _compiles(expression: str) -> None:
    try:
        jmespath.compile(expression)
    except (JMESPathError, RecursionError) as error:
        raise ValueError(f"is no JMESPath expression: {' '.join(str(error).split())[:200]}") from error


def _found(expression: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  # any JSON
    """Return what the expression finds in the body; None where it cannot be worked out on this one."""
    try:
        found = jmespath.search(expression, body)
        if not isinstance(found, str | bool):
            json.dumps(found)  # the sum of two lawful numbers can have more digits than Python writes
    except (JMESPathError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None  # some of its functions fail with Python's own errors on what they were not written for
    return found


Headers = Mapping[str, str]
"""Header names are in lower case."""

_Name = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_*-]{1,40}$")]
_Header = Annotated[str, Limits(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
_Pair = Annotated[str, Limits(pattern=r"^[a-z0-9_]{1,16}$")]
_Expression = Annotated[str, Limits(min_length=1, max_length=1000), Check(_compiles)]
_Ids = Annotated[list[Annotated[str, Limits(min_length=1, max_length=64)]], Limits(min_length=1, max_length=200)]
_Answer = Literal["outcome", "delivery"]


_StandardSecrets = Annotated[
    list[Annotated[str, Check(standard_key)]],
    Limits(min_length=1, max_length=3),
    Check(_different),
]
_PlainSecrets = Annotated[
    list[Annotated[str, Limits(pattern=r"^[\x21-\x7e]+$", min_length=16, max_length=512)]],
    Limits(min_length=1, max_length=3),
    Check(_different),
]


def _said(part: Any) -> dict[str, Any]:  # noqa: ANN401  # one of the dataclasses below
    """Return the members that the entry gives."""
    return {each.name: value for each in fields(part) if (value := getattr(part, each.name)) is not None}


class Defaults(Shape):
    """What is filled in where a request says nothing."""

    description: Annotated[str, Limits(max_length=DESCRIPTION_LENGTH)] | None = None
    type: ServiceType | None = None

    def __post_init__(self) -> None:
        if not _said(self):
            raise ValueError("must give a description or a type")


class FieldMapping(Shape):
    """Where a foreign payload has what: JMESPath over its body, one expression a field."""

    name: _Expression
    description: _Expression | None = None
    type: _Expression | None = None

    def expressions(self) -> dict[str, str]:
        """Return the expression of each field that is mapped."""
        return _said(self)


class _Entry(Shape):
    """What every caller may have."""

    enabled: bool = True
    allow: Annotated[list[_Name], Limits(min_length=1, max_length=50)] | None = None
    defaults: Defaults | None = None

    def allows(self, name: str) -> bool:
        """Whether this caller may create a service of that name: ``*`` matches any run, letters' case counts."""
        return self.allow is None or any(_matches(pattern, name) for pattern in self.allow)

    def with_defaults(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the request with this caller's defaults where it says nothing."""
        defaults = _said(self.defaults) if self.defaults else {}
        return defaults | asked


class _Hook(_Entry):
    """A caller whose body is JSON: the request itself, or something a mapping finds it in."""

    mapping: FieldMapping | None = None
    when: _Expression | None = None
    answer: _Answer | None = None
    wait: Annotated[int, Limits(ge=0, le=25)] = 0

    @property
    def delivers(self) -> bool:
        """Whether the sender only understands 2xx, so that it gets one for everything that is recorded."""
        return (self.answer or "delivery") == "delivery"

    def ignored(self, headers: Headers) -> str | None:
        """Return why a delivery is none of ours by its headers, or None."""
        del headers
        return None

    def wants(self, body: dict[str, Any]) -> bool:
        """Whether ``when`` is exactly true of the body."""
        return self.when is None or _found(self.when, body) is True

    def asked(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what the body asks for, and for mapped fields the expression each came from."""
        if self.mapping is None:
            return self.with_defaults(body), {}
        origins = self.mapping.expressions()
        found = {field: _found(expression, body) for field, expression in origins.items()}
        return self.with_defaults({field: value for field, value in found.items() if value is not None}), origins

    def key_in(self, body: dict[str, Any]) -> str | None:
        """Return the delivery's key where it stands in the body, or None."""
        del body
        return None

    def requested_by(self, body: dict[str, Any]) -> str | None:
        """Return who asked, where the payload says so."""
        del body
        return None


class StandardCaller(_Hook):
    """A caller that signs by Standard Webhooks (https://www.standardwebhooks.com)."""

    scheme: Literal["standard"]
    secrets: _StandardSecrets
    wait: Annotated[int, Limits(ge=0, le=25)] = 20

    @property
    def delivers(self) -> bool:
        """See `_Hook.delivers`; one that sends the request itself reads the answer."""
        return (self.answer or ("delivery" if self.mapping else "outcome")) == "delivery"

    def verify(self, body: bytes, headers: Headers, now: int) -> str:
        """Return the delivery's key. Raises ``SignatureRefused``."""
        return doors.standard(body, headers, [standard_key(secret) for secret in self.secrets], now)


class Github(Shape):
    """Which of GitHub's events are meant."""

    events: Annotated[list[Annotated[str, Limits(pattern=r"^[a-z_]{1,64}$")]], Limits(min_length=1), Check(_different)]


class GithubCaller(_Hook):
    """A GitHub repository's or organisation's webhook. The delivery id is not signed: see SECURITY.md."""

    scheme: Literal["github"]
    secrets: _PlainSecrets
    github: Github
    mapping: FieldMapping = field()  # without the default of the others' mapping
    wait: Annotated[int, Limits(ge=0, le=8)] = 0

    def verify(self, body: bytes, headers: Headers, now: int) -> str:
        """Return the delivery's id. Raises ``SignatureRefused``, or ``Refused`` where there is no id."""
        doors.hmac_signed(doors.GITHUB, body, headers, self.secrets, now)
        return doors.key_header("X-GitHub-Delivery", headers)

    def ignored(self, headers: Headers) -> str | None:
        """See `_Hook.ignored`."""
        event = headers.get("x-github-event", "")
        if event == "ping":
            return "pong"
        return None if event in self.github.events else f"event {quoted(event)} is not among this caller's events"

    def requested_by(self, body: dict[str, Any]) -> str | None:
        """See `_Hook.requested_by`."""
        login = _found("sender.login", body)
        return f"github:{login}" if doors.is_id(login) else None


class Pairs(Shape):
    """Names of the parts of a ``k=v,k=v`` header."""

    signature: _Pair
    timestamp: _Pair | None = None


class BodyKey(Shape):
    """A key inside the body, and so inside what is signed."""

    body: _Expression


class HeaderKey(Shape):
    """A key in a header, which nothing signs: see SECURITY.md."""

    header: _Header


class HmacSettings(Shape):
    """How this sender signs; see `doors.HmacScheme`."""

    header: _Header
    algorithm: Literal["sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: Annotated[str, Limits(max_length=32)] | None = None
    pairs: Pairs | None = None
    timestamp_header: _Header | None = None
    tolerance: Annotated[int, Limits(ge=30, le=900)] = 300
    content: Annotated[str, Limits(pattern=r"^(\{timestamp\}[.:|])?\{body\}$")] = "{body}"
    key: BodyKey | HeaderKey

    def __post_init__(self) -> None:
        if self.pairs is not None and (self.prefix is not None or self.timestamp_header is not None):
            raise ValueError("pairs exclude prefix and timestamp_header")
        timed = self.timestamp_header is not None or (self.pairs is not None and self.pairs.timestamp is not None)
        if "timestamp" in self.content and not timed:
            raise ValueError("content signs a timestamp: say where it is (timestamp_header, or pairs.timestamp)")
        if timed and "timestamp" not in self.content:
            raise ValueError("a time that is not signed proves nothing: content must have {timestamp}")

    @property
    def door(self) -> doors.HmacScheme:
        """The scheme as the door takes it."""
        return doors.HmacScheme(
            header=self.header,
            algorithm=self.algorithm,
            encoding=self.encoding,
            prefix=self.prefix or "",
            signature_pair=self.pairs.signature if self.pairs else None,
            timestamp_pair=self.pairs.timestamp if self.pairs else None,
            timestamp_header=self.timestamp_header,
            tolerance=self.tolerance,
            content=self.content,
        )


class HmacCaller(_Hook):
    """Any sender that signs its body with an HMAC."""

    scheme: Literal["hmac"]
    secrets: _PlainSecrets
    hmac: HmacSettings

    def verify(self, body: bytes, headers: Headers, now: int) -> str:
        """Return the delivery's key, empty where it stands in the body. Raises as `GithubCaller.verify`."""
        doors.hmac_signed(self.hmac.door, body, headers, self.secrets, now)
        key = self.hmac.key
        return doors.key_header(key.header, headers) if isinstance(key, HeaderKey) else ""

    def key_in(self, body: dict[str, Any]) -> str | None:
        """See `_Hook.key_in`."""
        key = self.hmac.key
        if isinstance(key, HeaderKey):
            return None
        found = _found(key.body, body)
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        return doors.checked_key(found, f"this caller's key ({key.body})")


class SlackSettings(Shape):
    """Which workspaces (the signing secret is the app's, not theirs), channels and people may ask."""

    teams: _Ids
    channels: _Ids | None = None
    users: _Ids | None = None


class SlackCaller(_Entry):
    """A Slack app's slash command."""

    scheme: Literal["slack"]
    secrets: _PlainSecrets
    slack: SlackSettings

    def verify(self, body: bytes, headers: Headers, now: int) -> str:
        """Return an empty key: a command's own stands in its body. Raises ``SignatureRefused``."""
        doors.slack(body, headers, self.secrets, now)
        return ""

    def admits(self, team: str, channel: str, user: str) -> bool:
        """Whether a command from there may ask for anything."""
        settings = self.slack
        return (
            doors.is_id(user)
            and team in settings.teams
            and (settings.channels is None or channel in settings.channels)
            and (settings.users is None or user in settings.users)
        )


class WorksSettings(Shape):
    """Which bot this is, and which domains, people and channels may ask it."""

    bot_id: Annotated[str, Limits(pattern=r"^[0-9]{1,20}$")]
    domains: Annotated[list[int], Limits(min_length=1)]
    users: _Ids | None = None
    channels: _Ids | None = None
    language: Literal["ko", "en"] = "ko"


class WorksCaller(_Entry):
    """A NAVER WORKS bot."""

    scheme: Literal["works"]
    secrets: _PlainSecrets
    works: WorksSettings

    def verify(self, body: bytes, headers: Headers, now: int) -> str:
        """Return an empty key, as for Slack. Raises ``SignatureRefused``."""
        doors.works(body, headers, self.secrets, self.works.bot_id, now)
        return ""

    def admits(self, domain: object, channel: str | None, user: str) -> bool:
        """Whether a message from there may ask for anything."""
        settings = self.works
        return (
            type(domain) is int  # true and 1.0 are equal to 1, and are no domain
            and domain in settings.domains
            and (settings.channels is None or channel in settings.channels)
            and (settings.users is None or user in settings.users)
        )


HookCaller = StandardCaller | GithubCaller | HmacCaller
ChatCaller = SlackCaller | WorksCaller
Caller = HookCaller | ChatCaller

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
        document = json.loads(text, object_pairs_hook=_once_each)
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
        if null := next(_nulls(entry, ()), None):
            faults[name] = f"{null}: must not be null; leave out what is not meant"
            continue
        try:
            callers[name] = shapes.read(Caller, entry, by="scheme")
        except shapes.Misshapen as error:
            faults[name] = "; ".join(f"{'.'.join(fault.place) or 'entry'}: {fault.what}" for fault in error.faults)
    return Document(callers, faults)


def _nulls(value: object, place: tuple[str, ...]) -> Iterator[str]:
    """Yield where null stands: no member may be it, and pydantic alone would take it for an absent one."""
    if value is None:
        yield ".".join(place) or "entry"
    for name, each in value.items() if isinstance(value, dict) and len(place) < DEEPEST else ():
        yield from _nulls(each, (*place, name))


def shared_secrets(document: Document) -> list[tuple[str, str]]:
    """Return the pairs of callers that have a secret in common: what is signed for one is valid for the other."""
    owner: dict[str, str] = {}
    return [
        (owner[secret], name)
        for name, caller in document.callers.items()
        for secret in caller.secrets
        if owner.setdefault(secret, name) != name
    ]


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is given twice")
    return found


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
        except Misconfigured as error:
            self._report("", str(error))
        else:
            if text != self._text:
                self._text = text
                self._renew(text)
        if self._document is None:
            raise Refused(unavailable())
        return self._document

    def _renew(self, text: str) -> None:
        try:
            self._document = read_document(text)
        except ValueError:
            self._report("", "callers document unreadable")
            return
        for name, fault in self._document.faults.items():
            self._report(name, fault)
        for one, other in shared_secrets(self._document):
            self._report(other, f"has a secret in common with {one}: what is signed for one is valid for the other")


def unavailable() -> Problem:
    """Return the problem of a door that an operator has to mend: nobody gets in, and no sender should give up."""
    return Problem(
        "caller-unavailable",
        "This caller's door is shut until an operator mends its settings. Nothing was recorded; send it again later.",
    )
