"""The contenders, and rounds of them.

Every round starts each once, in an order of its own, so that what else the machine does meets all alike.
"""

import http.client
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import calls
from built import Built
from runtime import ACCOUNT, REGION, Function

AITEMS_LATENCY = 0.1
"""Seconds AiTEMS takes where calls are to overlap."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A function, what it is called with, and how its answer shows that it did its job."""

    name: str
    handler: str
    artefact: str
    call: Callable[[], Any]
    well: Callable[[Any], bool]


def _created(answer: Any) -> bool:  # noqa: ANN401  # a handler's answer
    return answer["statusCode"] == 201 and "serviceId" in json.loads(answer["body"])


CONTENDERS = (
    Contender("hello", "hello.handler", "webhook", calls.webhook, lambda answer: answer["statusCode"] == 200),
    Contender("floor", "floor.handler", "webhook", calls.webhook, _created),
    Contender("peer", "peer.handler", "webhook", calls.webhook, _created),
    Contender("webhook", "aitems_bridge.webhook.handler", "webhook", calls.webhook, _created),
    Contender(
        "acknowledgement",
        "aitems_bridge.webhook.handler",
        "webhook",
        calls.acknowledged,
        lambda answer: answer["statusCode"] == 202,
    ),
    Contender(
        "chat",
        "aitems_bridge.webhook.handler",
        "webhook",
        calls.slash_command,
        lambda answer: "Creating" in json.loads(answer["body"])["text"],
    ),
    Contender(
        "worker", "aitems_bridge.worker.handler", "webhook", calls.work, lambda answer: not answer["batchItemFailures"]
    ),
    Contender("relay", "aitems_bridge.relay.handler", "relay", calls.changes, lambda answer: answer is None),
)


class Canned:
    """The canned server as a process."""

    def __init__(self, latency: float = 0.0, certificate: Path | None = None) -> None:
        command = [sys.executable, str(Path(__file__).with_name("canned.py")), str(latency)]
        command += [str(certificate)] if certificate else []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # fixed words
        assert self._process.stdout  # noqa: S101  # it was asked for
        self.port = int(self._process.stdout.readline())
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"

    def counts(self) -> dict[str, int]:
        """Return what was called since this was asked last, by name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", "/_count")
        counts: dict[str, int] = json.loads(connection.getresponse().read())
        connection.close()
        return counts

    def stop(self) -> None:
        """End the process."""
        with self._process:  # waits, and closes the pipe
            self._process.kill()


@contextmanager
def canned(latency: float = 0.0, certificate: Path | None = None) -> Iterator[Canned]:
    """Run the canned server."""
    server = Canned(latency, certificate)
    try:
        yield server
    finally:
        server.stop()


def environment(url: str) -> dict[str, str]:
    """Return what the template sets, with AWS and AiTEMS on loopback."""
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
    return {
        "AWS_ENDPOINT_URL": url,
        "AITEMS_BASE_URL": url,
        "AITEMS_UTC_OFFSET": "+09:00",
        "KEYS_SECRET_ARN": f"{arn}keys",
        "CALLERS_SECRET_ARN": f"{arn}callers",
        "LEDGER_TABLE": "ledger",
        "QUEUE_URL": f"{url}/{ACCOUNT}/queue",
        "RELAY_FAILURES_URL": f"{url}/{ACCOUNT}/failures",
        "DEAD_LETTER_QUEUE_ARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead",
        "EVENT_BUS": "bench",
        "POWERTOOLS_SERVICE_NAME": "aitems-bridge",
        "POWERTOOLS_METRICS_NAMESPACE": "AitemsBridge",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_TRACE_DISABLED": "1",
    }


@dataclass(slots=True)
class Measured:
    """All rounds of one contender: seconds, and MB at the peak."""

    first: list[float] = field(default_factory=list)
    first_processor: list[float] = field(default_factory=list)
    warm_processor: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    round_trips_first: dict[str, int] = field(default_factory=dict)
    round_trips: dict[str, int] = field(default_factory=dict)


def start(built: Built, contender: Contender, url: str, options: tuple[str, ...] = ()) -> Function:
    """Start a contender's process, with options of the interpreter."""
    return Function(built.python, contender.handler, built.path(contender.artefact), environment(url), options)


def rounds(
    built: Built,
    number: int,
    warm_calls: int,
    names: tuple[str, ...] = (),
    *,
    tls: bool = False,
) -> dict[str, Measured]:
    """Measure every contender in interleaved rounds; a round before the first warms the machine's caches."""
    contenders = [contender for contender in CONTENDERS if not names or contender.name in names]
    measured = {contender.name: Measured() for contender in contenders}
    order = random.Random(0)
    with canned(certificate=built.certificate if tls else None) as server:
        for round_ in range(-1, number):
            order.shuffle(contenders)
            for contender in contenders:
                into = measured[contender.name] if round_ >= 0 else Measured()
                _one(built, contender, server, warm_calls if round_ >= 0 else 2, into)
    return measured


def _one(built: Built, contender: Contender, server: Canned, warm_calls: int, into: Measured) -> None:
    counting = not server.url.startswith("https")
    if counting:
        server.counts()
    with start(built, contender, server.url) as function:
        first = function.first(contender.call())
        _check(contender, first.answer, function)
        into.round_trips_first = server.counts() if counting else {}
        into.first.append(first.seconds)
        spent = function.processor_seconds()
        into.first_processor.append(spent)
        for number in range(warm_calls):
            called = function.call(contender.call())
            _check(contender, called.answer, function)
            if counting and number == 0:
                into.round_trips = server.counts()
            if number >= warm_calls // 10:  # the first few still fill caches
                into.warm.append(called.seconds)
        into.warm_processor.append((function.processor_seconds() - spent) / max(1, warm_calls))
        into.memory.append(function.peak_memory())


def _check(contender: Contender, answer: Any, function: Function) -> None:  # noqa: ANN401  # a handler's answer
    if not contender.well(answer):
        raise AssertionError(f"{contender.name} did not do its job: {answer}\n{function.log()[-2000:]}")


def batches(built: Built, number: int) -> dict[str, float]:
    """Return the seconds of a batch of ten, and of ten single calls, of a warm worker, AiTEMS taking its time."""
    worker = next(contender for contender in CONTENDERS if contender.name == "worker")
    times: dict[str, list[float]] = {"batch": [], "singles": []}
    with canned(AITEMS_LATENCY) as server, start(built, worker, server.url) as function:
        function.first(calls.batch_of_ten())
        for _ in range(number):
            batch = function.call(calls.batch_of_ten())
            _check(worker, batch.answer, function)
            times["batch"].append(batch.seconds)
            times["singles"].append(sum(function.call(calls.work()).seconds for _ in range(10)))
    return {name: statistics.median(values) for name, values in times.items()}


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of the others do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
