"""No permission is too many: without any one of them the deployed bridge fails at something it promises.

MiniStack enforces what functions call with their own roles; what Lambda does for them (polling, reading the stream,
writing logs) it does without asking, so test_permissions.py asks the policy simulator about those.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook as Signer

from aitems_local import senders
from aitems_local.chats import Message
from aitems_local.stack import Stack, Template, load_template

ENFORCED = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "secretsmanager:", "sqs:Send", "events:Put")
PATIENCE = 6.0


@dataclass(frozen=True)
class Grant:
    """One action that one statement of a role's policy allows."""

    owner: str
    statement: str
    action: str

    def take_from(self, template: Template) -> None:
        """Remove just this from the template."""
        for document in policies(template["Resources"][self.owner]):
            for statement in list(document["Statement"]):
                if statement.get("Sid") == self.statement:
                    left = [action for action in actions(statement) if action != self.action]
                    if left:
                        statement["Action"] = left
                    else:
                        document["Statement"].remove(statement)
                    if not document["Statement"]:
                        document["Statement"].append(
                            {"Effect": "Deny", "Action": "sts:GetFederationToken", "Resource": "*"}
                        )


def policies(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the policy documents of a role, or the one of a policy."""
    properties = resource["Properties"]
    if "PolicyDocument" in properties:
        return [properties["PolicyDocument"]]
    inline = [policy for policy in properties.get("Policies", ()) if "PolicyDocument" in policy]
    return [policy["PolicyDocument"] for policy in inline]


def actions(statement: dict[str, Any]) -> list[str]:
    """Return a statement's actions, one or several."""
    found = statement["Action"]
    return [found] if isinstance(found, str) else list(found)


def grants() -> list[Grant]:
    """Return every grant of the template that MiniStack enforces."""
    return [
        Grant(owner, statement["Sid"], action)
        for owner, resource in load_template()["Resources"].items()
        if resource["Type"] in ("AWS::IAM::Role", "AWS::IAM::Policy")
        for document in policies(resource)
        for statement in document["Statement"]
        for action in actions(statement)
        if action.startswith(ENFORCED)
    ]


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def failing(stack: Stack) -> str | None:  # noqa: PLR0911  # a list of things to try
    """Return what of the promise fails on this stack, or None: a creation at once, one later, asking, and the relay."""
    name = "p" + secrets.token_hex(6)
    answer = senders.webhook(stack.document, {"name": name}).send()
    if answer.status != 201 or answer.request_id is None:
        return f"a creation is answered {answer.status}"
    if show(stack, answer.request_id) != 200:
        return "asking after a request"
    if not within(PATIENCE, lambda: bool(stack.events(answer.request_id))):
        return "the announcement"
    later = senders.webhook(stack.document, {"name": f"{name}b"}, prefer="respond-async").send()
    if later.status != 202:
        return f"a request for later is answered {later.status}"
    if not within(PATIENCE, lambda: bool(stack.events(later.request_id))):
        return "a creation by the worker"
    broken = {"pk": {"S": f"request#{name}"}, "state": {"S": "created"}, "version": {"S": "no number"}}
    stack.cloud.dynamodb.put_item(TableName=stack.outputs["LedgerTable"], Item=broken)
    if not within(PATIENCE, lambda: stack.queued("RelayFailuresUrl") > 0):
        return "giving away what cannot be relayed"
    senders.delivery(stack.document, "works", {"name": f"{name}c"}).send()
    for words in ("만들고 있습니다", "만들었습니다"):
        if stack.chats.wait(partial(says, f"{name}c", words), PATIENCE) is None:
            return f"saying {words}"
    return None


def says(name: str, words: str, message: Message) -> bool:
    """Whether a chat was told these words of that name."""
    return name in message.text and words in message.text


def show(stack: Stack, request_id: str) -> int:
    """Ask after a request, and return the status."""
    moment = datetime.now(UTC)
    headers = {
        "webhook-id": request_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Signer(stack.callers["backoffice"]["secrets"][0]).sign(request_id, moment, ""),
    }
    url = f"{stack.webhook_url}/hooks/backoffice/requests/{request_id}"
    return requests.get(url, headers=headers, timeout=30).status_code


@pytest.fixture(scope="module")
def without(stack: Stack) -> Iterator[dict[Grant, str | None]]:
    """Return what fails without each grant, each tried on a deployment of its own."""

    def attempt(grant: Grant) -> str | None:
        with stack.deploy("lp" + secrets.token_hex(4), change=grant.take_from) as deployed:
            return failing(deployed)

    with ThreadPoolExecutor(6) as pool:
        found = grants()
        yield dict(zip(found, pool.map(attempt, found), strict=True))


def test_with_all_permissions_nothing_fails(stack: Stack) -> None:
    """What is tried below works on the template as it is."""
    with stack.deploy("lp" + secrets.token_hex(4)) as deployed:
        assert failing(deployed) is None


@pytest.mark.parametrize("grant", grants(), ids=lambda grant: f"{grant.owner}-{grant.statement}-{grant.action}")
def test_without_it_something_fails(grant: Grant, without: dict[Grant, str | None]) -> None:
    """Each action of each statement is needed."""
    assert without[grant] is not None


def test_what_is_enforced_is_most_of_it() -> None:
    """The list above is not empty by mistake: every function that acts has its share."""
    owners = {grant.owner for grant in grants()}
    assert owners == {"WebhookRole", "WorkerRole", "RelayRole", "ReplyRole", "RepliesPolicy"}
    assert [grant.action for grant in grants()].count("dynamodb:GetItem") == 3
