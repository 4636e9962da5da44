"""Stands between the functions and the world, sees each side effect, and can end the process that causes it.

Two proxies on loopback: one before AWS, one before AiTEMS. A call is told by what it does (its *point*) and by the
request it is for. `plan` says at which points the process that works on a request is to be killed: with SIGKILL, before
the call is passed on, once it is passed on, or when its answer is there and nobody has heard of it yet. Functions know
nothing of all this: their endpoints are settings. Linux only, for it finds the process by its socket.
"""

import json
import os
import re
import select
import signal
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Literal, Self

from aitems_local.cloud import LOOPBACK, Cloud

Point = Literal[
    "read",
    "record",
    "claim",
    "settle",
    "put off",
    "adopt",
    "post",
    "list",
    "owner",
    "inspect",
    "queue",
    "announce",
    "other",
]
"""What a call does: read the request, write it first, write it as being created, leave that state again, leave it open,
settle it after a look; ask AiTEMS for the service, for the list, look whose a service is, read it; queue a pointer,
announce an outcome."""

When = Literal["before", "sent", "after"]

_NAMELESS = {"list", "owner", "inspect"}

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PATIENCE = 60.0
_MOST_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Kill:
    """Where a process is to end: before a call is passed on, once it is, or after it took effect."""

    when: When
    point: Point

    def __str__(self) -> str:
        return f"{self.when} {self.point}"


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP request as it came; header names are in lower case."""

    raw: bytes
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Trouble = Literal["refused", "lost"]
"""What AWS does instead of answering: it refuses the call, or does it and its answer is lost."""

Weather = Callable[[str], Trouble | None]
"""Says, of an AWS operation, what happens to it this time; None: nothing."""


@dataclass
class Interceptor:
    """Both proxies of one deployed bridge, between `start` and `stop` (or within ``with``).

    ``aitems`` is the address of the AiTEMS to pass calls on to, and may be given later than the start.
    """

    cloud: Cloud
    aitems: str = ""
    weather: Weather = lambda _: None
    killed: list[tuple[str, Kill]] = field(default_factory=list)
    """Which request's process was killed, and where, in order."""
    _plans: dict[str, list[Kill]] = field(default_factory=dict)
    _named: dict[str, str] = field(default_factory=dict)
    _working: dict[int, str] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> Self:
        """Listen."""
        self._aws_proxy = _Server(self, _AwsHandler)
        self._aitems_proxy = _Server(self, _AitemsHandler)
        return self

    def stop(self) -> None:
        """Listen no more; what is under way ends with its client."""
        for proxy in (self._aws_proxy, self._aitems_proxy):
            proxy.shutdown()
            proxy.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def aws_url(self) -> str:
        """AWS, as the functions are to see it."""
        return self._aws_proxy.url

    @property
    def aitems_url(self) -> str:
        """AiTEMS, as the functions are to see it."""
        return self._aitems_proxy.url

    def change(self, template: dict[str, Any]) -> None:
        """Point every function of a template at the proxy before AWS."""
        template["Globals"]["Function"]["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = self.aws_url

    # --- plans ----------------------------------------------------------------------------------------------------

    def plan(self, request_id: str, name: str, kills: Iterable[Kill]) -> None:
        """Kill whoever works on the request at these points, each once, in this order."""
        with self._lock:
            self._named[name] = request_id
            self._plans[request_id] = list(kills)

    def left(self, request_id: str) -> tuple[Kill, ...]:
        """Return the kills that have not happened yet."""
        with self._lock:
            return tuple(self._plans.get(request_id, ()))

    def strikes(self, when: When, point: Point, request_ids: Iterable[str], port: int, server: int) -> bool:
        """Kill the process behind the port if the plans say so; tell whether they did."""
        with self._lock:
            here = Kill(when, point)
            struck = [each for each in dict.fromkeys(request_ids) if self._plans.get(each, [])[:1] == [here]]
            for request_id in struck:
                self.killed.append((request_id, self._plans[request_id].pop(0)))
                if not self._plans[request_id]:
                    del self._plans[request_id]
        if struck:
            self.kill(port, server)
        return bool(struck)

    def kill(self, port: int, server: int) -> None:
        """SIGKILL the function process that speaks from one port of this machine to another."""
        if (pid := self._process(port, server)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- who is speaking ------------------------------------------------------------------------------------------

    def request_of(self, name: str) -> tuple[str, ...]:
        """Return the request that was planned under a service's name."""
        with self._lock:
            return (self._named[name],) if name in self._named else ()

    def works_on(self, request_id: str, port: int, server: int) -> None:
        """Remember which request a process is at, for its calls that do not say."""
        if self._asks_who and (pid := self._process(port, server)) is not None:
            self._working[pid] = request_id

    def worked_on(self, port: int, server: int) -> tuple[str, ...]:
        """Return the request the process behind a port is at."""
        pid = self._process(port, server) if self._asks_who else None
        return (self._working[pid],) if pid is not None and pid in self._working else ()

    @property
    def _asks_who(self) -> bool:
        """Whether any plan needs to know who makes a call that does not say for which request it is."""
        with self._lock:
            return any(kill.point in _NAMELESS for kills in self._plans.values() for kill in kills)

    def _process(self, port: int, server: int) -> int | None:
        ends = f"0100007F:{port:04X} 0100007F:{server:04X} "
        lines = Path("/proc/net/tcp").read_text("ascii").splitlines()
        inode = next((line.split()[9] for line in lines if ends in line), None)
        if inode is None:
            return None
        for find in (lambda: list(self._seen), self.cloud.function_processes):
            for pid in find():
                if _holds(pid, f"socket:[{inode}]"):
                    self._seen.add(pid)
                    return pid
        return None


def _holds(pid: int, handle: str) -> bool:
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if str(each.readlink()) == handle:
                    return True
    return False


def told(message: Message) -> tuple[Point, tuple[str, ...], str]:
    """Return what a call to AWS does, for which requests (none where it does not say), and AWS's word for it."""
    operation = message.headers.get("x-amz-target", "").rpartition(".")[2]
    document = json.loads(message.body or b"{}")
    match operation:
        case "GetItem":
            kind, _, key = document["Key"]["pk"]["S"].partition("#")
            return ("read", (key,), operation) if kind == "request" else ("owner", (), operation)
        case "TransactWriteItems":
            put = document["TransactItems"][0]["Put"]
            request_id = put["Item"]["pk"]["S"].removeprefix("request#")
            before = put.get("ExpressionAttributeValues", {}).get(":state", {}).get("S")
            return _write(before, put["Item"]["state"]["S"]), (request_id,), operation
        case "SendMessageBatch":
            bodies = [json.loads(entry["MessageBody"]) for entry in document["Entries"]]
            return "queue", tuple(body["request_id"] for body in bodies), operation
        case "PutEvents":
            details = [json.loads(entry["Detail"]) for entry in document["Entries"]]
            return "announce", tuple(detail["metadata"]["request_id"] for detail in details), operation
    return "other", (), operation


def _write(before: str | None, after: str) -> Point:
    if before is None:
        return "record"
    if before == "creating":
        return "settle"
    if after == "creating":
        return "claim"
    return "put off" if after in ("received", "unknown") else "adopt"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, interceptor: Interceptor, handler: type[socketserver.BaseRequestHandler]) -> None:
        self.interceptor = interceptor
        super().__init__((LOOPBACK, 0), handler)
        self.port = int(self.server_address[1])
        threading.Thread(target=self.serve_forever, args=(0.02,), name="interceptor", daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over those who hang up, as killed processes do; anything else is a mistake of ours and is shown."""
        if not isinstance(sys.exception(), OSError | HTTPException):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True
    timeout = 600

    def strikes(self, when: When, point: Point, request_ids: tuple[str, ...]) -> bool:
        """Kill who called, if that was planned."""
        return self.server.interceptor.strikes(when, point, request_ids, self.client_address[1], self.server.port)

    def next_message(self) -> Message | None:
        """Read a request; None when the client has gone, be it in the middle of it."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline(_MOST_HEAD)
            if not line:
                return None
            head += line
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        method, path, _ = first.split(" ", 2)
        length = int(headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:
            return None
        return Message(head + body, method, path, headers, body)


class _AwsHandler(_Handler):
    """One keep-alive connection of a function to AWS; each call goes to MiniStack over a connection of its own."""

    def handle(self) -> None:
        """Pass calls on until the client hangs up or is killed."""
        interceptor = self.server.interceptor
        while message := self.next_message():
            point, request_ids, operation = told(message)
            if request_ids and point in ("read", "record", "claim", "settle", "put off"):
                interceptor.works_on(request_ids[0], self.client_address[1], self.server.port)
            elif point == "owner":
                request_ids = interceptor.worked_on(self.client_address[1], self.server.port)
            trouble = interceptor.weather(operation)
            if trouble == "refused":
                self.wfile.write(_REFUSED)
                continue
            if self.strikes("before", point, request_ids):
                return
            answer = self._passed_on(message)
            if self.strikes("after", point, request_ids) or trouble == "lost":
                return
            self.wfile.write(answer)

    def _passed_on(self, message: Message) -> bytes:
        with socket.create_connection((LOOPBACK, self.server.interceptor.cloud.port), _PATIENCE) as upstream:
            upstream.sendall(message.raw)
            response = HTTPResponse(upstream, method=message.method)
            response.begin()
            body = response.read()
        kept = [f"{name}: {value}" for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
        head = [f"HTTP/1.1 {response.status} {response.reason}", *kept, f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(head).encode("latin-1") + body


_HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding"}


_REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 62\r\n\r\n"
    b'{"__type":"ServiceUnavailable","message":"refused on purpose"}'
)


class _AitemsHandler(_Handler):
    """One exchange with AiTEMS, passed on byte by byte: faults of the emulator arrive as they are."""

    def handle(self) -> None:
        """Pass one exchange on."""
        message = self.next_message()
        if message is None:
            return
        point = _aitems_point(message)
        request_ids = self._request_ids(point, message)
        if self.strikes("before", point, request_ids):
            return
        host, port = re.fullmatch(r"http://([^:]+):(\d+)", self.server.interceptor.aitems.rstrip("/")).groups()  # type: ignore[union-attr]
        with socket.create_connection((host, int(port)), _PATIENCE) as upstream:
            upstream.sendall(message.raw)
            if self.strikes("sent", point, request_ids):
                return
            with suppress(OSError):
                select.select([upstream, self.connection], [], [], _PATIENCE)
            if self.strikes("after", point, request_ids):
                return
            self._pump(upstream)

    def _request_ids(self, point: Point, message: Message) -> tuple[str, ...]:
        interceptor = self.server.interceptor
        if point == "post":
            return interceptor.request_of(str(json.loads(message.body).get("name")))
        return interceptor.worked_on(self.client_address[1], self.server.port)

    def _pump(self, upstream: socket.socket) -> None:
        while True:
            ready = select.select([upstream, self.connection], [], [], _PATIENCE)[0]
            if self.connection in ready or not ready:
                return  # the client has heard enough, or has gone
            try:
                received = upstream.recv(64 * 1024)
            except ConnectionResetError:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.connection.close()
                return
            if not received:
                return
            self.connection.sendall(received)


def _aitems_point(message: Message) -> Point:
    if message.method == "POST":
        return "post"
    return "list" if "?" in message.path else "inspect"
