"""What the bridge announced: every event whole, one JSON line each, for any number of readers at any time."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from aitems_bridge.events import DETAIL_TYPES

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

_LOOK_EVERY = 0.03


@dataclass(frozen=True, slots=True)
class Announced:
    """An event as the bus delivered it, and when it arrived here (seconds since the epoch)."""

    event: dict[str, Any]
    arrived: float

    @property
    def metadata(self) -> dict[str, Any]:
        """What the bridge says about the request."""
        found: dict[str, Any] = self.event["detail"]["metadata"]
        return found

    @property
    def kind(self) -> str:
        """The detail-type."""
        return str(self.event["detail-type"])


class Journal:
    """A file of announced events. Reading it takes nothing away from other readers, as reading a queue would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Announced]:
        """Return all events so far, in the order of arrival."""
        return self.after(0)[0]

    def follow(self, still: Callable[[], bool], *, since: float = 0) -> Iterator[Announced]:
        """Yield the events since then and each new one as it comes, for as long as `still` says so."""
        offset = 0
        while True:
            goes_on = still()
            found, offset = self.after(offset)
            yield from (event for event in found if event.arrived >= since)
            if not goes_on:
                return
            time.sleep(_LOOK_EVERY)

    def wait(self, wanted: Callable[[Announced], bool], timeout: float) -> Announced | None:
        """Return the first wanted event, one that is already there included; None when none came in time."""
        deadline = time.monotonic() + timeout
        return next((event for event in self.follow(lambda: time.monotonic() < deadline) if wanted(event)), None)

    def after(self, offset: int) -> tuple[list[Announced], int]:
        """Return the events behind a place in the file, and the place behind them; 0 is the beginning."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return [], offset
        lines = [json.loads(line) for line in whole.split(b"\n") if line]
        found = [Announced(line["event"], line["arrived"]) for line in lines if _is_ours(line["event"])]
        return found, offset + len(whole) + bool(whole)


def _is_ours(event: dict[str, Any]) -> bool:
    """Whether it is an announcement: on the bus anybody may name any source, and say anything."""
    detail = event.get("detail")
    return (
        event.get("detail-type") in DETAIL_TYPES.values()
        and isinstance(detail, dict)
        and isinstance(detail.get("metadata"), dict)
        and isinstance(detail.get("data"), dict)
        and detail["metadata"].keys() >= {"request_id", "event_id"}
    )


class Tap:
    """Empties a queue of announced events into a journal, in a thread, until it is told to stop."""

    def __init__(self, sqs: "SQSClient", queue_url: str, journal: Journal) -> None:
        self._sqs, self._queue_url, self._journal = sqs, queue_url, journal
        self._stopping = threading.Event()
        journal.path.touch(mode=0o600)
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the read that is under way; does not wait for it."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                answer = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=2)
                for message in answer.get("Messages", []):
                    line = {"arrived": round(time.time(), 3), "event": json.loads(message["Body"])}
                    with self._journal.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
            except (BotoCoreError, ClientError, OSError):
                if self._stopping.wait(0.2):
                    return
