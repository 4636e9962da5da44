"""What `send` makes up, signs and sends again; the chats on loopback; and what `callers` tells an operator."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from aitems_bridge.callers import read_document
from aitems_local import caller_commands, payloads, senders, signing
from aitems_local.chats import Chats
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, USAGE, main
from aitems_local.cloud import UsageError
from aitems_local.document import ROOT
from aitems_local.stack import Stack, default_callers
from knock import CALLERS, TIMED, bot_message, caller_of, lower
from world import NOW, SIGNED_AT

Json = dict[str, Any]
Output = pytest.CaptureFixture[str]
EVENTS = ROOT / "events"


@pytest.fixture
def folder(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which the shared stack has left word, for the commands to find."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    stack.document.save(tmp_path)
    return tmp_path


# --- bodies -------------------------------------------------------------------------------------------------------

ASKED = {"name": "shop-main", "description": "봄"}


@pytest.mark.parametrize("caller", ["backoffice", "gitlab", "deploys", "shopfront", "payments"])
def test_a_made_up_body_is_what_the_mapping_finds(caller: str) -> None:
    """A mapping read backwards: the door reads the request, and ``when`` is true."""
    asked = {"name": "rel-1" if caller == "gitlab" else "shop-main", "description": "봄"}
    body = payloads.hook_body(caller, CALLERS[caller], asked, "k-1")
    entry = caller_of(CALLERS[caller])
    assert entry.wants(body)  # type: ignore[union-attr]
    found, _ = entry.asked(body)  # type: ignore[union-attr]
    assert asked.items() <= found.items()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"mapping": {"name": "items[0].name"}}, "items[0].name"),
        ({"mapping": {"name": "to_string(a)"}}, "to_string(a)"),
        ({"mapping": {"name": "join('-', ['rel', a])"}}, "it makes names like rel-…"),
        ({"mapping": {"name": "a"}, "when": "b > `3`"}, "b > `3`"),
        ({"mapping": {"name": "a"}, "when": "a == 'other'"}, "a"),
    ],
)
def test_what_cannot_be_made_up_is_to_be_recorded(members: Json, why: str) -> None:
    """Said with the way out: `--file`."""
    with pytest.raises(UsageError, match="--file") as error:
        payloads.hook_body("c", CALLERS["backoffice"] | members, {"name": "shop-main"}, "k")
    assert why in str(error.value)


def test_a_field_that_no_mapping_finds_is_refused() -> None:
    """Nobody would see that it was not sent."""
    with pytest.raises(UsageError, match="finds no type"):
        payloads.hook_body("shopfront", CALLERS["shopfront"], {"name": "shop-a", "type": "batch"}, "k")


def test_the_default_callers_are_valid() -> None:
    """One of each scheme, with other secrets at every start."""
    one, other = default_callers(), default_callers()
    assert read_document(json.dumps(one)).faults == {}
    assert [entry["scheme"] for entry in one.values()] == ["standard", "github", "hmac", "slack", "works"]
    assert not {entry["secrets"][0] for entry in one.values()} & {entry["secrets"][0] for entry in other.values()}


@pytest.mark.parametrize("entry", [TIMED, *CALLERS.values()], ids=["timed", *CALLERS])
def test_what_is_signed_is_let_in(entry: Json) -> None:
    """Signatures are made apart from how they are verified, and agree."""
    body = json.dumps({"id": "x"}).encode()
    assert caller_of(entry).verify(body, lower(signing.signed("c", entry, body, "key-1", SIGNED_AT)), NOW) in (
        "",
        "key-1",
    )


@pytest.mark.parametrize("entry", [{}, {"scheme": "basic", "secrets": ["x"]}, {"scheme": "github", "secrets": ["x"]}])
def test_an_entry_that_cannot_be_signed_for(entry: Json) -> None:
    """A sentence, not a traceback."""
    with pytest.raises(UsageError):
        signing.signed("c", entry, b"{}", "k")


# --- send ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("door", ["github", "hmac", "slack", "works"])
def test_send_shows_answer_event_and_reply(door: str, name: str, capsys: Output) -> None:
    """Through every door, with 0 once it is created."""
    assert main(["send", door, name, "--description", "봄 시즌"]) == OK
    shown = capsys.readouterr().out
    assert "→ POST /hooks/" in shown
    assert "⇒ event  AiTEMS Service Created" in shown
    assert shown.count(f"⇐ {door}") == {"slack": 1, "works": 2}.get(door, 0)


@pytest.mark.usefixtures("folder")
def test_send_to_a_chat_tells_of_a_mistake(capsys: Output) -> None:
    """Answered in words; nothing is recorded, so nothing is waited for."""
    assert main(["send", "slack", "1abc"]) == REFUSED
    assert "starts with a digit" in capsys.readouterr().out
    assert main(["send", "works", "1abc"]) == REFUSED
    assert "사용법" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("door", "file"),
    [
        ("github", "webhook-github.json"),
        ("hmac", "webhook-hmac.json"),
        ("slack", "webhook-slack.json"),
        ("works", "webhook-works.json"),
        ("webhook", "webhook-standard.json"),
        ("bus", "worker-bus.json"),
    ],
)
def test_what_was_recorded_is_sent_again(door: str, file: str, name: str, tmp_path: Path, capsys: Output) -> None:
    """Signed anew with this stack's secret; another name, so that nobody's service is in the way."""
    event = json.loads((EVENTS / file).read_text("utf-8"))
    if door == "slack":
        recorded = tmp_path / "body"
        body = senders.Recorded.read(EVENTS / file).body
        recorded.write_bytes(body.replace(b"try-main", name.encode()).replace(b"398738663015", name.encode()))
    else:
        text = json.dumps(event, ensure_ascii=False)
        for known in ("shop-main", "ci-models", "try-main", "blog-main"):
            text = text.replace(known, name)
        for key in ("72d3162e", "b54557e4", "msg_2KWP", "order-4711"):
            text = text.replace(key, name)
        text = text.replace('\\"handle\\": \\"main\\"', f'\\"handle\\": \\"{name}\\"')
        recorded = tmp_path / "recorded.json"
        recorded.write_text(text, "utf-8")
    assert main(["send", door, "--file", str(recorded)]) == OK, capsys.readouterr()
    assert "AiTEMS Service Created" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["slack"], "say a NAME, or --file"),
        (["github", "x", "--file", "y"], "not both"),
        (["github", "--file", "y", "--type", "batch"], "go with a NAME"),
        (["slack", "abc", "--wait", "3"], "told later"),
        (["works", "abc", "--key", "k"], "brings no key"),
        (["hmac", "abc", "--caller", "slack"], "caller slack is a slack caller: `.venv/bin/aitems-bridge send slack"),
        (["hmac", "abc", "--type", "batch"], "finds no type"),
    ],
)
def test_send_says_what_makes_no_sense(arguments: list[str], why: str, capsys: Output) -> None:
    """With the exit code for usage."""
    assert main(["send", *arguments]) == USAGE
    assert why in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("door", ["github", "hmac", "slack", "works"])
def test_send_prints_instead(door: str, name: str, stack: Stack, capsys: Output) -> None:
    """A curl command, or the function's event: freshly signed."""
    assert main(["send", door, name, "--curl"]) == OK
    assert capsys.readouterr().out.startswith("curl -sS -i -X POST http://127.0.0.1:")
    assert main(["send", door, name, "--event"]) == OK
    event = json.loads(capsys.readouterr().out)
    caller = event["pathParameters"]["caller"]
    read = read_document(json.dumps(stack.callers)).callers[caller]
    moment = event["requestContext"]["timeEpoch"]
    assert isinstance(read.verify(event["body"].encode(), event["headers"], moment), str)


# --- the chats ----------------------------------------------------------------------------------------------------


@pytest.fixture
def chats() -> Iterator[Chats]:
    """Give Slack and NAVER WORKS."""
    with Chats() as running:
        yield running


def post(url: str, **options: Any) -> requests.Response:  # noqa: ANN401  # what requests takes
    """Post past any proxy."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(url, timeout=5, **options)


def test_a_response_url_takes_five_messages(chats: Chats) -> None:
    """As Slack's does; other commands have their own."""
    url = f"{chats.url}/commands/T1/1"
    assert [post(url, json={"text": "x"}).status_code for _ in range(6)] == [200] * 5 + [404]
    assert post(f"{chats.url}/commands/T1/2", json={"text": "x"}).status_code == 200


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"blocks": [{"type": "section"}]},
        {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]},
    ],
)
def test_slack_checks_its_blocks(message: Json, chats: Chats) -> None:
    """What Slack would refuse is refused, and not remembered."""
    assert post(f"{chats.url}/commands/T1/1", json=message).status_code == 400
    assert chats.said == []


def grant(chats: Chats, *, key: str | None = None, **changes: object) -> requests.Response:
    """Ask for a token as a service account does."""
    account = chats.account.secret()
    now = time.time()
    claims = {"iss": account["client_id"], "sub": account["service_account"], "iat": int(now), "exp": int(now) + 600}
    claims |= {name: value for name, value in changes.items() if name in claims}
    form = {
        "assertion": jwt.encode(claims, key or account["private_key"], algorithm="RS256"),
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "client_id": account["client_id"],
        "client_secret": changes.get("client_secret", account["client_secret"]),
        "scope": "bot",
    }
    return post(f"{chats.url}/oauth2/v2.0/token", data=form)


def test_works_gives_a_token_for_a_signed_assertion(chats: Chats) -> None:
    """And takes messages for that token only, of 1 to 2,000 characters."""
    token = grant(chats).json()["access_token"]
    url = f"{chats.url}/v1.0/bots/1/users/u%401/messages"
    message = {"content": {"type": "text", "text": "안녕"}}
    assert post(url, json=message).status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    assert post(url, json=message, headers=headers).status_code == 201
    assert [(said.to, said.text) for said in chats.said] == [("users/u@1", "안녕")]
    too_long = {"content": {"type": "text", "text": "x" * 2001}}
    assert post(url, json=too_long, headers=headers).status_code == 400


def test_works_gives_no_token_to_anybody_else(chats: Chats) -> None:
    """Another key, another account, an end too far off, a wrong secret."""
    other = Chats()
    foreign = other.account.secret()["private_key"]
    other.start()
    other.stop()
    assert grant(chats, key=foreign).status_code == 401
    assert grant(chats, sub="other").status_code == 401
    assert grant(chats, exp=9_999_999_999).status_code == 401
    assert grant(chats, exp=1).status_code == 401
    assert grant(chats, client_secret="wrong").status_code == 400
    assert chats.tokens == set()


# --- callers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["standard", "github", "hmac", "slack", "works"])
def test_new_prints_an_entry_that_is_valid(scheme: str, capsys: Output) -> None:
    """With a fresh secret, and on the side what is still to be done."""
    printed = []
    for _ in range(2):
        assert main(["callers", "new", "mine", "--scheme", scheme]) == OK
        out, err = capsys.readouterr()
        assert err.strip()
        printed.append(json.loads(out))
        assert read_document(out).faults == {}
    one, other = (entry["mine"]["secrets"] for entry in printed)
    assert one != other


def test_new_refuses_a_name_that_could_not_be_called(capsys: Output) -> None:
    """Before anybody puts it into the secret."""
    assert main(["callers", "new", "Mine"]) == USAGE
    assert "small letter" in capsys.readouterr().err


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Return the contract's callers document as a file."""
    path = tmp_path / "callers.json"
    path.write_text(json.dumps(CALLERS), "utf-8")
    return path


def test_check_says_what_each_entry_accepts(document: Path, capsys: Output) -> None:
    """And no secret of it; what an operator should know is said below."""
    assert main(["callers", "check", str(document)]) == OK
    shown = capsys.readouterr().out
    for name, entry in CALLERS.items():
        assert f"✓ {name}  {entry['scheme']}" in shown
        assert all(secret not in shown for secret in entry["secrets"])
    assert "events deployment" in shown
    assert "X-Shopify-Webhook-Id) is not signed" in shown
    assert "no freshness" in shown


def test_check_shows_what_is_wrong(tmp_path: Path, capsys: Output) -> None:
    """Entry by entry, with 1; two callers with one secret are a warning."""
    path = tmp_path / "callers.json"
    shared = {
        "scheme": "github",
        "secrets": ["0123456789abcdef"],
        "github": {"events": ["push"]},
        "mapping": {"name": "a"},
    }
    path.write_text(json.dumps({"a": shared, "b": shared, "c": {"scheme": "slack"}, "D": {}}), "utf-8")
    assert main(["callers", "check", str(path)]) == REFUSED
    shown = capsys.readouterr().out
    assert "! has a secret in common with a" in shown
    assert "✗ c  secrets" in shown
    assert "✗ D  the name must be" in shown
    assert main(["callers", "check", str(path), "--json"]) == REFUSED
    told = json.loads(capsys.readouterr().out)
    assert (sorted(told["callers"]), sorted(told["faults"])) == (["a", "b"], ["D", "c"])


@pytest.mark.parametrize("text", ["", "[]", '{"a": {}, "a": {}}'])
def test_check_of_what_is_no_document(text: str, tmp_path: Path, capsys: Output) -> None:
    """A sentence, and the code for what is in the way."""
    path = tmp_path / "callers.json"
    path.write_text(text, "utf-8")
    assert main(["callers", "check", str(path)]) == ENVIRONMENT
    assert capsys.readouterr().err.startswith("aitems-bridge: ")
    assert main(["callers", "check", str(tmp_path / "none")]) == ENVIRONMENT


def trial(
    document: Path, caller: str, body: bytes, capsys: Output, headers: Json | None = None
) -> tuple[int, list[str]]:
    """Return what `callers check --payload` says of a body."""
    payload, kept = document.parent / "payload", document.parent / "headers"
    payload.write_bytes(body)
    arguments = ["callers", "check", str(document), "--payload", str(payload), "--caller", caller]
    if headers is not None:
        kept.write_text(json.dumps(headers), "utf-8")
        arguments += ["--headers", str(kept)]
    code = main(arguments)
    return code, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["github", "hmac", "slack", "works", "standard"])
def test_check_of_a_recorded_delivery(name: str, document: Path, capsys: Output) -> None:
    """The signature first, whenever it was made; then what the door would make of it."""
    recorded = senders.Recorded.read(EVENTS / f"webhook-{name}.json")
    caller = json.loads((EVENTS / f"webhook-{name}.json").read_text("utf-8"))["pathParameters"]["caller"]
    code, lines = trial(document, caller, recorded.body, capsys, dict(recorded.headers))
    assert code == OK, lines
    assert lines[0].startswith("✓ signature ")
    assert any(line.startswith("✓ request") for line in lines)
    code, lines = trial(document, caller, recorded.body + b" ", capsys, dict(recorded.headers))
    assert code == REFUSED
    assert lines[0].startswith("✗ signature ")


def test_check_shows_what_a_mapping_makes(document: Path, capsys: Output) -> None:
    """Found, not found, ignored, not allowed: each with its reason."""
    body = {"deployment": {"task": "aitems", "payload": {"name": 7}}}
    code, lines = trial(document, "deploys", json.dumps(body).encode(), capsys)
    assert code == REFUSED
    assert "(from deployment.payload.name)" in lines[-1]
    body["deployment"]["payload"] = {"name": "prod"}
    assert trial(document, "deploys", json.dumps(body).encode(), capsys)[1][-1].endswith("not among the names allowed")
    body["deployment"]["task"] = "deploy"
    code, lines = trial(document, "deploys", json.dumps(body).encode(), capsys)
    assert (code, "'when' is not true" in lines[-1]) == (OK, True)
    code, lines = trial(document, "deploys", b"[]", capsys)
    assert (code, "400 malformed-request" in lines[-1]) == (REFUSED, True)


def test_check_of_chat_commands(document: Path, capsys: Output) -> None:
    """What the command means, and from where it may come."""
    message = json.dumps(bot_message("만들기"), ensure_ascii=False).encode()
    code, lines = trial(document, "works", message, capsys)
    assert (code, any("서비스 이름을 적어 주세요" in line for line in lines)) == (OK, True)
    elsewhere = json.dumps(bot_message("만들기 abc", domainId=7)).encode()
    code, lines = trial(document, "works", elsewhere, capsys)
    assert (code, lines[0]) == (REFUSED, "✗ place     7, u-1 may not ask")


def test_check_asks_whose_payload_it_is(document: Path, capsys: Output) -> None:
    """Where there are several; and --caller alone says nothing."""
    assert main(["callers", "check", str(document), "--payload", str(document)]) == USAGE
    assert "say --caller" in capsys.readouterr().err
    assert main(["callers", "check", str(document), "--caller", "slack"]) == USAGE
    assert main(["callers", "check", str(document), "--payload", str(document), "--caller", "none"]) == USAGE


def test_every_fresh_entry_is_known_to_the_command_line() -> None:
    """A scheme that is added is added here, too."""
    assert all(caller_commands.fresh_entry(scheme)["scheme"] == scheme for scheme in senders.SCHEMES.values())
