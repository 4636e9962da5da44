"""The HTTP door for senders that are not ours: mapping, ``when``, what is answered, and what a chat command does."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitems_bridge.record import MINUTE, SECOND, State
from aitems_local.emulator import Fault
from knock import CALLERS, SCHEMES, TIMED, bot_message, knock, slash
from world import NOW, ROOT, Answer, World, post, sample

Json = dict[str, Any]

GITHUB = {"x-github-event": "deployment"}
USER = "https://hooks.slack.com/commands/T1DC2JH3J/1/x"


class Doors(World):
    """The bridge with the contract's callers; ``said`` is what was queued for chats."""

    def __init__(self, callers: Json | None = None) -> None:
        super().__init__(CALLERS if callers is None else CALLERS | callers)
        self.said: list[Json] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self.webhook = replace(self.webhook, say=self.said.append)
        return self

    def slack(self, text: str, trigger: str = "1.2.3", **fields: str) -> str:
        """Give a slash command and return what the person reads at once."""
        answer = self.answer(knock("slack", slash(text, trigger_id=trigger, **fields), at=self.clock() // SECOND))
        assert answer.status == 200
        assert answer.document.keys() == {"response_type", "text"}
        assert answer.document["response_type"] == "ephemeral"
        return str(answer.document["text"])

    def works(self, text: str | None, **source: object) -> Answer:
        """Send a message to the bot."""
        issued = f"2026-11-23T19:38:{24 + (self.clock() - NOW) // SECOND % 30:02}.{self.clock() % 1000:03}Z"
        return self.answer(knock("works", bot_message(text, issued=issued, **source)))


@pytest.fixture
def doors() -> Iterator[Doors]:
    """Give the bridge with the contract's callers."""
    with Doors() as running:
        yield running


def deployment(**members: object) -> Json:
    """Return a deployment as GitHub tells it, as far as it matters."""
    told = {"task": "aitems", "payload": {"name": "ci-models"}, "description": "봄"} | members
    return {"deployment": told, "sender": {"login": "octocat"}}


# --- GitHub -------------------------------------------------------------------------------------------------------


def test_githubs_published_example_creates_a_service(doors: Doors) -> None:
    """GitHub's own example of ``deployment``, its empty ``payload`` filled in, and its ``task`` (``deploy``)."""
    example = json.loads((ROOT / "tests" / "data" / "github-deployment.json").read_text("utf-8"))
    assert (example["deployment"]["task"], example["deployment"]["payload"]) == ("deploy", {})
    example["deployment"] |= {"task": "aitems", "payload": {"name": "ci-models", "type": "interval"}}
    answer = doors.answer(knock("deploys", example))
    assert (answer.status, answer.document["state"]) == (202, "received")
    doors.work()
    assert doors.record.state is State.CREATED
    assert doors.record.command == {"name": "ci-models", "description": "", "type": "interval"}
    assert doors.record.requested_by == "github:Codertocat"
    assert doors.record.channel == "github"


def test_githubs_example_as_published_is_ignored(doors: Doors) -> None:
    """Its task is another one: nothing is recorded, and GitHub is told why with 200."""
    answer = doors.answer(knock("deploys", (ROOT / "tests" / "data" / "github-deployment.json").read_bytes()))
    assert answer.status == 200
    assert answer.document == {"status": "ignored", "reason": "the body is not what this caller's 'when' asks for"}
    assert list(doors.ledger.scan()) == []


@pytest.mark.parametrize(("event", "reason"), [("ping", "pong"), ("push", "event 'push' is not among")])
def test_ping_is_answered_and_other_events_are_ignored(event: str, reason: str, doors: Doors) -> None:
    """By the header alone, whatever the body is, once the signature is good."""
    answer = doors.answer(knock("deploys", b'{"zen": "x"}', headers={"x-github-event": event}))
    assert answer.status == 200
    assert answer.document["status"] == "ignored"
    assert answer.document["reason"].startswith(reason)
    forged = knock("deploys", b"{}", headers={"x-github-event": event, "x-hub-signature-256": "sha256=" + "0" * 64})
    assert doors.answer(forged).slug == "signature-refused"


def test_githubs_form_mode_is_told_what_to_change(doors: Doors) -> None:
    """GitHub can send a form instead: 415, and where to switch it."""
    body = b"payload=%7B%7D"
    answer = doors.answer(knock("deploys", body, headers={"content-type": "application/x-www-form-urlencoded"}))
    assert (answer.status, answer.slug) == (415, "unsupported-media-type")
    assert "application/json" in answer.document["detail"]


def test_a_redelivery_is_the_same_request(doors: Doors) -> None:
    """GitHub keeps the delivery's id when it sends again: 202 while open, 200 afterwards, one service."""
    first = doors.answer(knock("deploys", deployment()))
    doors.work()
    again = doors.answer(knock("deploys", deployment()))
    assert (first.status, again.status) == (202, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.document["state"] == "created"
    assert doors.posts == 1
    assert "Location" not in first.headers


@pytest.mark.parametrize(("wait", "status"), [(0, 202), (8, 200)])
def test_a_delivery_waits_as_long_as_its_entry_says(wait: int, status: int) -> None:
    """GitHub gives up after ten seconds: at most eight, and by default none."""
    with Doors({"deploys": CALLERS["deploys"] | {"wait": wait}}) as doors:
        assert doors.answer(knock("deploys", deployment())).status == status
        preferred = knock("deploys", deployment(payload={"name": "ci-b"}), key="d-2", headers={"prefer": "wait=25"})
        answer = doors.answer(preferred)
        assert answer.headers["Preference-Applied"] == f"wait={wait}"
        assert sum(doors.naps) <= 16


# --- mapping ------------------------------------------------------------------------------------------------------


def mapped(body: Json, **members: object) -> tuple[Answer, Doors]:
    """Return what a body is answered by an entry with these members, waiting for the outcome."""
    entry = CALLERS["deploys"] | {"wait": 8} | members
    with Doors({"deploys": entry}) as doors:
        return doors.answer(knock("deploys", body)), doors


def test_what_a_mapping_does_not_find_is_absent() -> None:
    """``null`` and nothing are the same: the default fills in, or the field is left out."""
    entry: Json = {"defaults": {"description": "d", "type": "interval"}}
    _, doors = mapped(deployment(description=None), **entry)
    assert doors.record.command == {"name": "ci-models", "description": "d", "type": "interval"}
    _, doors = mapped(deployment(description=""), **entry)
    assert doors.record.command == {"name": "ci-models", "description": "", "type": "interval"}


@pytest.mark.parametrize(
    ("members", "field", "detail"),
    [
        ({"payload": {"name": 7}}, "name", "'7' is not a string (from deployment.payload.name)"),
        ({"payload": {"name": True}}, "name", "'true' is not a string (from deployment.payload.name)"),
        ({"payload": {"name": ["a"]}}, "name", "'[\"a\"]' is not a string (from deployment.payload.name)"),
        ({"payload": {}}, "name", "is missing; a service needs a name (from deployment.payload.name)"),
        ({"description": 1.5}, "description", "'1.5' is not a string (from deployment.description)"),
        (
            {"payload": {"name": "ci-a", "type": "realtime"}},
            "type",
            "'realtime' is not one of batch, interval (from deployment.payload.type)",
        ),
    ],
)
def test_what_is_wrong_tells_where_it_came_from(members: Json, field: str, detail: str) -> None:
    """Never made a text of; recorded and rejected, since nobody reads the answer, and it names the expression."""
    answer, doors = mapped(deployment(**members))
    assert answer.status == 200
    assert answer.document["state"] == "rejected"
    (error,) = answer.document["problem"]["errors"]
    assert (error["pointer"], error["detail"]) == (f"#/{field}", detail)
    assert doors.record.command is None
    assert doors.posts == 0


def test_a_caller_that_reads_the_answer_is_told_instead() -> None:
    """With ``answer: outcome`` what is invalid is refused and not recorded."""
    answer, doors = mapped(deployment(payload={}), answer="outcome")
    assert (answer.status, answer.slug) == (422, "invalid-request")
    assert list(doors.ledger.scan()) == []


def test_outcome_and_delivery_answer_the_same_creation_differently() -> None:
    """200 with the status for who only counts 2xx, 201 with AiTEMS's own words for who reads."""
    delivered, _ = mapped(deployment())
    told, _ = mapped(deployment(), answer="outcome")
    assert (delivered.status, delivered.document["state"]) == (200, "created")
    assert (told.status, told.document["name"]) == (201, "ci-models")


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("deployment.task == 'aitems'", True),
        ("deployment.task == 'deploy'", False),
        ("deployment.task", False),
        ("deployment", False),
        ("nothing", False),
        ("contains(keys(deployment), 'task')", True),
        ("length(nothing) > `0`", False),
        ("`true`", True),
        ("`1`", False),
    ],
)
def test_when_must_be_exactly_true(when: str, wanted: bool) -> None:
    """A text, a number, nothing at all or an expression that fails on this body is not true."""
    answer, doors = mapped(deployment(), when=when)
    assert (answer.document.get("status") == "ignored") is not wanted
    assert bool(list(doors.ledger.scan())) is wanted


def test_names_that_are_not_allowed_are_refused() -> None:
    """The final name counts, after mapping; nothing is recorded."""
    answer, doors = mapped(deployment(payload={"name": "prod-models"}))
    assert (answer.status, answer.slug) == (403, "name-not-allowed")
    assert list(doors.ledger.scan()) == []


# --- HMAC ---------------------------------------------------------------------------------------------------------


def test_a_shops_webhook_creates_a_service(doors: Doors) -> None:
    """The sample invocation: a joined name, the key from a header."""
    answer = doors.answer(sample("webhook-hmac"))
    doors.work()
    assert answer.status == 202
    assert (doors.record.name, doors.record.state) == ("shop-main", State.CREATED)
    assert doors.record.key == "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    assert (doors.record.channel, doors.record.caller) == ("hmac", "shopfront")


def test_a_key_in_the_body_is_the_key() -> None:
    """Signed with it: the same key is the same request, whatever the headers say."""
    entry = TIMED | {"mapping": {"name": "name"}}
    with Doors({"timed": entry}) as doors:
        event = {"id": "evt_1", "name": "shop-a"}
        for _ in range(2):
            doors.answer(knock("timed", event, entry=entry))
        other = doors.answer(knock("timed", event | {"name": "shop-b"}, entry=entry))
        assert doors.record.key == "evt_1"
        assert (other.status, other.slug) == (422, "key-reused")
        missing = doors.answer(knock("timed", {"name": "shop-b"}, entry=entry))
        assert (missing.status, missing.slug) == (400, "malformed-request")


@pytest.mark.parametrize("name", ["github", "hmac", "slack", "works"])
def test_every_sample_invocation_creates_a_service(name: str, doors: Doors) -> None:
    """``events/webhook-*.json`` against the contract's callers, at their time."""
    answer = doors.answer(sample(f"webhook-{name}"))
    assert answer.status in (200, 202)
    doors.work()
    assert doors.record.state is State.CREATED
    assert (doors.record.channel, doors.record.command and doors.record.command["description"]) == (
        name,
        "봄 시즌 추천",
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["garbled base64", "non-ASCII signature", "no header", "odd case", "text as base64"])
def test_whatever_comes_is_no_servers_fault(scheme: str, kind: str) -> None:
    """401 or 400, never a 5xx; header names in any case are fine."""
    one = SCHEMES[scheme]
    with Doors({one.caller: one.entry}) as doors:
        event = knock(one.caller, one.body, entry=one.entry, encoded=kind == "text as base64")
        match kind:
            case "garbled base64":
                event |= {"isBase64Encoded": True, "body": "%%%"}
            case "non-ASCII signature":
                event["headers"][one.signature] = "sïgnatüre 서명 \udcff"
            case "no header":
                event["headers"] = None
            case "odd case":
                event["headers"] = {name.title(): value for name, value in event["headers"].items()}
        answer = doors.answer(event)
        if kind in ("odd case", "text as base64"):
            assert answer.status != 401
            assert answer.status < 500
        else:
            assert answer.status == (400 if kind == "garbled base64" else 401)


@given(
    st.sampled_from(sorted(CALLERS)),
    st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"null", b"a=b", b'{"source": 1, "content": []}']),
    st.dictionaries(
        st.sampled_from(["content-type", "x-github-event", "x-github-delivery", "x-shopify-webhook-id", "prefer"]),
        st.text(max_size=20) | st.sampled_from(["application/json", "deployment", "application/x-www-form-urlencoded"]),
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_rightly_signed_anything_is_no_servers_fault(caller: str, body: bytes, headers: dict[str, str]) -> None:
    """Who has the secret can still send nonsense: any answer but a 5xx."""
    body = body.decode("latin-1").encode()
    key = "abc"
    with Doors() as doors:
        if CALLERS[caller]["scheme"] == "standard":
            event = post(body, caller=caller, key=key, secret=CALLERS[caller]["secrets"][0], headers=headers)
        else:
            event = knock(caller, body, key=key, headers=headers)
        assert doors.answer(event).status < 500


# --- Slack --------------------------------------------------------------------------------------------------------


def test_a_slash_command_is_acknowledged_and_worked_on(doors: Doors) -> None:
    """Recorded, not posted: the answer waits for nothing; who asked, and where to report, are kept."""
    told = doors.slack("create try-main interval 봄 시즌")
    assert told.startswith("Creating *try-main* … I'll report here.")
    assert doors.posts == 0
    assert doors.record.state is State.RECEIVED
    assert doors.record.command == {"name": "try-main", "description": "봄 시즌", "type": "interval"}
    assert doors.record.requested_by == "slack:U2CERLKJA"
    assert doors.record.reply == {"kind": "slack", "url": USER}
    doors.work()
    assert [record.state for record in doors.ledger.scan()] == [State.CREATED]


def test_a_form_in_base64_is_the_same_form(doors: Doors) -> None:
    """The HTTP API encodes forms: the signature is over the decoded bytes."""
    body = slash("help")
    assert "Usage:" in doors.answer(knock("slack", body, encoded=True)).document["text"]
    event = knock("slack", body)
    assert event["body"] == body.decode()
    assert base64.b64decode(knock("slack", body, encoded=True)["body"]) == body


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("", "Usage:"),
        ("help", "Usage:"),
        ("create", "Which name shall the service have?"),
        ("create 1abc", "'1abc' starts with a digit"),
        ("create shop realtime", "There is no type `realtime`"),
        ("create 추천", "holds '천', '추'"),
        ("create 🎉🎉🎉", "'🎉'"),
        ("create " + "x" * 200, "200 characters"),
        ("create prod-main", "may not create a service named 'prod-main'"),
        ("status", "The status of which service?"),
        ("status try-none", "No request for *try-none* is known here."),
        ("status prod-main", "No request for *prod-main* is known here."),
        ("x" * 200, "There is no command"),
    ],
)
def test_what_is_not_done_is_explained(text: str, has: str, doors: Doors) -> None:
    """Each with 200, in words, and nothing is recorded."""
    assert has in doors.slack(text)
    assert list(doors.ledger.scan()) == []


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ('create try-main "open end', '"open end'),
        ("create try-main “봄 시즌”", "봄 시즌"),
        ("create try-main 🎉 fête", "🎉 fête"),
        ("create try-main " + "설" * 100, "설" * 100),
    ],
)
def test_descriptions_are_taken_as_they_are(text: str, description: str, doors: Doors) -> None:
    """Quotes left open, Korean, an emoji, a hundred characters: all of it is a description."""
    assert "Creating *try-main*" in doors.slack(text)
    assert doors.record.command == {"name": "try-main", "description": description, "type": "batch"}


def test_clicking_twice_makes_one_request(doors: Doors) -> None:
    """The same person and name within ten minutes: told of the first, while it is open and when it has its result."""
    doors.emulator.add_faults(Fault("reset_after", name="try-main"))
    doors.slack("create try-main", trigger="1")
    doors.work()
    doors.clock.advance(20)
    assert "*try-main* is already being created (asked 2" in doors.slack("create try-main", trigger="2")
    assert doors.slack("status try-main").startswith("*try-main* is being worked on (unknown, asked 2")
    assert len(list(doors.ledger.scan())) == 1


def test_asking_again_for_what_was_made_tells_of_it(doors: Doors) -> None:
    """The earlier result, and no other request."""
    doors.slack("create try-main", trigger="1")
    doors.work()
    assert "and it was created: service `" in doors.slack("create try-main", trigger="2")
    assert len(list(doors.ledger.scan())) == 1


def test_clicking_twice_at_once_makes_one_request(doors: Doors) -> None:
    """Before anybody has begun to work on it, too."""
    doors.slack("create try-main", trigger="1")
    assert doors.slack("status try-main").startswith("*try-main* is being worked on (received")
    assert "already being created" in doors.slack("create try-main", trigger="2")


def test_after_ten_minutes_or_for_somebody_else_it_is_a_new_request(doors: Doors) -> None:
    """What is answered then is what AiTEMS says of the name."""
    doors.slack("create try-main", trigger="1")
    doors.work()
    assert "Creating" in doors.slack("create try-main", trigger="2", user_id="U2")
    doors.clock.advance(10 * MINUTE / SECOND + 1)
    assert "Creating" in doors.slack("create try-main", trigger="3")
    assert len(list(doors.ledger.scan())) == 3


def test_after_a_refusal_one_may_ask_again_at_once(doors: Doors) -> None:
    """A name that AiTEMS had and has no more is worth another try."""
    doors.emulator.by_hand("try-main")
    doors.slack("create try-main", trigger="1")
    doors.work()
    assert "Creating" in doors.slack("create try-main", trigger="2")


def test_slack_sends_a_command_again(doors: Doors) -> None:
    """The same trigger is the same request, even if Slack or a proxy repeats it."""
    doors.slack("create try-main", trigger="1")
    assert "Creating *try-main*" in doors.slack("create try-main", trigger="1")
    assert len(list(doors.ledger.scan())) == 1


def test_status_tells_what_became_of_it(doors: Doors) -> None:
    """By name, whoever asked for it and through whichever door."""
    doors.slack("create try-main", trigger="1")
    doors.work()
    (made,) = doors.emulator.services
    assert doors.slack("status try-main") == f"*try-main* is created: service `{made.service_id}`."


@pytest.mark.parametrize("place", [{"team_id": "T2"}, {"channel_id": "C2"}, {"team_id": ""}])
def test_elsewhere_nobody_may_ask(place: dict[str, str], doors: Doors) -> None:
    """The signing secret is the app's; the entry says whose workspace and which channels."""
    assert "not allowed here" in doors.slack("create try-main", **place)
    assert list(doors.ledger.scan()) == []


def test_when_nothing_can_be_recorded_it_is_said(doors: Doors) -> None:
    """In words and with 200: a person reads it, and Slack shows nothing of a 503."""
    doors.ledger.down = True
    assert "nothing was recorded" in doors.slack("create try-main")


def test_where_chats_are_not_replied_to_it_is_said() -> None:
    """Then there is `status`."""
    with Doors() as doors:
        doors.webhook = replace(doors.webhook, say=None)
        assert "Ask `/aitems status try-main`" in doors.slack("create try-main")
        assert doors.record.reply is None


@pytest.mark.parametrize("body", [b"text=a&text=b", b"\xff\xfe=", b"a=" + b"%ff" * 9])
def test_what_is_no_form_is_malformed(body: bytes, doors: Doors) -> None:
    """Signed all the same: 400, not 500."""
    event = knock("slack", body.decode("latin-1").encode())
    assert doors.answer(event).slug == "malformed-request"


def test_json_is_no_slash_command(doors: Doors) -> None:
    """415 for another media type."""
    answer = doors.answer(knock("slack", slash("help"), headers={"content-type": "application/json"}))
    assert answer.status == 415


# --- NAVER WORKS --------------------------------------------------------------------------------------------------


def test_a_message_to_the_bot_is_accepted_and_answered_by_message(doors: Doors) -> None:
    """200 at once; the acknowledgement goes the way of all replies, since NAVER WORKS shows no answer's body."""
    answer = doors.works("create try-main 봄 시즌")
    assert (answer.status, answer.document) == (200, {"status": "accepted"})
    assert doors.record.requested_by == "works:u-1"
    assert doors.record.reply == {"kind": "works", "bot": "2000001", "language": "ko", "user": "u-1"}
    (said,) = doors.said
    assert (said["kind"], said["to"]) == ("say", doors.record.reply)
    assert said["text"].startswith("try-main 서비스를 만들고 있습니다.")
    assert said["request_id"] == doors.record.id


def test_in_a_channel_only_what_names_the_bot_is_meant(doors: Doors) -> None:
    """Others talk there, too; and it is answered in the channel."""
    assert doors.works("create try-main", channelId="c-1").document["status"] == "ignored"
    assert doors.works("aitemsy create try-main", channelId="c-1").document["status"] == "ignored"
    assert doors.said == []
    assert doors.works("AiTEMS create try-main", channelId="c-1").document["status"] == "accepted"
    assert doors.said[0]["to"]["channel"] == "c-1"


@pytest.mark.parametrize("text", ["", "도움말", "삭제 shop", "만들기", "만들기 1abc", "🎉", "만들기 쇼핑몰"])
def test_korean_mistakes_are_answered_in_korean(text: str, doors: Doors) -> None:
    """With the usage."""
    doors.works(text)
    assert "사용법:" in doors.said[0]["text"]
    assert list(doors.ledger.scan()) == []


def test_a_sticker_is_no_command(doors: Doors) -> None:
    """Only texts are read."""
    assert doors.works(None).document == {"status": "ignored", "reason": "not a command"}


@pytest.mark.parametrize(
    "source", [{"userId": "\x7f" * 9000}, {"userId": "u\ud800"}, {"userId": ["u"]}, {"userId": ""}, {"channelId": "가"}]
)
def test_who_cannot_be_answered_asks_for_nothing(source: Json, doors: Doors) -> None:
    """An id that is none would stand in the ledger, in the event and in an address."""
    message = json.dumps(bot_message("aitems create try-main", **source)).encode()
    assert doors.answer(knock("works", message)).document == {"status": "ignored", "reason": "not a command"}
    assert list(doors.ledger.scan()) == []


@pytest.mark.parametrize("name", ["x" * 21, "x" * 9000, "봄", "\ud800", "a b", "1abc"])
def test_the_status_of_what_no_service_can_be_called(name: str, doors: Doors) -> None:
    """It is not looked for: the table has no such key."""
    doors.ledger.down = True
    message = json.dumps(bot_message(f"status {name}")).encode()
    assert doors.answer(knock("works", message)).status == 200
    assert "사용법" in doors.said[-1]["text"]


@pytest.mark.parametrize("off", [-301, 301])
def test_a_message_out_of_its_time_is_refused(off: int, doors: Doors) -> None:
    """``issuedTime`` is all there is of freshness: nothing may be replayed later, or sent ahead."""
    doors.clock.advance(-off)
    answer = doors.answer(knock("works", bot_message("create try-main", issued="2026-11-23T19:38:24.981Z")))
    assert (answer.status, answer.slug) == (401, "signature-refused")
    assert list(doors.ledger.scan()) == []


def test_a_replayed_message_is_the_same_request(doors: Doors) -> None:
    """Who said what to which bot and when: the same again is the same."""
    for _ in range(2):
        doors.answer(knock("works", bot_message("create try-main")))
    assert len(list(doors.ledger.scan())) == 1


def test_another_domain_may_not_ask(doors: Doors) -> None:
    """Told so where they asked."""
    doors.works("create try-main", domainId=7)
    assert "쓸 수 없습니다" in doors.said[0]["text"]
    assert list(doors.ledger.scan()) == []


# --- the rest of the address --------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", ["deploys", "shopfront", "slack", "works"])
def test_only_standard_callers_can_ask_for_a_request(caller: str, doors: Doors) -> None:
    """Any other scheme would sign an empty body the same for ever."""
    event = knock(caller, slash("") if caller == "slack" else bot_message("x"))
    event["pathParameters"]["request_id"] = "a" * 52
    answer = doors.answer(event)
    assert (answer.status, answer.slug) == (404, "unknown-request")


def test_a_rotated_secret_works_at_once() -> None:
    """A signature that no known secret makes has the document read once more."""
    new = "brand-new-secret-0123456789"
    with Doors() as doors:
        doors.slack("help")
        doors.vault.text = json.dumps(CALLERS | {"deploys": CALLERS["deploys"] | {"secrets": [new]}})
        entry = CALLERS["deploys"] | {"secrets": [new]}
        assert doors.answer(knock("deploys", deployment(), entry=entry)).status == 202


def test_the_bodies_limit_is_on_decoded_bytes(doors: Doors) -> None:
    """64 KiB; a longer one is refused before anything is computed over it."""
    body = b'{"a": "' + b"x" * 65_536 + b'"}'
    assert doors.answer(knock("deploys", body, encoded=True)).status == 413
