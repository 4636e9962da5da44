"""The bridge in one process: the real use case over a ledger with memory and a real AiTEMS emulator, at a set time."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from standardwebhooks import Webhook as Signer

from aitems_bridge.aitems import AiTEMS
from aitems_bridge.bridge import Bridge, Invocation
from aitems_bridge.callers import Callers
from aitems_bridge.ncp import Keys
from aitems_bridge.record import MINUTE, SECOND, Record
from aitems_bridge.webhook import Response, Webhook
from aitems_local.emulator import Emulator
from memory import MemoryLedger

if TYPE_CHECKING:
    from aitems_bridge.ledger import Ledger

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
KEYS = Keys("AK_TEST", "SK_TEST")
KEY = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
REQUEST_ID = "p24m34k7xwe43it2dyuquvrp6mgw7i7fozbp7ptfnyupi6xrkpnq"
SIGNED_AT = 1_795_462_704
"""2026-11-23T19:38:24Z: when the sample webhook was signed, in seconds."""
NOW = SIGNED_AT * SECOND + 981


def sample(name: str) -> Json:
    """Return one of the invocations in ``events/``."""
    document: Json = json.loads((ROOT / "events" / f"{name}.json").read_text("utf-8"))
    return document


@dataclass
class Clock:
    """Stands at a time of the test's choosing and goes on from there, at the machine's pace."""

    shift: int = field(default_factory=lambda: NOW - time.time_ns() // 1_000_000)

    def __call__(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self.shift

    def advance(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self.shift += round(seconds * SECOND)


@dataclass
class Vault:
    """A callers secret that is kept in a cache: a new text shows only once it is read early."""

    text: str
    cached: str | None = None
    fault: Exception | None = None
    asked_early: list[bool] = field(default_factory=list)

    def __call__(self, early: bool) -> tuple[str, bool]:
        """See `callers.ReadSecret`."""
        self.asked_early.append(early)
        if self.fault is not None:
            raise self.fault
        read = early or self.cached is None
        if self.cached is None or read:
            self.cached = self.text
        return self.cached, read


def signed(body: bytes, *, key: str = KEY, at: int = SIGNED_AT, secret: str = SECRET) -> dict[str, str]:
    """Return the headers that a sender's own library makes."""
    try:
        made = Signer(secret).sign(key, datetime.fromtimestamp(at, UTC), body.decode())
    except UnicodeDecodeError:  # the library signs text only
        digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), f"{key}.{at}.".encode() + body, "sha256")
        made = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": key, "webhook-timestamp": str(at), "webhook-signature": made}


def post(
    body: bytes | Json,
    *,
    caller: str = "backoffice",
    headers: Mapping[str, str] | None = None,
    encoded: bool = False,
    key: str = KEY,
    at: int = SIGNED_AT,
    secret: str = SECRET,
) -> Json:
    """Return a signed call as the HTTP API passes it on; ``headers`` are laid over the usual ones."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    event = sample("webhook-standard")
    usual = {"content-type": "application/json", **signed(content, key=key, at=at, secret=secret)}
    event["headers"] = {name: value for name, value in {**usual, **(headers or {})}.items() if value}
    event["pathParameters"] = {"caller": caller}
    event["isBase64Encoded"] = encoded
    event["body"] = base64.b64encode(content).decode() if encoded else content.decode()
    return event


def get(
    request_id: str, *, caller: str = "backoffice", key: str | None = None, at: int = SIGNED_AT, body: bytes = b""
) -> Json:
    """Return a signed question after a request."""
    event = post(body, caller=caller, key=request_id if key is None else key, at=at)
    event["routeKey"] = "GET /hooks/{caller}/requests/{request_id}"
    event["pathParameters"]["request_id"] = request_id
    if not body:
        del event["body"]
    return event


class World:
    """Everything but AWS. ``reports`` is what an operator was told about the callers document."""

    def __init__(self, callers: Json | None = None, **settings: Any) -> None:  # noqa: ANN401  # the emulator's settings
        self.clock = Clock()
        self.ledger = MemoryLedger()
        entry = {"scheme": "standard", "secrets": [SECRET]}
        self.vault = Vault(json.dumps(callers if callers is not None else {"backoffice": entry}))
        self.reports: list[tuple[str, str]] = []
        self.naps: list[float] = []
        self.worker_runs = True
        skew = self.clock.shift / SECOND
        self.emulator = Emulator(
            access_key=KEYS.access_key, secret_key=KEYS.secret_key, **{"clock_skew": skew, **settings}
        )
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self.emulator)
        aitems = AiTEMS(self.emulator.url, lambda _: (KEYS, True), now=self.clock)
        self.bridge = Bridge(cast("Ledger", self.ledger), aitems, self.clock)
        callers = Callers(self.vault, lambda name, fault: self.reports.append((name, fault)))
        self.webhook = Webhook(self.bridge, callers, self.clock, self._nap)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def answer(self, event: Json) -> "Answer":
        """Call the HTTP door, with the whole of its function's time left."""
        return Answer(self.webhook.answer(event, self.clock() + 29 * SECOND))

    def invocation(self) -> Invocation:
        """Return the worker's time."""
        ends = self.clock() + MINUTE
        return Invocation(ends, ends)

    def work(self) -> None:
        """Attend to everything open once, as the queue would have it done."""
        for record in list(self.ledger.scan()):
            if record.state.open:
                self.bridge.attend(record.id, record.version, self.invocation())

    @property
    def record(self) -> Record:
        """The only request there is."""
        (record,) = self.ledger.scan()
        return record

    @property
    def posts(self) -> int:
        """How many creations reached AiTEMS."""
        return sum(call.operation == "create" for call in self.emulator.calls)

    def _nap(self, seconds: float) -> None:
        """Let the others work while the door waits."""
        self.naps.append(seconds)
        self.clock.advance(seconds)
        if self.worker_runs:
            self.work()


class Answer:
    """An answer of the HTTP door."""

    def __init__(self, response: Response) -> None:
        assert set(response) == {"statusCode", "headers", "body", "isBase64Encoded"}
        assert response["isBase64Encoded"] is False
        self.status: int = response["statusCode"]
        self.headers: dict[str, str] = response["headers"]
        self.text: str = response["body"]

    @property
    def document(self) -> Any:  # noqa: ANN401  # JSON of any kind
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def slug(self) -> str:
        """Which problem it is; the answer must be one."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.document["status"] == self.status
        return str(self.document["type"]).removeprefix("urn:aitems-bridge:problem:")
