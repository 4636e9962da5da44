"""What became of each row of a file, kept beside it: a line a row, so that a run that is killed loses nothing.

The file is written whole before anything is sent, each row ``waiting``; then a line is appended, and forced to the
disk, for each row that is settled; at the end it is written whole again, in the order of the rows. So at any moment
the last line about a row holds. A line that was broken off by a kill ends in no line end, and is left out.
"""

import csv
import io
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from aitems_bridge.bridge import Order
from aitems_bridge.record import Record, State
from aitems_local.cloud import StackError
from aitems_local.submit_rows import Row

WAITING = "waiting"
"""Not recorded by the bridge yet: not sent, or on its way."""
SETTLED = (State.CREATED, State.REJECTED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Result:
    """A row, and how its request stands: `WAITING`, or the state that the ledger has."""

    line: int
    name: str
    key: str
    request_id: str
    state: str = WAITING
    service_id: str = ""
    problem: str = ""
    detail: str = ""

    @property
    def settled(self) -> bool:
        """Whether the bridge is through with it, for now where it failed."""
        return self.state in SETTLED

    def json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


_COLUMNS = [field.name for field in fields(Result)]


def result_of(row: Row, order: Order, record: Record | None) -> Result:
    """Return how a row stands, given the record of its key; one of another payload means that it is refused."""
    mine = row.line, row.name, row.key, order.request_id
    if record is None:
        return Result(*mine)
    if record.payload_hash != order.payload_hash:
        told = f"The key was used for another request ({record.id}), so nothing was created for this row."
        return Result(*mine, State.REJECTED, "", "key-reused", told)
    problem = record.problem or record.last
    return Result(*mine, record.state, record.service_id or "", *((problem.slug, problem.detail) if problem else ()))


class ResultFile:
    """The file beside ``source``: CSV beside CSV, JSON lines beside JSON lines."""

    def __init__(self, source: Path) -> None:
        self.path = source.with_suffix(f".result{source.suffix.lower()}")
        self._csv = source.suffix.lower() == ".csv"

    def read(self) -> list[Result]:
        """Return the last line about each row; nothing where there is no file. Raises `StackError` for another file."""
        try:
            whole = self.path.read_bytes().rpartition(b"\n")[0].decode("utf-8-sig")
            found: list[dict[str, Any]] = (
                list(csv.DictReader(io.StringIO(whole, newline=""))) if self._csv else _objects(whole)
            )
            results = [Result(int(each.pop("line")), **each) for each in found]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StackError(f"{self.path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
            raise StackError(f"{self.path} was not written by this command: move it away, and submit again") from error
        return list({result.request_id: result for result in results}.values())

    def write(self, results: Iterable[Result]) -> None:
        """Put all results in the place of what was there, wholly or not at all. Raises `StackError`."""
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        header = "\ufeff" + ",".join(_COLUMNS) + "\r\n" if self._csv else ""
        try:
            with draft.open("wb") as file:
                file.write(header.encode() + self._bytes(results))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StackError(f"{self.path}: {error.strerror}") from error

    def append(self, results: Iterable[Result]) -> None:
        """Add what was settled; it is on the disk when this returns. Raises `StackError`."""
        try:
            with self.path.open("ab") as file:
                file.write(self._bytes(results))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StackError(f"{self.path}: {error.strerror}") from error

    def _bytes(self, results: Iterable[Result]) -> bytes:
        return self._text(results).encode(errors="backslashreplace")  # a detail may quote half of a surrogate pair

    def _text(self, results: Iterable[Result]) -> str:
        if not self._csv:
            return "".join(f"{result.json()}\n" for result in results)
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        for result in results:
            rows.writerow(" ".join(str(value).split()) for value in asdict(result).values())
        return text.getvalue()


def _objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]
