"""Signatures as each kind of sender makes them: the vendor's own library where there is one, plain HMAC elsewhere."""

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from aitems_local.cloud import UsageError
from aitems_local.terminal import typed

Headers = dict[str, str]
Entry = Mapping[str, Any]

JSON_TYPE = "application/json"


def fresh_key(scheme: str) -> str:
    """Return a delivery's key as such a sender makes them."""
    match scheme:
        case "standard":
            return "msg_" + secrets.token_hex(12)
        case "slack":
            return f"{secrets.randbelow(10**12)}.{secrets.randbelow(10**12)}.{secrets.token_hex(16)}"
        case _:
            return str(uuid.uuid4())


def works_key(entry: Entry, body: bytes) -> str:
    """Return the key that a NAVER WORKS message has: it brings none, so it is made of what it says."""
    message = json.loads(body)
    source = message["source"]
    parts = (
        entry["works"]["bot_id"],
        source["userId"],
        source.get("channelId", ""),
        message["issuedTime"],
        message["content"].get("text", ""),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def signed(caller: str, entry: Entry, body: bytes, key: str, at: float | None = None) -> Headers:
    """Return the headers of a delivery, signed now or ``at`` a time (seconds). Raises `UsageError`."""
    sign = _SCHEMES.get(str(entry.get("scheme")))
    known = entry.get("secrets")
    if sign is None or not isinstance(known, list) or not known:
        raise UsageError(f"caller {caller} has no secret, or a scheme that nobody knows")
    try:
        return sign(entry, str(known[0]), body, key, time.time() if at is None else at)
    except UnicodeDecodeError as error:
        raise UsageError(f"caller {caller} signs UTF-8 text, and what is to be sent is none") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"caller {caller} cannot be signed for: {error!r}; see `{typed('callers check')}`") from error


def _standard(_: Entry, secret: str, body: bytes, key: str, at: float) -> Headers:
    moment = datetime.fromtimestamp(int(at), UTC)
    return {
        "Content-Type": JSON_TYPE,
        "webhook-id": key,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": Webhook(secret).sign(key, moment, body.decode()),
    }


def _github(entry: Entry, secret: str, body: bytes, key: str, _: float) -> Headers:
    return {
        "Content-Type": JSON_TYPE,
        "User-Agent": "GitHub-Hookshot/local",
        "X-GitHub-Event": entry["github"]["events"][0],
        "X-GitHub-Delivery": key,
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


def _hmac(entry: Entry, secret: str, body: bytes, key: str, at: float) -> Headers:
    settings = entry["hmac"]
    sent = str(int(at))
    content = settings.get("content", "{body}").partition("{body}")[0].replace("{timestamp}", sent).encode() + body
    digest = hmac.new(secret.encode(), content, settings.get("algorithm", "sha256"))
    base64_wanted = settings.get("encoding", "hex") == "base64"
    signature = base64.b64encode(digest.digest()).decode() if base64_wanted else digest.hexdigest()
    headers = {"Content-Type": JSON_TYPE}
    if "pairs" in settings:
        names = settings["pairs"]
        pairs = ([(names["timestamp"], sent)] if "timestamp" in names else []) + [(names["signature"], signature)]
        headers[settings["header"]] = ",".join(f"{name}={value}" for name, value in pairs)
    else:
        headers[settings["header"]] = settings.get("prefix", "") + signature
    if "timestamp_header" in settings:
        headers[settings["timestamp_header"]] = sent
    if "header" in settings["key"]:
        headers[settings["key"]["header"]] = key
    return headers


def _slack(_: Entry, secret: str, body: bytes, __: str, at: float) -> Headers:
    sent = str(int(at))
    made = SignatureVerifier(secret).generate_signature(timestamp=sent, body=body)
    if made is None:
        raise ValueError("Slack's library made no signature")
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": sent,
        "X-Slack-Signature": made,
    }


def _works(entry: Entry, secret: str, body: bytes, _: str, __: float) -> Headers:
    made = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return {
        "Content-Type": JSON_TYPE,
        "X-WORKS-BotId": entry["works"]["bot_id"],
        "X-WORKS-Signature": base64.b64encode(made).decode(),
    }


_SCHEMES: dict[str, Callable[[Entry, str, bytes, str, float], Headers]] = {
    "standard": _standard,
    "github": _github,
    "hmac": _hmac,
    "slack": _slack,
    "works": _works,
}
