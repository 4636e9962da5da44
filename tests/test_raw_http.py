"""Raw bytes over real sockets at the deployed stack: what gets as far as our code, and what does not.

MiniStack's server stands where API Gateway stands on AWS. Both put a request together before a function hears of it,
and turn away what is no HTTP (two lengths, a length beside chunks, a space before a colon), so that smuggling has
nothing of ours to aim at: our code gets one event for one request and opens no connection by it. Whatever does arrive
is answered by the contract, and an answer of ours is known by its ``Cache-Control``.
"""

import json
import socket
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitems_local.stack import Stack
from garbage import CANARY, encoded, examples, header_values, json_texts, raw_headers, sender

DOCUMENTED = {200, 201, 202, 400, 401, 403, 404, 413, 415, 422, 503}


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back: nothing, an answer of the server in between, or one of ours."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def ours(self) -> bool:
        """Whether our function made it."""
        return ("cache-control", "no-store") in self.headers


def hear(stack: Stack, *pieces: bytes, pause: float = 0.0, close: bool = False) -> Heard:
    """Send bytes as they are, with a pause between pieces, and return the first answer."""
    address = urlsplit(stack.webhook_url)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=20) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(pause)
            if close:
                return Heard()
            response = HTTPResponse(sock)
            response.begin()
            body = response.read()
        except (HTTPException, ConnectionError, ValueError):
            return Heard()
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        return Heard(response.status, headers, body)


def request(
    stack: Stack, path: str, lines: list[bytes], body: bytes, *, method: bytes = b"POST", length: int | None = None
) -> bytes:
    """Return a request's bytes; ``lines`` are header lines as they are to go."""
    address = urlsplit(stack.webhook_url)
    first = method + b" " + f"{address.path}{path}".encode("latin-1", "replace") + b" HTTP/1.1"
    size = f"Content-Length: {len(body) if length is None else length}".encode()
    usual = [first, f"Host: {address.netloc}".encode(), b"Connection: close"]
    return b"\r\n".join([*usual, *([size] if length != -1 else []), *lines, b"", b""]) + body


def lines_of(headers: dict[str, str]) -> list[bytes]:
    """Return headers as lines."""
    return [f"{name}: {value}".encode() for name, value in headers.items()]


def signed(stack: Stack, caller: str, body: bytes, key: str) -> list[bytes]:
    """Return the header lines of a rightly signed delivery."""
    return lines_of(sender(caller, stack.callers[caller], body, key, int(time.time())))


def lawful(heard: Heard) -> None:
    """Check an answer: never 500, 502 or 504, no header of the sender's making, no more than one answer."""
    assert heard.status not in (500, 502, 504), heard
    assert "set-cookie" not in dict(heard.headers)
    if heard.ours:
        assert heard.status in DOCUMENTED
        assert json.loads(heard.body)
        assert heard.body.count(b"urn:aitems-bridge:problem:") <= 1


def requests_of(stack: Stack) -> set[str]:
    """Return the ids of all recorded requests."""
    return {item["pk"]["S"] for item in stack.items("request#")}


def quiet(stack: Stack) -> None:
    """Check that the function had nothing unexpected to say, and repeated nothing that was sent."""
    log = "\n".join(stack.logs("WebhookFunction"))
    assert '"message":"unexpected"' not in log
    assert CANARY not in log


def test_strangers_bytes_are_turned_away(stack: Stack) -> None:
    """Any path below the door, headers and body: a refusal, and nothing recorded."""
    known = requests_of(stack)
    segments = st.sampled_from(["backoffice", "slack", "works", "deploys", "nobody"]) | st.text(max_size=20).map(
        lambda text: quote(text.encode("utf-8", "replace"), safe="")
    )

    @examples(30)
    @given(
        st.lists(segments, min_size=1, max_size=2),
        raw_headers.filter(lambda found: all(name != b"content-length" for name, _ in found)),
        st.binary(max_size=100) | json_texts.map(encoded),
        st.sampled_from([b"POST", b"POST", b"GET", b"PUT", b"HEAD", b"\x00"]),
    )
    def holds(path: list[str], headers: list[tuple[bytes, bytes]], body: bytes, method: bytes) -> None:
        lines = [name + b": " + value[:4000] for name, value in headers]
        heard = hear(stack, request(stack, "/hooks/" + "/requests/".join(path), lines, body, method=method))
        lawful(heard)
        assert not heard.ours or heard.status in (400, 401, 404, 413)

    holds()
    assert requests_of(stack) == known
    quiet(stack)


def test_lawful_senders_bytes_are_answered(stack: Stack) -> None:
    """Any body, rightly signed, by any scheme: an answer of the contract's."""
    count = iter(range(10**6))

    @examples(30)
    @given(
        st.sampled_from(sorted(stack.callers)),
        st.binary(max_size=100) | json_texts.map(encoded),
        st.lists(st.tuples(st.sampled_from([b"prefer", b"content-encoding", b"via"]), header_values), max_size=1),
    )
    def holds(caller: str, body: bytes, extra: list[tuple[bytes, bytes]]) -> None:
        lines = signed(stack, caller, body, f"fuzz-{time.time_ns()}-{next(count)}")
        lines += [name + b": " + value[:4000] for name, value in extra]
        heard = hear(stack, request(stack, f"/hooks/{caller}", lines, body))
        lawful(heard)
        assert heard.status != 503

    holds()
    quiet(stack)


ODD: list[tuple[str, list[bytes], bytes]] = [
    ("two lengths", [b"Content-Length: 3"], b"{}"),
    ("a length beside chunks", [b"Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\nPOST /hooks/x HTTP/1.1\r\n\r\n"),
    ("a space before the colon", [b"Webhook-Id : a"], b"{}"),
    ("a folded line", [b"Webhook-Id: a", b" b"], b"{}"),
    ("a line without a colon", [b"nothing"], b"{}"),
    ("a bare line feed", [b"a: b\nwebhook-id: c"], b"{}"),
    ("a NUL", [b"webhook-id: \x00"], b"{}"),
    ("more than UTF-8", [b"webhook-id: \xff\xfe", b"prefer: \xf0"], b"{}"),
    ("20 KB of header", [b"webhook-signature: " + b"v1,A " * 4000], b"{}"),
    ("the same header often", [b"webhook-id: a"] * 50, b"{}"),
    ("an expectation", [b"Expect: 100-continue"], b"{}"),
    ("an upgrade", [b"Connection: upgrade, keep-alive", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"], b"{}"),
    ("another method by header", [b"X-HTTP-Method-Override: GET", b"X-Original-URL: /hooks/slack"], b"{}"),
    ("a gzip that is none", [b"Content-Encoding: gzip"], b"\x1f\x8b\x08\x00"),
    ("ranges", [b"Range: bytes=0-1", b"If-None-Match: *"], b"{}"),
]


@pytest.mark.parametrize(("lines", "body"), [odd[1:] for odd in ODD], ids=[odd[0] for odd in ODD])
def test_what_is_hardly_http(lines: list[bytes], body: bytes, stack: Stack) -> None:
    """Turned away by whoever meets it first; never a server's fault, never recorded."""
    known = requests_of(stack)
    heard = hear(stack, request(stack, "/hooks/backoffice", lines, body))
    lawful(heard)
    assert not heard.ours or heard.status in (400, 401)
    assert requests_of(stack) == known


@pytest.mark.parametrize(
    "path",
    [
        "/hooks/backoffice%0d%0aSet-Cookie:%20a=b",
        "/hooks/backoffice/requests/%0d%0aSet-Cookie:%20a=b",
        "/hooks/..%2fbackoffice",
        "/hooks/%00",
        "/hooks/backoffice%20",
        "/hooks/BACKOFFICE",
        "/hooks/%ff%fe",
        "/hooks/" + "a" * 3000,
        "/hooks/backoffice?caller=slack&" + "a=b&" * 500,
        "/hooks//",
        "/hooks/{caller}",
    ],
)
def test_odd_paths(path: str, stack: Stack) -> None:
    """A path is compared, never built with; nothing of it comes back as a header."""
    for method in (b"POST", b"GET"):
        heard = hear(stack, request(stack, path, [], b"", method=method))
        lawful(heard)
        assert not heard.ours or heard.status in (401, 404)


def test_oversized_bodies(stack: Stack) -> None:
    """65,537 bytes are too many however they are signed; on AWS more than 10 MB do not get as far as us."""
    known = requests_of(stack)
    for size in (65_537, 1_000_000, 4_000_000):
        body = b" " * size
        heard = hear(stack, request(stack, "/hooks/backoffice", signed(stack, "backoffice", body, "big"), body))
        assert (heard.status, heard.ours) == (413, True)
    assert requests_of(stack) == known


def test_slow_and_broken_bodies(stack: Stack) -> None:
    """A body that drips is waited for in front of us; one that breaks off is never heard of here."""
    name = f"s{time.time_ns() % 10**12}"
    body = json.dumps({"name": name}).encode()
    whole = request(stack, "/hooks/backoffice", signed(stack, "backoffice", body, name), body)
    known = requests_of(stack)
    cut = len(whole) - len(body)
    hear(stack, whole[: cut + 5], close=True)
    hear(stack, whole[:30], close=True)
    assert requests_of(stack) == known
    heard = hear(stack, whole[:cut], *(whole[each : each + 1] for each in range(cut, len(whole))), pause=0.01)
    assert (heard.status, heard.ours) == (201, True)
