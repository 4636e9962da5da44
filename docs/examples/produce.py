"""A producer: asks for a service by an event on the bridge's bus. `python produce.py NAME KEY`.

Wants boto3, AWS credentials that may do `events:PutEvents` on the bus, and the environment variables EVENT_BUS (the
stack's output EventBusName) and EVENT_SOURCE (who you are; a stack may take some sources only).
"""

import json
import os
import sys
import time

import boto3

TRIES = 4


def ask(name: str, key: str) -> str:
    """Put the request on the bus and return the event's id. Raises `RuntimeError` when the bus does not take it.

    `PutEvents` answers 200 for what it did not take, too. Putting it again is safe: the same key is the same request.
    """
    events = boto3.client("events")
    detail = json.dumps({"name": name, "idempotency_key": key})
    refused = ""
    for pause in range(TRIES):
        time.sleep(pause)
        answer = events.put_events(
            Entries=[
                {
                    "EventBusName": os.environ["EVENT_BUS"],
                    "Source": os.environ["EVENT_SOURCE"],
                    "DetailType": "AiTEMS Service Creation Requested",
                    "Detail": detail,
                }
            ]
        )
        (entry,) = answer["Entries"]
        if answer["FailedEntryCount"] == 0:
            return entry["EventId"]
        refused = f"{entry.get('ErrorCode')}: {entry.get('ErrorMessage')}"
    raise RuntimeError(f"the bus does not take it ({refused})")


if __name__ == "__main__":
    try:
        _, name, key = sys.argv
    except ValueError:
        sys.exit(__doc__)
    print(ask(name, key))
