"""The picture of a terminal: what stands in it is what was printed, and it needs nothing from elsewhere."""

import re
import sys
from xml.etree import ElementTree as ET

import pytest

from aitems_local.cloud import StackError
from aitems_local.picture import PICTURE, Line, drawn, lines_in, recorded

LINES = [
    Line("$ make run", 0.0),
    Line("\x1b[1m1/6\x1b[0m  Webhook <b> & more", 0.4),
    Line('     → {"name": "봄 시즌 추천"}   \x1b[32m✓\x1b[0m', 9.0),
    Line("", 9.1),
    *(Line(f"line {number}", 10 + number / 10) for number in range(60)),
]  # fmt: skip


def test_a_line_is_read_as_it_was_printed() -> None:
    """Colours are styles; columns, Korean, and what XML would take for its own stay as they are."""
    plain = [re.sub("\x1b\\[[0-9;]*m", "", line.text) for line in LINES]
    assert lines_in(drawn(LINES)) == plain


@pytest.mark.parametrize("picture", [PICTURE.read_text("utf-8"), drawn(LINES)], ids=["the README's", "another"])
def test_a_picture_is_whole_and_small(picture: str) -> None:
    """XML that names no other place, has a title for who cannot see it, and stands still where motion is unwanted."""
    root = ET.fromstring(picture)  # noqa: S314  drawn here
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert set(re.findall(r"\w+://[\w.]+", picture)) <= {"http://www.w3.org", "http://127.0.0.1"}
    assert not re.search(r"<script|@import|url\(|href", picture)
    assert len(picture.encode()) < 150_000
    animated = picture[picture.index("@media (prefers-reduced-motion:no-preference)") :]
    assert picture.count("animation:") == animated.count("animation:") > 0


def test_a_command_is_recorded_in_a_terminal() -> None:
    """It believes to talk to a terminal of that width, in colour; a command that fails draws nothing."""
    script = (
        "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns, 'NO_COLOR' in os.environ, '봄')"
    )
    (line,) = recorded([sys.executable, "-c", script], columns=77)
    assert line.text == "True 77 False 봄"
    with pytest.raises(StackError, match=r"(?s)it did not run through.*why"):
        recorded([sys.executable, "-c", "import sys; sys.exit('why')"])
