"""A bridge on what an account has already: bus, secrets, topic, subnets, domain. It uses them, and leaves them alone.

MiniStack keeps no function in a subnet: that the functions would be in theirs is read from the template it processed.
"""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from aitems_local import senders
from aitems_local.cloud import StackError
from aitems_local.stack import Stack

CREATED = "AiTEMS Service Created"
SECRETS = {"KeysSecret": "KeysSecretArn", "CallersSecret": "CallersSecretArn", "ChatSecret": "ChatSecretArn"}


@dataclass(frozen=True)
class Owned:
    """What the account had before the bridge came."""

    bus: str
    secrets: dict[str, str]
    topic: str
    subnets: str
    group: str
    domain: str
    certificate: str

    @property
    def parameters(self) -> dict[str, str]:
        """All of it, as the template's parameters name it."""
        return self.secrets | {
            "EventBusName": self.bus,
            "AlarmTopicArn": self.topic,
            "SubnetIds": self.subnets,
            "SecurityGroupIds": self.group,
            "DomainName": self.domain,
            "CertificateArn": self.certificate,
        }


def account(stack: Stack, service: str) -> Any:  # noqa: ANN401  # one of botocore's run-time classes
    """Return a client of the account's administrator."""
    make: Any = stack.cloud.session.client
    return make(service, endpoint_url=stack.cloud.endpoint)


def kept(stack: Stack) -> dict[str, list[str]]:
    """Return what the account has, of the kinds that are brought or outlive a stack."""
    return {
        "buses": sorted(bus["Name"] for bus in stack.cloud.events.list_event_buses()["EventBuses"]),
        "secrets": sorted(secret["ARN"] for secret in stack.cloud.secrets.list_secrets()["SecretList"]),
        "topics": sorted(topic["TopicArn"] for topic in account(stack, "sns").list_topics()["Topics"]),
        "subnets": sorted(subnet["SubnetId"] for subnet in account(stack, "ec2").describe_subnets()["Subnets"]),
        "certificates": sorted(
            found["CertificateArn"] for found in account(stack, "acm").list_certificates()["CertificateSummaryList"]
        ),
        "tables": sorted(stack.cloud.dynamodb.list_tables()["TableNames"]),
    }


def make(stack: Stack) -> Owned:
    """Make what an account might have, under a name that nobody else uses."""
    name = "own" + secrets.token_hex(4)
    ec2 = account(stack, "ec2")
    network = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=network, CidrBlock=f"10.0.{zone}.0/24")["Subnet"] for zone in (0, 1)]
    stack.cloud.events.create_event_bus(Name=name)
    domain = f"{name}.example.com"
    return Owned(
        bus=name,
        secrets={
            parameter: stack.cloud.secrets.create_secret(Name=f"{name}/{parameter}", SecretString="{}")["ARN"]
            for parameter in SECRETS.values()
        },
        topic=account(stack, "sns").create_topic(Name=name)["TopicArn"],
        subnets=",".join(subnet["SubnetId"] for subnet in subnets),
        group=ec2.create_security_group(GroupName=name, Description=name, VpcId=network)["GroupId"],
        domain=domain,
        certificate=account(stack, "acm").request_certificate(DomainName=domain)["CertificateArn"],
    )


def delete(stack: Stack) -> None:
    """Delete a stack as `sam delete` does, and wait until it is gone."""
    cloudformation = stack.cloud.cloudformation
    cloudformation.delete_stack(StackName=stack.name)
    deadline = time.monotonic() + 30
    while any(found["StackName"] == stack.name for found in cloudformation.describe_stacks()["Stacks"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True)
class Deployed:
    """A bridge on what was brought, and what the account had before it and has after."""

    bridge: Stack
    owned: Owned
    before: dict[str, list[str]]
    after: dict[str, list[str]]


@pytest.fixture(scope="module")
def deployed(stack: Stack) -> Iterator[Deployed]:
    """Deploy a bridge on what was brought."""
    owned = make(stack)
    before = kept(stack)
    with stack.deploy("byo" + secrets.token_hex(4), parameters=owned.parameters) as bridge:
        yield Deployed(bridge, owned, before, kept(stack))


def test_nothing_that_was_brought_is_made_again(deployed: Deployed) -> None:
    """The stack adds its table, and no second bus and no second secret; its outputs name what was brought."""
    bridge, owned = deployed.bridge, deployed.owned
    assert deployed.after | {"tables": []} == deployed.before | {"tables": []}
    assert set(deployed.after["tables"]) - set(deployed.before["tables"]) == {bridge.outputs["LedgerTable"]}
    assert {"Bus", *SECRETS}.isdisjoint(bridge.resources)
    told = {name: bridge.outputs[name] for name in ("EventBusName", "WebhookUrl", *SECRETS.values())}
    assert told == owned.secrets | {"EventBusName": owned.bus, "WebhookUrl": f"https://{owned.domain}"}


def test_every_door_leads_to_a_service(deployed: Deployed, name: str) -> None:
    """Webhook, bus and chat work with the brought secrets, and announce on the brought bus, IAM enforced."""
    document = deployed.bridge.document
    answer = senders.webhook(document, senders.service(name)).send()
    assert answer.status == 201, answer.body
    assert deployed.bridge.event(request_id=answer.request_id).kind == CREATED
    senders.bus_event(document, senders.service(f"{name}b"), key=name).send()
    assert deployed.bridge.event(idempotency_key=name).kind == CREATED
    assert senders.delivery(document, "works", senders.service(f"{name}c")).send().status == 200
    chats = deployed.bridge.chats
    assert chats.wait(lambda said: f"{name}c" in said.text and "만들었습니다" in said.text, 30)


def test_webhooks_come_by_the_domain_too(deployed: Deployed, name: str) -> None:
    """The domain leads to the same routes, without the stage; the address that AWS gives stays open."""
    signed = senders.webhook(deployed.bridge.document, senders.service(name))
    url = f"{deployed.bridge.cloud.endpoint}/hooks/backoffice"
    headers = dict(signed.headers) | {"Host": deployed.owned.domain}
    assert requests.post(url, data=signed.body, headers=headers, timeout=30).status_code == 201
    assert signed.send().replayed


def test_every_alarm_tells_the_topic(stack: Stack, deployed: Deployed) -> None:
    """The alarms of this stack call the topic; those of a stack without one call nobody."""
    pages = account(stack, "cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
    by_name = {alarm["AlarmName"]: alarm["AlarmActions"] for alarm in alarms}
    ours, others = (
        {name: by_name[name] for logical, name in bridge.resources.items() if logical.endswith("Alarm")}
        for bridge in (deployed.bridge, stack)
    )
    assert len(ours) == len(others) > 0
    assert all(actions == [deployed.owned.topic] for actions in ours.values())
    assert not any(others.values())


def test_the_functions_that_call_out_are_in_the_subnets(deployed: Deployed) -> None:
    """Webhook and worker are, and may make the interfaces for it; the others, which call AWS only, are not."""
    bridge = deployed.bridge
    processed: Any = bridge.cloud.cloudformation.get_template(StackName=bridge.name, TemplateStage="Processed")
    resources = processed["TemplateBody"]["Resources"]
    inside = {name for name, found in resources.items() if "VpcConfig" in found.get("Properties", {})}
    assert inside == {"WebhookFunction", "WorkerFunction"}
    roles = {name: role for name, role in bridge.resources.items() if name.endswith("Role")}
    policies = {name: bridge.cloud.iam.list_role_policies(RoleName=role) for name, role in roles.items()}
    networked = {name for name, policy in policies.items() if "network" in policy["PolicyNames"]}
    assert networked == {"WebhookRole", "WorkerRole"}


def test_what_was_brought_outlives_the_stack(stack: Stack, name: str) -> None:
    """Deleting it leaves bus, secrets and all, and the ledger with what it knows; its rule is off the bus."""
    owned = make(stack)
    bridge = stack.deploy("byo" + secrets.token_hex(4), parameters=owned.parameters)
    answer = senders.webhook(bridge.document, senders.service(name)).send()
    before = kept(stack)
    bridge.stop()
    delete(bridge)
    assert kept(stack) == before
    assert bridge.items(f"request#{answer.request_id}")
    rules = stack.cloud.events.list_rules(EventBusName=owned.bus)["Rules"]
    assert [rule["Name"] for rule in rules] == [f"{bridge.name}-outcomes"]  # what the local stack listens with


def test_what_the_stack_made_is_kept_where_it_matters(stack: Stack) -> None:
    """Of a stack that brought nothing, the ledger and the secrets stay; everything else goes."""
    before = kept(stack)
    bridge = stack.deploy("all" + secrets.token_hex(4))
    bridge.stop()
    delete(bridge)
    added = {kind: sorted(set(found) - set(before[kind])) for kind, found in kept(stack).items()}
    assert {kind: found for kind, found in added.items() if found} == {
        "secrets": sorted(bridge.outputs[name] for name in SECRETS.values()),
        "tables": [bridge.outputs["LedgerTable"]],
    }
    table = stack.cloud.dynamodb.describe_table(TableName=bridge.outputs["LedgerTable"])["Table"]
    assert table["DeletionProtectionEnabled"]


@pytest.mark.parametrize(
    "lonely",
    [
        {"SubnetIds": "subnet-0a1b2c3d"},
        {"SecurityGroupIds": "sg-0a1b2c3d"},
        {"DomainName": "hooks.example.com"},
        {"CertificateArn": "arn:aws:acm:ap-northeast-2:123456789012:certificate/c"},
    ],
    ids=lambda lonely: next(iter(lonely)),
)
def test_half_of_a_pair_is_refused(stack: Stack, lonely: dict[str, str]) -> None:
    """Subnets without groups, or a domain without a certificate, are told before anything is made."""
    with pytest.raises(StackError, match="go together"):
        stack.deploy("half" + secrets.token_hex(4), parameters=lonely)
