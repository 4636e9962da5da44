"""The picture in the README: `python -m aitems_local.picture` runs `make run ONCE=1` in a terminal and draws it.

What is drawn is what was printed, at the times at which it was; nothing is typed by hand. It is an SVG that needs
nothing from elsewhere: it plays by itself, and shows its end where motion is unwanted or styles are not run.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from aitems_local.cloud import StackError
from aitems_local.document import ROOT
from aitems_local.terminal import columns_of

PICTURE = ROOT / "docs" / "demo.svg"
COMMAND = ("make", "run", "ONCE=1")

_TITLE = "make run: a service created through each of the six doors, and what happens when it goes wrong"
_COLUMNS, _ROWS = 110, 34
_CELL, _LINE = 7.2, 17.0  # pixels
_MARGIN, _BAR = 16.0, 28.0
_LEAD, _HOLD = 0.8, 9.0  # seconds before the first line, and after the last
_LONGEST_STILL = 1.2
"""Seconds: what lasts longer is shortened to it, for somebody is looking."""
_SGR = re.compile("\x1b\\[([0-9;]*)m")
_RUN = re.compile("[\u1100-\uffdc]+|[^\\s\u1100-\uffdc]+(?: [^\\s\u1100-\uffdc]+)*")
"""Words one space apart, or a word of wide characters, which are wider than two others in some fonts."""
_ERASED = "\r\x1b[K"
"""What stood on the line before it was passing."""
_STYLES = {"1": "b", "2": "d", "31": "r", "32": "g"}
_SHEET = """\
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#e6edf3;white-space:pre}
.b{font-weight:bold;fill:#fff}.d{fill:#8b949e}.g{fill:#56d364}.r{fill:#ff7b72}"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was printed, colours and all, and when (seconds since the start)."""

    text: str
    at: float


def recorded(command: Sequence[str], *, columns: int = _COLUMNS) -> list[Line]:
    """Run a command in a terminal of so many columns and return its lines. Raises `StackError` where it fails."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    hidden = {"NO_COLOR", "COLUMNS", "LINES", "MAKEFLAGS", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    begun, lines, rest = time.monotonic(), list[Line](), b""
    with subprocess.Popen(  # noqa: S603  our own command
        command, cwd=ROOT, stdin=its, stdout=its, stderr=its, env=environment | {"TERM": "xterm-256color"}
    ) as process:
        os.close(its)
        while chunk := _read(ours):
            *whole, rest = (rest + chunk).split(b"\n")
            at = time.monotonic() - begun
            lines += [Line(each.decode().rpartition(_ERASED)[2].rstrip("\r"), at) for each in whole]
    os.close(ours)
    if process.returncode:
        raise StackError("\n".join(["it did not run through, so nothing is drawn:", *(line.text for line in lines)]))
    return lines


def drawn(lines: Sequence[Line], *, columns: int = _COLUMNS, rows: int = _ROWS) -> str:
    """Return the picture of a terminal in which these lines appear."""
    times = list(_times(lines))
    whole = times[-1] + _HOLD
    width, height = columns * _CELL + 2 * _MARGIN, rows * _LINE + _MARGIN + _BAR
    sheet, body = [_SHEET], []
    for number, (line, at) in enumerate(zip(lines, times, strict=True)):
        y = _LINE * (number + 1) - 4
        body.append(f'<g id="l{number}">' + "".join(_segments(line.text, y)) + "</g>")
        sheet.append(_appears(number, 100 * at / whole))
    sheet.append(_scrolls(times, whole, rows))
    motion = f"g[id]{{animation:{whole:.1f}s step-end infinite}}"
    named = "".join(f"#l{number}{{animation-name:k{number}}}" for number in range(len(lines)))
    style = "\n".join(
        [*sheet, f"@media (prefers-reduced-motion:no-preference){{{motion}{named}#all{{animation-name:s}}}}"]
    )
    scrolled = max(0, len(lines) - rows) * _LINE
    dots = "".join(f'<circle cx="{18 + 16 * each}" cy="15" r="5" fill="#30363d"/>' for each in range(3))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">',
            f"<title>{_TITLE}</title>",
            f"<style>{style}</style>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#0d1117" stroke="#30363d"/>{dots}',
            f'<svg x="{_MARGIN:g}" y="{_BAR:g}" width="{columns * _CELL:g}" height="{rows * _LINE:g}">',
            f'<g id="all" transform="translate(0,{-scrolled:g})" style="transform:translateY({-scrolled:g}px)">',
            *body,
            "</g></svg></svg>\n",
        ]
    )


def lines_in(picture: str) -> list[str]:
    """Return the lines of a picture, as they would be read."""
    found = []
    for line in re.findall(r'<g id="l\d+">(.*?)</g>', picture):
        text = ""
        for column, said in re.findall(r'<text x="([\d.]+)"[^>]*>(.*?)</text>', line):
            text += " " * (round(float(column) / _CELL) - columns_of(text)) + _plain(said)
        found.append(text)
    return found


# --- the parts ----------------------------------------------------------------------------------------------------


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so when the last writer has gone
        return b""


def _times(lines: Sequence[Line]) -> Iterator[float]:
    """Yield when each line appears: as it did, but for what would be waiting only."""
    at, before = _LEAD, lines[0].at
    for line in lines:
        at += min(line.at - before, _LONGEST_STILL)
        before = line.at
        yield at


def _appears(number: int, percent: float) -> str:
    return f"@keyframes k{number}{{0%{{visibility:hidden}}{percent:.2f}%{{visibility:visible}}}}"


def _scrolls(times: Sequence[float], whole: float, rows: int) -> str:
    steps = ["0%{transform:translateY(0)}"]
    steps += [
        f"{100 * at / whole:.2f}%{{transform:translateY({-(number + 1 - rows) * _LINE:g}px)}}"
        for number, at in enumerate(times)
        if number >= rows
    ]
    return f"@keyframes s{{{''.join(steps)}}}"


def _segments(text: str, y: float) -> Iterator[str]:
    """Yield each part of a line in its place and as wide as it is: so columns stand in any font."""
    column, style, end = 0, "", 0
    for part in [*_SGR.finditer(text), None]:
        said = text[end : part.start() if part else None]
        for words in _RUN.finditer(said):
            x, columns = column + columns_of(said[: words.start()]), columns_of(words[0])
            kind = f' class="{style}"' if style else ""
            if columns == len(words[0]):  # wide characters look torn apart; they have room enough anyway
                kind += f' textLength="{columns * _CELL:.1f}"'
            yield f'<text x="{x * _CELL:.1f}" y="{y:g}"{kind}>{escape(words[0], quote=False)}</text>'
        column += columns_of(said)
        if part:
            style, end = _STYLES.get(part[1], ""), part.end()


def _plain(said: str) -> str:
    return said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def main(path: Path = PICTURE) -> None:
    """Run it and draw it."""
    lines = [Line(f"$ {' '.join(COMMAND)}", 0.0), *recorded(COMMAND)]
    while lines and not lines[-1].text:
        lines.pop()
    path.write_text(drawn(lines), "utf-8")
    print(f"{path.relative_to(ROOT)}: {len(lines)} lines, {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(str(error))
