"""`send` and `events` against a stack that is known by its name only, through CloudFormation, as one on AWS is."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from aitems_bridge.bridge import fingerprint
from aitems_bridge.config import now
from aitems_bridge.errors import NotRecorded
from aitems_bridge.record import HOUR, give_up
from aitems_local import senders
from aitems_local.cli import ENVIRONMENT, OK, REFUSED, UNSETTLED, USAGE, main
from aitems_local.cloud import ACCOUNT, REGION, ROOT_KEY, StackError
from aitems_local.settled import Settled
from aitems_local.stack import Stack
from aitems_local.target import why
from test_doctor import by_path, recorded

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def far(stack: Stack) -> Iterator[Stack]:
    """Return another bridge: nothing of it is in the state folder."""
    with stack.deploy("far" + secrets.token_hex(4), change=by_path(stack.cloud.endpoint)) as deployed:
        yield deployed


@pytest.fixture
def where(far: Stack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the options that name it, with credentials in the environment as AWS's tools take them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", far.cloud.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ROOT_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ROOT_KEY)
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", "/nowhere")
    return ["--stack", far.name, "--region", REGION]


def refused(code: str, operation: str, message: str = "No") -> ClientError:
    """Return what boto3 raises when AWS answers so."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def test_a_webhook_is_signed_with_the_stacks_own_secret(
    far: Stack, where: list[str], name: str, capsys: Output
) -> None:
    """The outcome, told from the ledger, is the event that the bus has, but for the bus's own id."""
    assert main(["send", "webhook", name, "--json", *where]) == OK
    said = json.loads(capsys.readouterr().out)
    assert said["answer"]["status"] == 201
    announced = far.event(event_id=said["event"]["detail"]["metadata"]["event_id"]).event
    # MiniStack rounds the time that it is given.
    assert announced | said["event"] == announced | {"time": said["event"]["time"]}
    assert announced.keys() - said["event"].keys() == {"id"}
    assert far.aitems.services_named(name)


@pytest.mark.parametrize("door", ["github", "hmac", "slack", "works", "bus"])
def test_every_door_is_reached(door: str, far: Stack, where: list[str], name: str, capsys: Output) -> None:
    """A chat's people are made up, so nobody waits for a reply there; the outcome is told all the same."""
    assert main(["send", door, name, *where]) == OK
    out = capsys.readouterr().out
    assert "AiTEMS Service Created" in out
    assert "⇐" not in out
    assert far.aitems.services_named(name)


def test_what_was_settled_before_is_told_again(where: list[str], name: str, capsys: Output) -> None:
    """The same key on the bus is the same request; under it, another request is refused."""
    assert main(["send", "bus", name, "--key", name, *where]) == OK
    first = capsys.readouterr().out.partition("⇒")[2].split()[:6]
    assert main(["send", "bus", name, "--key", name, "--timeout", "1", *where]) == OK
    assert capsys.readouterr().out.partition("⇒")[2].split()[:6] == first
    assert main(["send", "bus", f"{name}x", "--key", name, *where]) == REFUSED
    assert "used for" in capsys.readouterr().out


@pytest.fixture(params=["by name", "by its word"])
def either(
    request: pytest.FixtureRequest, far: Stack, where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Return the options that name it, or none, where it has left word as a local stack does."""
    if request.param == "by name":
        return where
    monkeypatch.setenv("AITEMS_BRIDGE_FOLDER", str(tmp_path))
    far.document.save(tmp_path)
    return []


def test_a_failure_of_long_ago_is_not_taken_for_the_outcome(
    far: Stack, either: list[str], name: str, capsys: Output
) -> None:
    """The same key takes a failed request up again: what is waited for is what comes of that."""
    begun = recorded(name, now() - HOUR)
    assert begun.command
    far.ledger.write(None, give_up(replace(begun, payload_hash=fingerprint(begun.command)), now()))
    assert far.event(request_id=begun.id).kind.endswith("Failed")
    assert main(["send", "webhook", name, "--key", begun.key, "--respond-async", *either]) == OK
    out = capsys.readouterr().out
    assert "← 202" in out
    assert "AiTEMS Service Created" in out


def test_what_takes_longer_is_looked_for_there(far: Stack, where: list[str], name: str, capsys: Output) -> None:
    """4, and the command that looks names the stack too."""
    uuid = far.resources["WorkerFunctionWork"]
    far.cloud.functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    assert main(["send", "webhook", name, "--respond-async", "--timeout", "0.5", *where]) == UNSETTLED
    far.cloud.functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    out = capsys.readouterr().out
    assert "no event within 0.5 s" in out
    assert f"--stack {far.name} --region {REGION}`" in out


def test_events_are_told_from_the_ledger(far: Stack, where: list[str], name: str, capsys: Output) -> None:
    """In the order of settling, as JSON on demand, and only of the time that was asked for."""
    for each in (name, f"{name}b"):
        assert main(["send", "webhook", each, *where]) == OK
    capsys.readouterr()
    assert main(["events", "--json", "--since", "1h", *where]) == OK
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [each["detail"]["request"]["name"] for each in told]
    assert [each for each in names if each.startswith(name)] == [name, f"{name}b"]
    assert main(["events", *where]) == OK
    assert f"{told[-1]['detail']['metadata']['event_id']}" in capsys.readouterr().out
    assert main(["events", "--since", "0s", *where]) == OK
    assert capsys.readouterr().err == "no events in that time\n"
    ends = iter([True, True, False])
    followed = [
        event.metadata["event_id"] for event in Settled(far.ledger, ACCOUNT, REGION, every=0).follow(lambda: next(ends))
    ]
    assert len(followed) == len(set(followed)) >= 2


def test_what_is_not_sent_is_printed(
    far: Stack, where: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """A curl command goes to the stack's address; AWS's session token is printed for nobody."""
    assert main(["send", "webhook", name, "--curl", *where]) == OK
    assert f"{far.webhook_url}/hooks/backoffice" in capsys.readouterr().out
    assert main(["send", "bus", name, "--event", *where]) == OK
    body = json.loads(json.loads(capsys.readouterr().out)["Records"][0]["body"])
    assert (body["account"], body["detail"]["name"]) == (ACCOUNT, name)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")
    assert main(["send", "bus", name, "--curl", *where]) == USAGE
    told = capsys.readouterr()
    assert "use `aws events put-events`" in told.err
    assert "session-token" not in told.out + told.err


def test_who_may_not_read_the_callers_cannot_sign(
    far: Stack, where: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """3, and what is missing; a producer of events needs no callers."""
    iam, user = far.cloud.iam, f"{far.name}-reads"
    iam.create_user(UserName=user)
    allow = {"Effect": "Allow", "Action": ["cloudformation:*", "dynamodb:*", "events:*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_user_policy(UserName=user, PolicyName="reads", PolicyDocument=document)
    made = iam.create_access_key(UserName=user)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
    assert main(["send", "webhook", name, *where]) == ENVIRONMENT
    assert f"you may not ask about the stack {far.name} (GetSecretValue)" in capsys.readouterr().err
    assert main(["send", "bus", name, *where]) == OK


def test_callers_that_are_none(far: Stack, where: list[str], name: str, capsys: Output) -> None:
    """A secret that holds no document: the doctor says more."""
    before = far.cloud.secrets.get_secret_value(SecretId=far.outputs["CallersSecretArn"])["SecretString"]
    far.set_secret("CallersSecretArn", "[]")
    assert main(["send", "webhook", name, *where]) == ENVIRONMENT
    far.set_secret("CallersSecretArn", before)
    assert f"doctor --stack {far.name}" in capsys.readouterr().err


def test_where_a_stack_is_means_nothing_without_one(capsys: Output) -> None:
    """Otherwise the local one would be looked at, which is not what was meant: of an empty variable neither."""
    assert main(["events", "--region", REGION]) == USAGE
    assert "and none is named" in capsys.readouterr().err
    assert main(["events", "--stack", ""]) == USAGE
    assert "--stack wants the name" in capsys.readouterr().err


def test_a_stack_of_something_else(far: Stack, where: list[str], capsys: Output) -> None:
    """It is there, and is not ours, or its first deployment failed: its status says which."""
    other = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    far.cloud.cloudformation.create_stack(StackName=f"{far.name}-other", TemplateBody=other)
    assert main(["doctor", "--stack", f"{far.name}-other", *where[2:]]) == ENVIRONMENT
    assert re.search(r"\(CREATE_\w+\) has no output LedgerTable", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (refused("ExpiredToken", "DescribeStacks"), "sign in again, or say --profile"),
        (refused("AccessDenied", "Scan"), r"you may not ask about the stack x \(Scan\): No"),
        (refused("ValidationError", "DescribeStacks", "Stack with id x does not exist"), "in another --region"),
        (refused("ThrottlingException", "Scan"), "the stack x cannot be read: No"),
        (NoCredentialsError(), "say --profile, or sign in"),
        (NoRegionError(), "Say --region"),
        (ProfileNotFound(profile="p"), "aws configure list-profiles"),
        (UnauthorizedSSOTokenError(), "aws sso login"),
        (EndpointConnectionError(endpoint_url="https://x"), "is the network there"),
        (NotRecorded("ThrottlingException"), r"does not answer \(ThrottlingException\)"),
    ],
)
def test_why_aws_did_not_answer_is_a_sentence(error: Exception, remedy: str) -> None:
    """Each with its remedy: credentials, their end, a right, the region, the network."""
    assert re.search(remedy, why(error, "the stack x"))
    assert "\n" not in why(error, "the stack x")


def test_a_webhook_that_nobody_answers() -> None:
    """The address is named, and no local stack is blamed."""
    request = senders.SignedWebhook("http://nobody.invalid/hooks/x", "x", "key", b"{}", {})
    with pytest.raises(StackError, match=r"nobody\.invalid does not answer \(NameResolutionError\)"):
        request.send()
