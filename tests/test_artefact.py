"""The artefacts on Lambda's own Python, each entry point under AWS's runtime client: what ships runs, and does its job.

They are built by the rules of `src/Makefile`, with wheels for this machine's processor, and called by a Runtime API as
Lambda would call them, beside a deployed local stack whose table, secrets, queues and bus they use. `make artefact`
runs this where there is such a Python.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aitems_local import senders
from aitems_local.cloud import ROOT_KEY
from aitems_local.stack import Stack, load_template
from built import build_artefact, install_runtime, lambdas_python
from runtime import Function
from world import sample

Json = dict[str, Any]

pytestmark = [
    pytest.mark.artefact,
    pytest.mark.skipif(sys.platform != "linux", reason="Lambda is Linux: wheels for another system prove nothing"),
]

FUNCTIONS = ("WebhookFunction", "WorkerFunction", "RelayFunction", "ReplyFunction")


@pytest.fixture(scope="module")
def python() -> Path:
    """Return Lambda's Python."""
    found = lambdas_python()
    if found is None:
        why = "there is no Python 3.13 here: put one on PATH, or name it in PYTHON313"
        pytest.skip(why)  # another Python proves nothing of Lambda's; `make artefact` says so before it gets here
    return found


@pytest.fixture(scope="module")
def built(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an artefact for each function, and one of what the runtime brings."""
    folder = tmp_path_factory.mktemp("artefacts")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda function: build_artefact(function, folder / function, python), FUNCTIONS))
    install_runtime(os.environ.get("UV", "uv"), folder / "runtime", python)
    return folder


class Runner:
    """Runs artefacts beside a stack, with what the template gives the deployed functions."""

    def __init__(self, python: Path, built: Path, stack: Stack) -> None:
        self.python = python
        self.built = built
        self.stack = stack

    @contextmanager
    def running(self, logical: str) -> Iterator[Function]:
        """Start a function."""
        lambdas, physical = self.stack.cloud.functions, self.stack.resources[logical]
        found = lambdas.get_function_configuration(FunctionName=physical)
        environment = found["Environment"]["Variables"] | {
            "AWS_ENDPOINT_URL": self.stack.cloud.endpoint,
            "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        }
        path = [self.built / logical, self.built / "runtime"]
        handler = load_template()["Resources"][logical]["Properties"]["Handler"]
        with Function(self.python, handler, path, environment) as function:
            yield function


@pytest.fixture
def runner(python: Path, built: Path, stack: Stack) -> Runner:
    """Give artefacts to run."""
    return Runner(python, built, stack)


def test_a_webhook_is_answered(runner: Runner, stack: Stack, name: str) -> None:
    """A signed webhook, as the HTTP API hands it over, is 201 with the service that AiTEMS has now."""
    with runner.running("WebhookFunction") as webhook:
        answer = webhook.first(
            senders.webhook(stack.document, senders.service(name, "봄 시즌 추천")).invocation()
        ).answer
        assert answer["statusCode"] == 201, answer
        (made,) = stack.aitems.services_named(name)
        assert json.loads(answer["body"])["serviceId"] == made.service_id


@pytest.mark.parametrize("scheme", ["github", "hmac", "slack", "works"])
def test_every_door_opens(scheme: str, runner: Runner, stack: Stack, name: str) -> None:
    """Every scheme's request is recorded; the same one with a stale signature, as the samples have it, is refused."""
    signed = senders.delivery(stack.document, scheme, senders.service(name))
    with runner.running("WebhookFunction") as webhook:
        assert webhook.first(signed.invocation()).answer["statusCode"] == (202 if scheme in {"github", "hmac"} else 200)
        assert [item["pk"]["S"] for item in stack.items(f"request#{signed.request_id}")]
        stale = sample(f"webhook-{scheme}")
        stale["pathParameters"]["caller"] = signed.caller
        assert webhook.call(stale).answer["statusCode"] == 401


def test_the_worker_works(runner: Runner, stack: Stack, name: str) -> None:
    """A request from the bus, as the queue hands it over, is a service; the sample's stale pointer is dropped."""
    event = senders.bus_event(stack.document, senders.service(name))
    with runner.running("WorkerFunction") as worker:
        assert worker.first(event.invocation()).answer == {"batchItemFailures": []}
        assert len(stack.aitems.services_named(name)) == 1
        assert worker.call(sample("worker-work")).answer == {"batchItemFailures": []}


def test_the_relay_announces(runner: Runner, stack: Stack) -> None:
    """A settled request, as the table's stream hands it over, is an event."""
    changes = sample("relay-outcome")
    request_id = changes["Records"][0]["dynamodb"]["NewImage"]["pk"]["S"].removeprefix("request#")
    with runner.running("RelayFunction") as relay:
        assert relay.first(changes).answer is None
    assert stack.event(request_id=request_id).kind == "AiTEMS Service Created"


def test_a_chat_is_told(runner: Runner, stack: Stack, name: str) -> None:
    """The outcome of a command to NAVER WORKS, whose token needs the artefact's own cryptography, reaches the chat."""
    command = senders.delivery(stack.document, "works", senders.service(name))
    command.send()
    created = stack.event(request_id=command.request_id)
    told = stack.chats.wait(lambda said: name in said.text and "만들었습니다" in said.text, 30)
    assert told
    message = {"kind": "reply", "request_id": command.request_id, "event_id": created.metadata["event_id"]}
    queued = sample("worker-work")
    queued["Records"][0]["body"] = json.dumps(message)
    with runner.running("ReplyFunction") as reply:
        assert reply.first(queued).answer == {"batchItemFailures": []}
    assert [said.text for said in stack.chats.said].count(told.text) == 2


@pytest.mark.parametrize("function", FUNCTIONS)
def test_byte_code_is_what_runs(function: str, python: Path, built: Path) -> None:
    """Every module that a function starts with is taken from its byte code: Lambda could not keep what it compiles."""
    module = load_template()["Resources"][function]["Properties"]["Handler"].rpartition(".")[0]
    environment = {
        "PYTHONPATH": f"{built / function}:{built / 'runtime'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "ap-northeast-2",
        "POWERTOOLS_SERVICE_NAME": "aitems-bridge",
    }
    command = [str(python), "-v", "-c", f"import {module}"]
    done = subprocess.run(command, env=environment, check=True, stderr=subprocess.PIPE, text=True)  # noqa: S603  # fixed words
    loaded = re.findall(rf"^# code object from '?({built / function}/[^'\n]+)", done.stderr, re.MULTILINE)
    assert len(loaded) > 30
    assert [file for file in loaded if not file.endswith(".pyc")] == []
