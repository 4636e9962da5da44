"""Lines for people: aligned, coloured only where somebody looks at a terminal that wants colour."""

import os
from dataclasses import dataclass
from typing import TextIO

_COLUMN = 86  # where times stand


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


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"  # noqa: PLR2004
