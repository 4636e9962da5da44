"""What the shells complete: `aitems-bridge completion SHELL` prints what has them ask, and this answers.

A shell asks at every tab, so nothing here is slow to import: what is known of the local stack is read from the files
that it leaves, and a deployed one is not asked.
"""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import FilesCompleter, SuppressCompleter
from argcomplete.shell_integration import shellcode

from aitems_local.terminal import NAME

_NEWEST = 200
"""Requests that are offered at most."""


def script(shell: str) -> str:
    """Return what makes a shell complete the command, however its path is typed."""
    # bash and zsh call what was typed; fish looks for a command of that name, which need not be on the path.
    called = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == NAME else None
    answers = shlex.quote(str(Path(called).absolute())) if called and shell == "fish" else None
    return shellcode([NAME], shell=shell, argcomplete_script=answers)


def complete(parser: argparse.ArgumentParser) -> None:
    """Tell the shell that asked what could follow, and end the process."""
    known = {"caller": _callers, "which": _requests, "ids": _requests, "id": _requests}
    for action in _actions(parser):
        completer: Any = known.get(action.dest)
        if action.type is Path:
            completer = FilesCompleter()
        if completer:
            action.completer = completer  # type: ignore[attr-defined]  # argcomplete's own way
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=SuppressCompleter())


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001  argparse gives no other way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  as above
            for each in action.choices.values():
                yield from _actions(each)
        else:
            yield action


def _callers(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the callers of the local stack."""
    return [] if getattr(parsed_args, "stack", None) else list(_left().get("callers", {}))


def _requests(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return the names and ids of what the local stack announced last."""
    if getattr(parsed_args, "stack", None):
        return []
    try:
        lines = Path(_left()["journal"]).read_text("utf-8").splitlines()[-_NEWEST:]
        details = [json.loads(line)["event"]["detail"] for line in lines]
        ids = [each["metadata"]["request_id"] for each in details]
        return list(dict.fromkeys([*(each["request"]["name"] for each in details if each["request"]), *ids]))
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _left() -> dict[str, Any]:
    """Return the word that the local stack left, if it did."""
    from aitems_local.document import state_folder  # noqa: PLC0415  slow to import, and rarely wanted

    try:
        found: dict[str, Any] = json.loads((state_folder() / "stack.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found
