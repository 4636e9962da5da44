"""AiTEMS and NAVER's API gateway on loopback: a real HTTP server to develop and test against.

    with Emulator(access_key="AK", secret_key="SK") as emulator:
        emulator.add_faults(Fault("hang_after", name="shop", seconds=3))
        ...                                     # let the bridge call emulator.url
        assert len(emulator.services_named("shop")) == 1

It checks the signature by an implementation of its own. Other processes steer it at `/_emulator/…` (no signature):

    GET    /_emulator/state              services, calls, faults and settings, without the keys
    POST   /_emulator/faults             a JSON list of faults; DELETE drops those still waiting
    PATCH  /_emulator/settings           a JSON object of changes
    POST   /_emulator/services           make a service by hand; DELETE …/services/{id} deletes one
    POST   /_emulator/reset              forget everything

What they send is checked: a 400 answer names the field.
"""

import base64
import hashlib
import hmac
import os
import re
import socket
import socketserver
import ssl
import struct
import sys
import threading
import uuid
from contextlib import suppress
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Annotated, Literal, Self

import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from aitems_local.emulated import (
    Aitems,
    Answer,
    Call,
    Interrupted,
    Json,
    MadeService,
    Operation,
    Settings,
    asked_name,
)
from aitems_local.faults import Ending, Fault, FaultQueue, Kind, gateway_error

__all__ = ["Call", "Emulator", "Fault", "Kind", "MadeService", "Settings", "signature"]

_SERVICES = "/api/v1/services"
_CONTROL = "/_emulator/"
_BODY_LIMIT = 64 * 1024
_CONTROL_LIMIT = 4 * 1024 * 1024
_CLOCK_WINDOW_MS = 5 * 60 * 1000
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_ROUTES: dict[tuple[str, bool], Operation] = {
    ("POST", False): "create",
    ("GET", False): "list",
    ("GET", True): "read",
    ("PUT", True): "rename",
    ("DELETE", True): "delete",
}


def signature(method: str, target: str, timestamp: str, access_key: str, secret_key: str) -> str:
    """Give the value of `x-ncp-apigw-signature-v2` for a request (api.ncloud-docs.com/docs/en/common-ncpapi).

    `target` is the path and query as sent, `timestamp` milliseconds since the epoch in decimal digits.
    """
    signed = "\n".join((f"{method} {target}", timestamp, access_key))
    return base64.b64encode(hmac.digest(secret_key.encode(), signed.encode(), hashlib.sha256)).decode()


class Emulator(Aitems):
    """An AiTEMS account behind a gateway, at `url`, between `start` and `stop` (or within `with`).

    Made from the fields of `Settings` as keywords; `access_key` and `secret_key` are required. `port` 0 takes a free
    one. With `tls` it speaks HTTPS. It may be started again after `stop`: same address, nothing forgotten.
    """

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None, **settings: object) -> None:
        super().__init__(**settings)
        self._port = port
        self._tls = tls
        self._faults = FaultQueue()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The address, without a path. Before the first start the port is the one asked for."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Listen. Raises OSError if the port is taken."""
        self._released = threading.Event()
        self._server = _Server(self, self._port, self._tls)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="aitems-emulator", daemon=True).start()
        return self

    def stop(self) -> None:
        """Close every connection, held ones too, and drop what was to land late. Does nothing if it does not run."""
        server, self._server = self._server, None
        if server:
            self._released.set()
            server.shutdown()
            server.server_close()
            server.disconnect_all()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults still waiting for a call."""
        return self._faults.waiting

    def add_faults(self, *faults: Fault) -> None:
        """Let the next calls that fit fail; of several faults that fit, the first added."""
        self._faults.add(*faults)

    def clear_faults(self) -> None:
        """Drop the faults that are still waiting."""
        self._faults.clear()

    def take_fault(self, operation: Operation, name: str | None) -> Fault | None:
        """Take the fault meant for such a call out of the queue."""
        return self._faults.take(operation, name)

    def state(self) -> Json:
        """Everything as JSON can say it, without the keys."""
        return {**super().state(), "faults": TypeAdapter(tuple[Fault, ...]).dump_python(self.faults, mode="json")}

    def reset(self) -> None:
        """Forget services, calls and faults, let go of held calls, and take the settings it was made with."""
        self.clear_faults()
        super().reset()

    def land_later(self, seconds: float, body: bytes, number: int) -> None:
        """Make the service a call asked for after so many seconds, if the rules let it by then."""

        def land() -> None:
            with suppress(Interrupted):
                self.pause(seconds)
                self.perform("create", "", body, number)
            self.done(number)

        threading.Thread(target=land, name=f"late-commit-{number}", daemon=True).start()

    def refuse_at_the_gateway(self, method: str, target: str, headers: Message, body: bytes) -> Answer | None:
        """Give the gateway's answer to a call it does not pass on; `body` is as much as was read of it."""
        if len(body) > _BODY_LIMIT:
            return gateway_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "430")
        if route(method, target) is None:
            return gateway_error(HTTPStatus.NOT_FOUND, "300")
        if problem := self._authentication_problem(method, target, headers):
            return gateway_error(HTTPStatus.UNAUTHORIZED, "200", "Authentication Failed", problem)
        if body and headers.get_content_type() != "application/json":
            return gateway_error(HTTPStatus.BAD_REQUEST, "100", details="The content type is not JSON.")
        try:
            body.decode()
        except UnicodeDecodeError:
            return gateway_error(HTTPStatus.BAD_REQUEST, "100", details="The body is not UTF-8.")
        return None

    def is_signed(self, method: str, target: str, headers: Message) -> bool:
        """Tell whether keys, signature and time of a call are right."""
        return self._authentication_problem(method, target, headers) is None

    def _authentication_problem(self, method: str, target: str, headers: Message) -> str | None:
        settings = self.settings
        timestamp, access_key, given = (
            headers.get(f"x-ncp-{name}", "") for name in ("apigw-timestamp", "iam-access-key", "apigw-signature-v2")
        )
        if not (timestamp and access_key and given):
            return "Authentication information are missing."
        expected = signature(method, target, timestamp, settings.access_key, settings.secret_key)
        right_key = hmac.compare_digest(access_key.encode(), settings.access_key.encode())
        right = hmac.compare_digest(given.encode(), expected.encode()) and right_key
        fresh = bool(re.fullmatch(r"[0-9]{1,15}", timestamp)) and (
            abs(int(timestamp) - self.now() * 1000) < _CLOCK_WINDOW_MS
        )
        return None if right and fresh else "Invalid authentication information."


def route(method: str, target: str) -> tuple[Operation, str] | None:
    """Give the operation a request line means and its subject: the service's id or, for the list, the query."""
    path, _, query = target.partition("?")
    found = re.fullmatch(f"{_SERVICES}(?:/([^/]+))?", path)
    operation = _ROUTES.get((method, found[1] is not None)) if found else None
    return (operation, found[1] or query) if found and operation else None


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _ByHand:
    name: str
    description: str = ""
    type: Literal["batch", "interval"] = "batch"
    created: Annotated[float, Field(ge=0, le=4e9)] | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, emulator: Emulator, port: int, tls: ssl.SSLContext | None) -> None:
        self.emulator = emulator
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._open_changed = threading.Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept; the TLS handshake is left to the connection's own thread."""
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._open_changed:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection: with a RST if it was marked so, else with a FIN."""
        if isinstance(request, socket.socket):
            linger = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET_ON_CLOSE))
            if linger == _RESET_ON_CLOSE:
                request.close()
            else:
                super().shutdown_request(request)
            with self._open_changed:
                self._open.discard(request)
                self._open_changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up; anything else is a mistake of ours and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def disconnect_all(self, patience: float = 2.0) -> None:
        """Hang up on everyone and wait, so many seconds at most, until their threads have noticed."""
        with self._open_changed:
            for connection in self._open:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # beneath TLS
            self._open_changed.wait_for(lambda: not self._open, patience)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "AiTEMS-emulator"
    sys_version = ""
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        controls = self.path.startswith(_CONTROL)
        body = self._read_body(_CONTROL_LIMIT if controls else _BODY_LIMIT)
        if body is None:
            self.close_connection = True
        elif controls:
            self._send(self._control(body))
        else:
            self._exchange(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _read_body(self, limit: int) -> bytes | None:
        """Read the body, of a larger one no more than shows that it is too large; None if it does not come whole."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"[0-9]{1,12}", length):
            self.send_error(HTTPStatus.BAD_REQUEST)
            return None
        body = self.rfile.read(min(int(length), limit + 1))
        if int(length) <= limit:
            return body if len(body) == int(length) else None
        left = min(int(length), _CONTROL_LIMIT) - len(body)  # a client may read no answer before it has sent all
        while left > 0 and (read := self.rfile.read(min(left, 64 * 1024))):
            left -= len(read)
        self.close_connection = True
        return body

    def _exchange(self, body: bytes) -> None:
        emulator = self.server.emulator
        found = route(self.command, self.path)
        operation, subject = found or (None, "")
        name = asked_name(body) if operation == "create" else emulator.name_of(subject)
        number = emulator.arrived(self.command, self.path, operation, name)
        emulator.note(number, signed=emulator.is_signed(self.command, self.path, self.headers))
        try:
            if refusal := emulator.refuse_at_the_gateway(self.command, self.path, self.headers, body):
                self._finish(number, refusal)
            elif operation:
                self._pass_on(number, operation, subject, body, emulator.take_fault(operation, name))
        except Interrupted:
            emulator.done(number)
            self._drop("close")

    def _pass_on(self, number: int, operation: Operation, subject: str, body: bytes, fault: Fault | None) -> None:
        emulator = self.server.emulator
        emulator.pause(emulator.settings.latency)
        if fault is None:
            self._finish(number, emulator.perform(operation, subject, body, number))
            return
        emulator.note(number, fault=fault.kind)
        manner = fault.manner
        if manner.wait == "before":
            emulator.pause(fault.wait)
        answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
        for _ in range({"once": 1, "twice": 2}.get(manner.performs, 0)):
            answer = emulator.perform(operation, subject, body, number)
        if manner.performs in ("once", "twice"):
            emulator.done(number)
        if manner.spoil:
            answer = manner.spoil(answer, fault, emulator, self.path.partition("?")[0])
        if manner.performs == "later":
            self._answer_before_landing(number, body, fault, answer)
            return
        if manner.wait == "after":
            emulator.pause(fault.wait)
        self._finish(number, answer, fault)

    def _answer_before_landing(self, number: int, body: bytes, fault: Fault, answer: Answer) -> None:
        emulator = self.server.emulator
        if fault.answer == "504":
            emulator.note(number, status=int(answer.status))
        emulator.land_later(fault.wait, body, number)
        if fault.answer == "504":
            self._send(answer)
            return
        if fault.answer == "hang":
            emulator.pause(fault.wait)
        self._drop("reset" if fault.answer == "reset" else "close")

    def _finish(self, number: int, answer: Answer, fault: Fault | None = None) -> None:
        """Write the journal to its end, then let the client hear of it: who has an answer finds it in the journal."""
        emulator = self.server.emulator
        manner = fault.manner if fault else None
        if manner is None or (manner.ending == "answer" and not manner.raw):
            emulator.note(number, status=int(answer.status))
        emulator.done(number)
        if fault is None or manner is None:
            self._send(answer)
        elif manner.ending != "answer":
            self._drop(manner.ending)
        elif manner.raw:
            os.write(self.connection.fileno(), answer.payload)
            self._drop("close")
        else:
            self._send(answer, missing=manner.missing, pace=fault.wait if manner.wait == "per byte" else 0.0)

    def _send(self, answer: Answer, *, missing: float = 0.0, pace: float = 0.0) -> None:
        payload = answer.payload
        kept = payload[: len(payload) - int(len(payload) * missing)]
        self.close_connection = self.close_connection or len(kept) < len(payload)
        head = [
            f"HTTP/1.1 {int(answer.status)} {responses.get(answer.status, 'Unknown')}",
            f"Date: {self.date_time_string()}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(payload)}",
            f"x-ncp-trace-id: {uuid.uuid4().hex}",
            f"x-ncp-apigw-request-id: {uuid.uuid4()}",
            *(f"{name}: {value}" for name, value in answer.headers),
            *(["Connection: close"] if self.close_connection else []),
        ]
        message = "\r\n".join([*head, "", ""]).encode() + kept
        if not pace:
            self.wfile.write(message)
            return
        for byte in message:
            self.wfile.write(bytes([byte]))
            self.server.emulator.pause(pace)

    def _drop(self, ending: Ending) -> None:
        """End the connection without an answer."""
        if ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close_connection = True

    def _control(self, body: bytes) -> Answer:
        try:
            status, document = self._controlled(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            status, document = HTTPStatus.BAD_REQUEST, {"error": {"field": where, "message": first["msg"]}}
        except KeyError:
            status, document = HTTPStatus.NOT_FOUND, {"error": {"field": "id", "message": "No such service"}}
        return Answer(status, document)

    def _controlled(self, body: bytes) -> tuple[HTTPStatus, Json]:
        emulator = self.server.emulator
        document: Json = {"result": "ok"}
        match self.command, self.path.removeprefix(_CONTROL).split("/"):
            case "GET", ["state"]:
                document = emulator.state()
            case "POST", ["faults"]:
                emulator.add_faults(*TypeAdapter(list[Fault]).validate_json(body))
            case "DELETE", ["faults"]:
                emulator.clear_faults()
            case "PATCH", ["settings"]:
                emulator.configure(**TypeAdapter(dict[str, object]).validate_json(body))
            case "POST", ["services"]:
                asked = TypeAdapter(_ByHand).validate_json(body)
                made = emulator.by_hand(asked.name, asked.description, asked.type, asked.created)
                document = {"serviceId": made.service_id}
            case "DELETE", ["services", service_id]:
                emulator.delete_by_hand(service_id)
            case "POST", ["reset"]:
                emulator.reset()
            case _:
                return HTTPStatus.NOT_FOUND, {"error": {"field": "path", "message": "No such control"}}
        return HTTPStatus.OK, document

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Give the time for the `Date` header, by AiTEMS's clock."""
        return formatdate(self.server.emulator.now() if timestamp is None else timestamp, usegmt=True)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no proper HTTP request in the gateway's shape."""
        self.close_connection = True
        del code, message
        self._send(gateway_error(HTTPStatus.BAD_REQUEST, "100", details=explain))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: the journal has it all, and a log might hold secrets."""
