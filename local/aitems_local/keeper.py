"""Runs a program for exactly as long as the process that asked for it lives.

``python -m aitems_local.keeper FOLDER COMMAND…`` starts the command and waits until the command ends or this process's
standard input closes. The kernel closes it when the asking process ends, however it ends: SIGKILL leaves no time for a
``finally``. Then whatever the command started is killed (it shares a process group) and the folder is removed.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.25  # seconds; only for a command that ends by itself


def keep(folder: str, command: list[str]) -> int:
    """Run the command until it ends or standard input closes, clear up after it, and return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    child = subprocess.Popen(  # noqa: S603  the command is the caller's own
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509  this process has no threads
    )
    try:
        while child.poll() is None:
            if select.select([sys.stdin], [], [], _LOOK_EVERY)[0]:
                break
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return child.returncode


def _end_with_parent() -> None:
    """Let Linux end the command also when this process is the one that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1], sys.argv[2:]))
