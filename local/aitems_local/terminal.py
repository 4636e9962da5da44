"""Lines for people: aligned, coloured only where somebody looks at a terminal that wants colour."""

import os
import shlex
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "aitems-bridge"

_COLUMN = 86  # where times stand
_BAR = 40  # characters


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

    def line(self, text: str = "", seconds: float | None = None, mark: str = "") -> None:
        """Write a line, with how long it took in the right column."""
        if seconds is not None:
            text = f"{text:<{_COLUMN}}  {mark + _duration(seconds):>7}"
        print(text.rstrip(), file=self.stream, flush=True)

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
        self._shown = bool(total) and stream.isatty() and os.environ.get("TERM") != "dumb"

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
        self._done += 1
        if self._total:
            filled = _BAR * self._done // self._total
            self.write(f"\r{'█' * filled}{'░' * (_BAR - filled)} {self._done}/{self._total}")

    def write(self, text: str) -> None:
        """Write to the terminal, if that is what it is."""
        if self._shown:
            self._stream.write(text)
            self._stream.flush()


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"  # noqa: PLR2004
