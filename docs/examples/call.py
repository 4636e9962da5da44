"""A caller: asks for a service by a webhook that is signed with Standard Webhooks. `python call.py NAME KEY`.

Nothing but Python. Wants the environment variables WEBHOOK_URL (the stack's output of that name, followed by
`/hooks/` and the caller's name) and WEBHOOK_SECRET (`whsec_…`).
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
from email.message import Message
from http import HTTPStatus
from typing import Any

TRIES = 4
Answer = tuple[int, dict[str, Any]]


def ask(name: str, key: str) -> Answer:
    """Return the status and the answer: the service (201), how the request stands (202), or the problem.

    Where it is not known whether it arrived, it is sent again: under the same key, which makes it the same request,
    and signed anew, since a signature is good for 5 minutes. A key is for one request, for ever: never make another
    one for another try.
    """
    body = json.dumps({"name": name}).encode()
    for waited in range(TRIES):
        pause = 2.0**waited
        try:
            status, text, headers = _call("POST", os.environ["WEBHOOK_URL"], key, body)
        except OSError:
            pass  # nobody answered, or not to the end
        else:
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
                return status, json.loads(text)
            pause = float(headers.get("Retry-After", pause))
        time.sleep(pause)
    raise RuntimeError(f"no answer after {TRIES} tries: go on trying, under the same key")


def look(request_id: str) -> Answer:
    """Return how a request stands. It is signed with the request's id as the key, over an empty body."""
    status, text, _ = _call("GET", f"{os.environ['WEBHOOK_URL']}/requests/{request_id}", request_id, b"")
    return status, json.loads(text)


def _call(method: str, url: str, key: str, body: bytes) -> tuple[int, bytes, Message]:
    now = str(int(time.time()))
    secret = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
    signature = hmac.digest(secret, f"{key}.{now}.".encode() + body, hashlib.sha256)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": key,
        "webhook-timestamp": now,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }
    request = urllib.request.Request(url, body or None, headers, method=method)  # noqa: S310  # your own address
    try:
        with urllib.request.urlopen(request, timeout=35) as answer:  # noqa: S310  # the same
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


if __name__ == "__main__":
    try:
        _, name, key = sys.argv
    except ValueError:
        sys.exit(__doc__)
    code, said = ask(name, key)
    print(json.dumps({"status": code, "answer": said}, ensure_ascii=False))
