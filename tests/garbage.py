"""What anybody might send: bytes, headers and JSON of every kind, for tests that let them loose on the doors.

`as_aws` makes of a raw HTTP request the event that API Gateway's HTTP API makes of it (payload format 2.0). What it
turns away itself never becomes an event: more than 10 MB of body, more than 10,240 bytes of request line and headers,
two lengths, a length beside chunks, a space before a colon, a method or path without a route.
Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aitems_bridge.ledger import image_of
from aitems_bridge.record import Record
from aitems_local import signing
from memory import MemoryLedger
from world import sample, signed

Json = dict[str, Any]
RawHeaders = Sequence[tuple[bytes, bytes]]

CANARY = "K4n4ry-6f1d2c9b7a-in-a-body"
"""Stands in bodies, and never in a log."""
MOST_ITEM_BYTES = 400 * 1024
"""What DynamoDB takes for one item. Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
MOST_KEY_BYTES = 2048


def examples(usual: int) -> settings:
    """Return Hypothesis's settings: ``usual`` examples, or as many as FUZZ_EXAMPLES says."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    most = int(os.environ.get("FUZZ_EXAMPLES", usual))
    return settings(max_examples=most, deadline=None, suppress_health_check=slow)


# --- JSON ---------------------------------------------------------------------------------------------------------

_DEEPEST = 20_000
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{2,19}", fullmatch=True)
members = st.sampled_from([
    "name", "description", "type", "id", "ids", "handle", "title", "tag", "items", "tags", "price", "kind", "action",
    "deployment", "payload", "task", "sender", "login", "data", "object", "object_kind", "metadata", "aitems_name",
    "source", "content", "text", "userId", "channelId", "domainId", "issuedTime",
])  # fmt: skip


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


strings = st.one_of(
    names.map(_quoted),
    st.text(max_size=40).map(_quoted),
    st.sampled_from([
        '""', '"batch"', '"interval"', '"shop-main"', '"aitems"', '"create"', '"release"', '"product.created"',
        '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\u007f"', '"\\r\\nSet-Cookie: a=b"', '"../../x"', '"nan"',
        '"2026-11-23T19:38:24Z"', '"0001-01-01T00:00:00+23:59"', '"1e999"', '"=cmd|calc"', '"<!channel>"',
        _quoted(CANARY), _quoted("x" * 101), _quoted("가" * 20_000), _quoted("\x7f" * 60_000), _quoted("9" * 4300),
    ]),
)  # fmt: skip
numbers = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from([
        "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "-0", "0.0", "01", "1.", "9" * 4300, "9" * 4301,
        "-" + "9" * 4300, "1" + "0" * 400, "40029600", "40029600.0", "1795462704",
    ]),
)  # fmt: skip


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"


def _deep(depth: int, kind: str) -> str:
    opening, closing = {"array": ("[", "]"), "object": ('{"name":', "}"), "mixed": ('[{"a":', "}]")}[kind]
    depth = min(depth, 60_000 // len(opening + closing))
    return opening * depth + "1" + closing * depth


deep = st.builds(_deep, st.integers(1, _DEEPEST), st.sampled_from(["array", "object", "mixed"]))
wide = st.builds(
    lambda size, odd: _object([(_quoted(f"{odd}{number}"), "1") for number in range(size)]),
    st.integers(100, 3000),
    st.sampled_from(["", "a", "~/", "가", "😀"]),
)
literals = strings | numbers | st.sampled_from(["null", "true", "false", "nul", "", "'a'", _deep(900, "array")])
values = st.recursive(
    literals,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: f"[{','.join(each)}]")
        | st.lists(st.tuples(members.map(_quoted) | strings, inner), max_size=5).map(_object)
    ),
    max_leaves=12,
)
"""JSON as text, and what is nearly JSON: members given twice, numbers beyond any, halves of characters."""
json_texts = values | deep | wide | st.lists(st.tuples(members.map(_quoted), values), max_size=6).map(_object)


def filled(shape: Json) -> st.SearchStrategy[str]:
    """Return JSON texts of a shape: each value of it a strategy, or another shape; now and then something else."""
    pairs = []
    for name, inner in shape.items():
        meant = filled(inner) if isinstance(inner, dict) else inner
        pairs.append(st.tuples(st.just(_quoted(name)), st.one_of(meant, meant, meant, values)))
    return st.tuples(*pairs).map(lambda found: _object(list(found)))


def encoded(text: str) -> bytes:
    """Return JSON text as bytes; what is no text in UTF-8 goes as it would from a careless sender."""
    return text.encode("utf-8", "surrogatepass")


# --- HTTP ---------------------------------------------------------------------------------------------------------

_HEADERS = (
    b"webhook-id webhook-timestamp webhook-signature content-type content-encoding content-length prefer host cookie "
    b"x-github-event x-github-delivery x-hub-signature-256 x-shopify-hmac-sha256 x-shopify-webhook-id stripe-signature "
    b"x-signature x-time x-slack-signature x-slack-request-timestamp x-works-botid x-works-signature "
    b"transfer-encoding idempotency-key x-forwarded-for authorization"
).split()
header_values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([
        b"", b"application/json", b"application/json; charset=utf-8", b"application/x-www-form-urlencoded", b"gzip",
        b"deployment", b"ping", b"push", b"respond-async", b"wait=5", b"respond-async, wait=999999", b"chunked",
        b"1795462704", b"99999999999999999999", b"-1", b"v1,", b"v1,AAAA v1,BBBB", b"v0=00", b"sha256=", b"t=1,v1=2",
        "봄".encode(), b"\xff\xfe", b"a\r\nSet-Cookie: b=c", b"\x00", b"=" * 9000, b"v1,A " * 2000, b"t=1," * 2000,
    ]),
)  # fmt: skip
raw_headers = st.lists(
    st.tuples(st.sampled_from(_HEADERS) | st.binary(min_size=1, max_size=20), header_values), max_size=8
)
_TEXT_TYPES = ("text/", "application/json", "application/javascript", "application/xml")


def as_aws(
    parameters: Mapping[str, str],
    headers: RawHeaders,
    body: bytes,
    *,
    told: str = "honest",
) -> Json:
    """Return the event of a raw request. ``told`` says how the body is marked: honest, or a lie about base64."""
    event = sample("webhook-standard")
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    cookies = joined.pop("cookie", None)
    if cookies is not None:
        event["cookies"] = cookies.split("; ")
    event["headers"] = joined
    event["pathParameters"] = dict(parameters)
    if not body and told == "honest":
        event.pop("body", None)
        return event | {"isBase64Encoded": False}
    text = joined.get("content-type", "").startswith(_TEXT_TYPES)
    match told:
        case "honest" if text:
            return event | {"isBase64Encoded": False, "body": body.decode("utf-8", "replace")}
        case "plain as base64":
            return event | {"isBase64Encoded": True, "body": body.decode("latin-1")}
        case "base64 as plain":
            return event | {"isBase64Encoded": False, "body": base64.b64encode(body).decode()}
        case _:
            return event | {"isBase64Encoded": True, "body": base64.b64encode(body).decode()}


def sender(caller: str, entry: Json, body: bytes, key: str, at: int) -> dict[str, str]:
    """Return the headers with which the sender signs any bytes; the vendors' own libraries take text only."""
    secret = entry["secrets"][0]
    match entry["scheme"]:
        case "standard":
            return {"content-type": "application/json", **signed(body, key=key, at=at, secret=secret)}
        case "slack":
            digest = hmac.digest(secret.encode(), f"v0:{at}:".encode() + body, "sha256").hex()
            form = "application/x-www-form-urlencoded"
            return {"content-type": form, "x-slack-request-timestamp": str(at), "x-slack-signature": f"v0={digest}"}
        case _:
            made = signing.signed(caller, entry, body, key, at)
            return {name.lower(): value for name, value in made.items()}


# --- the ledger ---------------------------------------------------------------------------------------------------


class StrictLedger(MemoryLedger):
    """Takes what DynamoDB takes: text of whole characters, keys and items of its sizes. The rest fails the test."""

    def last_of(self, name: str) -> Record | None:
        """See `Ledger.last_of`."""
        assert 0 < len(name.encode()) <= MOST_KEY_BYTES - 100, "no key of the table"
        return super().last_of(name)

    def get(self, request_id: str) -> Record | None:
        """See `Ledger.get`."""
        assert 0 < len(request_id.encode()) <= MOST_KEY_BYTES - 100, "no key of the table"
        return super().get(request_id)

    def write(self, old: Record | None, new: Record) -> None:
        """See `Ledger.write`."""
        image = image_of(new)
        size = sum(len(name) + len(str(next(iter(value.values()))).encode()) for name, value in image.items())
        assert size <= MOST_ITEM_BYTES, f"an item of {size:,} bytes"
        super().write(old, new)
