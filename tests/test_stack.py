"""The local stack: the real template, real processes, real permissions, and nothing left behind."""

import json
import os
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from aitems_local import senders
from aitems_local.cloud import Cloud, PortTakenError, StackError, check_port, free_port
from aitems_local.stack import Stack, Template, load_template


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose temporary files are below the folder: what a stack started, however deep."""
    found: list[int] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"TMPDIR={folder}/".encode() in environment:
                found.append(int(process.name))
    return found


def wait_until_gone(folder: Path, seconds: float = 5) -> None:
    """Wait until no process of the folder lives, and the folder is empty."""
    deadline = time.monotonic() + seconds
    while (processes_of(folder) or any(folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(folder) == []
    assert not list(folder.iterdir())


def test_the_template_is_deployed_whole(stack: Stack) -> None:
    """Each resource and each output of the template that applies is there under its own name."""
    template = load_template()
    unconditional = {name for name, resource in template["Resources"].items() if "Condition" not in resource}
    assert unconditional <= set(stack.resources)
    elsewhere = {"OwnDomain"}  # conditions that the local stack does not meet
    expected = {name for name, output in template["Outputs"].items() if output.get("Condition") not in elsewhere}
    assert expected == set(stack.outputs)


def test_every_event_is_copied_whole(stack: Stack, name: str) -> None:
    """The outcomes queue and the journal hold an event as the bus delivered it, envelope included."""
    detail = {"metadata": {"event_id": name, "request_id": name, "caller": "test"}, "data": {"한글": [1.5]}}
    entry = {"Source": "aitems.bridge", "DetailType": "AiTEMS Service Created", "Detail": json.dumps(detail)}
    answer = stack.cloud.events.put_events(Entries=[{"EventBusName": stack.outputs["EventBusName"], **entry}])  # type: ignore[typeddict-item]
    announced = stack.event(request_id=name)
    assert detail == announced.event["detail"]
    assert answer["Entries"][0]["EventId"] == announced.event["id"]
    queued = stack.cloud.sqs.receive_message(
        QueueUrl=stack.outcomes_queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
    )["Messages"]
    assert announced.event in [json.loads(message["Body"]) for message in queued] or stack.queued("outcomes") > 10


def test_a_producer_may_only_put_on_its_bus(stack: Stack) -> None:
    """The identity that `send bus` uses proves the policy that producers are told to have."""
    producer = stack.document.as_producer()
    entry = {"Source": "com.acme", "DetailType": "Nothing the rule matches", "Detail": "{}"}
    bus = stack.outputs["EventBusName"]
    assert producer.events.put_events(Entries=[{"EventBusName": bus, **entry}])["FailedEntryCount"] == 0  # type: ignore[typeddict-item]
    with pytest.raises(ClientError, match="not authorized"):
        producer.events.put_events(Entries=[{"EventBusName": "default", **entry}])  # type: ignore[typeddict-item]
    with pytest.raises(ClientError, match="not authorized"):
        producer.sqs.receive_message(QueueUrl=stack.outputs["QueueUrl"])


def test_a_second_bridge_shares_nothing_but_the_cloud(stack: Stack, name: str) -> None:
    """Bridges with other parameters or a changed template live side by side, each with its own AiTEMS and ledger."""
    other = stack.deploy("second", parameters={"QuietSeconds": "1"})
    try:
        answer = senders.webhook(other.document, senders.service(name)).send()
        assert answer.status == 201, answer.body
        assert len(other.aitems.services_named(name)) == 1
        assert stack.aitems.services_named(name) == ()
        assert other.event(request_id=answer.request_id).kind == "AiTEMS Service Created"
        assert stack.events(answer.request_id) == []
    finally:
        other.stop()


def test_recycled_functions_start_afresh(stack: Stack, name: str) -> None:
    """After recycling, no process that served before serves again: nothing it cached is left."""
    before = set(stack.processes("WebhookFunction"))
    stack.recycle()
    assert senders.webhook(stack.document, senders.service(name)).send().status == 201
    assert before.isdisjoint(stack.processes("WebhookFunction"))


def test_stopping_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process and file of a stack is gone once it has stopped."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Stack.start() as stack:
        folder = stack.cloud.folder
        assert len(processes_of(folder.parent)) >= 3  # the keeper, MiniStack, the webhook that was probed
    assert processes_of(folder.parent) == []
    assert not folder.exists()


def test_a_taken_port_is_named() -> None:
    """A port that somebody else listens on is found before anything is started; the emulator's as well."""
    port = free_port()
    with Cloud(port) as cloud:
        cloud.wait()
        with pytest.raises(PortTakenError, match=f"port {port} is taken"):
            Stack.start(port=port)
        with pytest.raises(PortTakenError, match="is taken"):  # this one, or the one before if that is in use too
            Stack.start(port=port - 1)


def _with_an_unknown_type(template: Template) -> None:
    template["Resources"]["Oddity"] = {"Type": "AWS::EventSchemas::Oddity", "Properties": {}}


def _with_a_wrong_parameter(template: Template) -> None:
    template["Parameters"]["QuietSeconds"]["MinValue"] = 99999


@pytest.mark.parametrize(
    ("change", "said"), [(_with_an_unknown_type, "Oddity"), (_with_a_wrong_parameter, "QuietSeconds")]
)
def test_a_wrong_template_is_a_sentence(stack: Stack, change: object, said: str) -> None:
    """What CloudFormation finds wrong is said in one line that names the file and the place."""
    with pytest.raises(StackError, match=f"template.yaml: .*{said}") as raised:
        stack.deploy(f"wrong-{said.lower()}", change=change)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_code_that_does_not_run_is_a_sentence(stack: Stack, tmp_path: Path) -> None:
    """A function that cannot be imported is found while deploying, with its own words."""
    (tmp_path / "aitems_bridge").mkdir()
    (tmp_path / "aitems_bridge" / "__init__.py").write_text("")
    (tmp_path / "aitems_bridge" / "webhook.py").write_text("import no_such_module\n")
    with pytest.raises(StackError, match="no_such_module"):
        stack.deploy("broken", source=tmp_path)
    (tmp_path / "aitems_bridge" / "webhook.py").write_text("def\n")
    with pytest.raises(StackError, match=r"aitems_bridge/webhook.py does not compile: invalid syntax"):
        stack.deploy("broken-too", source=tmp_path)


def test_nothing_of_the_users_aws_settings_reaches_the_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The functions' environment is the template's: what would exist on this machine only is kept out."""
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    monkeypatch.setenv("AITEMS_SECRET_KEY", "hush")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Cloud() as cloud:
        cloud.wait()
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in processes_of(tmp_path)]
    assert environments
    assert not any(b"AWS_PROFILE" in each or b"hush" in each for each in environments)


def test_a_cloud_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MiniStack's own last words are passed on, and nothing is left of it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Cloud, "_environment", lambda _: {**os.environ, "GATEWAY_PORT": "none"})
    with Cloud() as cloud, pytest.raises(StackError, match="MiniStack did not start: ValueError"):
        cloud.wait()
    assert not list(tmp_path.iterdir())


def test_it_listens_on_loopback_only(stack: Stack) -> None:
    """Nobody on the network can reach what accepts any credentials."""
    sockets = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [line.split()[1] for line in sockets if line.split()[3] == "0A"]
    addresses = [
        address.partition(":")[0] for address in listening if int(address.partition(":")[2], 16) == stack.cloud.port
    ]
    assert addresses == ["0100007F"]
    check_port(free_port())
    assert os.getpid() == stack.document.pid
