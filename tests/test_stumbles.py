"""What a newcomer or a tired person does wrong at the command line: one line that names the remedy, and a true code."""

import io
import json
import os
import re
import secrets
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, cast

import pytest

from aitems_bridge.bridge import Order
from aitems_bridge.errors import Problem, Violation
from aitems_bridge.ledger import Ledger
from aitems_bridge.record import HOUR, Numbers, Record, State, refuse
from aitems_local import commands, operate, senders, telling
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, USAGE, main
from aitems_local.cloud import REGION, ROOT_KEY, StackError, UsageError
from aitems_local.document import StackDocument
from aitems_local.operate import Refusal
from aitems_local.stack import Stack
from aitems_local.terminal import Terminal, typed

Output = pytest.CaptureFixture[str]

NOW = 1_700_000_000_000


@pytest.fixture
def folder(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which the shared stack has left word, for the commands to find."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    stack.document.save(tmp_path)
    return tmp_path


def recorded(name: str | None, request_id: str | None = None) -> Record:
    """Return a request that was rejected as it came: it never held its name, and nobody works on it."""
    command = {"name": name, "description": "", "type": "batch"} if name else None
    order = Order("bus", "bus:1:com.acme.test", secrets.token_hex(8), "com.acme.test", command, "0" * 64)
    fresh = order.fresh(NOW, HOUR)
    fresh = replace(fresh, id=request_id) if request_id else fresh
    return refuse(fresh, Problem("refused-by-aitems", "No."), NOW, Numbers())


def unique(*records: Record) -> Ledger:
    """Return a ledger of these, under whose names none stands."""

    class Known:
        def get(self, request_id: str) -> Record | None:
            return next((record for record in records if record.id == request_id), None)

        def last_of(self, _: str) -> None:
            return None

        def scan(self, _: object = None) -> tuple[Record, ...]:
            return records

    return cast("Ledger", Known())


def strict(text: str) -> object:
    """Return what JSON says; what only Python takes for JSON is refused."""

    def refused(constant: str) -> NoReturn:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refused)


# --- a key that was used ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("door", ["webhook", "bus", "slack", "github"])
def test_a_reused_key_shows_no_event_of_another(door: str, stack: Stack, name: str, capsys: Output) -> None:
    """The event of the request that has the key is not shown: code 1. The true repetition is as before."""
    key = f"k-{name}"
    assert main(["send", door, name, "--key", key]) == OK
    capsys.readouterr()
    assert main(["send", door, f"{name}other", "--key", key]) == REFUSED
    out = capsys.readouterr().out
    assert "AiTEMS Service Created" not in out
    assert "used for" in out
    assert stack.aitems.services_named(f"{name}other") == ()
    assert main(["send", door, name, "--key", key]) == OK
    assert "AiTEMS Service Created" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_a_mistake_in_a_chat_under_a_used_key_is_refused(name: str, capsys: Output) -> None:
    """Slack is answered 200 whatever was typed: that a request has the key does not make the mistake one."""
    assert main(["send", "slack", name, "--key", f"k-{name}"]) == OK
    capsys.readouterr()
    assert main(["send", "slack", "1abc", "--key", f"k-{name}"]) == REFUSED
    assert "⇒" not in capsys.readouterr().out


# --- what is told -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_every_wrong_field_is_told(capsys: Output) -> None:
    """Where the event is shown, where events are listed and where requests are: field and detail, a line each."""
    lines = [
        "name: '1abc' starts with a digit; start with a letter or '_'",
        "type: 'real' is not one of batch, interval",
    ]
    assert main(["send", "bus", "1abc", "--type", "real"]) == REFUSED
    sent = capsys.readouterr().out
    assert main(["events", "--since", "1m"]) == OK
    events = capsys.readouterr().out
    assert main(["requests"]) == OK
    requests = capsys.readouterr().out
    for told in (sent, events, requests):
        assert all(line in map(str.strip, told.splitlines()) for line in lines)
    assert re.search(r"^[0-9:]{8}Z  \S+  rejected  \(invalid\) ", requests, re.MULTILINE)


def test_when_is_told_in_utc_with_its_date_where_it_is_not_today() -> None:
    """A time without a zone, or without a day, is told wrongly sooner or later."""
    assert telling.moment(1_700_000_000, 1_700_000_100) == "22:13:20Z"
    assert telling.moment(1_700_000_000, 1_700_100_000) == "2023-11-14 22:13:20Z"


def test_a_request_is_told_with_when_it_was_asked_and_what_was_wrong() -> None:
    """The columns stand under each other, also where no name was valid."""
    record = recorded(None)
    record = replace(
        record, problem=Problem("invalid-request", "x", errors=(Violation("#/name", "type", "is no text"),))
    )
    first, field = telling.of_request(Terminal(io.StringIO()), record, NOW / 1000)
    assert first.startswith(f"22:13:20Z  {record.id}  rejected  (invalid)             bus com.acme.test  attempts 0  x")
    assert field.strip() == "name: is no text"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_request_json_is_json_whatever_was_said(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, in what the output can write: numbers beyond all numbers, half a pair, an answer over many lines."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    answer = '{\r\n "serviceId": "v1",\n "size": 1e400, "name": "\\ud800 봄 😀"\n}'
    record = replace(recorded("abc"), answer=answer, doubt=True, due=NOW, key="봄")
    text = telling.request_json(record)
    assert "\n" not in text
    assert "1e400" in text
    told = cast("dict[str, object]", strict(text.encode(encoding).decode(encoding)))
    assert told["service"] == json.loads(answer)
    assert (told["idempotency_key"], told["in_doubt"], told["due_at"]) == ("봄", True, "2023-11-14T22:13:20.000Z")
    assert told["request_id"] == record.id
    assert told["attempts"] == 0
    assert not told.keys() & {"doubt", "due", "scope", "payload_hash", "version", "key", "id"}


def test_a_number_beyond_all_numbers_is_null() -> None:
    """What the bus already made of it is no JSON; the line is."""
    assert telling.json_line({"a": [float("inf"), 1.5, "봄"]}) == '{"a": [null, 1.5, "봄"]}'


# --- which request ------------------------------------------------------------------------------------------------


def test_an_id_may_be_cut_as_it_is_shown() -> None:
    """How it begins will do, with the ellipsis or without, and so will the id of its event."""
    one, other = recorded("abc", "abcdefgh" + 44 * "2"), recorded("def", "abcdezzz" + 44 * "2")
    ledger = unique(one, other)
    for which in (one.id, one.id[:12], f"{one.id[:12]}…", f"{one.id[:12]}….created", f"{one.id}.failed-1", "ABCDEF"):
        assert operate.find(ledger, which) is one
    with pytest.raises(Refusal, match="2 requests begin with abcde: write more of the id"):
        operate.find(ledger, "abcde…")
    for which in ("…", "", "abc…", ".", "zzzz"):
        assert operate.find(ledger, which) is None


def test_a_name_is_found_whose_request_never_held_it() -> None:
    """The newest of that name, in any case; a name comes before the beginning of an id."""
    older, newer = recorded("Shop-main"), replace(recorded("shop-main"), requested_at=NOW + 1)
    by_id = recorded("def", "shop" + 48 * "2")
    assert operate.find(unique(older, newer, by_id), "SHOP-MAIN") is newer
    assert operate.find(unique(recorded("shop"), by_id), "shop").name == "shop"  # type: ignore[union-attr]


@pytest.mark.usefixtures("folder")
def test_commands_take_the_beginning_of_an_id(stack: Stack, name: str, capsys: Output) -> None:
    """All that take an id do; one that is not unique is said to be so, and nothing is done."""
    begins = secrets.token_hex(4).translate(str.maketrans("0189", "abcd"))
    one, other = recorded(name, f"{begins}a{'2' * 43}"), recorded(f"{name}b", f"{begins}b{'2' * 43}")
    for record in (one, other):
        stack.ledger.write(None, record)
    for arguments in (["requests"], ["redrive", "--dry-run"], ["resolve", "--rejected", "no"]):
        assert main([*arguments, f"{begins}a…"]) == OK
        assert one.id in capsys.readouterr().out
        assert main([*arguments, f"{begins}…"]) == REFUSED
        assert capsys.readouterr().err == f"2 requests begin with {begins}: write more of the id\n"
    assert main(["requests", name, "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["request_id"] == one.id
    assert main(["requests", name, "--state", "failed"]) == REFUSED
    assert capsys.readouterr().err == f"{name} is rejected, not failed\n"


def test_who_waits_for_a_name_is_found_with_who_has_it() -> None:
    """In the order of asking, and what is settled waits for nothing; who asks by an id means that request only."""
    has, settled, other = recorded("shop"), recorded("shop"), recorded("blog")
    first, second = (replace(recorded("shop"), state=State.RECEIVED, requested_at=NOW + after) for after in (1, 2))
    ledger = unique(second, settled, has, other, first, replace(other, id="x", state=State.RECEIVED))
    assert operate.waiting_for(ledger, has, "SHOP") == [first, second]
    assert operate.waiting_for(ledger, first, "shop") == [second]
    assert operate.waiting_for(ledger, has, has.id) == []


def test_requests_of_a_deployed_stack_are_shown(
    stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """Whoever redrives on AWS has to see what there is; what is lacking to get there is said."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack.cloud.endpoint)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, ROOT_KEY)
    stack.ledger.write(None, recorded(name))
    assert main(["requests", name, "--stack", stack.name, "--region", REGION]) == OK
    assert f"rejected  {name}" in capsys.readouterr().out
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["requests", "--stack", stack.name]) == ENVIRONMENT
    assert "Say --region" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_what_others_say_on_the_bus_is_no_announcement(stack: Stack, name: str, capsys: Output) -> None:
    """Anybody may name the bridge as an event's source; the commands pass it over and go on."""
    assert main(["send", "bus", name, "--caller", "aitems.bridge"]) == OK
    assert name not in [event.event["detail"].get("name") for event in stack.journal.read()]
    assert main(["events"]) == OK
    assert capsys.readouterr().err == ""


# --- hints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "path", "said"),
    [
        (".venv/bin/aitems-bridge", "", ".venv/bin/aitems-bridge up"),
        ("../my place/aitems-bridge", "", "'../my place/aitems-bridge' up"),
        ("{folder}/aitems-bridge", "{folder}", "aitems-bridge up"),
        ("{folder}/aitems-bridge", "", "{folder}/aitems-bridge up"),
        ("/usr/lib/python/cli.py", "{folder}", ".venv/bin/aitems-bridge up"),
    ],
)
def test_a_hint_can_be_typed(
    called: str, path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command is named as this one was called, by its bare name only where that is found."""
    (tmp_path / "aitems-bridge").touch(mode=0o755)
    monkeypatch.setenv("PATH", path.format(folder=tmp_path))
    monkeypatch.setattr(sys, "argv", [called.format(folder=tmp_path)])
    assert typed("up") == said.format(folder=tmp_path)


def test_where_the_secrets_are_is_told(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """They are masked on the terminal, and the file that has them is named as it is typed there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path / ".aitems-bridge"))
    commands._introduce(Terminal(sys.stdout), stack.document)  # noqa: SLF001  what `up` says once it is ready
    out = capsys.readouterr().out
    assert "the whole secrets: .aitems-bridge/stack.json\n" in out
    assert all(entry["secrets"][0] not in out for entry in stack.callers.values())


def test_a_second_stack_gives_the_commands_back(
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """Two may run; commands go to the later one, which says so, and to the earlier one again when that has stopped."""

    def stopped(later: Stack) -> NoReturn:
        assert StackDocument.load(folder) == later.document
        raise StackError("so")

    monkeypatch.setattr(commands, "_stay", stopped)
    assert main(["up", "--port", "0"]) == ENVIRONMENT
    assert "commands go to this one" in capsys.readouterr().err
    assert StackDocument.load(folder) == stack.document


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"scheme": "slack", "secrets": ["x"]}, "caller c is a slack caller: `.venv/bin/aitems-bridge send slack …`"),
        (
            {"scheme": "standard", "secrets": ["x"]},
            "caller c is a standard caller: `.venv/bin/aitems-bridge send webhook",
        ),
        ({"scheme": "github", "secrets": []}, "caller c has no secret to sign with"),
        ({"scheme": "basic"}, "caller c has no scheme that is known"),
        ("x", "caller c has no scheme that is known"),
    ],
)
def test_why_nobody_can_send_as_a_caller(stack: Stack, entry: object, why: str) -> None:
    """The cause that holds, and no other."""
    document = replace(stack.document, callers={"c": entry})
    with pytest.raises(UsageError) as error:
        senders.delivery(document, "github", {"name": "abc"}, caller="c")
    assert str(error.value).startswith(why)


def test_a_caller_of_the_scheme_is_wanted(stack: Stack) -> None:
    """Without a name, the first that can sign is meant; if none can, why."""
    entry = {"scheme": "standard", "secrets": []}
    with pytest.raises(UsageError, match="caller c has no secret"):
        senders.webhook(replace(stack.document, callers={"c": entry}), {"name": "abc"})
    both = {"c": entry, "d": stack.callers["backoffice"]}
    assert senders.webhook(replace(stack.document, callers=both), {"name": "abc"}).caller == "d"
    with pytest.raises(UsageError, match="there is no standard caller to send as; there are: none"):
        senders.webhook(replace(stack.document, callers={}), {"name": "abc"})


# --- what is typed wrongly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "COMMAND"),
        ("sned webhook abc", "COMMAND is not 'sned': did you mean send?"),
        ("xyz", "say one of up, demo, send"),
        ("send mail abc", "say one of webhook, github"),
        ("up --port abc", "a port is a number from 0 to 65532"),
        ("up --port 65533", "a port is a number from 0 to 65532"),
        ("up --port ٣", "a port is a number from 0 to 65532"),
        ("demo --port -1", "a port is a number from 0 to 65532"),
        ("up --port", "expected one argument"),
        ("up extra", "too much: extra"),
        ("send webhook abc --wait x", "a number of whole seconds"),
        ("send webhook abc --timeout nan", "a number of seconds"),
        ("send webhook abc --timeout 1e9", "a number of seconds"),
        ("send webhook abc --colour", "there is no --colour"),
        ("send webhook \udcff", "name is no UTF-8 text"),
        ("events --since infd", "write 90s, 15m, 1h or 2d"),
        ("redrive --since nanm", "write 90s, 15m, 1h or 2d"),
        ("requests --state faild", "did you mean failed?"),
        ("resolve abc", "--created"),
        ("callers", "check|new"),
    ],
)
def test_wrong_usage_is_one_line(line: str, why: str, capsys: Output) -> None:
    """It says what would be right, leads to the help that says more, and names nothing of the code's insides."""
    assert main(line.split(" ") if line else []) == USAGE
    error = capsys.readouterr().err
    assert why in error
    assert re.search(r"\(`\.venv/bin/aitems-bridge( \w+)* --help` says more\)$", error)
    assert error.count("\n") == 1
    assert not re.search(r"_\w+ value|int value|float value|Traceback", error)


def unanswering(stack: Stack) -> str:
    """Return the word that a stack has left whose process lives, and which nobody answers for."""
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:9", replace(stack.document, pid=os.getpid()).json())


@pytest.mark.parametrize(
    "arguments",
    [["send", "webhook", "abc"], ["send", "slack", "abc"], ["send", "bus", "abc"], ["requests"], ["redrive", "--all"]],
)
def test_a_stack_that_does_not_answer(
    stack: Stack, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """One line that says what to start, code 3."""
    (tmp_path / "stack.json").write_text(unanswering(stack))
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    assert main(arguments) == ENVIRONMENT
    error = capsys.readouterr().err
    assert "does not answer" in error
    assert "start `.venv/bin/aitems-bridge up` again" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("left", ["{", "[]", '{"pid": "x"}', None])
def test_a_damaged_word_or_a_wrong_folder(
    left: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """Whatever stands where a stack leaves word: a line, and code 3."""
    path = tmp_path / "stack.json"
    if left is not None:
        path.write_text(left)
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path if left is not None else Path(__file__)))
    for arguments in (["requests"], ["events"], ["send", "webhook", "abc"], *([] if left else [["up", "--port", "0"]])):
        assert main(arguments) == ENVIRONMENT
        error = capsys.readouterr().err
        assert "is damaged" in error if left else "AITEMS_BRIDGE_FOLDER names the folder" in error
        assert error.count("\n") == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("content", [b"\xff\xfe", b"no JSON", b"[" * 60_000, b"[1]"])
def test_a_file_that_holds_something_else(content: bytes, tmp_path: Path, capsys: Output) -> None:
    """Whoever sends it is told, through every door: by us before it is sent, or by the answer."""
    path = tmp_path / "file"
    path.write_bytes(content)
    for door in ("webhook", "github", "hmac", "slack", "works", "bus"):
        assert main(["send", door, "--file", str(path)]) in (USAGE, REFUSED)
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 or "← 4" in captured.out
    assert main(["callers", "check", str(path)]) == ENVIRONMENT
    assert main(["up", "--callers", str(path), "--port", "0"]) == ENVIRONMENT
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.usefixtures("folder")
def test_a_key_that_no_header_holds(capsys: Output) -> None:
    """It is told before anything is sent; the bus, which has no headers, takes it and refuses it as its rules say."""
    for key in ("한글", "a\nb"):
        assert main(["send", "webhook", "abc", "--key", key]) == USAGE
        assert "printable ASCII" in capsys.readouterr().err
        assert main(["send", "bus", "abc", "--key", key]) == REFUSED
        assert "printable ASCII" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_send_says_that_it_was_sent(
    number: int, name: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """Ctrl-C ends the waiting and not the request; the code is the signal's."""

    def interrupted(_: object) -> NoReturn:
        signal.raise_signal(number)
        time.sleep(5)
        raise AssertionError

    monkeypatch.setattr(senders.BusEvent, "send", interrupted)
    assert main(["send", "bus", name]) == 128 + number
    assert f"look with `.venv/bin/aitems-bridge requests {name}`" in capsys.readouterr().err


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "/x"), StackError("so"), OSError("full")])
def test_what_the_system_refuses_is_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: Output, folder: Path
) -> None:
    """A file that may not be read, a full disk: code 3, no traceback."""
    assert folder.exists()

    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(StackDocument, "load", fail)
    assert main(["events"]) == ENVIRONMENT
    assert re.fullmatch(r"aitems-bridge: (/x: Permission denied|so|full)\n", capsys.readouterr().err)
