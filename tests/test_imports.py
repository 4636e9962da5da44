"""What an entry point starts with, how often it calls, and what it weighs: numbers that do not depend on a clock.

The clock's own numbers are in docs/performance.md; these are what they rest on.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import calls
import canned
import measure
import weight
from aitems_bridge import config, relay, webhook, worker
from aitems_local.emulator import Emulator
from aws import Aws, running

ROOT = Path(__file__).parents[1]

STARTED = """
import json, os, sys
os.environ.update(AWS_DEFAULT_REGION="ap-northeast-2", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
import aitems_bridge.{entry}
from aitems_bridge import config
for service in {services}:
    config.client(service)
print(json.dumps(sorted(sys.modules)))
"""
"""An entry point as it stands before its first call to AiTEMS: imported, and with its clients."""

CALLED = """
import importlib, json, os, sys
handler, event, environment = json.loads(sys.stdin.read())
os.environ.update(environment, AWS_DEFAULT_REGION="ap-northeast-2", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
class Context:
    def get_remaining_time_in_millis(self): return 29_000
module, _, name = handler.rpartition(".")
answer = getattr(importlib.import_module(module), name)(event, Context())
print(json.dumps([answer, sorted(sys.modules)]))
"""
"""A fresh process after its first call."""

SDK = {"boto3", "s3transfer"}
CALLING = {"requests", "charset_normalizer", "aitems_bridge.adapter"}
JUDGING = {"pydantic", "pydantic_core", "annotated_types", "aitems_bridge.service"}
MODELS = JUDGING | {"aitems_bridge.models", "aitems_bridge.callers", "aitems_bridge.chat"}
USING = {"aitems_bridge.bridge", "aitems_bridge.aitems", "aitems_bridge.doors", "aitems_bridge.wire"}
PARAMETERS = {"aws_lambda_powertools.utilities.parameters", "aws_lambda_powertools.utilities.idempotency"}


def fresh(code: str, said: str = "") -> Any:  # noqa: ANN401  # JSON
    """Return what a fresh process prints last."""
    environment = {"PYTHONPATH": str(ROOT / "src"), "POWERTOOLS_SERVICE_NAME": "bridge"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, input=said, capture_output=True, text=True, check=True)  # noqa: S603  # fixed words
    return json.loads(done.stdout.splitlines()[-1])


def started(entry: str, *services: str) -> set[str]:
    """Return the modules of a fresh process that has just started an entry point."""
    return set(fresh(STARTED.format(entry=entry, services=list(services))))


@pytest.mark.parametrize(
    ("entry", "services", "without"),
    [
        ("webhook", ("dynamodb", "secretsmanager"), SDK | PARAMETERS | CALLING | JUDGING),
        ("worker", ("dynamodb", "secretsmanager"), SDK | PARAMETERS | CALLING | JUDGING | {"aitems_bridge.callers"}),
        ("relay", ("events", "sqs"), SDK | PARAMETERS | CALLING | MODELS | USING),
        ("reply", ("dynamodb", "secretsmanager"), SDK | PARAMETERS | USING | JUDGING),
    ],
)
def test_what_an_entry_point_starts_without(entry: str, services: tuple[str, ...], without: set[str]) -> None:
    """Nothing that is for another function, or for later, is imported at the start of one."""
    assert started(entry, *services) & without == set()


def test_an_entry_point_brings_botocore_with_it() -> None:
    """It is imported while Lambda starts the function, on a whole processor, and not in the first call."""
    assert "botocore.session" in started("relay")


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("webhook", SDK | JUDGING),
        ("acknowledgement", SDK | JUDGING | CALLING),
        ("chat", SDK | JUDGING | CALLING),
        ("worker", SDK | JUDGING),
    ],
)
def test_what_a_first_call_goes_without(name: str, without: set[str]) -> None:
    """Where everything is in order nobody waits for pydantic, and who only acknowledges not for requests either."""
    contender = next(contender for contender in measure.CONTENDERS if contender.name == name)
    with measure.canned() as server:
        call = [contender.handler, contender.call(), measure.environment(server.url)]
        answer, modules = fresh(CALLED, json.dumps(call))
    assert contender.well(answer)
    assert set(modules) & without == set()


class Context:
    """Lambda's context, as far as the functions look at it."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left."""
        return 29_000


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Give the functions AWS on loopback, and have each find a cold process."""

    def forget() -> None:
        for kept in (webhook._webhook, worker._bridge, relay._relay, config._vault):  # noqa: SLF001  # as a new process
            kept.cache_clear()

    forget()
    with running(monkeypatch) as aws, Emulator(access_key="bench", secret_key="bench") as emulator:
        for name, value in measure.environment(aws.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AITEMS_BASE_URL", emulator.url)
        aws.secrets = {
            os.environ[f"{name.upper()}_SECRET_ARN"]: json.dumps(secret) for name, secret in canned.SECRETS.items()
        }
        aws.rules["AiTEMS"] = lambda _: {"calls": len(emulator.calls)}
        yield aws
    forget()


def called(aws: Aws, handler: Callable[[Any, Any], object], event: object) -> list[str]:
    """Call a function and return what it called of AWS, in order."""
    before = len(aws.calls)
    handler(event, Context())
    return [operation for operation, _ in aws.calls[before:]]


def posts(aws: Aws) -> int:
    """Return how often AiTEMS was called so far."""
    return int(aws.rules["AiTEMS"]({})["calls"])


def test_round_trips_of_a_webhook(aws: Aws) -> None:
    """A creation is two writes and one POST; a cold start reads two secrets before it. An acknowledgement is one."""
    cold = ["GetSecretValue", "TransactWriteItems", "GetSecretValue", "TransactWriteItems"]
    assert called(aws, webhook.handler, calls.webhook()) == cold
    assert called(aws, webhook.handler, calls.webhook()) == ["TransactWriteItems"] * 2
    assert posts(aws) == 2
    assert called(aws, webhook.handler, calls.acknowledged()) == ["TransactWriteItems"]
    assert posts(aws) == 2


def test_round_trips_of_a_worker(aws: Aws) -> None:
    """A batch of ten costs ten times two writes and a POST, and one secret."""
    operations = called(aws, worker.handler, calls.batch_of_ten())
    assert sorted(operations) == ["GetSecretValue"] + ["TransactWriteItems"] * 20
    assert posts(aws) == 10


@pytest.mark.parametrize(("records", "puts"), [(2, 1), (20, 1), (22, 2), (100, 5)], ids=str)
def test_round_trips_of_the_relay(records: int, puts: int, aws: Aws) -> None:
    """One call of EventBridge for ten outcomes, one of SQS for ten messages: half of the records are either."""
    operations = called(aws, relay.handler, calls.changes(records))
    assert sorted(operations) == ["PutEvents"] * puts + ["SendMessageBatch"] * puts


def test_what_ships_stays_small() -> None:
    """The packages themselves say what they weigh: few, and none that is only convenient."""
    shipped = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "ship.txt").read_text("utf-8"), re.MULTILINE))
    assert shipped == {
        "annotated-types",
        "aws-lambda-powertools",
        "certifi",
        "charset-normalizer",
        "idna",
        "jmespath",
        "pydantic",
        "pydantic-core",
        "requests",
        "typing-extensions",
        "typing-inspection",
        "urllib3",
    }
    for folder in (ROOT / ".aws-sam" / "build").glob("*Function"):
        most = 9.5 if folder.name == "ReplyFunction" else 8.0  # what signs NAVER WORKS's grants is five of it
        assert weight.weight(folder)["all"] <= most, folder.name
