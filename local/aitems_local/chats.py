"""Slack and NAVER WORKS on loopback, as far as the bridge speaks to them: a real HTTP server with a memory.

    with Chats() as chats:
        ...                                  # let the bridge answer a command whose response_url is below chats.url
        assert chats.wait(lambda message: "is created" in message.text)

Slack's part takes what a `response_url` takes: five messages each, of lawful Block Kit. NAVER WORKS's part gives a
token for a JWT that the service account's key has signed, and takes messages for that token. What was said can be read
by other processes at `GET /_chats/said`.
"""

import json
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

from aitems_local.cloud import LOOPBACK, StackError

Json = dict[str, Any]

_SAID = "/_chats/said"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_POSTS = 5  # that a response_url takes
_LONGEST_TEXT = 2000  # characters of a message to NAVER WORKS
_TOKEN_SECONDS = 86_400
_LONGEST_GRANT = 3600  # seconds that an assertion may be good for


@dataclass(frozen=True, slots=True)
class Message:
    """What was said in a chat: ``to`` is a `response_url`'s path, or ``users/…`` or ``channels/…`` of a bot."""

    chat: str
    to: str
    text: str
    body: Json
    at: float


@dataclass(frozen=True)
class Account:
    """A service account of NAVER WORKS, its key fresh."""

    client_id: str = field(default_factory=lambda: secrets.token_urlsafe(15))
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    service_account: str = field(default_factory=lambda: f"{secrets.token_hex(3)}.serviceaccount@local")

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        """The private key."""
        return rsa.generate_private_key(public_exponent=65_537, key_size=2048)

    def secret(self) -> Json:
        """Return it as it stands in the chat secret under its bot's id."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return asdict(self) | {"private_key": pem.decode()}


class Chats:
    """Both chats on one port (0: any that is free). ``refusals`` are statuses with which the next messages are met."""

    def __init__(self, *, port: int = 0) -> None:
        self.account = Account()
        self.refusals: list[int] = []
        self.tokens: set[str] = set()
        self._said: list[Message] = []
        self._posts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._server = _Server((LOOPBACK, port), _Handler)
        self._server.chats = self

    @property
    def url(self) -> str:
        """The origin of both."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def start(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="chats", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def said(self) -> list[Message]:
        """What was said so far, in order."""
        with self._changed:
            return list(self._said)

    def wait(self, wanted: Callable[[Message], bool], timeout: float = 30) -> Message | None:
        """Return the first message that is wanted, None if none comes in time."""

        def found() -> Message | None:
            return next((message for message in self._said if wanted(message)), None)

        with self._changed:
            return self._changed.wait_for(found, timeout)

    # --- what the handler asks ------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, authorization: str, body: bytes) -> tuple[HTTPStatus, object]:
        """Return status and body of the answer to one call."""
        path = urlsplit(target).path
        match method, path.strip("/").split("/"):
            case "GET", ["_chats", "said"]:
                return HTTPStatus.OK, [asdict(message) for message in self.said]
            case "POST", ["oauth2", "v2.0", "token"]:
                return self._grant(body)
            case "POST", ["commands", *_]:
                return self._refused() or self._slack(path, body)
            case "POST", ["v1.0", "bots", _, "users" | "channels" as kind, to, "messages"]:
                return self._refused() or self._works(f"{kind}/{unquote(to)}", authorization, body)
        return HTTPStatus.NOT_FOUND, {"code": "NOT_FOUND"}

    def _refused(self) -> tuple[HTTPStatus, object] | None:
        with self._changed:
            return (HTTPStatus(self.refusals.pop(0)), {"error": "as asked for"}) if self.refusals else None

    def _slack(self, path: str, body: bytes) -> tuple[HTTPStatus, object]:
        with self._changed:
            self._posts[path] += 1
            if self._posts[path] > _POSTS:
                return HTTPStatus.NOT_FOUND, {"ok": False, "error": "used_url"}
        message = _object(body)
        if not message.get("text") and not message.get("blocks"):
            return HTTPStatus.BAD_REQUEST, {"ok": False, "error": "no_text"}
        try:
            for block in Block.parse_all(message.get("blocks", [])):
                block.validate_json()
        except (SlackObjectFormationError, TypeError, ValueError):
            return HTTPStatus.BAD_REQUEST, {"ok": False, "error": "invalid_blocks"}
        self._keep("slack", path, str(message.get("text", "")), message)
        return HTTPStatus.OK, "ok"

    def _works(self, to: str, authorization: str, body: bytes) -> tuple[HTTPStatus, object]:
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            return HTTPStatus.UNAUTHORIZED, {"code": "UNAUTHORIZED", "description": "invalid access token"}
        content = _object(body).get("content")
        text = content.get("text") if isinstance(content, dict) and content.get("type") == "text" else None
        if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_TEXT:
            return HTTPStatus.BAD_REQUEST, {"code": "INVALID_PARAMETER"}
        self._keep("works", to, text, _object(body))
        return HTTPStatus.CREATED, None

    def _grant(self, body: bytes) -> tuple[HTTPStatus, object]:
        """Give a token by https://developers.worksmobile.com/en/docs/auth-jwt."""
        form = {name: values[0] for name, values in parse_qs(body.decode("ascii", "replace")).items()}
        account = self.account
        asked = (form.get("grant_type"), form.get("client_id"), form.get("client_secret"), form.get("scope"))
        if asked != (_GRANT, account.client_id, account.client_secret, "bot"):
            return HTTPStatus.BAD_REQUEST, {"error": "invalid_request"}
        try:
            claims = jwt.decode(
                form.get("assertion", ""),
                account.key.public_key(),
                algorithms=["RS256"],
                issuer=account.client_id,
                leeway=5,
                options={"require": ["iss", "sub", "iat", "exp"]},
            )
        except jwt.PyJWTError as error:
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid_grant", "error_description": str(error)}
        if claims["sub"] != account.service_account or not 0 < claims["exp"] - claims["iat"] <= _LONGEST_GRANT:
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid_grant"}
        token = secrets.token_urlsafe(24)
        self.tokens.add(token)
        # NAVER WORKS writes the number of seconds as a text.
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": str(_TOKEN_SECONDS), "scope": "bot"}
        return HTTPStatus.OK, granted

    def _keep(self, chat: str, to: str, text: str, body: Json) -> None:
        with self._changed:
            self._said.append(Message(chat, to, text, body, time.time()))
            self._changed.notify_all()


def said(url: str) -> list[Message]:
    """Return what was said in the chats of another process. Raises `StackError`."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            return [Message(**each) for each in session.get(url + _SAID, timeout=5).json()]
        except (requests.RequestException, TypeError, ValueError) as error:
            raise StackError(f"the chats at {url} do not answer: {error}") from error


def said_to(url: str, to: str, *, since: float, many: int, timeout: float) -> list[Message]:
    """Return what was said to somebody in the chats of another process, once it is so many or time is up."""
    deadline = time.monotonic() + timeout
    while True:
        found = [message for message in said(url) if message.to == to and message.at >= since]
        if len(found) >= many or time.monotonic() >= deadline:
            return found
        time.sleep(0.1)


def _object(body: bytes) -> Json:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    chats: Chats

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up, as processes do that are killed; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        body = self.rfile.read(int(length) if length.isdigit() else 0)
        status, answer = self.server.chats.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
        payload = answer.encode() if isinstance(answer, str) else b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
