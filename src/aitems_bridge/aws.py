"""AWS's clients: bare botocore on one session, and quick to start.

A client's start is mostly reading: the folders of four hundred services, to learn which there are, and a megabyte of
endpoints from the time before each service had its rule set. We know our services, and leave endpoints to their rules.
"""

import functools
import logging
import threading
from typing import Any, cast

from botocore.config import Config
from botocore.loaders import Loader
from botocore.session import Session, get_session

SERVICES = ["dynamodb", "events", "secretsmanager", "sqs"]

_one_at_a_time = threading.Lock()

# Whatever the level of everything else: at DEBUG they tell what they send and read, secrets and reply addresses too.
for _library in ("botocore", "urllib3"):
    logging.getLogger(_library).setLevel(logging.WARNING)


class _Reader(Loader):
    """botocore's loader of service descriptions, without what is not needed."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002  # each has every type
        return SERVICES

    def load_data_with_path(self, name: str) -> Any:  # noqa: ANN401  # botocore's own
        if name != "endpoints":
            return super().load_data_with_path(name)
        partitions = self.load_data("partitions")["partitions"]
        return {"version": 3, "partitions": [_regular(partition) for partition in partitions]}, ""


def _regular(partition: dict[str, Any]) -> dict[str, Any]:
    """Return a partition in the form of the older endpoint data, without exceptions: the rule sets hold those."""
    return {
        "partition": partition["id"],
        "regionRegex": partition["regionRegex"],
        "dnsSuffix": partition["outputs"]["dnsSuffix"],
        "defaults": {"hostname": "{service}.{region}.{dnsSuffix}", "protocols": ["https"], "signatureVersions": ["v4"]},
        "services": {},
        "regions": partition["regions"],
    }


@functools.cache
def session() -> Session:
    """Return the session of this process, made on first use: a second one would read everything anew."""
    made = get_session()
    made.register_component("data_loader", _Reader())
    return made


def client(service: str, **times: Any) -> Any:  # noqa: ANN401  # one of botocore's run-time classes
    """Return a client of one of ``SERVICES``. ``times`` are ``botocore.config.Config``'s time-outs and retries."""
    # A name of our own, which CloudTrail shows; botocore would put its long one together anew for each call.
    config = Config(user_agent="aitems-bridge", **times)
    with _one_at_a_time:  # a session is not made for threads
        return session().create_client(cast("Any", service), config=config)
