"""Runs a program for exactly as long as the process that asked for it lives.

``python keeper.py FOLDER COMMAND…`` makes the folder, starts the command with its output in a file there, and waits
until the command ends or this process's standard input closes. The kernel closes it when the asking process ends,
however it ends: SIGKILL leaves no time for a ``finally``. Then whatever the command started is killed (it shares a
process group) and the folder is removed; of a command that ended by itself, its last words are printed.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

LOG = "output.log"

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.25  # seconds; only for a command that ends by itself


def keep(folder: str, command: list[str]) -> int:
    """Run the command until it ends or standard input closes, clear up after it, and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.mkdir(folder, 0o700)  # noqa: PTH102  pathlib would double this process's start
    child: subprocess.Popen[bytes] | None = None
    try:
        child = _start(command, f"{folder}/{LOG}")
        while child.poll() is None:
            if select.select([sys.stdin], [], [], _LOOK_EVERY)[0]:
                break
        if child.poll() is not None:
            print(_last_line(f"{folder}/{LOG}"), flush=True)
    finally:
        if child is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return child.returncode


def _start(command: list[str], output: str) -> "subprocess.Popen[bytes]":
    with open(output, "wb") as log:  # noqa: PTH123  the same
        return subprocess.Popen(  # noqa: S603  the command is the caller's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  this process has no threads
        )


def _last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as log:  # noqa: PTH123  the same
        return next((line.strip() for line in reversed(log.readlines()) if line.strip()), "it wrote nothing")


def _end_with_parent() -> None:
    """Let Linux end the command also when this process is the one that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1], sys.argv[2:]))
