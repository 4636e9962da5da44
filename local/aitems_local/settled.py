"""What a deployed bridge announced, told from its ledger: the bus keeps nothing, and events are made of records alone.

So it is the outcome that each request has now, under the event's own id: of one that failed and was created later, the
creation only. Everything reads as from the journal of a local stack.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aitems_bridge import events
from aitems_bridge.ledger import Ledger
from aitems_bridge.record import SECOND, Record
from aitems_local.journal import Announced

SCAN_EVERY = 10.0
"""Seconds between two looks at the whole ledger, each of which AWS charges for."""
_GET_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcomes in a ledger; of these requests only, where ``ids`` are given, which is quick and cheap."""

    ledger: Ledger
    account: str
    region: str
    ids: tuple[str, ...] = ()
    every: float = SCAN_EVERY

    def read(self) -> list[Announced]:
        """Return the outcomes that there are now, in the order of settling."""
        settled = [self._announced(record) for record in self._records() if not record.state.open]
        return sorted(settled, key=lambda event: event.arrived)

    def follow(self, still: Callable[[], bool], *, since: float = 0) -> Iterator[Announced]:
        """Yield the outcomes since then and each new one as it comes, for as long as `still` says so."""
        told: set[str] = set()
        while True:
            goes_on = still()
            for event in self.read():
                if event.arrived >= since and event.metadata["event_id"] not in told:
                    told.add(event.metadata["event_id"])
                    yield event
            if not goes_on:
                return
            time.sleep(_GET_EVERY if self.ids else self.every)

    def wait(self, wanted: Callable[[Announced], bool], timeout: float) -> Announced | None:
        """Return the first wanted outcome, one that is already there included; None when none came in time."""
        deadline = time.monotonic() + timeout
        return next((event for event in self.follow(lambda: time.monotonic() < deadline) if wanted(event)), None)

    def _records(self) -> Iterator[Record]:
        if not self.ids:
            yield from self.ledger.scan(lambda _: None)
        for request_id in self.ids:
            if record := self.ledger.get(request_id):
                yield record

    def _announced(self, record: Record) -> Announced:
        """Return the event as the bus has it, but for its ``id``, which is the bus's own."""
        settled = record.settled_at or record.requested_at
        event: dict[str, Any] = {
            "version": "0",
            "detail-type": events.DETAIL_TYPES[record.state],
            "source": events.SOURCE,
            "account": self.account,
            "time": f"{datetime.fromtimestamp(settled // SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "region": self.region,
            "resources": [],
            "detail": json.loads(events.detail(record)),
        }
        return Announced(event, settled / SECOND)
