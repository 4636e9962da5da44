"""How many requests the whole local stack carries from the signed webhook to the announced event."""

import time
from concurrent.futures import ThreadPoolExecutor

from aitems_local import senders
from aitems_local.stack import Stack

REQUESTS = 200
AT_ONCE = 8
_PATIENCE = 120.0


def throughput() -> dict[str, float]:
    """Return requests a second, answered and announced, of the template deployed on this machine."""
    with Stack.start() as stack:
        document = stack.document

        def send(number: int) -> int:
            asked = senders.service(f"load-{number:06d}")
            return senders.webhook(document, asked).send().status

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(send, range(10**5, 10**5 + AT_ONCE)))  # warms the functions
            before = len(stack.events())
            begun = time.monotonic()
            statuses = list(pool.map(send, range(REQUESTS)))
            answered = time.monotonic() - begun
        if set(statuses) != {201}:
            raise AssertionError(f"answers were {sorted(set(statuses))}")
        while len(stack.events()) < before + REQUESTS:
            if time.monotonic() - begun > _PATIENCE:
                raise AssertionError("not everything was announced")
            time.sleep(0.1)
        announced = time.monotonic() - begun
    return {
        "requests": REQUESTS,
        "at_once": AT_ONCE,
        "answered_per_second": round(REQUESTS / answered, 1),
        "announced_per_second": round(REQUESTS / announced, 1),
    }
