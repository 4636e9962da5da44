"""Sends requests as real senders do, and checks from outside what became of them: AiTEMS, the ledger, the journal.

Nothing of the bridge is asked how it did it: a request is judged by the services AiTEMS really has, by the record that
stands in the ledger and by the events that arrived.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from standardwebhooks import Webhook

from aitems_bridge.bridge import Order
from aitems_bridge.events import event_id
from aitems_bridge.record import Record, State
from aitems_local import senders
from aitems_local.cloud import ACCOUNT, LOOPBACK, StackError
from aitems_local.journal import Announced
from aitems_local.stack import Stack

FINAL = {State.CREATED: "AiTEMS Service Created", State.REJECTED: "AiTEMS Service Creation Rejected"}

_CHATS = ("slack", "works")
_SENDER_TRIES = 40
_SENDER_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as its sender knows it."""

    request_id: str
    name: str
    label: tuple[str, ...] = ()
    """What was done to it, for the table."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a sender was told. ``state`` and ``service_id`` where the answer was final."""

    state: str | None = None
    service_id: str | None = None


class Letter(Protocol):
    """A request that can be sent, any number of times, also at once: always the same one."""

    @property
    def request_id(self) -> str:
        """The request's id."""

    def send(self) -> Heard | None:
        """Send until it is accepted, as a sender of that kind would; None: it never was."""


class Door(Protocol):
    """A way in. Another one is another class with this."""

    def letter(self, stack: Stack, name: str, key: str) -> Letter:
        """Return a request for a service of that name under a key."""


@dataclass(frozen=True, slots=True)
class HookDoor:
    """A signed call of a caller of some scheme; without a 2xx it is sent again under the same key."""

    scheme: str = "standard"
    prefer: str | None = None

    def letter(self, stack: Stack, name: str, key: str) -> "HookLetter":
        """Return a request for a service of that name. NAVER WORKS makes its own key of who said what, and when."""
        signed = self.signed(stack, name, None if self.scheme == "works" else key)

        def sign() -> senders.SignedWebhook:
            return signed if self.scheme == "works" else self.signed(stack, name, key)

        def recorded() -> bool:
            return self.scheme not in _CHATS or stack.ledger.get(signed.request_id) is not None

        return HookLetter(signed, sign, recorded)

    def signed(self, stack: Stack, name: str, key: str | None) -> senders.SignedWebhook:
        """Return the call, signed now."""
        return senders.delivery(stack.document, self.scheme, senders.service(name), key=key, prefer=self.prefer)


@dataclass(frozen=True, slots=True)
class HookLetter:
    """A request for the HTTP API. ``sign`` signs it anew, for a signature is good for some minutes only.

    A chat is always answered with 200, and the person who asked reads whether it was accepted: ``recorded`` stands for
    that reading.
    """

    signed: senders.SignedWebhook
    sign: Callable[[], senders.SignedWebhook]
    recorded: Callable[[], bool]

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.signed.request_id

    def send(self) -> Heard | None:
        """Send until it is answered with 2xx, or refused for good."""
        for attempt in range(_SENDER_TRIES):
            if attempt:
                time.sleep(_SENDER_PAUSE)
            try:
                answer = self.sign().send()
            except StackError:
                continue
            if answer.status == HTTPStatus.CREATED:
                return Heard("created", answer.body.get("serviceId"))
            if answer.status < HTTPStatus.MULTIPLE_CHOICES:
                if self.recorded():
                    return Heard()
                continue
            if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and answer.request_id:
                return Heard("rejected")
        return None


@dataclass(frozen=True, slots=True)
class BusDoor:
    """An event on the bus: what the bus took is accepted."""

    def letter(self, stack: Stack, name: str, key: str) -> "BusLetter":
        """Return an event that asks for a service of that name."""
        return BusLetter(senders.bus_event(stack.document, senders.service(name), key=key))


@dataclass(frozen=True, slots=True)
class BusLetter:
    """An event for the bus."""

    event: senders.BusEvent

    @property
    def request_id(self) -> str:
        """The request's id."""
        return Order("", f"bus:{ACCOUNT}:{self.event.source}", self.event.key, "", None, "").request_id

    def send(self) -> Heard | None:
        """Put it until the bus takes it."""
        for attempt in range(_SENDER_TRIES):
            if attempt:
                time.sleep(_SENDER_PAUSE)
            try:
                self.event.send()
            except (StackError, BotoCoreError, ClientError):
                continue
            return Heard()
        return None


def status(stack: Stack, request_id: str) -> tuple[int, dict[str, Any]]:
    """Ask the caller's status address for a request: signed, with the request's id as the message's."""
    caller, entry = next(each for each in stack.callers.items() if each[1]["scheme"] == "standard")
    now = datetime.now(UTC)
    signed = Webhook(entry["secrets"][0]).sign(request_id, now, "")
    headers = {
        "webhook-id": request_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signed,
    }
    address = urlsplit(f"{stack.webhook_url}/hooks/{caller}/requests/{request_id}")
    connection = HTTPConnection(LOOPBACK, address.port or 80, timeout=35)
    try:
        connection.request("GET", address.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@dataclass
class Verdict:
    """What became of one request. ``faults`` says in words how it breaks the promise; empty where it does not."""

    sent: Sent
    state: str
    services: int
    """Made under its name, but for those of other requests."""
    final_events: int
    failed_events: int
    duplicates: int
    lost: int
    posts: int = 0
    """That AiTEMS saw under its name."""
    adopted: bool = False
    """Whether the service was found by looking."""
    faults: list[str] = field(default_factory=list)


def settled(stack: Stack, sent: Iterable[Sent], timeout: float) -> bool:
    """Wait until nothing is open and every outcome is announced; False if it is not so in time."""
    wanted = {each.request_id for each in sent}
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        events = stack.events()
        if wanted <= {event.metadata["request_id"] for event in events}:
            records = [record for record in stack.ledger.scan() if record.id in wanted]
            announced = {event.metadata["event_id"] for event in events}
            if not any(record.state.open or event_id(record) not in announced for record in records):
                return True
        time.sleep(0.5)
    return False


def drained(stack: Stack, timeout: float) -> bool:
    """Wait until no message is left in the queue, so that nothing can happen any more; False if some are."""
    deadline = time.monotonic() + timeout
    while stack.queued() and time.monotonic() < deadline:
        time.sleep(0.5)
    return not stack.queued()


def audit(stack: Stack, sent: Sequence[Sent], heard: Mapping[str, Sequence[Heard | None]]) -> list[Verdict]:
    """Return what became of each request, in order. ``heard``: what the senders of each were told."""
    records = {record.id: record for record in stack.ledger.scan()}
    events: dict[str, list[Announced]] = {}
    for event in stack.events():
        events.setdefault(event.metadata["request_id"], []).append(event)
    made: dict[str, list[str]] = {}
    for service in stack.aitems.services:
        if service.call is not None:
            made.setdefault(service.made_as, []).append(service.service_id)
    wanted = {each.request_id: each for each in sent}
    claims = Counter(
        wanted[record.id].name for record in records.values() if record.state is State.CREATED and record.id in wanted
    )
    owners: dict[str, list[str]] = {}
    for record in records.values():
        if record.state is State.CREATED and record.service_id is not None:
            owners.setdefault(record.service_id, []).append(record.id)
    posts = Counter(call.name for call in stack.aitems.calls if call.operation == "create")
    overlapping = {call.name for pair in stack.aitems.overlapping_posts() for call in pair}
    verdicts = []
    for each in wanted.values():
        found, named = records.get(each.request_id), made.get(each.name, [])
        ours = [service for service in named if owners.get(service, [each.request_id]) == [each.request_id]]
        verdict = _judged(each, found, ours, events.get(each.request_id, []))
        verdict.posts, verdict.adopted = posts[each.name], bool(found and found.adopted)
        if len(named) > claims[each.name]:
            verdict.duplicates = len(named) - claims[each.name]
            verdict.faults.append(f"AiTEMS has {len(named)} services of the name, {claims[each.name]} accounted for")
        verdict.faults += [fault for told in heard[each.request_id] if (fault := _contradicts(told, found))]
        if each.name in overlapping:
            verdict.faults.append("two POSTs were in flight at once")
        verdicts.append(verdict)
    return verdicts


def _judged(sent: Sent, record: Record | None, made: list[str], events: list[Announced]) -> Verdict:
    finals = {str(event.metadata["event_id"]) for event in events if event.metadata["final"]}
    failed = {str(event.metadata["event_id"]) for event in events if not event.metadata["final"]}
    state = str(record.state) if record else "none"
    verdict = Verdict(sent, state, len(made), len(finals), len(failed), duplicates=0, lost=0)
    if record is None or not record.state.final:
        verdict.lost = 1
        verdict.faults.append(f"no final state: {state}{_why(record)}")
        return verdict
    if len(finals) != 1:
        verdict.lost = int(not finals)
        verdict.duplicates = max(0, len(finals) - 1)
        verdict.faults.append(f"{len(finals)} final announcements")
    for event in events:
        if event.metadata["final"] and event.kind != FINAL[record.state]:
            verdict.faults.append(f"announced as {event.kind}, recorded as {state}")
        if event.metadata["final"] and record.state is State.CREATED:
            announced = event.event["detail"]["data"].get("serviceId")
            if announced != record.service_id:
                verdict.faults.append(f"announced service {announced}, recorded {record.service_id}")
    if record.state is State.CREATED and record.service_id not in made:
        verdict.faults.append(f"service {record.service_id} was not made for it")
    return verdict


def _why(record: Record | None) -> str:
    problem = (record.problem or record.last) if record else None
    return f" ({problem.slug}: {problem.detail})" if problem else ""


def _contradicts(heard: Heard | None, record: Record | None) -> str | None:
    if heard is None:
        return "it was never accepted"
    if record is None or heard.state is None:
        return None
    if heard.state != record.state or heard.service_id != record.service_id:
        return f"the sender was told {heard.state} {heard.service_id}, recorded {record.state} {record.service_id}"
    return None
