"""A small AWS on loopback that speaks the JSON protocol: enough for one handler, with memory and a way to refuse."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Json = dict[str, Any]


class Refusal(Exception):
    """What AWS answers instead: an error of this code."""


class Aws:
    """Keeps what it is given. ``secrets`` by ARN, ``items`` by key, ``calls`` as they came."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.items: dict[str, Json] = {}
        self.calls: list[tuple[str, Json]] = []
        self.rules: dict[str, Callable[[Json], Json]] = {}
        self.url = ""

    def of(self, operation: str) -> list[Json]:
        """Return what one operation was called with."""
        return [document for called, document in self.calls if called == operation]

    def answer(self, operation: str, document: Json) -> Json:
        """Return what AWS would."""
        self.calls.append((operation, document))
        return self.rules.get(operation, getattr(self, f"_{operation}", _done))(document)

    def _GetSecretValue(self, document: Json) -> Json:  # noqa: N802  # AWS's name
        return {"ARN": document["SecretId"], "SecretString": self.secrets[document["SecretId"]]}

    def _GetItem(self, document: Json) -> Json:  # noqa: N802  # as above
        item = self.items.get(document["Key"]["pk"]["S"])
        return {"Item": item} if item else {}

    def _TransactWriteItems(self, document: Json) -> Json:  # noqa: N802  # as above
        puts = [write["Put"]["Item"] for write in document["TransactItems"] if "Put" in write]
        self.items |= {item["pk"]["S"]: item for item in puts}
        return {}

    def _PutEvents(self, document: Json) -> Json:  # noqa: N802  # as above
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in document["Entries"]]}

    def _SendMessageBatch(self, document: Json) -> Json:  # noqa: N802  # as above
        return {"Successful": [{"Id": entry["Id"], "MessageId": "m"} for entry in document["Entries"]]}


def _done(_: Json) -> Json:
    return {"MessageId": "m"}


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Run one, and have botocore call it and nobody else."""
    aws = Aws()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            try:
                status, document = 200, aws.answer(operation, body)
            except Refusal as refusal:
                status, document = 400, {"__type": str(refusal), "message": "no"}
            payload = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    aws.url = f"http://127.0.0.1:{server.server_port}"
    environment = {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_DEFAULT_REGION": "ap-northeast-2",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()


class Context:
    """Lambda's context: how long the process has."""

    def __init__(self, seconds: float = 29) -> None:
        self._milliseconds = round(seconds * 1000)

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left."""
        return self._milliseconds
