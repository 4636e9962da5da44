"""A ledger with memory: what the real one promises, without DynamoDB. Both pass the same tests (test_ledger.py)."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from aitems_bridge.errors import NotRecorded
from aitems_bridge.ledger import Image, Moved, NameTaken, ServiceClaimed, image_of, record_of
from aitems_bridge.record import Record, State


@dataclass
class MemoryLedger:
    """Keeps items as the table would; ``writes`` is what the stream would show, in order."""

    items: dict[str, Image] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    writes: list[Record] = field(default_factory=list)
    down: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, request_id: str) -> Record | None:
        """See `Ledger.get`."""
        self._check()
        image = self.items.get(request_id)
        return record_of(image) if image else None

    def last_of(self, name: str) -> Record | None:
        """See `Ledger.last_of`."""
        who = self.holders.get(name.lower()) or self.last.get(name.lower())
        return self.get(who) if who else None

    def claimant(self, service_id: str) -> Record | None:
        """See `Ledger.claimant`."""
        who = self.services.get(service_id)
        return self.get(who) if who else None

    def write(self, old: Record | None, new: Record) -> None:
        """See `Ledger.write`."""
        with self._lock:
            self._check()
            current = self.get(new.id)
            if (current is None) != (old is None) or (
                current and old and (current.version, current.state) != (old.version, old.state)
            ):
                if current is None:
                    raise NotRecorded
                raise Moved(current)
            name, held = new.name.lower(), old is not None and old.holds_name
            if new.holds_name and not held and self.holders.get(name, new.id) != new.id:
                raise NameTaken
            if new.state is State.CREATED and self.services.get(new.service_id or "", new.id) != new.id:
                raise ServiceClaimed
            if new.name and (old is None or (new.holds_name and not held)):
                self.last[name] = new.id
            if new.holds_name and not held:
                self.holders[name] = new.id
            if held and not new.holds_name:
                del self.holders[name]
            if new.state is State.CREATED and new.service_id:
                self.services[new.service_id] = new.id
            self.items[new.id] = image_of(new)
            self.writes.append(new)

    def scan(self, _: object = None) -> Iterator[Record]:
        """See `Ledger.scan`."""
        yield from [record_of(image) for image in self.items.values()]

    def _check(self) -> None:
        if self.down:
            raise NotRecorded
