"""What a file asks for: a service a row, checked whole before anything is sent.

A row is checked by the bridge's own rules (`models`), and against the other rows: a name or a key can be asked for
once. Everything that is wrong is told with its line, all at once; a file with one wrong row has no rows.

A row's key is what its ``key`` column says, else made of the row's content, and of nothing else: not of the file, the
line or the time. So the same row is the same request however often, in whatever file and in whatever order it is
submitted, and a file that is submitted twice by mistake makes nothing twice.
"""

import base64
import codecs
import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aitems_bridge.bridge import fingerprint
from aitems_bridge.errors import Refused
from aitems_bridge.models import CreateService, quoted
from aitems_bridge.worker import LONGEST_KEY
from aitems_local.cloud import StackError, UsageError

COLUMNS = ("name", "description", "type", "key")
KINDS = (".csv", ".jsonl")
ENCODINGS = ("utf-8", "cp949")

_ALIASES = {"idempotency_key": "key"}
"""What the event on the bus calls it."""
_DELIMITERS = (",", ";", "\t")
"""Spreadsheets of some countries put the others between values; a header tells them apart without a guess."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_EXAMPLE = "name,description,type"
_AS_UTF_8 = "save it as 'CSV UTF-8'"


@dataclass(frozen=True, slots=True)
class Row:
    """A service that is asked for: the line it stands on, its key, and the request."""

    line: int
    key: str
    command: dict[str, str]

    @property
    def name(self) -> str:
        """The name asked for."""
        return self.command["name"]

    @property
    def detail(self) -> dict[str, str]:
        """What is put on the bus."""
        return {**self.command, "idempotency_key": self.key}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with a line, and what to do about it; ``column`` is empty where the whole line is meant."""

    line: int
    column: str
    detail: str

    def __str__(self) -> str:
        return f"{self.column}: {self.detail}" if self.column else self.detail


@dataclass(slots=True)
class Sheet:
    """What a file holds. ``size`` counts its rows, the wrong ones too; with a fault in it, nothing may be sent."""

    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """A row as it was found: the values by column, or nothing where it cannot be read."""

    line: int
    values: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()


class _Unreadable(Exception):
    """From this line on nothing can be read."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(line, "", detail)


def read(path: Path, encoding: str = ENCODINGS[0]) -> Sheet:
    """Return what the file asks for. Raises `StackError` where it cannot be opened, `UsageError` for another kind."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        how = "save the sheet as 'CSV UTF-8'" if kind.startswith(".xls") else "one service a line"
        raise UsageError(f"{path} ends in neither {' nor '.join(KINDS)}: {how}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StackError(f"{path}: {error.strerror}") from error
    return read_bytes(content, kind, encoding)


def read_bytes(content: bytes, kind: str, encoding: str = ENCODINGS[0]) -> Sheet:
    """Return what the content of a file of that kind asks for."""
    sheet = Sheet()
    found: list[_Found] = []
    try:
        for each in (_csv if kind == ".csv" else _jsonl)(_decoded(content, encoding)):
            if isinstance(each, Fault):
                sheet.faults.append(each)
            else:
                found.append(each)
                _check(each, sheet)
    except _Unreadable as unreadable:
        sheet.faults.append(unreadable.fault)
    if not found and not sheet.faults:
        sheet.faults.append(Fault(1, "", "there is no row in it: write one service a line"))
    sheet.size = len(found)
    sheet.faults += _twice(found, {row.line: row.key for row in sheet.rows})
    sheet.faults.sort()
    return sheet


def derived_key(command: dict[str, str]) -> str:
    """Return the key of a row that brings none: made of its content alone."""
    digest = hashlib.sha256(fingerprint(command).encode()).digest()[:20]
    return f"row-{base64.b32encode(digest).decode().lower()}"


# --- a row --------------------------------------------------------------------------------------------------------


def _check(found: _Found, sheet: Sheet) -> None:
    sheet.faults += found.faults
    if found.values is None:
        return
    values = dict(found.values)
    given, key = "key" in values, values.pop("key", None)
    wrong = len(sheet.faults)
    if given and not (isinstance(key, str) and 1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        told = f"{quoted(key)} is not 1 to {LONGEST_KEY} printable ASCII characters"
        sheet.faults.append(Fault(found.line, "key", f"{told}; or leave it out, and it is made of the row"))
    try:
        command = CreateService.parse(values).document()
    except Refused as refused:
        sheet.faults += [
            Fault(found.line, error.pointer.removeprefix("#/").removeprefix("#"), error.detail)
            for error in refused.problem.errors
            if error.rule != "additionalProperties"  # told before, with what may stand there
        ]
        return
    if len(sheet.faults) == wrong:
        sheet.rows.append(Row(found.line, key or derived_key(command), command))


def _twice(found: Iterable[_Found], keys: dict[int, str]) -> Iterator[Fault]:
    """Yield what stands there twice. ``keys``: by line, of the rows that are in order."""
    names, used = dict[str, int](), dict[str, int]()
    for row in found:
        values = row.values or {}
        name, key = values.get("name"), values.get("key", keys.get(row.line))
        if isinstance(name, str) and (line := names.setdefault(name, row.line)) != row.line:
            told = f"{quoted(name)} stands on line {line} too: a name can be asked for once, so leave one out"
            yield Fault(row.line, "name", told)
        elif isinstance(key, str) and (line := used.setdefault(key, row.line)) != row.line:
            yield Fault(row.line, "key", f"{quoted(key)} is that of line {line} too: each row needs a key of its own")


# --- text ---------------------------------------------------------------------------------------------------------


def _decoded(content: bytes, encoding: str) -> str:
    if content.startswith(_UTF_16):
        raise _Unreadable(1, f"the file is UTF-16, as 'Unicode Text' is: {_AS_UTF_8}")
    if content.startswith(codecs.BOM_UTF8):
        encoding = ENCODINGS[0]
    try:
        return content.decode("utf-8-sig" if encoding == ENCODINGS[0] else encoding)
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
    if encoding == ENCODINGS[0] and _is_text(content, ENCODINGS[1]):
        told = (
            f"the file is not UTF-8 and may be CP949, as Korean Excel writes CSV: add --encoding cp949, or {_AS_UTF_8}"
        )
        raise _Unreadable(line, told)
    told = f"byte 0x{byte:02x} is no {encoding.upper()}"
    raise _Unreadable(line, f"{told}: {_AS_UTF_8}" + (" and leave --encoding out" if encoding != ENCODINGS[0] else ""))


def _is_text(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv(text: str) -> Iterator[_Found | Fault]:
    heading = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    cells = _cells(text, _delimiter(heading))
    first = next(cells, None)
    if first is None:
        raise _Unreadable(1, f"the file is empty: begin it with a line such as {_EXAMPLE}")
    line, names = first
    columns = [_column(name) for name in names]
    yield from _header_faults(line, names, columns)
    if "name" in columns:
        for at, values in cells:
            yield _row(at, columns, values)


def _cells(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with the line it begins on: a value in quotes may go over several."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            told = f"cannot be read as CSV ({error}): is a quote left open, or text behind a closing one?"
            raise _Unreadable(line, f"{told} Nothing after it was looked at") from error
        if any(cells):
            yield line, cells


def _delimiter(heading: str) -> str:
    return max(_DELIMITERS, key=lambda each: sum(_column(cell) in COLUMNS for cell in heading.split(each)))


def _column(heading: str) -> str:
    name = heading.strip().strip('"').strip().casefold()
    return _ALIASES.get(name, name)


def _header_faults(line: int, names: list[str], columns: list[str]) -> Iterator[Fault]:
    if not set(columns) & set(COLUMNS):
        told = f"there is no header: the first line is to name the columns, such as {_EXAMPLE}, and is"
        yield Fault(line, "", f"{told} {quoted(','.join(names))}")
        return
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        if column and column not in COLUMNS:
            yield Fault(line, "", _unknown(name, "column"))
        elif column and column in columns[:place]:
            yield Fault(line, "", f"the column {quoted(column)} is there twice: take one away")
    if "name" not in columns:
        yield Fault(line, "", "there is no column 'name', and a service needs a name")


def _row(line: int, columns: list[str], cells: list[str]) -> _Found:
    faults = [
        Fault(line, "", _stray(place, cell, columns))
        for place, cell in enumerate(cells)
        if cell and (place >= len(columns) or not columns[place])
    ]
    values: dict[str, Any] = {
        column: cell for column, cell in zip(columns, cells, strict=False) if column in COLUMNS and cell
    }
    return _Found(line, None if faults else values, tuple(faults[:1]))


def _stray(place: int, cell: str, columns: list[str]) -> str:
    told = f"{quoted(cell)} is value {place + 1} of a row with {len([each for each in columns if each])} columns"
    return f"{told}: put a value that holds the separator in double quotes"


def _unknown(name: str, what: str) -> str:
    close = difflib.get_close_matches(name.strip().casefold(), COLUMNS, 1)
    remedy = f"did you mean {close[0]}?" if close else f"it can be one of {', '.join(COLUMNS)}; take it away"
    return f"there is no {what} {quoted(name)}: {remedy}"


# --- JSON, one object a line ---------------------------------------------------------------------------------------


class _TwiceError(ValueError):
    """A member is there twice."""


def _jsonl(text: str) -> Iterator[_Found | Fault]:
    lines = text.split("\n")  # splitlines() would split at characters that JSON allows in a text
    if next((line for line in lines if line.strip()), "").strip() == "[":
        raise _Unreadable(1, "the file is one JSON list: write an object a line (`jq -c '.[]' FILE` does)")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _object(number, line.rstrip("\r"))


def _object(number: int, line: str) -> _Found:
    try:
        value: Any = json.loads(line, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        told = re.sub(r"[: ]+$", "", error.msg)
        return _Found(number, None, (Fault(number, "", f"is no JSON: {told}, at character {error.colno}"),))
    except (_TwiceError, ValueError, RecursionError) as error:
        told = str(error) if isinstance(error, _TwiceError) else "is no JSON that can be read"
        return _Found(number, None, (Fault(number, "", told),))
    if not isinstance(value, dict):
        return _Found(
            number, None, (Fault(number, "", f'{quoted(value)} is no object such as {{"name": "shop-main"}}'),)
        )
    given: dict[str, Any] = value
    values = {_ALIASES.get(name, name): each for name, each in given.items()}
    faults = [Fault(number, "", _unknown(name, "member")) for name in values if name not in COLUMNS]
    if len(values) < len(value):
        faults.append(Fault(number, "key", "is there twice, as 'key' and 'idempotency_key': take one away"))
    return _Found(number, values, tuple(faults))


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(f"{quoted(twice)} is there twice: take one away")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(text)
