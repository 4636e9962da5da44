"""The documents say what is: generated parts are up to date, links lead somewhere, examples run, tests named exist."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from aitems_bridge.callers import read_document
from aitems_bridge.errors import KINDS
from aitems_local import handbook
from aitems_local.demo import show
from aitems_local.picture import PICTURE, lines_in
from aitems_local.stack import Stack
from aitems_local.terminal import Terminal

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

MOST_LINES = 200
REQUESTED = "AiTEMS Service Creation Requested"
SCHEMA_OF = {
    REQUESTED: "service-creation-requested",
    "AiTEMS Service Created": "service-created",
    "AiTEMS Service Creation Rejected": "service-creation-rejected",
    "AiTEMS Service Creation Failed": "service-creation-failed",
}


def relative(path: Path) -> str:
    """Return a path as the repository knows it."""
    return path.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Any]:
    """Return every code block of a language, named after where it stands."""
    found = []
    for path in DOCUMENTS:
        for match in re.finditer(rf"^ *```{language}\n(.*?)^ *```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            line = path.read_text("utf-8")[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{relative(path)}:{line}"))
    return found


def block_with(text: str, document: str = README) -> str:
    """Return the one code block in which ``text`` stands."""
    (found,) = [block for block in re.findall(r"```\w+\n(.*?)```", document, re.DOTALL) if text in block]
    return str(found)


def validate(kind: str, detail: object) -> None:
    """Raise unless an event's detail is as the schema of its detail-type says."""
    schema = json.loads((ROOT / "schemas" / f"{SCHEMA_OF[kind]}.v1.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(detail)


def entries_in(command: str) -> list[Json]:
    """Return the entries that a shell command hands to `aws events put-events`, their details checked."""
    words = shlex.split(command, comments=True)
    entries: list[Json] = json.loads(words[words.index("--entries") + 1])
    for entry in entries:
        validate(entry["DetailType"], json.loads(entry["Detail"]))
    return entries


def bash(
    *arguments: str, folder: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run bash to its end."""
    return subprocess.run(  # noqa: S603  # our own documents
        ["bash", *arguments],  # noqa: S607  # the one on the path, as for a reader
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- what is generated --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["docs/errors.md", "docs/commands.md", "docs/parameters.md", "docs/packages.md", "README.md"]
)
def test_generated_parts_are_up_to_date(path: str) -> None:
    """Kinds of problems, parameters and help are what the code says; `python -m aitems_local.handbook` mends this."""
    expected = handbook.documents()[ROOT / path]
    written = (ROOT / path).read_text("utf-8")
    # Pythons break the lines of a help differently.
    assert written.split() == expected.split(), "run `.venv/bin/python -m aitems_local.handbook`"


def test_every_kind_of_problem_has_its_remedy() -> None:
    """A problem that nobody is told how to deal with is half a problem document."""
    assert set(handbook.REMEDIES) == set(KINDS)


def test_the_readme_knows_every_status() -> None:
    """The table of HTTP answers leaves out no status that a problem can have."""
    table = re.search(r"^\| Status \|.*?\n(?=\n)", README, re.MULTILINE | re.DOTALL)
    assert table
    told = {int(status) for row in table[0].splitlines() for status in re.findall(r"\b\d{3}\b", row.split("|")[1])}
    assert {kind.status for kind in KINDS.values()} | {200, 201, 202} == told


def test_the_readme_is_short() -> None:
    """A newcomer reads it whole."""
    assert len(README.splitlines()) <= MOST_LINES


# --- what is referred to ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file that is there, and a heading in it."""
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text("utf-8")), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_tests_that_are_named_exist(path: Path) -> None:
    """A defence is shown by a test that is there."""
    for file, test in re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", path.read_text("utf-8")):
        assert (ROOT / file).exists(), file
        assert f"def {test}" in (ROOT / file).read_text("utf-8"), f"{file}::{test}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_commands_that_are_named_exist(path: Path) -> None:
    """Every `aitems-bridge COMMAND --option` is one that the command line knows."""
    text = path.read_text("utf-8")
    for command, rest in re.findall(r"(?:`|/|^ *)aitems-bridge ([a-z]+)\b([^`\n#|]*)", text, re.MULTILINE):
        assert command in handbook.command_names()
        helps = [handbook.help_of(*words) for words in handbook.usages() if words[0] == command]
        options = set(re.findall(r"--[a-z-]+", " ".join(helps)))
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= options, f"{command}{rest}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_nothing_of_the_authors_machine_shows(path: Path) -> None:
    """No folder and no address of the machine it was written on."""
    assert not re.search(r"(?<!\w)/(?:work|root|home|tmp|Users)/", path.read_text("utf-8"))


# --- examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks("json"))
def test_json_is_json(text: str) -> None:
    """JSON parses; a whole event obeys its schema, and a callers document has no faulty entry."""
    document = json.loads(text)
    kind = document.get("detail-type")
    if isinstance(kind, str):
        validate(kind, document["detail"])
    elif all(isinstance(entry, dict) and "scheme" in entry for entry in document.values()):
        assert read_document(text).faults == {}


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_are_shell(text: str) -> None:
    """The shell reads every command; nothing is left open."""
    checked = bash("-n", "-c", text)
    assert (checked.returncode, checked.stderr) == (0, "")
    if "--entries '" in text:
        assert entries_in(text[text.rindex("aws events put-events") :])


@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("curl")), reason="needs openssl and curl")
def test_the_readmes_curl_creates_a_service(stack: Stack, name: str, tmp_path: Path) -> None:
    """What a newcomer pastes first is signed rightly: 201, AiTEMS's answer, and the event."""
    stack.document.save(tmp_path / ".aitems-bridge")
    script = block_with("openssl dgst").replace("my-curl", name)
    direct = os.environ | {"NO_PROXY": "127.0.0.1"}
    ran = bash("-eu", "-c", script, folder=tmp_path, environment=direct)
    head, _, body = ran.stdout.replace("\r", "").partition("\n\n")
    assert ran.stderr == ""
    assert re.match(r"HTTP/\S+ 201\b", head)
    assert json.loads(body)["name"] == name
    request_id = re.search(r"^x-request-id: (\w+)$", head, re.IGNORECASE | re.MULTILINE)
    assert request_id
    assert stack.event(request_id=request_id[1]).kind == "AiTEMS Service Created"


def test_the_readmes_event_creates_a_service(stack: Stack, name: str) -> None:
    """The entry of `aws events put-events`, put by an identity that may do only that, ends in an event."""
    (entry,) = entries_in(block_with("aws events put-events --entries '"))
    assert entry["EventBusName"] == stack.name
    detail = json.loads(entry["Detail"]) | {"name": name, "idempotency_key": name}
    answer = stack.document.as_producer().events.put_events(
        Entries=[
            {
                "EventBusName": entry["EventBusName"],
                "Source": entry["Source"],
                "DetailType": entry["DetailType"],
                "Detail": json.dumps(detail),
            }
        ]
    )
    assert answer["FailedEntryCount"] == 0
    assert stack.event(idempotency_key=name, caller=entry["Source"]).kind == "AiTEMS Service Created"


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq, as GitHub's runners have it")
def test_the_workflow_step_puts_a_request(tmp_path: Path) -> None:
    """The step of GitHub Actions runs in a runner's environment, and hands over an event that obeys the schema."""
    (step,) = [step for step in yaml_parse(block_with("configure-aws-credentials"))["steps"] if "run" in step]
    stand_in = tmp_path / "aws"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$0.said"; echo 0\n', "utf-8")
    stand_in.chmod(0o700)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_RUN_ID": "1658821493",
        "GITHUB_RUN_NUMBER": "42",
    }
    ran = bash("-e", "-c", step["run"], environment=environment)
    assert ran.returncode == 0, ran.stderr
    said = (tmp_path / "aws.said").read_text("utf-8").splitlines()
    (entry,) = entries_in(shlex.join(said))
    assert json.loads(entry["Detail"]) == {"name": "ci-42", "idempotency_key": "acme/shop 1658821493"}


def unmeasured(text: str) -> str:
    """Return a line of a showing without what differs from run to run: times, ids, signatures."""
    text = re.sub(r"[+<]*\b[\d.]+ m?s\b", "", text)
    text = re.sub(r"\b[a-z2-7]{12}(?:…|[a-z2-7]{40})", "REQUEST", text)
    text = re.sub(r"\b[a-z0-9]{11}\b", "SERVICE", text)
    return " ".join(re.sub(r"(X-\S+:) \S+…", r"\1 SIGNATURE", text).split())


@pytest.fixture
def shown(stack: Stack) -> str:
    """Return what `make run` shows, of a bridge of its own."""
    said = io.StringIO()
    with stack.deploy("readme") as own:
        assert show(own, Terminal(said), time.monotonic()), said.getvalue()
    return said.getvalue()


def test_the_picture_shows_what_is_shown(shown: str) -> None:
    """Each line of the recording in the README is still printed, and each that is printed is in it, in their order."""
    drawn = [unmeasured(line) for line in lines_in(PICTURE.read_text("utf-8"))]
    printed = [unmeasured(line) for line in shown.splitlines()]
    first, last = drawn.index(printed[0]), drawn.index(printed[-1])
    for line, told in zip(drawn[first : last + 1], printed, strict=True):
        assert told.startswith(line[:-1]) if line.endswith("…") else told == line, (told, line)
