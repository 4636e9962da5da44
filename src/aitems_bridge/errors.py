"""What can go wrong, told twice: as a problem document for callers and consumers, as an exception for our own code.

::

    BridgeError
    ├── Refused          the request goes no further: answer with its problem
    │   └── NotRecorded  the ledger could not be written: the same key again is safe and right
    └── Misconfigured    the operator has to mend something: the message names it

Problems follow RFC 9457; their ``type`` is an identifier, not an address.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

type_prefix = "urn:aitems-bridge:problem:"

Retryable = Literal["no", "yes", "same-key-only"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its HTTP status, whether sending again helps, and its title."""

    status: int
    retryable: Retryable
    title: str


EXAMINED = "the request is being examined."
"""How the detail of a problem ends that leaves its request in doubt: true as long as the request is open."""

KINDS: dict[str, Kind] = {
    "malformed-request": Kind(400, "no", "The body is not a JSON object"),
    "signature-refused": Kind(401, "no", "The signature is not valid"),
    "name-not-allowed": Kind(403, "no", "This caller may not create a service of that name"),
    "unknown-caller": Kind(404, "no", "No such caller"),
    "unknown-request": Kind(404, "no", "No such request of this caller"),
    "body-too-large": Kind(413, "no", "The body is too large"),
    "unsupported-media-type": Kind(415, "no", "The body is not sent as JSON"),
    "invalid-request": Kind(422, "no", "The request does not describe a service"),
    "key-reused": Kind(422, "no", "The key was used for another request"),
    "duplicate-name": Kind(422, "no", "A service of that name exists"),
    "refused-by-aitems": Kind(422, "no", "AiTEMS refuses this service"),
    "closed": Kind(422, "no", "The request was closed by a person"),
    "caller-unavailable": Kind(503, "yes", "This caller's door is shut"),
    "not-recorded": Kind(503, "yes", "The request could not be recorded"),
    "outcome-unknown": Kind(503, "same-key-only", "It is not known whether the service was made"),
    "aitems-unavailable": Kind(503, "same-key-only", "AiTEMS cannot be reached"),
    "aitems-throttled": Kind(503, "same-key-only", "AiTEMS takes no more requests for now"),
    "keys-refused": Kind(503, "same-key-only", "AiTEMS does not accept the bridge's keys"),
    "not-permitted": Kind(503, "same-key-only", "AiTEMS does not permit the bridge to do this"),
    "name-in-use": Kind(503, "same-key-only", "Another request for that name is not settled yet"),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: where (a JSON pointer fragment), which rule (JSON Schema's word), and what the value did."""

    pointer: str
    rule: str
    detail: str

    def document(self) -> dict[str, str]:
        """Return the violation as the problem document's ``errors[]`` shows it."""
        return {"pointer": self.pointer, "rule": self.rule, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Upstream:
    """What AiTEMS, or the gateway before it, said: never the caller's data, never a key."""

    status: int | None = None
    code: str | None = None
    message: str | None = None
    trace_id: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the four members of a problem's ``upstream``."""
        return {"status": self.status, "code": self.code, "message": self.message, "trace_id": self.trace_id}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a known kind, in words for the person who has to act on it."""

    slug: str
    detail: str
    errors: tuple[Violation, ...] = ()
    upstream: Upstream | None = None
    may_exist: bool = False

    @property
    def kind(self) -> Kind:
        """The kind the slug names."""
        return KINDS[self.slug]

    @property
    def status(self) -> int:
        """The HTTP status that goes with it."""
        return self.kind.status

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """Return the RFC 9457 document; ``request_id`` once one is known."""
        kind = self.kind
        document: dict[str, Any] = {
            "type": type_prefix + self.slug,
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "retryable": kind.retryable,
        }
        if request_id:
            document["request_id"] = request_id
        if self.errors:
            document["errors"] = [error.document() for error in self.errors]
        if self.may_exist:
            document["may_exist"] = True
        if self.upstream is not None:
            document["upstream"] = self.upstream.document()
        return document

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Problem":
        """Read back what :meth:`document` wrote (the ledger keeps problems that way)."""
        upstream = document.get("upstream")
        return cls(
            slug=document["type"].removeprefix(type_prefix),
            detail=document["detail"],
            errors=tuple(Violation(**error) for error in document.get("errors", ())),
            upstream=Upstream(**upstream) if upstream is not None else None,
            may_exist=document.get("may_exist", False),
        )

    def in_doubt(self) -> "Problem":
        """Return the same problem, saying that the service may exist all the same."""
        return replace(self, may_exist=True)


class BridgeError(Exception):
    """The root of the tree above."""


class Refused(BridgeError):
    """The request goes no further; ``problem`` is the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.slug)
        self.problem = problem


class NotRecorded(Refused):
    """The ledger could not be written, or not surely: repeating under the same key finds out.

    ``cause`` is for the log: AWS's error code, or the type of what went wrong.
    """

    def __init__(self, cause: str = "") -> None:
        self.cause = cause
        super().__init__(
            Problem(
                "not-recorded",
                "The ledger did not confirm the request. Send it again under the same key: if it was recorded after "
                "all, you get its outcome.",
            )
        )


class Misconfigured(BridgeError):
    """A setting or a secret is missing or unusable; the message names it and says what to put there."""
