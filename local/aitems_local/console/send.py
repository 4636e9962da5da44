"""What the console's form does: really signed requests through any door, and faults switched on in the emulator."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from aitems_bridge.errors import type_prefix
from aitems_bridge.record import SECOND
from aitems_local import senders, signing
from aitems_local.cloud import StackError, UsageError
from aitems_local.console.steps import Kind, Step
from aitems_local.console.watch import Watch
from aitems_local.faults import Fault

if TYPE_CHECKING:
    from aitems_local.stack import Stack

BUS = "bus"
MOST_SENT = 50
"""So many of what was sent can be sent again."""
LONGEST_WAIT = 40.0  # seconds

FAULTS: Mapping[str, Callable[[str | None, int | None], Fault]] = {
    "lost": lambda name, times: Fault("reset_after", name=name, times=times),
    "silent": lambda name, times: Fault("hang_after", name=name, times=times, seconds=20),
    "late": lambda name, times: Fault("late_commit", name=name, times=times, seconds=6),
    "broken": lambda name, times: Fault("broken_json", name=name, times=times),
    "error": lambda name, times: Fault("error_after", name=name, times=times, status=500),
    "cut": lambda name, times: Fault("reset_before", name=name, times=times),
    "throttled": lambda name, times: Fault("error_before", name=name, times=times, status=429),
    "refused": lambda name, times: Fault("error_before", name=name, times=times, status=400, shape="flat"),
}
"""What AiTEMS can be made to do, for a name or all, so many times or (None) until it is switched off."""


@dataclass(frozen=True, slots=True)
class Door:
    """A way in, and who uses it: a caller, or on the bus the events' source."""

    scheme: str
    caller: str

    @property
    def value(self) -> str:
        """What names it in a form."""
        return f"{self.scheme}:{self.caller}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form said. ``fault`` is one of `FAULTS` or empty; ``forged``: one byte is changed after signing."""

    door: str
    name: str
    description: str = ""
    type: str = ""
    key: str = ""
    fault: str = ""
    forged: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and what came back; ``why`` says it where nothing could be sent. Times are in seconds."""

    number: int
    asked: Asked
    request: senders.SignedWebhook | senders.BusEvent | None = field(default=None, repr=False)
    request_id: str = ""
    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    replayed: bool = False
    seconds: float = 0.0
    why: str = ""


class Desk:
    """Sends for one stack, and remembers the last of what was sent. Safe to use from any thread."""

    def __init__(self, stack: "Stack", watch: Watch) -> None:
        self._stack, self._watch = stack, watch
        self._lock = threading.Lock()
        self._sent: OrderedDict[int, Sent] = OrderedDict()
        self._number = 0

    @property
    def doors(self) -> list[Door]:
        """The doors that can be used: callers with a secret to sign with, and the bus."""
        order = list(senders.SCHEMES.values())
        found = [
            Door(entry["scheme"], name)
            for name, entry in self._stack.callers.items()
            if isinstance(entry, dict) and entry.get("scheme") in order and entry.get("secrets")
        ]
        return [*sorted(found, key=lambda door: order.index(door.scheme)), Door(BUS, senders.PRODUCER)]

    def sent(self, number: int) -> Sent | None:
        """Return what was sent under that number, if it is remembered."""
        with self._lock:
            return self._sent.get(number)

    def send(self, asked: Asked) -> Sent:
        """Send what the form says, with its fault, and return what came of it. Raises nothing."""
        scheme, _, caller = asked.door.partition(":")
        said = senders.service(asked.name, asked.description or None, asked.type or None)
        key = asked.key or None
        try:
            request: senders.SignedWebhook | senders.BusEvent
            if scheme == BUS and asked.forged:
                raise UsageError("what is put on the bus has no signature of ours: IAM decides who may put")
            if scheme == BUS:
                request = senders.bus_event(self._stack.document, said, source=caller, key=key)
            else:
                request = senders.delivery(self._stack.document, scheme, said, caller=caller, key=key)
            if asked.fault and self._stack.emulator:
                self._stack.emulator.add_faults(FAULTS[asked.fault](asked.name, 1))
        except (StackError, KeyError) as error:
            return self._keep(Sent(0, asked, why=str(error)))
        return self._go(asked, request)

    def again(self, number: int) -> Sent | None:
        """Send the same body under the same key once more, signed anew; None if it is not remembered."""
        earlier = self.sent(number)
        if earlier is None or earlier.request is None:
            return None
        request = earlier.request
        if isinstance(request, senders.SignedWebhook):
            entry = self._stack.callers[request.caller]
            request = replace(request, headers=signing.signed(request.caller, entry, request.body, request.key))
        return self._go(replace(earlier.asked, fault=""), request)

    def stand(self, fault: str) -> None:
        """Let every creation fail so, until `clear`."""
        if self._stack.emulator and fault in FAULTS:
            self._stack.emulator.clear_faults()
            self._stack.emulator.add_faults(FAULTS[fault](None, None))
            self._watch.changed()

    def clear(self) -> None:
        """Switch all faults off."""
        if self._stack.emulator:
            self._stack.emulator.clear_faults()
            self._watch.changed()

    def _go(self, asked: Asked, request: senders.SignedWebhook | senders.BusEvent) -> Sent:
        asked = replace(asked, key=request.key)
        begun = time.time()
        try:
            if isinstance(request, senders.BusEvent):
                event_id = request.send()
                order = request.orders(event_id)[0]
                answered = Sent(0, asked, request, order.request_id, body={"EventId": event_id})
            else:
                answered = self._posted(asked, request)
        except (StackError, BotoCoreError, ClientError) as error:
            return self._keep(Sent(0, asked, request, why=str(error)))
        ended = time.time()
        sent = self._keep(replace(answered, seconds=ended - begun))
        self._watch.look()
        if sent.request_id:
            steps = [Step(begun * SECOND, Kind.SENT, "sent")]
            if sent.status is not None:
                steps.append(Step(ended * SECOND, Kind.ANSWERED, "received", {"status": sent.status}))
            self._watch.sent(sent.request_id, sent.number, steps)
        return sent

    def _posted(self, asked: Asked, request: senders.SignedWebhook) -> Sent:
        sending = replace(request, body=_one_byte_off(request.body)) if asked.forged else request
        answer = sending.send(timeout=LONGEST_WAIT)
        taken = answer.status < 400 or (  # noqa: PLR2004  # HTTP's line between yes and no
            answer.request_id is not None and answer.body.get("type") != f"{type_prefix}key-reused"
        )
        request_id = answer.request_id or (request.request_id if request.reply_to else "")
        return Sent(
            0, asked, request, request_id if taken else "", answer.status, answer.body, replayed=answer.replayed
        )

    def _keep(self, sent: Sent) -> Sent:
        with self._lock:
            self._number += 1
            sent = self._sent[self._number] = replace(sent, number=self._number)
            while len(self._sent) > MOST_SENT:
                self._sent.popitem(last=False)
        return sent


def _one_byte_off(body: bytes) -> bytes:
    """Return the body with its last letter changed: still a body of that kind, and no longer what was signed."""
    for place in range(len(body) - 1, -1, -1):
        if chr(body[place]).isascii() and chr(body[place]).isalpha():
            return (
                body[:place]
                + bytes([body[place] ^ 1 if body[place] not in b"zZ" else body[place] - 1])
                + body[place + 1 :]
            )
    return body + b" "
