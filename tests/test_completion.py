"""What real shells complete, with the script that `completion` prints for them."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("aitems-bridge")

BASH = """
source {script}
COMP_LINE={line!r} COMP_POINT=${{#COMP_LINE}}
read -ra words <<<"$COMP_LINE "
[[ $COMP_LINE == *" " ]] && words+=("")
"$(complete -p aitems-bridge | sed 's/.*-F \\([^ ]*\\) .*/\\1/')" "${{words[0]}}" "${{words[-1]}}" "${{words[-2]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment without a person's own settings, where a local stack has left word."""
    journal = tmp_path / "events.jsonl"
    detail = {"metadata": {"request_id": "p24m34k7xwe43it2"}, "request": {"name": "shop-main"}}
    journal.write_text(json.dumps({"arrived": 0, "event": {"detail": detail}}) + "\n")
    left = {"callers": {"backoffice": {}, "deploys": {}}, "journal": str(journal)}
    (tmp_path / "stack.json").write_text(json.dumps(left))
    (tmp_path / "callers.json").write_text("{}")
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    return kept | home | {"AITEMS_BRIDGE_FOLDER": str(tmp_path)}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what each shell is to read."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh", "fish"):
        with (folder / shell).open("w") as file:
            subprocess.run([str(COMMAND), "completion", shell], stdout=file, check=True, timeout=30)  # noqa: S603
    return folder


CASES = [
    ("do", ["doctor"]),
    ("send ", ["webhook", "github", "hmac", "slack", "works", "bus"]),
    ("send webhook --caller ", ["backoffice", "deploys"]),
    ("send webhook x --resp", ["--respond-async"]),
    ("requests --state un", ["unknown"]),
    ("requests sh", ["shop-main"]),
    ("redrive p24", ["p24m34k7xwe43it2"]),
    ("callers ", ["check", "new"]),
    ("callers check call", ["callers.json"]),
    ("callers new x --scheme w", ["works"]),
    ("send webhook ", []),
]
"""What is typed behind the command, and what there is to choose from then."""


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_bash_offers_what_may_follow(
    typed: str, offered: list[str], scripts: Path, environment: dict[str, str]
) -> None:
    """Commands, options, their values, and what the local stack knows: callers, requests. Names are not files."""
    script = BASH.format(script=scripts / "bash", line=f"{COMMAND} {typed}")
    said = subprocess.run(  # noqa: S603  our own script
        ["/bin/bash", "--norc", "-c", script], env=environment, cwd=environment["HOME"], capture_output=True,
        text=True, check=True, timeout=30,
    )  # fmt: skip
    assert said.stdout.replace(" ", "").split() == offered


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_fish_offers_the_same(typed: str, offered: list[str], scripts: Path, environment: dict[str, str]) -> None:
    """Also where the command is not on the path: fish is told where it is."""
    script = f"source {scripts / 'fish'}; complete -C 'aitems-bridge {typed}'"
    said = subprocess.run(  # noqa: S603  our own script
        [str(shutil.which("fish")), "--no-config", "-c", script], env=environment, cwd=environment["HOME"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert sorted(line.partition("\t")[0].strip() for line in said.stdout.splitlines()) == sorted(offered)


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
@pytest.mark.parametrize(("typed", "offered"), [case for case in CASES if len(case[1]) == 1])
def test_zsh_completes_what_is_typed(
    typed: str, offered: list[str], scripts: Path, environment: dict[str, str]
) -> None:
    """At a real terminal: the word is typed, completed at the tab, and stands in the line."""
    rc = f"PS1=; autoload -U compinit; compinit -u -D; source {scripts / 'zsh'}; echo ready\n"
    Path(environment["ZDOTDIR"], ".zshrc").write_text(rc)
    child, terminal = pty.fork()
    if child == 0:  # the forked half: it is zsh from here on
        os.chdir(environment["HOME"])
        os.execve(str(shutil.which("zsh")), ["zsh", "-i"], environment)  # noqa: S606  the shell under test
    try:
        heard(terminal, "ready")
        os.write(terminal, f"{COMMAND} {typed}\t".encode())
        heard(terminal, offered[0].removeprefix(typed.rpartition(" ")[2]))
        os.write(terminal, b"\x01print -r -- '<'\x05'>'\r")  # to the line's beginning, and to its end
        said = heard(terminal, f"{offered[0]} >", f"{offered[0]}>")
        assert said.split("<")[-1].split(">")[0].split()[-1] == offered[0]
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def heard(terminal: int, *words: str) -> str:
    """Return what came from a terminal once one of these is in it."""
    said, deadline = "", time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
        if any(word in said for word in words):
            return said
    raise AssertionError(said)


def test_a_shell_that_is_none_is_refused(environment: dict[str, str]) -> None:
    """2, and what there is."""
    said = subprocess.run(  # noqa: S603  our own command
        [str(COMMAND), "completion", "tcsh"], env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert said.returncode == 2
    assert "say one of bash, zsh, fish" in said.stderr
