"""What a chat is told: by what the ledger holds, in its time, and never to the harm of the creation."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from aitems_bridge.errors import Misconfigured
from aitems_bridge.events import event_id
from aitems_bridge.record import MINUTE, Record
from aitems_bridge.reply import NotReplied, Replies, Slack, Works, answer, logger, post
from aitems_local.chats import Chats
from contract import RECORDS, UNKNOWN

if TYPE_CHECKING:
    from aitems_bridge.ledger import Ledger

Json = dict[str, Any]

BOT = "2000001"
CREATED, REJECTED, FAILED = (RECORDS[name][0] for name in ("created", "rejected by AiTEMS", "failed"))


@dataclass
class Shelf:
    """A ledger of one request."""

    record: Record | None = None

    def get(self, request_id: str) -> Record | None:
        """See `Ledger.get`."""
        return self.record if self.record and self.record.id == request_id else None


@dataclass
class Desk:
    """The replies over both chats on loopback, and what it takes to look at them."""

    chats: Chats
    shelf: Shelf = field(default_factory=Shelf)
    now: int = CREATED.requested_at
    secret: str = ""

    def __post_init__(self) -> None:
        """Put everything together as it is deployed."""
        self.secret = json.dumps({"works": {BOT: self.chats.account.secret()}})
        self.works = Works(self.chats.url, self.chats.url, lambda: self.secret)
        self.replies = Replies(cast("Ledger", self.shelf), Slack((self.chats.url,)), self.works, lambda: self.now)

    def tell(self, record: Record, *, to: Json, event: str | None = None) -> list[str]:
        """Tell how a request ended, and return what the chats have heard since the beginning."""
        self.shelf.record = record = replace(record, reply=to)
        self.replies.tell({"kind": "reply", "request_id": record.id, "event_id": event or event_id(record)})
        return [message.text for message in self.chats.said]

    @property
    def slack(self) -> Json:
        """Where a slash command wants its outcome."""
        return {"kind": "slack", "url": f"{self.chats.url}/commands/T1/1"}


TO_WORKS = {"kind": "works", "bot": BOT, "language": "ko", "user": "u@1"}


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Give the replies."""
    with Chats() as chats:
        yield Desk(chats)


@pytest.mark.parametrize(
    ("record", "words"), [(CREATED, "is created"), (REJECTED, "was not created"), (FAILED, "is not settled")]
)
def test_slack_is_told_every_outcome(record: Record, words: str, desk: Desk) -> None:
    """At the command's own address, in blocks that Slack takes."""
    desk.now = record.requested_at
    (said,) = desk.tell(record, to=desk.slack)
    assert words in said


def test_works_is_told_with_a_token_that_is_kept(desk: Desk) -> None:
    """One grant for as long as the token lasts; a person or a channel."""
    desk.tell(CREATED, to=TO_WORKS)
    desk.tell(CREATED, to={"kind": "works", "bot": BOT, "language": "ko", "channel": "c-1"})
    assert [message.to for message in desk.chats.said] == ["users/u@1", "channels/c-1"]
    assert len(desk.chats.tokens) == 1


def test_a_token_that_is_refused_is_asked_for_anew(desk: Desk) -> None:
    """Once, in the same try."""
    desk.tell(CREATED, to=TO_WORKS)
    desk.chats.tokens.clear()
    assert len(desk.tell(CREATED, to=TO_WORKS)) == 2


def test_a_token_is_not_used_to_its_last_second() -> None:
    """A clock that is a little behind must not make every message a refused one."""
    with Chats() as chats:
        clock = [time.time()]
        secret = json.dumps({"works": {BOT: chats.account.secret()}})
        works = Works(chats.url, chats.url, lambda: secret, clock=lambda: clock[0])
        works.send({"bot": BOT, "user": "u"}, "one")
        clock[0] += 86_400 - 301
        works.send({"bot": BOT, "user": "u"}, "two")
        assert len(chats.tokens) == 1
        clock[0] += 2
        with pytest.raises(NotReplied):  # the stand-in takes no assertion from tomorrow: it was asked for a token
            works.send({"bot": BOT, "user": "u"}, "three")


def test_what_is_said_at_once_to_works(desk: Desk) -> None:
    """The acknowledgement takes the same way, without the ledger."""
    desk.replies.tell({"kind": "say", "to": TO_WORKS, "text": "안녕", "at": desk.now})
    assert [message.text for message in desk.chats.said] == ["안녕"]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/commands/T1/1",
        "http://127.0.0.1/commands",
        "{origin}.evil.example/commands",
        "http://user@{host}/commands/T1/1",
        "{origin}@evil.example/",
        "//{host}/commands/T1/1",
        "http://[",
        "https://\u2100/commands/T1/1",
        "",
    ],
)
def test_only_slacks_own_addresses_are_posted_to(url: str, desk: Desk) -> None:
    """Whoever could name another one would have the bridge post wherever they like; it is dropped, not tried again."""
    url = url.format(origin=desk.chats.url, host=desk.chats.url.removeprefix("http://"))
    assert desk.tell(CREATED, to={"kind": "slack", "url": url}) == []


def test_a_reply_follows_no_redirect() -> None:
    """An address was allowed, and no other: what it points to is not called."""
    heard: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert post(f"http://127.0.0.1:{server.server_port}/first", {}, b"{}").status_code == 307
        server.shutdown()
    assert heard == ["/first"]


def test_after_half_an_hour_nobody_is_told(desk: Desk) -> None:
    """The address takes nothing any more, and nobody waits: the event stands."""
    desk.now = CREATED.requested_at + 30 * MINUTE
    assert len(desk.tell(CREATED, to=desk.slack)) == 1
    desk.now += 1
    assert len(desk.tell(CREATED, to=desk.slack)) == 1


def test_what_was_overtaken_is_not_told(desk: Desk) -> None:
    """A request that is open again, or ended otherwise meanwhile, has another message on its way."""
    assert desk.tell(UNKNOWN, to=desk.slack, event=event_id(FAILED)) == []
    assert desk.tell(CREATED, to=desk.slack, event=event_id(FAILED)) == []
    desk.shelf.record = None
    desk.replies.tell({"kind": "reply", "request_id": "x", "event_id": "x.created"})
    assert desk.chats.said == []


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_what_may_work_later_is_tried_again(status: int, desk: Desk) -> None:
    """By the queue: it is raised, and the next try is told."""
    desk.chats.refusals = [status]
    with pytest.raises(NotReplied):
        desk.tell(CREATED, to=desk.slack)
    assert len(desk.tell(CREATED, to=desk.slack)) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_what_never_will_is_dropped(status: int, desk: Desk) -> None:
    """An address that was used up, a message that is not taken: trying again would only use up the tries."""
    desk.chats.refusals = [status]
    assert desk.tell(CREATED, to=desk.slack) == []


def test_a_chat_that_cannot_be_reached_is_tried_again(desk: Desk) -> None:
    """Nobody listens: the queue tries again, with what requests says about it."""
    dead = Chats()
    slack = Slack((dead.url,))
    dead.start()
    dead.stop()
    desk.replies = replace(desk.replies, slack=slack)
    with pytest.raises(requests.ConnectionError):
        desk.tell(CREATED, to={"kind": "slack", "url": f"{dead.url}/commands/T1/1"})


@pytest.mark.parametrize("secret", ["", "[]", "{}", '{"works": {}}', '{"works": {"2000001": {"client_id": "a"}}}'])
def test_a_chat_secret_without_the_bot(secret: str, desk: Desk) -> None:
    """The remedy is told to the operator; no secret is."""
    desk.secret = secret
    with pytest.raises(Misconfigured, match=r"works\.2000001"):
        desk.tell(CREATED, to=TO_WORKS)


def test_a_key_that_is_none(desk: Desk) -> None:
    """The same, also for what is a key and cannot sign: the public half."""
    private = load_pem_private_key(desk.chats.account.secret()["private_key"].encode(), None)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for key in ("-----BEGIN", public):
        desk.secret = json.dumps({"works": {BOT: desk.chats.account.secret() | {"private_key": key}}})
        with pytest.raises(Misconfigured, match="no RSA key") as error:
            desk.tell(CREATED, to=TO_WORKS)
        assert "BEGIN" not in str(error.value)


def test_another_accounts_secret_gets_no_token(desk: Desk) -> None:
    """It is tried again, since an operator may be in the middle of changing it."""
    desk.secret = json.dumps({"works": {BOT: desk.chats.account.secret() | {"client_secret": "other"}}})
    with pytest.raises(NotReplied):
        desk.tell(CREATED, to=TO_WORKS)


def test_a_reply_address_is_never_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Slack's address is a right to post for half an hour: what a transport says of it does not reach the log."""
    dead = Chats()
    dead.start()
    dead.stop()
    told = {"kind": "reply", "request_id": CREATED.id, "event_id": event_id(CREATED)}
    address = {"kind": "slack", "url": f"{dead.url}/commands/T123/SECRETTOKEN"}
    desk.shelf.record = replace(CREATED, reply=address)
    replies = replace(desk.replies, slack=Slack((dead.url,)))
    logging.getLogger(logger.name).addHandler(caplog.handler)
    batch = {"Records": [{"messageId": "1", "body": json.dumps(told)}]}
    assert answer(replies, batch) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    logged = " ".join(str(vars(record)) for record in caplog.records)
    assert "ConnectionError" in logged
    assert "SECRETTOKEN" not in logged
