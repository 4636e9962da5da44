"""Anything at all, at every door: garbage unsigned, garbage rightly signed, garbage in the queues and the stream.

The rules. HTTP: never 500, 502 or 504 and no exception; 503 only for a shut door or a silent ledger; every answer is
one of the documented ones; nothing is recorded unless it was signed. Queues and stream: nothing is raised for what a
message says, and one that is poisoned spoils no other. All: what is recorded can be stored and announced, and no log
has a line of a body or a signature. FUZZ_EXAMPLES sets how many examples each test tries.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, cast
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from aitems_bridge import config, events, relay, reply, webhook, worker
from aitems_bridge.errors import Problem
from aitems_bridge.ledger import Ledger, image_of
from aitems_bridge.record import SECOND, Record, State
from aitems_local.chats import Chats
from aitems_local.emulator import Emulator
from aws import Aws, Context, running
from contract import RECORDS
from garbage import (
    CANARY,
    RawHeaders,
    StrictLedger,
    as_aws,
    encoded,
    examples,
    filled,
    header_values,
    json_texts,
    literals,
    names,
    numbers,
    raw_headers,
    sender,
    strings,
)
from knock import CALLERS, TIMED, slash
from test_relay import QUARTER_MEGABYTE, change
from test_worker import DEAD, batch, envelope, failed
from world import KEYS, REQUEST_ID, ROOT, Answer, World

Json = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

STANDARD = {"scheme": "standard", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}
HMAC = {"scheme": "hmac", "secrets": ["hush-hush-hush-hush-4711"]}
UNBOUND = {name: {key: value for key, value in entry.items() if key != "allow"} for name, entry in CALLERS.items()}
ENTRIES: Json = UNBOUND | {
    "timed": TIMED,
    "recorded": STANDARD | {"answer": "delivery"},
    "sums": HMAC | {
        "hmac": {"header": "X-Signature", "key": {"body": "sum(ids)"}},
        "mapping": {"name": "sum(ids)", "description": "to_string(max(ids))", "type": "[sum(ids), to_number(type)]"},
    },
    "shapes": STANDARD | {
        "mapping": {"name": "join('-', sort(keys(@)))", "description": "to_string(values(@))", "type": "type(@)"},
        "when": "length(@) > `0`",
    },
    "folds": STANDARD | {
        "mapping": {
            "name": "sort_by(items, &price)[0].name || items[?contains(tags, 'a')] | [0].name",
            "description": "join(', ', map(&to_string(@), items[].tags[]))",
            "type": "not_null(kind, ceil(price), floor(price), avg(ids), reverse(name), 'batch')",
        },
    },
    "whole": STANDARD | {"mapping": {"name": "@", "description": "*.*", "type": "to_number(id)"}, "answer": "outcome"},
}  # fmt: skip
"""The contract's callers with any name allowed, and mappings that use most of what JMESPath has."""
SHUT = {"off": STANDARD | {"enabled": False}, "broken": {}}
DOCUMENTED = {200, 201, 202, 400, 401, 403, 404, 413, 415, 422, 503}
SCHEMAS = {
    name: Draft202012Validator(json.loads((ROOT / "schemas" / f"{name}.v1.json").read_text("utf-8")))
    for name in ("problem", "status")
}
DEAR = 256_000
"""No answer is longer: who may call is not given a lever."""


@contextmanager
def listening(*loggers: logging.Logger | Any) -> Iterator[list[logging.LogRecord]]:  # noqa: ANN401  # Powertools' own
    """Collect what is logged."""
    heard: list[logging.LogRecord] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    ear = Ear()
    ear.setFormatter(logging.Formatter())
    found = [logging.getLogger(logger.name) for logger in loggers]
    for logger in found:
        logger.addHandler(ear)
    try:
        yield heard
    finally:
        for logger in found:
            logger.removeHandler(ear)


def written(heard: list[logging.LogRecord]) -> str:
    """Return all that a log line could show of what was logged, tracebacks included; and forget it."""
    line = logging.Formatter()  # gives the traceback; the error itself, as Python shows it to itself, is in no line
    told = " ".join(f"{line.format(record)} {vars(record) | {'exc_info': None}}" for record in heard)
    heard.clear()
    return told


def documented(response: Json) -> Answer:
    """Return an answer of the door; it must be one that the contract has, and well formed."""
    answer = Answer(response)
    assert answer.status in DOCUMENTED
    assert all(name.isascii() and value.isascii() and value.isprintable() for name, value in answer.headers.items())
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.text.encode()) < DEAR
    document = answer.document
    if answer.status >= 400:
        SCHEMAS["problem"].validate(document)
        assert answer.slug in ("caller-unavailable", "not-recorded") or answer.status != 503
        assert ("Retry-After" in answer.headers) == (answer.status == 503)
    else:
        assert answer.headers["Content-Type"] == "application/json"
        if "request_id" in document:
            SCHEMAS["status"].validate(document)
    return answer


class Doors(World):
    """All callers, over a ledger that takes only what DynamoDB takes."""

    def __init__(self) -> None:
        super().__init__(ENTRIES | SHUT)
        self.ledger = StrictLedger()
        self.worker_runs = False
        self.said: list[Json] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self.webhook = webhook.Webhook(self.bridge, self.webhook.callers, self.clock, self._nap, self.said.append)
        return self

    def take(self, event: Json) -> Answer:
        """Have the door answer; unlike the function, it lets an exception through."""
        return documented(self.webhook.answer(event, self.clock() + 29 * SECOND))

    def announceable(self) -> None:
        """Check what was written since the last look: however it ends, it can be announced, and said in chats."""
        wrote, said = list(self.ledger.writes), list(self.said)
        self.ledger.writes.clear()
        self.said.clear()
        for record in wrote:
            ended = (
                replace(record, state=State.FAILED, problem=Problem("closed", "no")) if record.state.open else record
            )
            detail = events.detail(ended)
            assert len(detail.encode()) <= relay.MOST_BYTES
            json.loads(detail)
        for message in said:
            assert len(json.dumps(message)) < QUARTER_MEGABYTE


lies = st.sampled_from(["honest", "honest", "honest", "binary", "plain as base64", "base64 as plain"])
paths = st.sampled_from([*ENTRIES, *SHUT]) | st.text(max_size=40)
ids = st.none() | st.just(REQUEST_ID) | st.text(max_size=60) | st.just("x" * 5000)


def test_no_stranger_gets_anything_but_a_refusal() -> None:
    """Bytes without a signature: turned away with a documented answer; neither ledger nor AiTEMS hears of it."""
    with Doors() as doors, listening(webhook.logger) as heard:

        @examples(250)
        @given(paths, ids, raw_headers, st.binary(max_size=200) | json_texts.map(encoded), lies)
        def holds(caller: str, request_id: str | None, headers: RawHeaders, body: bytes, told: str) -> None:
            parameters = {"caller": caller} | ({} if request_id is None else {"request_id": request_id})
            answer = doors.take(as_aws(parameters, headers, body, told=told))
            allowed = {"unknown-caller", "unknown-request", "signature-refused", "malformed-request", "body-too-large"}
            assert answer.slug in allowed | ({"caller-unavailable"} if caller in SHUT else set())
            assert CANARY not in answer.text + written(heard)

        holds()
        assert doors.ledger.items == {}
        assert doors.emulator.calls == ()


BODIES: dict[str, st.SearchStrategy[str]] = {
    "deploys": filled({
        "deployment": {"task": st.just('"aitems"'), "payload": {"name": strings, "type": literals},
                       "description": literals},
        "sender": {"login": strings},
    }),
    "gitlab": filled({"object_kind": st.just('"release"'), "action": st.just('"create"'), "tag": strings,
                      "name": literals}),
    "payments": filled({
        "id": strings, "type": st.just('"product.created"'),
        "data": {"object": {"name": literals, "metadata": {"aitems_name": strings}}},
    }),
    "shopfront": filled({"handle": strings, "title": literals}),
    "sums": filled({"ids": st.lists(numbers | literals, max_size=4).map(lambda each: f"[{','.join(each)}]"),
                    "type": literals}),
    "works": filled({
        "type": st.just('"message"'),
        "source": {"userId": literals, "channelId": literals, "domainId": st.just("40029600")},
        "issuedTime": st.sampled_from(['"2026-11-23T19:38:24Z"', '"2026-11-23T19:38:24+00:00"', '"2026-11-23"']),
        "content": {"type": st.just('"text"'), "text": literals},
    }),
    "": filled({"name": strings, "description": literals, "type": literals}),
}  # fmt: skip
COMMANDS = st.one_of(
    names.map(lambda name: f"create try-{name[:10]}"),
    st.builds(
        "{} {}".format,
        st.sampled_from(["create", "status", "help", "create try-x1 realtime", "상태"]),
        st.text() | names | st.sampled_from(["x" * 9000, "가" * 9000, "\x00", "\ud800", CANARY]),
    ),
    st.text(),
)
FORMS = st.builds(
    lambda text, fields: slash(text, **fields),
    COMMANDS.map(lambda text: text.encode("utf-8", "replace").decode()),
    st.dictionaries(
        st.sampled_from(["team_id", "user_id", "response_url", "trigger_id", "command", "channel_id"]),
        st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace").decode())
        | st.sampled_from(["x" * 3000, "\x7f" * 20_000, "https://hooks.slack.com/commands/1"]),
        max_size=2,
    ),
)
WORKS = st.builds(
    lambda text, user, extra: json.dumps(
        {
            "type": "message",
            "source": {"userId": user, "domainId": 40029600} | extra,
            "issuedTime": "2026-11-23T19:38:24Z",
            "content": {"type": "text", "text": text},
        }
    ),
    COMMANDS,
    st.sampled_from(["u-1", "", "\ud800", "\x00", "u" * 3000, "\x7f" * 50_000]) | st.text(max_size=20),
    st.dictionaries(st.just("channelId"), st.text(max_size=20)),
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[str, bytes]:
    """A caller, and what it might send: of the shape it should be, of any shape, or no JSON at all."""
    caller = draw(st.sampled_from(sorted(ENTRIES)))
    if draw(st.integers(0, 9)) == 0:
        return caller, draw(st.binary(max_size=200))
    if draw(st.integers(0, 9)) == 0:
        body = bytearray(encoded(draw(BODIES.get(caller, BODIES[""]))))
        for place in draw(st.lists(st.integers(0, max(0, len(body) - 1)), max_size=4)):
            body[place : place + 1] = draw(st.binary(max_size=3))
        return caller, bytes(body)
    if ENTRIES[caller]["scheme"] == "slack":
        return caller, draw(FORMS | st.binary(max_size=60).map(lambda raw: urlencode({"text": raw}).encode()))
    shaped = BODIES.get(caller, BODIES[""])
    return caller, encoded(draw(st.one_of(shaped, shaped, WORKS, json_texts) if caller == "works" else
                                st.one_of(shaped, shaped, json_texts)))  # fmt: skip


UNSIGNED_HEADERS = [
    b"x-github-event",
    b"content-type",
    b"prefer",
    b"content-encoding",
    b"x-shopify-webhook-id",
    b"host",
]


def test_no_lawful_caller_breaks_the_door() -> None:
    """Anything rightly signed: read, mapped, checked and answered; what is recorded can be stored and announced."""
    with Doors() as doors, listening(webhook.logger) as heard:

        @examples(700)
        @given(
            deliveries(),
            st.integers(0, 10**6),
            st.lists(st.tuples(st.sampled_from(UNSIGNED_HEADERS), header_values), max_size=2),
            lies,
        )
        def holds(delivery: tuple[str, bytes], key: int, extra: RawHeaders, told: str) -> None:
            caller, body = delivery
            at = doors.clock() // SECOND
            body = body.replace(b"2026-11-23T19:38:24", events.timestamp(at * SECOND)[:19].encode())
            known = len(doors.ledger.items)
            headers = sender(caller, ENTRIES[caller], body, f"m{key}", at)
            if "x-github-delivery" in headers:
                extra = [(b"x-github-event", b"deployment"), *extra]
            laid = {name.encode(): value.encode() for name, value in headers.items()} | dict(extra)
            answer = doors.take(as_aws({"caller": caller}, list(laid.items()), body, told=told))
            assert answer.status != 503
            log = written(heard)
            assert CANARY not in log
            assert "Traceback" not in log
            assert not any(len(value) > 20 and value[-20:] in log for name, value in headers.items() if "sig" in name)
            if len(doors.ledger.items) > known:
                assert answer.status in (200, 201, 202, 422)
            doors.announceable()

        holds()


def test_no_question_breaks_the_door() -> None:
    """A signed GET for any id, by any caller: its own request, or none."""
    with Doors() as doors:

        @examples(80)
        @given(st.sampled_from(sorted(ENTRIES)), st.text(max_size=300) | names, st.text(max_size=300) | names, lies,
               st.binary(max_size=10))  # fmt: skip
        def holds(caller: str, request_id: str, key: str, told: str, body: bytes) -> None:
            at = doors.clock() // SECOND
            try:
                headers = sender(caller, ENTRIES[caller], body, key, at)
            except UnicodeEncodeError:
                return
            laid = [(name.encode(), value.encode("utf-8")) for name, value in headers.items()]
            event = as_aws({"caller": caller, "request_id": request_id}, laid, body, told=told)
            assert doors.take(event).slug in ("unknown-request", "signature-refused", "malformed-request")

        holds()


# --- the worker ---------------------------------------------------------------------------------------------------

ENVELOPES = filled({
    "detail-type": st.just('"AiTEMS Service Creation Requested"'),
    "source": strings,
    "account": strings,
    "id": strings,
    "time": strings,
    "detail": filled({"name": strings, "description": literals, "type": literals, "idempotency_key": literals}),
})  # fmt: skip
POINTERS = filled({"kind": st.just('"work"'), "request_id": strings, "version": literals})
MESSAGES = st.one_of(ENVELOPES, POINTERS, json_texts, st.text(max_size=80))


def test_every_request_of_the_bus_ends_recorded() -> None:
    """Whatever stands in an event's detail: it is recorded, and announced, for on the bus nobody reads an answer."""
    with Doors() as doors:

        @examples(250)
        @given(st.one_of(BODIES[""], json_texts), st.integers(0, 10**6), st.booleans())
        def holds(detail: str, number: int, dead: bool) -> None:
            try:
                read = json.loads(detail)
            except (ValueError, RecursionError):
                return  # EventBridge takes JSON only
            if "\\ud" in detail:
                return  # and whole characters
            body = envelope(read, id=f"id-{number}")
            assert worker.work(doors.bridge, body, doors.invocation(), dead=dead)
            order = worker.requested(json.loads(body), 0).order
            assert doors.ledger.get(order.request_id) is not None
            doors.announceable()

        holds()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Give what the functions find in their environment, AiTEMS included."""

    def forget() -> None:
        worker._bridge.cache_clear()  # noqa: SLF001  # as a new process would
        relay._relay.cache_clear()  # noqa: SLF001  # as above
        config._vault.cache_clear()  # noqa: SLF001  # as above

    forget()
    with running(monkeypatch) as aws, Emulator(access_key=KEYS.access_key, secret_key=KEYS.secret_key) as emulator:
        aws.secrets = {"keys": json.dumps({"access_key": KEYS.access_key, "secret_key": KEYS.secret_key})}
        environment = {
            "KEYS_SECRET_ARN": "keys",
            "LEDGER_TABLE": "ledger",
            "AITEMS_BASE_URL": emulator.url,
            "DEAD_LETTER_QUEUE_ARN": DEAD,
            "EVENT_BUS": "bus",
            "QUEUE_URL": "queue",
            "REPLIES_QUEUE_URL": "replies",
            "RELAY_FAILURES_URL": "failures",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield aws
    forget()


def test_a_poisoned_message_spoils_no_other(aws: Aws) -> None:
    """One good event among any messages: it is worked on, whatever becomes of them; nothing is raised."""
    with listening(worker.logger) as heard:

        @examples(40)
        @given(st.lists(MESSAGES, max_size=5), st.integers(0, 5), st.integers(0, 10**9), st.sampled_from([None, DEAD]))
        def holds(bodies: list[str], place: int, number: int, queue: str | None) -> None:
            place = min(place, len(bodies))
            good = envelope({"name": f"t{number}", "idempotency_key": f"k{number}"})
            request_id = worker.requested(json.loads(good), 0).order.request_id
            answer = worker.handler(batch(*bodies[:place], good, *bodies[place:], queue=queue), Context(60))
            assert str(place) not in failed(answer)
            assert set(failed(answer)) <= {str(each) for each in range(len(bodies) + 1)}
            assert aws.items[f"request#{request_id}"]["state"]["S"] in ("created", "rejected", "failed")
            assert CANARY not in written(heard)

        holds()


# --- the relay ----------------------------------------------------------------------------------------------------

IMAGES = {name: image_of(record) for name, (record, *_) in RECORDS.items()}
KINDS = {name: next(iter(value)) for image in IMAGES.values() for name, value in image.items()}
TEXTS = st.text(max_size=40) | st.sampled_from([
    "", "[]", "{}", "null", "7", "created", "rejected", "failed", "received", "unknown", '{"kind": "slack"}', CANARY,
    "[" * 20_000 + "]" * 20_000, "x" * 300_000, '{"type": 1}', "[1, 2]", '{"name": []}', "9" * 5000, "[1e999, 1]",
])  # fmt: skip
FIGURES = st.integers(-(10**37), 10**37).map(str) | st.sampled_from(["0", "-1", "1E+37", "0.5", "1" + "0" * 20])
ODD: dict[str, st.SearchStrategy[Json]] = {
    "S": TEXTS.map(lambda text: {"S": text}),
    "N": FIGURES.map(lambda number: {"N": number}),
    "BOOL": st.booleans().map(lambda flag: {"BOOL": flag}),
    "NULL": st.just({"NULL": True}),
    "L": st.just({"L": [{"S": "a"}]}),
    "M": st.just({"M": {"state": {"S": "created"}}}),
}


@st.composite
def images(draw: st.DrawFn) -> Json:
    """An item as nobody of ours wrote it: values of the right type mostly, of any other, too few or too many."""
    image = dict(IMAGES[draw(st.sampled_from(sorted(IMAGES)))])
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*sorted(KINDS.keys() - {"pk"}), "clock", "seen", "gave_up", "later"]))
        kind = KINDS.get(name, "S") if draw(st.integers(0, 3)) else draw(st.sampled_from(sorted(ODD)))
        image[name] = draw(ODD[kind])
        if draw(st.integers(0, 9)) == 0:
            del image[name]
    return image


def test_a_poisoned_record_spoils_no_other(aws: Aws) -> None:
    """Any image among good ones: it is announced, queued or given away, and the good ones get where they belong."""
    good = image_of(RECORDS["created"][0])

    def judge(document: Json) -> Json:
        results = []
        for entry in document["Entries"]:
            assert len(entry["Detail"].encode()) <= QUARTER_MEGABYTE or len(document["Entries"]) == 1
            try:
                json.loads(entry["Detail"], parse_constant=lambda _: 1 / 0)
                results.append({"EventId": "e"})
            except (ValueError, RecursionError, ArithmeticError):
                results.append({"ErrorCode": "MalformedDetail"})
        return {"FailedEntryCount": 0, "Entries": results}

    aws.rules["PutEvents"] = judge
    with listening(relay.logger) as heard:

        @examples(60)
        @given(images(), st.sampled_from(["INSERT", "MODIFY"]))
        def holds(image: Json, event_name: str) -> None:
            aws.calls.clear()
            records = [change(image, key="request#odd", name=event_name), change(good, key="request#good")]
            relay.handler({"Records": records}, None)
            told = [entry["Detail"] for call in aws.of("PutEvents") for entry in call["Entries"]]
            assert sum(json.loads(good["answer"]["S"])["serviceId"] in text for text in told) >= 1
            queued = [entry for call in aws.of("SendMessageBatch") for entry in call["Entries"]]
            assert len(told) + len(queued) + len(aws.of("SendMessage")) >= 2
            assert CANARY not in written(heard)

        holds()


# --- the replies --------------------------------------------------------------------------------------------------

URLS = st.one_of(
    st.text(max_size=40),
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["https://hooks.slack.com", "https://hooks.slack.com:443", "HTTPS://hooks.slack.com", "x:"]),
        st.sampled_from(["", "/", "\\", "@", "#", "?", ":", ".", "\t", "\n", "%40", "%2f", "//", "]", "[", "\u2100"]),
        st.sampled_from(["", "evil.example", "@evil.example", "127.0.0.1", "[::1]", "169.254.169.254/latest"]),
        st.text(max_size=10) | st.just("/commands/1"),
    ),
)


def test_a_reply_goes_to_slack_or_nowhere() -> None:
    """Whatever address a command names: what is posted to is below the allowed origin, as the HTTP library reads it."""
    posted: list[str] = []

    def post(url: str, headers: dict[str, str], body: bytes) -> requests.Response:
        posted.append(requests.Request("POST", url, headers=headers, data=body).prepare().url or "")
        answer = requests.Response()
        answer.status_code = 200
        return answer

    slack = reply.Slack(("https://hooks.slack.com",), post)

    @examples(400)
    @given(URLS)
    def holds(url: str) -> None:
        posted.clear()
        try:
            slack.send(url, {})
        except requests.RequestException:
            assert posted == []
        for address in posted:
            parts = urlsplit(address)
            assert (parts.scheme, parts.netloc) == ("https", "hooks.slack.com")

    holds()


def test_a_poisoned_reply_spoils_no_other() -> None:
    """Any message among good ones: the good ones are told, and only what failed is reported."""
    with Chats() as chats, listening(reply.logger) as heard:

        class Shelf:
            record: Record = RECORDS["created"][0]

            def get(self, request_id: str) -> Record | None:
                return self.record if request_id == self.record.id else None

        secret = json.dumps({"works": {"2000001": chats.account.secret()}})
        works = reply.Works(chats.url, chats.url, lambda: secret)
        now = Shelf.record.requested_at
        replies = reply.Replies(cast("Ledger", Shelf()), reply.Slack((chats.url,)), works, lambda: now)
        good = json.dumps({"kind": "say", "to": {"bot": "2000001", "user": "u"}, "text": "hello", "at": now})
        says = filled({"kind": st.just('"say"'), "to": literals, "text": literals, "at": literals})
        tells = filled({"kind": st.just('"reply"'), "request_id": strings, "event_id": strings})

        @examples(80)
        @given(st.lists(says | tells | json_texts | st.text(max_size=40), max_size=4), st.integers(0, 4))
        def holds(bodies: list[str], place: int) -> None:
            place = min(place, len(bodies))
            said = len(chats.said)
            messages = [*bodies[:place], good, *bodies[place:]]
            records = [{"messageId": str(number), "body": body} for number, body in enumerate(messages)]
            answer = reply.answer(replies, {"Records": records})
            assert str(place) not in failed(answer)
            assert len(chats.said) == said + 1
            assert CANARY not in written(heard)

        holds()
