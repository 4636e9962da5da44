"""The doctor, at the bedside of a deployed bridge on which each thing is really broken."""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.stub import Stubber

from aitems_bridge.bridge import Order
from aitems_bridge.config import now
from aitems_bridge.errors import Problem
from aitems_bridge.record import HOUR, MINUTE, Numbers, Record, give_up, receive, refuse
from aitems_local import operate, senders, telling
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, main
from aitems_local.cloud import ACCOUNT, REGION, ROOT_KEY, AwsClients
from aitems_local.doctor import Doctor
from aitems_local.faults import Fault
from aitems_local.findings import Finding, Result
from aitems_local.grants import granted
from aitems_local.outside import Outside
from aitems_local.stack import Stack, Template, load_template
from aitems_local.target import Target
from aitems_local.terminal import Terminal
from test_operate import Screen

Output = pytest.CaptureFixture[str]


def by_path(endpoint: str) -> Callable[[Template], None]:
    """Return what has the stack tell its webhook's address by path: MiniStack's own names resolve nowhere."""

    def change(template: Template) -> None:
        url = f"{endpoint}/_aws/execute-api/${{HttpApi}}/%24default"
        template["Outputs"]["WebhookUrl"]["Value"] = {"Fn::Sub": url}

    return change


@pytest.fixture(scope="module")
def sick(stack: Stack) -> Iterator[Stack]:
    """Return a bridge of our own, to be made ill: known by its stack's name and nothing else."""
    topic = {"AlarmTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"}
    name = "dr" + secrets.token_hex(4)
    with stack.deploy(name, parameters=topic, change=by_path(stack.cloud.endpoint)) as deployed:
        # MiniStack looks at no dimension: a new alarm rings for what other tests' functions did a minute ago.
        for alarm in (each for key, each in deployed.resources.items() if key.endswith("ErrorsAlarm")):
            deployed.cloud.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="just made")
        yield deployed


@pytest.fixture
def doctor(sick: Stack) -> Doctor:
    """Return a doctor who sees it for the first time, as somebody who may do everything."""
    return Doctor(Target(AwsClients(sick.cloud.endpoint, REGION, ROOT_KEY, ROOT_KEY), stack=sick.name))


@pytest.fixture
def where(sick: Stack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the options that name it, with credentials in the environment as AWS's tools take them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sick.cloud.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ROOT_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ROOT_KEY)
    return ["--stack", sick.name, "--region", REGION]


def ills(findings: Iterator[Finding]) -> list[tuple[Result, str]]:
    """Return what is not well, and how it is told."""
    return [(finding.result, finding.told) for finding in findings if finding.result is not Result.OK]


def only(findings: Iterator[Finding], result: Result = Result.FAILED) -> Finding:
    """Return the one finding that there is."""
    (finding,) = findings
    assert finding.result is result
    assert (not finding.remedy) == (result is Result.OK)
    return finding


# --- the command --------------------------------------------------------------------------------------------------


def test_a_healthy_bridge_is_well(where: list[str], capsys: Output) -> None:
    """Every check has its line; what is only to be thought about does not fail, unless that is asked for."""
    assert main(["doctor", "--json", *where]) == OK
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(each["check"] for each in found)) == [
        "stack", "clock", "keys", "aitems", "callers", "chat", "door", "functions", "permissions", "sources", "rule",
        "queues", "ledger", "listeners", "alarms",
    ]  # fmt: skip
    assert {each["result"] for each in found if each["check"] != "callers"} == {"ok"}
    assert {each["result"] for each in found if each["check"] == "callers"} == {"ok", "warning"}
    assert main(["doctor", "--strict", *where]) == REFUSED


def test_no_secret_is_ever_shown(sick: Stack, where: list[str], capsys: Output) -> None:
    """Neither what is well nor what is at fault shows a key, a caller's secret or a private key."""
    twisted = {**sick.callers, "odd": {"scheme": "standard", "secrets": ["whsec_shortandwrong"]}}
    with put(sick, "CallersSecretArn", json.dumps(twisted)), put(sick, "KeysSecretArn", '{"access_key":"AKHIDDEN"}'):
        assert main(["doctor", *where]) == REFUSED
    out = capsys.readouterr().out
    held = [secret for entry in twisted.values() for secret in entry["secrets"]]
    assert not [secret for secret in (*held, "AKHIDDEN", "PRIVATE") if secret in out]
    assert "✗ keys        The keys secret must be" in out
    assert "✗ callers     odd: secrets.0: " in out


def test_where_nothing_can_be_looked_at_that_is_said(
    sick: Stack, where: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """An operator who may ask CloudFormation and nothing else gets a line for each check, and no traceback."""
    iam, user = sick.cloud.iam, f"{sick.name}-looks"
    iam.create_user(UserName=user)
    allow = {"Effect": "Allow", "Action": "cloudformation:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_user_policy(UserName=user, PolicyName="look", PolicyDocument=document)
    made = iam.create_access_key(UserName=user)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
    assert main(["doctor", *where]) == OK
    out = capsys.readouterr().out
    assert "? keys        you may not look (GetSecretValue) → ask for that permission" in out
    assert "? permissions you may not look (" in out
    assert "? ledger      you may not look (Scan)" in out
    assert "? aitems      127.0.0.1" in out
    assert "✓ door" in out
    assert main(["doctor", "--strict", *where]) == REFUSED


def test_without_a_stack_there_is_nothing_to_examine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: list[str], capsys: Output
) -> None:
    """No local stack, no such stack, no credentials, no AWS: 3, and the next thing to do."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    assert main(["doctor"]) == ENVIRONMENT
    assert "up` in another terminal" in capsys.readouterr().err
    assert main(["doctor", "--stack", "nobodys", "--region", REGION]) == ENVIRONMENT
    assert "is it in another --region, or account (--profile)?" in capsys.readouterr().err
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main(["doctor", *where]) == ENVIRONMENT
    assert "AWS cannot be asked about the stack" in capsys.readouterr().err


def test_the_local_stack_is_examined_where_none_is_named(
    stack: Stack, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `up` left word of is found without AWS credentials."""
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    stack.document.save(tmp_path)
    main(["doctor"])
    out = capsys.readouterr().out
    assert f"✓ stack       {stack.name} is CREATE_COMPLETE" in out
    assert "✓ aitems      127.0.0.1" in out


def test_on_a_narrow_terminal_the_remedy_stands_beside_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere a finding is one line, however long."""
    finding = Finding(Result.FAILED, "it is far too long for this", "`a --command` that mends it", "keys")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    assert telling.of_finding(Terminal(Screen()), finding).splitlines() == [
        "✗ keys        it is far too long for",
        "              this → `a --command` that",
        "              mends it",
    ]
    assert telling.of_finding(Terminal(StringIO()), finding).count("\n") == 0


# --- where it calls -----------------------------------------------------------------------------------------------


@contextmanager
def put(sick: Stack, output: str, text: str) -> Iterator[None]:
    """Have a secret hold something else for a while."""
    arn = sick.outputs[output]
    before = sick.cloud.secrets.get_secret_value(SecretId=arn)["SecretString"]
    sick.set_secret(output, text)
    try:
        yield
    finally:
        sick.set_secret(output, before)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"access_key":"","secret_key":""}', "not filled in yet"),
        ('{"access_key":"a","secret_key":"b","more":"c"}', "and nothing else"),
        ("access_key=a", "must be"),
        ('{"access_key":"a","secret_key":"b "}', "secret_key holds spaces"),
        ('{"access_key":"a\\n","secret_key":"b"}', "characters that no key has"),
    ],
)
def test_keys_that_cannot_be_keys(text: str, told: str, sick: Stack, doctor: Doctor) -> None:
    """The placeholder, extra members, no JSON, what was copied with a space or a line's end: named, with a command."""
    with put(sick, "KeysSecretArn", text):
        finding = only(Outside(doctor.bridge).keys())
        assert told in finding.told
        assert f"aws secretsmanager put-secret-value --secret-id {sick.outputs['KeysSecretArn']}" in finding.remedy


def test_wrong_keys_are_told_by_aitems_itself(sick: Stack, doctor: Doctor) -> None:
    """A pair that AiTEMS does not know is 401, and the keys are what to look at."""
    with put(sick, "KeysSecretArn", '{"access_key":"wrong","secret_key":"wrong"}'):
        finding = only(Outside(doctor.bridge).aitems())
    assert finding.told.endswith("(401, code 200)")
    assert "two halves of one Sub Account key" in finding.remedy


@pytest.mark.parametrize(
    ("status", "code", "told", "remedy"),
    [
        (401, "210", "not subscribed to AiTEMS", "subscribe the keys' account"),
        (403, "230", "lacks a permission", "create, list and detail"),
        (404, "300", "no such address", "see AitemsBaseUrl, which is http://127.0.0.1"),
        (429, "400", "the quota is used up", "a larger quota"),
        (503, "500", "answers 503", "requests wait"),
    ],
)
def test_what_aitems_refuses_has_its_own_remedy(  # noqa: PLR0917  a table
    status: int, code: str, told: str, remedy: str, sick: Stack, doctor: Doctor
) -> None:
    """Not subscribed, not permitted, a wrong address, a used up quota and an outage are told apart."""
    sick.aitems.add_faults(Fault("error_before", on="list", status=status, code=code))
    finding = only(Outside(doctor.bridge).aitems())
    assert told in finding.told
    assert f"({status}, code {code})" in finding.told
    assert remedy in finding.remedy


def test_an_address_where_somebody_else_answers(sick: Stack, doctor: Doctor) -> None:
    """Whatever is asked of a portal or a parked address, it says 200: it lists no services, so it is not AiTEMS."""
    sick.aitems.add_faults(Fault("broken_json", on="list"))
    finding = only(Outside(doctor.bridge).aitems())
    assert finding.told.endswith("answers 200 with what is no list of services")
    assert "see AitemsBaseUrl, which is http://127.0.0.1" in finding.remedy


def test_an_aitems_that_is_off(sick: Stack, doctor: Doctor) -> None:
    """Nobody listens: that is told, and the clock is judged without it."""
    sick.aitems.stop()
    try:
        assert "does not answer here (" in only(Outside(doctor.bridge).aitems()).told
        assert only(Outside(doctor.bridge).clock(), Result.OK).told.startswith("this machine and AWS agree")
    finally:
        sick.aitems.start()


@pytest.mark.parametrize(("ahead", "result"), [(120, Result.WARNING), (-600, Result.FAILED)])
def test_an_aitems_whose_clock_is_off(ahead: int, result: Result, sick: Stack, doctor: Doctor) -> None:
    """AiTEMS's `Date` tells, also where it refuses the signature for it: five minutes off, nothing can be made."""
    sick.aitems.configure(clock_skew=ahead)
    try:
        told = only(Outside(doctor.bridge).clock(), result).told
        assert told.startswith("AiTEMS's clock is ")
        assert told.endswith("ahead of AWS's" if ahead > 0 else "behind AWS's")
        (finding,) = Outside(doctor.bridge).aitems()
        assert finding.result is (Result.OK if ahead == 120 else Result.FAILED)
    finally:
        sick.aitems.configure(clock_skew=0)


def test_a_machine_whose_clock_is_off(doctor: Doctor) -> None:
    """AWS's `Date` tells: then it is this machine that is to be set, and AiTEMS is not blamed."""
    told = only(Outside(doctor.bridge, lambda: now() - 10 * MINUTE).clock()).told
    assert told.startswith("this machine's clock is ")
    assert told.endswith("behind AWS's")


# --- who may ask --------------------------------------------------------------------------------------------------


def test_callers_who_cannot_be_let_in(sick: Stack, doctor: Doctor) -> None:
    """Each faulty entry is named with where it is wrong; a shut one and a lasting signature are worth a word."""
    entry = {"header": "X-Signature", "key": {"body": "id"}}
    document = {
        "open": {"scheme": "standard", "secrets": ["whsec_" + "A" * 32], "allow": ["a-*"]},
        "none": {"scheme": "standard", "secrets": []},
        "Loud": {"scheme": "standard", "secrets": ["whsec_" + "B" * 32]},
        "shut": {"scheme": "standard", "secrets": ["whsec_" + "C" * 32], "enabled": False, "allow": ["a-*"]},
        "stale": {"scheme": "hmac", "secrets": ["s" * 16], "hmac": entry, "allow": ["a-*"]},
        "twin": {"scheme": "standard", "secrets": ["whsec_" + "A" * 32], "allow": ["a-*"]},
    }
    with put(sick, "CallersSecretArn", json.dumps(document)):
        found = ills(doctor.callers())
    assert [result for result, _ in found] == [Result.FAILED] * 2 + [Result.WARNING] * 3
    assert [told.partition(":")[0] for _, told in found] == [
        "none", "Loud", "shut is shut (enabled is false)", "stale", "twin has a secret in common with open",
    ]  # fmt: skip
    assert "no freshness" in found[3][1]


@pytest.mark.parametrize(("text", "told"), [("{", "is no JSON"), ("[]", "no JSON object"), ("{}", "there are none")])
def test_a_document_without_callers(text: str, told: str, sick: Stack, doctor: Doctor) -> None:
    """No JSON and no object let nobody in; the placeholder lets in nobody either, which may be meant so."""
    with put(sick, "CallersSecretArn", text):
        (finding,) = doctor.callers()
    assert told in finding.told
    assert finding.result is (Result.WARNING if text == "{}" else Result.FAILED)


def test_a_chat_whose_people_hear_nothing(sick: Stack, doctor: Doctor) -> None:
    """A bot without an account, and an account whose private key is none, are named by the bot."""
    bot = sick.callers["works"]["works"]["bot_id"]
    with put(sick, "ChatSecretArn", '{"works":{}}'):
        assert f"under works.{bot}" in only(doctor.chat()).told
    account = {"client_id": "a", "client_secret": "b", "service_account": "c", "private_key": "no key"}
    with put(sick, "ChatSecretArn", json.dumps({"works": {bot: account}})):
        assert f"private_key for bot {bot} is no RSA key" in only(doctor.chat()).told
    for text in ("[]", '{"works":[1]}', "{" * 5000, "no JSON"):
        with put(sick, "ChatSecretArn", text):
            assert "the chat secret is not" in only(doctor.chat()).told


def test_a_bridge_without_chat_replies(stack: Stack) -> None:
    """Whoever asks in a chat is told no outcome there: worth a word. What is not deployed is asked about by nobody."""
    name = "dr" + secrets.token_hex(4)
    change = by_path(stack.cloud.endpoint)
    with stack.deploy(name, parameters={"ChatReplies": "off"}, change=change) as plain:
        clients = AwsClients(plain.cloud.endpoint, REGION, ROOT_KEY, ROOT_KEY)
        found = list(Doctor(Target(clients, stack=plain.name)).examine())
    assert ills(finding for finding in found if finding.check not in ("callers", "alarms")) == [
        (Result.WARNING, "ChatReplies is off, so slack is told no outcome"),
        (Result.WARNING, "ChatReplies is off, so works is told nothing at all"),
    ]


def test_a_door_behind_which_nothing_works(sick: Stack, doctor: Doctor) -> None:
    """A webhook that cannot use its callers answers 503 to all, and the log is named."""
    with put(sick, "CallersSecretArn", "[]"):
        sick.recycle()
        finding = only(doctor.door())
    sick.recycle()
    assert "lets nobody in" in finding.told
    assert sick.resources["WebhookLogs"] in finding.remedy


@pytest.mark.parametrize(
    ("status", "result", "told"),
    [
        (429, Result.WARNING, "turns calls away"),
        (500, Result.FAILED, "answers 500 instead of 404"),
        (404, Result.FAILED, "answers 404 instead of 404"),
    ],
)
def test_a_door_where_somebody_else_answers(status: int, result: Result, told: str) -> None:
    """The HTTP API itself turns calls away, or has no function behind it: a 404 that is not ours is none."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.handle_request, daemon=True).start()
        bridge = cast("Target", SimpleNamespace(webhook_url=url, resources={}))
        assert told in only(Doctor(bridge).door(), result).told
    assert "does not answer (ConnectionError)" in only(Doctor(bridge).door()).told


@pytest.mark.parametrize(
    ("status", "result", "told"),
    [
        ("UPDATE_COMPLETE", Result.OK, "x is UPDATE_COMPLETE"),
        ("IMPORT_COMPLETE", Result.OK, "x is IMPORT_COMPLETE"),
        ("UPDATE_IN_PROGRESS", Result.WARNING, "it is being changed (UPDATE_IN_PROGRESS)"),
        ("UPDATE_ROLLBACK_COMPLETE", Result.WARNING, "the last update was rolled back"),
        ("UPDATE_ROLLBACK_FAILED", Result.FAILED, "x is UPDATE_ROLLBACK_FAILED"),
        ("ROLLBACK_COMPLETE", Result.FAILED, "x is ROLLBACK_COMPLETE"),
        ("DELETE_IN_PROGRESS", Result.FAILED, "x is DELETE_IN_PROGRESS"),
    ],
)
def test_how_the_stack_stands(status: str, result: Result, told: str, sick: Stack) -> None:
    """Whole, being changed, rolled back to what it was, or not to be used."""
    described = {"StackName": "x", "StackStatus": status}
    bridge = SimpleNamespace(described=described, outputs=sick.outputs)
    assert only(Doctor(cast("Target", bridge)).stack(), result).told == told


def test_a_stack_of_another_version() -> None:
    """An output that is missing is named."""
    outputs = {"LedgerTable": "x", "KeysSecretArn": "x"}
    bridge = SimpleNamespace(described={"StackName": "x", "StackStatus": "CREATE_COMPLETE"}, outputs=outputs)
    assert "no output WebhookUrl, EventBusName" in only(Doctor(cast("Target", bridge)).stack()).told


def test_what_a_stack_of_another_version_lacks_stops_no_other_check(doctor: Doctor) -> None:
    """The checks that need it say so, and the others go on."""
    del doctor.bridge.outputs["QueueUrl"], doctor.bridge.parameters["AitemsBaseUrl"]
    found = {finding.check: finding for finding in doctor.examine()}
    assert found["rule"].told == "the stack has no QueueUrl: is it of another version?"
    assert found["aitems"].told == "the stack has no AitemsBaseUrl: is it of another version?"
    assert found["listeners"].result is Result.OK


# --- what runs ----------------------------------------------------------------------------------------------------


def test_a_function_that_was_throttled_to_nothing(sick: Stack, doctor: Doctor) -> None:
    """Somebody stopped it in an emergency and forgot it: the command that undoes that is named."""
    worker = sick.resources["WorkerFunction"]
    sick.cloud.functions.put_function_concurrency(FunctionName=worker, ReservedConcurrentExecutions=0)
    finding = only(doctor.functions())
    sick.cloud.functions.delete_function_concurrency(FunctionName=worker)
    assert "WorkerFunction is throttled to nothing" in finding.told
    assert f"delete-function-concurrency --function-name {worker}" in finding.remedy


def test_a_permission_that_was_taken_away(sick: Stack, doctor: Doctor) -> None:
    """Which role lacks what, on what."""
    iam, role = sick.cloud.iam, sick.resources["RelayRole"]
    whole = iam.get_role_policy(RoleName=role, PolicyName="relay")["PolicyDocument"]
    less: dict[str, Any] = json.loads(json.dumps(whole))
    less["Statement"] = [one for one in less["Statement"] if one["Sid"] != "Announce"]
    iam.put_role_policy(RoleName=role, PolicyName="relay", PolicyDocument=json.dumps(less))
    finding = only(doctor.permissions())
    iam.put_role_policy(RoleName=role, PolicyName="relay", PolicyDocument=json.dumps(whole))
    assert finding.told == f"RelayRole may not events:PutEvents on {sick.outputs['EventBusArn']}"


def test_every_grant_of_the_template_is_asked_about(doctor: Doctor) -> None:
    """Role by role, each action for as many resources as the template names, but for networks and tracing."""
    expected: Counter[tuple[str, str]] = Counter()
    for name, resource in load_template()["Resources"].items():
        properties = resource["Properties"]
        match resource["Type"]:
            case "AWS::IAM::Role":
                roles = [name]
                documents = [each["PolicyDocument"] for each in properties["Policies"] if "PolicyDocument" in each]
            case "AWS::IAM::Policy" if "Ref" in properties["Roles"][0]:
                roles = [role["Ref"] for role in properties["Roles"] if "Ref" in role]
                documents = [properties["PolicyDocument"]]
            case _:
                continue
        for statement in (statement for document in documents for statement in document["Statement"]):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            for action in actions:
                if not action.startswith(("xray:", "ec2:")):
                    expected.update({(role, action): len(resources) for role in roles})
    asked = Counter(
        (role, action)
        for role, each in granted(doctor.bridge).items()
        for actions in each.values()
        for action in actions
    )
    assert expected == asked


@pytest.mark.parametrize("state", ["Active", "Failed"])
def test_a_function_that_failed(sick: Stack, doctor: Doctor, state: str) -> None:
    """With AWS's reason. One that failed as it was made has to be deleted first: AWS makes nothing of it any more."""
    logical = ("RelayFunction", "ReplyFunction", "WebhookFunction", "WorkerFunction")
    names = [sick.resources[each] for each in logical]
    said = {"State": state, "LastUpdateStatus": "Failed", "StateReason": "no such subnet"}
    with Stubber(doctor.bridge.aws.functions) as answers:
        for _ in names:
            answers.add_response("get_function_configuration", said)
            answers.add_response("get_function_concurrency", {})
        found = list(doctor.functions())
    assert [finding.told for finding in found] == [
        f"{each} is {state}, its last update Failed: no such subnet" for each in logical
    ]
    for finding, name in zip(found, names, strict=True):
        assert finding.remedy.endswith("docs/operations.md has how to bring it back")
        assert finding.remedy.startswith(f"`aws lambda delete-function --function-name {name}`") is (state == "Failed")


def test_a_source_that_is_switched_off(sick: Stack, doctor: Doctor) -> None:
    """The relay hears nothing, so nothing is announced: the mapping is named with the command that switches it on."""
    uuid = sick.resources["RelayFunctionLedger"]
    sick.cloud.functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    finding = only(doctor.sources())
    sick.cloud.functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    assert finding.told == f"RelayFunction's source {sick.outputs['LedgerTable']} is Disabled"
    assert f"--uuid {uuid} --enabled" in finding.remedy


def test_a_source_that_fails(sick: Stack, doctor: Doctor, name: str) -> None:
    """The stream is not passed on, time and again: Lambda says so, and the relay's log is named."""
    functions, relay = sick.cloud.functions, sick.resources["RelayFunction"]
    functions.update_function_configuration(FunctionName=relay, Handler="aitems_bridge.nowhere.handler")
    record = replace(recorded(name, now()), version=0)
    sick.ledger.write(None, refuse(record, Problem("refused-by-aitems", "No."), now(), Numbers()))
    finding = within(30, lambda: next(doctor.sources()), lambda found: found.result is Result.FAILED)
    functions.update_function_configuration(FunctionName=relay, Handler="aitems_bridge.relay.handler")
    assert finding.told.startswith("RelayFunction's source ")
    assert sick.resources["RelayLogs"] in finding.remedy
    assert within(30, lambda: next(doctor.sources()), lambda found: found.result is Result.OK).told


def within(seconds: float, look: Callable[[], Finding], wanted: Callable[[Finding], bool]) -> Finding:
    """Return what is found once it is wanted."""
    deadline = time.monotonic() + seconds
    while not wanted(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_a_source_that_is_gone(sick: Stack, doctor: Doctor) -> None:
    """Somebody deleted it: nothing calls the function any more."""
    functions, name = sick.cloud.functions, sick.resources["ReplyFunction"]
    (mapping,) = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    functions.delete_event_source_mapping(UUID=mapping["UUID"])
    assert only(doctor.sources()).told == "ReplyFunction has 0 of 1 event sources"
    functions.create_event_source_mapping(
        FunctionName=name, EventSourceArn=mapping["EventSourceArn"], BatchSize=1,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )  # fmt: skip


def test_a_rule_that_leads_nowhere(sick: Stack, doctor: Doctor) -> None:
    """Switched off, or without its target: a request on the bus reaches nobody."""
    rule, bus = sick.resources["RequestRule"].rpartition("|")[2], sick.outputs["EventBusName"]
    events = sick.cloud.events
    events.disable_rule(Name=rule, EventBusName=bus)
    assert "switched off" in only(doctor.rule()).told
    events.enable_rule(Name=rule, EventBusName=bus)
    targets = events.list_targets_by_rule(Rule=rule, EventBusName=bus)["Targets"]
    events.remove_targets(Rule=rule, EventBusName=bus, Ids=[each["Id"] for each in targets])
    assert "does not lead to the queue" in only(doctor.rule()).told
    events.put_targets(Rule=rule, EventBusName=bus, Targets=targets)
    assert only(doctor.rule(), Result.OK).told


def test_outcomes_that_nobody_hears(sick: Stack, doctor: Doctor) -> None:
    """A rule for something else, or one that is switched off, hears no outcome: worth a word."""
    events, bus = sick.cloud.events, sick.outputs["EventBusName"]
    other = json.dumps({"source": ["com.acme.shop"], "detail": {"x": ["y"]}})
    events.put_rule(Name=f"{sick.name}-other", EventBusName=bus, EventPattern=other)
    events.disable_rule(Name=f"{sick.name}-outcomes", EventBusName=bus)
    assert "listens to the outcomes" in only(doctor.listeners(), Result.WARNING).told
    wide = json.dumps({"source": [{"prefix": "aitems"}], "detail": {"metadata": {"caller": ["a"]}}})
    events.put_rule(Name=f"{sick.name}-other", EventBusName=bus, EventPattern=wide)
    assert only(doctor.listeners(), Result.OK).told.endswith(f"{sick.name}-other")
    events.delete_rule(Name=f"{sick.name}-other", EventBusName=bus)
    events.enable_rule(Name=f"{sick.name}-outcomes", EventBusName=bus)


def test_an_alarm_that_rings(sick: Stack, doctor: Doctor) -> None:
    """It is named as the handbook names it, with CloudWatch's reason."""
    alarm = sick.resources["FailedAlarm"]
    sick.cloud.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="by hand")
    finding = only(doctor.alarms())
    sick.cloud.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="by hand")
    assert finding.told == "FailedAlarm: by hand"


def test_an_alarm_that_was_deleted(sick: Stack, doctor: Doctor) -> None:
    """What is not there does not ring, and is not well for it."""
    watch, alarm = sick.cloud.cloudwatch, sick.resources["RelayLagAlarm"]
    (described,) = cast("list[dict[str, Any]]", watch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"])
    watch.delete_alarms(AlarmNames=[alarm])
    finding = only(doctor.alarms())
    members = ("AlarmName", "Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "ComparisonOperator")
    watch.put_metric_alarm(**{name: described[name] for name in (*members, "Dimensions", "Threshold")})
    assert finding.told == "RelayLagAlarm was deleted"


def test_alarms_that_nobody_hears(stack: Stack) -> None:
    """Without a topic they only stand there; of a local stack nobody expects more."""
    clients = AwsClients(stack.cloud.endpoint, REGION, ROOT_KEY, ROOT_KEY)
    (first, _) = Doctor(Target(clients, stack=stack.name)).alarms()
    assert (first.result, first.told) == (Result.WARNING, "the alarms tell nobody")
    assert only(Doctor(Target(clients, document=stack.document)).alarms(), Result.OK).told


# --- what has piled up --------------------------------------------------------------------------------------------


def test_messages_that_nobody_takes(sick: Stack, doctor: Doctor) -> None:
    """Every queue for what went wrong is told with what to do; they are looked at and not read."""
    names = ("RelayFailures", "RuleDeadLetterQueue", "RepliesDeadLetterQueue")
    for name in names:
        sick.cloud.sqs.send_message(QueueUrl=sick.resources[name], MessageBody="{}")
    found = [finding for finding in doctor.queues() if finding.result is Result.FAILED]
    assert [finding.told for finding in found] == [f"{name} has 1 message" for name in names]
    assert f"redrive --since 24h --stack {sick.name}`" in found[0].remedy
    for name in names:
        (message,) = sick.cloud.sqs.receive_message(
            QueueUrl=sick.resources[name], MessageSystemAttributeNames=["ApproximateReceiveCount"]
        )["Messages"]
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
        sick.cloud.sqs.delete_message(QueueUrl=sick.resources[name], ReceiptHandle=message["ReceiptHandle"])


def test_a_queue_that_was_deleted_by_hand(sick: Stack, doctor: Doctor) -> None:
    """What AWS says of it is told, and the other checks go on."""
    sqs, url = sick.cloud.sqs, sick.resources["RuleDeadLetterQueue"]
    sqs.delete_queue(QueueUrl=url)
    found = [finding for finding in doctor.examine() if finding.check in ("queues", "ledger")]
    sqs.create_queue(QueueName=url.rpartition("/")[2])
    assert [finding.result for finding in found] == [Result.FAILED, Result.OK]
    assert found[0].told.startswith("GetQueueAttributes: ")
    assert found[0].remedy.endswith("docs/operations.md has how to bring it back")


def test_an_old_message_in_a_queue_that_is_worked_on(sick: Stack, doctor: Doctor) -> None:
    """CloudWatch says for how long: longer than a quarter of an hour is worth a word."""
    mapping = sick.resources["WorkerFunctionWork"]
    sick.cloud.functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    name = sick.resources["Queue"].rpartition("/")[2]
    sick.cloud.sqs.send_message(QueueUrl=sick.resources["Queue"], MessageBody="{}")
    for age in (60.0, 1000.0):  # below QueueAgeAlarm, which would ring for every test after this one
        assert only(doctor.queues(), Result.OK).told
        told: Any = {"MetricName": "ApproximateAgeOfOldestMessage", "Value": age}
        told["Dimensions"] = [{"Name": "QueueName", "Value": name}]
        sick.cloud.cloudwatch.put_metric_data(Namespace="AWS/SQS", MetricData=[told])
    finding = only(doctor.queues(), Result.WARNING)
    sick.cloud.sqs.purge_queue(QueueUrl=sick.resources["Queue"])
    sick.cloud.functions.update_event_source_mapping(UUID=mapping, Enabled=True)
    assert finding.told == "Queue has 1 waiting, the oldest for 16 min"


def recorded(name: str, asked: int) -> Record:
    """Return a request that was recorded then, for now."""
    command = {"name": name, "description": "", "type": "batch"}
    order = Order("standard", "hook:backoffice", name, "backoffice", command, "0" * 64)
    return receive(order.fresh(asked, 0), asked)


def test_a_request_that_waits_for_a_person(sick: Stack, doctor: Doctor, name: str) -> None:
    """How many, which is the oldest and why, and the command that says what another try would mean."""
    asked = now() - 3 * HOUR
    record = give_up(recorded(name, asked), now())
    sick.ledger.write(None, record)
    finding = only(doctor.ledger())
    assert finding.told.startswith(f"1 failed for a person: the oldest is {name}, asked 3 h ago: ")
    assert f"redrive {record.id} --dry-run --stack {sick.name}`" in finding.remedy
    operate.resolve_rejected(sick.ledger, record, "tidied up", now=now(), numbers=Numbers())
    assert only(doctor.ledger(), Result.OK).told


def test_an_item_that_somebody_wrote_by_hand(sick: Stack, doctor: Doctor, where: list[str], capsys: Output) -> None:
    """It is said, and stops nobody from seeing to the others."""
    item = {"pk": {"S": "request#byhand"}, "state": {"S": "settled"}}
    sick.cloud.dynamodb.put_item(TableName=sick.outputs["LedgerTable"], Item=item)
    found = ills(doctor.ledger())
    for arguments in (["requests"], ["redrive", "--all", "--dry-run"], ["requests", "byha"], ["requests", "byhand"]):
        assert main([*arguments, *where]) in (OK, REFUSED)
        assert "cannot be read" in capsys.readouterr().err
    sick.cloud.dynamodb.delete_item(TableName=sick.outputs["LedgerTable"], Key={"pk": item["pk"]})
    assert found == [(Result.FAILED, "request#byhand cannot be read")]


def test_a_request_that_nobody_comes_for(sick: Stack, doctor: Doctor, name: str) -> None:
    """Open, and its time is long over: the relay was broken when it was written."""
    mapping = sick.resources["RelayFunctionLedger"]
    sick.cloud.functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    record = recorded(name, now() - 10 * MINUTE)
    sick.ledger.write(None, record)
    finding = only(doctor.ledger())
    sick.cloud.functions.update_event_source_mapping(UUID=mapping, Enabled=True)
    assert finding.told == f"1 received and nobody comes for it: the oldest is {name}, asked 10 min ago"
    assert f"redrive --all --dry-run --stack {sick.name}`" in finding.remedy
    forget(sick, record.id, name)


def forget(sick: Stack, request_id: str, name: str) -> None:
    """Take a request out of the ledger, as nobody should: the next test finds the bridge well."""
    for key in (f"request#{request_id}", f"name#{name}"):
        sick.cloud.dynamodb.delete_item(TableName=sick.outputs["LedgerTable"], Key={"pk": {"S": key}})


def test_requests_that_wait_for_aitems(sick: Stack, doctor: Doctor, name: str) -> None:
    """The bridge goes on by itself, and why it has not come further is worth a word."""
    sick.aitems.add_faults(Fault("error_before", name=name, status=403, code="230"))
    answer = senders.webhook(sick.document, {"name": name}).send()
    assert answer.status == 202
    finding = only((each for each in doctor.ledger() if each.result is not Result.OK), Result.WARNING)
    forget(sick, str(answer.request_id), name)
    assert finding.told.startswith("1 received and still under way: the oldest is ")
    assert "lacks a permission" in finding.told
