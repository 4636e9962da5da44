"""An AWS endpoint before another one, on which whatever a test says happens to a call on its way.

It speaks what DynamoDB, SQS and EventBridge have in common (the operation in ``X-Amz-Target``, JSON both ways), and
unlike a client with a stub it stands where the network does: a lost answer is lost to botocore's own retries too.
"""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from aitems_local.cloud import ROOT_KEY


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, as it is or as it came."""

    status: int
    document: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


Forward = Callable[[dict[str, Any]], Reply]


@dataclass(frozen=True, slots=True)
class Call:
    """What somebody asked AWS for."""

    operation: str
    document: dict[str, Any]


Fault = Callable[[Call, Forward], Reply | None]
"""Decides a call: forwards it (or another document in its place), answers by itself, or cuts the connection (None)."""


def pass_on(call: Call, forward: Forward) -> Reply:
    """Let the call through: no fault."""
    return forward(call.document)


def lose_answer(call: Call, forward: Forward) -> None:
    """Let the call take effect, and cut the connection before a byte of the answer."""
    forward(call.document)


def refusal(code: str, status: int = 400, **members: Any) -> Reply:  # noqa: ANN401  # JSON
    """Return an error in the AWS services' own format."""
    return Reply(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code, **members})


class FaultProxy:
    """Runs for as long as its block. ``fault`` may be replaced at any time; ``calls`` is everything that came."""

    def __init__(self, upstream: str) -> None:
        self.fault: Fault = pass_on
        self.calls: list[Call] = []
        self._upstream = urlsplit(upstream).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def said(self, operation: str) -> list[dict[str, Any]]:
        """Return what every call of an operation asked for."""
        return [call.document for call in list(self.calls) if call.operation == operation]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                call = Call(operation, json.loads(body))
                proxy.calls.append(call)
                reply = proxy.fault(call, lambda document: proxy._forward(self, body, document))
                if reply is None:
                    self.close_connection = True
                    return
                with suppress(OSError):  # nobody waits for it any more
                    self._answer(reply)

            def _answer(self, reply: Reply) -> None:
                answer = json.dumps(reply.document).encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", self.headers.get("Content-Type", "application/x-amz-json-1.0"))
                self.send_header("Content-Length", str(len(answer)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _forward(self, asked: BaseHTTPRequestHandler, body: bytes, document: dict[str, Any]) -> Reply:
        dropped = ("content-length", "connection", "expect")
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in dropped}
        if document != json.loads(body):
            body = json.dumps(document).encode()
            headers = self._signed(asked, body)
        connection = HTTPConnection(self._upstream, timeout=30)
        try:
            connection.request(asked.command, asked.path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, json.loads(answer.read() or b"{}"))
        finally:
            connection.close()

    def _signed(self, asked: BaseHTTPRequestHandler, body: bytes) -> dict[str, str]:
        """Return the headers of a call that was changed on its way, signed by an account's root user."""
        scope = asked.headers["Authorization"].partition("Credential=")[2].partition(",")[0].split("/")
        kept = {name: asked.headers[name] for name in ("Content-Type", "X-Amz-Target")}
        request = AWSRequest(asked.command, f"http://{self._upstream}{asked.path}", kept, body)
        SigV4Auth(Credentials(ROOT_KEY, ROOT_KEY), scope[3], scope[2]).add_auth(request)
        return dict(request.headers)
