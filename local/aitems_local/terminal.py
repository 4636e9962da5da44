"""Lines for people: aligned, coloured only where somebody looks at a terminal that wants colour."""

import os
import re
import shlex
import shutil
import sys
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "aitems-bridge"

_WIDEST = 110  # columns of a terminal that are used
_ELSEWHERE = 120  # columns where it is none: nothing is shortened there, and ids are long
_TIME = 8  # columns that times stand in, at the right
_BAR = 24  # columns of a bar at most
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def typed(*words: str) -> str:
    """Return a command of this command line, as it can be typed where this one was."""
    called = sys.argv[0] if sys.argv else ""
    if Path(called).name != NAME:  # a module, or a test
        called = f".venv/bin/{NAME}"
    elif shutil.which(NAME) == called:
        called = NAME
    return " ".join([shlex.quote(called), *words])


@dataclass(frozen=True, slots=True)
class Terminal:
    """Writes to a stream, and at once."""

    stream: TextIO

    @property
    def width(self) -> int:
        """Columns that a line may have."""
        return min(_WIDEST, _columns()) if self.stream.isatty() else _ELSEWHERE

    def line(self, text: str = "", seconds: float | None = None, mark: str = "", *, whole: bool = True) -> None:
        """Write a line, with how long it took in the right column; unless ``whole``, as much of it as fits."""
        room = self.width - (0 if seconds is None else _TIME)
        if not whole:
            text = self.fitted(text, room)
        if seconds is not None:
            text = f"{text}{' ' * (room - columns_of(text))}{self._in('2', f'{mark + _duration(seconds):>{_TIME}}')}"
        print(text.rstrip(), file=self.stream, flush=True)

    def step(self, what: str, on: str, result: str, seconds: float | None) -> None:
        """Write a step that was done: what, on what, and what came of it, which is never shortened."""
        room = max(0, min(51, self.width - _TIME - 10 - len(result)) - 2)
        on = self.fitted(on, room) if result else on
        self.line(f"{what:<10}{on:<{room}}  {result}".rstrip(), seconds, whole=False)

    @contextmanager
    def meanwhile(self, text: str) -> "Iterator[None]":
        """Show on a terminal, for as long as the block, what is waited for."""
        shown = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        try:
            if shown:
                print(self.fitted(text, self.width - 1), end="", file=self.stream, flush=True)
            yield
        finally:
            if shown:
                print("\r\x1b[K", end="", file=self.stream, flush=True)

    def fitted(self, text: str, room: int) -> str:
        """Return as much of the text as has room on a terminal; elsewhere, all of it."""
        if not self.stream.isatty() or columns_of(text) <= room:
            return text
        text = _COLOURS.sub("", text)
        while text and columns_of(text) >= room:
            text = text[:-1]
        return f"{text}…"

    def good(self, text: str) -> str:
        """Return the text as something that is as it should be."""
        return self._in("32", text)

    def bad(self, text: str) -> str:
        """Return the text as something that is not."""
        return self._in("31", text)

    def strong(self, text: str) -> str:
        """Return the text as a heading."""
        return self._in("1", text)

    def id(self, identifier: str) -> str:
        """Return an id, its middle left out where a person reads it: a request's is 52 characters long."""
        request, dot, ending = identifier.partition(".")
        return f"{request[:12]}…{dot}{ending}" if self.stream.isatty() and len(request) > 20 else identifier  # noqa: PLR2004

    def _in(self, colour: str, text: str) -> str:
        if not self.stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return text
        return f"\x1b[{colour}m{text}\x1b[0m"


class Bar:
    """How far something long has come, on one line that is written over; nothing where nobody looks at a terminal."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream, self._done = total, stream, 0
        self.shown = bool(total) and stream.isatty() and os.environ.get("TERM") != "dumb"

    @classmethod
    @contextmanager
    def over(cls, total: int, stream: TextIO) -> "Iterator[Bar]":
        """Show it for as long as the block; a total of 0 shows nothing."""
        bar = cls(total, stream)
        try:
            yield bar
        finally:
            bar.write("\r\x1b[K")

    def step(self) -> None:
        """One more is done."""
        self.show(self._done + 1)

    def show(self, done: int, told: str = "") -> None:
        """So many are done; what is told besides stands behind, as far as it has room."""
        self._done = done
        if self.shown:
            room = Terminal(self._stream).width - 1  # terminals differ about where the cursor is after the last
            bar = min(_BAR, room // 3)
            filled = bar * done // self._total
            text = f"{'█' * filled}{'░' * (bar - filled)} {done:,}/{self._total:,}  {told}".rstrip()
            self.write(f"\r{Terminal(self._stream).fitted(text, room)}\x1b[K")

    def write(self, text: str) -> None:
        """Write to the terminal, if that is what it is."""
        if self.shown:
            self._stream.write(text)
            self._stream.flush()


def _columns() -> int:
    """Return how many columns the terminal has, standard error's where standard output goes elsewhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or 80
        except (OSError, ValueError):
            continue
    return 80


def columns_of(text: str) -> int:
    """Return how many columns the text takes: a Korean character takes two, what sets a colour none."""
    plain = _COLOURS.sub("", text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in plain
    )


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"  # noqa: PLR2004
