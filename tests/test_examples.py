"""The programs in `docs/examples/` do what they say: run as they are, with real events and at the real doors."""

import copy
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

import pytest
from moto.events.models import EventPattern
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]
from standardwebhooks import Webhook

import consume
import produce
from aitems_local import senders
from aitems_local.cloud import REGION, ROOT_KEY
from aitems_local.stack import Stack
from conversation import Conversation
from world import ROOT

if TYPE_CHECKING:
    from moto.events.utils import EventMessageType

Json = dict[str, Any]

EXAMPLES = ROOT / "docs" / "examples"
RULE: Json = json.loads((EXAMPLES / "rule.json").read_text("utf-8"))
LOOK = {
    ".py": ("-c", "import call, json; print(json.dumps(call.look('%s')))"),
    ".mjs": (
        "--input-type=module",
        "-e",
        "import { look } from './call.mjs'; console.log(JSON.stringify(Object.values(await look('%s'))))",
    ),
}
"""How a program of one's own would use the caller."""
OUTCOMES = {
    "created": "created",
    "adopted": "created",
    "rejected": "rejected",
    "rejected-as-it-came": "rejected",
    "failed": "failed",
}
NODE = shutil.which("node")
with_node = pytest.mark.skipif(NODE is None, reason="needs node")
CALLERS = [
    pytest.param([sys.executable, "call.py"], id="python"),
    pytest.param([NODE or "node", "call.mjs"], id="javascript", marks=with_node),
]


def run(*command: str, environment: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run a program of the examples to its end and return what it printed."""
    usual = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ran = subprocess.run(  # noqa: S603  # our own examples
        command,
        cwd=EXAMPLES,
        env=usual | {"NO_PROXY": "127.0.0.1"} | (environment or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def matches(event: Json, pattern: Json = RULE) -> bool:
    """Whether EventBridge hands an event to whom the pattern is for, by its rules of matching."""
    return EventPattern.load(json.dumps(pattern)).matches_event(cast("EventMessageType", event))


def grown(event: Json) -> Json:
    """Return the same announcement as a later bridge may make it: more members everywhere, and another envelope."""
    later = copy.deepcopy(event)
    for part in (later, later["detail"], later["detail"]["metadata"], later["detail"]["data"]):
        part["added_later"] = {"of": "any kind"}
    return later | {"id": "another"}


@pytest.fixture(scope="module")
def heard(talk: Conversation) -> dict[str, Json]:
    """Return announcements as the bus delivered them: one of each kind at least."""
    return {name: heard.event for name, heard in talk.heard.items()}


# --- consumers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", OUTCOMES)
def test_the_rule_matches_outcomes(heard: dict[str, Json], example: str) -> None:
    """Those of the caller that it names, and also as they may grow."""
    caller = heard[example]["detail"]["metadata"]["caller"]
    assert matches(heard[example]) is (caller == "backoffice")
    assert matches(grown(heard[example])) is (caller == "backoffice")


def test_the_rule_matches_nothing_else(heard: dict[str, Json]) -> None:
    """Not what asks, not what others say, not another version's."""
    event = heard["created"]
    assert not matches(event | {"source": "com.acme.shop"})
    assert not matches(event | {"detail-type": "AiTEMS Service Creation Requested"})
    later = copy.deepcopy(event)
    later["detail"]["metadata"]["version"] = "2"
    assert not matches(later)


def test_the_readmes_patterns(heard: dict[str, Json]) -> None:
    """The one for a caller's outcomes, and the one for what needs a person."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (line,) = [line for line in readme.splitlines() if line.startswith("Match on ")]
    of_caller, for_person = (json.loads(pattern) for pattern in re.findall(r"`(\{.*?\})`", line))
    of_backoffice = {name for name, event in heard.items() if event["detail"]["metadata"]["caller"] == "backoffice"}
    assert {name for name, event in heard.items() if matches(event, of_caller)} == of_backoffice != heard.keys()
    assert {name for name, event in heard.items() if matches(event, for_person)} == {"failed"}


def consumers_template() -> Json:
    """Return the template in the examples' README."""
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    template: Json = yaml_parse(readme.partition("```yaml\n")[2].partition("```")[0])
    return template


def test_the_template_has_the_rule() -> None:
    """What stands in it is the pattern that is tested."""
    function = consumers_template()["Resources"]["Consumer"]["Properties"]
    assert function["Events"]["Outcome"]["Properties"]["Pattern"] == RULE


@pytest.fixture
def deployed(stack: Stack) -> Iterator[Json]:
    """Deploy that template, with the Python consumer, on a bridge's bus; return what its resources are called."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(EXAMPLES / "consume.py", "consume.py")
    stack.cloud.s3.create_bucket(
        Bucket="examples", CreateBucketConfiguration={"LocationConstraint": cast("Any", REGION)}
    )
    stack.cloud.s3.put_object(Bucket="examples", Key="consume.zip", Body=packed.getvalue())
    template = consumers_template()
    template["Resources"]["Consumer"]["Properties"]["CodeUri"] = {"Bucket": "examples", "Key": "consume.zip"}
    formation = stack.cloud.cloudformation
    formation.create_stack(
        StackName="consumer",
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": "EventBusName", "ParameterValue": stack.outputs["EventBusName"]}],
    )
    formation.get_waiter("stack_create_complete").wait(StackName="consumer", WaiterConfig={"Delay": 1})
    found = formation.describe_stack_resources(StackName="consumer")["StackResources"]
    yield {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}
    formation.delete_stack(StackName="consumer")


def test_the_template_hears_outcomes(stack: Stack, name: str, deployed: Json) -> None:
    """Deployed as it stands there, with the rights it gives: a request's outcome comes into the table."""
    answer = senders.webhook(stack.document, {"name": name}).send()
    assert answer.status == 201
    key = {"event_id": {"S": f"{answer.request_id}.created"}}
    deadline = time.monotonic() + 30
    while not (found := stack.cloud.dynamodb.get_item(TableName=deployed["Outcomes"], Key=key)).get("Item"):
        assert time.monotonic() < deadline, "nothing was written down"
        time.sleep(0.1)
    assert found["Item"]["service_id"]["S"] == answer.body["serviceId"]


@pytest.fixture(scope="module")
def table(talk: Conversation) -> str:
    """Return the name of a table such as the consumer wants."""
    made = talk.bridge.cloud.dynamodb.create_table(
        TableName="outcomes",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "event_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "event_id", "KeyType": "HASH"}],
    )
    return made["TableDescription"]["TableName"]


def test_the_python_consumer(
    talk: Conversation, heard: dict[str, Json], table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each announcement is taken in once, however it comes; what a later bridge adds is not minded."""
    environment = {"OUTCOMES_TABLE": table, "AWS_ENDPOINT_URL": talk.bridge.cloud.endpoint} | credentials(ROOT_KEY)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    consume.dynamodb.cache_clear()
    for example, outcome in OUTCOMES.items():
        event = heard[example]
        assert [consume.handler(each, None) for each in (event, event, grown(event))] == [outcome, "known", "known"]
        metadata = event["detail"]["metadata"]
        item = talk.bridge.cloud.dynamodb.get_item(TableName=table, Key={"event_id": {"S": metadata["event_id"]}})[
            "Item"
        ]
        assert (item["outcome"]["S"], item["request_id"]["S"]) == (outcome, metadata["request_id"])
        if outcome == "created":
            assert item["service_id"]["S"] == event["detail"]["data"]["serviceId"]
    assert consume.handler(heard["created"] | {"detail-type": "AiTEMS Service Looked At"}, None) == "passed over"
    with pytest.raises(ValueError, match="version 2"):
        consume.handler({"detail": {"metadata": {"version": "2"}}}, None)


DRIVER = """
import { consume } from "./consume.mjs";
import { readFileSync } from "node:fs";
const seen = new Map();
const write = async (item) => !seen.has(item.event_id) && Boolean(seen.set(item.event_id, item));
const made = [];
for (const event of JSON.parse(readFileSync(0, "utf8"))) {
  made.push(await consume(event, write).catch((error) => error.message));
}
console.log(JSON.stringify({ made, items: [...seen.values()] }));
"""


@with_node
def test_the_javascript_consumer(heard: dict[str, Json]) -> None:
    """As the Python one, but for the table, whose client is Lambda's own: here it is a map."""
    events = [each for example in OUTCOMES for each in (heard[example], heard[example], grown(heard[example]))]
    events += [
        heard["created"] | {"detail-type": "AiTEMS Service Looked At"},
        {"detail": {"metadata": {"version": "2"}}},
    ]
    said = json.loads(run(NODE or "", "--input-type=module", "-e", DRIVER, stdin=json.dumps(events)))
    expected = [made for outcome in OUTCOMES.values() for made in (outcome, "known", "known")]
    assert said["made"] == [*expected, "passed over", "events of version 2 mean something else: read its schema first"]
    assert [item["outcome"] for item in said["items"]] == list(OUTCOMES.values())
    assert said["items"][0]["service_id"] == heard["created"]["detail"]["data"]["serviceId"]


# --- producers and callers ----------------------------------------------------------------------------------------


def credentials(access_key: str, secret_key: str = ROOT_KEY) -> dict[str, str]:
    """Return the environment by which AWS's libraries know who they are."""
    return {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "AWS_DEFAULT_REGION": REGION}


def test_the_producer(stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that it puts, as an identity that may do only that, ends in an announcement."""
    environment = {"EVENT_BUS": stack.outputs["EventBusName"], "EVENT_SOURCE": "com.acme.shop"}
    producer = credentials(stack.producer.access_key_id, stack.producer.secret_access_key)
    for variable, value in (environment | producer | {"AWS_ENDPOINT_URL": stack.cloud.endpoint}).items():
        monkeypatch.setenv(variable, value)
    assert produce.ask(name, f"order-{name}")
    event = stack.event(idempotency_key=f"order-{name}", caller="com.acme.shop")
    assert event.kind == "AiTEMS Service Created"


@pytest.mark.parametrize("command", CALLERS)
def test_the_callers(stack: Stack, name: str, command: list[str]) -> None:
    """A webhook that they sign is let in, and so is a look; the same key is the same request; what is wrong is told."""
    environment = {
        "WEBHOOK_URL": f"{stack.webhook_url}/hooks/backoffice",
        "WEBHOOK_SECRET": stack.callers["backoffice"]["secrets"][0],
    }
    made, again = (json.loads(run(*command, name, f"msg_{name}", environment=environment)) for _ in range(2))
    assert (made["status"], made["answer"]["name"]) == (201, name)
    assert again == made
    event = stack.event(idempotency_key=f"msg_{name}")
    assert event.kind == "AiTEMS Service Created"
    look = LOOK[Path(command[1]).suffix]
    looked = run(command[0], *look[:-1], look[-1] % event.metadata["request_id"], environment=environment)
    status, said = json.loads(looked)
    assert (status, said["state"]) == (200, "created")
    wrong = json.loads(run(*command, "x", f"msg_{name}x", environment=environment))
    assert (wrong["status"], wrong["answer"]["errors"][0]["pointer"]) == (422, "#/name")


class Shaky(BaseHTTPRequestHandler):
    """A door that is away twice: once it breaks off, once it says that nothing was recorded."""

    calls: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        """See the base class."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
        if len(self.calls) == 1:
            self.close_connection = True
            return
        status, answer = (503, b"{}") if len(self.calls) == 2 else (201, b'{"serviceId": "s"}')
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def shaky() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Return the address of such a door, and what it was asked."""
    calls: list[tuple[dict[str, str], bytes]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (Shaky,), {"calls": calls})) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hooks/backoffice", calls
        server.shutdown()


@pytest.mark.parametrize("command", CALLERS)
def test_the_callers_try_again(shaky: tuple[str, list[tuple[dict[str, str], bytes]]], command: list[str]) -> None:
    """Where nobody answers, and where nothing was recorded: under the same key, and rightly signed each time."""
    url, calls = shaky
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    said = json.loads(run(*command, "shop-main", "msg_1", environment={"WEBHOOK_URL": url, "WEBHOOK_SECRET": secret}))
    assert said == {"status": 201, "answer": {"serviceId": "s"}}
    assert [Webhook(secret).verify(body, headers) for headers, body in calls] == [{"name": "shop-main"}] * 3
    assert {headers["webhook-id"] for headers, _ in calls} == {"msg_1"}
