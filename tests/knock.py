"""Calls at any door, signed by the sender's own means, as the HTTP API passes them on; and the contract's callers."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aitems_bridge import doors
from aitems_bridge.callers import Caller, read_document
from aitems_bridge.errors import Problem
from aitems_local import signing
from world import NOW, ROOT, SIGNED_AT, sample

Json = dict[str, Any]
Headers = dict[str, str]

CALLERS: Json = json.loads((ROOT / "tests" / "data" / "callers.json").read_text("utf-8"))
"""The contract's example of a callers document (section 9)."""
DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"

TIMED = CALLERS["shopfront"] | {
    "hmac": {
        "header": "X-Signature",
        "algorithm": "sha512",
        "prefix": "v0=",
        "timestamp_header": "X-Time",
        "content": "{timestamp}|{body}",
        "key": {"body": "id"},
    }
}
"""A sender that uses what the contract's examples leave out."""


def lower(headers: Mapping[str, str]) -> Headers:
    """Return headers by lower-case name."""
    return {name.lower(): value for name, value in headers.items()}


def knock(
    caller: str,
    body: bytes | Json,
    *,
    entry: Json | None = None,
    key: str = DELIVERY,
    at: int = SIGNED_AT,
    headers: Mapping[str, str | None] | None = None,
    encoded: bool = False,
) -> Json:
    """Return a signed call; ``headers`` are laid over the sender's, None takes one away."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    event = sample("webhook-standard")
    made = lower(signing.signed(caller, entry or CALLERS[caller], content, key, at)) | dict(headers or {})
    event["headers"] = {name: value for name, value in made.items() if value is not None}
    event["pathParameters"] = {"caller": caller}
    event["isBase64Encoded"] = encoded
    event["body"] = base64.b64encode(content).decode() if encoded else content.decode()
    return event


def slash(text: str, **fields: str) -> bytes:
    """Return a slash command as Slack sends it."""
    usual = {
        "team_id": "T1DC2JH3J",
        "channel_id": "G8PSS9T3V",
        "user_id": "U2CERLKJA",
        "command": "/aitems",
        "text": text,
        "response_url": "https://hooks.slack.com/commands/T1DC2JH3J/1/x",
        "trigger_id": "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    }
    return urlencode(usual | fields).encode()


def bot_message(text: str | None, *, issued: str = "2026-11-23T19:38:24.000Z", **source: object) -> Json:
    """Return a message to a bot as NAVER WORKS passes it on; without text, a sticker."""
    content = {"type": "text", "text": text} if text is not None else {"type": "sticker", "packageId": "1"}
    return {
        "type": "message",
        "source": {"userId": "u-1", "domainId": 40029600} | source,
        "issuedTime": issued,
        "content": content,
    }


@dataclass(frozen=True)
class Scheme:
    """One way of signing: who signs so, a body, the headers that are signed, and whether a time is."""

    caller: str
    entry: Json
    body: bytes
    signature: str
    signed: tuple[str, ...] = ()
    time: str | None = None
    hex: bool = False
    tolerance: int = 300

    def headers(self, at: int = SIGNED_AT, secret: str | None = None, body: bytes | None = None) -> Headers:
        """Return the headers with which the sender signs the body."""
        entry = self.entry | ({"secrets": [secret]} if secret else {})
        made = signing.signed(self.caller, entry, self.body if body is None else body, DELIVERY, at)
        return lower(made)

    def verdict(self, body: bytes, headers: Headers, now: int = NOW, secrets: list[str] | None = None) -> str | Problem:
        """Return the key of what is let in, else the refusal's problem; nothing else may be raised."""
        caller = caller_of(self.entry | ({"secrets": secrets} if secrets else {}))
        try:
            return caller.verify(body, headers, now)
        except doors.SignatureRefused as refused:
            return refused.problem

    def lets_in(self, body: bytes, headers: Headers, now: int = NOW, secrets: list[str] | None = None) -> bool:
        """Whether it is let in; a refusal must be the one for signatures."""
        verdict = self.verdict(body, headers, now, secrets)
        assert isinstance(verdict, str) or verdict.slug == "signature-refused"
        return isinstance(verdict, str)


def caller_of(entry: Json) -> Caller:
    """Return an entry as read."""
    document = read_document(json.dumps({"c": entry}))
    assert document.faults == {}
    return document.callers["c"]


_JSON = '{"id": "evt_1", "name": "shop-main", "description": "봄 시즌 추천"}'.encode()

SCHEMES: dict[str, Scheme] = {
    "github": Scheme("deploys", CALLERS["deploys"], _JSON, "x-hub-signature-256", hex=True),
    "shopify": Scheme("shopfront", CALLERS["shopfront"], _JSON, "x-shopify-hmac-sha256"),
    "stripe": Scheme("payments", CALLERS["payments"], _JSON, "stripe-signature", hex=True, time="pair"),
    "timed": Scheme("timed", TIMED, _JSON, "x-signature", ("x-time",), hex=True, time="x-time"),
    "slack": Scheme(
        "slack",
        CALLERS["slack"],
        slash("create shop-main 봄"),
        "x-slack-signature",
        ("x-slack-request-timestamp",),
        time="x-slack-request-timestamp",
    ),
    "works": Scheme(
        "works",
        CALLERS["works"],
        json.dumps(bot_message("create shop-main 봄"), ensure_ascii=False).encode(),
        "x-works-signature",
        ("x-works-botid",),
    ),
}
"""Every scheme beside Standard Webhooks, which `test_doors` holds; hmac in three shapes."""
