"""The command line, as a person or a script uses it."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest
from standardwebhooks import Webhook

from aitems_local import senders
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, UNSETTLED, USAGE, main
from aitems_local.cloud import PortTakenError, check_port, free_port
from aitems_local.console.words import Voice
from aitems_local.document import ROOT, StackDocument
from aitems_local.emulator import Emulator
from aitems_local.entries import standard_secret
from aitems_local.senders import masked
from aitems_local.stack import Stack
from test_stack import wait_until_gone

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which the shared stack has left word, for the commands to find."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    stack.document.save(tmp_path)
    return tmp_path


def free_ports() -> int:
    """Return a port that is free together with those that a stack takes beside it."""
    while True:
        port = free_port()
        try:
            for beside in (port + 1, port + 2, port + 3):
                check_port(beside)
        except PortTakenError:
            continue
        return port


class Command:
    """`aitems-bridge` as a process of its own, with a temporary folder and a state folder of its own."""

    def __init__(self, tmp_path: Path, *arguments: str, **environment: str) -> None:
        self.temporary, self.state = tmp_path / "tmp", tmp_path / "state"
        self.temporary.mkdir()
        path = os.pathsep.join(str(ROOT / part) for part in ("src", "local"))
        self.process = subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, "-m", "aitems_local.cli", *arguments],
            env=os.environ
            | {"TMPDIR": str(self.temporary), "AITEMS_BRIDGE_FOLDER": str(self.state), "PYTHONPATH": path}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Return the next line of its standard output."""
        assert self.process.stdout
        return self.process.stdout.readline()

    def end(self, number: int | None = None) -> tuple[int, str, str]:
        """Send a signal, if one is given, and return the exit code and both outputs once it has ended."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def command(tmp_path: Path) -> Iterator["type[_Starter]"]:
    """Start a command; whatever is still running at the end of the test is killed."""
    _Starter.started = []
    _Starter.tmp_path = tmp_path
    yield _Starter
    for each in _Starter.started:
        if each.process.poll() is None:
            each.end(signal.SIGKILL)


class _Starter:
    started: list[Command]
    tmp_path: Path

    @classmethod
    def start(cls, *arguments: str, **environment: str) -> Command:
        """Start it."""
        cls.started.append(Command(cls.tmp_path, *arguments, **environment))
        return cls.started[-1]


# --- up -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_says_where_everything_is_and_stops_when_told(command: type[_Starter], number: int) -> None:
    """One line of JSON once everything answers, nothing else on stdout; a signal then ends it with 0 and no trace."""
    up = command.start("up", "--port", "0", "--json")
    said = json.loads(up.line())
    assert said["webhook_url"].startswith(f"{said['aws_endpoint']}/_aws/execute-api/")
    assert {
        "region", "event_bus", "ledger_table", "queue_url", "dlq_url", "outcomes_queue_url", "aitems_url",
    } <= said.keys()  # fmt: skip
    assert said["callers"]["backoffice"]["secrets"][0].startswith("whsec_")
    with urlopen(said["console_url"], timeout=10) as page:  # noqa: S310  our own
        assert b"aitems-bridge" in page.read()
    left = up.state / "stack.json"
    assert said == json.loads(left.read_text())
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    exit_code, out, err = up.end(number)
    assert (exit_code, out) == (0, "")
    assert said["callers"]["backoffice"]["secrets"][0] not in err
    assert list(up.state.iterdir()) == []
    wait_until_gone(up.temporary)


def test_up_takes_another_aitems_and_other_callers(command: type[_Starter], tmp_path: Path) -> None:
    """It calls the AiTEMS it is given, with those keys, and lets in whom the file names; a broken entry stays out."""
    secret = standard_secret()
    callers = {"other": {"scheme": "standard", "secrets": [secret]}, "broken": {"scheme": "standard", "secrets": []}}
    path = tmp_path / "callers.json"
    path.write_text(json.dumps(callers))
    with Emulator(access_key="AK", secret_key="SK") as aitems:
        arguments = ["--aitems-url", aitems.url, "--access-key", "AK", "--callers", str(path), "--port", "0", "--json"]
        up = command.start("up", *arguments, AITEMS_SECRET_KEY="SK")
        assert json.loads(up.line())["callers"] == callers
        document = StackDocument.load(up.state)
        assert senders.webhook(document, senders.service("shop-main")).send().status == 201
        assert [service.name for service in aitems.services] == ["shop-main"]
        let_in = {"broken": {"scheme": "standard", "secrets": [secret]}}
        refused = senders.webhook(replace(document, callers=let_in), senders.service("shop-two")).send()
        assert refused.status == 503
        assert len(aitems.services) == 1
        with urlopen(document.console_url, timeout=10) as page:  # noqa: S310  our own
            assert Voice("en").markup("no-emulator") in page.read().decode()
        assert up.end(signal.SIGTERM)[0] == OK


@pytest.mark.parametrize("after", [0.05, 0.3, 0.6, 0.9, 1.3, 2.2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_up_killed_half_way_leaves_nothing_running(command: type[_Starter], after: float, number: int) -> None:
    """However early, late or hard it is killed: no process and no file of it is left."""
    up = command.start("up", "--port", "0")
    time.sleep(after)
    exit_code, _, _ = up.end(number)
    assert exit_code in ({-signal.SIGKILL} if number == signal.SIGKILL else {0, 128 + number, -number})
    wait_until_gone(up.temporary)


def test_up_says_so_when_its_cloud_ends(command: type[_Starter]) -> None:
    """When MiniStack is killed from outside, `up` ends too, with a line and code 3."""
    up = command.start("up", "--port", "0", "--json")
    up.line()
    port = json.loads((up.state / "stack.json").read_text())["aws_endpoint"].rpartition(":")[2]
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(up.process.pid):
            try:
                environment = (process / "environ").read_bytes()
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if f"GATEWAY_PORT={port}".encode() in environment and b"keeper" not in words and b"ministack\0" in words:
                os.kill(int(process.name), signal.SIGKILL)
    exit_code, _, err = up.end()
    assert exit_code == ENVIRONMENT
    assert "MiniStack has stopped by itself" in err
    wait_until_gone(up.temporary)


def test_up_without_the_console(command: type[_Starter]) -> None:
    """Whoever wants no page, gets none, and the document says so."""
    up = command.start("up", "--port", "0", "--no-console", "--json")
    assert json.loads(up.line())["console_url"] == ""
    assert up.end(signal.SIGTERM)[0] == OK


def test_up_names_a_taken_port(folder: Path, stack: Stack, capsys: Output) -> None:
    """Who has the port, and what to do about it, in one line."""
    assert folder.exists()
    port = stack.cloud.port
    assert main(["up", "--port", str(port)]) == ENVIRONMENT
    expected = (
        f"aitems-bridge: port {port} is taken (by another aitems-bridge, pid {os.getpid()}): stop it or use --port"
    )
    assert capsys.readouterr().err.startswith(expected)
    assert main(["demo", "--port", str(port)]) == ENVIRONMENT
    assert "stop it or use make run PORT=4680" in capsys.readouterr().err
    first = free_ports()
    with socket.create_server(("127.0.0.1", first + 2)):
        assert main(["up", "--port", str(first)]) == ENVIRONMENT
    assert f"port {first + 2} is taken: stop it or use --port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("{", "is no JSON"),
        ("[]", "must be one object"),
        ('{"a": "' + 70_000 * "x" + '"}', "64 KiB"),
    ],
)
def test_up_refuses_a_bad_callers_file(tmp_path: Path, capsys: Output, text: str | None, said: str) -> None:
    """A callers document that no secret can hold is refused, in a line, before anything is started."""
    path = tmp_path / "callers.json"
    if text is not None:
        path.write_text(text)
    assert main(["up", "--port", "0", "--callers", str(path)]) == ENVIRONMENT
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--aitems-url", "http://127.0.0.1:1"],
        ["--aitems-url", "http://127.0.0.1:1", "--access-key", "AK"],
        ["--aitems-url", "http://aitems.example.com", "--access-key", "AK"],
        ["--aitems-url", "https://aitems.example.com/api/v1", "--access-key", "AK"],
        ["--access-key", "AK"],
    ],
)
def test_up_refuses_half_an_aitems(monkeypatch: pytest.MonkeyPatch, capsys: Output, arguments: list[str]) -> None:
    """Another AiTEMS needs an origin and both keys: the secret one from the environment, never from the arguments."""
    monkeypatch.delenv("AITEMS_SECRET_KEY", raising=False)
    assert main(["up", "--port", "0", *arguments]) == USAGE
    assert capsys.readouterr().err.count("\n") == 1


# --- send ---------------------------------------------------------------------------------------------------------


def test_send_webhook_shows_the_answer_and_the_event(folder: Path, stack: Stack, name: str, capsys: Output) -> None:
    """A created service ends in 0; the same request again shows the same answer and event, and makes nothing."""
    assert folder.exists()
    arguments = ["send", "webhook", name, "--description", "봄", "--type", "interval", "--key", f"k-{name}"]
    assert main(arguments) == OK
    out = capsys.readouterr().out
    (made,) = stack.aitems.services_named(name)
    assert "← 201" in out
    assert f"AiTEMS Service Created  {stack.ledger.last_of(name).id}.created  service {made.service_id}" in out  # type: ignore[union-attr]
    assert (made.description, made.type) == ("봄", "interval")
    assert main([*arguments, "--json"]) == OK
    again = json.loads(capsys.readouterr().out)
    assert again["answer"]["body"]["serviceId"] == again["event"]["detail"]["data"]["serviceId"] == made.service_id
    assert len(stack.aitems.services_named(name)) == 1


def test_send_bus_shows_the_event(folder: Path, stack: Stack, name: str, capsys: Output) -> None:
    """On the bus there is no answer: what is shown is what was put and what was announced."""
    assert folder.exists()
    assert main(["send", "bus", name, "--caller", "com.acme.test", "--key", f"k-{name}"]) == OK
    out = capsys.readouterr().out
    assert "→ PutEvents" in out
    assert "⇒ event  AiTEMS Service Created" in out
    assert len(stack.aitems.services_named(name)) == 1


@pytest.mark.parametrize("door", ["webhook", "bus"])
def test_send_ends_in_1_when_refused(folder: Path, door: str, capsys: Output) -> None:
    """A name that breaks the rules is refused, by the answer or by an event."""
    assert folder.exists()
    assert main(["send", door, "1", "--timeout", "20"]) == REFUSED
    assert "The request does not describe a service" in capsys.readouterr().out


def test_send_ends_in_4_when_nothing_is_settled_in_time(folder: Path, name: str, capsys: Output) -> None:
    """Waiting has an end, and that end is no failure of the request."""
    assert folder.exists()
    assert main(["send", "bus", name, "--timeout", "0"]) == UNSETTLED
    assert "no event within 0 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["bus", "abc", "--wait", "3"],
        ["bus", "abc", "--respond-async"],
        ["webhook", "abc", "--caller", "nobody"],
        ["mail"],
    ],
)
def test_send_refuses_what_makes_no_sense(folder: Path, arguments: list[str]) -> None:
    """Usage errors end in 2, and send nothing."""
    assert folder.exists()
    assert main(["send", *arguments]) == USAGE


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("door", ["webhook", "bus"])
def test_the_curl_command_works_as_printed(folder: Path, stack: Stack, name: str, door: str, capsys: Output) -> None:
    """`--curl` sends nothing; the command that it prints does, freshly signed."""
    assert folder.exists()
    assert main(["send", door, name, "--description", 'it\'s "quoted" $HOME', "--curl"]) == OK
    command = capsys.readouterr().out
    assert stack.aitems.services_named(name) == ()
    subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602  as a person would
    assert stack.journal.wait(lambda event: event.event["detail"]["data"].get("name") == name, 30)
    assert [service.description for service in stack.aitems.services_named(name)] == ['it\'s "quoted" $HOME']


def test_the_printed_invocation_is_really_signed(folder: Path, stack: Stack, name: str, capsys: Output) -> None:
    """`--event` prints what the function gets, with a signature that the caller's own library accepts."""
    assert folder.exists()
    assert main(["send", "webhook", name, "--event"]) == OK
    event = json.loads(capsys.readouterr().out)
    Webhook(stack.callers["backoffice"]["secrets"][0]).verify(event["body"], event["headers"])
    assert main(["send", "bus", name, "--event"]) == OK
    record = json.loads(capsys.readouterr().out)["Records"][0]
    assert json.loads(record["body"])["detail"]["name"] == name
    assert stack.aitems.services_named(name) == ()


# --- events, requests ---------------------------------------------------------------------------------------------


def test_events_and_requests_show_what_happened(folder: Path, stack: Stack, name: str, capsys: Output) -> None:
    """Both print a line for each, or JSON; neither takes anything away from other readers."""
    assert folder.exists()
    assert main(["send", "webhook", name]) == OK
    capsys.readouterr()
    (made,) = stack.aitems.services_named(name)
    assert main(["events", "--since", "1m"]) == OK
    assert f"service {made.service_id}" in capsys.readouterr().out
    assert main(["events", "--json"]) == OK
    assert made.service_id in [
        json.loads(line)["detail"]["data"].get("serviceId") for line in capsys.readouterr().out.splitlines()
    ]
    assert main(["requests", name]) == OK
    assert f"created   {name}" in capsys.readouterr().out
    assert main(["requests", "--state", "created", "--json"]) == OK
    assert name in [json.loads(line)["service"]["name"] for line in capsys.readouterr().out.splitlines()]
    assert main(["requests", "nosuchname"]) == REFUSED


def test_events_follow_until_told_to_stop(command: type[_Starter], folder: Path, stack: Stack, name: str) -> None:
    """A follower sees an event when it comes, and ends with 0 when it is told to."""
    following = command.start("events", "--follow", "--since", "1m", AITEMS_BRIDGE_FOLDER=str(folder))
    assert main(["send", "bus", name, "--key", name]) == OK
    request_id = stack.event(idempotency_key=name).metadata["request_id"]
    while request_id not in (line := following.line()):
        assert line, "it ended"
    assert following.end(signal.SIGINT)[0] == OK


@pytest.mark.parametrize("arguments", [["send", "webhook", "abc"], ["events"], ["requests"]])
def test_without_a_stack_it_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, arguments: list[str]
) -> None:
    """No stack, or one that was killed, is a line and code 3."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    assert main(arguments) == ENVIRONMENT
    assert "aitems-bridge up" in capsys.readouterr().err


# --- the rest -----------------------------------------------------------------------------------------------------


def test_demo_shows_each_door_and_stops(command: type[_Starter]) -> None:
    """`make run ONCE=1`: each door, each mishap, all counted, then stopped; no colour where nobody looks."""
    demo = command.start("demo", "--once", "--port", str(free_ports()))
    exit_code, out, err = demo.end()
    assert (exit_code, err) == (OK, ""), out + err
    assert out.count("✓") == 9
    assert "All doors work: 7 requests, 7 services, 7 events, 0 duplicates." in out
    assert out.endswith("stopped\n")
    assert "\x1b" not in out
    wait_until_gone(demo.temporary)


def test_secrets_are_masked() -> None:
    """Two characters tell secrets apart; more is nobody's business."""
    assert masked("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") == "whsec_Mf…"
    assert masked("hush-hush-hush-hush-4711") == "hu…"
    assert masked("k1iB8CUnT5aQe55eCX_WBq7") == "k1…"


def test_a_missing_dependency_is_a_sentence(tmp_path: Path) -> None:
    """Without the development requirements, the command says what to run."""
    (tmp_path / "botocore.py").write_text('raise ModuleNotFoundError("No module named botocore", name="botocore")\n')
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src"), str(ROOT / "local")])
    ended = subprocess.run(
        [sys.executable, "-m", "aitems_local.cli", "events"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (ENVIRONMENT, "botocore is not installed: run `make setup`\n")
