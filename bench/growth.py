"""Whether a request costs more when there were many before it: in the ledger, and in AiTEMS's list."""

import statistics
import time
import tracemalloc
import uuid
from typing import Any

from botocore.config import Config
from botocore.session import get_session

from aitems_bridge.aitems import AiTEMS
from aitems_bridge.bridge import Bridge, Invocation, Order, fingerprint
from aitems_bridge.ledger import Image, Ledger, image_of
from aitems_bridge.ncp import Keys
from aitems_bridge.record import Made, Outcome, Record, State
from aitems_bridge.wire import Permit
from aitems_local.cloud import REGION, ROOT_KEY, Cloud
from aitems_local.emulator import Emulator

LEDGERS = (1, 10_000)
LISTS = (100, 1_000, 5_000)
_TRIES = 200


def _now() -> int:
    return time.time_ns() // 1_000_000


class _Quick(AiTEMS):
    """An AiTEMS that makes everything at once, so that what is left is the ledger."""

    def create(self, command: dict[str, str], permit: Permit) -> Outcome:  # noqa: ARG002  # there is always time
        """Make the service."""
        service = uuid.uuid4().hex[:11]
        return Made(f'{{"serviceId": "{service}", "name": "{command["name"]}"}}', service, 1)


def _order(number: int) -> Order:
    command = {"name": f"s{number:09d}", "description": "", "type": "batch"}
    return Order("standard", "hook:bench", f"key-{uuid.uuid4()}", "bench", command, fingerprint(command))


def _settled(number: int) -> list[Image]:
    """Return the three items that a request leaves behind."""
    order, now = _order(number), _now()
    service = f"old{number:08d}"
    record = Record(
        id=order.request_id,
        version=2,
        state=State.CREATED,
        channel="standard",
        scope=order.scope,
        key=order.key,
        caller="bench",
        requested_by=None,
        command=order.command,
        payload_hash=order.payload_hash,
        requested_at=now,
        give_up_at=now,
        answer=f'{{"serviceId": "{service}"}}',
        service_id=service,
        settled_at=now,
    )
    name: Image = {"pk": {"S": f"name#{record.name}"}, "last": {"S": record.id}}
    return [image_of(record), name, {"pk": {"S": f"service#{service}"}, "request": {"S": record.id}}]


def ledger() -> dict[int, float]:
    """Return the milliseconds of the ledger's work for one request, by the number of requests before it.

    The ledgers stand side by side and are used in turns, so that the machine's moods meet both.
    """
    session = get_session()
    session.set_credentials(ROOT_KEY, ROOT_KEY)
    times: dict[int, list[float]] = {size: [] for size in LEDGERS}
    with Cloud() as cloud:
        cloud.wait()
        client = session.create_client(
            "dynamodb", REGION, endpoint_url=cloud.endpoint, config=Config(retries={"total_max_attempts": 2})
        )
        bridges = {size: _bridge(client, size) for size in LEDGERS}
        for number in range(_TRIES):
            for size, bridge in bridges.items():
                ends = _now() + 29_000
                begun = time.perf_counter()
                bridge.open(_order(10**8 + number), Invocation(ends, ends))
                times[size].append(time.perf_counter() - begun)
    return {size: round(statistics.median(each) * 1000, 2) for size, each in times.items()}


def _bridge(client: Any, size: int) -> Bridge:  # noqa: ANN401  # botocore's client
    """Return the use case over a ledger that knows ``size`` requests."""
    table = f"ledger-{size}"
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    items = [item for number in range(size) for item in _settled(number)]
    for first in range(0, len(items), 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[first : first + 25]]
        client.batch_write_item(RequestItems={table: puts})
    return Bridge(Ledger(client, table), _Quick("http://127.0.0.1", lambda _: (Keys("", ""), False)), _now)


def listing() -> dict[int, dict[str, float]]:
    """Return what one complete look at AiTEMS's list takes, by the number of services in it."""
    found = {}
    for size in LISTS:
        with Emulator(access_key="bench", secret_key="bench") as emulator:  # noqa: S106  # made up
            for number in range(size):
                emulator.by_hand(f"s{number:09d}", "", "batch", None)
            aitems = AiTEMS(emulator.url, lambda _: (Keys("bench", "bench"), False))
            begun = time.perf_counter()
            listed = aitems.list_named("s000000042", lambda: 30.0)
            took = time.perf_counter() - begun
            if len(listed.named) != 1:
                raise AssertionError("the list did not show what is in it")
            calls = len(emulator.calls)
            tracemalloc.start()
            aitems.list_named("s000000042", lambda: 30.0)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            found[size] = {"calls": calls, "ms": round(took * 1000, 1), "peak_mb": round(peak / 1e6, 1)}
    return found
