"""Lambda's Runtime API, just enough of it, and a function process that AWS's own client runs against it."""

import json
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

REGION = "ap-northeast-2"
ACCOUNT = "123456789012"
PATIENCE = 30.0
MEGABYTE = 1_000_000
_API = "/2018-06-01/runtime"


class FunctionFailed(Exception):
    """The function ended, or answered with an error; the message holds what it logged last."""


@dataclass(frozen=True, slots=True)
class Called:
    """One call: the seconds from handing it out to having the answer, and the answer."""

    seconds: float
    answer: Any


class Function:
    """A function in a process of its own. The process starts when this is made, and the clock with it.

    ``handler`` is a dotted path, ``folders`` stand on the process's path in that order. It sees no variable of ours.
    """

    def __init__(
        self,
        python: Path,
        handler: str,
        folders: list[Path],
        environment: Mapping[str, str],
        options: tuple[str, ...] = (),
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waiting: socket.socket | None = None
        self._number = 0
        self._log = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-{os.getpid()}.log"  # noqa: S108  # ours alone, by its number
        host, port = self._listener.getsockname()[:2]
        known: dict[str, str] = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_SESSION_TOKEN": "bench",
            "LAMBDA_TASK_ROOT": str(folders[0]),
            "_HANDLER": handler,
        }
        with self._log.open("wb") as log:
            self.begun = time.perf_counter()
            self._process = subprocess.Popen(  # noqa: S603  # fixed words
                [str(python), *options, "-m", "awslambdaric", handler],
                env=known | dict(environment),
                cwd=folders[0],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def first(self, event: object) -> Called:
        """Call it for the first time; the seconds count from the start of the process."""
        answer = self._call(event)
        return Called(time.perf_counter() - self.begun, answer)

    def call(self, event: object) -> Called:
        """Call it again."""
        self._await_next()
        begun = time.perf_counter()
        answer = self._call(event)
        return Called(time.perf_counter() - begun, answer)

    def peak_memory(self) -> float:
        """Return the most memory the process has held so far, in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MEGABYTE

    def processor_seconds(self) -> float:
        """Return how long the process has had a processor so far: what remains comparable on a busy machine."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9

    def log(self) -> str:
        """Return what it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._log.unlink(missing_ok=True)

    def _call(self, event: object) -> Any:  # noqa: ANN401  # whatever the handler returns
        connection = self._await_next()
        self._waiting = None
        self._number += 1
        body = json.dumps(event).encode()
        head = [
            "HTTP/1.1 200 OK",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"Lambda-Runtime-Aws-Request-Id: 00000000-0000-4000-8000-{self._number:012d}",
            f"Lambda-Runtime-Deadline-Ms: {int((time.time() + 29) * 1000)}",
            f"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:{REGION}:{ACCOUNT}:function:bench",
            "Lambda-Runtime-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
        ]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        while True:
            where, line, answer = self._request()
            where.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            if line.endswith("/response"):
                return json.loads(answer)
            raise FunctionFailed(f"{answer[:2000].decode()}\n{self.log()[-3000:]}")

    def _await_next(self) -> socket.socket:
        while self._waiting is None:
            connection, line, body = self._request()
            if line == f"{_API}/invocation/next":
                self._waiting = connection
            elif line.startswith(_API):
                raise FunctionFailed(f"{line}: {body[:2000].decode()}\n{self.log()[-3000:]}")
        return self._waiting

    def _request(self) -> tuple[socket.socket, str, bytes]:
        """Return the next request: its connection, its path and its body."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for key, _ in self._selector.select(0.5):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(connection, selectors.EVENT_READ)
                    continue
                connection = key.fileobj  # type: ignore[assignment]  # only sockets are registered
                read = _read(connection)
                if read is not None:
                    return connection, *read
                self._selector.unregister(connection)
                connection.close()
            if self._process.poll() is not None:
                raise FunctionFailed(f"ended by itself: {self.log()[-3000:]}")
        raise FunctionFailed(f"said nothing for {PATIENCE} s: {self.log()[-3000:]}")


def _read(connection: socket.socket) -> tuple[str, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return None
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return lines[0].split(" ")[1], _chunks(connection, body)
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += connection.recv(65536)
    return lines[0].split(" ")[1], body


def _chunks(connection: socket.socket, data: bytes) -> bytes:
    body = b""
    while True:
        while b"\r\n" not in data:
            data += connection.recv(65536)
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        while len(data) < length + 2:
            data += connection.recv(65536)
        body, data = body + data[:length], data[length + 2 :]
        if length == 0:
            return body
