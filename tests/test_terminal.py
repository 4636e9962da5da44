"""Lines for people: times in one column whatever stands before them, nothing cut where a machine may read."""

import io

import pytest

from aitems_local.terminal import Bar, Terminal, columns_of

ID = "ef47auknb5iqmvmpdcu7yyfqbmcbkolb2qwfvpn46wstxw4sgbha"
LINES = ["short", "봄 시즌 추천", "long " * 40, "추천 " * 40]


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return what sets the environment, which wants colours and says nothing of columns."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


@pytest.mark.parametrize("columns", [40, 60, 80, 110])
def test_times_stand_in_one_column(columns: int, surroundings: pytest.MonkeyPatch) -> None:
    """In any width: what has no room ends in an ellipsis, and Korean characters count as the two columns they take."""
    surroundings.setenv("COLUMNS", str(columns))
    stream = Tty()
    for text in LINES:
        Terminal(stream).line(text, 0.012, whole=False)
    lines = stream.getvalue().splitlines()
    assert {columns_of(line) for line in lines} == {columns}
    assert all(line.endswith("   12 ms\x1b[0m") for line in lines)
    assert ["…" in line for line in lines] == [False, False, True, True]


def test_nothing_is_cut_for_machines(surroundings: pytest.MonkeyPatch) -> None:
    """Where it is no terminal: everything whole, ids too, in no colour, however narrow the terminal behind it."""
    surroundings.setenv("COLUMNS", "40")
    stream = io.StringIO()
    terminal = Terminal(stream)
    for text in [*LINES, terminal.id(f"{ID}.created")]:
        terminal.line(terminal.good(text), 1.5, whole=False)
    with terminal.meanwhile("passing"), Bar.over(3, stream) as bar:
        bar.step()
    lines = stream.getvalue().splitlines()
    assert [line[: -len("1.5 s")].rstrip() for line in lines] == [text.rstrip() for text in [*LINES, f"{ID}.created"]]
    assert len({columns_of(line) for line in lines if "long" not in line and "추천 추천" not in line}) == 1


def test_what_came_of_a_step_is_never_cut(surroundings: pytest.MonkeyPatch) -> None:
    """An address is to be copied; what it is of gives way."""
    surroundings.setenv("COLUMNS", "60")
    stream = Tty()
    Terminal(stream).step("start", "AWS emulator (MiniStack 1.5.33, IAM enforced)", "http://127.0.0.1:4580", 0.4)
    assert stream.getvalue().startswith("start     AWS emulator")
    assert "…  http://127.0.0.1:4580\x1b" in stream.getvalue()


def test_what_passes_leaves_no_trace() -> None:
    """What is shown meanwhile, and a bar, are wiped off the line."""
    stream = Tty()
    with Terminal(stream).meanwhile("looking …"):
        assert stream.getvalue() == "looking …"
    with Bar.over(2, stream) as bar:
        bar.show(1, "1 created")
    assert stream.getvalue().endswith("1/2  1 created\x1b[K\r\x1b[K")


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_for_those_who_want_them(variable: str, value: str, surroundings: pytest.MonkeyPatch) -> None:
    """Not with NO_COLOR, and not on a terminal that knows none."""
    assert Terminal(Tty()).bad("✗") == "\x1b[31m✗\x1b[0m"
    surroundings.setenv(variable, value)
    assert Terminal(Tty()).bad("✗") == "✗"
