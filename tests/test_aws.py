"""AWS's clients start quickly, and go to the same places all the same."""

from typing import Any

import botocore.session
import pytest
from botocore.session import Session

from aitems_bridge import aws

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "dynamodb": ("get_item", {"TableName": "ledger", "Key": {"pk": {"S": "a"}}}),
    "events": ("put_events", {"Entries": [{"Source": "a", "DetailType": "b", "Detail": "{}"}]}),
    "secretsmanager": ("get_secret_value", {"SecretId": "a"}),
    "sqs": ("send_message", {"QueueUrl": "https://queue", "MessageBody": "a"}),
}


class _SentError(Exception):
    pass


def sent(session: Session, service: str, region: str) -> tuple[str, str, str, str]:
    """Return where a call would go, the scope of its signature, and what the client says of itself."""
    seen: list[Any] = []

    def stop(request: object, **_: object) -> None:
        seen.append(request)
        raise _SentError

    client: Any = session.create_client(service, region_name=region)
    client.meta.events.register("before-send", stop)
    operation, arguments = CALLS[service]
    with pytest.raises(_SentError):
        getattr(client, operation)(**arguments)
    scope = seen[0].headers["Authorization"].decode().partition(", ")[0].split("/", 2)[2]
    return seen[0].url, scope, client.meta.endpoint_url, client.meta.partition


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give something to sign with, and nothing that would redirect a call."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.mark.parametrize("service", aws.SERVICES)
def test_every_region_of_every_partition_is_where_botocore_has_it(service: str) -> None:
    """Leaving out the old endpoint data changes no address and no signature, in China and GovCloud neither."""
    usual, ours = botocore.session.get_session(), aws.session()
    regions = {
        region
        for partition in usual.get_available_partitions()
        for region in usual.get_available_regions(service, partition)
    }
    assert {"ap-northeast-2", "cn-north-1", "us-gov-west-1"} <= regions
    for region in regions:
        assert sent(ours, service, region) == sent(usual, service, region)


def test_every_client_that_is_made_is_a_known_service() -> None:
    """The list of services is what replaces looking for them: all of it exists, and nothing else can be asked for."""
    assert set(aws.SERVICES) <= set(botocore.session.get_session().get_available_services())
    assert CALLS.keys() == set(aws.SERVICES)
