"""AWS and AiTEMS as one loopback server that answers at once, always well, and remembers nothing but how often.

Run as a process of its own, so that its work is nobody's waiting: ``canned.py LATENCY_SECONDS [CERTIFICATE]``. It
prints its port. ``GET /_count`` gives what was called since the last time, by name.
"""

import asyncio
import hashlib
import json
import secrets
import ssl
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

WEBHOOK_SECRET = "whsec_" + "Zm9yIHRoZSBiZW5jaCBvbmx5LCBubyBzZWNyZXQ="  # made up
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"  # noqa: S105  # the one in Slack's documentation
SECRETS: dict[str, dict[str, Any]] = {
    "keys": {"access_key": "bench", "secret_key": "bench"},
    "callers": {
        "backoffice": {"scheme": "standard", "secrets": [WEBHOOK_SECRET]},
        "slack": {"scheme": "slack", "secrets": [SLACK_SECRET], "slack": {"teams": ["T1DC2JH3J"]}},
    },
}
_KST = timedelta(hours=9)

_counts: Counter[str] = Counter()


def _created(body: bytes) -> dict[str, Any]:
    asked = json.loads(body)
    now = (datetime.now(UTC) + _KST).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    return {
        "serviceId": secrets.token_hex(6)[:11],
        "name": asked["name"],
        "description": asked.get("description", ""),
        "type": asked.get("type", "batch"),
        "status": "datasetRequired",
        "datasets": [],
        "hpConfig": {"is_enabled": False},
        "infers": [],
        "createdDate": now,
        "updatedDate": now,
    }


def _aws(operation: str, asked: dict[str, Any]) -> dict[str, Any]:
    match operation:
        case "GetSecretValue":
            secret = SECRETS[asked["SecretId"].rpartition(":")[2]]
            return {"ARN": asked["SecretId"], "Name": "bench", "VersionId": "1", "SecretString": json.dumps(secret)}
        case "PutEvents":
            return {"FailedEntryCount": 0, "Entries": [{"EventId": secrets.token_hex(8)} for _ in asked["Entries"]]}
        case "SendMessageBatch":
            sent = [
                {
                    "Id": each["Id"],
                    "MessageId": secrets.token_hex(8),
                    "MD5OfMessageBody": hashlib.md5(each["MessageBody"].encode(), usedforsecurity=False).hexdigest(),
                }
                for each in asked["Entries"]
            ]
            return {"Successful": sent, "Failed": []}
    return {}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: float) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            status, answer = 200, {}
            if path == "/_count":
                answer = dict(_counts)
                _counts.clear()
            elif target := headers.get("x-amz-target"):
                operation = target.rpartition(".")[2]
                _counts[operation] += 1
                answer = _aws(operation, json.loads(body))
            else:
                _counts["AiTEMS " + method] += 1
                if latency:
                    await asyncio.sleep(latency)
                status, answer = 201, _created(body)
            text = json.dumps(answer).encode()
            kind = "application/x-amz-json-1.0" if "x-amz-target" in headers else "application/json"
            writer.write(
                f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _main(latency: float, certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(lambda r, w: _serve(r, w, latency), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
